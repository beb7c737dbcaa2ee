"""Which groups of units go: those without which every output that counts stays what it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from regspec.graph.units import Call, Ids, Units, indices
from regspec.layers.ties import Fold, Place, Tie
from regspec.modules.shrinking.live import Flags, Live, Numbers


@dataclass
class Choice:
    """The groups that go, and why others stay that look as if they could."""

    units: Units
    gone: set[int] = field(default_factory=set)
    stays: dict[int, str] = field(default_factory=dict)

    def is_gone(self, ids: Ids) -> Flags:
        """Which units go."""
        return np.fromiter((root in self.gone for root in self.units.roots(ids).tolist()), bool, len(ids))

    def units_at(self, call: Call, tie: Tie) -> Ids:
        """The units of a tie, each by one of its places."""
        place = next(place for place in tie.places if call.has(place))
        ids = ids_at(self.units, call, place, tie)
        _, first = np.unique(indices(place, tie.size), return_index=True)
        return ids[first]


def axis_of(call: Call, place: Place) -> Ids:
    """The units along the whole axis of an input or output."""
    found = call.tensor(place).axes[place.axis]
    assert found is not None  # a tie has given them
    return found


def ids_at(units: Units, call: Call, place: Place, tie: Tie) -> Ids:
    """The units at each index of a place."""
    whole = units.weights[call.path, place.of, place.axis] if isinstance(place.of, str) else None
    if whole is None:
        whole = call.tensor(place).axes[place.axis]
    assert whole is not None  # a tie has given it
    return whole[place.start : place.start + tie.size * place.outer * place.inner]


def fold_of(call: Call, kernel: str) -> Fold | None:
    """Where constants that a kernel takes can be added; None where they can't."""
    found = next((each for each in call.ties.folds if each.kernel == kernel), None)
    return found if found is not None and (found.bias in call.weights or found.field is not None) else None


def unchanged(live: Live) -> Choice:
    """The groups without which the outputs stay as they are."""
    units = live.units
    choice = Choice(units)
    needed: set[int] = set()
    for call in units.calls:
        for roots, why in _needed(live, call):
            needed.update(roots)
            if why:
                choice.stays.update(dict.fromkeys(roots, why))
    _check_shared(live, needed, choice)
    choice.gone = {root for root in all_groups(units) if root not in needed and units.why_kept(root) is None}
    choice.stays = {root: why for root, why in choice.stays.items() if units.why_kept(root) is None}
    balance(choice, dict.fromkeys(choice.gone, 0.0))
    return choice


def all_groups(units: Units) -> set[int]:
    """Every group that lies in a weight."""
    return {root for ids in units.weights.values() for root in units.roots(ids).tolist()}


def _needed(live: Live, call: Call) -> Iterator[tuple[list[int], str]]:
    """Groups that a call needs, and why, where they are constant all the same."""
    units = live.units
    for number, tie in enumerate(call.ties.ties):
        links = [link for link in live.links[call] if number in {source for source, _ in link.sources}]
        if not links:
            if not any(place.is_output for place in tie.places):
                yield from ((_roots(units, call, place, tie), "") for place in tie.places if place.is_input)
            continue
        taken = live.taken(call, number)
        inputs = [place for place in tie.places if place.is_input]
        if not inputs or number in {target for link in links for target, _ in link.targets}:
            place = next(place for place in tie.places if call.has(place))
            wanted = (taken & ~live.zero[call, number])[indices(place, tie.size)]
            yield units.roots(ids_at(units, call, place, tie)[wanted]).tolist(), ""
            continue
        can_fold = len(inputs) == 1 and all(fold_of(call, link.name) for link in links)
        for place in inputs:
            known, part = live.at(call, place, tie)
            wanted, ids = taken[indices(place, tie.size)], ids_at(units, call, place, tie)
            is_constant, is_zero = known.constant[part], known.constant[part] & (known.value[part] == 0)
            yield units.roots(ids[wanted & ~is_constant]).tolist(), ""
            if not can_fold:
                why = f"constant, but {call.name} can't add that to its bias: {_why_not(call)}"
                yield units.roots(ids[wanted & is_constant & ~is_zero]).tolist(), why


def _why_not(call: Call) -> str:
    return call.ties.why_not or "it is not added up alike everywhere"


def _roots(units: Units, call: Call, place: Place, tie: Tie) -> list[int]:
    found: list[int] = units.roots(ids_at(units, call, place, tie)).tolist()
    return found


