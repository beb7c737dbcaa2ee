"""Embeddings: rows of a table, by index; and back from vectors to a score for each row."""

from __future__ import annotations

from pydantic import Field

from regspec.code.axes import Order, identity
from regspec.code.expressions import Binary, Expression, Module, call, unless
from regspec.code.shapes import Precision, Shape, ShapeError, Symbol
from regspec.language.fields import Positive, Size
from regspec.layers.kinds import kind
from regspec.layers.layer import Weight, parse_pattern
from regspec.layers.slots import EmbeddingsSlot
from regspec.layers.ties import Place, Tie, Ties


class Table(EmbeddingsSlot):
    """A table of vectors."""

    example = "{input_dim: 1000, output_dim: 64, embeddings_regularizer: {l2: 1e-6}}"

    input_dim: Size = Field(description="The number of rows: the largest index plus one.")
    output_dim: Size = Field(description="The size of each row.")
    mask_zero: bool = Field(
        False, description="Whether index 0 is padding: such steps are masked for the layers that read masks."
    )

    @property
    def takes_integers(self) -> bool:
        return True

    @property
    def index_limit(self) -> int | None:
        return self.input_dim

    def input_spec_order(self, rank: int) -> Order | None:
        return identity(rank)  # indices have no channels

    @property
    def indexes_rows(self) -> bool:
        return True

    def table(self) -> Weight:
        """The table as a weight."""
        return self.weight("embeddings", "i o", (self.input_dim, self.output_dim))

    def output_mask(self, x: Symbol, *_: Symbol) -> Expression | None:
        return Binary("!=", x, 0) if self.mask_zero else None


def indices(x: Symbol) -> Expression:
    """``x`` as indices."""
    return x if x.dtype in ("int64", "int32") else x.method("long")


@kind
class Embedding(Table):
    """The row of a table for each index."""

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        return (self.table(),)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return (*x.shape, self.output_dim)

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        return Ties((Tie(self.output_dim, (Place("embeddings", 1), Place(~0, x.rank)), ("output_dim",)),))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call("nn.Embedding", self.input_dim, self.output_dim))(indices(x))


@kind
class ReversibleEmbedding(Table):
    """An embedding that can be called in reverse: from vectors to a score for each row."""

    tie_weights: bool = Field(True, description="Whether the reverse uses the same table.")
    logit_soft_cap: Positive | None = Field(
        None, description="Scores are softly bounded by it in magnitude; not when absent."
    )
    reverse_dtype: Precision | None = Field(
        None, description="The type in which scores are computed and given; the layer's dtype when absent."
    )
    reverse: bool = Field(False, description="Whether this call goes from vectors to scores.")

    call_fields = frozenset({"reverse"})

    @property
    def index_limit(self) -> int | None:
        return None if self.reverse else self.input_dim

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        if self.tie_weights:
            return (self.table(),)
        shape = (self.output_dim, self.input_dim)
        reverse = Weight(
            "reverse_embeddings",
            "reverse_embeddings",
            shape,
            parse_pattern("i o -> o i"),
            parameters=("reverse_weight",),
            initializer=self.embeddings_initializer,
            frozen=not self.trainable,
        )
        return (self.table(), reverse)

    def output_mask(self, x: Symbol, *_: Symbol) -> Expression | None:
        return None if self.reverse else super().output_mask(x)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        if not self.reverse:
            return (*x.shape, self.output_dim)
        if x.shape[-1] != self.output_dim:
            raise ShapeError(f"takes vectors of {self.output_dim} in reverse, but is given {x.described}")
        return (*x.shape[:-1], self.input_dim)

    def output_dtype(self, x: Symbol, *_: Symbol) -> str | None:
        return self.reverse_dtype if self.reverse else None

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        constructor = call(
            "ReversibleEmbedding",
            self.input_dim,
            self.output_dim,
            tie_weights=unless(True, self.tie_weights),
            logit_soft_cap=unless(None, self.logit_soft_cap),
            reverse_dtype=unless(None, self.reverse_dtype),
        )
        return Module(constructor)(x, reverse=True) if self.reverse else Module(constructor)(indices(x))
