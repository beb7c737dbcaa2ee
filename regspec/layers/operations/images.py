"""Operations on images that torch has no module for."""

from __future__ import annotations

from operator import attrgetter
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from regspec.code.expressions import Expression, call
from regspec.code.shapes import DataFormat, Shape, ShapeError, Symbol, same_padding, windowed
from regspec.language.fields import Size, Sizes
from regspec.layers.kinds import operation
from regspec.layers.operations.rearranging import Rearranged


class Blocks(Rearranged):
    """Images whose channels become blocks of pixels, or the reverse."""

    example = "{block_size: 2}"

    block_size: Size = Field(description="The height and width of a block.")
    data_format: DataFormat | None = Field(
        None, description="Where the channels lie; the model's data_format when absent."
    )

    takes = ("batch", "height", "width", "channels")

    def is_first(self, x: Symbol) -> bool:
        """Whether the channels lie first, as a spec counts them."""
        return self.data_format == "channels_first" if self.data_format is not None else not x.is_plain

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        """Keras must be told channels_first."""
        return {"data_format": "channels_first" if self.is_first(xs[0]) else None}

    @property
    def reads_axes(self) -> bool:
        return self.data_format is None

    def divided(self, size: int | None, by: int, x: Symbol) -> int | None:
        """``size / by``; None for an unknown size. Raises `ShapeError` where that is not whole."""
        if size is not None and size % by:
            raise ShapeError(f"takes blocks of {self.block_size}, which do not fit {x.described}")
        return None if size is None else size // by


def _times(size: int | None, factor: int) -> int | None:
    return None if size is None else size * factor


@operation
class DepthToSpace(Blocks):
    """Images whose channels become blocks of pixels."""

    keras_operation = "nn"

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        b = self.block_size
        height, width, channels = (2, 3, 1) if self.is_first(x) else (1, 2, 3)
        shape = {
            height: _times(x.shape[height], b),
            width: _times(x.shape[width], b),
            channels: self.divided(x.shape[channels], b * b, x),
        }
        return (x.shape[0], *(shape[axis] for axis in (1, 2, 3)))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        b = self.block_size
        if self.is_first(x):
            return call("F.pixel_shuffle", x, b)
        blocks = x.method("unflatten", -1, (b, b, -1)).method("permute", 0, 1, 3, 2, 4, 5)
        return blocks.method("flatten", 3, 4).method("flatten", 1, 2)


@operation
class SpaceToDepth(Blocks):
    """Images whose blocks of pixels become channels."""

    keras_operation = "nn"

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        b = self.block_size
        height, width, channels = (2, 3, 1) if self.is_first(x) else (1, 2, 3)
        shape = {
            height: self.divided(x.shape[height], b, x),
            width: self.divided(x.shape[width], b, x),
            channels: _times(x.shape[channels], b * b),
        }
        return (x.shape[0], *(shape[axis] for axis in (1, 2, 3)))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        b = self.block_size
        if self.is_first(x):
            return call("F.pixel_unshuffle", x, b)
        blocks = x.method("unflatten", 2, (-1, b)).method("unflatten", 1, (-1, b))
        return blocks.method("permute", 0, 1, 3, 2, 4, 5).method("flatten", 3)


@operation
class ExtractPatches(Rearranged):
    """The patches of images, the numbers of each along one axis, which takes the place of the channels."""

    keras_operation = "image"
    keras_function = "image.extract_patches"

    example = "{size: 2}"

    size: Sizes = Field(description="The height and width of a patch.", max_length=2)
    strides: Sizes | None = Field(
        None, description="How far apart patches begin; their size when absent.", max_length=2
    )
    padding: Literal["valid", "same"] = Field("valid", description="Whether zeros are added, so that all pixels count.")
    data_format: DataFormat | None = Field(
        None, description="Where the channels lie; the model's data_format when absent."
    )

    takes = ("batch", "height", "width", "channels")
    one_for_all = ("size", "strides")
    unsaid = MappingProxyType({"strides": attrgetter("size")})

    def _spans(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The size of a patch, and how far apart patches begin, along height and width."""
        size = self.size * (3 - len(self.size))
        strides = self.strides or size
        return (size[0], size[1]), (strides[0], strides[-1])

    def _axes(self, x: Symbol) -> tuple[int, int, int]:
        is_first = self.data_format == "channels_first" if self.data_format is not None else not x.is_plain
        return (2, 3, 1) if is_first else (1, 2, 3)

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        """Equal sizes as one; Keras must be told channels_first."""
        sizes = {"size": self.size, "strides": self.strides}
        found = {name: value[0] for name, value in sizes.items() if value is not None and len({*value}) == 1}
        return {**found, "data_format": "channels_first" if self._axes(xs[0])[2] == 1 else None}

    @property
    def reads_axes(self) -> bool:
        return self.data_format is None

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        *places, channels = self._axes(x)
        size, strides = self._spans()
        shape = {channels: _times(x.shape[channels], size[0] * size[1])}
        for axis, span, stride in zip(places, size, strides, strict=True):
            count = windowed(x.shape[axis], span, stride, self.padding == "same")
            if count is not None and count < 1:
                raise ShapeError(f"takes patches of {[*size]}, which do not fit {x.described}")
            shape[axis] = count
        return (x.shape[0], *(shape[axis] for axis in (1, 2, 3)))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        *places, channels = self._axes(x)
        size, strides = self._spans()
        patches: Expression = x
        if self.padding == "same":
            cells = [0] * 6
            for axis, span, stride in zip(places, size, strides, strict=True):
                cells[2 * (3 - axis) : 2 * (3 - axis) + 2] = same_padding(x.size(axis), span, stride)
            while cells[-2:] == [0, 0]:
                del cells[-2:]
            patches = call("F.pad", x, tuple(cells)) if cells else x
        for axis, span, stride in zip(places, size, strides, strict=True):
            patches = patches.method("unfold", axis, span, stride)
        if channels == 1:
            return patches.method("permute", 0, 4, 5, 1, 2, 3).method("flatten", 1, 3)
        return patches.method("permute", 0, 1, 2, 4, 5, 3).method("flatten", 3)
