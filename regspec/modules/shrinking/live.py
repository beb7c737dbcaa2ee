"""Which units of a model are constant, and which count: what each is, and what becomes of it.

Two ways were weighed for what is constant. A rule for each kind that computes a constant from one needs each kind's
formula again. Here a constant is what hangs on nothing but constants, by the ties and the zeros of the weights; and
what it is, is read from one forward of the model itself, where it must be the same at all places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from regspec.graph.units import Call, Tensor, Units, indices
from regspec.layers.ties import Place, Tie
from regspec.modules.shrinking.arrays import Array, Key

Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]

EVEN = 1e-6  # by how much of itself a constant may differ from place to place, as sums are rounded


@dataclass(eq=False)
class Known:
    """What is known of the units along an axis of a tensor, by their indices."""

    constant: Flags
    value: Numbers  # of those that are constant
    live: Flags  # whether an output of the model hangs on it


@dataclass(frozen=True, eq=False)
class Link:
    """A weight by which units make others: it has both, and is zero where one does not count for the other."""

    name: str
    nonzero: Flags
    sources: tuple[tuple[int, Place], ...]  # numbers of ties, and where these lie in the weight
    targets: tuple[tuple[int, Place], ...]


@dataclass
class Live:
    """The state of all units of a model.

    Args:
        units: its units.
        arrays: its weights as Keras has their axes, those of groups as one kernel of all channels.
        values: for each call what it gave in one forward, by Keras's axes; where one could not be read there is none.
    """

    units: Units
    arrays: Mapping[Key, Array]
    values: Mapping[Call, Sequence[Array]]
    known: dict[tuple[Tensor, int], Known] = field(default_factory=dict)
    links: dict[Call, list[Link]] = field(default_factory=dict)
    zero: dict[tuple[Call, int], Flags] = field(default_factory=dict)  # for each tie, whether its units are zero
    live: dict[tuple[Call, int], Flags] = field(default_factory=dict)  # and whether an output hangs on them

    def __post_init__(self) -> None:
        for x in self.units.inputs:
            self._note(x)
        for call in self.units.calls:
            for x in call.outputs:
                self._note(x)
            self.links[call] = [*self._links_of(call)]
            self._forward(call)
        for x in self.units.outputs:
            self._all_live(x)
        for call in reversed(self.units.calls):
            self._backward(call)

    def _note(self, x: Tensor) -> None:
        for axis, units in enumerate(x.axes):
            if units is not None:
                count = len(units)
                self.known[x, axis] = Known(np.zeros(count, bool), np.zeros(count), np.zeros(count, bool))

    def _all_live(self, x: Tensor) -> None:
        for axis, units in enumerate(x.axes):
            if units is not None:
                self.known[x, axis].live[:] = True

    def at(self, call: Call, place: Place, tie: Tie) -> tuple[Known, slice]:
        """What is known along the axis of a place, and which part of it the place is."""
        known = self.known[call.tensor(place), place.axis]
        return known, slice(place.start, place.start + tie.size * place.outer * place.inner)

    # -- links ---------------------------------------------------------------------------------------------------------

    def _links_of(self, call: Call) -> Iterator[Link]:
        ties = call.ties.ties
        for weight in call.node.resolved.weights:
            array = self.arrays[call.path, weight.name] if weight.shape is not None else None
            if array is None:
                continue
            own = [
                (number, place) for number, tie in enumerate(ties) for place in tie.places if place.of == weight.name
            ]
            letters = weight.pattern.keras
            is_factor = any(weight.name in tie.factors for tie in ties)
            if own and {"i", "o"} <= {letter[0] for letter in letters} and not is_factor:
                sources, targets = (
                    tuple(each for each in own if letters[each[1].axis][0] == side) for side in ("i", "o")
                )
                yield Link(weight.name, array != 0, sources, targets)

    def _masked(self, call: Call, link: Link, masks: Mapping[int, Flags], along: Sequence[tuple[int, Place]]) -> Flags:
        """Where a link's weight is not zero, and the units along some of its axes are among those of the masks."""
        found = link.nonzero
        for number, place in along:
            tie = call.ties.ties[number]
            spread = masks[number][indices(place, tie.size)]
            found = found & spread.reshape([-1 if axis == place.axis else 1 for axis in range(found.ndim)])
        return found

    def _beside(self, call: Call, link: Link, wanted: Flags, number: int) -> Flags:
        """Where what is wanted of a link is not multiplied by another tie's zeros: of a head, what it gives."""
        others = [(other, place) for other, place in link.sources if other != number]
        masks = {other: ~self.zero[call, other] for other, _ in others}
        return wanted & self._masked(call, link, masks, others) if others else wanted

    def _reached(self, call: Call, place: Place, number: int, found: Flags) -> Flags:
        """The units along an axis of a weight in whose slices anything is found."""
        tie = call.ties.ties[number]
        rest = tuple(axis for axis in range(found.ndim) if axis != place.axis)
        return any_of(np.any(found, rest), place, tie)

    def taken(self, call: Call, number: int) -> Flags:
        """The units of a tie that the layer makes others of which count, themselves not among them."""
        found = np.zeros(call.ties.ties[number].size, bool)
        live = {other: self.live[call, other] for other, _ in enumerate(call.ties.ties)}
        for link in self.links[call]:
            wanted = self._masked(call, link, live, link.targets)
            for source, place in link.sources:
                if source != number:
                    continue
                wanted = self._beside(call, link, wanted, number)
                own = indices(place, len(found))
                for target, at in link.targets:
                    if target == number:
                        shape = [-1 if axis == place.axis else 1 for axis in range(wanted.ndim)]
                        others = [-1 if axis == at.axis else 1 for axis in range(wanted.ndim)]
                        wanted = wanted & (own.reshape(shape) != indices(at, len(found)).reshape(others))
                found |= self._reached(call, place, number, wanted)
        return found & ~self._cut(call, call.ties.ties[number])

    def made_of_zeros(self, call: Call, number: int) -> Flags:
        """The units of a tie for which all is zero by which the layer makes them, and which it makes."""
        tie, links = call.ties.ties[number], self.links[call]
        made = [(link, place) for link in links for target, place in link.targets if target == number]
        if not made:
            return np.zeros(tie.size, bool)
        found = self._added(call, tie, links)
        for link, place in made:
            found = found | self._reached(call, place, number, link.nonzero)
        return ~found

    # -- forward -------------------------------------------------------------------------------------------------------

    def _forward(self, call: Call) -> None:
        """What is constant of the outputs of a call."""
        ties, links = call.ties.ties, self.links[call]
        varies = {number: np.zeros(tie.size, bool) for number, tie in enumerate(ties)}  # hangs on what is not constant
        counts = {number: np.zeros(tie.size, bool) for number, tie in enumerate(ties)}  # may be other than zero
        made = {number for link in links for number, _ in link.targets}
        repeated = {n for link in links for n, _ in link.targets if n in {source for source, _ in link.sources}}
        for number, tie in enumerate(ties):
            self._from_inputs(call, tie, number in made, varies[number], counts[number])
            is_inner = not any(isinstance(place.of, int) for place in tie.places)
            if is_inner or number in repeated:
                counts[number] |= self._added(call, tie, links)
        is_done = False
        while not is_done:
            is_done = True
            for link in links:
                moving = self._masked(call, link, {**varies, **{n: counts[n] for n in repeated}}, link.sources)
                giving = self._masked(call, link, counts, link.sources)
                for number, place in link.targets:
                    if link.name in ties[number].apart:
                        continue
                    for flags, found in ((varies[number], moving), (counts[number], giving)):
                        reached = self._reached(call, place, number, found) & ~flags
                        flags |= reached
                        is_done = is_done and not reached.any()
        for number, tie in enumerate(ties):
            is_zero_only = number in repeated or call.has_mask
            if number in repeated:
                varies[number] = counts[number]
            if tie.stays and varies[number].any():
                varies[number][:] = counts[number][:] = True
            self.zero[call, number] = ~counts[number]
            for place in tie.places:
                if place.is_output:
                    self._give(call, tie, place, varies[number], is_zero_only)

    def _from_inputs(self, call: Call, tie: Tie, is_made: bool, varies: Flags, counts: Flags) -> None:
        """What the units of a tie are by the inputs in which they lie."""
        places = [place for place in tie.places if place.is_input]
        zeros = np.zeros(tie.size, bool)
        for place in places:
            known, part = self.at(call, place, tie)
            varies |= any_of(~known.constant[part], place, tie)
            nonzero = any_of(~known.constant[part] | (known.value[part] != 0), place, tie)
            counts |= nonzero
            zeros |= ~nonzero
        if any(place.is_output for place in tie.places) and not is_made:
            given = {place.of for place in places}
            loose = [] if tie.is_alone else [x for number, x in enumerate(call.inputs) if number not in given]
            if not places or not all(map(self._is_constant, loose)):
                varies[:] = counts[:] = True
        cut = self._cut(call, tie)
        for flags in (varies, counts):
            flags &= ~cut
            if tie.absorbs:
                flags &= ~zeros

    def _is_constant(self, x: Tensor) -> bool:
        """Whether all of a tensor is constant."""
        axes = [self.known[x, axis] for axis, units in enumerate(x.axes) if units is not None]
        return any(each.constant.all() for each in axes)

    def _cut(self, call: Call, tie: Tie) -> Flags:
        """The units that a factor of zeros cuts off."""
        found = np.zeros(tie.size, bool)
        for place in tie.places:
            if place.of in tie.factors and isinstance(place.of, str) and call.has(place):
                array = self.arrays[call.path, place.of]
                rest = tuple(axis for axis in range(array.ndim) if axis != place.axis)
                found |= ~any_of((array != 0).any(rest), place, tie)
        return found

    def _added(self, call: Call, tie: Tie, links: Sequence[Link]) -> Flags:
        """The units to which something is added that is not zero."""
        found, names = np.zeros(tie.size, bool), {link.name for link in links}
        for place in tie.places:
            if isinstance(place.of, str) and place.of not in names and place.of not in tie.apart and call.has(place):
                array = self.arrays[call.path, place.of]
                rest = tuple(axis for axis in range(array.ndim) if axis != place.axis)
                found |= any_of((array != 0).any(rest), place, tie)
        return found

    def _give(self, call: Call, tie: Tie, place: Place, varies: Flags, is_zero_only: bool) -> None:
        """Notes which units of an output are constant."""
        known, part = self.at(call, place, tie)
        constant = ~varies[indices(place, tie.size)]
        if call not in self.values:
            zeros = self.zero_passed(call, tie)
            known.constant[part] = zeros[indices(place, tie.size)]
            return
        output = np.moveaxis(self.values[call][place.number], place.axis, 0)
        flat = output.reshape(len(output), -1)[part].astype(np.float64)
        least, most = flat.min(1), flat.max(1)
        with np.errstate(invalid="ignore"):  # infinite less infinite is no number, and so not even
            is_even = most - least <= EVEN * np.maximum(np.abs(least), np.abs(most))
        constant = constant & is_even & (~np.bool_(is_zero_only) | (flat[:, 0] == 0))
        known.constant[part] = constant
        known.value[part] = np.where(constant, (least + most) / 2, 0.0)

    def zero_passed(self, call: Call, tie: Tie) -> Flags:
        """The units that are zero in the inputs of a layer that gives zeros for them."""
        places = [place for place in tie.places if place.is_input]
        found = np.full(tie.size, tie.keeps_zeros and bool(places))
        for place in places:
            known, part = self.at(call, place, tie)
            found &= ~any_of(~known.constant[part] | (known.value[part] != 0), place, tie)
        return found

    # -- backward ------------------------------------------------------------------------------------------------------

    def _backward(self, call: Call) -> None:
        """Which inputs of a call count."""
        ties, links = call.ties.ties, self.links[call]
        live = {number: np.zeros(tie.size, bool) for number, tie in enumerate(ties)}
        sources = {number for link in links for number, _ in link.sources}
        for number, tie in enumerate(ties):
            outputs = [place for place in tie.places if place.is_output]
            for place in outputs:
                known, part = self.at(call, place, tie)
                live[number] |= any_of(known.live[part], place, tie)
            is_taken = not outputs and number not in sources and any(place.is_input for place in tie.places)
            if is_taken or (tie.stays and (not outputs or live[number].any())):
                live[number][:] = True  # each counts for the others
        is_done = False
        while not is_done:
            is_done = True
            for link in links:
                wanted = self._masked(call, link, live, link.targets)
                for number, place in link.sources:
                    reached = self._reached(call, place, number, self._beside(call, link, wanted, number))
                    reached &= ~live[number]
                    live[number] |= reached
                    is_done = is_done and not reached.any()
        self.live |= {(call, number): flags for number, flags in live.items()}
        named = {(place.of, place.axis) for tie in ties for place in tie.places if place.is_input}
        for number, tie in enumerate(ties):
            wanted = live[number] & ~self._cut(call, tie)
            for place in tie.places:
                if place.is_input:
                    own = wanted & ~self._absorbed(call, tie, place)
                    known, part = self.at(call, place, tie)
                    known.live[part] |= own[indices(place, tie.size)]
        for number, x in enumerate(call.inputs):
            for axis, units in enumerate(x.axes):
                if units is not None and (number, axis) not in named:
                    self.known[x, axis].live[:] = True

    def _absorbed(self, call: Call, tie: Tie, own: Place) -> Flags:
        """The units of an input that another makes zero."""
        found = np.zeros(tie.size, bool)
        for place in tie.places if tie.absorbs else ():
            if place.is_input and place != own:
                known, part = self.at(call, place, tie)
                found |= ~any_of(~known.constant[part] | (known.value[part] != 0), place, tie)
        return found


def any_of(flags: Flags, place: Place, tie: Tie) -> Flags:
    """For each unit, whether any of its numbers at a place is flagged."""
    return np.asarray(flags.reshape(place.outer, tie.size, place.inner).any((0, 2)))
