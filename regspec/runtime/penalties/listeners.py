"""Listeners: regularizers of what a module gives. They hear each output, and note it for when penalties are read.

Outputs are kept, and their penalties computed when they are read: all L1 and L2 penalties are then one sum. Where an
output has a gradient, the graph has it in memory anyway. Where it has none, as under no_grad, nothing else would keep
it: a small one is kept, up to `ROOM` in all, and a larger one is reduced at once. So a forward whose penalties nobody
reads costs little more than one without. What follows from keeping outputs:

- An operation in place may change an output before its penalty is read. So the first forward of each mode keeps copies,
  and learns from the tensors' versions which outputs are changed; those are copied from then on, and any other change
  is an error: in training when the forward ends, in evaluation when the penalty is read. Copies that share memory until
  one is written to (`torch._lazy_clone`) were tried: `numpy` of such an output is wrong in torch 2.13.
- In evaluation, what the model itself gives, or takes, is copied where it has a penalty: its caller may change it.
- Tensors of inference mode have no versions: each is copied.
- A backward pass frees what the graph keeps as it comes by, and what is kept here only later. So the loss, when it is
  read, puts its penalty in the place of each large output. A step after the first, of 6 layers of 1024 with 1024 rows,
  then takes as much memory as one without penalties, where the usual loop takes 1.37; the first one takes 1.19.
- Under checkpointing, an output that is kept stays in memory, though what is behind it does not.
- A forward that is recomputed in the backward pass notes nothing; its hooks compute what they did in the forward, so
  that the saved tensors correspond.

A penalty is computed at once where it takes weights, which may change before it is read, and in what is compiled.

A module's output is heard by torch's forward hook; or, where a class with penalties listens to a module of its own that
nothing else stands in the way of, by a function in the place of its forward (`Listened`). Torch takes a longer way with
any hook: 1.5 us each, where an evaluation of 8 layers of 64 takes 144 us without penalties. There these functions and
what is settled at the end take 27 us more. Functions that do nothing take 2 of these, and such as note an output
without asking anything 18: so much keeping costs, in Python and in torch, which then finds memory less quickly. The
aim of 1.10 is missed by that. Three more ways were weighed: a class of its own for the instance, which is then no
nn.ReLU for tools that ask for its type; a call in the printed forward, which a reader would have to skip; and a
function in the place of the module's call, which is private to torch.
Rules for foreign modules stay with hooks: torch's encoder asks for those before it skips its own layers.

On the gradient route an output goes on as it is, and takes the gradient of its penalty with it in the backward pass.
Two ways were weighed: a hook on the output's gradient, which compiled code does not take; or, as here, an autograd
function of the output and its penalty, which gives the penalty a gradient of one. So every regularizer has the route.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from inspect import getattr_static
from types import FunctionType
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling, is_dynamo_compiling

from regspec.runtime.kernels.fused import is_plain
from regspec.runtime.penalties.passes import (
    is_differentiated,
    is_in_backward,
    is_in_reentrant_checkpoint,
    is_recorded,
)
from regspec.runtime.penalties.readings import Reading, tensors
from regspec.runtime.penalties.terms import Regularizer, Term

ROOM = 2**20  # the most bytes of outputs without a gradient that are kept in all
SMALL = ROOM // 4  # the most bytes of one of them

_task = torch._C._current_graph_task_id  # of the backward pass that runs, or -1
_grad_enabled = torch.is_grad_enabled


class Listener(Term):
    """A regularizer of a module's outputs."""

    def __init__(self, regularizer: Regularizer, reduction: str = "mean", reading: Reading | None = None) -> None:
        super().__init__(regularizer)
        self.reduction = reduction
        self.reading = Reading() if reading is None else reading
        self.direction = 1.0  # -1 where the optimizer climbs along gradients, and the penalty is carried by them
        self.is_missed = False  # whether no forward of the model ran when it was last called
        self.is_called = False  # whether it ever was called, or a warning has said that it was not
        # Whether outputs are changed in place later on, by `Notes.mode`, once that is known. In evaluation, also
        # whether they are views: of what the model may give, or of what they would keep.
        self.is_changed: list[bool | None] = [None] * 5

    def unbound(self) -> Any:
        """Itself: the hook of a module is the same object, also in a copy, which `__getstate__` puts on the loss."""
        return self

    def listen(self, module: nn.Module, *, by_hook: bool) -> None:
        """Hears a module from now on: by a hook, or in place of its forward if that is a plain method.

        It may be a property or a static method; and hooks that are there may change what it gives.
        """
        is_method = isinstance(getattr_static(type(module), "forward"), FunctionType)
        if by_hook or not is_method or "forward" in vars(module) or module._forward_hooks:
            module.register_forward_hook(self)
        else:
            vars(module)["forward"] = Listened(module, self).forward

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if torch.compiler.is_exporting() or is_recorded(output):
            return None
        if self.carried:
            return self.reading.replaced(output, partial(self._carry, module))
        for x, samples in self.reading.read(output):
            if x.is_floating_point() or x.is_complex():
                self._hear(module, x, self.share(samples))
        return None

    def share(self, samples: int) -> float:
        """What a sum over an output is multiplied by: one over the samples in it, unless the penalty is a sum."""
        return 1.0 if self.reduction == "sum" or samples == 1 else 1.0 / max(samples, 1)

    def _carry(self, module: nn.Module, output: Tensor, x: Tensor, samples: int) -> Tensor:
        """An output as it is, with the gradient of its penalty, which is that of ``x``."""
        if not (x.is_floating_point() or x.is_complex()):
            return output
        share = self.share(samples)
        self._hear(module, x, share)
        penalty = self.penalty(x, self.carried, share)
        if listening.notes is not None and not is_in_backward():
            listening.notes.heard.append((self, penalty.detach(), None, CARRIED, 1.0))
        if not penalty.requires_grad:
            return output
        apply: Callable[..., Tensor] = _Carried.apply
        return apply(output, penalty, self.direction)

    def _hear(self, module: nn.Module, x: Tensor, share: float) -> None:
        notes = listening.notes
        is_traced = is_compiling()
        if is_in_backward():
            notes = None  # what a checkpoint computes again was heard before
        elif notes is None:
            self.is_missed = True
        elif not is_traced:
            self.is_missed, self.is_called = False, True
        parts = self.on_loss() if self.carried else self.now()
        if not parts:
            return
        has_gradient = x.requires_grad and torch.is_grad_enabled()
        if is_traced or self.takes_weights:  # weights, as they are now
            # an operation in place may change x later on
            penalty = self.penalty(x.clone() if has_gradient else x, parts, share)
            if notes is not None:
                self._refuse_reentrant(module, notes)
                notes.heard.append((self, penalty, None, PENALTY, 1.0))
        elif notes is not None:
            self._refuse_reentrant(module, notes)
            notes.heard.append(self._kept(module, x, share, notes) if has_gradient else self._alone(x, share, notes))

    def _refuse_reentrant(self, module: nn.Module, notes: Notes) -> None:
        if is_compiling() or torch.is_grad_enabled():
            return
        if (module.training or notes.has_gradients) and is_in_reentrant_checkpoint():
            raise RuntimeError(_REENTRANT)

    def _kept(self, module: nn.Module, x: Tensor, share: float, notes: Notes) -> Heard:
        """An output with a gradient."""
        if not notes.is_training and x._is_view():
            self.is_changed[notes.mode] = True
        is_changed = self.is_changed[notes.mode]
        if is_changed or (notes.is_training and not module.training):  # a part in evaluation: no error at the end
            return self, x.clone(), None, COPY, share
        notes.is_learning = notes.is_learning or is_changed is None
        return self, x if is_changed is False else x.clone(), x, x._version, share

    def _alone(self, x: Tensor, share: float, notes: Notes) -> Heard:
        """An output without a gradient, or its penalty."""
        if not is_plain(x) or x.layout != torch.strided or (size := x.nbytes) > min(notes.room, SMALL):
            return self, self.penalty(x, self.on_loss(), share), None, PENALTY, 1.0
        notes.room -= size
        is_changed = self.is_changed[notes.mode]
        if not notes.has_versions or is_changed or x.is_inference() or x._is_view():
            self.is_changed[notes.mode] = notes.has_versions
            return self, x.clone(), None, COPY, share
        notes.is_learning = notes.is_learning or is_changed is None
        return self, x if is_changed is False else x.clone(), x, x._version, share


