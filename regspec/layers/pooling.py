"""Pooling: by windows, over all positions, or to a given size.

Written for channels first. ``padding: same`` needs no padding of the tensor: where the odd cell comes after and the
stride is over 1, torch's ``ceil_mode`` makes the same windows; with stride 1 torch pads both sides by half a window,
and the first window is dropped. Padded cells count neither in a maximum nor in a mean.
"""

from __future__ import annotations

import math
from operator import attrgetter
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from regspec.code.axes import Order
from regspec.code.expressions import OMIT, Expression, Module, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol, compact, same_padding, windowed
from regspec.language.fields import NoCells, Sizes
from regspec.layers.families import Spatial
from regspec.layers.kinds import kind
from regspec.layers.ties import Ties, moved


class Pooling(Spatial):
    """A maximum or mean over a window that moves."""

    main = "pool_size"
    takes_signals = True

    example = "{pool_size: 2}"

    pool_size: Sizes = Field(description="The size of the window along each spatial axis.")
    strides: Sizes | None = Field(
        None, description="The step of the window along each spatial axis; its size when absent."
    )
    padding: Annotated[Literal["valid", "same"], NoCells] = Field(
        "valid", description="valid: only whole windows; same: padded to ceil(size / stride) windows."
    )

    function: ClassVar[str]  # Max or Avg
    unsaid = MappingProxyType({"strides": attrgetter("pool_size")})

    @property
    def steps(self) -> tuple[int, ...]:
        """The step of the window along each axis."""
        return self.pool_size if self.strides is None else self.strides

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        moves = zip(x.shape[2:], self.pool_size, self.steps, strict=True)
        counts = tuple(windowed(size, span, stride, self.padding == "same") for size, span, stride in moves)
        if any(count is not None and count < 1 for count in counts):
            raise ShapeError(f"has a window of {self.pool_size}, which does not fit into {x.described}")
        return (*x.shape[:2], *counts)

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        return self.each_channel(x)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        axes = list(zip(x.shape[2:], self.pool_size, self.steps, strict=True))
        if any(len(self._possible(*axis)) > 1 for axis in axes):
            return self._padded_when_run(x)
        befores = [self._before(*axis) for axis in axes]
        spans = self._spans(x)
        # with stride 1 and an even window, Keras pads one cell fewer before than after
        drops = [self.padding == "same" and stride == 1 and span % 2 == 0 for _, span, stride in axes]
        padding = tuple(before + drop for before, drop in zip(befores, drops, strict=True))
        is_cut = any(
            size is None or (size + 2 * before - span) // stride + 1 < -(-size // stride)
            for (size, _, stride), span, before in zip(axes, spans, befores, strict=True)
            if stride > 1
        )
        pool = call(
            f"nn.{self.function}Pool{self.spatial_rank}d",
            compact(spans),
            stride=unless(compact(spans), compact(self.steps)),
            padding=unless(0, compact(padding)),
            ceil_mode=unless(False, self.padding == "same" and is_cut),
            count_include_pad=False if self.function == "Avg" and any(padding) else OMIT,
        )
        pooled: Expression = Module(pool)(x)
        without = (..., *(slice(1 if drop else None, None) for drop in drops))
        return pooled[without] if any(drops) else pooled

    def _spans(self, x: Symbol) -> tuple[int, ...]:
        """The window sizes for torch: an axis with a single window that ends in padding has one cell less, to fit."""
        spans = []
        for size, span, step in zip(x.shape[2:], self.pool_size, self.steps, strict=True):
            is_padded = self.padding == "same" and step > 1 and size is not None
            is_longer = is_padded and (size or 0) + 2 * self._before(size, span, step) < span
            spans.append(span - 1 if is_longer else span)
        return tuple(spans)

    def _possible(self, size: int | None, span: int, stride: int) -> set[int]:
        """The possible numbers of padded cells before; more than one where an unknown size decides."""
        if self.padding == "valid":
            return {0}
        sizes = range(span, span + stride) if size is None else [size]
        return {same_padding(each, span, stride)[0] for each in sizes}

    def _before(self, size: int | None, span: int, stride: int) -> int:
        return self._possible(size, span, stride).pop()

    def _padded_when_run(self, x: Symbol) -> Expression:
        """Pooling of a tensor that is padded at run time, when its sizes are known."""
        if self.function == "Avg":
            return Module(call("SameAvgPool", self.pool_size, compact(self.steps)))(x)
        padding = call("SamePadding", self.pool_size, compact(self.steps), value=-math.inf)
        strides = unless(compact(self.pool_size), compact(self.steps))
        pool = call(f"nn.MaxPool{self.spatial_rank}d", compact(self.pool_size), stride=strides)
        return Module(pool)(Module(padding, "padding")(x))


class MaxPooling(Pooling):
    """The maximum of a window."""

    pool_size: Sizes = Field((2,), validate_default=True, description="The size of the window along each spatial axis.")
    function = "Max"


class AveragePooling(Pooling):
    """The mean of a window."""

    function = "Avg"


@kind
class MaxPooling1D(MaxPooling):
    """The maximum of a window along time or space."""

    spatial_rank = 1


