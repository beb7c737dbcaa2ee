"""A ported model with channels last as one with channels first, its weights after a Flatten included.

Two ways were weighed: a permuted view at the inputs, after which all is as in Keras; or, as here, a spec as a user of
torch would have written it. Each tensor knows the order of its axes, and a vector from a flattened image that of its
units (`conversion.reordered`). A layer that needs another order (`conversion.needed`) gets a Permute before it; the
others change with their inputs (`conversion.changes`), and weights that lie along such axes or units are moved with
them.

Where a layer depends on the order of units, as a recurrent one and the model's output do, a Permute before the Flatten
that they come from restores Keras's order. One round finds such layers, and the next writes the whole model again.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from regspec.code import axes, shapes
from regspec.code.axes import Order
from regspec.code.shapes import Symbol
from regspec.graph.network import BlockNode, Graph, LayerNode
from regspec.keras.arrays.matching import WeightPath
from regspec.keras.configs.models import Model
from regspec.keras.configs.references import names_in
from regspec.keras.conversion.changes import change_of
from regspec.keras.conversion.needed import chooses_order, needed_order, preferred_order
from regspec.keras.conversion.reordered import Change, Reordered
from regspec.keras.conversion.written import FirstCall, Move, Relaid, Scope, Tensor, is_turned
from regspec.keras.reading.layers import weights_last
from regspec.layers.layer import Layer, Weight
from regspec.text.problems import Problem, RegspecError

MAX_ROUNDS = 8  # after which every layer gets its inputs in Keras's order


def channels_first(model: Model, graph: Graph) -> Relaid:
    """A model with channels last, whose graph this is, as one with channels first.

    Raises:
        RegspecError: naming the layers that can't be converted.
    """
    for name, layer in _inner_layers(graph):
        if getattr(layer, "data_format", None) == "channels_first":
            why = f"can't be converted to channels first: '{name}' wraps a layer that has channels first already"
            raise RegspecError(Problem(why, "port the model as it is"))
    plain: set[WeightPath] = set()
    for _ in range(MAX_ROUNDS):
        last = _Round(plain)
        relaid = last.root(model, graph)
        if not last.unfit:
            break
        plain |= last.unfit.keys()
    else:
        last = _Round(_Everything())
        relaid = last.root(model, graph)
    if last.unfit:
        what = [f"'{'.'.join(path)}' can't be converted to channels first: {why}" for path, why in last.unfit.items()]
        raise RegspecError([Problem(each, "port the model as it is, with channels last") for each in what])
    return relaid


def check(relaid: Relaid, graph: Graph, within: WeightPath = ()) -> None:
    """Raises where the converted spec counts the axes of a tensor otherwise than they were written."""
    for node in graph.nodes:
        path = (*within, node.name)
        x = node.outputs[0]
        if path in relaid.orders and x.rank > 2 and relaid.orders[path] != x.spec_order:
            what = f"'{'.'.join(path)}' can't be converted to channels first: what its axes mean can't be said"
            raise RegspecError(Problem(what, "port the model as it is, with channels last"))
        if isinstance(node, BlockNode):
            check(relaid, node.block, path)


def _inner_layers(graph: Graph) -> Iterator[tuple[str, Layer]]:
    """Every layer inside another, with the name of that one's entry."""
    for node in graph.layers():
        found = [inner for _, inner in node.resolved.layer if isinstance(inner, Layer)]
        for layer in found:
            yield node.name, layer
            found += [inner for _, inner in layer if isinstance(inner, Layer)]


class _Everything(Container[WeightPath]):
    def __contains__(self, _: object) -> bool:
        return True


