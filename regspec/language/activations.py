"""The activation functions of Keras 3 and of torch.nn, and what each becomes in torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from regspec.code.expressions import OMIT, Call, Expression, Module, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import Axis, Fraction, NotNegative, Number, Positive, Size
from regspec.language.forms import Family, Named


class ActivationFunction(Named):
    """A function of a tensor, applied after a layer's own computation."""

    keras_module: ClassVar[str] = "activations"  # where Keras has it
    torch_function: ClassVar[str | None] = None  # what torch has it as, where it has no module for it
    as_keras_layer: ClassVar[str | None] = None  # Keras's layer with its arguments, which a file has in its place

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

    @property
    def in_keras(self) -> ActivationFunction | None:
        """The function that it is in Keras; None where Keras has none."""
        return self

    def lower(self, dimension: int) -> Call | None:
        """The constructor of its torch module; None for the identity. ``dimension`` is where its axis lies in torch."""
        raise NotImplementedError

    def of(self, x: Expression, dimension: int, suffix: str = "") -> Expression:
        """The function of ``x``: by torch's function, or by a module whose attribute ends in ``suffix``."""
        if self.torch_function is not None:
            return call(f"torch.{self.torch_function}", x)
        constructor = self.lower(dimension)
        return x if constructor is None else Module(constructor, suffix)(x)

    def output_shape(self, shape: Shape, dimension: int) -> Shape:
        """The shape of its output for an input's shape, both in torch's order of dimensions."""
        return shape


_SYNONYMS = {
    "hsigmoid": "hard_sigmoid",
    "hswish": "hard_silu",
    "logistic": "sigmoid",
    "clipped_relu": "relu6",
    "softmax2d": "softmax",
}
_SLOPE = "torch's slope is 0.01, and that of Keras's function 0.2: write {leaky_relu: 0.01}, or the slope that is meant"
_EXPLAINED = {
    "prelu": "'PReLU' is a layer: write '- PReLU' after this one",
    "jumprelu": "'JumpReLU' is a layer: write '- JumpReLU' after this one",
    "lambda": "code is no part of a spec: register a layer of your own",
    **dict.fromkeys(("leakyrelu", "lrelu"), _SLOPE),
}

ACTIVATIONS: Family[ActivationFunction] = Family("activation function", synonyms=_SYNONYMS, explained=_EXPLAINED)


@ACTIVATIONS.add
class Linear(ActivationFunction):
    """x, unchanged."""

    aliases = ("identity",)

    def lower(self, dimension: int) -> Call | None:
        return None


def _plain(name: str, constructor: Call, formula: str, *aliases: str, **own: str) -> None:
    """Adds a function without arguments, whose class has some attributes of its own."""

    def made() -> type[ActivationFunction]:
        class Plain(ActivationFunction):
            def lower(self, dimension: int) -> Call | None:
                return constructor

        Plain.__doc__ = formula
        Plain.__name__ = Plain.__qualname__ = name  # under which it is found here when it is unpickled
        Plain.aliases = aliases
        for attribute, value in own.items():
            setattr(Plain, attribute, value)
        return ACTIVATIONS.add(Plain)

    ACTIVATIONS.add_later(name, aliases, made)


def _function(name: str, function: str, formula: str, *aliases: str, keras_module: str = "ops") -> None:
    """Adds a function that torch has, without a module for it."""
    constructor = call("Function", function)
    _plain(name, constructor, formula, *aliases, torch_function=function, keras_module=keras_module)


def __getattr__(name: str) -> type[ActivationFunction]:
    """A class that is made when it is asked for, by its name."""
    found = ACTIVATIONS.get(name) if name in ACTIVATIONS.classes else None
    if found is None:
        raise AttributeError(name)
    return found