@kind
class MaxPooling2D(MaxPooling):
    """The maximum of a window over images."""

    spatial_rank = 2


@kind
class MaxPooling3D(MaxPooling):
    """The maximum of a window over volumes."""

    spatial_rank = 3


@kind
class AveragePooling1D(AveragePooling):
    """The mean of a window along time or space."""

    spatial_rank = 1


@kind
class AveragePooling2D(AveragePooling):
    """The mean of a window over images."""

    spatial_rank = 2


@kind
class AveragePooling3D(AveragePooling):
    """The mean of a window over volumes."""

    spatial_rank = 3

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        if any(size is not None and size < span for size, span in zip(x.shape[2:], self._spans(x), strict=True)):
            raise ShapeError(f"has a window of {self.pool_size}, larger than torch takes for {x.described}")
        return super().lower(x)


class GlobalPooling(Spatial):
    """A maximum or mean over all positions."""

    main = None  # Keras's is the data_format, which a spec has once

    keepdims: bool = Field(False, description="Whether the spatial axes stay, with size 1.")

    method: ClassVar[str]

    def order(self, x: Symbol) -> Order | None:
        return None  # a reduction takes any order of axes

    def channels(self, x: Symbol) -> int:
        """Where the channels lie."""
        return x.dimension(1 if self.data_format == "channels_first" else -1)

    def _spatial(self, x: Symbol) -> tuple[int, ...]:
        """Where the spatial axes lie."""
        channels = self.channels(x)
        return tuple(dimension for dimension in range(1, x.rank) if dimension != channels)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        spatial = self._spatial(x)
        if self.keepdims:
            return tuple(1 if dimension in spatial else size for dimension, size in enumerate(x.shape))
        return tuple(size for dimension, size in enumerate(x.shape) if dimension not in spatial)

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        axis = x.order[self.channels(x)]
        return moved(x, {axis: axis if self.keepdims else 1})

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        spatial = self._spatial(x)
        return x.method(
            self.method, dim=spatial[0] if len(spatial) == 1 else spatial, keepdim=unless(False, self.keepdims)
        )


class GlobalMaxPooling(GlobalPooling):
    """The maximum over all positions."""

    method = "amax"


class GlobalAveragePooling(GlobalPooling):
    """The mean over all positions."""

    method = "mean"


@kind
class GlobalMaxPooling1D(GlobalMaxPooling):
    """The maximum over all steps."""

    spatial_rank = 1


@kind
class GlobalMaxPooling2D(GlobalMaxPooling):
    """The maximum over all pixels."""

    spatial_rank = 2


@kind
class GlobalMaxPooling3D(GlobalMaxPooling):
    """The maximum over all voxels."""

    spatial_rank = 3


@kind
class GlobalAveragePooling1D(GlobalAveragePooling):
    """The mean over all steps, of those that count where the input has a mask."""

    spatial_rank = 1
    reads_mask = True

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        if x.mask is None:
            return super().lower(x)
        (steps,) = self._spatial(x)
        mask = x.mask.method("unsqueeze", 3 - steps)
        total = call("torch.where", mask, x, 0.0).method("sum", dim=steps, keepdim=unless(False, self.keepdims))
        return total / mask.method("sum", dim=steps, keepdim=unless(False, self.keepdims))


@kind
class GlobalAveragePooling2D(GlobalAveragePooling):
    """The mean over all pixels."""

    spatial_rank = 2


@kind
class GlobalAveragePooling3D(GlobalAveragePooling):
    """The mean over all voxels."""

    spatial_rank = 3


class AdaptivePooling(Spatial):
    """A maximum or mean over windows whose sizes give the output the size that is wanted."""

    takes_signals = True

    example = "{output_size: 2}"

    output_size: Sizes = Field(description="The size of the output along each spatial axis.")

    function: ClassVar[str]

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return (*x.shape[:2], *self.output_size)

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        return self.each_channel(x)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call(f"nn.Adaptive{self.function}Pool{self.spatial_rank}d", compact(self.output_size)))(x)


class AdaptiveMaxPooling(AdaptivePooling):
    """The maximum over adaptive windows."""

    function = "Max"


class AdaptiveAveragePooling(AdaptivePooling):
    """The mean over adaptive windows."""

    function = "Avg"


@kind
class AdaptiveMaxPooling1D(AdaptiveMaxPooling):
    """The maximum over adaptive windows along time or space."""

    spatial_rank = 1


@kind
class AdaptiveMaxPooling2D(AdaptiveMaxPooling):
    """The maximum over adaptive windows of images."""

    spatial_rank = 2


@kind
class AdaptiveMaxPooling3D(AdaptiveMaxPooling):
    """The maximum over adaptive windows of volumes."""

    spatial_rank = 3


@kind
class AdaptiveAveragePooling1D(AdaptiveAveragePooling):
    """The mean over adaptive windows along time or space."""

    spatial_rank = 1


@kind
class AdaptiveAveragePooling2D(AdaptiveAveragePooling):
    """The mean over adaptive windows of images."""

    spatial_rank = 2


@kind
class AdaptiveAveragePooling3D(AdaptiveAveragePooling):
    """The mean over adaptive windows of volumes."""

    spatial_rank = 3
