"""Attention of queries over values with one head, plain and additive, over (batch, steps, features)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from regspec.code.expressions import Expression, Module, Part, Value, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import Count, Fraction
from regspec.language.initializers import GLOROT_UNIFORM, ONES
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer, Weight


class Attending(Layer):
    """A layer that weighs the steps of a value by how well a query matches their keys."""

    supports_masking = True
    reads_mask = True

    dropout: Fraction = Field(0.0, description="The share of the attention scores that is dropped.")
    seed: Count | None = Field(None, description="Accepted for Keras's sake; torch draws from its own generator.")
    use_causal_mask: bool = Field(False, description="Whether a step sees only itself and the steps before.")
    return_attention_scores: bool = Field(False, description="Whether the attention scores are a second output.")

    call_fields = frozenset({"use_causal_mask", "return_attention_scores"})
    arity = (1, 3)

    def inputs_of(self, xs: tuple[Symbol, ...]) -> tuple[Symbol, Symbol, Symbol]:
        """Query, value and key; a single input is all three, and the key is the value where it is not given."""
        query, value = (xs[0], xs[0]) if len(xs) == 1 else xs[:2]
        return query, value, xs[2] if len(xs) == 3 else value

    def applied(self, module: Module, xs: tuple[Symbol, ...]) -> Expression | list[Expression]:
        """The output of the attention's module, and its scores if they are wanted."""
        query, value, key = self.inputs_of(xs)
        given = (query, value) if key is value else (query, value, key)
        whole = module(
            *given,
            **self.masks_of(query, value, key),
            **{} if not self.use_causal_mask else {"causal": True},
            **{} if not self.return_attention_scores else {"return_scores": True},
        )
        if not self.return_attention_scores:
            return whole
        return [Part(whole, ("output", "scores"), (0,)), Part(whole, ("output", "scores"), (1,))]

    def masks_of(self, query: Symbol, value: Symbol, key: Symbol) -> dict[str, Value]:
        """The masks that the module takes, by name."""
        named = {"query_mask": query.mask, "value_mask": value.mask}
        return {name: mask for name, mask in named.items() if mask is not None}


class PlainAttention(Attending):
    """Attention of one head, without projections."""

    example = "{inputs: [query, value]}"
    arity = (2, 3)

    def checked(self, *xs: Symbol) -> None:
        super().checked(*xs)
        query, value, key = self.inputs_of(xs)
        if {query.rank, value.rank, key.rank} != {3}:
            raise ShapeError(
                f"takes inputs of (batch, steps, features), but is given {next(x for x in xs if x.rank != 3).described}"
            )
        if query.logical[2] != key.logical[2]:
            raise ShapeError(
                f"takes a query and a key of the same size, but is given {query.described}, and {key.described}"
            )
        if value.logical[1] != key.logical[1]:
            raise ShapeError(
                f"takes a value and a key of as many steps, but is given {value.described}, and {key.described}"
            )

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape | list[Shape]:
        query, value, key = self.inputs_of((x, *others))
        output = (*query.shape[:-1], value.shape[-1])
        return [output, (*query.shape[:-1], key.shape[1])] if self.return_attention_scores else output


@kind
class Attention(PlainAttention):
    """Dot-product attention of Luong et al. (2015)."""

    use_scale: bool = Field(False, description="Whether the scores are multiplied by a learned number.")
    score_mode: Literal["dot", "concat"] = Field("dot", description="dot: query times key; concat: tanh of their sum.")

    def weights(self, x: Symbol, *others: Symbol) -> tuple[Weight, ...]:
        scale = self.weight("scale", "", (), parameters=("scale",), initializer=ONES, constructed=ONES)
        concat = self.weight(
            "concat_score_weight", "", (), parameters=("concat_score_weight",), initializer=ONES, constructed=ONES
        )
        return (scale,) * self.use_scale + (concat,) * (self.score_mode == "concat")

    def lower(self, x: Symbol, *others: Symbol) -> Expression | list[Expression]:
        constructor = call(
            "Attention",
            scale=unless(False, self.use_scale),
            concat=unless(False, self.score_mode == "concat"),
            dropout=unless(0.0, self.dropout),
        )
        return self.applied(Module(constructor), (x, *others))


@kind
class AdditiveAttention(PlainAttention):
    """Additive attention of Bahdanau et al. (2015)."""

    use_scale: bool = Field(True, description="Whether each feature is multiplied by a learned number.")

    def weights(self, x: Symbol, *others: Symbol) -> tuple[Weight, ...]:
        scale = self.weight("scale", "c", (x.size(-1),), parameters=("scale",), initializer=GLOROT_UNIFORM)
        return (scale,) * self.use_scale

    def lower(self, x: Symbol, *others: Symbol) -> Expression | list[Expression]:
        size = x.size(-1) if self.use_scale else None
        constructor = call("AdditiveAttention", size, dropout=unless(0.0, self.dropout))
        return self.applied(Module(constructor), (x, *others))
