"""Reductions over axes; never over the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from regspec.code.axes import Order
from regspec.code.expressions import Expression, Part, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import Axes, Fraction, Number
from regspec.layers.families import Moved
from regspec.layers.following import order_without
from regspec.layers.kinds import operation
from regspec.layers.operations.operands import cast, made
from regspec.layers.ties import Place, Tie, Ties, rearranged


def inner_dimension(axis: int, x: Symbol) -> int:
    """The dimension in torch of an axis as a spec counts it, which may not be the batch. Raises `ShapeError`."""
    return keras_dimension(x.keras_axis(axis), x)


def keras_dimension(axis: int, x: Symbol) -> int:
    """The dimension in torch of an axis as Keras counts it, which may not be the batch. Raises `ShapeError`."""
    dimension = x.dimension(axis)
    if dimension == 0:
        raise ShapeError(
            f"has axis {axis}, which is the batch of {x.described}", "a layer works on each example by itself"
        )
    return dimension


def shown(dimension: int, x: Symbol) -> int:
    """A dimension as it is written: the last as -1."""
    return -1 if dimension == x.rank - 1 else dimension


class Reduction(Moved):
    """A function over one or several axes."""

    example = "{axis: 1}"

    axis: Axes = Field(description="The axis to reduce, or several; 1 is the first after the batch.")
    keepdims: bool = Field(False, description="Whether the axes stay, with the size 1.")

    function: ClassVar[str]  # a method of tensors

    def keras_fields(self, *xs: Symbol) -> dict[str, object]:
        """A single axis as one number."""
        return {"axis": self.axis[0]} if len(self.axis) == 1 else {}

    def dimensions(self, x: Symbol) -> tuple[int, ...]:
        """The dimensions in torch that are reduced."""
        return tuple(sorted({inner_dimension(axis, x) for axis in self.axis}))

    is_counted_by_spec = True

    def order(self, x: Symbol) -> Order | None:
        reduced = {x.order[dimension] for dimension in self.dimensions(x)}
        kept, counted = ([axis for axis in order if axis not in reduced] for order in (x.order, x.spec_order))
        return None if self.keepdims or kept == counted else x.spec_order

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        x = xs[0]
        reduced = set() if self.keepdims else {x.spec_axis(x.order[dimension]) for dimension in self.dimensions(x)}
        return order_without(x, reduced)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape | list[Shape]:
        return self.reduced_shape(x)

    def reduced_shape(self, x: Symbol) -> Shape:
        """The shape without the axes, or with ones in their place."""
        reduced = self.dimensions(x)
        if self.keepdims:
            return tuple(1 if index in reduced else size for index, size in enumerate(x.shape))
        return tuple(size for index, size in enumerate(x.shape) if index not in reduced)

    def ties_to(self, outputs: Sequence[Symbol], x: Symbol, *_: Symbol) -> Ties | None:
        reduced = self.dimensions(x)
        if not self.keepdims:
            return rearranged(x, outputs, [each for each in range(x.rank) if each not in reduced])
        kept = [(x.order[each], x.shape[each]) for each in range(1, x.rank) if each not in reduced]
        given = range(len(outputs))
        return Ties(tuple(Tie(n, (Place(0, a), *(Place(~i, a) for i in given))) for a, n in kept if n is not None))

    def dim(self, x: Symbol) -> int | tuple[int, ...]:
        """The argument ``dim`` of torch's functions."""
        dimensions = self.dimensions(x)
        return dimensions if len(dimensions) > 1 else shown(dimensions[0], x)

    def lower(self, x: Symbol, *_: Symbol) -> Expression | list[Expression]:
        return self.reduced(x)

    def reduced(self, x: Symbol) -> Expression:
        """The reduction by torch's own function."""
        return x.method(self.function, dim=self.dim(x), keepdim=unless(False, self.keepdims))


class Whole(Reduction):
    """A reduction whose result has the type of its input; smaller whole numbers and truth values give int32."""

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return x.dtype if x.is_floating or x.dtype == "int64" else "int32"

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return cast(self.reduced(x), x.dtype if x.is_floating else "int64", self.output_dtype(x))


class FloatReduction(Reduction):
    """A reduction of floating-point numbers; whole numbers are converted."""

    @property
    def takes_integers(self) -> bool:
        return False

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return x.dtype


class Truth(Reduction):
    """A reduction to truth values."""

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return "bool"


Sum = made(Whole, "Sum", "The sum over axes.", function="sum")
Nansum = made(Whole, "Nansum", "The sum over axes, without nan.", function="nansum")
Mean = made(FloatReduction, "Mean", "The mean over axes.", function="mean")
Nanmean = made(FloatReduction, "Nanmean", "The mean over axes, without nan.", function="nanmean")
Logsumexp = made(
    FloatReduction, "Logsumexp", "log(sum(exp(x))) over axes.", function="logsumexp", keras_operation="math"
)
Any = made(Truth, "Any", "Whether any number over axes is not 0.", function="any")
All = made(Truth, "All", "Whether all numbers over axes are not 0.", function="all")


@operation
class Prod(Whole):
    """The product over axes."""

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        result: Expression = x
        for dimension in reversed(self.dimensions(x)):
            result = result.method("prod", dim=dimension, keepdim=unless(False, self.keepdims))
        return cast(result, x.dtype if x.is_floating else "int64", self.output_dtype(x))