# what Keras has among its operations, but for the last
_function("Absolute", "abs", "abs(x).", "abs")
_function("Arcsinh", "asinh", "The inverse hyperbolic sine.", "asinh")
_function("Arctan", "atan", "The inverse tangent.", "atan")
_function("Ceil", "ceil", "x rounded up.")
_function("Cos", "cos", "The cosine.", "cosine")
_function("Cosh", "cosh", "The hyperbolic cosine.")
_function("Erf", "erf", "The error function.")
_function("Expm1", "expm1", "exp(x) - 1, exact for small x.")
_function("Floor", "floor", "x rounded down.")
_function("Log", "log", "The natural logarithm.")
_function("Log1p", "log1p", "log(1 + x), exact for small x.")
_function("Negative", "neg", "-x.", "neg")
_function("Reciprocal", "reciprocal", "1 / x.")
_function("Round", "round", "x rounded to the nearest whole number.")
_function("Rsqrt", "rsqrt", "1 / sqrt(x).")
_function("Sign", "sign", "-1, 0 or 1, as x is negative, 0 or positive.")
_function("Sin", "sin", "The sine.", "sine")
_function("Sinh", "sinh", "The hyperbolic sine.")
_function("Sqrt", "sqrt", "The square root.")
_function("Square", "square", "x**2.")
_function("Tan", "tan", "The tangent.")
_function("Exponential", "exp", "exp(x).", "exp", keras_module="activations")

_plain("HardSilu", call("nn.Hardswish"), "x * hard_sigmoid(x).", "hard_swish", "hardswish", "Hardswish")
_plain("HardTanh", call("nn.Hardtanh"), "x clipped to [-1, 1].", "hardtanh", "Hardtanh")
_plain("LogSigmoid", call("nn.LogSigmoid"), "log(sigmoid(x)).", "logsigmoid")
_plain("Mish", call("nn.Mish"), "x * tanh(softplus(x)).")
_plain("Relu6", call("nn.ReLU6"), "x clipped to [0, 6].", "ReLU6")
_plain("Selu", call("nn.SELU"), "The scaled exponential linear unit.", "SELU")
_plain("Sigmoid", call("nn.Sigmoid"), "1 / (1 + exp(-x)).")
_plain("Silu", call("nn.SiLU"), "x * sigmoid(x).", "swish", "SiLU")
_plain("Softplus", call("nn.Softplus"), "log(exp(x) + 1).")
_plain("Softsign", call("nn.Softsign"), "x / (abs(x) + 1).")
_plain("SparsePlus", call("SparsePlus"), "0 up to -1, (x + 1)**2 / 4 up to 1, then x.")
_plain("SparseSigmoid", call("SparseSigmoid"), "0 up to -1, (x + 1) / 2 up to 1, then 1.")
_plain("Tanh", call("nn.Tanh"), "The hyperbolic tangent.")
_plain("TanhShrink", call("nn.Tanhshrink"), "x - tanh(x).", "tanhshrink", "Tanhshrink")


@ACTIVATIONS.add
class Relu(ActivationFunction):
    """max(x, 0), with Keras's options of a slope below, a bound above and a threshold."""

    as_keras_layer = "ReLU"
    aliases = ("ReLU",)
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
    aliases = ("hardsigmoid", "Hardsigmoid")
    own_fields = frozenset({"slope"})
    slope: Positive = 1 / 6

    def lower(self, dimension: int) -> Call | None:
        return call("nn.Hardsigmoid") if self.slope == 1 / 6 else call("HardSigmoid", self.slope)


@ACTIVATIONS.add
class LeakyRelu(ActivationFunction):
    """x above zero, negative_slope * x below."""

    as_keras_layer = "LeakyReLU"
    main = "negative_slope"
    layer_in_keras = "LeakyReLU"
    example = "0.1"
    negative_slope: NotNegative = 0.2

    def lower(self, dimension: int) -> Call | None:
        return call("nn.LeakyReLU", self.negative_slope)


@ACTIVATIONS.add
class Elu(ActivationFunction):
    """x above zero, alpha * (exp(x) - 1) below."""

    as_keras_layer = "ELU"
    aliases = ("ELU",)
    main = "alpha"
    alpha: Number = 1.0

    def lower(self, dimension: int) -> Call | None:
        return call("nn.ELU", *([] if self.alpha == 1 else [self.alpha]))


@ACTIVATIONS.add
class Celu(ActivationFunction):
    """max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)."""

    aliases = ("CELU",)
    main = "alpha"
    alpha: Positive = 1.0

    def lower(self, dimension: int) -> Call | None:
        return call("nn.CELU", *([] if self.alpha == 1 else [self.alpha]))


