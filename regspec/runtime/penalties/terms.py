"""Terms: a regularizer of a weight, which is computed when it is read; or of an output, which a forward hook hears.

In training the outputs themselves are kept, and their penalties computed when they are read: then all L1 and L2
penalties are one node of the graph. In evaluation, or without gradients, a hook computes its penalty at once, and keeps
a scalar. What follows from keeping outputs:

- An operation in place may change an output before its penalty is read. So the first forward keeps copies, and learns
  from the tensors' versions which outputs are changed; those are copied from then on, and any other change is an error.
- Under checkpointing, an output that is kept stays in memory, though what is behind it does not.
- A forward that is recomputed in the backward pass notes nothing; its hooks compute what they did in the forward, so
  that the saved tensors correspond.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointFunction

from regspec.runtime.kernels.sharded import penalty_of, whole
from regspec.runtime.penalties.regularizers import L1, L1L2, L2, Sum
from regspec.runtime.penalties.schedules import Scheduled

Regularizer = Callable[[Tensor], Tensor]


class Term:
    """A regularizer in its place, as the parts of its sum; each is on the loss, or where `regspec.bind` moved it."""

    def __init__(self, regularizer: Regularizer) -> None:
        self.parts = tuple(_summands(regularizer))
        self.routes = ["loss"] * len(self.parts)
        self.scheduled = tuple(part for part in self.parts if isinstance(part, Scheduled))
        own = [part.regularizer if isinstance(part, Scheduled) else part for part in self.parts]
        self.adds_up = all(isinstance(part, (L1, L2)) for part in own)  # the penalty is the sum of those of all shards
        self.refresh()

    def refresh(self) -> None:
        """Computes what is on the loss: ``strengths``, of its L1 and L2 as they are now, and ``others``, the rest."""
        l1, l2, others = 0.0, 0.0, []
        for part in self.on_loss():
            own, factor = (part.regularizer, part.factor) if isinstance(part, Scheduled) else (part, 1.0)
            if isinstance(own, L1):
                l1 += own.strength * factor
            elif isinstance(own, L2):
                l2 += own.strength * factor
            else:
                others.append(part)
        self.strengths = (l1, l2)
        self.others = tuple(others)

    def unbound(self) -> Any:
        """Itself, if all its parts are on the loss, or else a copy that has them there."""
        if set(self.routes) <= {"loss"}:
            return self
        made = copy(self)
        made.routes = ["loss"] * len(self.parts)
        made.refresh()
        return made

    def on_loss(self) -> Iterable[Regularizer]:
        """The parts that are on the loss."""
        return [part for part, route in zip(self.parts, self.routes, strict=True) if route == "loss"]

    def penalty(self, x: Tensor, parts: Iterable[Regularizer] | None = None) -> Tensor:
        """The penalty of a tensor, a scalar; or some parts of it."""
        share = self.share(x)
        penalties = []
        for part in self.parts if parts is None else parts:
            penalty = penalty_of(part, x)
            penalties.append(penalty if share == 1.0 or getattr(part, "averages_batch", False) else penalty * share)
        return sum(penalties[1:], penalties[0])

    def share(self, x: Tensor) -> float:
        """What a penalty is multiplied by, unless it is a mean over the batch by itself."""
        return 1.0


def _summands(regularizer: Regularizer) -> Iterator[Regularizer]:
    """The regularizers that one is the sum of, each with the schedules of the whole."""
    if isinstance(regularizer, Scheduled):
        for part in _summands(regularizer.regularizer):
            yield Scheduled(part, *regularizer.schedules)
    elif isinstance(regularizer, (Sum, L1L2)):
        for part in regularizer.parts:
            yield from _summands(part)
    else:
        yield regularizer


class WeightTerm(Term):
    """A regularizer of one parameter, or of several stacked, by their paths in the module."""

    def __init__(self, regularizer: Regularizer, parameters: tuple[str, ...], counts_frozen: bool = False) -> None:
        super().__init__(regularizer)
        self.parameters = parameters
        self.counts_frozen = counts_frozen
        self._ways = tuple(tuple(path.split(".")) for path in parameters)

    def weight(self, module: nn.Module) -> Tensor | None:
        """The weight now; of a frozen parameter None, or the weight without a gradient if frozen ones count.

        A tensor that `functional_call` puts in the parameter's place is never frozen.
        """
        if len(self._ways) == 1:
            return _parameter(module, self._ways[0], self.counts_frozen)
        parameters = [each for way in self._ways if (each := _parameter(module, way, self.counts_frozen)) is not None]
        return torch.stack([whole(each) for each in parameters]) if len(parameters) == len(self._ways) else None


def _parameter(module: nn.Module, way: tuple[str, ...], counts_frozen: bool) -> Tensor | None:
    """The tensor at a path, if it counts: a parameter, or one computed from parameters, as by `weight_norm`."""
    owner: Any = module
    for name in way[:-1]:
        owner = owner._modules.get(name) if name in owner._modules else getattr(owner, name)
    parameter: Tensor | None = owner._parameters.get(way[-1])  # `getattr` would take longer
    if parameter is None:
        is_counted = counts_frozen or any(each.requires_grad for each in owner.parameters())
        return getattr(owner, way[-1]) if is_counted else None
    if isinstance(parameter, nn.Parameter) and not parameter.requires_grad:
        return parameter.detach() if counts_frozen else None
    return parameter


class Listener(Term):
    """A regularizer of a module's outputs: a forward hook."""

    def __init__(self, regularizer: Regularizer, reduction: str = "mean") -> None:
        super().__init__(regularizer)
        self.reduction = reduction
        self.is_missed = False  # whether no forward of the model ran when it was last called
        self.is_called = False  # whether it ever was called, or a warning has said that it was not
        self.is_changed: bool | None = None  # whether the outputs are changed in place later on, once that is known

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if torch.compiler.is_exporting():
            return
        for x in (output,) if isinstance(output, Tensor) else tensors(output):
            if x.is_floating_point() or x.is_complex():
                self._hear(module, x)

    def _hear(self, module: nn.Module, x: Tensor) -> None:
        heard = listening.heard
        is_traced = torch.compiler.is_compiling()
        if is_in_backward():
            heard = None  # what a checkpoint computes again was heard before
        elif heard is None:
            self.is_missed = True
        elif not is_traced:
            self.is_missed, self.is_called = False, True
        has_gradient = x.requires_grad and torch.is_grad_enabled()
        if is_traced or not (has_gradient and module.training):
            is_without = heard is not None and not is_traced and not torch.is_grad_enabled()
            if is_without and (module.training or listening.has_gradients):
                _refuse_reentrant_checkpoints()
            penalty = self.penalty(x.clone() if has_gradient else x)  # an operation in place may change x later on
            if heard is not None:
                heard.append((self, penalty, None, 0))
        elif heard is not None:
            heard.append((self, x if self.is_changed is False else x.clone(), x, x._version))

    def share(self, x: Tensor) -> float:
        """One over the size of the batch, the first axis, unless the penalty is a sum."""
        return 1.0 if self.reduction == "sum" or x.ndim == 0 else 1.0 / max(x.shape[0], 1)