class Extreme(Reduction):
    """The largest or smallest number over axes."""

    initial: Number | None = Field(None, description="A number that takes part besides; none when absent.")

    bound: ClassVar[str]

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return x.dtype

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        result = self.reduced(x)
        if self.initial is None:
            return result
        initial = self.initial if x.is_floating else int(self.initial)
        return result.method("clamp", **{self.bound: initial})


Max = made(Extreme, "Max", "The largest number over axes.", function="amax", bound="min")
Min = made(Extreme, "Min", "The smallest number over axes.", function="amin", bound="max")


@operation
class Ptp(Reduction):
    """The largest number over axes less the smallest."""

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        largest, smallest = (
            x.method(method, dim=self.dim(x), keepdim=unless(False, self.keepdims)) for method in ("amax", "amin")
        )
        return largest - smallest


class Spread(FloatReduction):
    """The variance or its root: the mean of squares, without Bessel's correction."""

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method(self.function, dim=self.dim(x), correction=0, keepdim=unless(False, self.keepdims))


Std = made(Spread, "Std", "The standard deviation over axes, without Bessel's correction.", function="std")
Var = made(Spread, "Var", "The variance over axes, without Bessel's correction.", function="var")


@operation
class Moments(FloatReduction):
    """The mean over axes, and the variance as a second output."""

    keras_operation = "nn"

    example = "{axes: 1}"

    axis: Axes = Field(alias="axes", description="The axis to reduce, or several; 1 is the first after the batch.")

    def output_shape(self, x: Symbol, *_: Symbol) -> list[Shape]:
        return [self.reduced_shape(x)] * 2

    def lower(self, x: Symbol, *_: Symbol) -> list[Expression]:
        keepdim = unless(False, self.keepdims)
        whole = call("torch.var_mean", x, dim=self.dim(x), correction=0, keepdim=keepdim)
        return [Part(whole, ("variance", "mean"), (1,)), Part(whole, ("variance", "mean"), (0,))]


@operation
class CountNonzero(Reduction):
    """How many numbers over axes are not 0."""

    own_fields = frozenset({"keepdims"})

    keepdims: Literal[False] = Field(False, description="The axes do not stay.")

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return "int32"

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method("count_nonzero", dim=self.dim(x)).method("int")


@operation
class Quantile(FloatReduction):
    """The number below which a share of the numbers over axes lies."""

    own_fields = frozenset({"method"})  # which Keras forgets in a model

    called_with = ("q",)

    example = "{axis: 1, q: 0.9}"

    q: Fraction = Field(description="The share; 0.5 gives the median.")
    method: Literal["linear", "lower", "higher", "nearest", "midpoint"] = Field(
        "linear", description="What is taken between two numbers."
    )

    function = "quantile"

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return quantile(x, self.function, self.dimensions(x), self.q, self.method, self.keepdims)


@operation
class Nanquantile(Quantile):
    """The number below which a share of the numbers over axes lies that are not nan."""

    function = "nanquantile"


@operation
class Median(FloatReduction):
    """The median over axes: of an even number of them the mean of the middle two."""

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return quantile(x, "quantile", self.dimensions(x), 0.5, "linear", self.keepdims)


def quantile(
    x: Symbol, function: str, dimensions: tuple[int, ...], q: float, method: str, keepdims: bool
) -> Expression:
    """The quantile over dimensions; torch's function takes one, so several are flattened into one."""
    interpolation = unless("linear", method)
    if len(dimensions) == 1:
        dim = shown(dimensions[0], x)
        return x.method(function, q, dim=dim, keepdim=unless(False, keepdims), interpolation=interpolation)
    kept = [index for index in range(x.rank) if index not in dimensions]
    moved = x if kept == [*range(len(kept))] else x.method("permute", *kept, *dimensions)
    result: Expression = moved.method("flatten", -len(dimensions)).method(
        function, q, dim=-1, interpolation=interpolation
    )
    for dimension in dimensions if keepdims else ():
        result = result.method("unsqueeze", dimension)
    return result


@operation
class Norm(FloatReduction):
    """The norm over an axis, or of the matrices in two axes."""

    keras_operation = "linalg"

    main = "ord"

    ord: Literal["fro", "nuc", "inf", "-inf"] | Number | None = Field(
        None, description="The order: 2 for vectors and fro for matrices when absent."
    )

    def keras_fields(self, *xs: Symbol) -> dict[str, object]:
        order = float(self.ord) if self.ord in ("inf", "-inf") else self.ord
        return {**super().keras_fields(*xs), "ord": order}

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        if len(self.axis) > 2:
            raise ShapeError(f"takes the norm over one axis or two, but {len(self.axis)} are given")
        return self.reduced_shape(x)

    def order(self, x: Symbol) -> Order | None:
        return x.spec_order

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        order = float(self.ord) if self.ord in ("inf", "-inf") else self.ord
        # of a matrix's axes the first holds its rows
        dims = tuple(inner_dimension(axis, x) for axis in self.axis)
        dim = shown(dims[0], x) if len(dims) == 1 else dims
        return call("torch.linalg.norm", x, ord=unless(None, order), dim=dim, keepdim=unless(False, self.keepdims))
