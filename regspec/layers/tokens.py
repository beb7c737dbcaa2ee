"""Learned tensors as layers, and what tells the steps of a sequence apart: positions, learned or by formula."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import Expression, Module, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.constraints import Constraint
from regspec.language.fields import Meanings, Positive, Sequence, Size, check_meanings
from regspec.language.initializers import GLOROT_UNIFORM, NORMAL, Initializer
from regspec.language.regularizers import RegularizerField
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer, Weight
from regspec.layers.slots import EmbeddingsSlot
from regspec.layers.ties import Place, Tie, Ties


class Learned(Layer):
    """A layer with a learned tensor that is not a function of its input."""

    is_in_keras = False

    value_initializer: Initializer = NORMAL
    value_regularizer: RegularizerField | None = None
    value_constraint: Constraint | None = None


@kind
class Parameter(Learned):
    """A learned tensor by itself, the same for each example; of its input it reads the size of the batch alone."""

    example = "{shape: [16, 64], value_regularizer: {l2: 1e-5}}"
    is_counted_by_spec = True
    keeps_axes = False
    says_axes = True

    shape: Annotated[tuple[Size, ...], Sequence] = Field(description="The tensor's shape, without the batch.")
    axes: Meanings | None = Field(
        None,
        description="What the axes of an image, a volume or a signal mean, such as [channels, height, width]; not "
        "needed where the spec has a data_format.",
    )

    @model_validator(mode="after")
    def _has_as_many_axes(self) -> Parameter:
        check_meanings(self.axes, self.shape)
        return self

    @property
    def takes_integers(self) -> bool:
        return True

    def order(self, x: Symbol) -> Order | None:
        return None

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        if self.axes is not None:
            return axes.of_meanings(self.axes)
        return axes.identity(rank) if rank < 4 else None

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        inputs = [f"i{axis}" for axis in range(len(self.shape) - 1)]
        pattern = " ".join([*inputs, "o"] if self.shape else inputs)
        return (self.weight("value", pattern, self.shape, constructed=NORMAL),)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return (x.shape[0], *self.shape)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call("LearnedTensor", *self.shape))(x)


@kind
class ClassToken(Learned):
    """A learned step before the steps of a sequence, (batch, 1 + steps, features), as of BERT and ViT; never masked."""

    example = "{value_regularizer: {l2: 1e-5}}"
    main = None
    takes = ("batch", "steps", "features")

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        return (self.weight("value", "o", (x.size(2),), constructed=NORMAL, along=(2,)),)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return (x.shape[0], None if x.shape[1] is None else x.shape[1] + 1, x.shape[2])

    def output_mask(self, x: Symbol, *_: Symbol) -> Expression | None:
        return None if x.mask is None else call("F.pad", x.mask, (1, 0), value=True)

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        return Ties((Tie(x.size(2), (Place(0, 2), Place("value", 0), Place(~0, 2))),))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call("ClassToken", x.size(2)))(x)


class Positioned(Layer):
    """A layer that adds a vector to each step of a sequence. In keras_hub, layers of the same names give it alone."""

    is_in_keras = False
    supports_masking = True
    takes = ("batch", "steps", "features")


@kind
class PositionEmbedding(Positioned, EmbeddingsSlot):
    """Its input plus a learned vector for each step, by its position."""

    example = "{sequence_length: 128, embeddings_regularizer: {l2: 1e-6}}"

    sequence_length: Size = Field(description="The most steps that an input may have.")
    embeddings_initializer: Initializer = GLOROT_UNIFORM

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        if x.shape[1] is not None and x.shape[1] > self.sequence_length:
            raise ShapeError(f"has vectors for {self.sequence_length} steps, but is given {x.described}")
        return x.shape

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        shape = (self.sequence_length, x.size(2))
        return (self.weight("embeddings", "i o", shape, constructed=GLOROT_UNIFORM, along=(None, 2)),)

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        return Ties((Tie(x.size(2), (Place(0, 2), Place("embeddings", 1), Place(~0, 2))),))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call("PositionEmbedding", self.sequence_length, x.size(2)))(x)


@kind
class SinePositionEncoding(Positioned):
    """Its input plus sines and cosines of each step's position, of Vaswani et al. (2017)."""

    example = "{max_wavelength: 10000}"

    max_wavelength: Positive = Field(10000.0, description="The longest wavelength, as a multiple of 2π steps.")

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call("SinePositionEncoding", max_wavelength=unless(10000.0, self.max_wavelength)))(x)
