"""Recurrent modules with what torch's lack: other activations, dropout in the recurrence, states that are kept.

They are torch's modules, with the same parameters and results, but step in Python where torch can't do it. The noise of
dropout is drawn once a sequence, as in Gal and Ghahramani (2016), https://arxiv.org/abs/1512.05287; with recurrent
dropout each gate has its own, as in Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from regspec.runtime.penalties.passes import is_in_backward

States = tuple[Tensor, ...]
Step = Callable[[Tensor, States], States]


def _run(x: Tensor, states: States, step: Step, mask: Tensor | None = None) -> tuple[Tensor, States]:
    """Runs ``step`` over ``x`` (batch, steps, …); gives the outputs of all steps (batch, steps, …) and the last states.

    ``step`` maps one step's input and the states to the new states, of which the first is the output. Where a mask
    (batch, steps) is false, the states stay as they are.
    """
    outputs = []
    for index, given in enumerate(x.unbind(1)):
        after = step(given, states)
        if mask is not None:
            counts = mask[:, index].view(-1, *(1,) * (given.ndim - 1))
            after = tuple(torch.where(counts, new, old) for new, old in zip(after, states, strict=True))
        states = after
        outputs.append(states[0])
    return torch.stack(outputs, dim=1), states


def _shown(output: Tensor, mask: Tensor | None, zero_output_for_mask: bool) -> Tensor:
    """The outputs as Keras returns them: a masked step repeats the output before it, and is zero if there is none.

    With ``zero_output_for_mask`` every masked step is zero.
    """
    if mask is None:
        return output
    shown = mask if zero_output_for_mask else mask.cumsum(1) > 0
    return torch.where(shown.view(*shown.shape, *(1,) * (output.ndim - 2)), output, 0.0)


class Stateful(nn.Module):
    """A module that, if it is stateful, begins each forward with the last states of the one before.

    The states are no buffers, because they belong to a stream of data and not to the model. So they are in no
    state_dict, and `DistributedDataParallel`, which copies buffers from the first process to all, leaves them alone.
    """

    stateful: bool = False
    _kept: States | None = None

    def reset_states(self) -> None:
        """Forgets the states, so that the next forward begins with zeros, on a batch of any size."""
        self._kept = None

    def _first(self, x: Tensor, given: States | None, count: int, shape: tuple[int, ...]) -> States:
        """The states to begin with: those given, those kept, or zeros."""
        if self.stateful and is_in_backward():
            raise RuntimeError(
                "a stateful layer was recomputed in the backward pass, when it had gone on to other states: "
                "leave it out of activation checkpointing"
            )
        if self.stateful and torch.compiler.is_exporting():
            raise RuntimeError("an exported program keeps no states: export a model whose layers are not stateful")
        if given is not None or self._kept is None:
            return (x.new_zeros(shape),) * count if given is None else given
        if self._kept[0].shape != shape:
            raise ValueError(
                f"a stateful layer keeps states of {tuple(self._kept[0].shape)}, and this input needs {shape}: "
                "batches must be of one size until reset_states() is called"
            )
        # a copy, because what was kept in inference mode can't be part of a graph
        return tuple(state.to(x, copy=True) for state in self._kept)

    def _keep(self, states: States) -> None:
        """Keeps the last states, detached from the graph."""
        if self.stateful:
            self._kept = tuple(state.detach().clone() for state in states)


def reset_states(module: nn.Module) -> None:
    """Has every stateful layer in a module forget its states, so that the next forward begins with zeros.

    Example:
        >>> import regspec, torch
        >>> layers = [{"GRU": {"units": 2, "stateful": True}}]
        >>> model = regspec.build({"inputs": {"x": {"shape": [3, 4]}}, "layers": layers})
        >>> x = torch.randn(5, 3, 4)
        >>> first, second = model(x), model(x)  # which goes on where the first ended
        >>> regspec.reset_states(model)
        >>> torch.equal(model(x), first)
        True
    """
    for each in module.modules():
        if isinstance(each, Stateful):
            each.reset_states()


def _noisy_linear(x: Tensor, weight: Tensor, bias: Tensor | None, noise: Tensor | None) -> Tensor:
    """``F.linear``; with noise (batch, gates, features), each gate sees the features times its own."""
    if noise is None:
        return F.linear(x, weight, bias)
    product = torch.einsum("b...i,bgi,goi->b...go", x, noise, weight.unflatten(0, (noise.shape[1], -1))).flatten(-2)
    return product if bias is None else product + bias.to(product.dtype)


class _Recurrent(Stateful, nn.RNNBase):
    """What the modules have in common. Each derives from this class first, and then from the torch class it extends."""

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor
    gates: int
    state_count: int = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        activation: nn.Module | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias, batch_first=True)  # type: ignore[arg-type, call-arg]  # torch declares them as *args
        self.activation = nn.Tanh() if activation is None else activation
        self.input_dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.stateful = stateful
        self.zero_output_for_mask = zero_output_for_mask

    def forward(
        self, input: Tensor, hx: Tensor | States | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | States]:
        given = (hx,) if isinstance(hx, Tensor) else hx
        first = None if given is None else tuple(state[0] for state in given)
        states = self._first(input, first, self.state_count, (input.shape[0], self.hidden_size))
        input_noise = self._noise(input[:, 0], self.input_dropout)
        noise = self._noise(states[0], self.recurrent_dropout)
        # cuDNN has no backward in evaluation mode
        has_backward = self.training or not input.is_cuda or not torch.is_grad_enabled()
        # how long packed sequences are is data, which an exported program can't have in its shapes
        is_packed = mask is not None and torch.compiler.is_exporting()
        if noise is None and self._is_native() and has_backward and not is_packed:
            x = input if input_noise is None else input * input_noise
            output, states = self._natively(x, states, mask)
        else:
            bias = self.bias_ih_l0 if self.bias else None
            projected = _noisy_linear(input, self.weight_ih_l0, bias, input_noise)
            output, states = _run(projected, states, partial(self._step, noise=noise), mask)
        self._keep(states)
        return _shown(output, mask, self.zero_output_for_mask), _as_torch_has(states)

    def _natively(self, x: Tensor, states: States, mask: Tensor | None) -> tuple[Tensor, States]:
        """The outputs and states of torch's own forward; with a mask, over a packed sequence of the unmasked steps."""
        if mask is None:
            output, last = super().forward(x, _as_torch_has(states))
            return output, (last[0],) if isinstance(last, Tensor) else tuple(state[0] for state in last)
        order = (~mask).byte().argsort(dim=1, stable=True)  # the steps that count come first
        x = x.gather(1, order.unsqueeze(-1).expand_as(x))
        count = mask.sum(1)
        packed = pack_padded_sequence(x, count.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
        packed, last = super().forward(packed, _as_torch_has(states))
        output, _ = pad_packed_sequence(packed, batch_first=True, total_length=mask.shape[1])
        place = (mask.cumsum(1) - 1).clamp(min=0)  # of the last step that counted, among those that do
        output = output.gather(1, place.unsqueeze(-1).expand(-1, -1, output.shape[-1]))
        after = (last[0],) if isinstance(last, Tensor) else tuple(state[0] for state in last)
        has_any = (count > 0).unsqueeze(-1)
        return output, tuple(torch.where(has_any, new, old) for new, old in zip(after, states, strict=True))

    # methods, because torch.compile (2.13) takes a property of `super()` to be always true
    def _is_native(self) -> bool:
        """Whether torch's own forward can compute it, if there is no dropout in the recurrence."""
        return isinstance(self.activation, nn.Tanh)

    def _step(self, x: Tensor, states: States, noise: Tensor | None) -> States:
        """The next states, from a step's projection."""
        raise NotImplementedError

    def _noise(self, like: Tensor, dropout: float) -> Tensor | None:
        """What features (batch, features) are multiplied by: (batch, gates, features), or one for all gates."""
        if not (dropout and self.training):
            return None
        gates = self.gates if self.recurrent_dropout else 1
        return F.dropout(like.new_ones(like.shape[0], gates, like.shape[1]), dropout)


def _as_torch_has(states: States) -> Tensor | States:
    """States (batch, hidden) as torch's modules take and give them: (1, batch, hidden), in a tuple if there are two."""
    first, *others = (state.unsqueeze(0) for state in states)
    return (first, *others) if others else first


class SimpleRNN(_Recurrent, nn.RNN):  # type: ignore[misc]  # torch's forward takes packed sequences too
    """``h = activation(W_ih x + b_ih + W_hh h)``."""

    gates = 1

    def _step(self, x: Tensor, states: States, noise: Tensor | None) -> States:
        (h,) = states
        return (self.activation(x + _noisy_linear(h, self.weight_hh_l0, None, noise)),)


class _Gated(_Recurrent):
    """A module with gates."""

    def __init__(
        self, input_size: int, hidden_size: int, *, recurrent_activation: nn.Module | None = None, **more: Any
    ) -> None:
        super().__init__(input_size, hidden_size, **more)
        self.recurrent_activation = nn.Sigmoid() if recurrent_activation is None else recurrent_activation

    def _is_native(self) -> bool:
        return super()._is_native() and isinstance(self.recurrent_activation, nn.Sigmoid)


class LSTM(_Gated, nn.LSTM):  # type: ignore[misc]  # torch's forward takes packed sequences too
    """An LSTM with chosen activations; torch's gates: input, forget, cell, output."""

    gates = 4
    state_count = 2

    def _step(self, x: Tensor, states: States, noise: Tensor | None) -> States:
        h, c = states
        i, f, g, o = (x + _noisy_linear(h, self.weight_hh_l0, None, noise)).chunk(4, dim=1)
        c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
        return self.recurrent_activation(o) * self.activation(c), c


class GRU(_Gated, nn.GRU):  # type: ignore[misc]  # torch's forward takes packed sequences too
    """A GRU with chosen activations, which may reset before its product; torch's gates: reset, update, new."""

    gates = 3

    def __init__(self, input_size: int, hidden_size: int, *, reset_after: bool = True, **more: Any) -> None:
        super().__init__(input_size, hidden_size, **more)
        self.reset_after = reset_after

    def _is_native(self) -> bool:
        return super()._is_native() and self.reset_after

    def _step(self, x: Tensor, states: States, noise: Tensor | None) -> States:
        (h,) = states
        sizes = (2 * self.hidden_size, self.hidden_size)
        gates, new = self.weight_hh_l0.split(sizes)
        gates_bias, new_bias = self.bias_hh_l0.split(sizes) if self.bias else (None, None)
        gates_noise, new_noise = (None, None) if noise is None else noise.split((2, 1), dim=1)
        x_gates, x_new = x.split(sizes, dim=1)
        r, z = self.recurrent_activation(x_gates + _noisy_linear(h, gates, gates_bias, gates_noise)).chunk(2, dim=1)
        if self.reset_after:
            inner = r * _noisy_linear(h, new, new_bias, new_noise)
        else:
            inner = _noisy_linear(r * h, new, None, new_noise)
        return (z * h + (1 - z) * self.activation(x_new + inner),)
