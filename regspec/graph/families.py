"""Groups of units as people read them: those that lie in the same weights together, and whether they may go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from regspec.graph.network import Coupled
from regspec.graph.units import Units, WeightAxis


@dataclass(frozen=True)
class Slice:
    """What a weight has of each unit of a family."""

    weight: str  # by the path of its layer: stage.0.conv.kernel
    role: str  # makes: it computes the unit; takes: it computes others of it; has: it scales, shifts or filters it
    numbers: int  # how many of its numbers are of one unit


@dataclass(frozen=True)
class Family:
    """Units that lie in the same weights, each a group that goes from all of them together, or from none."""

    units: int
    slices: tuple[Slice, ...]
    stays: str | None  # why they may not go
    term: str | None = None  # the penalty of what makes and has them, where it is one
    penalty: str | None = None

    @property
    def numbers(self) -> int:
        """How many numbers go with one unit; those that two of its slices share count twice."""
        return sum(each.numbers for each in self.slices)

    def as_dict(self) -> dict[str, Any]:
        """The family as plain data."""
        slices = [{"weight": each.weight, "role": each.role, "numbers": each.numbers} for each in self.slices]
        penalty = {"term": self.term, "penalty": self.penalty}
        return {"units": self.units, "stays": self.stays, **penalty, "slices": slices}


def families_of(units: Units, coupled: Sequence[Coupled] = ()) -> tuple[Family, ...]:
    """The families of a network's units, in the order of its layers; ``coupled`` are the penalties of its units.

    Example:
        >>> from regspec.graph.loading import graph_of
        >>> from regspec.graph.units import units_of
        >>> hidden = families_of(units_of(graph_of("examples/mlp.yaml")))[1]
        >>> hidden.units, [f"{each.role} {each.weight}" for each in hidden.slices]
        (32, ['makes hidden1.kernel', 'has hidden1.bias', 'takes hidden2.kernel'])
    """
    counts: dict[int, dict[WeightAxis, int]] = {}
    for key, ids in units.weights.items():
        for root in units.roots(ids).tolist():
            own = counts.setdefault(root, {})
            own[key] = own.get(key, 0) + 1
    alike: dict[tuple[Any, ...], int] = {}
    for root, own in counts.items():
        signature = (tuple(own.items()), units.why_kept(root))
        alike[signature] = alike.get(signature, 0) + 1
    roles = roles_of(units)
    penalized = {(own.path, own.weight, own.axis): each for each in coupled for own in each.slices}
    found = []
    for (own, stays), count in alike.items():
        slices = tuple(Slice(f"{key[0]}.{key[1]}", roles[key][0], each * roles[key][1]) for key, each in own)
        term = None if stays else next((penalized[key] for key, _ in own if key in penalized), None)
        told = (None, None) if term is None else (term.name, str(term.regularizer))
        found.append(Family(count, slices, stays, *told))
    return tuple(found)


def roles_of(units: Units) -> dict[WeightAxis, tuple[str, int]]:
    """For each axis of a weight what the weight is to the units along it, and how many numbers it has at each index."""
    found: dict[WeightAxis, tuple[str, int]] = {}
    for call in units.calls:
        factors = {each for tie in call.ties.ties for each in tie.factors}
        for weight in call.node.resolved.weights:
            letters = [letter[0] for letter in weight.pattern.keras]
            is_kernel = "i" in letters and "o" in letters and weight.name not in factors
            size = 1
            for each in weight.shape or ():
                size *= each
            for axis, letter in enumerate(letters):
                role = {"i": "takes", "o": "makes"}.get(letter, "has") if is_kernel else "has"
                key = (call.path, weight.name, axis)
                if key in units.weights:
                    found[key] = (role, size // len(units.weights[key]))
    return found
