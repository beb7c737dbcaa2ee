"""Convolutional LSTMs over sequences of signals, images or volumes: an LSTM whose products are convolutions.

Written for (batch, steps, channels, …). The input's convolution is padded like that of a convolution layer. The state's
convolution keeps the state's size: as in Keras its stride and dilation are 1, whatever the layer's are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import Call, Expression, Module, Part, call, replaced, unless
from regspec.code.shapes import Shape, ShapeError, Symbol, compact
from regspec.language.fields import Size
from regspec.layers.cells import Gated, Names
from regspec.layers.convolution import AXES, Even
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer, Weight
from regspec.layers.recurrent import Recurrent
from regspec.layers.ties import Place, Tie, Ties, mixes


class ConvLSTM(Recurrent, Gated, Even):
    """A convolutional LSTM."""

    main = "filters"
    example = "{filters: 16, kernel_size: 3, kernel_regularizer: {l2: 1e-4}}"

    width = "filters"
    is_frozen_in_keras = False

    filters: Size = Field(description="The number of channels of the output and of the states.")
    unit_forget_bias: bool = Field(True, description="Whether the bias of the forget gate starts at one.")

    @classmethod
    def __pydantic_init_subclass__(cls, **keywords: Any) -> None:
        super().__pydantic_init_subclass__(**keywords)
        if cls.takes is not None:
            batch, *rest = cls.takes
            cls.takes = (batch, "steps", *rest)

    @property
    def takes_steps(self) -> bool:
        return True

    @property
    def state_count(self) -> int:
        return 2

    def _order(self, rank: int, x: Symbol) -> Order:
        """The order of axes of a sequence, or of a state, which has no axis of steps."""
        if self.data_format == "channels_first":
            return axes.identity(rank)
        first = 1 if rank < self.spatial_rank + 3 else 2
        return (*range(first), rank - 1, *range(first, rank - 1))

    def order(self, x: Symbol) -> Order | None:
        return self._order(x.rank, x)

    def output_order(self, rank: int, x: Symbol, *_: Symbol) -> Order:
        return self._order(rank, x)

    def spatial_order(self, rank: int) -> Order:
        is_state = rank < self.spatial_rank + 3
        return axes.channels_first(rank) if is_state else (0, 1, rank - 1, *range(2, rank - 1))

    def has_channels_first(self, x: Symbol) -> bool:
        """Keras's cell has its functions along the last axis, whichever it is."""
        functions = (self.activation, self.recurrent_activation)
        is_along = any(function is not None and function.along is not None for function in functions)
        return not is_along and super().has_channels_first(x)

    def input_spec_order(self, rank: int) -> Order:
        if self.data_format == "channels_last":
            return axes.identity(rank)
        return self.spatial_order(rank)

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        """Of a sequence, or of its last step or a state: the channels stay where a spec counts them."""
        x = xs[0]
        if x.rank == rank:
            return x.spec_order
        return axes.identity(rank) if x.is_plain else axes.channels_first(rank)

    def counted_by_keras(self, *xs: Symbol) -> Layer:
        if self.data_format is None or xs[0].is_open or xs[0].rank != len(self.takes or ()):
            return self  # to be checked first
        is_first = not xs[0].is_plain
        if is_first != (self.data_format == "channels_first"):
            raise ShapeError(
                f"has data_format: {self.data_format}, but {xs[0].described}, has its channels elsewhere",
                "a layer knows where the channels of its input are: leave data_format out",
            )
        return self.model_copy(update={"data_format": None})

    def units_of(self, output: Symbol) -> int:
        return -1 - self.spatial_rank

    def _step(self, x: Symbol) -> Symbol:
        """A tensor like one step of ``x``."""
        return Symbol((x.shape[0], *x.shape[2:]), x.source, order=self._order(x.rank - 1, x))

    def step_shape(self, x: Symbol) -> Shape:
        return (x.shape[0], self.filters, *self.windows(self._step(x)))

    def state_shapes(self, x: Symbol) -> tuple[Shape, ...]:
        return (self.step_shape(x),) * 2

    def owned_weights(self, x: Symbol, owner: Names = ()) -> tuple[Weight, ...]:
        letters, module = AXES[self.spatial_rank], "_".join(owner)

        def weight(slot: str, pattern: str, shape: tuple[int, ...], parameter: str, **more: Any) -> Weight:
            name = ".".join((*owner, slot))
            return self.weight(slot, pattern, shape, name=name, module=module, parameters=(parameter,), **more)

        pattern, width = f"{letters} i o -> o i {letters}", 4 * self.filters
        kernel = weight("kernel", pattern, (*self.kernel_size, x.size(2), width), "weight_ih")
        recurrent = weight("recurrent", pattern, (*self.kernel_size, self.filters, width), "weight_hh")
        if not self.use_bias:
            return (kernel, recurrent)
        ones = (self.filters, 2 * self.filters) if self.unit_forget_bias else None
        return (kernel, recurrent, weight("bias", "o", (width,), "bias", ones=ones))

    def ties(self, x: Symbol, *states: Symbol) -> Ties | None:
        """Those of an LSTM, whose gates lie one after the other in each kernel."""
        if self.stateful:
            return None  # the states that it keeps have units too
        axis, last, gates = x.order[2], self.spatial_rank + 1, 4
        step = self._step(x)
        given = Place(~0, axis if self.return_sequences else step.order[1])
        returned = [Place(~(1 + i), step.order[1]) for i in range(self.state_count) if self.return_state]
        initial = [Place(1 + i, state.order[1]) for i, state in enumerate(states)]
        kernels = [Place(slot, last, outer=gates) for slot in ("kernel", "recurrent")]
        own = (Place("recurrent", last - 1), *kernels, Place("bias", 0, outer=gates))
        stays = mixes(self.activation, 1, 2) or mixes(self.recurrent_activation, 1, 2)
        filters = Tie(self.filters, (*own, *initial, *returned, given), ("filters",), stays=stays)
        channels = Tie(x.size(2), (Place(0, axis), Place("kernel", last - 1)))
        return Ties((channels, filters), why_not="it sees zeros beside them")

    def outputs(
        self, x: Symbol, sequence: Expression, initial: Sequence[Expression], owner: Names = ()
    ) -> tuple[Expression, tuple[Expression, ...]]:
        for dimension, stride in enumerate(self.strides, 3):
            if self.padding == "same" and stride > 1:
                x.size(dimension)  # the padding depends on it
        step = self._step(x)
        padded, padding = self.padded(step)
        module = Module(self._constructor(x, padding), "_".join(owner))
        given = [tuple(initial)] if initial else []
        whole = module(replaced(padded, {step: sequence}), *given, **self.mask_for(x))
        structure = ("sequence", ("h", "c"))
        return Part(whole, structure, (0,)), (Part(whole, structure, (1, 0)), Part(whole, structure, (1, 1)))

    def _constructor(self, x: Symbol, padding: int | tuple[int, ...]) -> Call:
        last = -1 if self._order(x.rank, x) == axes.identity(x.rank) else -1 - self.spatial_rank
        return call(
            "ConvLSTM",
            x.size(2),
            self.filters,
            self.kernel_size,
            stride=unless(1, compact(self.strides)),
            padding=unless(0, padding),
            dilation=unless(1, compact(self.dilation_rate)),
            bias=unless(True, self.use_bias),
            **self.options(last),
            **self.options_for(x),
        )


@kind
class ConvLSTM1D(ConvLSTM):
    """A convolutional LSTM over sequences of signals."""

    spatial_rank = 1


@kind
class ConvLSTM2D(ConvLSTM):
    """A convolutional LSTM over sequences of images, as of Shi et al. (2015)."""

    spatial_rank = 2


@kind
class ConvLSTM3D(ConvLSTM):
    """A convolutional LSTM over sequences of volumes."""

    spatial_rank = 3
