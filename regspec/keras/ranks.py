"""The ranks of tensors that operations take, of which most files tell nothing, once the graph tells them."""

from __future__ import annotations

from collections.abc import Iterator

from regspec.graph.network import BlockNode, Graph
from regspec.keras.models import Model
from regspec.keras.operations.operation import mixing
from regspec.keras.operations.rules import MERGES, RANKS
from regspec.text.problems import Problem


def problems(model: Model, graph: Graph) -> Iterator[Problem]:
    """The operations that align tensors of different ranks at their last axes, where a merge adds axes to one."""
    for node in graph.nodes:
        if isinstance(node, BlockNode):
            yield from () if node.is_again else problems(model.inner[node.name], node.block)
        elif node.name in model.operations and node.kind in MERGES and len({x.rank for x in node.inputs}) > 1:
            yield Problem(f"'{node.name}' can't be ported: {mixing(node.kind, RANKS)}")