def tensors(output: Any) -> Iterator[Tensor]:
    """The tensors in what a module gives: one, or those of a tuple, a list, a mapping or a dataclass."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for each in output:
            yield from tensors(each)
    elif isinstance(output, Mapping):
        for each in output.values():
            yield from tensors(each)
    elif is_dataclass(output):
        for field in fields(output):
            yield from tensors(getattr(output, field.name))


# -- what is heard -----------------------------------------------------------------------------------------------------

# (listener, its penalty, None, 0); or (listener, an output or a copy of it, that output, its version then).
Heard = tuple[Listener, Tensor, Tensor | None, int]


class Listening(threading.local):
    """Where listeners note what they hear, in this thread; nowhere while no forward runs."""

    def __init__(self) -> None:
        self.heard: list[Heard] | None = None
        self.has_gradients = False  # when the forward began


listening = Listening()


def is_in_backward() -> bool:
    """Whether a backward pass runs, which computes again what a checkpoint left out."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def settled(heard: list[Heard]) -> list[Heard]:
    """What was heard, without copies of unchanged outputs; notes for each listener whether its outputs change."""
    if all(
        output is None or (listener.is_changed is False and output._version == version)
        for listener, _, output, version in heard
    ):
        return heard
    changed = {listener for listener, _, output, version in heard if output is not None and output._version != version}
    for listener in {listener for listener, _, output, _ in heard if output is not None}:
        if listener.is_changed is False and listener in changed:
            listener.is_changed = True
            raise RuntimeError(_CHANGED)
        listener.is_changed = bool(listener.is_changed) or listener in changed
    return [
        (listener, x if output is None or listener.is_changed else output, output, version)
        for listener, x, output, version in heard
    ]


def unchanged(x: Tensor, output: Tensor, version: int) -> Tensor:
    """The output that was heard, if it is still what it was, or else its copy."""
    if x is output and output._version != version:
        raise RuntimeError(_CHANGED)
    return x


_CHANGED = (
    "an output with a penalty was changed in place before its penalty was read, as it was not in the first forward: "
    "use an operation that is not in place, or read the penalties before"
)


def _refuse_reentrant_checkpoints() -> None:
    """Raises where the forward runs in a checkpoint of the re-entrant kind, which loses the gradients of penalties."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_code is CheckpointFunction.forward.__code__:
            raise RuntimeError(
                "re-entrant checkpointing loses the gradient of activity penalties: "
                "call torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
            )
        frame = frame.f_back
