"""What is left of a model's weights and fields without the units that go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from regspec.graph.units import Call, indices
from regspec.layers.ties import FieldPath, Fold, said
from regspec.modules.shrinking.arrays import Array, Key, grouped
from regspec.modules.shrinking.choosing import Choice, axis_of, dropped_parts, fold_of, ids_at
from regspec.modules.shrinking.live import Live, Numbers

Changes = dict[FieldPath, tuple[Any, Any]]  # what a field would say if it stayed as it is, and what it says then


@dataclass
class Sliced:
    """The weights that are left, and the fields that say how many units there are."""

    arrays: dict[Key, Array] = field(default_factory=dict)
    fields: dict[str, Changes] = field(default_factory=dict)  # by the paths of layers
    unsaid: set[tuple[str, FieldPath]] = field(default_factory=set)  # which of these said nothing before
    folded: int = 0  # constants that were added to biases
    groups: set[tuple[str, FieldPath]] = field(default_factory=set)  # those of the fields that count groups of units


def sliced(live: Live, choice: Choice) -> Sliced:
    """What is left of the weights and fields."""
    result = Sliced(arrays=dict(live.arrays))
    seen: set[str] = set()
    for call in live.units.calls:
        if call.path in seen:
            continue
        seen.add(call.path)
        fields: Changes = {}
        for tie in call.ties.ties:
            if tie.field and any(call.has(place) for place in tie.places):
                left = tie.size - int(choice.is_gone(choice.units_at(call, tie)).sum())
                for path, each in ((tie.field, tie.each), *tie.others):
                    fields[path] = (tie.size * each, left * each)
                if tie.follows is not None and said(call.node.resolved.layer, tie.field) is None:
                    by_default = int((~choice.is_gone(axis_of(call, tie.follows))).sum())
                    fields[tie.field] = (by_default, left)
                    result.unsaid.add((call.path, tie.field))
        for fold, added in _folded(live, choice, call):
            result.folded += 1
            if fold.bias in call.weights:
                result.arrays[call.path, fold.bias] = _plus(live.arrays[call.path, fold.bias], added)
            elif (taker := _shifted(live, call, fold)) is not None:
                result.arrays[taker] = _plus(result.arrays[taker], -added)
            else:
                like = live.arrays[call.path, fold.kernel]
                result.arrays[call.path, fold.bias] = added.astype(like.dtype)
                assert fold.field is not None  # see fold_of
                fields[fold.field] = (False, True)
        groups = max(call.ties.grouped.values(), default=1)
        if groups > 1:
            left = groups - int(dropped_parts(choice, call).sum())
            fields[call.ties.groups] = (groups, left)
            result.groups.add((call.path, call.ties.groups))
            groups = left
        for name in dict.fromkeys((*call.weights, *(fold.bias for fold in call.ties.folds))):
            if (call.path, name) in result.arrays:
                result.arrays[call.path, name] = _left(live, choice, call, name, result.arrays[call.path, name])
        for name in call.ties.grouped:
            result.arrays[call.path, name] = grouped(result.arrays[call.path, name], groups)
        if fields:
            result.fields[call.path] = fields
    return result


def _left(live: Live, choice: Choice, call: Call, name: str, array: Array) -> Array:
    """A weight without the slices of units that go."""
    for axis in range(array.ndim):
        ids = live.units.weights.get((call.path, name, axis))
        if ids is None and name not in call.weights:  # a bias that is new
            ids = _of_new(live, call, name, axis)
        if ids is not None:
            array = np.compress(~choice.is_gone(ids), array, axis)
    return array


def _of_new(live: Live, call: Call, name: str, axis: int) -> Any:
    """The units along a bias that the layer did not have: those of its outputs."""
    for tie in call.ties.ties:
        at = next((place for place in tie.places if place.of == name and place.axis == axis), None)
        if at is not None:
            there = next(place for place in tie.places if call.has(place))
            ids = ids_at(live.units, call, there, tie)
            _, first = np.unique(indices(there, tie.size), return_index=True)
            return ids[first][indices(at, tie.size)]
    return None


def _folded(live: Live, choice: Choice, call: Call) -> Iterator[tuple[Fold, Numbers]]:
    """What the constants that a layer takes of units that go add up to, and where it belongs."""
    for link in live.links[call]:
        fold = fold_of(call, link.name)
        for number, place in link.sources if fold is not None else ():
            for values in _constants(live, choice, call, number):
                kernel = live.arrays[call.path, link.name].astype(np.float64)
                shape = [-1 if axis == place.axis else 1 for axis in range(kernel.ndim)]
                target = link.targets[0][1].axis
                added = (kernel * values.reshape(shape)).sum(
                    tuple(axis for axis in range(kernel.ndim) if axis != target)
                )
                if added.any() and fold is not None:
                    yield fold, added


def _plus(array: Array, added: Numbers) -> Array:
    """A bias with something added; to the first of two, which are those of the inputs and of the state."""
    total = array.astype(np.float64)
    (total[0] if total.ndim > 1 else total)[...] += added
    return total.astype(array.dtype)


def _shifted(live: Live, call: Call, fold: Fold) -> Key | None:
    """What is subtracted of a layer's output in the only layer that takes it, where both are called once.

    None where a penalty listens on the output, which would be without what was added.
    """
    calls = live.units.calls
    takers = [each for each in calls if call.outputs[0] in each.inputs]
    paths = [each.path for each in calls]
    is_heard = any(term.is_activity for term in call.node.resolved.terms)
    if not fold.is_last or is_heard or len(takers) != 1 or call.outputs[0] in live.units.outputs:
        return None
    (taker,) = takers
    is_once = paths.count(call.path) == paths.count(taker.path) == 1
    return (taker.path, taker.ties.shift) if is_once and taker.ties.shift else None


def _constants(live: Live, choice: Choice, call: Call, number: int) -> Iterator[Any]:
    """What the units that go are, along the axis of an input."""
    tie = call.ties.ties[number]
    inputs = [place for place in tie.places if place.is_input]
    if len(inputs) == 1 and not any(place.is_output for place in tie.places):
        calls = [each for each in live.units.calls if each.path == call.path]
        taken, values = np.zeros(tie.size, bool), np.zeros(tie.size)
        for each in calls:  # of which all agree where they take any; each on a tensor of its own rank
            its = each.ties.ties[number]
            place = next(place for place in its.places if place.is_input)
            known, part = live.at(each, place, its)
            own = live.taken(each, number)[indices(place, its.size)]
            gone = choice.is_gone(ids_at(live.units, each, place, its))
            value = np.where(own & gone & known.constant[part], known.value[part], 0.0)
            values = np.where(taken, values, value)
            taken = taken | own
        yield values
