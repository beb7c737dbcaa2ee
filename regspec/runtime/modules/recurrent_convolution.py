"""The convolutional LSTM, over sequences of signals, images or volumes."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regspec.runtime.modules.recurrent import Stateful, States, _run, _shown

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class ConvLSTM(Stateful):
    """An LSTM over (batch, steps, channels, …) whose products are convolutions, as of Shi et al. (2015).

    Gates: input, forget, cell, output. The state's convolution has stride 1, and is padded to keep the size. Dropout is
    drawn once a sequence, for each gate. https://arxiv.org/abs/1506.04214
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        *,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        bias: bool = True,
        activation: nn.Module | None = None,
        recurrent_activation: nn.Module | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.activation = nn.Tanh() if activation is None else activation
        self.recurrent_activation = nn.Sigmoid() if recurrent_activation is None else recurrent_activation
        self.input_dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.stateful = stateful
        self.zero_output_for_mask = zero_output_for_mask
        self.weight_ih = nn.Parameter(torch.empty(4 * out_channels, in_channels, *kernel_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * out_channels, out_channels, *kernel_size))
        self.bias = nn.Parameter(torch.zeros(4 * out_channels)) if bias else None
        nn.init.xavier_uniform_(self.weight_ih)
        nn.init.orthogonal_(self.weight_hh)

    def forward(self, input: Tensor, hx: States | None = None, mask: Tensor | None = None) -> tuple[Tensor, States]:
        convolve = _CONVOLUTIONS[len(self.kernel_size)]
        noise = self._noise(input[:, 0], self.input_dropout)
        x = input.flatten(0, 1)
        if noise is not None:
            x = _for_each_gate(x, noise.repeat_interleave(input.shape[1], 0))
        groups = 1 if noise is None else 4
        x = convolve(x, self.weight_ih, self.bias, self.stride, self.padding, self.dilation, groups)
        x = x.unflatten(0, input.shape[:2])
        states = self._first(input, hx, 2, (input.shape[0], self.out_channels, *x.shape[3:]))
        step = partial(self._step, noise=self._noise(states[0], self.recurrent_dropout))
        output, last = _run(x, states, step, mask)
        self._keep(last)
        return _shown(output, mask, self.zero_output_for_mask), last

    def _step(self, x: Tensor, states: States, noise: Tensor | None) -> States:
        """The next states, from the convolution of a step's input."""
        h, c = states
        h = h if noise is None else _for_each_gate(h, noise)
        if any(size % 2 == 0 for size in self.kernel_size):  # an odd cell of padding lies after
            h = F.pad(h, [cells for size in reversed(self.kernel_size) for cells in (0, 1 - size % 2)])
        padding = tuple((size - 1) // 2 for size in self.kernel_size)
        convolve = _CONVOLUTIONS[len(self.kernel_size)]
        gates = x + convolve(h, self.weight_hh, padding=padding, groups=1 if noise is None else 4)
        i, f, g, o = gates.chunk(4, dim=1)
        c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
        return self.recurrent_activation(o) * self.activation(c), c

    def _noise(self, like: Tensor, dropout: float) -> Tensor | None:
        """What channels (batch, channels, …) are multiplied by for each gate, (batch, gates, channels, …)."""
        if not (dropout and self.training):
            return None
        return F.dropout(like.new_ones(like.shape[0], 4, *like.shape[1:]), dropout)

    def extra_repr(self) -> str:
        return f"{self.weight_ih.shape[1]}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"


def _for_each_gate(x: Tensor, noise: Tensor) -> Tensor:
    """A copy of ``x`` times the noise of each gate, one after the other along the channels: groups of them."""
    return (x.unsqueeze(1) * noise).flatten(1, 2)
