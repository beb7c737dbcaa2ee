"""Activations as layers of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from regspec.code import axes
from regspec.code.expressions import Expression, Module, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol, text
from regspec.language import activations
from regspec.language.activations import ActivationFunction
from regspec.language.constraints import Constraint
from regspec.language.fields import Axes, NotNegative, Number, Positive
from regspec.language.initializers import GLOROT_UNIFORM, ONES, ZEROS, Constant, Initializer, WeightInitializer
from regspec.language.regularizers import RegularizerField
from regspec.layers.families import Elementwise
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer, Weight
from regspec.layers.ties import Place, Ties, alike, mixes


def applied(function: ActivationFunction, x: Symbol) -> Expression:
    """The function as the layer's own module."""
    dimension = -1 if function.along is None else x.dimension(function.along)
    return function.of(x, -1 if dimension == x.rank - 1 else dimension)


@kind
class Activation(Elementwise):
    """An activation function."""

    example = "{activation: relu6}"
    supports_masking = True

    activation: activations.Activation = Field(description="The activation function.")

    @property
    def reads_axes(self) -> bool:
        return self.activation.along is not None and self.activation.said_axis is None

    def function_alone(self, *xs: Symbol) -> activations.ActivationFunction | None:
        found: activations.ActivationFunction = self.keras_fields(*xs).get("activation", self.activation)
        return found

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        if self.activation.along is None or xs[0].is_plain:
            return {}
        return {"activation": self.activation.model_copy(update={"axis": xs[0].spec_axis(self.activation.along)})}

    def counted_by_keras(self, *xs: Symbol) -> Layer:
        function = self.activation.counted_by_keras(xs[0])
        return self if function is self.activation else self.model_copy(update={"activation": function})

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        along = self.activation.along
        return self.activation.output_shape(x.shape, -1 if along is None else x.dimension(along))

    def ties(self, *xs: Symbol) -> Ties | None:
        rank = xs[0].rank
        why = {axis: mixes(self.activation, axis, rank) for axis in range(1, rank)}
        keeps_shape = self.output_shape(*xs) == xs[0].shape
        return Ties(alike(xs, why)) if keeps_shape else None

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return applied(self.activation, x)


@kind
class ReLU(Elementwise):
    """max(x, 0), with options of a slope below, a bound above and a threshold."""

    supports_masking = True

    max_value: NotNegative | None = Field(None, description="The largest value of the output; none when absent.")
    negative_slope: NotNegative = Field(0.0, description="The slope below the threshold.")
    threshold: NotNegative = Field(0.0, description="Below it the output is negative_slope * (x - threshold).")

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        function = activations.Relu(
            max_value=self.max_value, negative_slope=self.negative_slope, threshold=self.threshold
        )
        return applied(function, x)


@kind
class LeakyReLU(Elementwise):
    """x above zero, negative_slope * x below."""

    supports_masking = True

    negative_slope: NotNegative = Field(0.3, description="The slope below zero.")

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return applied(activations.LeakyRelu(negative_slope=self.negative_slope), x)


@kind
class ELU(Elementwise):
    """x above zero, alpha * (exp(x) - 1) below."""

    supports_masking = True

    alpha: Number = Field(1.0, description="The limit of the output, negated.")

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return applied(activations.Elu(alpha=self.alpha), x)


@kind
class Softmax(Elementwise):
    """exp(x) / sum(exp(x)) along an axis, or over several together."""

    supports_masking = True

    axis: Axes = Field(
        (-1,), description="The axis along which the output sums to one, or several together; the features when absent."
    )

    axis_fields = ("axis",)

    def counts_by_mask(self, *xs: Symbol) -> bool:
        return xs[0].mask is not None

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        for axis in self.axis:
            x.dimension(axis)  # raises if there is none
        return x.shape

    def ties(self, *xs: Symbol) -> Ties | None:
        chosen = (axis % xs[0].rank for axis in self.axis)
        return Ties(alike(xs, dict.fromkeys(chosen, "softmax is of all of them together")))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        if x.mask is not None:
            return self._masked(x, x.mask)
        if len(self.axis) == 1:
            return applied(activations.Softmax(axis=self.axis[0]), x)
        dimensions = tuple(sorted({x.dimension(axis) for axis in self.axis}))
        return call("torch.exp", x - x.method("logsumexp", dimensions, keepdim=True))

    def _masked(self, x: Symbol, mask: Symbol) -> Expression:
        """The softmax over what the mask, which must have the input's shape, leaves; zero elsewhere."""
        if len(self.axis) > 1 or x.order != axes.identity(x.rank) or mask.shape != x.shape:
            what = f"has a mask of {text(mask.shape)}, but takes one of its input's shape, of {x.described}"
            raise ShapeError(what, "give 'mask: []' to take none")
        weights = call("torch.where", mask, x, -1e9).method("softmax", dim=x.dimension(self.axis[0]))
        return call("torch.where", mask, weights, 0.0)


