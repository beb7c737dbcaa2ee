"""What the ranks of tensors tell of layers: most files do not have these, but the graph does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from regspec.graph.network import BlockNode, Graph, LayerNode, Node
from regspec.keras.configs.kinds import nearest
from regspec.keras.configs.models import Fields, Model
from regspec.keras.operations.operation import mixing
from regspec.keras.operations.rules import RANKS
from regspec.layers.layer import Layer
from regspec.layers.merging import Merge
from regspec.text.problems import Problem

# Whether a layer aligns tensors at their batch, where the operation of its name does at their last axes: by families.
ALIGNS_AT_BATCH: Mapping[type[Layer], bool] = {Layer: False, Merge: True}


def problems(model: Model, graph: Graph) -> Iterator[Problem]:
    """The operations that align tensors of different ranks at their last axes, where a merge adds axes to one."""
    for node in graph.nodes:
        if isinstance(node, BlockNode):
            yield from () if node.is_again else problems(model.inner[node.name], node.block)
            continue
        is_of_several = node.name in model.operations and len({x.rank for x in node.inputs}) > 1
        if is_of_several and nearest(ALIGNS_AT_BATCH, type(node.resolved.layer)):
            yield Problem(f"'{node.name}' can't be ported: {mixing(node.kind, RANKS)}")


def without_needless_axes(model: Model, graph: Graph) -> Model:
    """A model whose layers do not say on which axes they work where a spec leaves that out; the same if none did.

    Keras 2 writes the last axis by its number, and attention all of those over which it goes.
    """
    nodes = {node.name: node for node in graph.nodes}
    # an operation may count its axes in its output, and what is called again may have tensors of another rank there
    kept = {*model.operations, *(said["layer"] for kind, said in model.items() if kind == "call")}
    inner = dict(model.inner)
    for name, own in inner.items():
        node = nodes[name]
        if isinstance(node, BlockNode) and name not in kept:
            inner[name] = without_needless_axes(own, node.block)
    entries = [
        {kind: said if said["name"] in kept else _without_axis(kind, said, nodes[said["name"]])}
        for kind, said in model.items()
    ]
    is_same = entries == [*model.entries] and all(own is model.inner[name] for name, own in inner.items())
    return model if is_same else replace(model, entries=entries, inner=inner)


def _without_axis(kind: str, said: Fields, node: Node) -> Fields:
    if not isinstance(node, LayerNode) or node.kind != kind:  # a further call
        return said
    needless = node.resolved.layer.needless(*node.inputs)
    return {name: value for name, value in said.items() if name not in needless}
