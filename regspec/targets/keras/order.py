"""The order in which Keras has a model's layers, by which its files number their weights.

Keras sorts the layers of a functional model by their depth, which is the longest way to an output, and those of one
depth as a search from the outputs finds them first: ``map_graph`` in keras/src/ops/function.py. It does so again when
it reads a file, whatever order that has. So a file must have this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from regspec.targets.keras.network import Network, Tensor, tensors_in


@dataclass(eq=False)
class _Node:
    """A call of a layer, or an input."""

    layer: str
    before: list[_Node] = field(default_factory=list)


def ordered(network: Network) -> list[str]:
    """The names of a network's inputs and layers, in Keras's order."""
    inputs = {x: _Node(x.name) for x in network.inputs}
    nodes: dict[Tensor, _Node] = dict(inputs)
    for call in network.calls:
        node = _Node(call.layer, [nodes[x] for x in call.tensors])
        nodes |= dict.fromkeys(tensors_in(call.outputs), node)
    found: dict[str, int] = {}  # when the search comes to a layer first
    done = [*_searched([nodes[x] for x in tensors_in(network.outputs)], found)]
    depths: dict[_Node, int] = {}
    of_layers: dict[str, int] = {}
    for node in reversed(done):
        depth = max(depths.get(node, 0), of_layers.get(node.layer, 0))
        depths[node] = of_layers[node.layer] = depth
        for each in node.before:
            depths[each] = max(depth + 1, depths.get(each, 0))
    for node in inputs.values():
        if node.layer not in of_layers:  # nothing uses it
            of_layers[node.layer], found[node.layer] = 0, -1
    return sorted(of_layers, key=lambda layer: (-of_layers[layer], found[layer]))


def _searched(ends: list[_Node], found: dict[str, int]) -> Iterator[_Node]:
    """The nodes that lead to these, each after those before it; ``found`` gets when their layers are come to."""
    begun = set[_Node]()
    for end in ends:
        waiting = [(end, iter((end,)))]  # what is gone through, each with what is left before it
        while waiting:
            node, before = waiting[-1]
            each = next(before, None)
            if each is None:
                waiting.pop()
                if waiting:
                    yield node
            elif each not in begun:
                begun.add(each)
                found.setdefault(each.layer, len(found))
                waiting.append((each, iter(each.before)))