class OfEachPlace(Elementwise):
    """An activation function with learned numbers for each place of an example; some axes may share theirs."""

    supports_masking = True

    shared_axes: Axes | None = Field(None, description="Axes that share their numbers; 1 is the first after the batch.")

    axis_fields = ("shared_axes",)

    @property
    def reads_axes(self) -> bool:
        return False

    def _shape(self, x: Symbol) -> tuple[int, ...]:
        """The shape of the numbers as they lie in torch."""
        shared = {axis % x.rank for axis in self.shared_axes or ()}
        if 0 in shared or any(not -x.rank <= axis < x.rank for axis in self.shared_axes or ()):
            raise ShapeError(f"shares axes that {x.described} does not have")
        return tuple(1 if axis in shared else x.size(x.dimension(axis)) for axis in x.order[1:])

    def _weights(self, x: Symbol, slots: Mapping[str, tuple[str, WeightInitializer | None]]) -> tuple[Weight, ...]:
        """A weight for each slot, of which is told what the module calls it, and what that fills it with."""
        along = range(1, x.rank)
        shape = dict(zip(x.order[1:], self._shape(x), strict=True))
        names = dict(zip(along, "abcdefgh", strict=False))
        pattern = f"{' '.join(names.values())} -> {' '.join(names[axis] for axis in x.order[1:])}"
        sizes = tuple(shape[axis] for axis in along)
        return tuple(
            self.weight(slot, pattern, sizes, parameters=(parameter,), constructed=filled, along=tuple(along))
            for slot, (parameter, filled) in slots.items()
        )

    def ties(self, *xs: Symbol) -> Ties | None:
        ties, found = alike(xs), self.weights(*xs)

        def own(axis: int) -> tuple[Place, ...]:
            """The places of the weights that have a number for each unit of an axis."""
            size = xs[0].logical[axis]
            return tuple(Place(each.name, axis - 1) for each in found if (each.shape or ())[axis - 1] == size)

        return Ties(tuple(replace(tie, places=(*tie.places, *own(tie.places[0].axis))) for tie in ties))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call(type(self).__name__, self._shape(x)))(x)


@kind
class PReLU(OfEachPlace):
    """x above zero, alpha * x below, with a learned alpha."""

    example = "{alpha_regularizer: {l2: 1e-4}}"

    alpha_initializer: Initializer = ZEROS
    alpha_regularizer: RegularizerField | None = None
    alpha_constraint: Constraint | None = None

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        return self._weights(x, {"alpha": ("weight", ZEROS)})


@kind
class SReLU(OfEachPlace):
    """x between two learned thresholds, and a learned slope on each side, of Keras 1: Jin et al. (2015).

    The upper threshold is t_left + abs(t_right).
    """

    is_in_keras = False
    is_in_files = True

    example = "{shared_axes: [1]}"

    t_left_initializer: Initializer = ZEROS
    t_left_regularizer: RegularizerField | None = None
    t_left_constraint: Constraint | None = None
    a_left_initializer: Initializer = GLOROT_UNIFORM
    a_left_regularizer: RegularizerField | None = None
    a_left_constraint: Constraint | None = None
    t_right_initializer: Initializer = GLOROT_UNIFORM
    t_right_regularizer: RegularizerField | None = None
    t_right_constraint: Constraint | None = None
    a_right_initializer: Initializer = ONES
    a_right_regularizer: RegularizerField | None = None
    a_right_constraint: Constraint | None = None

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        filled = {"t_left": ZEROS, "a_left": None, "t_right": None, "a_right": ONES}
        return self._weights(x, {slot: (slot, each) for slot, each in filled.items()})


@kind
class ParametricSoftplus(OfEachPlace):
    """alpha * log(1 + exp(beta * x)), with a learned alpha and beta, of Keras 1: McFarland et al. (2013)."""

    is_in_keras = False
    is_in_files = True

    example = "{shared_axes: [1]}"

    alpha_initializer: Initializer = Constant(value=0.2)
    alpha_regularizer: RegularizerField | None = None
    alpha_constraint: Constraint | None = None
    beta_initializer: Initializer = Constant(value=5.0)
    beta_regularizer: RegularizerField | None = None
    beta_constraint: Constraint | None = None

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        return self._weights(x, {"alpha": ("alpha", Constant(value=0.2)), "beta": ("beta", Constant(value=5.0))})


@kind
class JumpReLU(Elementwise):
    """x above a learned threshold of its feature, and zero up to it: Rajamanoharan et al. (2024)."""

    is_in_keras = False

    example = "{threshold_constraint: non_neg}"
    supports_masking = True

    bandwidth: Positive = Field(0.001, description="How far around a threshold numbers give it a gradient.")
    threshold_initializer: Initializer = Constant(value=0.001)
    threshold_regularizer: RegularizerField | None = None
    threshold_constraint: Constraint | None = None

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        size = x.size(x.dimension(-1))
        return (
            self.weight(
                "threshold",
                "c",
                (size,),
                parameters=("threshold",),
                constructed=Constant(value=0.001),
                along=(x.rank - 1,),
            ),
        )

    def ties(self, *xs: Symbol) -> Ties | None:
        *ties, last = alike(xs)
        return Ties((*ties, replace(last, places=(*last.places, Place("threshold", 0)))))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        dimension = x.dimension(-1)
        dim = unless(-1, -1 if dimension == x.rank - 1 else dimension)
        bandwidth = unless(0.001, self.bandwidth)
        return Module(call("JumpReLU", x.size(dimension), bandwidth=bandwidth, dim=dim))(x)