@dataclass
class _Round:
    """One round: writes the model again, and finds the layers for which the new orders are not possible."""

    plain: Container[WeightPath]  # layers that get their inputs in Keras's order
    unfit: dict[WeightPath, str] = field(default_factory=dict)  # and why
    moves: dict[WeightPath, Move] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    orders: dict[WeightPath, Order] = field(default_factory=dict)  # of the axes of first outputs
    preferences: dict[Graph, dict[str, Order]] = field(default_factory=dict)

    def root(self, model: Model, graph: Graph) -> Relaid:
        """The whole model."""
        wanted, inputs = self._wanted(model, graph), {}
        for x in graph.inputs:
            order = wanted.get(x.source, axes.channels_first(x.rank) if x.rank > 3 else axes.identity(x.rank))
            inputs[x.source] = Tensor(Reordered.as_in_keras(x).permuted(order))
        made, outputs = self.body(model, graph, [*inputs.values()], ())
        for tensor in outputs:
            if tensor.x.units is not None:
                self._report(tensor.flattened, "an output of the model gives its units")
        given = {name: tensor.x for name, tensor in inputs.items() if not tensor.x.has_keras_order}
        names = [*(model.outputs if isinstance(model.outputs, dict) else names_in(model.outputs))]
        gives = {name: tensor.x for name, tensor in zip(names, outputs, strict=True) if not tensor.x.has_keras_order}
        self.notes += [f"the input '{name}' takes {shapes.text(x.shape)}" for name, x in given.items()]
        self.notes += [f"the output '{name}' gives {shapes.text(x.shape)}" for name, x in gives.items()]
        declared = {name: {**said, **_declared(inputs[name].x)} for name, said in model.inputs.items()}
        return Relaid(
            replace(made, inputs=declared),
            self.moves,
            inputs={name: x.order for name, x in given.items()},
            outputs={name: x.order for name, x in gives.items()},
            notes=tuple(self.notes),
            orders=self.orders,
        )

    def body(
        self, model: Model, graph: Graph, inputs: Sequence[Tensor], within: WeightPath
    ) -> tuple[Model, list[Tensor]]:
        """A model, or one inside it, on these inputs; and its outputs."""
        names = {fields["name"] for entry in model.entries for fields in entry.values()} | model.inputs.keys()
        scope = Scope(within, self._wanted(model, graph), names, tensors=dict(zip(model.inputs, inputs, strict=True)))
        nodes = _nodes(graph)
        for entry in model.entries:
            ((kind, fields),) = entry.items()
            name = fields["name"]
            node = nodes[name]
            if kind == "call":
                self._again(fields, node, scope)
            elif isinstance(node, BlockNode):
                self._block(kind, fields, model.inner[name], node, scope)
            else:
                self._layer(kind, fields, node, scope)
        made = replace(model, entries=scope.entries, inner=scope.inner, outputs=scope.turned_names(model.outputs))
        return made, [scope.tensors[reference] for reference in names_in(model.outputs)]

    # -- entries -------------------------------------------------------------------------------------------------------

    def _layer(self, kind: str, fields: dict[str, Any], node: LayerNode, scope: Scope) -> None:
        path, layer = (*scope.within, node.name), node.resolved.layer
        given = [scope.tensors[reference] for reference in fields["inputs"]]
        wanted = None if path in self.plain else scope.wanted.get(node.name)
        orders = self._orders(layer, [each.x for each in given], path, wanted)
        said, xs = self._viewed(fields["inputs"], orders, scope)
        change = self._change_of(node, xs, given, path, wanted)
        scope.entries.append({kind: _rewritten({**fields, "inputs": scope.turned(layer, said)}, change)})
        moves = {weight.name: move for weight in node.resolved.weights if (move := self._move(weight, xs[0], path))}
        self.moves |= {(*path, name): move for name, move in moves.items()}
        if xs[0].units is not None and moves:
            by = ", ".join(sorted(".".join(each) for each in given[0].flattened))
            self.notes.append(f"the weights of '{'.'.join(path)}' follow channels first, as '{by}' gives them")
        flattened = frozenset().union(*(each.flattened for each in given))
        outputs = self._outputs(node, xs, change, flattened or frozenset([path]), scope)
        scope.first[node.name] = FirstCall(xs, change, moves, outputs, flattened)

    def _again(self, fields: dict[str, Any], node: LayerNode | BlockNode, scope: Scope) -> None:
        """A further call of a layer or a model inside, with the fields and the weights of the first."""
        first = scope.first[fields["layer"]]
        path = (*scope.within, fields["layer"])
        given = [scope.tensors[reference] for reference in fields["inputs"]]
        orders = [x.order for x in first.inputs]
        if isinstance(node, LayerNode) and [each.x.rank for each in given] != [x.rank for x in first.inputs]:
            orders = self._orders(node.resolved.layer, [each.x for each in given], path, None)
        said, xs = self._viewed(fields["inputs"], orders, scope)
        layer = node.resolved.layer if isinstance(node, LayerNode) else None
        scope.entries.append({"call": {**fields, "inputs": said if layer is None else scope.turned(layer, said)}})
        flattened = frozenset().union(*(each.flattened for each in given))
        if isinstance(node, BlockNode):
            if [x.units for x in xs] != [x.units for x in first.inputs]:
                self._report(flattened | first.flattened, f"'{path[-1]}' is called on units in another order")
            self._give(node, first.outputs, scope)
            return
        change = self._change_of(node, xs, given, path, first.change.order)
        moves = {weight.name: move for weight in node.resolved.weights if (move := self._move(weight, xs[0], path))}
        if moves != first.moves:
            self._report(flattened | first.flattened, f"'{path[-1]}' is called on units in another order")
        if (change.fields, change.nested) != (first.change.fields, first.change.nested):
            self._report([path], "it is called on tensors whose axes lie otherwise")
        self._outputs(node, xs, change, flattened or frozenset([path]), scope)

    def _block(self, kind: str, fields: dict[str, Any], inner: Model, node: BlockNode, scope: Scope) -> None:
        wanted = self._wanted(inner, node.block)
        given = [scope.tensors[reference] for reference in fields["inputs"]]
        orders = [wanted.get(name, each.x.order) for name, each in zip(inner.inputs, given, strict=True)]
        said, xs = self._viewed(fields["inputs"], orders, scope)
        scope.entries.append({kind: {**fields, "inputs": said}})
        inside = [replace(each, x=x) for each, x in zip(given, xs, strict=True)]
        scope.inner[node.name], outputs = self.body(inner, node.block, inside, (*scope.within, node.name))
        flattened = frozenset().union(*(each.flattened for each in given))
        scope.first[node.name] = FirstCall(xs, Change(), {}, tuple(outputs), flattened)
        self._give(node, outputs, scope)

    # -- what a layer takes and gives ----------------------------------------------------------------------------------

    def _orders(self, layer: Layer, xs: Sequence[Reordered], path: WeightPath, wanted: Order | None) -> list[Order]:
        """The order of axes that each input of a layer shall have."""
        orders = [needed_order(layer, x) for x in xs]
        shared = None
        if path not in self.plain and len({x.rank for x in xs}) == 1:
            shared = next((x.order for x in xs if not x.has_keras_order), None)
            own = layer.order(Reordered.as_in_keras(xs[0])) if wanted is not None else None
            if own is not None and own == wanted:  # it computes in the order that its output shall have
                shared = wanted
        return [order or shared or axes.identity(x.rank) for order, x in zip(orders, xs, strict=True)]

    def _viewed(
        self, references: Sequence[str], orders: Sequence[Order], scope: Scope
    ) -> tuple[list[str], tuple[Reordered, ...]]:
        """References to inputs with their axes in these orders, and the tensors."""
        said = [scope.ordered(reference, order) for reference, order in zip(references, orders, strict=True)]
        return said, tuple(scope.tensors[reference].x for reference in said)

    def _change_of(
        self, node: LayerNode, xs: Sequence[Reordered], given: Sequence[Tensor], path: WeightPath, wanted: Order | None
    ) -> Change:
        """The changes to a layer; where it can't take such inputs, that is reported, and another round follows."""
        layer, weights = node.resolved.layer, node.resolved.weights
        made = change_of(layer, *xs, wanted=wanted)
        has_unknown_axes = made is not None and made.units is not None and not all(each.along for each in weights)
        if made is not None and not has_unknown_axes:
            return made
        flattened = frozenset().union(*(each.flattened for each in given if each.x.units is not None))
        self._report(flattened or [path], f"'{path[-1]}' reads their units by place")
        return change_of(layer, *(replace(x, units=None) for x in xs), wanted=wanted) or Change()

    def _report(self, paths: frozenset[WeightPath] | list[WeightPath], why: str) -> None:
        self.unfit.update(dict.fromkeys(paths, why))

    def _outputs(
        self,
        node: LayerNode,
        xs: Sequence[Reordered],
        change: Change,
        flattened: frozenset[WeightPath],
        scope: Scope,
    ) -> tuple[Tensor, ...]:
        """The outputs of a layer."""
        outputs, layer, is_open = [], node.resolved.layer, False
        for each in node.outputs:
            like = change.order or layer.output_spec_order(each.rank, *xs)
            is_open |= like is None
            x = Reordered.as_in_keras(each).permuted(like or axes.identity(each.rank))
            units = change.units if x.rank == 2 else None
            outputs.append(Tensor(replace(x, units=units), flattened if units is not None else frozenset()))
        self._give(node, outputs, scope)
        if is_turned(layer) or (is_open and not layer.says_axes):
            scope.tell(node.name, outputs)
            self.orders.pop((*scope.within, node.name), None)
        return tuple(outputs)

    def _give(self, node: LayerNode | BlockNode, outputs: Sequence[Tensor], scope: Scope) -> None:
        """Makes the outputs of a node known by the references to them."""
        own = node.block.output_names if isinstance(node, BlockNode) else None
        names = own or [str(index) for index in range(len(outputs))]
        scope.tensors[node.name] = outputs[0]
        path = (*scope.within, node.name)
        self.orders[path] = outputs[0].x.order
        scope.tensors |= {f"{node.name}.{name}": tensor for name, tensor in zip(names, outputs, strict=True)}

    def _move(self, weight: Weight, x: Reordered, path: WeightPath) -> Move | None:
        """How a weight is permuted for such an input of its layer; None where it stays as in Keras."""
        if not weight.along or weight.shape is None:
            return None
        sizes = zip(weight.along, weight.shape, strict=True)
        units = tuple(x.units if along == x.rank - 1 and size != 1 else None for along, size in sizes)
        return Move(units) if any(units) else None

    def _wanted(self, model: Model, graph: Graph) -> dict[str, Order]:
        """The preferred order of each tensor, where a layer that takes it, directly or further on, needs one."""
        if graph in self.preferences:
            return self.preferences[graph]
        wanted: dict[str, Order] = {}
        nodes = _nodes(graph)
        for entry in reversed(model.entries):
            ((kind, fields),) = entry.items()
            node = nodes[fields["name"]]
            called = fields["layer"] if kind == "call" else node.name
            for index, (reference, x) in enumerate(zip(fields["inputs"], node.inputs, strict=False)):
                order = self._preferred(model, node, called, index, x, wanted)
                if order is not None and wanted.get(reference, axes.identity(x.rank)) == axes.identity(x.rank):
                    wanted[reference] = order
        self.preferences[graph] = wanted
        return wanted

    def _preferred(
        self, model: Model, node: LayerNode | BlockNode, name: str, index: int, x: Symbol, wanted: Mapping[str, Order]
    ) -> Order | None:
        """The order in which a node best takes an input."""
        if isinstance(node, BlockNode):
            inner = model.inner[name]
            return self._wanted(inner, node.block).get([*inner.inputs][index])
        layer = node.resolved.layer
        order = preferred_order(layer, Reordered.as_in_keras(x))
        if order is None and not chooses_order(layer) and node.outputs[0].rank == x.rank:
            return wanted.get(node.name)
        return order


def _declared(x: Reordered) -> dict[str, Any]:
    """The shape of an input, and what its axes mean where a spec would count them otherwise."""
    is_usual = x.rank < 5 and x.order == Layer.usual_spec_order(x.rank)
    return {"shape": [*x.shape[1:]], **({} if is_usual else {"axes": x.meanings})}


def _rewritten(fields: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The fields of a layer, with those that change."""
    made = {**fields, **change.fields}
    for name, inner in change.nested.items():
        ((kind, own),) = made[name].items()
        made[name] = {kind: _rewritten(own or {}, inner)}
    said = {name: value for name, value in made.items() if value is not None or name not in change.fields}
    return weights_last(said)


def _nodes(graph: Graph) -> dict[str, LayerNode | BlockNode]:
    """The nodes of a graph's entries, by their names."""
    return {node.name: node for node in graph.nodes}
