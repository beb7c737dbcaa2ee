"""What the proximal route does after a step of the optimizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from regspec.modules.parts import GONE, Part
from regspec.modules.step_sizes import Group, sizes_of
from regspec.runtime import NonNeg
from regspec.runtime.kernels.groups.places import Groups, Place, share_of
from regspec.runtime.kernels.groups.shrinking import Shrinking
from regspec.runtime.kernels.thresholds import StepSize, soften
from regspec.runtime.penalties.state import Penalized, penalized_in
from regspec.runtime.penalties.units import UnitTerm
from regspec.runtime.penalties.weights import tensor_at

STILL = StepSize(0.0)


class ProximalSteps:
    """The proximal steps of parts of an optimizer's weights, by the size of its step."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.softened = [part for part in parts if part.kind == "l1"]
        lassos = [part for part in parts if part.kind != "l1"]
        of_weights = [part for part in lassos if not part.is_of_units]
        self.lassos = [_Lassos(each) for each in (of_weights, [part for part in lassos if part.is_of_units]) if each]

    @torch.no_grad()
    def act(self, optimizer: Optimizer) -> None:
        """Shrinks what the step moved: first number by number, then groups of a weight, then units.

        In this order the two of a weight with an L1 and a group lasso are that of the sum (Yu (2013), On decomposing
        the proximal map, theorem 4), in sizes of steps that differ as well; and so are those of groups and of units,
        which hold whole ones.
        """
        sizes = _Sizes(optimizer)
        strengths: dict[nn.Parameter, float] = {}
        for part in self.softened:
            for parameter in part.parameters:
                if sizes.moved(part, parameter):
                    strengths[parameter] = strengths.get(parameter, 0.0) + part.strength
        if strengths:
            soften([(each, sizes.of(each), strength) for each, strength in strengths.items()])
        for lassos in self.lassos:
            lassos.act(sizes)


class _Sizes:
    """The sizes of the step that an optimizer just did."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.state = optimizer.state
        self.groups: dict[int, Group] = {id(each): own for own in optimizer.param_groups for each in own["params"]}
        self.of_class = sizes_of(optimizer)

    def moved(self, part: Part, parameter: nn.Parameter) -> bool:
        """Whether the optimizer moved a parameter."""
        if not parameter.requires_grad or parameter.grad is None:
            return False
        if id(parameter) not in self.groups:
            raise RuntimeError(f"the weight of '{part.name}' {GONE}")
        return True

    def of(self, parameter: nn.Parameter) -> StepSize:
        """The size of the step of one that it moved."""
        return self.of_class(self.groups[id(parameter)], self.state[parameter])


class _Lassos:
    """Group lassos whose groups do not cross."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.lassos = [(part, _places(part)) for part in parts]
        self.owners = {part.owner for part in parts}
        self.shrinking = Shrinking([place for _, places in self.lassos for place in places])

    def act(self, sizes: _Sizes) -> None:
        """Their proximal steps."""
        nonnegative = _nonnegative(self.owners)
        self.shrinking.act([_groups(part, places, sizes, nonnegative) for part, places in self.lassos])


def _places(part: Part) -> list[Place]:
    """Where the groups of a part lie in its parameters."""
    regularizer, term = part.regularizer, part.term
    views = [each.by_groups for each in term.slices] if isinstance(term, UnitTerm) else [regularizer.by_groups]
    return [Place(x, by_groups) for x, by_groups in zip(part.parameters, views, strict=True)]


def _groups(part: Part, places: Sequence[Place], sizes: _Sizes, nonnegative: set[int]) -> Groups:
    """The groups of a part with the sizes of the step. What is frozen is no part of them, unless it counts."""
    counts_frozen = isinstance(part.term, UnitTerm) and part.term.counts_frozen
    own = [place for place in places if place.x.requires_grad or counts_frozen]
    strength = part.strength * math.sqrt(sum([place.shape[1] for place in own]))
    groups = []
    for place in own:
        x: Any = place.x
        size = sizes.of(x) if sizes.moved(part, x) else STILL
        groups.append(share_of(place, size, strength, id(x) in nonnegative))
    return groups


def _nonnegative(owners: set[Penalized]) -> set[int]:
    """The parameters that a constraint keeps from being negative."""
    found: set[int] = set()
    for module in {module for owner in owners for _, module in penalized_in(owner)}:
        for constraint, paths in module._regspec.constraints.values():
            if isinstance(constraint, NonNeg):
                found.update(id(tensor_at(module, tuple(path.split(".")))) for path in paths)
    return found
