"""The units of a network: indices along axes that layers tie together, over the whole graph.

Each call of a layer has ties (`Layer.ties`). Here these meet: a tensor hands its units from the layer that gives it to
those that take it, a residual sum makes those of several one, a layer or block that is called again has its weights'
units in each call. A group is what is one by all of them; it goes whole, or not at all. The units of what no kind ties
stay, and each has its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from regspec.code.shapes import Symbol
from regspec.graph.network import BlockNode, Graph, LayerNode
from regspec.layers.ties import Place, Tie, Ties

Ids = NDArray[np.int64]
WeightAxis = tuple[str, str, int]  # the path of the layer, the weight, and Keras's axis


@dataclass(eq=False)
class Tensor:
    """A tensor between layers: for each of Keras's axes, the units along it; None where it has none."""

    name: str
    axes: list[Ids | None]


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a layer in the network, blocks unfolded."""

    path: str  # of the layer, by the names of entries, in which weights are: stage.0.conv
    name: str  # of this call
    index: int  # which of the calls it is that have this name, as a block is called again
    node: LayerNode
    ties: Ties  # none where it is not known what its units are
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    has_mask: bool

    def tensor(self, place: Place) -> Tensor:
        """The input or output in which units lie."""
        return (self.inputs if place.is_input else self.outputs)[place.number]

    def has(self, place: Place) -> bool:
        """Whether a place is in a tensor, or in a weight that the layer has."""
        return isinstance(place.of, int) or place.of in self.weights

    @property
    def weights(self) -> set[str]:
        """The names of the layer's weights."""
        return {weight.name for weight in self.node.resolved.weights}


def indices(place: Place, size: int) -> Ids:
    """The unit at each index of a place, from its start."""
    return np.tile(np.repeat(np.arange(size), place.inner), place.outer)


