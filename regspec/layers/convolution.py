"""Convolutions: plain, transposed, depthwise and separable, in one to three dimensions.

Written for channels first. ``padding: same`` pads as Keras does: ceil(n / stride) cells come out, and the odd cell of
padding is at the end. Equal padding on both sides is torch's own; any other is an ``F.pad`` before the convolution.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from regspec.code.expressions import Expression, Module, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol, compact, same_padding, windowed
from regspec.language.fields import Counts, NoCells, Size, Sizes
from regspec.layers.families import Activated, Spatial
from regspec.layers.kinds import kind
from regspec.layers.layer import Weight
from regspec.layers.slots import BiasSlot, DepthwiseSlot, KernelSlot, PointwiseSlot
from regspec.layers.ties import Fold, Place, Tie, Ties

AXES = {1: "l", 2: "h w", 3: "d h w"}


class Window(Spatial):
    """A window that moves along the spatial axes."""

    takes_signals = True

    strides: Sizes = Field((1,), validate_default=True, description="The step of the window along each spatial axis.")
    padding: Annotated[Literal["valid", "same", "causal"], NoCells] = Field(
        "valid",
        description="valid: only whole windows; same: padded to ceil(size / stride); causal: padded before only.",
    )
    dilation_rate: Sizes = Field(
        (1,), validate_default=True, description="The spacing between the cells of the window."
    )
    kernel_size: Sizes = Field(description="The size of the window along each spatial axis.")

    def spans(self) -> tuple[int, ...]:
        """The cells from the first to the last of the window, along each axis."""
        return tuple((size - 1) * step + 1 for size, step in zip(self.kernel_size, self.dilation_rate, strict=True))

    def windows(self, x: Symbol) -> Shape:
        """How many windows there are along each axis."""
        moves = zip(x.shape[2:], self.spans(), self.strides, strict=True)
        counts = tuple(windowed(size, span, stride, self.padding != "valid") for size, span, stride in moves)
        if any(count is not None and count < 1 for count in counts):
            raise ShapeError(f"has a window of {self.spans()}, which does not fit into {x.described}")
        return counts

    @property
    def adds_zeros(self) -> bool:
        """Whether a window may see zeros beside its input, so that of a constant it does not make one everywhere."""
        return self.padding != "valid" and any(span > 1 for span in self.spans())

    def padded(self, x: Symbol) -> tuple[Expression, int | tuple[int, ...]]:
        """The input with the padding that torch's convolution can't do, and the padding that it can."""
        if self.padding == "valid":
            return x, 0
        if self.padding == "causal":
            return call("F.pad", x, (self.spans()[0] - 1, 0)), 0
        if any(size is None and stride > 1 for size, stride in zip(x.shape[2:], self.strides, strict=True)):
            padding = call(
                "SamePadding", self.kernel_size, compact(self.strides), dilation=unless(1, compact(self.dilation_rate))
            )
            return Module(padding, "padding")(x), 0
        sides = [
            same_padding(size or span, span, stride)  # with stride 1 the size does not matter
            for size, span, stride in zip(x.shape[2:], self.spans(), self.strides, strict=True)
        ]
        if all(before == after for before, after in sides):
            return x, compact(tuple(before for before, _ in sides))
        return call("F.pad", x, tuple(cells for side in reversed(sides) for cells in side)), 0


class Even(Window):
    """A window whose padding, if it has any, lies on both sides."""

    padding: Annotated[Literal["valid", "same"], NoCells] = Field(
        "valid", description="valid: only whole windows; same: padded with zeros to ceil(size / stride) windows."
    )


class Convolution(KernelSlot, BiasSlot, Activated, Window):
    """A convolution of all channels, or of groups of them."""

    main = "filters"
    example = "{filters: 32, kernel_size: 3, activation: relu, kernel_regularizer: {l2: 1e-4}}"

    filters: Size = Field(description="The number of output channels.")
    groups: Size = Field(1, description="The groups of channels that are convolved apart.")

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        axes = AXES[self.spatial_rank]
        shape = (*self.kernel_size, x.size(1) // self.groups, self.filters)
        kernel = self.weight("kernel", f"{axes} i o -> o i {axes}", shape, blocks=self.groups)
        bias = self.weight("bias", "o", (self.filters,), parameters=("bias",))
        return (kernel, bias) if self.use_bias else (kernel,)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        if x.size(1) % self.groups or self.filters % self.groups:
            raise ShapeError(
                f"has {self.groups} groups, which do not divide {x.size(1)} channels into {self.filters} filters"
            )
        return self.activated_shape((x.shape[0], self.filters, *self.windows(x)), x)

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        axis, last = x.order[1], self.spatial_rank + 1
        stays = self.mixes(axis, x.rank)
        output = () if stays else (Place(~0, axis),)
        channels = Tie(x.size(1), (Place(0, axis), Place("kernel", last - 1)), parts=self.groups)
        made = (Place("kernel", last), Place("bias", 0), *output)
        filters = Tie(self.filters, made, ("filters",), stays=stays, parts=self.groups)
        folds = () if self.adds_zeros else (Fold("kernel", "bias", is_last=self.activation is None),)
        grouped = {"kernel": self.groups} if self.groups > 1 else {}
        return Ties((channels, filters), folds, grouped, ("groups",), why_not="it sees zeros beside them")

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        padded, padding = self.padded(x)
        convolution = call(
            f"nn.Conv{self.spatial_rank}d",
            x.size(1),
            self.filters,
            compact(self.kernel_size),
            stride=unless(1, compact(self.strides)),
            padding=unless(0, padding),
            dilation=unless(1, compact(self.dilation_rate)),
            groups=unless(1, self.groups),
            bias=unless(True, self.use_bias),
        )
        return self.activate(Module(convolution)(padded), x)


@kind
class Conv1D(Convolution):
    """A convolution along time or space."""

    spatial_rank = 1


@kind
class Conv2D(Even, Convolution):
    """A convolution over images."""

    spatial_rank = 2


@kind
class Conv3D(Even, Convolution):
    """A convolution over volumes."""

    spatial_rank = 3


class Transposed(KernelSlot, BiasSlot, Activated, Even):
    """The transpose of a convolution, which enlarges."""

    main = "filters"
    example = "{filters: 16, kernel_size: 2, strides: 2, kernel_regularizer: {l2: 1e-4}}"

    filters: Size = Field(description="The number of output channels.")
    output_padding: Counts | None = Field(
        None, description="Cells added at the end of each axis; chosen from the stride when absent."
    )

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        axes = AXES[self.spatial_rank]
        kernel = self.weight("kernel", f"{axes} o i -> i o {axes}", (*self.kernel_size, self.filters, x.size(1)))
        bias = self.weight("bias", "o", (self.filters,), parameters=("bias",))
        return (kernel, bias) if self.use_bias else (kernel,)

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        axis, last = x.order[1], self.spatial_rank + 1
        stays = self.mixes(axis, x.rank)
        output = () if stays else (Place(~0, axis),)
        channels = Tie(x.size(1), (Place(0, axis), Place("kernel", last)))
        made = (Place("kernel", last - 1), Place("bias", 0), *output)
        return Ties((channels, Tie(self.filters, made, ("filters",), stays=stays)))

    def crops(self) -> list[tuple[int, int]]:
        """The cells that Keras takes off torch's full output, before and after; negative ones are cells to add."""
        crops = []
        for axis, (span, stride) in enumerate(zip(self.spans(), self.strides, strict=True)):
            extra = None if self.output_padding is None else self.output_padding[axis]
            if self.padding == "valid":
                crops.append((0, -(max(stride - span, 0) if extra is None else extra)))
                continue
            total = span - stride if extra is None else span - span % 2 - extra
            before = max(total // 2, 0)
            crops.append((before, total - before))
        return crops

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        sizes = tuple(
            None if size is None else (size - 1) * stride + span - before - after
            for size, stride, span, (before, after) in zip(
                x.shape[2:], self.strides, self.spans(), self.crops(), strict=True
            )
        )
        return self.activated_shape((x.shape[0], self.filters, *sizes), x)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        # torch crops both ends alike, and can add cells at the end; what Keras crops beyond that is sliced off
        added = tuple(max(before - after, 0) for before, after in self.crops())
        rest = [max(after - before, 0) for before, after in self.crops()]
        for cells, stride, dilation in zip(added, self.strides, self.dilation_rate, strict=True):
            if cells >= max(stride, dilation):
                raise ShapeError(f"has an output_padding that adds {cells} cells, but torch adds fewer than the stride")
        convolution = call(
            f"nn.ConvTranspose{self.spatial_rank}d",
            x.size(1),
            self.filters,
            compact(self.kernel_size),
            stride=unless(1, compact(self.strides)),
            padding=unless(0, compact(tuple(before for before, _ in self.crops()))),
            output_padding=unless(0, compact(added)),
            bias=unless(True, self.use_bias),
            dilation=unless(1, compact(self.dilation_rate)),
        )
        full: Expression = Module(convolution)(x)
        if any(rest):
            without = (..., *(slice(None, -cells or None) for cells in rest))
            full = full[without]
        return self.activate(full, x)


@kind
class Conv1DTranspose(Transposed):
    """The transpose of a convolution along time or space."""

    spatial_rank = 1


@kind
class Conv2DTranspose(Transposed):
    """The transpose of a convolution over images."""

    spatial_rank = 2


@kind
class Conv3DTranspose(Transposed):
    """The transpose of a convolution over volumes."""

    spatial_rank = 3


class Depthwise(DepthwiseSlot, Even):
    """Filters of each channel by itself."""

    depth_multiplier: Size = Field(1, description="The number of filters for each channel.")

    @property
    def depthwise_pattern(self) -> str:
        axes = AXES[self.spatial_rank]
        return f"{axes} i o -> (i o) 1 {axes}"

    def filtered(self, x: Symbol, suffix: str, use_bias: bool) -> Expression:
        """The input after the depthwise filters."""
        padded, padding = self.padded(x)
        convolution = call(
            f"nn.Conv{self.spatial_rank}d",
            x.size(1),
            x.size(1) * self.depth_multiplier,
            compact(self.kernel_size),
            stride=unless(1, compact(self.strides)),
            padding=unless(0, padding),
            dilation=unless(1, compact(self.dilation_rate)),
            groups=unless(1, x.size(1)),
            bias=unless(True, use_bias),
        )
        return Module(convolution, suffix)(padded)


class DepthwiseConvolution(BiasSlot, Activated, Depthwise):
    """A convolution of each channel by itself."""

    example = "{kernel_size: 3, padding: same, depthwise_regularizer: {l2: 1e-4}}"

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        depthwise = self.weight(
            "depthwise",
            self.depthwise_pattern,
            (*self.kernel_size, x.size(1), self.depth_multiplier),
            blocks=x.size(1),
        )
        bias = self.weight("bias", "o", (x.size(1) * self.depth_multiplier,), parameters=("bias",))
        return (depthwise, bias) if self.use_bias else (depthwise,)

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        axis, times = x.order[1], self.depth_multiplier
        stays = self.mixes(axis, x.rank)
        output = () if stays else (Place(~0, axis, inner=times),)
        places = (Place(0, axis), Place("depthwise", self.spatial_rank), Place("bias", 0, inner=times), *output)
        return Ties((Tie(x.size(1), places, stays=stays, factors=("depthwise",)),))

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return self.activated_shape((x.shape[0], x.size(1) * self.depth_multiplier, *self.windows(x)), x)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return self.activate(self.filtered(x, "", self.use_bias), x)


@kind
class DepthwiseConv1D(DepthwiseConvolution):
    """A convolution of each channel by itself, along time or space."""

    spatial_rank = 1


@kind
class DepthwiseConv2D(DepthwiseConvolution):
    """A convolution of each channel of an image by itself."""

    spatial_rank = 2


class SeparableConvolution(PointwiseSlot, BiasSlot, Activated, Depthwise):
    """A depthwise convolution, then a pointwise one that mixes the channels."""

    main = "filters"
    example = "{filters: 32, kernel_size: 3, padding: same, pointwise_regularizer: {l2: 1e-4}}"

    filters: Size = Field(description="The number of output channels.")

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        axes = AXES[self.spatial_rank]
        ones = (1,) * self.spatial_rank
        channels = x.size(1)
        depthwise_shape = (*self.kernel_size, channels, self.depth_multiplier)
        pointwise_shape = (*ones, channels * self.depth_multiplier, self.filters)
        depthwise = self.weight(
            "depthwise", self.depthwise_pattern, depthwise_shape, module="depthwise", blocks=channels
        )
        pointwise = self.weight("pointwise", f"{axes} i o -> o i {axes}", pointwise_shape, module="pointwise")
        bias = self.weight("bias", "o", (self.filters,), parameters=("bias",), module="pointwise")
        return (depthwise, pointwise, bias) if self.use_bias else (depthwise, pointwise)

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        axis, last = x.order[1], self.spatial_rank + 1
        stays = self.mixes(axis, x.rank)
        output = () if stays else (Place(~0, axis),)
        mixed = Place("pointwise", last - 1, inner=self.depth_multiplier)
        channels = (Place(0, axis), Place("depthwise", last - 1), mixed)
        made = (Place("pointwise", last), Place("bias", 0), *output)
        filters = Tie(self.filters, made, ("filters",), stays=stays)
        return Ties((Tie(x.size(1), channels, factors=("depthwise",)), filters))

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return self.activated_shape((x.shape[0], self.filters, *self.windows(x)), x)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        channels = x.size(1) * self.depth_multiplier
        bias = unless(True, self.use_bias)
        pointwise = Module(call(f"nn.Conv{self.spatial_rank}d", channels, self.filters, 1, bias=bias), "pointwise")
        return self.activate(pointwise(self.filtered(x, "depthwise", use_bias=False)), x)


@kind
class SeparableConv1D(SeparableConvolution):
    """A depthwise convolution along time or space, then a pointwise one."""

    padding: Annotated[Literal["valid", "same", "causal"], NoCells] = Field(  # type: ignore[assignment]  # causal as in Keras 2
        "valid",
        description="valid: only whole windows; same: padded to ceil(size / stride); causal: padded before only.",
    )

    spatial_rank = 1


@kind
class SeparableConv2D(SeparableConvolution):
    """A depthwise convolution over images, then a pointwise one."""

    spatial_rank = 2
