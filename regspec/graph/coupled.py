"""Which weights are penalized together, because they vanish together: a coupled group lasso, put on whole units.

A group holds what makes a unit, in all layers that make it: the slices of kernels whose outputs are summed, their
biases, the scales, offsets and filters that it goes through. Where all of that is zero, so is the unit, or it is a
constant, and `regspec.shrink` takes it out with the slices of those that take it.

Two ways were weighed. Structured pruning often counts the slices of what takes a unit too (Wen et al. (2016),
https://arxiv.org/abs/1608.03665; Fang et al. (2023), DepGraph, https://arxiv.org/abs/2301.12900). But each number of a
kernel then is in two groups, by its output and by its input: the strengths add up, and no proximal step of overlapping
groups is known in closed form. What makes units is in one group each, and is enough.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, starmap

from regspec.code.shapes import ShapeError
from regspec.graph.families import roles_of
from regspec.graph.network import BlockNode, Coupled, Graph, LayerNode, Slices, UnitRule
from regspec.graph.units import Units, WeightAxis, units_of
from regspec.language.regularizers import Regularizer
from regspec.text.problems import Problem

ALONE = "without 'coupled' a group is of this weight alone"
ONCE = "say it at one of them, or the same at both"

Indices = Sequence[tuple[int, ...]]  # of a unit, along each of several axes


@dataclass(frozen=True)
class Found:
    """What is coupled in a network, the rules that coupled anything, and why others could not; and what is wrong."""

    coupled: tuple[Coupled, ...]
    rules: frozenset[object]
    stays: Mapping[object, str]
    problems: tuple[Problem, ...]


def coupled_in(graph: Graph, rules: Mapping[str, Sequence[UnitRule]]) -> Found:
    """What is coupled in a network. ``rules`` has those for units of a layer by its qualified name; the last holds."""
    return _Coupling(graph, rules).found()


@dataclass(frozen=True, eq=False)
class _Family:
    """Units that are made in the same weights."""

    slices: tuple[Slices, ...]

    def is_of(self, path: str, names: Collection[str]) -> bool:
        return any(each.path == path and each.weight in names for each in self.slices)


@dataclass
class _Asked:
    """What was said of a family, and by which layer."""

    regularizer: Regularizer
    name: str
    node: LayerNode


@dataclass
class _Coupling:
    graph: Graph
    rules: Mapping[str, Sequence[UnitRule]]
    units: Units = field(init=False)
    families: list[_Family] = field(init=False)
    said: dict[_Family, _Asked] = field(default_factory=dict)  # by layers themselves, or rules for a weight of theirs
    ruled: dict[_Family, _Asked] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.units = units_of(self.graph)
        self.families = [*_families(self.units)]

    def found(self) -> Found:
        matched, stays = set(), dict[object, str]()
        for path, name, node in _layers(self.graph, "", ""):
            own = {weight.name for weight in node.resolved.weights}
            for term in node.resolved.terms:
                if (regularizer := term.regularizer.coupled) is None:
                    continue
                weights = {term.weight or ""}
                if not self._ask(self.said, path, name, node, weights, regularizer):
                    what = f"{name} has a coupled group_lasso on its {term.slot}, but its units stay"
                    self._fault(node, f"{what}: {self._why(path, weights)}", ALONE)
            if name in self.rules:
                *_, (_, regularizer) = self.rules[name]
                known = [rule for rule, _ in self.rules[name]]
                if self._ask(self.ruled, path, name, node, own, regularizer):
                    matched.update(known)
                elif own:
                    why = f"those of {name} stay: {self._why(path, own)}"
                    stays = {**dict.fromkeys(known, why), **stays}
        return Found(tuple(self._coupled()), frozenset(matched), stays, tuple(self.problems))

    def _ask(
        self,
        asked: dict[_Family, _Asked],
        path: str,
        name: str,
        node: LayerNode,
        weights: Collection[str],
        regularizer: Regularizer,
    ) -> bool:
        """Notes what is said of the families of some weights; whether there are any."""
        own = [family for family in self.families if family.is_of(path, weights)]
        for family in own:
            before = asked.setdefault(family, _Asked(regularizer, name, node))
            if before.regularizer != regularizer:
                what = f"{name} makes the same units as {before.name}, whose coupled penalty is another"
                if name == before.name:
                    what = f"{name} has two coupled penalties of the same units"
                self._fault(node, f"{what}: {regularizer}, and {before.regularizer}", ONCE)
        return bool(own)

    def _coupled(self) -> Iterator[Coupled]:
        counts: dict[tuple[str, str], int] = {}
        for family in self.families:
            asked = self.said.get(family) or self.ruled.get(family)
            if asked is None:
                continue
            try:
                asked.regularizer.check("units", has_inputs=False)
            except ShapeError as error:
                self._fault(asked.node, f"{asked.name} {error.what}", error.hint)
            first = family.slices[0]
            slot = ".".join((*first.weight.split(".")[:-1], "units"))  # of a part of the layer: query.units
            count = counts.get((first.path, slot), 0)
            counts[first.path, slot] = count + 1
            slot = f"{slot}_{count}" if count else slot
            yield Coupled(first.path, slot, asked.regularizer, family.slices, asked.node.origin)

    def _why(self, path: str, weights: Collection[str]) -> str:
        """Why the units that weights make stay."""
        roles = roles_of(self.units)
        for key, ids in self.units.weights.items():
            if key[0] == path and key[1] in weights and roles[key][0] != "takes":
                reasons = (self.units.why_kept(unit) for unit in ids.tolist())
                return next((why for why in reasons if why), "its numbers are in groups of other units")
        return "nothing says what they are"

    def _fault(self, node: LayerNode, what: str, hint: str | None) -> None:
        problem = Problem(what, hint) if node.origin is None else node.origin.problem(what, hint, key=True)
        if problem not in self.problems:
            self.problems.append(problem)


def _layers(graph: Graph, within: str, prefix: str) -> Iterator[tuple[str, str, LayerNode]]:
    """Every layer of a network, with its path, and its name with those of the blocks around it."""
    for node in graph.nodes:
        if node.is_again:
            continue
        if isinstance(node, BlockNode):
            yield from _layers(node.block, f"{within}{node.path}.", f"{prefix}{node.name}.")
        else:
            yield f"{within}{node.name}", f"{prefix}{node.name}", node


def _families(units: Units) -> Iterator[_Family]:
    """The families of the units that may go, in the order of the layers; each number of a weight is in one.

    Where a weight has two kinds of units, as that of an attention's values has heads and what each head gives, the
    first are taken.
    """
    roles = roles_of(units)
    trained = {
        (call.path, weight.name)
        for call in units.calls
        for weight in call.node.resolved.weights
        if weight.trainable and weight.shape is not None
    }
    places: dict[int, dict[WeightAxis, list[int]]] = {}  # for each unit, its indices along axes
    for key, ids in units.weights.items():
        if roles[key][0] != "takes" and key[:2] in trained:
            for index, root in enumerate(units.roots(ids).tolist()):
                if units.why_kept(root) is None:
                    places.setdefault(root, {}).setdefault(key, []).append(index)
    alike: dict[tuple[tuple[WeightAxis, int], ...], list[int]] = {}
    for root, own in places.items():
        alike.setdefault(tuple((key, len(found)) for key, found in own.items()), []).append(root)
    axes: dict[tuple[str, str], int] = {}
    for signature, roots in alike.items():
        keys = [key for key, _ in signature]
        if all(axes.get(key[:2], key[2]) == key[2] for key in keys) and len({key[:2] for key in keys}) == len(keys):
            axes.update((key[:2], key[2]) for key in keys)
            for run in _runs([[tuple(places[root][key]) for key in keys] for root in roots]):
                yield _Family(tuple(Slices(*key, own) for key, own in zip(keys, zip(*run, strict=True), strict=True)))


def _runs(units: Sequence[Indices]) -> Iterator[list[Indices]]:
    """Units, by their indices along axes, that lie beside each other along all of them."""
    run = [units[0]]
    for before, after in pairwise(units):
        if not all(starmap(_is_beside, zip(before, after, strict=True))):
            yield run
            run = []
        run.append(after)
    yield run


def _is_beside(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether all numbers of a unit that lie in a row are followed by as many of another."""
    return blocks_of(after) == [(start + count, count) for start, count in blocks_of(before)]


def blocks_of(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Rising indices as those that follow one another: where they begin, and how many they are."""
    found: list[tuple[int, int]] = []
    for index in indices:
        start, count = found[-1] if found else (index, 0)
        if count and index != start + count:
            found.append((index, 1))
        else:
            found[-1:] = [(start, count + 1)]
    return found