@dataclass
class Units:
    """The units of a network, and what is known of them."""

    calls: list[Call] = field(default_factory=list)
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    weights: dict[WeightAxis, Ids] = field(default_factory=dict)  # the unit at each index, by the axes that have any
    _parents: list[int] = field(default_factory=list)
    _reasons: dict[int, str] = field(default_factory=dict)

    # -- groups --------------------------------------------------------------------------------------------------------

    def new(self, count: int) -> Ids:
        """Units that are in no group yet."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def root(self, unit: int) -> int:
        """The unit that stands for the group of one."""
        parents = self._parents
        while parents[unit] != unit:
            parents[unit] = parents[parents[unit]]
            unit = parents[unit]
        return unit

    def roots(self, units: Ids) -> Ids:
        """The units that stand for the groups of each."""
        return np.fromiter((self.root(int(each)) for each in units), np.int64, len(units))

    def join(self, some: Ids, others: Ids) -> None:
        """Makes units that stand beside each other one group."""
        for one, other in zip(some.tolist(), others.tolist(), strict=True):
            first, second = self.root(one), self.root(other)
            if first != second:
                self._parents[second] = first
                if second in self._reasons:
                    self._reasons.setdefault(first, self._reasons[second])

    def keep(self, units: Ids | None, why: str) -> None:
        """Says of units that they may not go."""
        for unit in dict.fromkeys(() if units is None else units.tolist()):
            self._reasons.setdefault(self.root(unit), why)

    def why_kept(self, unit: int) -> str | None:
        """Why the group of a unit may not go; None where it may."""
        return self._reasons.get(self.root(unit))

    # -- the walk ------------------------------------------------------------------------------------------------------

    def add(self, call: Call) -> None:
        """Takes up a call of a layer."""
        self.calls.append(call)
        kind = call.node.kind
        ties = call.ties.ties
        for tie in ties:
            own = self.new(tie.size)
            places = [place for place in tie.places if call.has(place)]
            for place in places:
                self._meet(call, place, own, tie)
            if tie.stays:
                self.keep(own, f"{call.name}: {tie.stays}")
            is_made = not any(place.is_input for place in places)
            if is_made and not tie.field and not tie.stays and tie.follows is None:
                self.keep(own, f"{call.name}: {kind} has no field for how many there are")
        known = {(place.of, place.axis) for tie in ties for place in tie.places}
        for number, x in enumerate(call.inputs):
            for axis, units in enumerate(x.axes):
                if (number, axis) not in known:
                    self.keep(units, f"{call.name}: {kind} may mix them")

    def _meet(self, call: Call, place: Place, own: Ids, tie: Tie) -> None:
        """Joins the units of a tie with those that a place has, which it gets where it has none."""
        spread = own[indices(place, tie.size)]
        if isinstance(place.of, str):
            key = (call.path, place.of, place.axis)
            shape = next(each.shape for each in call.node.resolved.weights if each.name == place.of) or ()
            count = call.ties.grouped.get(place.of, 1)
            is_shared = count > 1 and shape[place.axis] * count == tie.size  # of a kernel of groups
            if key not in self.weights:
                self.weights[key] = self.new(tie.size if is_shared else shape[place.axis])
            there = self.weights[key]
        else:
            tensor = call.tensor(place)
            size = place.start + len(spread) if place.is_output else tie.size * place.outer * place.inner
            found = tensor.axes[place.axis]
            if found is None and place.is_input:
                found = self.new(size)
                self.keep(found, f"{tensor.name}: nothing says what they are")
                tensor.axes[place.axis] = found
            elif place.is_output:
                before = found if found is not None else self.new(0)
                found = np.concatenate([before, self.new(max(0, size - len(before)))])
                tensor.axes[place.axis] = found
            assert found is not None
            there = found
        self.join(there[place.start : place.start + len(spread)], spread)

    @property
    def groups(self) -> dict[int, list[WeightAxis]]:
        """The axes of weights in which each group lies."""
        found: dict[int, list[WeightAxis]] = {}
        for key, units in self.weights.items():
            for root in dict.fromkeys(self.roots(units).tolist()):
                found.setdefault(root, []).append(key)
        return found


def units_of(graph: Graph) -> Units:
    """The units of a network.

    Example:
        >>> from regspec.graph.loading import graph_of
        >>> from regspec.graph.units import units_of
        >>> units = units_of(graph_of("examples/mlp.yaml"))
        >>> len({units.root(unit) for unit in units.weights["hidden1", "kernel", 1].tolist()})
        32
    """
    units = Units()
    units.inputs = tuple(_blank(x) for x in graph.inputs)
    for x in units.inputs:
        x.axes[1:] = [None if size is None else units.new(size) for size in _sizes(graph, x)]
        for axis in x.axes:
            units.keep(axis, "an input of the model")
    units.outputs = _walk(graph, units, units.inputs, "", {})
    for x in units.outputs:
        for axis in x.axes:
            units.keep(axis, "an output of the model")
    return units


def _sizes(graph: Graph, x: Tensor) -> Sequence[int | None]:
    return next(each.logical[1:] for each in graph.inputs if each.source == x.name)


def _blank(x: Symbol) -> Tensor:
    return Tensor(x.source, [None] * x.rank)


def _walk(
    graph: Graph, units: Units, inputs: Iterable[Tensor], within: str, counts: dict[str, int]
) -> tuple[Tensor, ...]:
    """Takes up the calls of a graph on tensors, and gives its outputs."""
    known: dict[Symbol, Tensor] = dict(zip(graph.inputs, inputs, strict=True))
    used: set[Tensor] = set()
    loose: list[Tensor] = []
    for node in graph.nodes:
        taken = tuple(known[x] for x in node.inputs)
        used.update(taken)
        first = node.first or node
        if isinstance(node, BlockNode):
            assert isinstance(first, BlockNode)
            given = _walk(node.block, units, taken, f"{within}{first.path}.", counts)
        else:
            path = f"{within}{first.name}"
            resolved = node.resolved
            ties = None if resolved.layer.is_opaque else resolved.layer.ties_to(node.outputs, *resolved.inputs)
            given = tuple(Tensor(f"{within}{node.name}", [None] * x.rank) for x in node.outputs)
            masks = [mask for mask in (*node.masks, node.attention_mask) if mask is not None]
            for mask in masks:
                used.update(_masking(mask, known, units))
            name = f"{within}{node.name}"
            index = counts.get(name, 0)
            counts[name] = index + 1
            units.add(Call(path, name, index, node, ties or Ties(), taken, given, bool(masks)))
            if any(term.is_activity for term in resolved.terms):
                loose.extend(given)
        known.update(zip(node.outputs, given, strict=True))
    outputs = tuple(known[x] for x in graph.outputs)
    for tensor in loose:
        if tensor not in used and tensor not in outputs:
            for axis in tensor.axes:
                units.keep(axis, f"{tensor.name}: nothing takes it but its penalty")
    return outputs


def _masking(mask: Symbol, known: Mapping[Symbol, Tensor], units: Units) -> list[Tensor]:
    """The tensors that masks are, or are made of, whose units stay."""
    found = [known[mask]] if mask in known else []
    for made_of in getattr(mask, "made_of", ()):
        found += [known[made_of]] if made_of in known else _masking(made_of, known, units)
    for tensor in found:
        for axis in tensor.axes:
            units.keep(axis, f"{tensor.name}: a mask is made of it")
    return found
