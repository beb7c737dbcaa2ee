"""Several tensors as one, one as several, and parts of the matrices in two axes."""

from __future__ import annotations

import operator
from itertools import pairwise
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from regspec.code.axes import Order
from regspec.code.expressions import Expression, Part, call
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import MAX_SIZE, Axis, Size
from regspec.layers.following import order_after, order_without
from regspec.layers.kinds import operation
from regspec.layers.layer import KerasCall
from regspec.layers.operations.operands import cast, made
from regspec.layers.operations.rearranging import Rearranged
from regspec.layers.operations.reductions import inner_dimension, shown
from regspec.layers.reshaping import tuples

MAX_PARTS = 1_000  # of a tensor that is taken apart


@operation
class Stack(Rearranged):
    """The inputs one after the other along a new axis."""

    example = "{axis: 1, inputs: [a, b]}"

    axis: Axis = Field(description="The place of the new axis in the output.")

    arity = (1, None)

    def keras_call(self, *tensors: object) -> KerasCall:
        return ([*tensors],), {}

    def _dimension(self, x: Symbol) -> int:
        rank = x.rank + 1
        if not -rank <= self.axis < rank or self.axis % rank == 0:
            raise ShapeError(f"adds axis {self.axis} to {x.described}", "1 is the first after the batch")
        return self.axis % rank

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        dimension = self._dimension(x)
        merged = []
        for sizes in zip(*(each.shape for each in (x, *others)), strict=len({x.rank, *(y.rank for y in others)}) == 1):
            known = {*sizes} - {None}
            merged.append(known)
        if len({each.rank for each in (x, *others)}) > 1 or any(len(known) > 1 for known in merged):
            raise ShapeError(f"can't stack {' and '.join(each.named for each in (x, *others))}")
        shape = [next(iter(known), None) for known in merged]
        return (*shape[:dimension], 1 + len(others), *shape[dimension:])

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        before = self._dimension(xs[0])
        one, *others = (order_after(x, (*range(before), None, *range(before, x.rank))) for x in xs)
        return None if any(each != one for each in others) else one

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        dimension = self._dimension(x)
        return call("torch.stack", [x, *others], dim=-1 if dimension == x.rank else dimension)


class Parted(Rearranged):
    """The input in parts along an axis: several outputs."""

    axis: Axis = Field(description="The axis; 1 is the first after the batch.")

    def parts(self, whole: Expression, count: int) -> list[Expression]:
        """The parts of what torch gives as a tuple."""
        structure = tuple(map(str, range(count)))
        return [Part(whole, structure, (index,)) for index in range(count)]

    def dim(self, x: Symbol) -> int:
        """The argument ``dim`` of torch's functions."""
        return shown(inner_dimension(self.axis, x), x)


Sections = Annotated[
    Annotated[int, Field(ge=1, le=MAX_PARTS)] | tuple[Size, ...],
    BeforeValidator(tuples),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "array", "items": {"type": "integer"}, "minItems": 1}]}
    ),
]


