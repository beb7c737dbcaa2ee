"""One layer in its place: its plan on the tensors that it takes, and the names of its modules.

A tensor between layers may lie in another order of axes than Keras counts them: in a model with ``channels_last``,
behind a convolution, it lies as torch's convolutions want it. Each layer says which order it wants (`Layer.order`); a
permuted view is put before it only where the order at hand is another. So neighbouring permutations never arise, and
a ported CNN has one view at each end and one before each layer that reads axes.

Two ways were weighed for these layouts: every layer brings its own views, and a pass takes out the pairs that cancel;
or, as here, a tensor carries its order and views arise on demand. The second needs no pass, and no rule for what may
cancel.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from regspec.code import axes, shapes
from regspec.code.axes import Order
from regspec.code.expressions import CASTS, Call, Definition, Expression, walk
from regspec.code.shapes import ShapeError, Symbol
from regspec.graph.plans import Place, Plan

MASK = "mask"  # the kind of the plans that compute masks


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A plan in its place: on which tensors it works, and what the class calls its modules."""

    name: str
    plan: Plan
    inputs: tuple[Symbol, ...]
    outputs: tuple[Symbol, ...]
    attributes: Mapping[str, str]  # of the class, by the suffixes of the modules
    declares: bool = True  # whether these attributes are its own, and not those of the node that it calls again

    @property
    def is_adapter(self) -> bool:
        """Whether it is no entry of the spec, and only brings a tensor into the form that the next layer takes."""
        return not self.attributes and self.plan.layer is None

    @property
    def modules(self) -> dict[str, Call | Definition]:
        """The attributes that it declares, with their constructors."""
        if not self.declares:
            return {}
        return {self.attributes[module.suffix]: module.constructor for module in self.plan.modules}

    def path(self, place: Place) -> str:
        """The path of a parameter or a module in the class."""
        attribute = self.attributes[place.module]
        return f"{attribute}.{place.parameter}" if place.parameter else attribute


def placed(plan: Plan, name: str, inputs: Sequence[Symbol], masked: Sequence[Symbol], taken: set[str]) -> list[Node]:
    """A plan in its place, after the nodes that adapt its inputs; ``masked`` are these with the masks that count.

    Its attributes avoid the names in ``taken``, which hold those of all layers, and are added to them.
    """
    attributes = {module.suffix: _attribute(name, module.suffix, taken) for module in plan.modules}
    taken.update(attributes.values())
    nodes, xs, outputs = _adapted(plan, name, inputs, masked)
    return [*nodes, Node(name, plan, xs, outputs, attributes)]


def called_again(node: Node, plan: Plan, name: str, inputs: Sequence[Symbol], masked: Sequence[Symbol]) -> list[Node]:
    """A further call of a node's layer, with the same modules. Raises `ShapeError`."""
    nodes, xs, outputs = _adapted(plan, name, inputs, masked)
    if set(plan.modules) != set(node.plan.modules):
        made_for = " and ".join(shapes.text(x.logical) for x in node.inputs)
        raise ShapeError(
            f"calls '{node.name}', whose modules are made for {made_for}, on {' and '.join(x.described for x in xs)}"
        )
    return [*nodes, Node(name, plan, xs, outputs, node.attributes, declares=False)]


def ordered(x: Symbol, order: Order, nodes: list[Node]) -> Symbol:
    """``x`` in an order of axes; where it lies otherwise, a node with the permuted view is added to ``nodes``."""
    if x.order == order:
        return x
    view = x.permuted(order)
    nodes.append(_adapter("permuted", x, view, x.method("permute", *axes.between(x.order, order))))
    return view


def viewed_like(x: Symbol, other: Symbol) -> Symbol:
    """``x`` in the order of axes of another tensor, if that has as many."""
    return x if x.rank != other.rank else x.permuted(other.order)


def _adapted(
    plan: Plan, name: str, inputs: Sequence[Symbol], masked: Sequence[Symbol]
) -> tuple[list[Node], tuple[Symbol, ...], tuple[Symbol, ...]]:
    """The nodes that bring inputs into the types and the orders of axes of a plan's; what they give; its outputs."""
    nodes: list[Node] = []
    xs = []
    for given, wanted in zip(inputs, plan.inputs, strict=False):
        x = given
        if x.dtype != wanted.dtype:
            x = replace(x, dtype=wanted.dtype)
            method = CASTS[wanted.dtype]
            nodes.append(_adapter(method, given, x, given.method(method)))
        xs.append(ordered(x, wanted.order, nodes))
    found = _masks_of(plan, masked)
    bound = {id(own): x for own, x in zip(plan.inputs, xs, strict=False)}
    mask, more = _mask_of_output(plan, name, {**bound, **found})
    read = (found[id(own)] for own in plan.inputs[len(xs) :])
    return [*nodes, *more], (*xs, *read), _outputs(plan, name, mask)


def _masks_of(plan: Plan, inputs: Sequence[Symbol]) -> dict[int, Symbol]:
    """The masks of a layer's inputs, by the ids of its plan's."""
    found = {}
    for own, x in zip(plan.inputs, inputs, strict=False):
        for known, mask in ((own.mask, x.mask), (own.attention_mask, x.attention_mask)):
            if known is not None and mask is not None:
                found[id(known)] = mask
    return found


def _mask_of_output(plan: Plan, name: str, bound: Mapping[int, Symbol]) -> tuple[Symbol | None, list[Node]]:
    """The mask of a layer's output, and the node that computes it; ``bound`` has tensors by the ids of its plan's."""
    if plan.mask is None:
        return None, []
    if id(plan.mask) in bound:
        return bound[id(plan.mask)], []
    read = tuple({id(each): each for each in walk(plan.mask) if isinstance(each, Symbol)}.values())
    made = Symbol(plan.outputs[0].logical[:-1], name, "bool")
    plan = Plan(MASK, read, (made,), (plan.mask,))
    return made, [Node(name, plan, tuple(bound[id(x)] for x in read), (made,), {})]


def _adapter(kind: str, x: Symbol, adapted: Symbol, result: Expression) -> Node:
    return Node(x.source, Plan(kind, (x,), (adapted,), (result,)), (x,), (adapted,), {})


def _outputs(plan: Plan, name: str, mask: Symbol | None) -> tuple[Symbol, ...]:
    """A plan's outputs as those of a layer of this name."""
    return tuple(
        replace(x, source=name, mask=mask if index < plan.masked_outputs else None, attention_mask=None)
        for index, x in enumerate(plan.outputs)
    )


def _attribute(name: str, suffix: str, taken: Container[str]) -> str:
    attribute = f"{name}_{suffix}" if suffix else name
    while suffix and attribute in taken:
        attribute += "_"
    return attribute