def _check_shared(live: Live, needed: set[int], choice: Choice) -> None:
    """Keeps units that are different constants in the calls of one layer, whose bias can take one of them only."""
    first: dict[tuple[str, int], tuple[Numbers, Flags]] = {}
    for call in live.units.calls:
        for number, tie in enumerate(call.ties.ties if call.ties.folds else ()):
            for place in tie.places:
                if place.of != 0 or not any(
                    number == source for link in live.links[call] for source, _ in link.sources
                ):
                    continue
                known, part = live.at(call, place, tie)
                taken = live.taken(call, number)[indices(place, tie.size)]
                value = np.where(taken, known.value[part], 0.0)
                before, counted = first.get((call.path, number), (value, taken))
                first[call.path, number] = np.where(counted, before, value), counted | taken
                differs = counted & taken & (before != value)
                roots = live.units.roots(ids_at(live.units, call, place, tie)[differs]).tolist()
                needed.update(roots)
                choice.stays.update(dict.fromkeys(roots, f"other constants in several calls of {call.path}"))


# -- what has to be even -----------------------------------------------------------------------------------------------


def balance(choice: Choice, weight: Mapping[int, float]) -> None:
    """Keeps groups so that no axis is left empty, and parts that must be alike are; the heaviest first.

    Why each is kept is noted.
    """
    before = -1
    while len(choice.gone) != before:
        before = len(choice.gone)
        for call in choice.units.calls:
            ties = [tie for tie in call.ties.ties if any(call.has(place) for place in tie.places)]
            roots = [choice.units.roots(choice.units_at(call, tie)) for tie in ties]
            for tie, own in zip(ties, roots, strict=True):
                _keep(choice, own, tie.size - 1, weight, f"{call.name} has one of them at least")
            parted = [(tie, own) for tie, own in zip(ties, roots, strict=True) if tie.parts > 1]
            if parted:
                why = f"{call.name}: each of its groups keeps as many"
                _even_parts(choice, [own.reshape(tie.parts, -1) for tie, own in parted], weight, why)
            for tie, own in zip(ties, roots, strict=True):
                if tie.follows is not None and not tie.field:
                    taken, why = (
                        choice.units.roots(axis_of(call, tie.follows)),
                        f"{call.name} gives as many as it takes",
                    )
                    _keep(choice, own, _count(choice, taken), weight, why)
                    _keep(choice, taken, _count(choice, own), weight, why)
            for word in {tie.alike for tie in ties if tie.alike}:
                some = [own for tie, own in zip(ties, roots, strict=True) if tie.alike == word]
                fewest = min(_count(choice, own) for own in some)
                for own in some:
                    _keep(choice, own, fewest, weight, f"{call.name}: each of its directions keeps as many")


def _even_parts(choice: Choice, axes: list[Ids], weight: Mapping[int, float], why: str) -> None:
    """Keeps units so that of each part there goes as much as of the others, or all of it."""
    parts = len(axes[0])
    whole = [all(_count(choice, axis[part]) == axis.shape[1] for axis in axes) for part in range(parts)]
    if all(whole):
        whole[0] = False
    for axis in axes:
        left = [axis[part] for part in range(parts) if not whole[part]]
        fewest = min(min(_count(choice, each) for each in left), axis.shape[1] - 1)
        for each in left:
            _keep(choice, each, fewest, weight, why)


def _count(choice: Choice, roots: Ids) -> int:
    return sum(root in choice.gone for root in roots.tolist())


def _keep(choice: Choice, roots: Ids, most: int, weight: Mapping[int, float], why: str) -> None:
    """Keeps units so that at most so many go."""
    going = [root for root in roots.tolist() if root in choice.gone]
    distinct = sorted(dict.fromkeys(going), key=lambda root: -weight.get(root, 0.0))
    while len(going) > most:
        kept = distinct.pop(0)
        choice.gone.discard(kept)
        choice.stays[kept] = why
        going = [root for root in going if root != kept]


def dropped_parts(choice: Choice, call: Call) -> Flags:
    """Which of a layer's groups go whole."""
    axes = [choice.units_at(call, tie).reshape(tie.parts, -1) for tie in call.ties.ties if tie.parts > 1]
    gone = [choice.is_gone(axis.reshape(-1)).reshape(axis.shape).all(1) for axis in axes]
    found: Flags = np.logical_and.reduce(gone)
    return found
