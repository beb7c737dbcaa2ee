"""Terms: a regularizer of a weight, which is computed when it is read; or of an output, which a forward hook hears.

In training the outputs themselves are kept, and their penalties computed when they are read: then all L1 and L2
penalties are one node of the graph. In evaluation, or without gradients, a hook computes its penalty at once, and keeps
a scalar. What follows from keeping outputs:

- An operation in place may change an output before its penalty is read. So the first forward keeps copies, and learns
  from the tensors' versions which outputs are changed; those are copied from then on, and any other change is an error.
- Under checkpointing, an output that is kept stays in memory, though what is behind it does not.
- A forward that is recomputed in the backward pass notes nothing; its hooks compute what they did in the forward, so
  that the saved tensors correspond.

On the gradient route an output goes on as it is, and takes the gradient of its penalty with it in the backward pass.
Two ways were weighed: a hook on the output's gradient, which compiled code does not take; or, as here, an autograd
function of the output and its penalty, which gives the penalty a gradient of one. So every regularizer has the route.
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
    """A regularizer of something: the parts of its sum, each on a route: the loss, unless `regspec.bind` moved it."""

    def __init__(self, regularizer: Regularizer) -> None:
        self.parts = tuple(_summands(regularizer))
        self.routes = ["loss"] * len(self.parts)
        self.scheduled = tuple(part for part in self.parts if isinstance(part, Scheduled))
        own = [part.regularizer if isinstance(part, Scheduled) else part for part in self.parts]
        self.adds_up = all(isinstance(part, (L1, L2)) for part in own)  # the penalty is the sum of those of all shards
        self.refresh()

    def refresh(self) -> None:
        """Notes what is on the loss: the strengths of its L1 and its L2 as they are now, and the other parts."""
        self.carried = tuple(
            part for part, route in zip(self.parts, self.routes, strict=True) if route == "gradient"
        )  # of an output: by the backward pass
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
        return self if set(self.routes) <= {"loss"} else copy(self)

    def __getstate__(self) -> dict[str, Any]:
        if set(self.routes) <= {"loss"}:
            return self.__dict__
        made = object.__new__(type(self))  # a copy is bound to no optimizer
        made.__dict__.update(self.__dict__, routes=["loss"] * len(self.parts))
        made.refresh()
        return made.__dict__

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
    """What a regularizer is the sum of; each has a schedule of its own."""
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
        """The weight now; None where it is frozen: a parameter, and not what `functional_call` puts in its place.

        Where frozen ones count, it has no gradient instead.
        """
        if len(self._ways) == 1:
            return _parameter(module, self._ways[0], self.counts_frozen)
        parameters = [each for way in self._ways if (each := _parameter(module, way, self.counts_frozen)) is not None]
        return torch.stack([whole(each) for each in parameters]) if len(parameters) == len(self._ways) else None


def _parameter(module: nn.Module, way: tuple[str, ...], counts_frozen: bool) -> Tensor | None:
    """What a path leads to, if it counts: a parameter, or what is computed from some, as by `weight_norm`."""
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
        self.direction = 1.0  # -1 where the optimizer climbs along gradients, and the penalty is carried by them
        self.is_missed = False  # whether no forward of the model ran when it was last called
        self.is_called = False  # whether it ever was, or somebody knows that it was not
        self.is_changed: bool | None = None  # whether the outputs are changed in place later on, once that is known

    def unbound(self) -> Any:
        """Itself: the hook of a module is the same object, also in a copy, which `__getstate__` puts on the loss."""
        return self

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if torch.compiler.is_exporting():
            return None
        if self.carried:
            return replaced(output, lambda x: self._carry(module, x))
        for x in (output,) if isinstance(output, Tensor) else tensors(output):
            if x.is_floating_point() or x.is_complex():
                self._hear(module, x)
        return None

    def _carry(self, module: nn.Module, x: Tensor) -> Tensor:
        """The output as it is, with the gradient of its penalty."""
        if not (x.is_floating_point() or x.is_complex()):
            return x
        self._hear(module, x)
        penalty = self.penalty(x, self.carried)
        if listening.heard is not None and not is_in_backward():
            listening.heard.append((self, penalty.detach(), None, CARRIED))
        if not penalty.requires_grad:
            return x
        apply: Callable[..., Tensor] = _Carried.apply
        return apply(x, penalty, self.direction)

    def _hear(self, module: nn.Module, x: Tensor) -> None:
        heard = listening.heard
        is_traced = torch.compiler.is_compiling()
        if is_in_backward():
            heard = None  # what a checkpoint computes again was heard before
        elif heard is None:
            self.is_missed = True
        elif not is_traced:
            self.is_missed, self.is_called = False, True
        parts = self.on_loss() if self.carried else self.parts
        if not parts:
            return
        has_gradient = x.requires_grad and torch.is_grad_enabled()
        if is_traced or not (has_gradient and module.training):
            is_without = heard is not None and not is_traced and not torch.is_grad_enabled()
            if is_without and (module.training or listening.has_gradients):
                _refuse_reentrant_checkpoints()
            # an operation in place may change x later on
            penalty = self.penalty(x.clone() if has_gradient else x, parts)
            if heard is not None:
                heard.append((self, penalty, None, 0))
        elif heard is not None:
            heard.append((self, x if self.is_changed is False else x.clone(), x, x._version))

    def share(self, x: Tensor) -> float:
        """One over the size of the batch, the first axis, unless the penalty is a sum."""
        return 1.0 if self.reduction == "sum" or x.ndim == 0 else 1.0 / max(x.shape[0], 1)


class _Carried(torch.autograd.Function):
    """A copy of an output; in the backward pass the penalty has a gradient of one, and so its own reaches the output.

    It is a copy, because an operation in place may change it, and the penalty's gradient needs what was there before.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, penalty: Tensor, direction: float) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        ctx.dtype, ctx.direction = inputs[1].dtype, inputs[2]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        if _is_differentiated():
            raise RuntimeError(
                "a gradient that is differentiated again, by create_graph, would take the gradient of an activity "
                "penalty with it twice: put that penalty on the loss route"
            )
        return gradient, torch.full((), ctx.direction, dtype=ctx.dtype, device=gradient.device), None


def _is_differentiated() -> bool:
    """Whether the gradients of this backward pass are differentiated again; `torch.func.grad` alone does not do so."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return False
    functorch = torch._C._functorch
    stack = functorch.get_interpreter_stack() or []
    return sum(each.key() == functorch.TransformType.Grad for each in stack) != 1


def replaced(output: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """What a module gives, with each of its tensors through a function; the same kinds of containers."""
    if isinstance(output, Tensor):
        return function(output)
    if isinstance(output, (tuple, list)):
        each = [replaced(value, function) for value in output]
        if hasattr(output, "_make"):
            return output._make(each)
        return type(output)(each)
    if isinstance(output, Mapping):
        made: Any = copy(output)
        for key, value in output.items():
            made[key] = replaced(value, function)
        return made
    if is_dataclass(output):
        made = copy(output)
        for field in fields(output):
            object.__setattr__(made, field.name, replaced(getattr(output, field.name), function))
        return made
    return output


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

# Of a listener: its penalty, with None; or an output (or a copy of it), the output, and its version then.
Heard = tuple[Listener, Tensor, Tensor | None, int]
CARRIED = -1  # in place of the version: the penalty is on the gradient route


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
    """What was heard, without copies of outputs that nothing has changed; what changes outputs is learnt."""
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
