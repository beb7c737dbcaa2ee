"""Which units matter least, where more go than the outputs can do without."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from regspec.graph.units import Call, Units
from regspec.layers.ties import Tie
from regspec.modules.shrinking.arrays import Array, Key
from regspec.modules.shrinking.choosing import Choice, balance
from regspec.modules.shrinking.live import Live, Numbers


def kept_share(live: Live, choice: Choice, share: float, norms: Mapping[int, float], multiple: int = 1) -> Choice:
    """A choice by which of the units that are made together at most this share is left: those that weigh most.

    Units that are coupled, as by a residual sum, are ranked together; those that go anyway count as gone. How many are
    left is rounded down to a multiple, if that leaves any.
    """
    gone = set(choice.gone)
    for rivals in _rivals(live, choice):
        free = [root for root in rivals if live.units.why_kept(root) is None]
        most = max(1, math.ceil(share * len(rivals)))
        if multiple > 1:
            most = min(most, sum(root not in choice.gone for root in rivals))
            most -= most % multiple if most > multiple else 0
        ranked = sorted(free, key=lambda root: (root in choice.gone, -norms.get(root, 0.0)))
        gone.update(ranked[max(0, most - (len(rivals) - len(free))) :])
    found = Choice(live.units, gone, dict(choice.stays))
    balance(found, {root: norms.get(root, 0.0) for root in gone})
    return found


def norms_of(live: Live) -> dict[int, float]:
    """For each group the norm of the slices that make it, each in units of the root mean square of its weight's."""
    squares = {key: np.square(array.astype(np.float64)) for key, array in live.arrays.items()}
    return {root: math.sqrt(square) for root, square in _sums(live, squares, by_mean=True).items()}


def changes_of(live: Live, gradients: Iterable[Mapping[Key, Array]]) -> dict[int, float]:
    """For each group by how much losses change without it, to first order: the root of the mean square of all.

    ``gradients`` are those of each loss: of one sum they would be near zero at its minimum (Molchanov et al., 2019).
    """
    found: dict[int, float] = {}
    for own in gradients:
        weighed = {key: live.arrays[key].astype(np.float64) * each.astype(np.float64) for key, each in own.items()}
        for root, change in _sums(live, weighed, by_mean=False).items():
            found[root] = found.get(root, 0.0) + change**2
    return {root: math.sqrt(square) for root, square in found.items()}


def _sums(live: Live, values: Mapping[Key, Numbers], *, by_mean: bool) -> dict[int, float]:
    """For each group the sum of values of weights in the slices that make it; maybe in units of the mean of a weight's.

    Weights without values add nothing.
    """
    found: dict[int, float] = {}
    for (path, name, axis), ids in live.units.weights.items():
        own = values.get((path, name))
        if own is None or not _makes(live, path, name, axis):
            continue
        sums = own.sum(tuple(other for other in range(own.ndim) if other != axis))
        mean = (sums.mean() or 1.0) if by_mean else 1.0
        for root, total in zip(live.units.roots(ids).tolist(), (sums / mean).tolist(), strict=True):
            found[root] = found.get(root, 0.0) + total
    return found


def _makes(live: Live, path: str, name: str, axis: int) -> bool:
    """Whether the units along an axis of a weight are what it makes: the outputs of a kernel, the scale of a norm."""
    call = next(call for call in live.units.calls if call.path == path)
    letters = next(weight.pattern.keras for weight in call.node.resolved.weights if weight.name == name)
    factors = {each for tie in call.ties.ties for each in tie.factors}
    return name in factors or (letters[axis][0] == "o" and len(letters) > 1)


def _rivals(live: Live, choice: Choice) -> Iterator[list[int]]:
    """The groups that are made along the same axes, where each has a field for how many there are."""
    axes = [choice.units.roots(choice.units_at(call, tie)) for call, tie in _made(live)]
    together = Units()
    together.new(1 + max((int(axis.max()) for axis in axes), default=-1))
    for axis in axes:
        together.join(np.full_like(axis, axis[0]), axis)
    found: dict[int, list[int]] = {}
    for root in dict.fromkeys(each for axis in axes for each in axis.tolist()):
        found.setdefault(together.root(root), []).append(root)
    yield from found.values()


def _made(live: Live) -> Iterator[tuple[Call, Tie]]:
    for call in live.units.calls:
        for tie in call.ties.ties:
            if tie.field and any(call.has(place) for place in tie.places):
                yield call, tie
