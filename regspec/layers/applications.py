"""Layers that models of keras.applications bring with them: those of ConvNeXt and of InceptionResNetV2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from regspec.code.expressions import Expression, Module, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import Axis, Fraction, Number, Size
from regspec.language.initializers import Constant
from regspec.layers.families import Elementwise
from regspec.layers.kinds import kind
from regspec.layers.layer import Weight
from regspec.layers.merging import Merge
from regspec.layers.ties import Place, Ties, alike


@kind
class LayerScale(Elementwise):
    """The input times a learned factor for each number along an axis."""

    is_in_keras = False  # whose own are private
    is_in_files = True
    keras_module = "src.applications.convnext"
    own_fields = frozenset({"axis"})

    example = "{init_values: 1e-6, projection_dim: 5}"

    init_values: Number = Field(description="What every factor starts as.")
    projection_dim: Size = Field(description="The size of the axis.")
    axis: Axis = Field(-1, description="The axis that has the factors; that of the features when absent.")

    axis_fields = ("axis",)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        size = x.shape[x.dimension(self.axis)]
        if size not in (None, self.projection_dim):
            raise ShapeError(f"has {self.projection_dim} factors, but axis {self.axis} of {x.described} has {size}")
        return x.shape

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        filled = Constant(value=self.init_values)
        along = (self.axis % x.rank,)
        return (self.weight("gamma", "c", (self.projection_dim,), initializer=filled, constructed=filled, along=along),)

    def ties(self, *xs: Symbol) -> Ties | None:
        axis = self.axis % xs[0].rank
        return Ties(
            tuple(
                replace(tie, places=(*tie.places, Place("gamma", 0)), field=("projection_dim",), factors=("gamma",))
                if tie.places[0].axis == axis
                else tie
                for tie in alike(xs)
            )
        )

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        dimension = x.dimension(self.axis)
        dim = unless(-1, -1 if dimension == x.rank - 1 else dimension)
        return Module(call("LayerScale", self.projection_dim, self.init_values, dim=dim))(x)


@kind
class StochasticDepth(Elementwise):
    """Zeros for a share of the examples, in training; the others enlarged to keep the mean."""

    is_in_keras = False  # whose own are private
    is_in_files = True
    keras_module = "src.applications.convnext"

    example = "{drop_path_rate: 0.1}"

    drop_path_rate: Annotated[Fraction, Field(lt=1)] = Field(description="The share of examples, below one.")

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call("Dropout", self.drop_path_rate, noise_shape=(None, *(1,) * (x.rank - 1))))(x)


@kind
class CustomScaleLayer(Merge):
    """The first input plus the second times a factor."""

    is_in_keras = False  # whose own are private
    is_in_files = True
    keras_module = "src.applications.inception_resnet_v2"

    example = "{scale: 0.17, inputs: [a, b]}"

    scale: Number = Field(description="The factor.")

    arity = (2, 2)
    verb = "add"

    @property
    def takes_integers(self) -> bool:
        return False

    def output_mask(self, x: Symbol, *others: Symbol) -> Expression | None:
        return None

    def merge(self, values: Sequence[Expression]) -> Expression:
        first, second = values
        return first + second * self.scale
