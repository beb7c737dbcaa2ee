"""Operations on two operands at the same place: arithmetic, comparisons, logic, bits, and the choice between two."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from regspec.code.expressions import Binary, Expression, Value, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import NotNegative
from regspec.layers.kinds import operation
from regspec.layers.operations.operands import (
    Array,
    Numbers,
    Operand,
    Operands,
    cast,
    converted,
    dtypes,
    made,
    promoted,
    same_shape,
    value,
)


class Pair(Operands):
    """A function of two operands, of which one may be given as numbers."""

    main = None
    example = "{inputs: [a, b]}"

    x1: Operand | None = Field(
        None, description="The first operand, if it is given as numbers: one, or lists aligned with the last axes."
    )
    x2: Operand | None = Field(
        None, description="The second operand, if it is given as numbers: one, or lists aligned with the last axes."
    )

    operands: ClassVar[tuple[str, ...]] = ("x1", "x2")
    verb: ClassVar[str] = "combine"

    def output_shape(self, *xs: Symbol) -> Shape:
        return same_shape(self.verb, *self.named(xs).values())

    def output_dtype(self, *xs: Symbol) -> str:
        return promoted(*dtypes(self.named(xs).values()))

    def lower(self, *xs: Symbol) -> Expression:
        return self.combined(*(self.taken(name, each, xs) for name, each in self.named(xs).items()))

    def taken(self, name: str, operand: Symbol | Numbers, xs: tuple[Symbol, ...]) -> Value:
        """An operand as the function takes it."""
        return value(name, operand, like=xs[0])

    def combined(self, x1: Value, x2: Value) -> Expression:
        """The expression of both operands."""
        raise NotImplementedError


# -- arithmetic --------------------------------------------------------------------------------------------------------


def as_number(operand: Symbol | Numbers, taken: Value, dtype: str) -> Value:
    """An operand of arithmetic whose result has a type: truth values count as numbers of that type."""
    if isinstance(operand, Symbol) and operand.dtype == "bool" and isinstance(taken, Expression):
        return cast(taken, "bool", dtype)
    return taken


class Arithmetic(Pair):
    """``x1 operator x2``; truth values count as whole numbers."""

    example = "{x2: 2}"

    operator: ClassVar[str]

    def output_dtype(self, *xs: Symbol) -> str:
        return promoted(*dtypes(self.named(xs).values()), 0)

    def taken(self, name: str, operand: Symbol | Numbers, xs: tuple[Symbol, ...]) -> Value:
        return as_number(operand, value(name, operand, like=xs[0]), self.output_dtype(*xs))

    def combined(self, x1: Value, x2: Value) -> Expression:
        return Binary(self.operator, x1, x2)


class Fractional(Arithmetic):
    """Arithmetic whose result is a floating-point number."""

    @property
    def takes_integers(self) -> bool:
        return False


Divide = made(Fractional, "Divide", "The quotient x1 / x2.", operator="/", verb="divide")
Power = made(Arithmetic, "Power", "The power x1 ** x2.", operator="**", verb="raise")


class Rounded(Arithmetic):
    """A quotient rounded down, or its remainder. A number x1 becomes a tensor: torch has no gradient of ``1 // x``."""

    verb = "divide"

    def taken(self, name: str, operand: Symbol | Numbers, xs: tuple[Symbol, ...]) -> Value:
        if not isinstance(operand, Symbol) and name == "x1" and "float" in self.output_dtype(*xs):
            return value(name, converted(operand, float), like=xs[0], held=True)
        return super().taken(name, operand, xs)


Mod = made(Rounded, "Mod", "The remainder x1 % x2, which has the sign of x2.", operator="%")


@operation
class FloorDivide(Rounded):
    """The quotient x1 // x2, rounded down."""

    operator = "//"

    def lower(self, *xs: Symbol) -> Expression:
        if "float" not in self.output_dtype(*xs):
            return super().lower(*xs)
        x1, x2 = (self.taken(name, each, xs) for name, each in self.named(xs).items())
        assert isinstance(x1, Expression)
        return x1.method("div", x2, rounding_mode="floor")  # whose gradient is zero; that of // raises


