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

import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from copy import copy
from functools import partial
from itertools import chain, count
from typing import Any

import torch
from torch import Tensor, nn

from regspec.runtime.kernels.sharded import penalty_of, whole
from regspec.runtime.penalties.passes import (
    is_differentiated,
    is_in_backward,
    is_in_reentrant_checkpoint,
    is_recorded,
)
from regspec.runtime.penalties.readings import Reading
from regspec.runtime.penalties.regularizers import L1, L1L2, L2, Apart, Sum, WithWeights
from regspec.runtime.penalties.schedules import Scheduled
from regspec.runtime.penalties.tracing import traced, without_schedule
from regspec.runtime.penalties.weights import identity_at, is_trained_at, tensor_at, weight_at

Regularizer = Callable[[Tensor], Tensor]
_WRAPPERS = (Scheduled, Apart, WithWeights)
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # before which a name has another word


class Term:
    """A regularizer in its place, as the parts of its sum; each is on the loss, or where `regspec.bind` moved it."""

    def __init__(self, regularizer: Regularizer) -> None:
        self.parts = tuple(_summands(regularizer))
        self.routes = ["loss"] * len(self.parts)
        self.scheduled = tuple(part for part in self.parts if isinstance(part, Scheduled))
        own = [without_schedule(part)[0] for part in self.parts]
        self.adds_up = all(isinstance(part, (L1, L2)) for part in own)  # the penalty is the sum of those of all shards
        self.takes_weights = any(isinstance(part, WithWeights) for part in own)
        self.refresh()

    def refresh(self) -> None:
        """Computes what is on the loss: ``strengths``, of its L1 and L2 as they are now, and ``others``, the rest."""
        self.carried = tuple(
            part for part, route in zip(self.parts, self.routes, strict=True) if route == "gradient"
        )  # of an output: by the backward pass
        self.traced = tuple(map(traced, self.parts))
        l1, l2, others = 0.0, 0.0, []
        for part in self.on_loss():
            own, factor = without_schedule(part)
            if isinstance(own, L1):
                l1 += own.strength * factor
            elif isinstance(own, L2):
                l2 += own.strength * factor
            else:
                others.append(part)
        self.strengths = (l1, l2)
        self.others = tuple(others)

    def set_strength(self, kind: str, strength: float) -> None:
        """Gives a part another strength, before its schedules. ``kind`` is its name in `kinds`.

        Raises:
            ValueError: where it has no strength of its own, or the optimizer has it as a weight decay.
        """
        index = self.kinds.index(kind)
        if self.routes[index] == "decay":
            raise ValueError("it is the optimizer's weight_decay: give that another one, or bind the model anew")
        self.parts = (*self.parts[:index], _with_strength(self.parts[index], strength), *self.parts[index + 1 :])
        self.scheduled = tuple(part for part in self.parts if isinstance(part, Scheduled))
        self.refresh()

    @property
    def kinds(self) -> list[str]:
        """The names of the parts' regularizers, ``group_lasso``; further ones of a name count on, ``group_lasso_1``."""
        made: list[str] = []
        for part in self.parts:
            name = _CAPITAL.sub("_", _name_of(innermost(part))).lower()
            numbered = (f"{name}_{number}" for number in count(1))
            made.append(next(each for each in chain((name,), numbered) if each not in made))
        return made

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
        return [part for part, route in zip(self.now(), self.routes, strict=True) if route == "loss"]

    def now(self) -> tuple[Regularizer, ...]:
        """The parts, as eager code computes them, or compiled code."""
        return self.traced if torch.compiler.is_compiling() else self.parts

    def penalty(self, x: Tensor, parts: Iterable[Regularizer] | None = None, share: float = 1.0) -> Tensor:
        """The penalty of a tensor, a scalar; or some parts of it.

        It is multiplied by ``share``, unless it is a mean over the batch by itself.
        """
        penalties = []
        for part in self.now() if parts is None else parts:
            penalty = penalty_of(part, x)
            penalties.append(penalty if share == 1.0 or getattr(part, "averages_batch", False) else penalty * share)
        return sum(penalties[1:], penalties[0])


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


def innermost(regularizer: Any) -> Any:
    """A regularizer without what it is wrapped in."""
    while isinstance(regularizer, _WRAPPERS):
        regularizer = regularizer.regularizer
    return regularizer