class Listened:
    """What stands in the place of a module's forward: that, and then a listener."""

    def __init__(self, module: nn.Module, listener: Listener) -> None:
        self.module, self.listener = ref(module), listener  # in a circle it would be freed late

    def __getstate__(self) -> Any:
        return self.module(), self.listener

    def __setstate__(self, state: Any) -> None:
        self.module, self.listener = ref(state[0]), state[1]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module gives. The first lines are `Listener.__call__` for the usual output, which has to be fast."""
        module: Any = self.module()
        output = type(module).forward(module, *args, **kwargs)
        listener, notes = self.listener, listening.notes
        if (
            notes is not None
            and listener.is_changed[notes.mode] is False
            and type(output) is Tensor
            and module.training is notes.is_training
            and not listener.carried
            and not is_dynamo_compiling()
            and _task() == -1
        ):
            if notes.has_gradients:
                is_heard = output.requires_grad and _grad_enabled()
            elif is_heard := (size := output.nbytes) <= SMALL and size <= notes.room and notes.has_room:
                notes.room -= size
            if is_heard:
                listener.is_missed = False
                if notes.has_versions:
                    notes.heard.append((listener, output, output, output._version, None))
                else:
                    notes.heard.append((listener, output.clone(), None, COPY, None))
                return output
        replaced = listener(module, args, output)
        return output if replaced is None else replaced


def listeners_of(module: nn.Module) -> list[Listener]:
    """The listeners that hear a module itself."""
    own = [] if (listened := _listened(module)) is None else [listened.listener]
    return [*own, *(hook for hook in module._forward_hooks.values() if isinstance(hook, Listener))]


def without_listeners(module: nn.Module, listeners: Collection[Any] | None = None) -> nn.Module:
    """The module itself, without what listens to outputs, or without these listeners."""
    for part in module.modules():
        gone = [each for each in listeners_of(part) if listeners is None or each in listeners]
        for number, hook in list(part._forward_hooks.items()):
            if hook in gone:
                del part._forward_hooks[number]
        if (listened := _listened(part)) is not None and listened.listener in gone:
            del vars(part)["forward"]
    return module


def _listened(module: nn.Module) -> Listened | None:
    listened = getattr(vars(module).get("forward"), "__self__", None)
    return listened if isinstance(listened, Listened) else None


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


# -- what is heard -----------------------------------------------------------------------------------------------------

# Of a listener: an output (or a copy of it), the output, and its version then; or what else the number says. At last
# what a sum over the output is multiplied by; None: as its reading says.
Heard = tuple[Listener, Tensor, Tensor | None, int, float | None]
PENALTY = -1  # in place of the version: it is a penalty
CARRIED = -2  # it is a penalty on the gradient route
COPY = -3  # it is a copy, which nothing changes


class Notes:
    """What is heard while a model's forward runs, and how that began."""

    def __init__(self, is_training: bool, room: int, has_versions: bool) -> None:
        self.heard: list[Heard] = []
        self.is_learning = False  # whether it has copies of outputs of which it is not known whether they change
        self.is_training = is_training
        self.has_gradients = torch.is_grad_enabled()
        self.has_versions = has_versions  # whether it is outside of inference mode
        self.mode = 2 * is_training + self.has_gradients if has_versions else 4
        self.room = room  # for so many bytes of outputs without a gradient
        # Only in evaluation: in training without gradients it may be in a checkpoint of the re-entrant kind.
        self.has_room = not is_training