@operation
class DivideNoNan(Fractional):
    """The quotient x1 / x2, and 0 where x2 is 0."""

    operator = "/"
    verb = "divide"

    def combined(self, x1: Value, x2: Value) -> Expression:
        if not isinstance(x2, Expression):
            return Binary("/", x1, x2) if x2 else Binary("*", x1, 0.0)
        # the denominator is replaced too: with torch.where alone, the gradient would be nan
        is_zero = Binary("==", x2, 0)
        return call("torch.where", is_zero, 0.0, Binary("/", x1, x2.method("masked_fill", is_zero, 1.0)))


# -- functions of two floating-point numbers, or of two whole ones -----------------------------------------------------


class Joint(Pair):
    """A function of torch's of two tensors."""

    function: ClassVar[str]

    def taken(self, name: str, operand: Symbol | Numbers, xs: tuple[Symbol, ...]) -> Value:
        return value(name, operand, like=xs[0], held=True)

    def combined(self, x1: Value, x2: Value) -> Expression:
        return call(self.function, x1, x2)


class JointFloat(Joint):
    """A function of torch's of two tensors of floating-point numbers."""

    @property
    def takes_integers(self) -> bool:
        return False

    def taken(self, name: str, operand: Symbol | Numbers, xs: tuple[Symbol, ...]) -> Value:
        return value(name, operand if isinstance(operand, Symbol) else converted(operand, float), like=xs[0], held=True)


@operation
class Heaviside(JointFloat):
    """0 where x1 is negative, x2 where it is 0, else 1; it has no gradient."""

    function = "torch.heaviside"

    def combined(self, x1: Value, x2: Value) -> Expression:
        return super().combined(*(each.method("detach") if isinstance(each, Symbol) else each for each in (x1, x2)))


class JointInteger(Joint):
    """A function of torch's of two tensors of whole numbers."""

    def output_shape(self, *xs: Symbol) -> Shape:
        _check_whole(self, *xs)
        return super().output_shape(*xs)


def _check_whole(layer: Pair, *xs: Symbol) -> None:
    """Raises `ShapeError` where an operand is no whole number."""
    if "float" in promoted(*dtypes(layer.named(xs).values())):
        given = " and ".join(f"'{x.source}' of {x.dtype}" for x in xs)
        raise ShapeError(f"takes whole numbers, but is given {given}", "put a Cast before")


Arctan2 = made(JointFloat, "Arctan2", "The angle of the point (x2, x1), from -pi to pi.", function="torch.arctan2")
Hypot = made(JointFloat, "Hypot", "sqrt(x1**2 + x2**2).", function="torch.hypot")
Logaddexp = made(JointFloat, "Logaddexp", "log(exp(x1) + exp(x2)).", function="torch.logaddexp")
Logaddexp2 = made(JointFloat, "Logaddexp2", "log2(2**x1 + 2**x2).", function="torch.logaddexp2")
Ldexp = made(JointFloat, "Ldexp", "x1 * 2**x2.", function="torch.ldexp")
Fmod = made(Joint, "Fmod", "The remainder of x1 / x2, which has the sign of x1.", function="torch.fmod")
Fmax = made(Joint, "Fmax", "The larger operand; where one is nan, the other.", function="torch.fmax")
Fmin = made(Joint, "Fmin", "The smaller operand; where one is nan, the other.", function="torch.fmin")
Gcd = made(JointInteger, "Gcd", "The greatest common divisor of whole numbers.", function="torch.gcd")
Lcm = made(JointInteger, "Lcm", "The least common multiple of whole numbers.", function="torch.lcm")


# -- comparisons -------------------------------------------------------------------------------------------------------


class Comparison(Pair):
    """Whether ``x1 operator x2``."""

    example = "{x2: 0}"

    operator: ClassVar[str]
    verb = "compare"

    def output_dtype(self, *xs: Symbol) -> str:
        return "bool"

    def combined(self, x1: Value, x2: Value) -> Expression:
        mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
        if not isinstance(x1, Expression):  # the number stands right, where a reader looks for it
            return Binary(mirrored.get(self.operator, self.operator), x2, _plain(x1))
        return Binary(self.operator, x1, _plain(x2))


def _plain(operand: Value) -> Value:
    """A truth value as a number, because nobody compares with True."""
    return int(operand) if isinstance(operand, bool) else operand


Equal = made(Comparison, "Equal", "Whether x1 == x2.", operator="==")
NotEqual = made(Comparison, "NotEqual", "Whether x1 != x2.", operator="!=")
Greater = made(Comparison, "Greater", "Whether x1 > x2.", operator=">")
GreaterEqual = made(Comparison, "GreaterEqual", "Whether x1 >= x2.", operator=">=")
Less = made(Comparison, "Less", "Whether x1 < x2.", operator="<")
LessEqual = made(Comparison, "LessEqual", "Whether x1 <= x2.", operator="<=")