@ACTIVATIONS.add
class Gelu(ActivationFunction):
    """x * P(X <= x) for a standard normal X; approximate uses tanh."""

    aliases = ("GELU",)
    example = "{approximate: true}"
    approximate: bool | Literal["tanh", "none"] = False  # by Keras's word, or by torch's

    @field_validator("approximate")
    @classmethod
    def _in_keras_word(cls, value: bool | str) -> bool:
        return value in (True, "tanh")

    def lower(self, dimension: int) -> Call | None:
        return call("nn.GELU", approximate="tanh" if self.approximate else OMIT)


@ACTIVATIONS.add
class GeluTanh(ActivationFunction):
    """The gelu approximated by tanh: {gelu: {approximate: true}}."""

    @property
    def in_keras(self) -> ActivationFunction:
        return Gelu(approximate=True)

    def lower(self, dimension: int) -> Call | None:
        return self.in_keras.lower(dimension)


@ACTIVATIONS.add
class Glu(ActivationFunction):
    """a * sigmoid(b) for the two halves a, b of x along an axis."""

    aliases = ("GLU",)
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

    aliases = ("hardshrink", "Hardshrink")
    main = "threshold"
    threshold: NotNegative = 0.5

    def lower(self, dimension: int) -> Call | None:
        return call("nn.Hardshrink", *([] if self.threshold == 0.5 else [self.threshold]))


@ACTIVATIONS.add
class SoftShrink(ActivationFunction):
    """x drawn towards zero by threshold, and 0 within it."""

    aliases = ("softshrink", "Softshrink")
    main = "threshold"
    threshold: NotNegative = 0.5

    def lower(self, dimension: int) -> Call | None:
        return call("nn.Softshrink", *([] if self.threshold == 0.5 else [self.threshold]))


@ACTIVATIONS.add
class Softmax(ActivationFunction):
    """exp(x) / sum(exp(x)) along an axis."""

    as_keras_layer = "Softmax"
    main = "axis"
    axis: Axis = -1

    def lower(self, dimension: int) -> Call | None:
        return call("nn.Softmax", dim=dimension)


@ACTIVATIONS.add
class LogSoftmax(ActivationFunction):
    """log(softmax(x)) along an axis."""

    main = "axis"
    aliases = ("logsoftmax",)
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


class _Torchs(ActivationFunction):
    """A function that Keras does not have."""

    @property
    def in_keras(self) -> None:
        return None


@ACTIVATIONS.add
class Softmin(_Torchs):
    """softmax(-x) along an axis."""

    main = "axis"
    axis: Axis = -1

    def lower(self, dimension: int) -> Call | None:
        return call("nn.Softmin", dim=dimension)


@ACTIVATIONS.add
class Rrelu(_Torchs):
    """x above zero, below it x by slopes drawn from [lower, upper] in training, and by their mean in evaluation."""

    aliases = ("RReLU",)
    example = "{lower: 0.1, upper: 0.3}"
    least: Fraction = Field(1 / 8, alias="lower")
    upper: Fraction = Field(1 / 3, validate_default=True)

    @field_validator("upper")
    @classmethod
    def _is_above(cls, value: float, fields: ValidationInfo) -> float:
        if value < fields.data.get("least", value):
            raise PydanticCustomError("range", "must be at least lower, {least}", {"least": fields.data["least"]})
        return value

    def lower(self, dimension: int) -> Call | None:
        return call("nn.RReLU", lower=unless(1 / 8, self.least), upper=unless(1 / 3, self.upper))


@ACTIVATIONS.add
class TopK(_Torchs):
    """The k largest numbers along an axis, and 0 for the others: Makhzani and Frey (2013)."""

    main = "k"
    example = "32"
    k: Size
    axis: Axis = -1

    def lower(self, dimension: int) -> Call | None:
        return call("TopK", self.k, dim=unless(-1, dimension))

    def output_shape(self, shape: Shape, dimension: int) -> Shape:
        size = shape[dimension]
        if size is not None and size < self.k:
            raise ShapeError(f"has top_k, which keeps {self.k} along axis {self.axis}, on a size of {size}")
        return shape


Activation = Annotated[ActivationFunction, ACTIVATIONS]
