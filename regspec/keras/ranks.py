"""The ranks of tensors that operations take, of which most files tell nothing, once the graph tells them."""

from __future__ import annotations

from collections.abc import Iterator

from regspec.graph.blocks import Graph
from regspec.keras.masks import levels
from regspec.keras.models import Model
from regspec.keras.operations.operation import mixing
from regspec.keras.operations.rules import MERGES, RANKS
from regspec.text.problems import Problem


def problems(model: Model, graph: Graph) -> Iterator[Problem]:
    """The operations that align tensors of different ranks at their last axes, where a merge adds axes to one.

    A node's inputs are those of its entry, and then the masks that it reads.
    """
    for each, level in levels(model, graph):
        counts = {said["name"]: len(said["inputs"]) for entry in each.entries for said in entry.values()}
        for node in level.nodes:
            is_merge = node.name in each.operations and node.plan.kind in MERGES
            if is_merge and len({x.rank for x in node.inputs[: counts[node.name]]}) > 1:
                yield Problem(f"'{node.name}' can't be ported: {mixing(node.plan.kind, RANKS)}")
