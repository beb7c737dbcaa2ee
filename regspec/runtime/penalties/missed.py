"""Penalties that would be lost in silence: of outputs that were not heard, and a loss that nobody reads."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from regspec.runtime.penalties.listeners import Heard, Listener, listeners_of, listening
from regspec.runtime.penalties.passes import is_for_parameters
from regspec.runtime.penalties.readings import tensors
from regspec.runtime.penalties.state import AnyTerm, Penalized, named_terms, penalized_in
from regspec.runtime.penalties.terms import Seen

WATCHED = 3  # forwards in training after which a backward warns if the penalties were not read


def heard_by(module: Penalized, listeners: set[Listener]) -> list[Heard]:
    """What a model's own listeners heard: in the forward that runs, or else in the last one.

    Raises:
        RuntimeError: where a listener's module was called, but not by the model.
    """
    running = [each for each in listening.notes.heard if each[0] in listeners] if listening.notes is not None else []
    heard = running or [each for each in module._regspec.heard if each[0] in listeners]
    if missing := listeners.difference([each[0] for each in heard]):  # one may be heard several times
        named = [(name, term) for name, term, _ in named_terms(module) if isinstance(term, Listener)]
        _ask_why(module, [(name, term) for name, term in named if term in missing])
    return heard


def _ask_why(module: Penalized, silent: list[tuple[str, Listener]]) -> None:
    """Raises, or warns once, where listeners have no value for another reason than that no forward has run."""
    if missed := [name for name, listener in silent if listener.is_missed]:
        raise RuntimeError(f"the output of {', '.join(missed)} was computed outside of {_CALL}")
    if not module._regspec.has_run:
        return
    heard = {listener for part in module.modules() for listener in listeners_of(part)}
    if lost := [name for name, listener in silent if listener not in heard]:
        why = "the module that is listened to is no longer in the model, or has another forward since"
        raise RuntimeError(f"{', '.join(lost)}: {why}: give the penalty to what is there now")
    never = [name for name, listener in silent if not listener.is_called]
    for _, listener in silent:
        listener.is_called = True
    if never and not torch.compiler.is_compiling():
        what = f"{', '.join(never)}: nothing was heard, so there is no penalty"
        why = "the forward does not call the module (it may use its weight alone), or gets no numbers from it"
        warnings.warn(f"{what}: {why}", stacklevel=4)


_CALL = "the model's own call, so that its penalty is not known: call the model as model(...)"


def watch(module: Penalized, output: Any) -> None:
    """Warns, once, when a backward to parameters reaches an output and nobody has asked for the penalties.

    Only the first steps are watched: a loop that reads the loss does so in each step.
    """
    if module._regspec.watched == WATCHED:
        return
    module._regspec.watched += 1
    for x in tensors(output):
        if x.requires_grad:
            x.register_hook(partial(_warn_if_unread, ref(module)))  # the graph does not keep the module alive
            return


def _warn_if_unread(watched: ref[Penalized], gradient: Tensor) -> None:
    module = watched()
    if module is None or module._regspec.is_read:
        return
    if is_for_parameters(module) and (names := _on_loss(module)):
        for _, part in penalized_in(module):
            part._regspec.is_read = True
        shown = ", ".join(names[:5]) + ", …" * (len(names) > 5)
        what = f"a backward ran, but nobody has read the regularization loss of {shown}"
        warnings.warn(f"{what}: add model.regularization_loss() to the loss", UserWarning, stacklevel=2)


def _on_loss(module: Penalized) -> list[str]:
    """The terms that would train something if the loss were read: on the loss, of no frozen weight, and each once."""
    seen = Seen(module)
    return [name for name, term, owner in named_terms(module) if _trains(term, owner, seen)]


def _trains(term: AnyTerm, owner: Penalized, seen: Seen) -> bool:
    if isinstance(term, Listener):
        return bool(term.on_loss())
    try:
        return not term.is_seen(owner, seen) and bool(term.on_loss()) and term.is_trained(owner)
    except RuntimeError:  # the weight is gone: who reads its penalty is told so, and no backward is stopped by that
        return False