@operation
class ArraySplit(Parted):
    """The input in parts along an axis; the first are longer by one where they can't be equal."""

    main = "indices_or_sections"
    example = "{indices_or_sections: 3, axis: 1}"

    indices_or_sections: Sections = Field(description="How many parts, or the places at which it is cut.")

    @model_validator(mode="after")
    def _rises(self) -> ArraySplit:
        cuts = self.indices_or_sections
        if isinstance(cuts, tuple) and (not cuts or len(cuts) >= MAX_PARTS or any(map(operator.ge, cuts, cuts[1:]))):
            raise PydanticCustomError("order", "needs the places of its cuts in rising order")
        return self

    def _sizes(self, x: Symbol) -> list[int | None]:
        """The sizes of the parts along the axis."""
        cuts, size = self.indices_or_sections, x.shape[inner_dimension(self.axis, x)]
        if isinstance(cuts, int):
            if size is None:
                return [None] * cuts
            return [size // cuts + (index < size % cuts) for index in range(cuts)]
        sizes = [after - before for before, after in pairwise((0, *cuts))]
        return [*sizes, None if size is None else size - cuts[-1]]

    def output_shape(self, x: Symbol, *_: Symbol) -> list[Shape]:
        sizes, dimension = self._sizes(x), inner_dimension(self.axis, x)
        if any(size is not None and size < 1 for size in sizes):
            raise ShapeError(f"cuts axis {self.axis} into parts of which one is empty, of {x.described}")
        return [(*x.shape[:dimension], size, *x.shape[dimension + 1 :]) for size in sizes]

    def lower(self, x: Symbol, *_: Symbol) -> list[Expression]:
        whole = x.method("tensor_split", self.indices_or_sections, dim=self.dim(x))
        return self.parts(whole, len(self._sizes(x)))


@operation
class Split(ArraySplit):
    """The input in equal parts along an axis, or cut at places."""

    def output_shape(self, x: Symbol, *_: Symbol) -> list[Shape]:
        cuts, size = self.indices_or_sections, x.shape[inner_dimension(self.axis, x)]
        if isinstance(cuts, int) and size is not None and size % cuts:
            raise ShapeError(f"cuts axis {self.axis} into {cuts} equal parts, which does not fit {x.described}")
        return super().output_shape(x)

    def lower(self, x: Symbol, *_: Symbol) -> list[Expression]:
        if not isinstance(self.indices_or_sections, int):
            return super().lower(x)
        return self.parts(x.method("chunk", self.indices_or_sections, dim=self.dim(x)), self.indices_or_sections)


@operation
class Unstack(Parted):
    """The slices of the input along an axis, which goes: an output for each."""

    keras_operation = "core"

    main = "num"
    example = "{axis: 1}"

    num: Size | None = Field(None, description="How many there are; the size of the axis when absent.")

    def _count(self, x: Symbol) -> int:
        size = x.shape[inner_dimension(self.axis, x)]
        count = size or self.num
        if count is None or (self.num is not None and count != self.num) or count > MAX_PARTS:
            raise ShapeError(f"takes {self.num or 'the'} slices along axis {self.axis} of {x.described}")
        return count

    def output_shape(self, x: Symbol, *_: Symbol) -> list[Shape]:
        dimension = inner_dimension(self.axis, x)
        return [(*x.shape[:dimension], *x.shape[dimension + 1 :])] * self._count(x)

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        return order_without(xs[0], {inner_dimension(self.axis, xs[0])})

    def lower(self, x: Symbol, *_: Symbol) -> list[Expression]:
        return self.parts(x.method("unbind", self.dim(x)), self._count(x))


# -- matrices in the last axes -----------------------------------------------------------------------------------------


class Triangle(Rearranged):
    """A triangle of the matrices in the last two axes."""

    k: int = Field(0, ge=-MAX_SIZE, le=MAX_SIZE, description="The diagonal at which it ends; 0 is the main one.")

    function: ClassVar[str]

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        inner_dimension(-2, x)
        return x.shape

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method(self.function, *([self.k] if self.k else []))


Tril = made(Triangle, "Tril", "The lower triangle of the matrices in the last two axes, else 0.", function="tril")
Triu = made(Triangle, "Triu", "The upper triangle of the matrices in the last two axes, else 0.", function="triu")


@operation
class Diagonal(Rearranged):
    """The diagonals of the matrices in two axes, along a new last axis."""

    main = "offset"

    example = "{axis1: 1, axis2: 2}"

    offset: int = Field(0, ge=-MAX_SIZE, le=MAX_SIZE, description="How far above the main diagonal.")
    axis1: Axis = Field(description="The axis of the rows; 1 is the first after the batch.")
    axis2: Axis = Field(description="The axis of the columns.")

    def _dimensions(self, x: Symbol) -> tuple[int, int]:
        one, other = inner_dimension(self.axis1, x), inner_dimension(self.axis2, x)
        if one == other:
            raise ShapeError(f"takes the diagonal of axes {self.axis1} and {self.axis2}, which are one")
        return one, other

    def diagonal_shape(self, x: Symbol) -> Shape:
        """The shape of the diagonals."""
        one, other = self._dimensions(x)
        rest = tuple(size for index, size in enumerate(x.shape) if index not in (one, other))
        rows, columns = x.shape[one], x.shape[other]
        if rows is None or columns is None:
            return (*rest, None)
        length = min(rows, columns - self.offset) if self.offset >= 0 else min(rows + self.offset, columns)
        if length < 1:
            raise ShapeError(f"takes diagonal {self.offset}, which {x.described} does not have")
        return (*rest, length)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return self.diagonal_shape(x)

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        rest = [place for place in range(xs[0].rank) if place not in self._dimensions(xs[0])]
        return order_after(xs[0], (*rest, None) if rank == xs[0].rank - 1 else rest)

    def diagonal(self, x: Symbol) -> Expression:
        """The diagonals."""
        return x.method("diagonal", self.offset, *self._dimensions(x))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return self.diagonal(x)


@operation
class Trace(Diagonal):
    """The sums of the diagonals of the matrices in two axes."""

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return self.diagonal_shape(x)[:-1]

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return x.dtype if x.is_floating or x.dtype == "int64" else "int32"

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        total = self.diagonal(x).method("sum", -1)
        return cast(total, x.dtype if x.is_floating else "int64", self.output_dtype(x))
