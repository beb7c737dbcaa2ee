"""A network as a value: its nodes in the order of execution, each a layer or a block in its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regspec.code.shapes import Symbol
from regspec.graph.masks import elsewhere
from regspec.graph.resolved import Resolved
from regspec.language.regularizers import Regularizer
from regspec.specs.formulas import Formula
from regspec.text.faults import Origin


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An entry of a spec in its place: what it takes, and what it gives."""

    name: str
    inputs: tuple[Symbol, ...]
    outputs: tuple[Symbol, ...]
    first: Node | None = field(default=None, kw_only=True)  # the node whose layer or block it calls again
    origin: Origin | None = field(default=None, kw_only=True, repr=False)

    @property
    def kind(self) -> str:
        """The kind of its layer, or the name of its block."""
        raise NotImplementedError

    @property
    def is_again(self) -> bool:
        """Whether it calls a layer or a block again, and so has no weights of its own."""
        return self.first is not None


@dataclass(frozen=True, slots=True, eq=False)
class LayerNode(Node):
    """A layer in its place."""

    resolved: Resolved
    masks: tuple[Symbol | None, ...]  # which steps of its inputs count: their own masks, or those that are named for it
    attention_mask: Symbol | None = None

    @property
    def kind(self) -> str:
        return type(self.resolved.layer).__name__


@dataclass(frozen=True, slots=True, eq=False)
class BlockNode(Node):
    """A block in its place: a graph in another as one node of it."""

    block: Graph
    path: str = ""  # of its module in torch: its name, or the container and the number of a copy, ``stage.0``

    @property
    def kind(self) -> str:
        return self.block.name


@dataclass(frozen=True, slots=True)
class Slices:
    """What a weight has of units: for each of them, its indices along one of Keras's axes."""

    path: str  # of the layer: stage.0.conv
    weight: str
    axis: int
    indices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Coupled:
    """A penalty of units, each a group of slices of several weights, which vanish together."""

    path: str  # of the first layer that makes them: stage.0.conv
    slot: str  # units; query.units of a part of the layer; units_1 where there are others besides
    regularizer: Regularizer
    slices: tuple[Slices, ...]
    origin: Origin | None = field(default=None, repr=False)  # of the layer that says it, or that a rule selects

    @property
    def name(self) -> str:
        """The name of the term: stage.0.conv.units."""
        return f"{self.path}.{self.slot}"


UnitRule = tuple[object, Regularizer]  # what a rule is known by, and the group lasso that it has for units


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A network, or a block of one: nodes in the order of execution."""

    name: str
    names: frozenset[str]  # of its inputs and nodes
    inputs: tuple[Symbol, ...]
    nodes: tuple[LayerNode | BlockNode, ...]
    outputs: tuple[Symbol, ...]
    output_names: tuple[str, ...] | None  # where the outputs are a mapping
    is_single: bool  # whether it returns one tensor, and not several
    is_root: bool
    reduction: str  # of activity penalties
    dtype: str  # of the layers that have none of their own
    counts_frozen: bool  # whether the penalties of frozen weights count
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of a block: the values of its parameters
    formulas: Mapping[Formula, Any] = field(default_factory=dict)  # what its spec computes from these, and its values
    coupled: tuple[Coupled, ...] = ()  # of a whole network: the penalties of units
    derived: dict[str, Any] = field(default_factory=dict, init=False, repr=False)  # what targets have computed from it

    @property
    def has_penalties(self) -> bool:
        """Whether a layer in it, or in its blocks, has a penalty."""
        return bool(self.coupled) or any(each.terms for each in self.resolved)

    @property
    def has_constraints(self) -> bool:
        """Whether a weight in it, or in its blocks, has a constraint, which is applied after each step."""
        return any(weight.constraint is not None for each in self.resolved for weight in each.weights)

    @property
    def asks_for_units(self) -> bool:
        """Whether a layer in it, or in its blocks, has a penalty of units that vanish together."""
        return any(term.regularizer.coupled is not None for each in self.resolved for term in each.terms)

    @property
    def resolved(self) -> set[Resolved]:
        """What the layers in it and in its blocks are; layers that are alike share one."""
        return {node.resolved for node in self.layers()}

    def penalties(self, node: LayerNode, path: str) -> dict[str, Regularizer]:
        """The regularizers of a layer in this whole network by their slots; what is coupled stands at one layer."""
        own = {each.slot: each.regularizer for term in node.resolved.terms if (each := term.alone) is not None}
        coupled = {each.slot: each.regularizer for each in self.coupled if each.path == path and not node.is_again}
        return {**own, **coupled}

    def layers(self) -> Iterator[LayerNode]:
        """Every layer in it and in its blocks, each once."""
        for node in self.nodes:
            if isinstance(node, LayerNode):
                yield node
            elif not node.is_again:
                yield from node.block.layers()


def layer_in_place(
    name: str,
    resolved: Resolved,
    inputs: Sequence[Symbol],
    masked: Sequence[Symbol],
    *,
    first: LayerNode | None = None,
    origin: Origin | None = None,
) -> LayerNode:
    """The node of a layer, or of a further call of the one that ``first`` has.

    ``masked`` are its inputs with the masks that count.
    """
    if resolved.mask is None:  # as of most
        outputs = [x.given_by(name, None) for x in resolved.outputs]
    else:
        mask = elsewhere(resolved.mask, _bound(resolved, inputs, masked), name)
        count = resolved.layer.masked_outputs
        outputs = [x.given_by(name, mask if index < count else None) for index, x in enumerate(resolved.outputs)]
    return LayerNode(
        name,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        resolved=resolved,
        masks=tuple([x.mask for x in masked]),
        attention_mask=masked[0].attention_mask,
        first=first,
        origin=origin,
    )


def _bound(resolved: Resolved, inputs: Sequence[Symbol], masked: Sequence[Symbol]) -> dict[Symbol, Symbol]:
    """The tensors that a layer takes, and their masks, by those for which it was resolved."""
    bound = dict(zip(resolved.inputs, inputs, strict=True))
    for own, x in zip(resolved.inputs, masked, strict=True):
        for known, given in ((own.mask, x.mask), (own.attention_mask, x.attention_mask)):
            if known is not None and given is not None:
                bound[known] = given
    return bound


def inside(x: Symbol, name: str) -> Symbol:
    """A block's own input, for a tensor that it is called on; its mask is one of the block's own too."""
    mask = None if x.mask is None else Symbol(x.mask.shape, f"{name}_mask", "bool")
    return x.given_by(name, mask)


def block_in_place(
    name: str,
    block: Graph,
    inputs: Sequence[Symbol],
    *,
    path: str = "",
    first: BlockNode | None = None,
    origin: Origin | None = None,
) -> BlockNode:
    """The node of a block, or of a further call of the one that ``first`` has.

    Raises:
        ShapeError: where the mask of an output can't be computed outside of the block.
    """
    bound: dict[Symbol, Symbol] = {}
    for own, x in zip(block.inputs, inputs, strict=True):
        bound[own] = x
        if own.mask is not None and x.mask is not None:
            bound[own.mask] = x.mask
    outputs = tuple(x.given_by(name, None if x.mask is None else elsewhere(x.mask, bound, name)) for x in block.outputs)
    return BlockNode(name, tuple(inputs), outputs, block, path or name, first=first, origin=origin)
