"""What a module has for its penalties: one object, so that the names of all other attributes are the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from regspec.runtime.kernels.sharded import fill, whole
from regspec.runtime.penalties.listeners import ROOM, Heard, Listener
from regspec.runtime.penalties.terms import WeightTerm
from regspec.runtime.penalties.tracing import Strengths, strength_now
from regspec.runtime.penalties.weights import tensor_at

AnyTerm = WeightTerm | Listener
Constraint = Callable[[Tensor], Tensor]


class State:
    """The terms and constraints of a module, what was heard, and what became of it."""

    def __init__(self) -> None:
        self.terms: dict[str, AnyTerm] = {}
        self.constraints: dict[str, tuple[Constraint, tuple[str, ...]]] = {}
        self.strengths = Strengths()  # of the terms, in compiled code
        self.heard: list[Heard] = []  # in the last forward, or in several that are accumulated
        self.room = ROOM  # for outputs without a gradient, beside those
        self.accumulates = False
        self.is_read = False  # whether anybody has ever asked for the penalties
        self.watched = 0  # how many forwards in training were watched
        self.has_run = False  # whether a forward has ended that was not compiled
        self.attached: list[str] = []  # the terms that `regspec.regularize` gave it
        self.bindings: list[Any] = []  # to optimizers, by `regspec.bind`

    def add(self, terms: Mapping[str, AnyTerm]) -> None:
        """Adds terms by their names. Raises `ValueError` where there is one of a name."""
        for name in terms:
            if name in self.terms:
                raise ValueError(f"there is a term '{name}' already")
        self.terms.update(terms)
        place = self.strengths.add([strength_now(part) for term in terms.values() for part in term.parts])
        for term in terms.values():
            term.place(self.strengths, place)
            place += len(term.parts)

    def forget(self) -> None:
        """Lets go of what was heard."""
        self.heard.clear()
        self.room = ROOM

    def of_copy(self) -> State:
        """That of a copy of the module, which is bound to no optimizer, and has heard nothing.

        Penalties belong to a forward, and not to the module; and tensors with a graph can't be copied.
        """
        made = copy(self)
        made.terms = {name: term.unbound() for name, term in self.terms.items()}
        made.constraints, made.attached = {**self.constraints}, [*self.attached]
        made.heard, made.room, made.bindings = [], ROOM, []
        return made


class Penalized(nn.Module):
    """A module that has such a state."""

    _regspec: State


def named_terms(module: Penalized) -> Iterator[tuple[str, AnyTerm, Penalized]]:
    """Every term of a module and of those in it, by its full name, with the module that has it."""
    for prefix, part in penalized_in(module):
        for name, term in part._regspec.terms.items():
            yield f"{prefix}.{name}" if prefix else name, term, part


def terms_in(module: Penalized) -> Iterator[tuple[AnyTerm, Penalized]]:
    """The same without names, which take longer."""
    for _, part in penalized_in(module):
        for term in part._regspec.terms.values():
            yield term, part


def penalized_in(module: Penalized) -> Iterator[tuple[str, Penalized]]:
    """The modules that may have terms or constraints of their own, the module itself among them, by name; each once."""
    yield "", module
    yield from inner(module, "", {module})


def inner(module: nn.Module, prefix: str, seen: set[nn.Module]) -> Iterator[tuple[str, Penalized]]:
    """Those inside a module; `named_modules` would take longer, because most modules hold no others."""
    for name, child in module._modules.items():
        if child is None or child in seen:
            continue
        if isinstance(child, Penalized):
            yield prefix + name, child
        elif not child._modules:
            continue
        seen.add(child)
        yield from inner(child, f"{prefix}{name}.", seen)


@torch.no_grad()
def project(module: Penalized, constraint: Constraint, paths: tuple[str, ...]) -> None:
    """Projects a weight, a parameter or several that are stacked, unless it is frozen."""
    parameters = [tensor_at(module, tuple(path.split("."))) for path in paths]
    if not parameters[0].requires_grad:
        return
    if len(parameters) == 1:
        fill(parameters[0], constraint(whole(parameters[0])))
    else:
        projected = constraint(torch.stack([whole(each) for each in parameters]))
        for parameter, value in zip(parameters, projected, strict=True):
            fill(parameter, value)
