"""Masks: which steps of a tensor count. They go from layer to layer as the graph is made, as Keras's do at run time.

A layer's plan says what mask its output has, as an expression over its inputs and their masks. Here it becomes a node
of its own, ``tokens_mask = tokens != 0``, once for all layers that read it; a mask that nothing reads is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from regspec.code.shapes import ShapeError, Symbol
from regspec.graph.nodes import MASK, Node


def without_unread(nodes: Iterable[Node], outputs: Iterable[Symbol]) -> tuple[Node, ...]:
    """The nodes without those of masks that nothing reads."""
    used = {id(x) for x in outputs}
    kept = []
    for node in reversed([*nodes]):
        if node.plan.kind != MASK or any(id(x) in used for x in node.outputs):
            used.update(id(x) for x in node.inputs)
            kept.append(node)
    return tuple(reversed(kept))


def outside(mask: Symbol, known: Mapping[int, Node], bound: dict[int, Symbol], name: str) -> tuple[Symbol, list[Node]]:
    """A mask that was made in a block, made once more outside of it, where the block's inputs are those in ``bound``.

    Raises:
        ShapeError: for a mask of a tensor that only the block has.
    """
    if id(mask) in bound:
        return bound[id(mask)], []
    if id(mask) not in known:
        raise ShapeError(
            f"gives a mask of '{mask.source}', which is computed in the block",
            "give the mask as a layer's 'mask', or [] for none, or use the layers without a block",
        )
    node, nodes, inputs = known[id(mask)], list[Node](), []
    for x in node.inputs:
        found, more = outside(x, known, bound, name)
        inputs.append(found)
        nodes.extend(more)
    bound[id(mask)] = replace(mask, source=name)
    return bound[id(mask)], [*nodes, Node(name, node.plan, tuple(inputs), (bound[id(mask)],), {})]