def _name_of(regularizer: Any) -> str:
    """The name of a regularizer's class, or of the function that it is."""
    function = regularizer.func if isinstance(regularizer, partial) else regularizer
    return str(getattr(function, "__name__", type(function).__name__))


def _with_strength(regularizer: Any, strength: float) -> Any:
    """A regularizer like another one, with this strength."""
    if isinstance(regularizer, _WRAPPERS):
        made = copy(regularizer)
        object.__setattr__(made, "regularizer", _with_strength(regularizer.regularizer, strength))
        return made
    if isinstance(regularizer, partial) and "strength" in regularizer.keywords:
        return partial(regularizer.func, *regularizer.args, **{**regularizer.keywords, "strength": strength})
    if not hasattr(regularizer, "strength"):
        raise ValueError("it has no strength of its own")
    made = copy(regularizer)
    object.__setattr__(made, "strength", strength)
    return made


class WeightTerm(Term):
    """A regularizer of one parameter, or of several, stacked or added, by their paths in the module."""

    def __init__(
        self,
        regularizer: Regularizer,
        parameters: tuple[str, ...],
        counts_frozen: bool = False,
        adds_parameters: bool = False,
    ) -> None:
        super().__init__(regularizer)
        self.parameters = parameters
        self.counts_frozen = counts_frozen
        self.adds_parameters = adds_parameters
        self.ways = tuple(tuple(path.split(".")) for path in parameters)

    def weight(self, module: nn.Module, seen: Seen | None = None) -> Tensor | None:
        """The weight now; None where it is frozen, and where another term has it that was ``seen``.

        A tensor that `functional_call` puts in the parameter's place is never frozen.
        """
        if seen is not None and self.is_seen(module, seen):
            return None
        if len(self.ways) == 1:
            return weight_at(module, self.ways[0], self.counts_frozen)
        found = [weight_at(module, way, self.counts_frozen) for way in self.ways]
        if self.adds_parameters and any(each is not None for each in found):
            pairs = zip(found, self.ways, strict=True)
            found = [tensor_at(module, way).detach() if each is None else each for each, way in pairs]
        parameters = [each for each in found if each is not None]
        return self.joined(parameters) if len(parameters) == len(self.ways) else None

    def joined(self, parameters: Sequence[Tensor]) -> Tensor:
        """The weight that parameters make up."""
        if len(parameters) == 1:
            return parameters[0]
        wholes = [whole(each) for each in parameters]
        return sum(wholes[1:], wholes[0]) if self.adds_parameters else torch.stack(wholes)

    def is_trained(self, module: nn.Module) -> bool:
        """Whether its penalty has a gradient: the weight is not frozen, or not all of it is, where that counts too.

        Raises:
            RuntimeError: where the weight is gone.
        """
        found = [is_trained_at(module, way) for way in self.ways]
        return any(found) if self.adds_parameters or self.counts_frozen else all(found)

    def is_seen(self, module: nn.Module, seen: Seen) -> bool:
        """Whether another term has the weight: they were tied. One weight may have several terms."""
        first, *others = [identity_at(module, way) for way in self.ways]
        term, owner = seen.setdefault((first, *others) if others else first, (self, module))
        return term is not self and (owner is not module or term.parameters != self.parameters)


Seen = dict[object, tuple[WeightTerm, nn.Module]]  # of each weight, the first term and its module