@operation
class Isclose(JointFloat):
    """Whether abs(x1 - x2) <= atol + rtol * abs(x2)."""

    called_with = ("rtol", "atol")

    rtol: NotNegative = Field(1e-5, description="The tolerance in proportion to x2.")
    atol: NotNegative = Field(1e-8, description="The absolute tolerance.")
    equal_nan: bool = Field(False, description="Whether nan is close to nan.")

    def output_dtype(self, *xs: Symbol) -> str:
        return "bool"

    def combined(self, x1: Value, x2: Value) -> Expression:
        return call(
            "torch.isclose",
            x1,
            x2,
            rtol=unless(1e-5, self.rtol),
            atol=unless(1e-8, self.atol),
            equal_nan=unless(False, self.equal_nan),
        )


# -- logic and bits ----------------------------------------------------------------------------------------------------


class Logical(Pair):
    """``x1 operator x2`` of truth values; any number but 0 is true."""

    operator: ClassVar[str]

    def output_dtype(self, *xs: Symbol) -> str:
        return "bool"

    def taken(self, name: str, operand: Symbol | Numbers, xs: tuple[Symbol, ...]) -> Value:
        if isinstance(operand, Symbol):
            return cast(operand, operand.dtype, "bool")
        taken = value(name, converted(operand, bool), like=xs[0])
        return taken.method("bool") if isinstance(operand, Array) and isinstance(taken, Expression) else taken

    def combined(self, x1: Value, x2: Value) -> Expression:
        return Binary(self.operator, x1, x2)


class Bitwise(Pair):
    """``x1 operator x2`` of the bits of whole numbers."""

    example = "{x2: 2}"

    operator: ClassVar[str]

    def output_shape(self, *xs: Symbol) -> Shape:
        _check_whole(self, *xs)
        return super().output_shape(*xs)

    def taken(self, name: str, operand: Symbol | Numbers, xs: tuple[Symbol, ...]) -> Value:
        return as_number(operand, value(name, operand, like=xs[0]), self.output_dtype(*xs))

    def combined(self, x1: Value, x2: Value) -> Expression:
        return Binary(self.operator, x1, x2)


LogicalAnd = made(Logical, "LogicalAnd", "Whether both operands are true.", operator="&")
LogicalOr = made(Logical, "LogicalOr", "Whether one or both of the operands are true.", operator="|")
LogicalXor = made(Logical, "LogicalXor", "Whether one operand is true and the other is not.", operator="^")
BitwiseAnd = made(Bitwise, "BitwiseAnd", "The bits that both whole numbers have.", operator="&")
BitwiseOr = made(Bitwise, "BitwiseOr", "The bits that one or both of the whole numbers have.", operator="|")
BitwiseXor = made(Bitwise, "BitwiseXor", "The bits that one of the whole numbers has.", operator="^")
BitwiseLeftShift = made(Bitwise, "BitwiseLeftShift", "The whole number x1 * 2**x2.", operator="<<")
BitwiseRightShift = made(Bitwise, "BitwiseRightShift", "The whole number x1 // 2**x2.", operator=">>")


# -- a choice ----------------------------------------------------------------------------------------------------------


@operation
class Where(Pair):
    """x1 where the condition is true, x2 elsewhere; the condition is the first input."""

    example = "{inputs: [condition, a, b]}"
    operands = ("condition", "x1", "x2")

    def output_shape(self, *xs: Symbol) -> Shape:
        return same_shape("choose between", *self.named(xs).values())

    def output_dtype(self, *xs: Symbol) -> str:
        _, *choices = self.named(xs).values()
        return promoted(*dtypes(choices))

    def lower(self, *xs: Symbol) -> Expression:
        condition, named = xs[0], self.named(xs)
        x1, x2 = (value(name, named[name], like=condition) for name in ("x1", "x2"))
        chosen = call("torch.where", cast(condition, condition.dtype, "bool"), x1, x2)
        wanted = self.output_dtype(*xs)
        # from single whole numbers alone, torch makes int64 and Keras int32
        made_of = promoted(*dtypes(named[name] for name in ("x1", "x2") if not isinstance(named[name], int)), False)
        return chosen if made_of != "bool" or wanted == "bool" else cast(chosen, "int64", wanted)
