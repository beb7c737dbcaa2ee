"""One layer in its place: its shapes resolved, its modules named, its terms bound.

A tensor between layers may lie in another order of axes than Keras counts them: in a model with ``channels_last``,
behind a convolution, it lies as torch's convolutions want it. Each layer says which order it wants (`Layer.order`); a
permuted view is put before it only where the order at hand is another. So neighbouring permutations never arise, and
a ported CNN has one view at each end and one before each layer that reads axes.

Two ways were weighed for these layouts: every layer brings its own views, and a pass takes out the pairs that cancel;
or, as here, a tensor carries its order and views arise on demand. The second needs no pass, and no rule for what may
cancel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from regspec import axes, shapes
from regspec.axes import Order
from regspec.calls import Apply, Call, Definition, Expression, Module, call, walk
from regspec.layers import Layer
from regspec.layers.layer import Weight
from regspec.shapes import ShapeError, Tensor
from regspec.spec.initializers import Drawn
from regspec.spec.regularizers import Regularizer

Rules = Callable[[str], Regularizer | None]  # what a spec's rules say of a slot


@dataclass(frozen=True, slots=True)
class Term:
    """A regularizer bound to a slot: of a weight, by its parameters' paths, or of an output, by its module's path."""

    name: str
    regularizer: Regularizer
    constructor: Call
    parameters: tuple[str, ...] = ()
    output: str = ""


@dataclass(frozen=True, slots=True)
class Constrained:
    """A constraint bound to a weight."""

    name: str
    constraint: Call
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fill:
    """How a parameter starts: the call that fills it, or some rows of it."""

    parameter: str
    call: Call
    rows: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A layer in its place: what it computes, from what, with which modules and terms."""

    name: str
    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    results: tuple[Expression, ...]  # one for each output
    layer: Layer | None = None
    activity: Regularizer | None = None
    attributes: Mapping[Module, str] = field(default_factory=dict)  # the class's attribute for each module it applies
    declares: bool = True  # whether these attributes are its own, and not those of the layer that it calls again
    weights: tuple[Weight, ...] = ()
    fills: tuple[Fill, ...] = ()
    terms: tuple[Term, ...] = ()
    constraints: tuple[Constrained, ...] = ()
    frozen: tuple[str, ...] = ()  # modules and parameters that are not trained
    output_names: tuple[str, ...] | None = None  # of a block whose outputs are a mapping

    @property
    def is_adapter(self) -> bool:
        """Whether it is no entry of the spec, and only brings a tensor into the form that the next layer takes."""
        return self.layer is None and not self.attributes

    @property
    def modules(self) -> dict[str, Call | Definition]:
        """The attributes that it declares, with their constructors."""
        return {name: module.constructor for module, name in self.attributes.items()} if self.declares else {}


def ordered(x: Tensor, order: Order, nodes: list[Node]) -> Tensor:
    """``x`` in an order of axes; where it lies otherwise, a node with the permuted view is added to ``nodes``."""
    if x.order == order:
        return x
    view = x.permuted(order)
    nodes.append(Node(x.source, "permuted", (x,), (view,), (x.method("permute", *axes.between(x.order, order)),)))
    return view


def floating(x: Tensor, nodes: list[Node]) -> Tensor:
    """``x`` as floating-point numbers; where it holds whole numbers, a node that converts it is added to ``nodes``."""
    if "float" in x.dtype:
        return x
    converted = replace(x, dtype="float32")
    nodes.append(Node(x.source, "float", (x,), (converted,), (x.method("float"),)))
    return converted


def place(layer: Layer, name: str, inputs: Sequence[Tensor], rules: Rules, taken: Container[str]) -> list[Node]:
    """The node of a layer on its inputs, after the views that it needs; attribute names in ``taken`` are avoided.

    What the layer says of a slot wins over the rules. Raises `ShapeError`.
    """
    activity = layer.activity if layer.says_activity else rules("activity")
    nodes, xs = _wanted(layer, inputs)
    outputs, results = _computed(layer, name, xs, activity)
    attributes = {module: _attribute(name, module.suffix, taken) for module in _modules(results)}
    places = {module.suffix: attribute for module, attribute in attributes.items()}
    weights = tuple(
        weight if weight.explicit else replace(weight, regularizer=rules(weight.slot)) for weight in layer.weights(*xs)
    )
    absent = tuple(_absent(parameter, places) for parameter in layer.absent())
    fills = [Fill(path, call("nn.init.zeros_")) for path in absent]
    terms, constraints = [], []
    for weight in weights:
        paths = tuple(f"{places[weight.module]}.{parameter}" for parameter in weight.parameters)
        fills.extend(_fills(weight, paths))
        if weight.regularizer is not None:
            weight.regularizer.check(weight.slot)
            constructor = weight.regularizer.lower(weight.pattern)
            terms.append(Term(f"{name}.{weight.name}", weight.regularizer, constructor, paths))
        if weight.constraint is not None:
            constraints.append(Constrained(f"{name}.{weight.name}", weight.constraint.lower(weight.pattern), paths))
    if activity is not None:
        listened = [result.module for result in results if isinstance(result, Apply)]
        terms.append(Term(f"{name}.activity", activity, activity.lower(None), output=attributes[listened[0]]))
    for suffix, regularizer in layer.inner_activities.items():
        inner = f"{name}.{suffix.replace('_', '.')}"
        terms.append(Term(inner, regularizer, regularizer.lower(None), output=places[suffix]))
    frozen = () if layer.is_trainable else tuple(dict.fromkeys(places[weight.module] for weight in weights))
    node = Node(
        name,
        type(layer).__name__,
        xs,
        outputs,
        results,
        layer,
        activity,
        attributes,
        weights=weights,
        fills=tuple(fills),
        terms=tuple(terms),
        constraints=tuple(constraints),
        frozen=frozen or absent,
    )
    return [*nodes, node]


