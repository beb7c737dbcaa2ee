"""The 30 activation functions of Keras 3, and the torch module that each becomes."""

from __future__ import annotations

from typing import Annotated

from regspec.code.expressions import OMIT, Call, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import Axis, NotNegative, Number, Positive
from regspec.language.forms import Family, Named


class ActivationFunction(Named):
    """A function of a tensor, applied after a layer's own computation."""

    @property
    def along(self) -> int | None:
        """The axis that it works along; None where it takes each number by itself."""
        axis: int | None = getattr(self, "axis", None)
        return axis

    def counted_by_keras(self, x: Symbol) -> ActivationFunction:
        """The function along the axis that it says, as a spec counts it, in Keras's numbers. Raises `ShapeError`."""
        axis = self.said_axis
        return self if axis is None or x.is_plain else self.model_copy(update={"axis": x.keras_axis(axis)})

    @property
    def said_axis(self) -> int | None:
        """The axis, where it is said and not the default."""
        axis: int | None = self.model_dump(exclude_unset=True).get("axis")
        return axis

    def lower(self, dimension: int) -> Call | None:
        """The constructor of its torch module; None for the identity. ``dimension`` is where its axis lies in torch."""
        raise NotImplementedError

    def output_shape(self, shape: Shape, dimension: int) -> Shape:
        """The shape of its output for an input's shape, both in torch's order of dimensions."""
        return shape


_SYNONYMS = {
    "none": "linear",
    "identity": "linear",
    "exp": "exponential",
    "lrelu": "leaky_relu",
    "leakyrelu": "leaky_relu",
    "hardswish": "hard_silu",
    "hardsigmoid": "hard_sigmoid",
    "hardtanh": "hard_tanh",
    "hsigmoid": "hard_sigmoid",
    "hswish": "hard_silu",
    "logsoftmax": "log_softmax",
    "logsigmoid": "log_sigmoid",
    "logistic": "sigmoid",
    "clipped_relu": "relu6",
}
# functions that are layers: their names in small letters, and what a spec calls them
_LAYERS = {
    **{name.lower(): name for name in ("Sin", "Cos", "Tan", "Sinh", "Cosh", "Sign", "Sqrt", "Square", "Log", "Erf")},
    **{name.lower(): name for name in ("Log1p", "Expm1", "Rsqrt", "Reciprocal", "Negative", "Round", "Floor", "Ceil")},
    "sine": "Sin",
    "cosine": "Cos",
    "abs": "Absolute",
    "absolute": "Absolute",
    "arctan": "Arctan",
    "atan": "Arctan",
    "prelu": "PReLU",
}
_EXPLAINED = {name: f"'{kind}' is a layer: write '- {kind}' after this one" for name, kind in _LAYERS.items()}
_EXPLAINED["lambda"] = "code is no part of a spec: register a layer of your own"

ACTIVATIONS: Family[ActivationFunction] = Family("activation function", synonyms=_SYNONYMS, explained=_EXPLAINED)


@ACTIVATIONS.add
class Linear(ActivationFunction):
    """x, unchanged."""

    def lower(self, dimension: int) -> Call | None:
        return None


def _plain(name: str, function: str, formula: str, aliases: tuple[str, ...] = ()) -> type[ActivationFunction]:
    """A function without arguments."""

    class Plain(ActivationFunction):
        def lower(self, dimension: int) -> Call | None:
            return call(function)

    Plain.__doc__ = formula
    Plain.__name__ = Plain.__qualname__ = name  # under which it is found here when it is unpickled
    Plain.aliases = aliases
    return ACTIVATIONS.add(Plain)


Exponential = _plain("Exponential", "Exponential", "exp(x).")
HardSilu = _plain("HardSilu", "nn.Hardswish", "x * hard_sigmoid(x).", ("hard_swish",))
HardTanh = _plain("HardTanh", "nn.Hardtanh", "x clipped to [-1, 1].")
LogSigmoid = _plain("LogSigmoid", "nn.LogSigmoid", "log(sigmoid(x)).")
Mish = _plain("Mish", "nn.Mish", "x * tanh(softplus(x)).")
Relu6 = _plain("Relu6", "nn.ReLU6", "x clipped to [0, 6].")
Selu = _plain("Selu", "nn.SELU", "The scaled exponential linear unit.")
Sigmoid = _plain("Sigmoid", "nn.Sigmoid", "1 / (1 + exp(-x)).")
Silu = _plain("Silu", "nn.SiLU", "x * sigmoid(x).", ("swish",))
Softplus = _plain("Softplus", "nn.Softplus", "log(exp(x) + 1).")
Softsign = _plain("Softsign", "nn.Softsign", "x / (abs(x) + 1).")
SparsePlus = _plain("SparsePlus", "SparsePlus", "0 up to -1, (x + 1)**2 / 4 up to 1, then x.")
SparseSigmoid = _plain("SparseSigmoid", "SparseSigmoid", "0 up to -1, (x + 1) / 2 up to 1, then 1.")
Tanh = _plain("Tanh", "nn.Tanh", "The hyperbolic tangent.")
TanhShrink = _plain("TanhShrink", "nn.Tanhshrink", "x - tanh(x).")


