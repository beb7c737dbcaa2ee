"""Recurrent modules with what torch's lack: other activations, dropout inside the recurrence, a GRU that resets first.

They are torch's modules, with the same parameters and results, but step in Python. Dropout is drawn once a sequence,
as in Gal and Ghahramani (2016), https://arxiv.org/abs/1512.05287.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


class _Parameters(nn.RNNBase):
    """What torch's recurrent modules hold, with its types."""

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor


def _run(
    module: _Parameters, x: Tensor, states: tuple[Tensor, ...], step: Step, dropout: float
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All steps' outputs (batch, steps, hidden) and the last states (1, batch, hidden).

    ``step`` takes the projection of a step's input and the states, and gives the new states, the output first.
    """
    if dropout and module.training:
        x = x * F.dropout(torch.ones_like(x[:, :1]), dropout)
    projected = F.linear(x, module.weight_ih_l0, module.bias_ih_l0 if module.bias else None)
    outputs = []
    for index in range(x.shape[1]):
        states = step(projected[:, index], states)
        outputs.append(states[0])
    return torch.stack(outputs, dim=1), tuple(state.unsqueeze(0) for state in states)


def _initial(module: nn.RNNBase, x: Tensor, state: Tensor | None) -> Tensor:
    return x.new_zeros(x.shape[0], module.hidden_size) if state is None else state[0]


def _mask(module: nn.RNNBase, h: Tensor, dropout: float) -> Tensor | None:
    """What the state is multiplied by in each step."""
    return F.dropout(torch.ones_like(h), dropout) if dropout and module.training else None


class SimpleRNN(nn.RNN, _Parameters):
    """``h = activation(W_ih x + b_ih + W_hh h)``."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        activation: nn.Module | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias, batch_first=True)
        self.activation = nn.Tanh() if activation is None else activation
        self.input_dropout = dropout
        self.recurrent_dropout = recurrent_dropout

    # torch's forward takes packed sequences too, which no spec gives
    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = _initial(self, input, hx)
        mask = _mask(self, h, self.recurrent_dropout)

        def step(x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (h,) = states
            h = h if mask is None else h * mask
            return (self.activation(x + F.linear(h, self.weight_hh_l0)),)

        output, (last,) = _run(self, input, (h,), step, self.input_dropout)
        return output, last


class LSTM(nn.LSTM, _Parameters):
    """An LSTM with chosen activations; torch's gates: input, forget, cell, output."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        activation: nn.Module | None = None,
        recurrent_activation: nn.Module | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias, batch_first=True)
        self.activation = nn.Tanh() if activation is None else activation
        self.recurrent_activation = nn.Sigmoid() if recurrent_activation is None else recurrent_activation
        self.input_dropout = dropout
        self.recurrent_dropout = recurrent_dropout

    # torch's forward takes packed sequences too, which no spec gives
    def forward(  # type: ignore[override]
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        h, c = (_initial(self, input, state) for state in (hx or (None, None)))
        mask = _mask(self, h, self.recurrent_dropout)

        def step(x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            h, c = states
            h = h if mask is None else h * mask
            i, f, g, o = (x + F.linear(h, self.weight_hh_l0)).chunk(4, dim=1)
            c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
            return self.recurrent_activation(o) * self.activation(c), c

        return _run(self, input, (h, c), step, self.input_dropout)


class GRU(nn.GRU, _Parameters):
    """A GRU with chosen activations, which may reset before its product; torch's gates: reset, update, new."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        activation: nn.Module | None = None,
        recurrent_activation: nn.Module | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias, batch_first=True)
        self.activation = nn.Tanh() if activation is None else activation
        self.recurrent_activation = nn.Sigmoid() if recurrent_activation is None else recurrent_activation
        self.input_dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.reset_after = reset_after

    # torch's forward takes packed sequences too, which no spec gives
    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = _initial(self, input, hx)
        mask = _mask(self, h, self.recurrent_dropout)
        gates, new = self.weight_hh_l0.split((2 * self.hidden_size, self.hidden_size))
        gates_bias, new_bias = (
            self.bias_hh_l0.split((2 * self.hidden_size, self.hidden_size)) if self.bias else (None, None)
        )

        def step(x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (h,) = states
            masked = h if mask is None else h * mask
            x_gates, x_new = x.split((2 * self.hidden_size, self.hidden_size), dim=1)
            r, z = self.recurrent_activation(x_gates + F.linear(masked, gates, gates_bias)).chunk(2, dim=1)
            inner = r * F.linear(masked, new, new_bias) if self.reset_after else F.linear(r * masked, new)
            return (z * h + (1 - z) * self.activation(x_new + inner),)

        output, (last,) = _run(self, input, (h,), step, self.input_dropout)
        return output, last
