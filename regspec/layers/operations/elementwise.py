"""Functions of each number by itself: any order of axes will do."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from regspec.code.expressions import Binary, Expression, call
from regspec.code.shapes import Dtype, Shape, ShapeError, Symbol
from regspec.language.fields import Number
from regspec.layers.families import Elementwise, Moved
from regspec.layers.kinds import operation
from regspec.layers.operations.operands import Inline, cast, made, promoted, value


class Function(Elementwise):
    """A function of floating-point numbers; whole numbers are converted."""

    method: ClassVar[str]  # of a tensor

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return x.dtype

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method(self.method)


Arccos = made(Function, "Arccos", "The inverse cosine.", method="arccos")
Arccosh = made(Function, "Arccosh", "The inverse hyperbolic cosine.", method="arccosh")
Arcsin = made(Function, "Arcsin", "The inverse sine.", method="arcsin")
Arcsinh = made(Function, "Arcsinh", "The inverse hyperbolic sine.", method="arcsinh")
Arctan = made(Function, "Arctan", "The inverse tangent.", method="arctan")
Arctanh = made(Function, "Arctanh", "The inverse hyperbolic tangent.", method="arctanh")
Ceil = made(Function, "Ceil", "The number rounded up.", method="ceil")
Cos = made(Function, "Cos", "The cosine.", method="cos")
Cosh = made(Function, "Cosh", "The hyperbolic cosine.", method="cosh")
Deg2rad = made(Function, "Deg2rad", "The angle of degrees in radians.", method="deg2rad")
Erf = made(Function, "Erf", "The error function.", method="erf", keras_operation="math")
Erfc = made(Function, "Erfc", "One less the error function.", method="erfc", keras_operation="math")
Erfinv = made(Function, "Erfinv", "The inverse of the error function.", method="erfinv", keras_operation="math")
Exp = made(Function, "Exp", "e to the power of the number.", method="exp")
Exp2 = made(Function, "Exp2", "2 to the power of the number.", method="exp2")
Expm1 = made(Function, "Expm1", "exp(x) - 1, exact for small x.", method="expm1")
Floor = made(Function, "Floor", "The number rounded down.", method="floor")
I0 = made(Function, "I0", "The modified Bessel function of the first kind, of order 0.", method="i0")
Log = made(Function, "Log", "The natural logarithm.", method="log")
Log10 = made(Function, "Log10", "The logarithm to base 10.", method="log10")
Log1p = made(Function, "Log1p", "log(1 + x), exact for small x.", method="log1p")
Log2 = made(Function, "Log2", "The logarithm to base 2.", method="log2")
Rad2deg = made(Function, "Rad2deg", "The angle of radians in degrees.", method="rad2deg")
Reciprocal = made(Function, "Reciprocal", "1 / x.", method="reciprocal")
Rsqrt = made(Function, "Rsqrt", "1 / sqrt(x).", method="rsqrt", keras_operation="math")
Sin = made(Function, "Sin", "The sine.", method="sin")
Sinc = made(Function, "Sinc", "sin(pi * x) / (pi * x).", method="sinc")
Sinh = made(Function, "Sinh", "The hyperbolic sine.", method="sinh")
Sqrt = made(Function, "Sqrt", "The square root.", method="sqrt")
Tan = made(Function, "Tan", "The tangent.", method="tan")


@operation
class Cbrt(Function):
    """The cube root, with the sign of the number."""

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method("sign") * Binary("**", x.method("abs"), 1 / 3)


class Kept(Moved, Elementwise):
    """A function whose result has the type of its input; truth values become whole numbers."""

    method: ClassVar[str]

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return promoted(x.dtype, 0)

    def number(self, x: Symbol) -> Expression:
        """The input as a number."""
        return cast(x, x.dtype, promoted(x.dtype, 0))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return self.number(x).method(self.method)


Absolute = made(Kept, "Absolute", "The number without its sign.", method="abs")
Sign = made(Kept, "Sign", "-1, 0 or 1, as the number is negative, 0 or positive.", method="sign")
Square = made(Kept, "Square", "The number times itself.", method="square")
Trunc = made(Kept, "Trunc", "The number rounded towards 0.", method="trunc")


@operation
class Negative(Kept):
    """The number with the other sign."""

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return -self.number(x)


@operation
class Round(Kept):
    """The number rounded to decimals, halves to the even neighbour."""

    decimals: int = Field(0, ge=-30, le=30, description="How many decimals are kept.")

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        if not self.decimals:
            return self.number(x).method("round")
        if x.is_floating:
            return x.method("round", decimals=self.decimals)
        rounded = x.method("float").method("round", decimals=self.decimals)
        return cast(rounded, "float32", self.output_dtype(x))


@operation
class Clip(Kept):
    """The number, or the nearest within bounds."""

    example = "{x_min: 0.0, x_max: 1.0}"

    x_min: int | float = Field(description="The lower bound.", allow_inf_nan=False)
    x_max: int | float = Field(description="The upper bound.", allow_inf_nan=False)

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return promoted(x.dtype, 0, self.x_min, self.x_max)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return self.number(x).method("clamp", self.x_min, self.x_max)


@operation
class NanToNum(Kept):
    """The number, or another in place of nan and the infinities."""

    nan: Number = Field(0.0, description="What stands for nan.")
    posinf: Number | None = Field(None, description="What stands for infinity; the largest number when absent.")
    neginf: Number | None = Field(None, description="What stands for -infinity; the least number when absent.")

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return self.number(x).method("nan_to_num", self.nan, self.posinf, self.neginf)


class Predicate(Moved, Elementwise):
    """Whether something holds for a number."""

    method: ClassVar[str]

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return "bool"

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method(self.method)


Isfinite = made(Predicate, "Isfinite", "Whether the number is neither nan nor infinite.", method="isfinite")
Isinf = made(Predicate, "Isinf", "Whether the number is infinite.", method="isinf")
Isnan = made(Predicate, "Isnan", "Whether the number is nan.", method="isnan")
Isneginf = made(Predicate, "Isneginf", "Whether the number is -infinity.", method="isneginf")
Isposinf = made(Predicate, "Isposinf", "Whether the number is infinity.", method="isposinf")
Signbit = made(Predicate, "Signbit", "Whether the number has a minus sign, as -0.0 has.", method="signbit")


@operation
class LogicalNot(Predicate):
    """Whether the number is 0, or the truth value false."""

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return ~cast(x, x.dtype, "bool")


@operation
class IsIn(Predicate):
    """Whether the number is one of others."""

    keras_function = "isin"
    called_with = ("x2",)

    main = None
    example = "{x2: [1, 3]}"

    x2: Inline = Field(description="The others.")
    invert: bool = Field(False, description="Whether it is none of them instead.")

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return call("torch.isin", x, value("x2", self.x2, held=True), **({"invert": True} if self.invert else {}))


@operation
class BitwiseInvert(Moved, Elementwise):
    """The whole number with all its bits inverted."""

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        if x.is_floating:
            raise ShapeError(f"takes whole numbers, but is given '{x.source}' of {x.dtype}", "put a Cast before")
        return x.shape

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return ~x


class Filled(Moved, Elementwise):
    """The shape of the input with other numbers in it."""

    function: ClassVar[str]

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return call(self.function, x)


OnesLike = made(Filled, "OnesLike", "Ones in the shape of the input.", function="torch.ones_like")
ZerosLike = made(Filled, "ZerosLike", "Zeros in the shape of the input.", function="torch.zeros_like")


@operation
class FullLike(Filled):
    """One number in the shape of the input."""

    called_with = ("fill_value",)

    example = "{fill_value: 0.5}"

    fill_value: bool | int | float = Field(description="The number.", allow_inf_nan=False)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return call("torch.full_like", x, self.fill_value)


@operation
class StopGradient(Moved, Elementwise):
    """The input, through which no gradient goes back."""

    keras_operation = "core"

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method("detach")


@operation
class Cast(Moved, Elementwise):
    """The input as numbers of another type."""

    keras_operation = "core"

    example = "{dtype: int32}"

    dtype: Dtype = Field(description="The type.")  # type: ignore[assignment]  # Keras calls it so

    @property
    def precision(self) -> None:
        return None

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return self.dtype

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return cast(x, "", self.dtype)