@ACTIVATIONS.add
class Relu(ActivationFunction):
    """max(x, 0), with Keras's options of a slope below, a bound above and a threshold."""

    example = "{max_value: 1.0}"
    negative_slope: NotNegative = 0.0
    max_value: NotNegative | None = None
    threshold: NotNegative = 0.0

    def lower(self, dimension: int) -> Call | None:
        if self.threshold == 0 and self.max_value is None:
            return call("nn.LeakyReLU", self.negative_slope) if self.negative_slope else call("nn.ReLU")
        if self.threshold == 0 and self.max_value == 6 and not self.negative_slope:
            return call("nn.ReLU6")
        return call(
            "ThresholdedReLU",
            max_value=unless(None, self.max_value),
            negative_slope=unless(0.0, self.negative_slope),
            threshold=unless(0.0, self.threshold),
        )


@ACTIVATIONS.add
class HardSigmoid(ActivationFunction):
    """slope * x + 0.5, clipped to [0, 1]: a sixth of x in Keras 3, a fifth in Keras 2."""

    main = "slope"
    example = "0.2"
    own_fields = frozenset({"slope"})
    slope: Positive = 1 / 6

    def lower(self, dimension: int) -> Call | None:
        return call("nn.Hardsigmoid") if self.slope == 1 / 6 else call("HardSigmoid", self.slope)


@ACTIVATIONS.add
class LeakyRelu(ActivationFunction):
    """x above zero, negative_slope * x below."""

    main = "negative_slope"
    example = "0.1"
    negative_slope: NotNegative = 0.2

    def lower(self, dimension: int) -> Call | None:
        return call("nn.LeakyReLU", self.negative_slope)


@ACTIVATIONS.add
class Elu(ActivationFunction):
    """x above zero, alpha * (exp(x) - 1) below."""

    main = "alpha"
    alpha: Number = 1.0

    def lower(self, dimension: int) -> Call | None:
        return call("nn.ELU", *([] if self.alpha == 1 else [self.alpha]))


@ACTIVATIONS.add
class Celu(ActivationFunction):
    """max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)."""

    main = "alpha"
    alpha: Positive = 1.0

    def lower(self, dimension: int) -> Call | None:
        return call("nn.CELU", *([] if self.alpha == 1 else [self.alpha]))


@ACTIVATIONS.add
class Gelu(ActivationFunction):
    """x * P(X <= x) for a standard normal X; approximate uses tanh."""

    example = "{approximate: true}"
    approximate: bool = False

    def lower(self, dimension: int) -> Call | None:
        return call("nn.GELU", approximate="tanh" if self.approximate else OMIT)


@ACTIVATIONS.add
class Glu(ActivationFunction):
    """a * sigmoid(b) for the two halves a, b of x along an axis."""

    axis: Axis = -1

    def lower(self, dimension: int) -> Call | None:
        return call("nn.GLU", dim=unless(-1, dimension))

    def output_shape(self, shape: Shape, dimension: int) -> Shape:
        size = shape[dimension]
        if size is not None and size % 2:
            raise ShapeError(f"has glu, which halves axis {self.axis}, on an odd size of {size}")
        half = None if size is None else size // 2
        return tuple(half if index == dimension % len(shape) else old for index, old in enumerate(shape))


@ACTIVATIONS.add
class HardShrink(ActivationFunction):
    """x where abs(x) > threshold, else 0."""

    main = "threshold"
    threshold: NotNegative = 0.5

    def lower(self, dimension: int) -> Call | None:
        return call("nn.Hardshrink", *([] if self.threshold == 0.5 else [self.threshold]))


@ACTIVATIONS.add
class SoftShrink(ActivationFunction):
    """x drawn towards zero by threshold, and 0 within it."""

    main = "threshold"
    threshold: NotNegative = 0.5

    def lower(self, dimension: int) -> Call | None:
        return call("nn.Softshrink", *([] if self.threshold == 0.5 else [self.threshold]))


@ACTIVATIONS.add
class Softmax(ActivationFunction):
    """exp(x) / sum(exp(x)) along an axis."""

    main = "axis"
    axis: Axis = -1

    def lower(self, dimension: int) -> Call | None:
        return call("nn.Softmax", dim=dimension)


@ACTIVATIONS.add
class LogSoftmax(ActivationFunction):
    """log(softmax(x)) along an axis."""

    main = "axis"
    axis: Axis = -1

    def lower(self, dimension: int) -> Call | None:
        return call("nn.LogSoftmax", dim=dimension)


@ACTIVATIONS.add
class Sparsemax(ActivationFunction):
    """A sparse softmax along an axis, as Keras 3 computes it."""

    main = "axis"
    axis: Axis = -1

    def lower(self, dimension: int) -> Call | None:
        return call("Sparsemax", dim=unless(-1, dimension))


@ACTIVATIONS.add
class Squareplus(ActivationFunction):
    """(x + sqrt(x**2 + b)) / 2."""

    main = "b"
    b: NotNegative = 4.0

    def lower(self, dimension: int) -> Call | None:
        return call("Squareplus", *([] if self.b == 4 else [self.b]))


@ACTIVATIONS.add
class Threshold(ActivationFunction):
    """x above threshold, else default_value."""

    example = "{threshold: 0.0, default_value: 0.0}"
    threshold: Number
    default_value: Number

    def lower(self, dimension: int) -> Call | None:
        return call("nn.Threshold", self.threshold, self.default_value)


Activation = Annotated[ActivationFunction, ACTIVATIONS]
