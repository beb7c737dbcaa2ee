"""Functions along an axis: running sums, orders, places in an order, normalization."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import Expression, Part, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol, windowed
from regspec.language.fields import Axes, Axis, Number, Positive, Sequence, Size
from regspec.layers.families import Moved
from regspec.layers.following import order_without
from regspec.layers.kinds import operation
from regspec.layers.layer import KerasCall, Layer
from regspec.layers.operations.operands import MAX_NUMBERS, cast, made, promoted, value
from regspec.layers.operations.reductions import inner_dimension, keras_dimension, shown


class Along(Moved):
    """A function along one axis, which stays."""

    axis: Axis = Field(-1, description="The axis; 1 is the first after the batch.")

    def order(self, x: Symbol) -> Order | None:
        return None

    axis_fields = ("axis",)

    def dimension(self, x: Symbol) -> int:
        """The dimension in torch of the axis; of the features where none is said."""
        return keras_dimension(self.axis, x)

    def dim(self, x: Symbol) -> int:
        """The argument ``dim`` of torch's functions."""
        return shown(self.dimension(x), x)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape | list[Shape]:
        self.dimension(x)
        return x.shape


class Running(Along):
    """A running sum or product."""

    example = "{axis: 1}"

    axis: Axis = Field(description="The axis along which it runs; 1 is the first after the batch.")

    function: ClassVar[str]

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return promoted(x.dtype, 0)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return cast(
            x.method(self.function, dim=self.dim(x)), x.dtype if x.is_floating else "int64", self.output_dtype(x)
        )


Cumsum = made(Running, "Cumsum", "The sum of the numbers up to each one.", function="cumsum")
Cumprod = made(Running, "Cumprod", "The product of the numbers up to each one.", function="cumprod")


@operation
class Diff(Along):
    """The difference between each number and the one before it."""

    main = "n"

    n: Size = Field(1, description="How often the difference is taken.")

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        dimension = self.dimension(x)
        size = x.shape[dimension]
        if size is not None and size <= self.n:
            raise ShapeError(f"takes differences {self.n} times, which leaves nothing of {x.described}")
        return tuple(old if index != dimension or old is None else old - self.n for index, old in enumerate(x.shape))

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return x.dtype

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method("diff", n=unless(1, self.n), dim=unless(-1, self.dim(x)))


@operation
class Sort(Along):
    """The numbers in rising order."""

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return x.dtype

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Part(x.method("sort", dim=unless(-1, self.dim(x))), ("values", "indices"), (0,))


@operation
class Argsort(Along):
    """The places of the numbers in rising order; of equal ones the first comes first."""

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return "int32"

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method("argsort", dim=unless(-1, self.dim(x)), stable=True).method("int")


@operation
class TopK(Moved):
    """The largest numbers of the last axis, the largest first, and their places as a second output."""

    keras_operation = "math"

    example = "{k: 3}"

    k: Size = Field(description="How many.")
    sorted: bool = Field(True, description="Whether they are in order.")

    def output_shape(self, x: Symbol, *_: Symbol) -> list[Shape]:
        inner_dimension(x.spec_axis(-1), x)
        size = x.shape[-1]
        if size is not None and size < self.k:
            raise ShapeError(f"takes the {self.k} largest numbers of the last axis of {x.described}")
        return [(*x.shape[:-1], self.k)] * 2

    def output_dtype(self, x: Symbol, *_: Symbol) -> list[str]:  # type: ignore[override]  # one type an output
        return [x.dtype, "int32"]

    def lower(self, x: Symbol, *_: Symbol) -> list[Expression]:
        whole = x.method("topk", self.k, sorted=unless(True, self.sorted))
        values, places = (Part(whole, ("values", "indices"), (index,)) for index in (0, 1))
        return [values, places.method("int")]


class ArgExtreme(Layer):
    """The place of a number along an axis, which goes."""

    own_fields = frozenset({"dtype"})

    example = "{axis: -1}"

    axis: Axis = Field(description="The axis to reduce; 1 is the first after the batch.")
    keepdims: bool = Field(False, description="Whether the axis stays, with the size 1.")
    dtype: Literal["int32", "int64"] = Field("int32", description="The type of the place.")  # type: ignore[assignment]  # narrower than of any layer

    function: ClassVar[str]
    is_counted_by_spec = True

    @property
    def takes_integers(self) -> bool:
        return True

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        dimension = inner_dimension(self.axis, x)
        return (*x.shape[:dimension], *((1,) if self.keepdims else ()), *x.shape[dimension + 1 :])

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        gone = set() if self.keepdims else {inner_dimension(self.axis, xs[0])}
        return order_without(xs[0], gone)

    @property
    def precision(self) -> None:
        return None

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return self.dtype

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        number = x.method("byte") if x.dtype == "bool" else x
        place = number.method(
            self.function, dim=shown(inner_dimension(self.axis, x), x), keepdim=unless(False, self.keepdims)
        )
        return cast(place, "int64", self.dtype)


