"""Keras 2's locally connected layers: convolutions with different filters at each place."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from regspec.code.expressions import Expression, Module, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol, compact, windowed
from regspec.language.fields import Size, Sizes
from regspec.layers.families import Activated, Spatial
from regspec.layers.kinds import kind
from regspec.layers.layer import Weight
from regspec.layers.slots import BiasSlot, KernelSlot
from regspec.layers.ties import Place, Tie, Ties


class LocallyConnected(KernelSlot, BiasSlot, Activated, Spatial):
    """A window that moves along the spatial axes, with weights of its own at each place."""

    main = "filters"
    is_in_keras = False  # only in Keras 2
    is_in_files = True

    example = "{filters: 16, kernel_size: 3, kernel_regularizer: {l2: 1e-4}}"

    filters: Size = Field(description="The number of output channels.")
    kernel_size: Sizes = Field(description="The size of the window along each spatial axis.")
    strides: Sizes = Field((1,), validate_default=True, description="The step of the window along each spatial axis.")
    padding: Literal["valid"] = Field("valid", description="valid: only whole windows; there is no other.")

    def places(self, x: Symbol) -> tuple[int, ...]:
        """How many windows there are along each axis."""
        sizes = [x.size(dimension) for dimension in range(2, x.rank)]
        moves = zip(sizes, self.kernel_size, self.strides, strict=True)
        counts = tuple(windowed(size, span, stride, False) or 0 for size, span, stride in moves)
        if min(counts) < 1:
            raise ShapeError(f"has a window of {self.kernel_size}, which does not fit into {x.described}")
        return counts

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        places = self.places(x)
        cells = math.prod(self.kernel_size) * x.size(1)
        axes = "l" if self.spatial_rank == 1 else "h w"
        kernel = self.weight("kernel", "p i o", (math.prod(places), cells, self.filters))
        bias = self.weight("bias", f"{axes} o -> o {axes}", (*places, self.filters), parameters=("bias",))
        return (kernel, bias) if self.use_bias else (kernel,)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return self.activated_shape((x.shape[0], self.filters, *self.places(x)), x)

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        axis, cells = x.order[1], math.prod(self.kernel_size)
        stays = self.mixes(axis, x.rank)
        output = () if stays else (Place(~0, axis),)
        read = Place("kernel", 1, outer=cells) if self._reads_channels_last(x) else Place("kernel", 1, inner=cells)
        channels = Tie(x.size(1), (Place(0, axis), read))
        made = (Place("kernel", 2), Place("bias", self.spatial_rank), *output)
        filters = Tie(self.filters, made, ("filters",), stays=stays)
        return Ties((channels, filters), why_not="it is another one at each place")

    def _reads_channels_last(self, x: Symbol) -> bool:
        """Whether the numbers of a window lie so in the kernel."""
        return x.is_plain and self.data_format != "channels_first"

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        constructor = call(
            "LocallyConnected",
            x.size(1),
            self.filters,
            self.places(x),
            self.kernel_size,
            stride=unless(1, compact(self.strides)),
            bias=unless(True, self.use_bias),
            channels_last=unless(True, self._reads_channels_last(x)),
        )
        return self.activate(Module(constructor)(x), x)


@kind
class LocallyConnected1D(LocallyConnected):
    """A convolution along time or space whose filters are others at each place, of Keras 2."""

    spatial_rank = 1


@kind
class LocallyConnected2D(LocallyConnected):
    """A convolution over images whose filters are others at each place, of Keras 2."""

    spatial_rank = 2