class Listener(Term):
    """A regularizer of a module's outputs: a forward hook."""

    def __init__(self, regularizer: Regularizer, reduction: str = "mean", reading: Reading | None = None) -> None:
        super().__init__(regularizer)
        self.reduction = reduction
        self.reading = Reading() if reading is None else reading
        self.direction = 1.0  # -1 where the optimizer climbs along gradients, and the penalty is carried by them
        self.is_missed = False  # whether no forward of the model ran when it was last called
        self.is_called = False  # whether it ever was called, or a warning has said that it was not
        self.is_changed: bool | None = None  # whether the outputs are changed in place later on, once that is known

    def unbound(self) -> Any:
        """Itself: the hook of a module is the same object, also in a copy, which `__getstate__` puts on the loss."""
        return self

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if torch.compiler.is_exporting() or is_recorded(output):
            return None
        if self.carried:
            return self.reading.replaced(output, partial(self._carry, module))
        for x, samples in self.reading.read(output):
            if x.is_floating_point() or x.is_complex():
                self._hear(module, x, self._share(samples))
        return None

    def _share(self, samples: int) -> float:
        """What a sum over an output is multiplied by: one over the samples in it, unless the penalty is a sum."""
        return 1.0 if self.reduction == "sum" or samples == 1 else 1.0 / max(samples, 1)

    def _carry(self, module: nn.Module, output: Tensor, x: Tensor, samples: int) -> Tensor:
        """An output as it is, with the gradient of its penalty, which is that of ``x``."""
        if not (x.is_floating_point() or x.is_complex()):
            return output
        share = self._share(samples)
        self._hear(module, x, share)
        penalty = self.penalty(x, self.carried, share)
        if listening.heard is not None and not is_in_backward():
            listening.heard.append((self, penalty.detach(), None, CARRIED, 1.0))
        if not penalty.requires_grad:
            return output
        apply: Callable[..., Tensor] = _Carried.apply
        return apply(output, penalty, self.direction)

    def _hear(self, module: nn.Module, x: Tensor, share: float) -> None:
        heard = listening.heard
        is_traced = torch.compiler.is_compiling()
        if is_in_backward():
            heard = None  # what a checkpoint computes again was heard before
        elif heard is None:
            self.is_missed = True
        elif not is_traced:
            self.is_missed, self.is_called = False, True
        parts = self.on_loss() if self.carried else self.now()
        if not parts:
            return
        has_gradient = x.requires_grad and torch.is_grad_enabled()
        if is_traced or self.takes_weights or not (has_gradient and module.training):  # weights, as they are now
            is_without = heard is not None and not is_traced and not torch.is_grad_enabled()
            if is_without and (module.training or listening.has_gradients) and is_in_reentrant_checkpoint():
                raise RuntimeError(_REENTRANT)
            # an operation in place may change x later on
            penalty = self.penalty(x.clone() if has_gradient else x, parts, share)
            if heard is not None:
                heard.append((self, penalty, None, 0, 1.0))
        elif heard is not None:
            heard.append((self, x if self.is_changed is False else x.clone(), x, x._version, share))


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
        if is_differentiated():
            raise RuntimeError(
                "a gradient that is differentiated again, by create_graph, would take the gradient of an activity "
                "penalty with it twice: put that penalty on the loss route"
            )
        return gradient, torch.full((), ctx.direction, dtype=ctx.dtype, device=gradient.device), None


def without_listeners(module: nn.Module, listeners: Collection[Any] | None = None) -> nn.Module:
    """The module itself, without the hooks that listen to outputs, or without these of them."""
    for part in module.modules():
        for number, hook in list(part._forward_hooks.items()):
            if isinstance(hook, Listener) and (listeners is None or hook in listeners):
                del part._forward_hooks[number]
    return module


# -- what is heard -----------------------------------------------------------------------------------------------------

# Of a listener: its penalty, with None; or an output (or a copy of it), the output, and its version then. At last what
# a sum over the output is multiplied by: one over the samples in it.
Heard = tuple[Listener, Tensor, Tensor | None, int, float]
CARRIED = -1  # in place of the version: the penalty is on the gradient route


class Listening(threading.local):
    """Where listeners note what they hear, in this thread; nowhere while no forward runs."""

    def __init__(self) -> None:
        self.heard: list[Heard] | None = None
        self.has_gradients = False  # when the forward began


listening = Listening()


def settled(heard: list[Heard]) -> list[Heard]:
    """What was heard, without copies of unchanged outputs; notes for each listener whether its outputs change."""
    if all(
        output is None or (listener.is_changed is False and output._version == version)
        for listener, _, output, version, _ in heard
    ):
        return heard
    changed = {each[0] for each in heard if each[2] is not None and each[2]._version != each[3]}
    for listener in {each[0] for each in heard if each[2] is not None}:
        if listener.is_changed is False and listener in changed:
            listener.is_changed = True
            raise RuntimeError(_CHANGED)
        listener.is_changed = bool(listener.is_changed) or listener in changed
    return [
        (listener, x if output is None or listener.is_changed else output, output, version, share)
        for listener, x, output, version, share in heard
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
_REENTRANT = (
    "re-entrant checkpointing loses the gradient of activity penalties: "
    "call torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
)