Argmax = made(ArgExtreme, "Argmax", "The place of the largest number.", function="argmax")
Argmin = made(ArgExtreme, "Argmin", "The place of the smallest number.", function="argmin")


@operation
class Normalize(Layer):
    """x / max(norm(x), epsilon) along an axis."""

    keras_operation = "nn"

    axis: Axes = Field((-1,), description="The axis, or several together; 1 is the first after the batch.")
    axis_fields = ("axis",)

    norm_order: int = Field(2, alias="order", ge=1, le=64, description="The order of the norm.")
    epsilon: Positive | None = Field(None, description="What the norm is at least; 1e-7 when absent.")

    def order(self, x: Symbol) -> Order | None:
        return None

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        if self.norm_order != 2 and len(self.axis) > 1:
            raise ShapeError(f"takes a norm of order {self.norm_order} along one axis, but {len(self.axis)} are given")
        self._dimensions(x)
        return x.shape

    def _dimensions(self, x: Symbol) -> tuple[int, ...]:
        return tuple(sorted({keras_dimension(axis, x) for axis in self.axis}))

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return x.dtype

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        dimensions = self._dimensions(x)
        dim = dimensions if len(dimensions) > 1 else shown(dimensions[0], x)
        epsilon = 1e-7 if self.epsilon is None else self.epsilon
        return call(
            "F.normalize", x, p=unless(2.0, float(self.norm_order)), dim=unless(1, dim), eps=unless(1e-12, epsilon)
        )


class Intervals(Moved):
    """The places of numbers among boundaries."""

    def order(self, x: Symbol) -> Order | None:
        return None

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return "int32"


Boundaries = Annotated[tuple[Number, ...], Sequence]


@operation
class Digitize(Intervals):
    """The number of the interval in which each number lies; a boundary belongs to the upper one."""

    called_with = ("bins",)

    example = "{bins: [0.0, 0.5, 1.0]}"

    bins: Boundaries = Field(min_length=1, max_length=MAX_NUMBERS, description="The boundaries, in rising order.")

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        number = x.method("byte") if x.dtype == "bool" else x
        return call("torch.bucketize", number, value("bins", self.bins), right=True).method("int")


@operation
class SearchSorted(Intervals):
    """The place in a sorted sequence at which each number would be put."""

    keras_function = "searchsorted"
    called_with = ("sorted_sequence",)

    example = "{sorted_sequence: [0.0, 0.5, 1.0]}"

    sorted_sequence: Boundaries = Field(
        min_length=1, max_length=MAX_NUMBERS, description="The numbers of the sequence, in rising order."
    )
    side: Literal["left", "right"] = Field("left", description="Whether it is put before or after equal ones.")

    def keras_call(self, *tensors: object) -> KerasCall:
        return (self.sorted_sequence, *tensors), {}

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        sequence = value("sorted_sequence", self.sorted_sequence)
        return call("torch.searchsorted", sequence, x, side=unless("left", self.side), out_int32=True)


@operation
class Trapezoid(Layer):
    """The integral along an axis by the trapezoidal rule."""

    main = None

    axis: Axis = Field(-1, description="The axis to reduce; 1 is the first after the batch.")
    dx: Number = Field(1.0, description="The distance between two numbers.")

    axis_fields = ("axis",)

    def order(self, x: Symbol) -> Order | None:
        return x.spec_order

    def _dimension(self, x: Symbol) -> int:
        return keras_dimension(self.axis, x)

    def output_order(self, rank: int, x: Symbol, *_: Symbol) -> Order:
        return self.output_spec_order(rank, x) or axes.identity(rank)

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        x = xs[0]
        return order_without(x, {x.spec_axis(x.order[self._dimension(x)])})

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        dimension = self._dimension(x)
        return (*x.shape[:dimension], *x.shape[dimension + 1 :])

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return x.dtype

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        dim = shown(self._dimension(x), x)
        return call("torch.trapezoid", x, dx=unless(1.0, self.dx), dim=unless(-1, dim))


@operation
class ExtractSequences(Moved):
    """Windows of the last axis, one below the other along a new axis before it."""

    keras_operation = "math"

    example = "{sequence_length: 4, sequence_stride: 2}"

    sequence_length: Size = Field(description="The length of a window.")
    sequence_stride: Size = Field(description="How far apart windows begin.")

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        inner_dimension(x.spec_axis(-1), x)
        count = windowed(x.shape[-1], self.sequence_length, self.sequence_stride, is_padded=False)
        if count is not None and count < 1:
            raise ShapeError(f"takes windows of {self.sequence_length} from the last axis of {x.described}")
        return (*x.shape[:-1], count, self.sequence_length)

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return x.dtype

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method("unfold", -1, self.sequence_length, self.sequence_stride)
