"""Axes added, dropped and exchanged; numbers moved, repeated and padded along them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import OMIT, Expression, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol, text
from regspec.language.fields import MAX_SIZE, Axes, Axis, Count, OneOrMore
from regspec.language.fields import Sequence as SequenceField
from regspec.layers.families import Moved
from regspec.layers.following import order_after, order_without
from regspec.layers.kinds import operation
from regspec.layers.layer import KerasCall
from regspec.layers.operations.operands import MAX_NUMBERS, promoted, value
from regspec.layers.operations.reductions import inner_dimension, shown
from regspec.layers.reshaping import tuples
from regspec.layers.ties import Ties, rearranged


class Rearranged(Moved):
    """The numbers of the input at other places."""

    is_counted_by_spec = True

    def output_dtype(self, x: Symbol, *others: Symbol) -> str:
        return promoted(*(each.dtype for each in (x, *others)))


# -- axes --------------------------------------------------------------------------------------------------------------


@operation
class ExpandDims(Rearranged):
    """The input with further axes of size 1."""

    example = "{axis: 1}"

    axis: Axes = Field(description="The place of the new axis among those of the output, or of several.")

    def _dimensions(self, x: Symbol) -> tuple[int, ...]:
        rank = x.rank + len(self.axis)
        if any(not -rank <= axis < rank for axis in self.axis):
            raise ShapeError(f"adds axes {[*self.axis]}, which is out of range for {x.described}")
        dimensions = tuple(sorted({axis % rank for axis in self.axis}))
        if len(dimensions) < len(self.axis):
            raise ShapeError(f"adds an axis twice: {[*self.axis]}")
        if 0 in dimensions:
            raise ShapeError("adds an axis before the batch, which is axis 0")
        return dimensions

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        shape = list(x.shape)
        for dimension in self._dimensions(x):
            shape.insert(dimension, 1)
        return tuple(shape)

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        new, old = self._dimensions(xs[0]), iter(range(xs[0].rank))
        return order_after(xs[0], [None if place in new else next(old) for place in range(rank)])

    def ties_to(self, outputs: Sequence[Symbol], x: Symbol, *_: Symbol) -> Ties | None:
        new, old = self._dimensions(x), iter(range(x.rank))
        return rearranged(x, outputs, [None if place in new else next(old) for place in range(x.rank + len(new))])

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        result: Expression = x
        for rank, dimension in enumerate(self._dimensions(x), x.rank):
            result = result.method("unsqueeze", -1 if dimension == rank else dimension)
        return result


@operation
class Squeeze(Rearranged):
    """The input without axes of size 1."""

    axis: Axes | None = Field(None, description="The axis, or several; all of size 1 when absent.")

    def _dimensions(self, x: Symbol) -> tuple[int, ...]:
        if self.axis is None:
            dropped = tuple(index for index, size in enumerate(x.shape) if index and size == 1)
            if not dropped and None in x.shape[1:]:
                x.size(x.shape.index(None, 1))  # raises: it is not known whether that axis is dropped
            return dropped
        dimensions = tuple(sorted({inner_dimension(axis, x) for axis in self.axis}))
        for dimension in dimensions:
            if x.size(dimension) != 1:
                raise ShapeError(f"drops axis {dimension}, whose size is not 1, of {x.described}")
        return dimensions

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        dropped = self._dimensions(x)
        return tuple(size for index, size in enumerate(x.shape) if index not in dropped)

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        return order_without(xs[0], self._dimensions(xs[0]))

    def ties_to(self, outputs: Sequence[Symbol], x: Symbol, *_: Symbol) -> Ties | None:
        dropped = self._dimensions(x)
        return rearranged(x, outputs, [each for each in range(x.rank) if each not in dropped])

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        dropped = self._dimensions(x)
        if not dropped:
            return x
        return x.method("squeeze", dropped if len(dropped) > 1 else shown(dropped[0], x))


@operation
class Swapaxes(Rearranged):
    """The input with two axes exchanged."""

    keeps_axes = False
    example = "{axis1: 1, axis2: 2}"

    axis1: Axis = Field(description="The one axis; 1 is the first after the batch.")
    axis2: Axis = Field(description="The other axis.")

    def _dimensions(self, x: Symbol) -> tuple[int, int]:
        return inner_dimension(self.axis1, x), inner_dimension(self.axis2, x)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        one, other = self._dimensions(x)
        order = [*range(x.rank)]
        order[one], order[other] = other, one
        return axes.permute(x.shape, tuple(order))

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        one, other = self._dimensions(xs[0])
        dims = [*range(rank)]
        dims[one], dims[other] = other, one
        return order_after(xs[0], tuple(dims))

    def ties_to(self, outputs: Sequence[Symbol], x: Symbol, *_: Symbol) -> Ties | None:
        one, other = self._dimensions(x)
        return rearranged(x, outputs, [{one: other, other: one}.get(place, place) for place in range(x.rank)])

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method("transpose", *self._dimensions(x))


@operation
class Moveaxis(Rearranged):
    """The input with axes at other places."""

    keeps_axes = False
    example = "{source: 1, destination: -1}"

    source: Axes = Field(description="The axis, or several, as they are; 1 is the first after the batch.")
    destination: Axes = Field(description="Where they go.")

    def _places(self, x: Symbol) -> tuple[tuple[int, ...], tuple[int, ...]]:
        source = tuple(inner_dimension(axis, x) for axis in self.source)
        destination = tuple(inner_dimension(axis, x) for axis in self.destination)
        if len({*source}) < len(source) or len({*destination}) < len(destination) or len(source) != len(destination):
            raise ShapeError(f"moves axes {[*self.source]} to {[*self.destination]}: as many, and none twice")
        return source, destination

    def _dims(self, x: Symbol) -> Order:
        source, destination = self._places(x)
        order = [index for index in range(x.rank) if index not in source]
        for place, index in sorted(zip(destination, source, strict=True)):
            order.insert(place, index)
        return tuple(order)

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        return order_after(xs[0], self._dims(xs[0]))

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return axes.permute(x.shape, self._dims(x))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        source, destination = self._places(x)
        return x.method("movedim", *((source, destination) if len(source) > 1 else (source[0], destination[0])))


# -- along axes --------------------------------------------------------------------------------------------------------


@operation
class Flip(Rearranged):
    """The numbers in reverse along axes."""

    example = "{axis: 1}"

    axis: Axes = Field(description="The axis, or several; 1 is the first after the batch.")

    def order(self, x: Symbol) -> Order | None:
        return None

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        for axis in self.axis:
            inner_dimension(axis, x)
        return x.shape

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        dimensions = sorted({inner_dimension(axis, x) for axis in self.axis})
        return x.method("flip", *(dimensions if len(dimensions) > 1 else [shown(dimensions[0], x)]))


Shifts = Annotated[
    tuple[Annotated[int, Field(ge=-(2**31), le=2**31)], ...],
    OneOrMore,
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}, "minItems": 1}]}),
]


@operation
class Roll(Rearranged):
    """The numbers shifted along axes; those that leave at the end come in at the beginning."""

    example = "{shift: 1, axis: 1}"

    shift: Shifts = Field(min_length=1, description="How far, or how far along each axis.")
    axis: Axes = Field(description="The axis, or several; 1 is the first after the batch.")

    @model_validator(mode="after")
    def _is_one_each(self) -> Roll:
        if len(self.shift) not in (1, len(self.axis)):
            raise PydanticCustomError("shift", "needs one 'shift', or one for each axis")
        return self

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        for axis in self.axis:
            inner_dimension(axis, x)
        return x.shape

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        shifts = self.shift if len(self.shift) == len(self.axis) else self.shift * len(self.axis)
        dimensions = tuple(inner_dimension(axis, x) for axis in self.axis)
        if len(dimensions) == 1:
            return x.method("roll", shifts[0], dims=shown(dimensions[0], x))
        return x.method("roll", shifts, dims=dimensions)


@operation
class Rot90(Rearranged):
    """The plane of two axes, turned by quarters."""

    main = "k"

    example = "{axes: [1, 2]}"

    k: int = Field(1, ge=-64, le=64, description="How many quarters, from the first axis towards the second.")
    axes: Axes = Field(min_length=2, max_length=2, description="The two axes; 1 is the first after the batch.")

    def _dimensions(self, x: Symbol) -> tuple[int, int]:
        one, other = (inner_dimension(axis, x) for axis in self.axes)
        if one == other:
            raise ShapeError(f"turns the plane of axes {[*self.axes]}, which are one")
        return one, other

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        one, other = self._dimensions(x)
        shape = list(x.shape)
        if self.k % 2:
            shape[one], shape[other] = shape[other], shape[one]
        return tuple(shape)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method("rot90", self.k, self._dimensions(x))


Repeats = Annotated[
    tuple[Count, ...],
    OneOrMore,
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}, "minItems": 1}]}),
]


@operation
class Repeat(Rearranged):
    """Each number several times, one after the other, along an axis."""

    example = "{repeats: 2, axis: 1}"

    repeats: Repeats = Field(
        min_length=1, max_length=MAX_NUMBERS, description="How often, or how often each along the axis."
    )
    axis: Axis = Field(description="The axis; 1 is the first after the batch.")

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        if len(self.repeats) > 1:
            raise ShapeError("has repeats of its own for each place, which no file of Keras can hold")
        return {"repeats": self.repeats[0]}

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        dimension = inner_dimension(self.axis, x)
        size = x.shape[dimension]
        if len(self.repeats) > 1 and size not in (None, len(self.repeats)):
            raise ShapeError(f"has {len(self.repeats)} repeats along axis {self.axis} of {x.described}")
        new = sum(self.repeats) if len(self.repeats) > 1 else None if size is None else size * self.repeats[0]
        if new == 0:
            raise ShapeError(f"repeats nothing of {x.described}")
        return (*x.shape[:dimension], new, *x.shape[dimension + 1 :])

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        repeats = self.repeats[0] if len(self.repeats) == 1 else value("repeats", self.repeats)
        size = OMIT if len(self.repeats) == 1 else sum(self.repeats)  # so that the device is not asked for it
        return x.method("repeat_interleave", repeats, dim=shown(inner_dimension(self.axis, x), x), output_size=size)


@operation
class Tile(Rearranged):
    """The input several times, one beside the other."""

    example = "{repeats: [1, 2, 1]}"

    repeats: Repeats = Field(min_length=1, max_length=64, description="How often along each of the last axes.")

    def _all(self, x: Symbol) -> tuple[int, ...]:
        if len(self.repeats) > x.rank:
            raise ShapeError(f"repeats along {len(self.repeats)} axes, but is given {x.described}")
        repeats = (1,) * (x.rank - len(self.repeats)) + self.repeats
        if repeats[0] != 1:
            raise ShapeError("repeats along axis 0, which is the batch")
        if 0 in repeats:
            raise ShapeError(f"repeats nothing of {x.described}")
        return repeats

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return tuple(None if size is None else size * often for size, often in zip(x.shape, self._all(x), strict=True))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method("repeat", *self._all(x))


@operation
class BroadcastTo(Rearranged):
    """The input repeated along axes of size 1, to a shape."""

    example = "{shape: [null, 4, 7, 5]}"

    shape: Annotated[tuple[Annotated[int, Field(ge=-1, le=MAX_SIZE)] | None, ...], SequenceField] = Field(
        min_length=1, max_length=64, description="The shape; its first size is null, for the batch; -1 keeps a size."
    )

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        raise ShapeError("has null for the batch, whose size Keras's broadcast_to must know", "a Repeat does the same")

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        added = len(self.shape) - x.rank
        if added or self.shape[0] not in (None, -1):
            hint = "its first size stands for the batch, and is null"
            raise ShapeError(f"is of the shape {[*self.shape]}, but is given {x.described}", hint)
        new = tuple(old if size in (None, -1) else size for size, old in zip(self.shape, x.shape, strict=True))
        if any(old not in (1, None, size) or size == 0 for old, size in zip(x.shape[1:], new[1:], strict=True)):
            raise ShapeError(f"can't repeat {text(x.spec_shape)} to {text(new)}")
        return new

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method("expand", *(-1 if size is None else size for size in self.shape))


Widths = Annotated[
    tuple[tuple[Count, Count], ...],
    BeforeValidator(tuples),
    WithJsonSchema({"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "minItems": 2}}),
]


@operation
class Pad(Rearranged):
    """The input with further numbers before and after along its axes."""

    called_with = ("constant_values",)

    example = "{pad_width: [[0, 0], [1, 1], [0, 0]]}"

    pad_width: Widths = Field(
        min_length=1, max_length=64, description="[before, after] for each axis; [0, 0] for the batch, the first."
    )
    mode: Literal["constant", "reflect", "symmetric"] = Field(
        "constant",
        description="What they are: one number, or the input mirrored, without the number at the border or with it.",
    )
    constant_values: bool | int | float = Field(0, allow_inf_nan=False, description="The number of mode constant.")

    def keras_call(self, *tensors: object) -> KerasCall:
        return super().keras_call(*tensors) if self.mode == "constant" else (tensors, {})

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        if len(self.pad_width) != x.rank:
            raise ShapeError(f"pads {len(self.pad_width)} axes, but is given {x.described}")
        if self.pad_width[0] != (0, 0):
            raise ShapeError("pads axis 0, which is the batch", "[0, 0] stands first")
        border = 1 if self.mode == "reflect" else 0
        for size, widths in zip(x.shape, self.pad_width, strict=True):
            if self.mode != "constant" and size is not None and max(widths) > size - border:
                raise ShapeError(f"mirrors {max(widths)} numbers of an axis of {size} in {x.described}")
        return tuple(
            None if size is None else size + sum(widths) for size, widths in zip(x.shape, self.pad_width, strict=True)
        )

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        first = next((index for index, widths in enumerate(self.pad_width) if any(widths)), None)
        if first is None:
            return x
        widths = self.pad_width[first:]
        # torch mirrors up to three axes, after one or two others
        is_native = self.mode == "reflect" and x.is_floating and len(widths) < 4 and first < 3
        if self.mode != "constant" and not is_native:
            return call("mirror_pad", x, widths, symmetric=unless(False, self.mode == "symmetric"))
        cells = tuple(cells for side in reversed(widths) for cells in side)
        constant = self.constant_values if self.mode == "constant" else 0
        return call("F.pad", x, cells, mode=unless("constant", self.mode), value=constant if constant else OMIT)