def call_again(node: Node, layer: Layer, name: str, inputs: Sequence[Tensor]) -> list[Node]:
    """The node of a further call of a node's layer, with the same modules. Raises `ShapeError`."""
    nodes, xs = _wanted(layer, inputs)
    outputs, results = _computed(layer, name, xs, node.activity)
    if set(_modules(results)) != set(node.attributes):
        made_for = " and ".join(shapes.text(x.logical) for x in node.inputs)
        raise ShapeError(
            f"calls '{node.name}', whose modules are made for {made_for}, on {' and '.join(x.described for x in xs)}"
        )
    return [*nodes, Node(name, node.kind, xs, outputs, results, layer, node.activity, node.attributes, declares=False)]


def _wanted(layer: Layer, inputs: Sequence[Tensor]) -> tuple[list[Node], tuple[Tensor, ...]]:
    """The inputs in the type and the order of axes that the layer wants, and the nodes for it."""
    layer.checked(*inputs)
    nodes: list[Node] = []
    if not layer.takes_integers:
        inputs = [floating(x, nodes) for x in inputs]
    orders = [layer.order(x) for x in inputs]
    if None in orders:  # any order that the inputs share; of different ranks, only Keras's own is shared
        shared = inputs[0].order if len({x.rank for x in inputs}) == 1 else None
        orders = [shared or axes.identity(x.rank) for x in inputs]
    return nodes, tuple(ordered(x, order, nodes) for x, order in zip(inputs, orders, strict=True) if order is not None)


def _computed(
    layer: Layer, name: str, xs: tuple[Tensor, ...], activity: Regularizer | None
) -> tuple[tuple[Tensor, ...], tuple[Expression, ...]]:
    """A layer's outputs and the expressions that compute them; with an activity term, the last step is a module."""
    shape, result = layer.output_shape(*xs), layer.lower(*xs)
    results = tuple(result) if isinstance(result, list) else (result,)
    dtype = layer.output_dtype(*xs)
    outputs = tuple(
        Tensor(each, name, dtype, xs[0].order if len(each) == xs[0].rank else (), xs[0].data_format)
        for each in (shape if isinstance(shape, list) else [shape])
    )
    if activity is None:
        return outputs, results
    if activity.reads_axes:
        results = tuple(
            result if x.order == axes.identity(x.rank) else result.method("permute", *axes.inverse(x.order))
            for x, result in zip(outputs, results, strict=True)
        )
        outputs = tuple(x.permuted(axes.identity(x.rank)) for x in outputs)
    if len(results) == 1 and _can_be_listened_to(results[0]):
        return outputs, results
    listener = Module(call("nn.Identity"), "activity")
    return outputs, tuple(listener(result) for result in results)


def _can_be_listened_to(result: Expression) -> bool:
    """Whether the last step is a module that is applied only there."""
    if not isinstance(result, Apply):
        return False
    return Counter(each.module for each in walk(result) if isinstance(each, Apply))[result.module] == 1


def _modules(results: tuple[Expression, ...]) -> list[Module]:
    """The modules that expressions apply, in the order of execution."""
    return list(dict.fromkeys(each.module for result in results for each in walk(result) if isinstance(each, Apply)))


def _attribute(name: str, suffix: str, taken: Container[str]) -> str:
    attribute = f"{name}_{suffix}" if suffix else name
    while suffix and attribute in taken:
        attribute += "_"
    return attribute


def _absent(parameter: str, places: Mapping[str, str]) -> str:
    """The path of a parameter that a layer names by ``suffix.name``, or by its name alone."""
    suffix, _, name = parameter.rpartition(".")
    return f"{places[suffix]}.{name}"


def _fills(weight: Weight, paths: tuple[str, ...]) -> Iterator[Fill]:
    """The calls that fill a weight's parameters, but for what their constructor has done."""
    if weight.initializer is None or weight.shape is None:
        return
    if weight.initializer != weight.constructed:
        fill = weight.initializer.lower(Drawn(weight.shape, weight.pattern, weight.fans))
        yield from (Fill(path, fill) for path in paths)
    if weight.ones is not None:
        yield from (Fill(path, call("nn.init.ones_"), weight.ones) for path in paths)