class Listening(threading.local):
    """Where listeners note what they hear, in this thread; nowhere while no forward runs."""

    def __init__(self) -> None:
        self.notes: Notes | None = None


listening = Listening()


def settled(notes: Notes, outside: tuple[Any, tuple[Any, ...], dict[str, Any]]) -> list[Heard]:
    """What was heard in a forward that took and gave this; notes for each listener whether its outputs change.

    Copies of outputs that did not change are left out. In evaluation an output that the model takes or gives is copied.

    Raises:
        RuntimeError: in training, where an output was changed in place that was not before.
    """
    heard, mode = notes.heard, notes.mode
    if notes.is_learning:
        changed = {each[0] for each in heard if each[2] is not None and each[2]._version != each[3]}
        for listener in {each[0] for each in heard if each[3] >= 0}:
            listener.is_changed[mode] = bool(listener.is_changed[mode]) or listener in changed
        heard = [each if each[2] is None or each[0] in changed else (each[0], each[2], *each[2:]) for each in heard]
    if notes.is_training and notes.has_gradients:
        _refuse_changed(heard, mode)
        return heard
    if not notes.has_versions:
        return heard
    given = {id(each) for x in _tensors(outside) for each in (x, x._base)}
    return [_apart(each) if id(each[2]) in given else each for each in heard]


def _tensors(outside: tuple[Any, tuple[Any, ...], dict[str, Any]]) -> Iterable[Tensor]:
    """The tensors that a model gave and took; where all are plain, without looking into each, which takes 4 us."""
    output, args, kwargs = outside
    if not kwargs and {type(output), *map(type, args)} == {Tensor}:
        return (output, *args)
    return tensors(outside)


def _refuse_changed(heard: list[Heard], mode: int) -> None:
    for listener, x, output, version, _ in heard:
        if x is output and output._version != version:
            listener.is_changed[mode] = True
            raise RuntimeError(_CHANGED)


def _apart(heard: Heard) -> Heard:
    """A copy of an output, if that is still what was heard."""
    listener, x, output, version, share = heard
    if output is None or x is not output or output._version != version:
        return heard
    return listener, x.clone(), None, COPY, share


def read(heard: Iterable[Heard]) -> Iterator[tuple[Listener, Tensor, float]]:
    """The outputs that were heard, each with what a sum over it is multiplied by.

    Raises:
        RuntimeError: where an output is not any more what it was.
    """
    for listener, x, output, version, share in heard:
        if version in (PENALTY, CARRIED):
            continue
        if x is output and output._version != version:
            listener.is_changed = [True if known is False else known for known in listener.is_changed]
            raise RuntimeError(_CHANGED)
        if share is not None:
            yield listener, x, share
        else:
            for each, samples in listener.reading.read(x):
                if each.is_floating_point() or each.is_complex():
                    yield listener, each, listener.share(samples)


_CHANGED = (
    "an output with a penalty was changed in place before its penalty was read, as it was not in the first forward: "
    "use an operation that is not in place, or read the penalties before"
)
_REENTRANT = (
    "re-entrant checkpointing loses the gradient of activity penalties: "
    "call torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
)
