"""A check of the ranks of tensors that operations take: most files do not have these, but the graph does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from regspec.graph.network import BlockNode, Graph
from regspec.keras.configs.kinds import nearest
from regspec.keras.configs.models import Model
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
