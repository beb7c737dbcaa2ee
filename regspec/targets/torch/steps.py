"""Steps of a forward: a layer, a block, a mask or a view, on the tensors that it takes.

A tensor between layers may lie in another order of axes than Keras counts them: in a model with ``channels_last``,
behind a convolution, it lies as torch's convolutions want it. Each layer says which order it wants (`Layer.order`); a
permuted view is put before it only where the order at hand is another. So neighbouring permutations never arise, and
a ported CNN has one view at each end and one before each layer that reads axes.

Two ways were weighed for these layouts: every layer brings its own views, and a pass takes out the pairs that cancel;
or, as here, a tensor carries its order and views arise on demand. The second needs no pass, and no rule for what may
cancel.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import CASTS, Call, Definition, Expression, walk
from regspec.code.shapes import Symbol
from regspec.graph.network import Node
from regspec.targets.torch.lowered import Lowered, Place

MASK = "mask"  # the kind of the steps that compute masks
# Names that torch.fx has for a traced module itself. A module with one of them can be neither traced nor exported.
OF_TRACED = frozenset(
    (
        *("code", "graph", "meta", "shape_env"),
        *(
            "add_submodule",
            "delete_all_unused_submodules",
            "delete_submodule",
            "print_readable",
            "recompile",
            "to_folder",
        ),
    )
)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What is computed at a place of the forward: on which tensors, and what the class calls the modules for it."""

    name: str
    lowered: Lowered
    inputs: tuple[Symbol, ...]
    outputs: tuple[Symbol, ...]
    node: Node | None = None  # the node that it computes; None for an adapter, and for a mask
    attributes: Mapping[str, str] = field(default_factory=dict)  # of the class, by the suffixes of the modules

    @property
    def declares(self) -> bool:
        """Whether its modules are its own, and not those of the step that it calls again."""
        return self.node is not None and self.node.first is None

    @property
    def modules(self) -> dict[str, Call | Definition]:
        """The attributes that it declares, with their constructors."""
        if not self.declares:
            return {}
        return {self.attributes[module.suffix]: module.constructor for module in self.lowered.modules}

    def path(self, place: Place) -> str:
        """The path of a parameter or a module in the class."""
        attribute = self.attributes[place.module]
        return f"{attribute}.{place.parameter}" if place.parameter else attribute


def ordered(x: Symbol, order: Order, steps: list[Step]) -> Symbol:
    """``x`` in an order of axes; where it lies otherwise, a step with the permuted view is added to ``steps``."""
    if x.order == order:
        return x
    view = x.permuted(order)
    steps.append(_adapter("permuted", x, view, x.method("permute", *axes.between(x.order, order))))
    return view


def adapted(inputs: Sequence[Symbol], wanted: Sequence[Symbol], steps: list[Step]) -> tuple[Symbol, ...]:
    """Inputs in the types and orders of axes that are wanted; the steps to these are added to ``steps``."""
    xs = []
    for given, like in zip(inputs, wanted, strict=False):
        x = given
        if x.dtype != like.dtype:
            x = replace(x, dtype=like.dtype)
            method = CASTS[like.dtype]
            steps.append(_adapter(method, given, x, given.method(method)))
        xs.append(ordered(x, like.order, steps))
    return tuple(xs)


def _adapter(kind: str, x: Symbol, adapted: Symbol, result: Expression) -> Step:
    return Step(x.source, Lowered(kind, (x,), (adapted,), (result,)), (x,), (adapted,))


# -- masks -------------------------------------------------------------------------------------------------------------


def mask_of_output(lowered: Lowered, name: str, bound: Mapping[Symbol, Symbol], steps: list[Step]) -> Symbol | None:
    """The mask of a layer's output; where it is computed, the step is added to ``steps``.

    ``bound`` has the tensors and masks in place, by those of the lowered layer.
    """
    if lowered.mask is None:
        return None
    if isinstance(lowered.mask, Symbol) and lowered.mask in bound:
        return bound[lowered.mask]
    read = tuple(dict.fromkeys(each for each in walk(lowered.mask) if isinstance(each, Symbol)))
    made = Symbol(lowered.outputs[0].logical[:-1], name, "bool")
    steps.append(Step(name, Lowered(MASK, read, (made,), (lowered.mask,)), tuple(bound[x] for x in read), (made,)))
    return made


def mask_outside(
    mask: Symbol, known: Mapping[Symbol, Step], bound: dict[Symbol, Symbol], name: str, steps: list[Step]
) -> Symbol:
    """A mask of a block, computed again outside of it; ``bound`` has the tensors outside by those in the block.

    ``known`` has the block's steps that compute masks, and the views that these read.
    """
    if mask not in bound:
        step = known[mask]
        inputs = tuple(mask_outside(x, known, bound, name, steps) for x in step.inputs)
        bound[mask] = replace(mask, source=name)
        steps.append(Step(name, step.lowered, inputs, (bound[mask],)))
    return bound[mask]


def without_unread_masks(steps: Iterable[Step], outputs: Iterable[Symbol]) -> tuple[Step, ...]:
    """The steps without those of masks, and of views for them, that nothing reads."""
    used = {*outputs}
    kept = []
    for step in reversed([*steps]):
        if step.node is not None or any(x in used for x in step.outputs):
            used.update(step.inputs)
            kept.append(step)
    return tuple(reversed(kept))


def attribute_of(name: str, suffix: str, taken: Container[str]) -> str:
    """What the class calls a module of a layer or a block: its name with the module's suffix; none in ``taken``."""
    first, *rest = name.split(".")  # of a copy of a block, its place in their container
    attribute = f"{first}_{suffix}" if suffix else f"{first}_" if first in OF_TRACED else first
    while attribute != first and attribute in taken:
        attribute += "_"
    return ".".join((attribute, *rest))
