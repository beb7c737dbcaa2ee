"""Which units matter least, where more go than the outputs can do without."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from regspec.graph.units import Call
from regspec.layers.ties import Tie
from regspec.modules.shrinking.choosing import Choice, balance
from regspec.modules.shrinking.live import Live


def kept_share(live: Live, choice: Choice, share: float) -> Choice:
    """A choice by which of the units that are made together at most this share is left: those of the largest norms.

    Units that are coupled, as by a residual sum, are ranked together; those that go anyway count as gone.
    """
    norms = norms_of(live)
    gone = set(choice.gone)
    for family in _families(live, choice):
        free = [root for root in family if live.units.why_kept(root) is None]
        most = max(1, math.ceil(share * len(family)))
        ranked = sorted(free, key=lambda root: (root in choice.gone, -norms.get(root, 0.0)))
        gone.update(ranked[max(0, most - (len(family) - len(free))) :])
    found = Choice(live.units, gone, dict(choice.stays))
    balance(found, {root: norms.get(root, 0.0) for root in gone})
    return found


def norms_of(live: Live) -> dict[int, float]:
    """For each group the norm of the slices that make it, each in units of the root mean square of its weight's."""
    found: dict[int, float] = {}
    for (path, name, axis), ids in live.units.weights.items():
        array = live.arrays.get((path, name))
        if array is None or not _makes(live, path, name, axis):
            continue
        rest = tuple(other for other in range(array.ndim) if other != axis)
        squares = np.square(array.astype(np.float64)).sum(rest)
        mean = squares.mean() or 1.0
        for root, square in zip(live.units.roots(ids).tolist(), squares.tolist(), strict=True):
            found[root] = found.get(root, 0.0) + square / mean
    return {root: math.sqrt(square) for root, square in found.items()}


def _makes(live: Live, path: str, name: str, axis: int) -> bool:
    """Whether the units along an axis of a weight are what it makes: the outputs of a kernel, the scale of a norm."""
    call = next(call for call in live.units.calls if call.path == path)
    letters = next(weight.pattern.keras for weight in call.node.resolved.weights if weight.name == name)
    factors = {each for tie in (call.ties.ties if call.ties else ()) for each in tie.factors}
    return name in factors or (letters[axis][0] == "o" and len(letters) > 1)


def _families(live: Live, choice: Choice) -> Iterator[list[int]]:
    """The groups that are made along the same axes, where each has a field for how many there are."""
    axes = [choice.units.roots(choice.units_at(call, tie)).tolist() for call, tie in _made(live)]
    parents: dict[int, int] = {}

    def root(unit: int) -> int:
        while parents.setdefault(unit, unit) != unit:
            unit = parents[unit]
        return unit

    for axis in axes:
        for unit in axis[1:]:
            parents[root(unit)] = root(axis[0])
    families: dict[int, list[int]] = {}
    for unit in dict.fromkeys(unit for axis in axes for unit in axis):
        families.setdefault(root(unit), []).append(unit)
    yield from families.values()


def _made(live: Live) -> Iterator[tuple[Call, Tie]]:
    for call in live.units.calls:
        for tie in call.ties.ties if call.ties is not None else ():
            if tie.field and any(call.has(place) for place in tie.places):
                yield call, tie
