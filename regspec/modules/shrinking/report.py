"""What went from a model, and what stays that looks as if it could go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regspec.graph.units import Call, Units
from regspec.layers.ties import Place, Tie
from regspec.modules.shrinking.choosing import Choice, all_groups, ids_at
from regspec.modules.shrinking.live import Live
from regspec.modules.shrinking.slicing import Sliced

SHOWN = 12  # reasons


@dataclass(frozen=True)
class Change:
    """How many units of a layer there were, and how many are left."""

    layer: str
    field: str
    before: Any
    after: Any


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
        numbers = [each for each in self.changes if type(each.before) is int]
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
                found.append(Change(path, name, before, after))
            elif before != after:
                found.append(Change(path, name, None, after))
    return tuple(found)


def reasons(live: Live, choice: Choice) -> dict[str, int]:
    """Why units stay that are zero or constant, or that nothing takes."""
    found = Counter(choice.stays.values())
    ends = (*live.units.inputs, *live.units.outputs)
    at_ends = {root for x in ends for ids in x.axes if ids is not None for root in _roots(live.units, ids)}
    lost = _lost(live)
    for root in _idle(live) - choice.gone - choice.stays.keys() - at_ends:
        why = live.units.why_kept(root) or lost.get(root)
        if why is not None:
            found[why] += 1
    return dict(found.most_common())


def _idle(live: Live) -> set[int]:
    """The groups of weights that are constant in a tensor."""
    found: set[int] = set()
    for (tensor, axis), known in live.known.items():
        ids = tensor.axes[axis]
        if ids is not None and tensor not in live.units.inputs:
            found.update(_roots(live.units, ids[known.constant]))
    return found & all_groups(live.units)


def _lost(live: Live) -> dict[int, str]:
    """The groups of what is constant in front of a layer and is not behind it, each with that layer."""
    found: dict[int, str] = {}
    for call in live.units.calls:
        for tie in call.ties.ties:
            taken, given = (
                [place for place in tie.places if getattr(place, side)] for side in ("is_input", "is_output")
            )
            for root in _constant(live, call, tie, taken) - _constant(live, call, tie, given) if given else ():
                found.setdefault(root, f"constant in front of {call.name}, and not behind it")
    return found


def _constant(live: Live, call: Call, tie: Tie, places: Sequence[Place]) -> set[int]:
    """The groups of units that are constant at one of some places."""
    found: set[int] = set()
    for place in places:
        known, part = live.at(call, place, tie)
        found.update(_roots(live.units, ids_at(live.units, call, place, tie)[known.constant[part]]))
    return found


def _roots(units: Units, ids: Any) -> list[int]:
    found: list[int] = units.roots(ids).tolist()
    return found
