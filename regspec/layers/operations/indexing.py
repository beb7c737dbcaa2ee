"""Parts of tensors by index, and whole numbers as vectors of zeros and ones."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from regspec.code.axes import Order
from regspec.code.expressions import Binary, Expression, Listed, call, unless
from regspec.code.shapes import Dtype, Shape, ShapeError, Symbol
from regspec.language.fields import MAX_SIZE, Axis, Size
from regspec.layers.families import Moved
from regspec.layers.following import order_after, order_with_new
from regspec.layers.kinds import operation
from regspec.layers.layer import KerasCall, Layer
from regspec.layers.operations.operands import Inline, cast, flat, shape_of, value
from regspec.layers.operations.reductions import inner_dimension, shown

MAX_KEYS = 64
SHORT = 8  # indices that are written where they are used; more are held as a tensor

_SLICE = re.compile(r"(-?\d{1,10})?:(-?\d{1,10})?(?::(-?\d{1,10})?)?", re.ASCII)


def _parsed(item: int | str | None) -> Any:
    """An item of a key as Python has it: a number, None, ``...`` or a slice."""
    if not isinstance(item, str):
        return item
    if item == "...":
        return ...
    match = _SLICE.fullmatch(item)
    assert match is not None
    start, stop, step = (None if part is None else int(part) for part in match.groups())
    return slice(start, stop, None if step == 1 else step)


def _key(items: Any) -> tuple[int | str | None, ...]:
    """The items of a key. Raises a pydantic error."""
    expected = "a list of whole numbers, slices such as '1:' or '::2', null for a new axis, and at most one '...'"
    is_key = isinstance(items, (list, tuple)) and 0 < len(items) <= MAX_KEYS and [*items].count("...") < 2
    for item in items if is_key else ():
        match = _SLICE.fullmatch(item) if isinstance(item, str) else None
        is_slice = match is not None and not (match[3] and int(match[3]) == 0)
        is_number = isinstance(item, int) and not isinstance(item, bool) and abs(item) <= MAX_SIZE
        is_key = is_key and (is_slice or is_number or item is None or item == "...")
    if not is_key:
        raise PydanticCustomError("form", "must be {expected}", {"expected": expected})
    return tuple(items)


@operation
class GetItem(Moved):
    """A part of the input, by an index for each axis."""

    is_counted_by_spec = True
    keeps_axes = False

    example = "{key: [':', 0]}"

    called_with = ("key",)

    key: Annotated[
        tuple[int | str | None, ...],
        PlainValidator(_key),
        WithJsonSchema(
            {
                "type": "array",
                "items": {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]},
                "minItems": 1,
            }
        ),
    ] = Field(
        description="One index an axis, ':' for the batch first: a number, a slice '1:', null (a new axis), '...'."
    )

    def keras_call(self, *tensors: object) -> KerasCall:
        return (*tensors, tuple(map(_parsed, self.key))), {}

    def _indices(self, x: Symbol) -> list[Any]:
        """The items, one for each axis of the input or for a new one."""
        items = [_parsed(item) for item in self.key]
        if ... not in items:
            items.append(...)
        place = items.index(...)
        open_axes = x.rank - sum(item is not None for item in items) + 1
        if open_axes < 0:
            raise ShapeError(f"has an index for {x.rank - open_axes} axes, but is given {x.described}")
        items[place : place + 1] = [slice(None)] * open_axes
        first = items[0]
        is_all = isinstance(first, slice) and (first.start or 0, first.stop, first.step) == (0, None, None)
        if not is_all:
            raise ShapeError("takes a part of axis 0, which is the batch", "':' stands first, for all examples")
        return items

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        shape: list[int | None] = []
        sizes = iter(enumerate(x.shape))
        for item in self._indices(x):
            if item is None:
                shape.append(1)
                continue
            axis, size = next(sizes)
            if isinstance(item, int):
                if size is not None and not -size <= item < size:
                    raise ShapeError(f"takes index {item} of axis {axis}, which is out of range for {x.described}")
                continue
            new = None if size is None else len(range(*item.indices(size)))
            if new == 0:
                raise ShapeError(f"takes a part of axis {axis} that is empty, of {x.described}")
            shape.append(new)
        return tuple(shape)

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        items = self._indices(xs[0])
        old = iter(range(xs[0].rank))
        places = [(item, None if item is None else next(old)) for item in items]
        return order_after(xs[0], [place for item, place in places if not isinstance(item, int)])

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        items = self._indices(x)
        places = (place for place, item in enumerate(items) if item is not None)
        reversed_: list[int] = []
        for dimension, place in enumerate(places):
            item = items[place]
            if isinstance(item, slice) and item.step is not None and item.step < 0:
                reversed_.append(dimension)
                items[place] = _in_reverse(item, x.shape[dimension], x, dimension)
        if not reversed_:
            return x[tuple(_parsed(item) for item in self.key)]
        flipped = x.method("flip", *(reversed_ if len(reversed_) > 1 else [shown(reversed_[0], x)]))
        while items[-1:] == [slice(None)]:
            items.pop()
        return flipped[tuple(items)] if items else flipped


def _in_reverse(item: slice, size: int | None, x: Symbol, dimension: int) -> slice:
    """The slice of the flipped axis that equals a slice with a negative step, which torch lacks."""
    if size is not None:
        places = range(*item.indices(size))
        start, stop = size - 1 - places[0], size - places[-1]
        is_to_the_end = len(range(start, size, -item.step)) == len(places)
        return slice(start or None, None if is_to_the_end else stop, None if item.step == -1 else -item.step)
    if any(each is not None and each >= 0 for each in (item.start, item.stop)):
        x.size(dimension)  # raises: it is not known
    first, last = (None if each is None else -each - 1 for each in (item.start, item.stop))
    return slice(first or None, last, None if item.step == -1 else -item.step)


@operation
class Take(Moved):
    """The slices at given places along an axis, or at those that a second input has for each example."""

    called_with = ("indices",)
    own_fields = frozenset({"batch_dims"})

    example = "{indices: 0, axis: 1}"

    is_counted_by_spec = True
    keeps_axes = False

    indices: Inline | None = Field(
        None, description="The place, or lists of places, whose axes stand where the axis was."
    )
    axis: Axis = Field(description="The axis; 1 is the first after the batch.")
    batch_dims: Literal[0, 1] = Field(0, description="1 for places of each example, along axis 1, as a second input.")

    @model_validator(mode="after")
    def _has_indices(self) -> Take:
        if (self.indices is None) != (self.batch_dims == 1) or (self.batch_dims and self.axis != 1):
            raise PydanticCustomError("indices", "needs 'indices', or 'batch_dims: 1' and 'axis: 1' and a second input")
        return self

    def checked(self, *xs: Symbol) -> None:
        wanted = 1 + self.batch_dims
        if len(xs) != wanted:
            raise ShapeError(f"takes {wanted} input{'s' * (wanted > 1)}, but is given {len(xs)}")

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        dimension, count = inner_dimension(self.axis, xs[0]), rank - xs[0].rank + 1
        inner = (dimension,) if count == 1 else (None,) * count
        return order_after(xs[0], (*range(dimension), *inner, *range(dimension + 1, xs[0].rank)))

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        dimension = inner_dimension(self.axis, x)
        size = x.shape[dimension]
        for index in () if self.indices is None else flat(self.indices):
            if not isinstance(index, int) or (size is not None and not -size <= index < size):
                raise ShapeError(f"takes index {index} of axis {self.axis}, which is out of range for {x.described}")
        places = others[0].shape[1:] if others or self.indices is None else shape_of(self.indices)
        return (*x.shape[:dimension], *places, *x.shape[dimension + 1 :])

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return x.dtype

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        if others or self.indices is None:
            return call("take_of_each", x, cast(others[0], others[0].dtype, "int64"))
        shape = shape_of(self.indices)
        places = self.indices
        if shape:
            is_short = len(shape) == 1 and shape[0] <= SHORT
            places = Listed(self.indices) if is_short else value("indices", self.indices)
        index = (*(slice(None),) * inner_dimension(self.axis, x), places)
        return x[index]


@operation
class TakeAlongAxis(Layer):
    """The numbers of the first input at the places that the second gives along an axis."""

    example = "{axis: 1, inputs: [a, indices]}"

    axis: Axis = Field(description="The axis; 1 is the first after the batch.")

    arity = (2, 2)
    is_counted_by_spec = True

    @property
    def takes_integers(self) -> bool:
        return True

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        (places,) = others
        dimension = inner_dimension(self.axis, x)
        if places.rank != x.rank:
            raise ShapeError(f"takes inputs with as many axes, but is given {x.named} and {places.named}")
        merged: list[int | None] = []
        for index, sizes in enumerate(zip(x.shape, places.shape, strict=True)):
            known = {*sizes} - {1, None}
            if index == dimension:
                merged.append(places.shape[dimension])
                continue
            if len(known) > 1:
                raise ShapeError(f"can't take {places.named} of {x.named} along axis {self.axis}")
            merged.append(next(iter(known)) if known else None if None in sizes else 1)
        return tuple(merged)

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return x.dtype

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        (places,) = others
        dimension = inner_dimension(self.axis, x)
        size = x.shape[dimension]
        count = x.method("size", dimension) if size is None else size
        # a negative place counts from the end, which torch.take_along_dim does not support
        wrapped = Binary("%", cast(places, places.dtype, "int64"), count)
        return call("torch.take_along_dim", x, wrapped, dim=shown(dimension, x))


class Hot(Layer):
    """Whole numbers as zeros and ones along a new axis."""

    is_counted_by_spec = True
    keeps_axes = False
    example = "{num_classes: 10}"

    num_classes: Size = Field(description="The size of the new axis: the largest number plus one.")
    axis: Axis = Field(-1, description="The place of the new axis in the output.")
    dtype: Dtype = Field("float32", description="The type of the zeros and ones.")  # type: ignore[assignment]  # Keras calls it so

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        """The axis from the start, unless it is the last."""
        return {"axis": self.axis if self.axis == -1 else self._dimension(xs[0])}

    @property
    def takes_integers(self) -> bool:
        return True

    @property
    def index_limit(self) -> int | None:
        return self.num_classes

    def _dimension(self, x: Symbol) -> int:
        rank = x.rank + 1
        if not -rank <= self.axis < rank or self.axis % rank == 0:
            raise ShapeError(f"adds axis {self.axis} to {x.described}", "1 is the first after the batch")
        return self.axis % rank

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        dimension = self._dimension(x)
        return (*x.shape[:dimension], self.num_classes, *x.shape[dimension:])

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        return order_with_new(xs[0], self._dimension(xs[0]), rank)

    @property
    def precision(self) -> None:
        return None

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return self.dtype

    def hot(self, x: Symbol) -> Expression:
        """The zeros and ones as floating-point numbers."""
        dimension = self._dimension(x)
        dim = unless(-1, -1 if dimension == x.rank else dimension)
        return call("one_hot", cast(x, x.dtype, "int64") if x.is_floating else x, self.num_classes, dim=dim)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return cast(self.hot(x), "float32", self.dtype)


@operation
class OneHot(Hot):
    """Each whole number as a vector with a one at its place, else zeros."""

    keras_operation = "nn"


@operation
class MultiHot(Hot):
    """The whole numbers along axis 1 as one vector, with ones at their places, else zeros."""

    keras_operation = "nn"

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        if x.rank < 2:
            raise ShapeError(f"takes several numbers of each example, but is given {x.described}")
        shape = super().output_shape(x)
        return (shape[0], *shape[2:])

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        return order_with_new(xs[0], max(self._dimension(xs[0]) - 1, 1), rank)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return cast(self.hot(x).method("amax", 1), "float32", self.dtype)
