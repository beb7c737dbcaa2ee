"""Layers that move numbers about: flatten, reshape, permute, repeat, crop, pad, enlarge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import Expression, Module, call
from regspec.code.shapes import DataFormat, Shape, ShapeError, Symbol, compact, text
from regspec.language.fields import Count, Meanings, Size, Sizes, check_meanings
from regspec.language.fields import Sequence as SequenceField
from regspec.layers.families import Moved, Sequential, Spatial
from regspec.layers.following import order_after
from regspec.layers.kinds import kind
from regspec.layers.ties import Place, Tie, Ties, moved


@kind
class Flatten(Moved):
    """All axes after the batch as one."""

    is_counted_by_spec = True

    data_format: DataFormat | None = Field(
        None,
        description="channels_first: the channels are moved last before, as Keras does; else the axes as they are.",
    )

    def order(self, x: Symbol) -> Order | None:
        if self.data_format == "channels_first" and x.rank > 2:
            return (0, *range(2, x.rank), 1) if x.is_plain else axes.identity(x.rank)
        return None if x.is_read_in_order else x.spec_order

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return (x.shape[0], None if None in x.shape[1:] else math.prod(size or 1 for size in x.shape[1:]))

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        if None in x.shape[1:] or x.rank == 1:
            return None
        place = x.dimension(-1)
        outer, inner = (math.prod(size or 1 for size in sizes) for sizes in (x.shape[1:place], x.shape[place + 1 :]))
        return Ties((Tie(x.size(place), (Place(0, x.rank - 1), Place(~0, 1, outer=outer, inner=inner))),))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method("unsqueeze", 1) if x.rank == 1 else Module(call("nn.Flatten"))(x)


@kind
class Reshape(Moved):
    """The numbers in another shape."""

    example = "{target_shape: [-1, 8]}"
    is_counted_by_spec = True
    keeps_axes = False
    says_axes = True
    own_fields = frozenset({"axes"})

    target_shape: Annotated[tuple[int, ...], SequenceField] = Field(
        description="The shape without the batch; -1 for one size to infer."
    )
    axes: Meanings | None = Field(
        None,
        description="What the axes of an image, a volume or a signal mean, such as [channels, height, width]; not "
        "needed where the spec has a data_format.",
    )

    @field_validator("target_shape")
    @classmethod
    def _has_one_unknown(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(size < -1 or size == 0 for size in value) or value.count(-1) > 1:
            raise PydanticCustomError("shape", "must have sizes of 1 or more, and at most one -1")
        return value

    @model_validator(mode="after")
    def _has_as_many_axes(self) -> Reshape:
        check_meanings(self.axes, self.target_shape)
        return self

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        return {"axes": None}  # Keras's layers after it are told where their channels are

    def order(self, x: Symbol) -> Order | None:
        return None if x.is_read_in_order else x.spec_order

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        if self.axes is not None:
            return axes.of_meanings(self.axes)
        return axes.identity(rank) if rank < 3 else None

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        known = math.prod(size for size in self.target_shape if size != -1)
        total = None if None in x.shape[1:] else math.prod(size or 1 for size in x.shape[1:])
        if total is not None and (total % known if -1 in self.target_shape else total != known):
            raise ShapeError(f"can't reshape {text(x.spec_shape)} to {self.target_shape}")
        inferred = None if total is None else total // known
        return (x.shape[0], *(inferred if size == -1 else size for size in self.target_shape))

    def ties_to(self, outputs: Sequence[Symbol], x: Symbol, *_: Symbol) -> Ties | None:
        shape, order = self.output_shape(x), outputs[0].spec_order
        if None in (*x.shape[1:], *shape[1:]):
            return None
        found = tied_across(x.shape, x.dimension(-1), shape, order.index(len(shape) - 1))
        if found is None:
            return None
        size, before, after, each, place = found
        says = self.target_shape[place - 1] != -1
        places = (replace(before, axis=x.rank - 1), replace(after, axis=order[place]))
        return Ties((Tie(size, places, ("target_shape", place - 1) if says else (), each=each),))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        sizes = self.output_shape(x)[1:]
        inner = self.target_shape if None in sizes else sizes  # torch infers what is not known
        return x.method("reshape", x.method("size", 0), *inner)


def tied_across(before: Shape, features: int, after: Shape, wanted: int) -> tuple[int, Place, Place, int, int] | None:
    """How many units a reshape keeps together, where they lie before and after, and as how many numbers at which place.

    A dimension of features goes on as one of the same size and stride; or it is flattened with all others; or a vector
    is made the features of an image. Of any other reshape it is not known.
    """

    def around(shape: Shape, place: int) -> tuple[int, int]:
        return math.prod(n or 1 for n in shape[1:place]), math.prod(n or 1 for n in shape[place + 1 :])

    size = before[features] or 1
    outer, inner = around(before, features)
    for place in range(1, len(after)):
        if after[place] == size and around(after, place)[1] == inner:
            return size, Place(0, 0), Place(~0, 0), 1, place
    if len(after) == 2:
        return size, Place(0, 0), Place(~0, 0, outer=outer, inner=inner), outer * inner, 1
    if len(before) == 2:
        outer, inner = around(after, wanted)
        return after[wanted] or 1, Place(0, 0, outer=outer, inner=inner), Place(~0, 0), 1, wanted
    return None


@kind
class Permute(Moved):
    """The axes after the batch in another order."""

    example = "{dims: [2, 3, 1]}"

    is_counted_by_spec = True
    keeps_axes = False
    says_axes = True
    own_fields = frozenset({"axes"})

    dims: Annotated[tuple[Size, ...], SequenceField] = Field(
        description="The axes in their new order; 1 is the first after the batch."
    )
    axes: Meanings | None = Field(
        None, description="What the axes mean in their new order, such as [channels, length], where that is not clear."
    )

    @model_validator(mode="after")
    def _has_as_many_axes(self) -> Permute:
        check_meanings(self.axes, self.dims)
        return self

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        return {"axes": None}

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        if self.axes is not None:
            return axes.of_meanings(self.axes)
        return order_after(xs[0], (0, *self.dims))

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        if sorted(self.dims) != list(range(1, x.rank)):
            raise ShapeError(f"orders the axes {list(self.dims)}, but is given {x.described}")
        return (x.shape[0], *(x.shape[axis] for axis in self.dims))

    def ties_to(self, outputs: Sequence[Symbol], x: Symbol, *_: Symbol) -> Ties | None:
        return moved(x, {x.order[axis]: outputs[0].spec_order[place] for place, axis in enumerate(self.dims, 1)})

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x if list(self.dims) == sorted(self.dims) else x.method("permute", 0, *self.dims)


OF_AXES = Permute.__name__  # what a target calls that has to bring axes in another order


@kind
class RepeatVector(Moved):
    """A vector repeated over time."""

    example = "{n: 3}"

    n: Size = Field(description="How often it is repeated.")

    takes = ("batch", "features")

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return (x.shape[0], self.n, x.shape[1])

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        return moved(x, {1: 2})

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x.method("unsqueeze", 1).method("expand", -1, self.n, -1)


def tuples(value: Any) -> Any:
    """A value with tuples in place of lists, at every depth."""
    return tuple(tuples(each) for each in value) if isinstance(value, (list, tuple)) else value


# n for all sides; [n, m] for each axis; [[before, after], …] for each side. In one dimension [before, after].
_COUNT = {"type": "integer", "minimum": 0}
_PAIR = {"type": "array", "items": _COUNT, "minItems": 2, "maxItems": 2}
Sides = Annotated[
    Count | tuple[Count | tuple[Count, Count], ...],
    BeforeValidator(tuples),
    WithJsonSchema({"anyOf": [_COUNT, {"type": "array", "items": {"anyOf": [_COUNT, _PAIR]}}]}),
]


def sides_of(value: Any, rank: int) -> tuple[tuple[int, int], ...] | None:
    """Cells before and after along each axis; None where their number does not fit."""
    if isinstance(value, int):
        return ((value, value),) * rank
    if rank == 1:
        value = (value,) if len(value) == 2 and all(isinstance(each, int) for each in value) else value
    if len(value) != rank:
        return None
    return tuple((each, each) if isinstance(each, int) else each for each in value)


class Sided(Spatial):
    """A layer that takes cells off, or adds them, at each side."""

    one_for_all = ("cropping", "padding")

    @field_validator("cropping", "padding", check_fields=False)
    @classmethod
    def _fits(cls, value: Any) -> Any:
        sides = sides_of(value, cls.spatial_rank)
        if sides is None:
            raise PydanticCustomError(
                "sides", "must be one number, or {rank} numbers or pairs", {"rank": cls.spatial_rank}
            )
        return sides

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        """One number where all are equal; along one axis, both sides."""
        name = "cropping" if isinstance(self, Cropping) else "padding"
        sides = getattr(self, name)
        numbers = {cells for side in sides for cells in side}
        value = numbers.pop() if len(numbers) == 1 else sides[0] if self.spatial_rank == 1 else sides
        return {**super().keras_fields(*xs), name: value}

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return x.dtype


class Cropping(Sided):
    """Cells taken off at each side."""

    main = "cropping"

    cropping: Sides = Field(
        1, validate_default=True, description="The cells to take off: one number, or for each axis or side."
    )

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        sizes = tuple(
            None if size is None else size - sum(sides)
            for size, sides in zip(x.shape[2:], sides_of(self.cropping, self.spatial_rank) or (), strict=True)
        )
        if any(size is not None and size < 1 for size in sizes):
            raise ShapeError(f"takes off {self.cropping}, which leaves nothing of {x.described}")
        return (*x.shape[:2], *sizes)

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        return self.each_channel(x)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        sides = sides_of(self.cropping, self.spatial_rank) or ()
        within = (..., *(slice(before or None, -after or None) for before, after in sides))
        return x[within]


@kind
class Cropping2D(Cropping):
    """Rows and columns taken off images."""

    cropping: Sides = Field(
        0, validate_default=True, description="The cells to take off: one number, or for each axis or side."
    )
    spatial_rank = 2


@kind
class Cropping3D(Cropping):
    """Cells taken off volumes."""

    spatial_rank = 3


class ZeroPadding(Sided):
    """Zeros added at each side."""

    main = "padding"

    padding: Sides = Field(
        1, validate_default=True, description="The zeros to add: one number, or for each axis or side."
    )

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        sides = sides_of(self.padding, self.spatial_rank) or ()
        return (
            *x.shape[:2],
            *(None if n is None else n + sum(side) for n, side in zip(x.shape[2:], sides, strict=True)),
        )

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        return Ties(tuple(replace(tie, keeps_zeros=True) for tie in self.each_channel(x).ties))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        sides = sides_of(self.padding, self.spatial_rank) or ()
        return call("F.pad", x, tuple(cells for side in reversed(sides) for cells in side))


@kind
class ZeroPadding1D(ZeroPadding):
    """Zeros added before and after."""

    spatial_rank = 1


@kind
class ZeroPadding2D(ZeroPadding):
    """Zeros added around images."""

    spatial_rank = 2


@kind
class ZeroPadding3D(ZeroPadding):
    """Zeros added around volumes."""

    spatial_rank = 3


class UpSampling(Spatial):
    """Each cell enlarged to several."""

    main = "size"

    size: Sizes = Field((2,), validate_default=True, description="The factor along each spatial axis.")

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return (
            *x.shape[:2],
            *(None if n is None else n * factor for n, factor in zip(x.shape[2:], self.size, strict=True)),
        )

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        return self.each_channel(x)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call("nn.Upsample", scale_factor=compact(self.size)))(x)


@kind
class UpSampling2D(UpSampling):
    """Images enlarged by repeating pixels, or by interpolating between them."""

    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"] = Field(
        "nearest", description="How new pixels are made."
    )
    spatial_rank = 2

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        if self.interpolation == "nearest":
            return super().lower(x)
        if self.interpolation == "bilinear":
            return Module(call("nn.Upsample", scale_factor=compact(self.size), mode="bilinear"))(x)
        return Module(call("Resize", scale_factor=self.size, interpolation=self.interpolation))(x)


@kind
class UpSampling3D(UpSampling):
    """Volumes enlarged by repeating voxels."""

    spatial_rank = 3


@kind
class Cropping1D(Sequential, Cropping):
    """Steps taken off before and after."""


@kind
class UpSampling1D(Sequential, UpSampling):
    """Steps repeated."""
