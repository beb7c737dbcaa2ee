"""What went from a model, and what stays that looks as if it could go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from regspec.graph.units import Call, Units
from regspec.layers.ties import Place, Tie
from regspec.modules.shrinking.choosing import Choice, all_groups
from regspec.modules.shrinking.live import Flags, Live, any_of
from regspec.modules.shrinking.slicing import Sliced

SHOWN = 12  # reasons


@dataclass(frozen=True)
class Change:
    """How many units of a layer there were, and how many are left."""

    layer: str
    field: str
    before: Any
    after: Any
    counts_units: bool = True  # and not groups of them


@dataclass(frozen=True)
class ShrinkReport:
    """What `regspec.shrink` did.

    Attributes:
        changes: for each field that says how many units there are, what it said and says.
        weights: how many numbers the parameters held, and hold.
        folded: how many layers have constants of units that went in their biases now.
        stays: why units stay that are constant, or may not go, each with how many they are.
        difference: the largest difference of an output on random inputs; None where more went than can be done without.
        notes: what to know of the smaller spec.
    """

    changes: tuple[Change, ...]
    weights: tuple[int, int]
    folded: int
    stays: Mapping[str, int]
    difference: float | None
    notes: tuple[str, ...] = ()

    @property
    def units(self) -> tuple[int, int]:
        """How many units the fields of layers said, and say."""
        numbers = [each for each in self.changes if each.counts_units and type(each.before) is int]
        return sum(each.before for each in numbers), sum(each.after for each in numbers)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        changes = [
            {"layer": each.layer, "field": each.field, "before": each.before, "after": each.after}
            for each in self.changes
        ]
        return {
            "units": [*self.units],
            "weights": [*self.weights],
            "folded": self.folded,
            "difference": self.difference,
            "changes": changes,
            "stays": dict(self.stays),
            "notes": [*self.notes],
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        (units, left), (weights, fewer) = self.units, self.weights
        yield f"{units:,} units → {left:,}; {weights:,} weights → {fewer:,}"
        for each in self.changes:
            if each.before != each.after:
                before = "unsaid" if each.before is None else each.before
                yield f"{each.layer}: {each.field} {before} → {each.after}"
        for why, count in [*self.stays.items()][:SHOWN]:
            yield f"{count} {'stays' if count == 1 else 'stay'}: {why}"
        if self.folded:
            layers = "1 layer" if self.folded == 1 else f"{self.folded} layers"
            yield f"constants of units that went are in what {layers} add"
        if self.difference is not None:
            yield f"outputs on random inputs differ by at most {self.difference:.1e}"
        yield from (f"note: {note}" for note in self.notes)


def changes_in(left: Sliced) -> tuple[Change, ...]:
    """What fields said, and say."""
    found = []
    for path, fields in left.fields.items():
        for field, (before, after) in fields.items():
            name = ".".join(str(step) for step in field if step != "*")
            if (path, field) not in left.unsaid:
                found.append(Change(path, name, before, after, (path, field) not in left.groups))
            elif before != after:
                found.append(Change(path, name, None, after))
    return tuple(found)


def reasons(live: Live, choice: Choice) -> dict[str, int]:
    """Why units stay that are zero or constant, or that nothing takes, each with how many they are."""
    unknown = [why for call in live.units.calls if call.index == 0 for why in _of_no_units(live, call)]
    return dict(Counter([*why_each(live, choice).values(), *unknown]).most_common())


def why_each(live: Live, choice: Choice) -> dict[int, str]:
    """Why groups stay that are zero or constant, or that nothing takes."""
    units, found = live.units, dict(choice.stays)
    ends = (*units.inputs, *units.outputs)
    at_ends = {root for x in ends for ids in x.axes if ids is not None for root in _roots(units, ids)}
    zero, lost = _made_of_zeros(live, choice), _lost(live, choice)
    for root in ((_idle(live) - at_ends) | zero) - choice.gone - choice.stays.keys():
        why = units.why_kept(root) or lost.get(root)
        if why is not None:
            found[root] = why
    return found


def _idle(live: Live) -> set[int]:
    """The groups of weights that are constant in a tensor."""
    found: set[int] = set()
    for (tensor, axis), known in live.known.items():
        ids = tensor.axes[axis]
        if ids is not None and tensor not in live.units.inputs:
            found.update(_roots(live.units, ids[known.constant]))
    return found & all_groups(live.units)


def _made_of_zeros(live: Live, choice: Choice) -> set[int]:
    """The groups of which a layer has zeros alone in all that makes them."""
    found: set[int] = set()
    for call in live.units.calls:
        for number, tie in enumerate(call.ties.ties):
            zero = live.made_of_zeros(call, number)
            if zero.any():
                found.update(_roots(live.units, choice.units_at(call, tie)[zero]))
    return found


def _lost(live: Live, choice: Choice) -> dict[int, str]:
    """The groups of what is constant in front of a layer and is not behind it, each with that layer."""
    found: dict[int, str] = {}
    for call in live.units.calls:
        for tie in call.ties.ties:
            taken = [_constant(live, call, tie, place) for place in tie.places if place.is_input]
            given = [_constant(live, call, tie, place) for place in tie.places if place.is_output]
            if taken and given:
                is_lost = np.logical_or.reduce(taken) & ~np.logical_and.reduce(given)
                for root in _roots(live.units, choice.units_at(call, tie)[is_lost]):
                    found.setdefault(root, f"constant in front of {call.name}, and not behind it")
    return found


def _constant(live: Live, call: Call, tie: Tie, place: Place) -> Flags:
    """The units of a tie that are constant at a place."""
    known, part = live.at(call, place, tie)
    return ~any_of(~known.constant[part], place, tie)


def _of_no_units(live: Live, call: Call) -> Iterator[str]:
    """Why what weights make stays though it is zero, where a kind does not say what its units are; once for each."""
    for weight in call.node.resolved.weights:
        letters = [letter[0] for letter in weight.pattern.keras]
        last = len(letters) - 1
        is_known = any((call.path, weight.name, axis) in live.units.weights for axis in range(len(letters)))
        if weight.shape is None or is_known or not {"i", "o"} <= {*letters} or letters[last] != "o":
            continue
        nonzero = (live.arrays[call.path, weight.name] != 0).any(tuple(range(last)))
        yield from [f"{call.name}: nothing says what its units are"] * int((~nonzero).sum())


def _roots(units: Units, ids: Any) -> list[int]:
    found: list[int] = units.roots(ids).tolist()
    return found
