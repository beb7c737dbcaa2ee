"""Blocks: a network as a graph of nodes, and a graph in another as one node of it.

A block's own tensors are known within it alone: what it is called on has the name of its input there, and a mask that
comes with it is one more input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from regspec.code.expressions import Definition, Module, Part
from regspec.code.shapes import Symbol
from regspec.graph import masks
from regspec.graph.nodes import Node
from regspec.graph.plans import Plan


@dataclass(frozen=True, slots=True, eq=False)
class Graph(Definition):
    """A network, or a block of one: nodes in the order of execution."""

    name: str
    inputs: tuple[Symbol, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Symbol, ...]
    output_names: tuple[str, ...] | None  # where the outputs are a mapping
    is_single: bool  # whether it returns one tensor, and not several
    is_root: bool
    reduction: str  # of activity penalties
    dtype: str  # of the layers that have none of their own
    counts_frozen: bool  # whether the penalties of frozen weights count
    masked: tuple[int, ...] = ()  # which inputs' masks it takes, after the inputs
    masks: Mapping[int, Node] = field(default_factory=dict)  # what computes them, be they read or not, by their ids


def inside(x: Symbol, name: str) -> Symbol:
    """A block's own input, for a tensor that it is called on; its mask is one of the block's own too."""
    mask = None if x.mask is None else replace(x.mask, source=f"{name}_mask")
    return replace(x, source=name, mask=mask)


def likeness(x: Symbol) -> tuple[object, ...]:
    """What two tensors have in common that one block can be called on."""
    return x.logical, x.dtype, x.mask is None


def described(x: Symbol) -> str:
    """What a tensor is, for a message on what a block can be called on."""
    return x.described if x.mask is None else f"{x.described} and has a mask"


def placed(name: str, graph: Graph, inputs: list[Symbol], called: Node | None = None) -> list[Node]:
    """The node of a block, or of a further call of the one that ``called`` has, after those of its outputs' masks."""
    bound = {}
    for own, x in zip(graph.inputs, inputs, strict=False):
        bound[id(own)] = x
        if own.mask is not None and x.mask is not None:
            bound[id(own.mask)] = x.mask
    placed, outputs = list[Node](), []
    for x in graph.outputs:
        mask, more = (None, []) if x.mask is None else masks.outside(x.mask, graph.masks, bound, name)
        outputs.append(replace(x, source=name, mask=mask))
        placed.extend(more)
    inputs = [*inputs, *(mask for index in graph.masked if (mask := inputs[index].mask) is not None)]
    module = Module(graph)
    whole = module(*inputs)
    structure = graph.output_names or tuple(str(index) for index in range(len(outputs)))
    parts = tuple(Part(whole, structure, (index,)) for index in range(len(outputs)))
    results = (whole,) if graph.is_single else parts
    plan = Plan(graph.name, tuple(inputs), tuple(outputs), results, (module,), output_names=graph.output_names)
    attributes = {"": name} if called is None else called.attributes
    return [*placed, Node(name, plan, plan.inputs, plan.outputs, attributes, declares=called is None)]
