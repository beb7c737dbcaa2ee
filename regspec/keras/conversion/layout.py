"""A ported model with channels last as one with channels first, its weights after a Flatten included.

Two ways were weighed: a permuted view at the inputs, behind which all stays as Keras has it; or, as here, a spec as a
user of torch would have written it. Each tensor carries the order in which its axes are counted now, and a vector the
order of its units where it comes from a flattened image (see `regspec.layers.counting`). A layer whose numbers depend
on the order that it is given gets a Permute before it. Weights that lie along such axes or units are moved alike.

Where a layer reads units by their place, as a recurrent one or the model's output, the Flatten that they come from
gets a Permute and gives them as Keras does; what depends on it is then found anew.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from regspec.code import axes, shapes
from regspec.code.axes import Order
from regspec.code.shapes import Symbol
from regspec.graph.network import BlockNode, Graph, LayerNode
from regspec.keras.dialect import Dialect
from regspec.keras.layers import weights_last
from regspec.keras.models import Model
from regspec.keras.references import names_in
from regspec.keras.weights import WeightPath
from regspec.layers.counting import Counted, Recounted, Units
from regspec.layers.layer import Layer, Weight
from regspec.text.problems import Problem, RegspecError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_ROUNDS = 8  # in which layers are found that must be given what Keras gives them


@dataclass(frozen=True)
class Move:
    """How an array lies in the converted model: its axes in this order, and along each the units of a vector."""

    order: Order
    units: tuple[Units | None, ...]

    def __call__(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        for axis, units in enumerate(self.units):
            if units is not None:
                array = array.take(units.indices(), axis)
        moved: NDArray[np.generic] = array.transpose(self.order)
        return moved


@dataclass(frozen=True)
class Relaid:
    """A model with channels first: where its weights go, and the order of Keras's axes in its inputs and outputs."""

    model: Model
    moves: Mapping[WeightPath, Move]
    inputs: Mapping[str, Order]  # those that lie otherwise than in Keras
    outputs: Mapping[str, Order]

    def moved(self, arrays: Mapping[WeightPath, NDArray[np.generic]]) -> dict[WeightPath, NDArray[np.generic]]:
        """Keras's arrays as those of the converted model."""
        return {path: self.moves[path](array) if path in self.moves else array for path, array in arrays.items()}


def channels_first(model: Model, graph: Graph, dialect: Dialect) -> Relaid:
    """A model with channels last, whose graph this is, as one with channels first.

    Raises:
        RegspecError: naming the layers that can't be converted.
    """
    plain: set[WeightPath] = set()
    for _ in range(MAX_ROUNDS):
        counting = _Counting(plain)
        relaid = counting.root(model, graph)
        if not counting.unfit:
            break
        plain |= counting.unfit.keys()
    else:
        counting = _Counting(_Everything())
        relaid = counting.root(model, graph)
    if counting.unfit:
        what = [
            f"'{'.'.join(path)}' can't be converted to channels first: {why}" for path, why in counting.unfit.items()
        ]
        raise RegspecError([Problem(each, "port the model as it is, with channels last") for each in what])
    for note in counting.notes:
        dialect.note(note)
    return relaid


class _Everything(Container[WeightPath]):
    def __contains__(self, _: object) -> bool:
        return True


@dataclass(frozen=True)
class _Lying:
    """A tensor as it is counted now, and the layers that flattened it."""

    x: Counted
    flattened: frozenset[WeightPath] = frozenset()


@dataclass(frozen=True)
class _First:
    """The first call of a layer or a model inside, which further ones must be like."""

    inputs: tuple[Counted, ...]
    recounted: Recounted
    moves: Mapping[str, Move]
    outputs: tuple[_Lying, ...]
    flattened: frozenset[WeightPath]


@dataclass
class _Scope:
    """A body that is written anew."""

    within: WeightPath
    wanted: Mapping[str, Order]
    names: set[str]
    entries: list[dict[str, Any]] = field(default_factory=list)
    lying: dict[str, _Lying] = field(default_factory=dict)  # by reference
    views: dict[tuple[str, Order], str] = field(default_factory=dict)
    inner: dict[str, Model] = field(default_factory=dict)
    first: dict[str, _First] = field(default_factory=dict)

    def ordered(self, reference: str, order: Order) -> str:
        """The reference to a tensor whose axes are counted in this order; a Permute is added where there is none."""
        lying = self.lying[reference]
        if lying.x.order == order:
            return reference
        if (reference, order) not in self.views:
            name = f"{reference.replace('.', '_')}_permuted"
            while name in self.names:
                name += "_"
            self.names.add(name)
            dims = [*axes.between(lying.x.order, order)[1:]]
            self.entries.append({"Permute": {"name": name, "inputs": [reference], "dims": dims}})
            self.lying[name] = _Lying(lying.x.permuted(order))
            self.views[reference, order] = name
        return self.views[reference, order]


@dataclass
class _Counting:
    """One round: the model written anew, and the layers that this did not fit."""

    plain: Container[WeightPath]  # layers that are given what Keras gives them
    unfit: dict[WeightPath, str] = field(default_factory=dict)  # and why
    moves: dict[WeightPath, Move] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    preferences: dict[Graph, dict[str, Order]] = field(default_factory=dict)

    def root(self, model: Model, graph: Graph) -> Relaid:
        """The whole model."""
        wanted, inputs = self._wanted(model, graph), {}
        for x in graph.inputs:
            order = wanted.get(x.source, axes.channels_first(x.rank) if x.rank > 3 else axes.identity(x.rank))
            inputs[x.source] = _Lying(_counted(x).permuted(order))
        made, outputs = self.body(model, graph, [*inputs.values()], ())
        for lying in outputs:
            if lying.x.units is not None:
                self._report(lying.flattened, "an output of the model gives its units")
        given = {name: lying.x for name, lying in inputs.items() if not lying.x.is_keras}
        names = [*(model.outputs if isinstance(model.outputs, dict) else names_in(model.outputs))]
        gives = {name: lying.x for name, lying in zip(names, outputs, strict=True) if not lying.x.is_keras}
        self.notes += [f"the input '{name}' takes {shapes.text(x.shape)}" for name, x in given.items()]
        self.notes += [f"the output '{name}' gives {shapes.text(x.shape)}" for name, x in gives.items()]
        declared = {name: {**said, "shape": [*inputs[name].x.shape[1:]]} for name, said in model.inputs.items()}
        return Relaid(
            replace(made, inputs=declared),
            self.moves,
            {name: x.order for name, x in given.items()},
            {name: x.order for name, x in gives.items()},
        )

    def body(
        self, model: Model, graph: Graph, inputs: Sequence[_Lying], within: WeightPath
    ) -> tuple[Model, list[_Lying]]:
        """A model, or one inside it, on these inputs; and how its outputs are counted."""
        names = {fields["name"] for entry in model.entries for fields in entry.values()} | model.inputs.keys()
        scope = _Scope(within, self._wanted(model, graph), names, lying=dict(zip(model.inputs, inputs, strict=True)))
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
        made = replace(model, entries=scope.entries, inner=scope.inner)
        return made, [scope.lying[reference] for reference in names_in(model.outputs)]

    # -- entries -------------------------------------------------------------------------------------------------------

    def _layer(self, kind: str, fields: dict[str, Any], node: LayerNode, scope: _Scope) -> None:
        path, layer = (*scope.within, node.name), node.resolved.layer
        given = [scope.lying[reference] for reference in fields["inputs"]]
        wanted = None if path in self.plain else scope.wanted.get(node.name)
        orders = self._orders(layer, [each.x for each in given], path, wanted)
        said, xs = self._viewed(fields["inputs"], orders, scope)
        recounted = self._recounted(node, xs, given, path, wanted)
        scope.entries.append({kind: _rewritten({**fields, "inputs": said}, recounted)})
        moves = {weight.name: move for weight in node.resolved.weights if (move := self._move(weight, xs[0], path))}
        self.moves |= {(*path, name): move for name, move in moves.items()}
        if xs[0].units is not None and moves:
            by = ", ".join(sorted(".".join(each) for each in given[0].flattened))
            self.notes.append(f"the weights of '{'.'.join(path)}' follow channels first, as '{by}' gives them")
        flattened = frozenset().union(*(each.flattened for each in given))
        outputs = self._outputs(node, xs, recounted, flattened or frozenset([path]), scope)
        scope.first[node.name] = _First(xs, recounted, moves, outputs, flattened)

    def _again(self, fields: dict[str, Any], node: LayerNode | BlockNode, scope: _Scope) -> None:
        """A further call of a layer or a model inside, with the fields and the weights of the first."""
        first = scope.first[fields["layer"]]
        path = (*scope.within, fields["layer"])
        given = [scope.lying[reference] for reference in fields["inputs"]]
        orders = [x.order for x in first.inputs]
        if isinstance(node, LayerNode) and [each.x.rank for each in given] != [x.rank for x in first.inputs]:
            orders = self._orders(node.resolved.layer, [each.x for each in given], path, None)
        said, xs = self._viewed(fields["inputs"], orders, scope)
        scope.entries.append({"call": {**fields, "inputs": said}})
        flattened = frozenset().union(*(each.flattened for each in given))
        if isinstance(node, BlockNode):
            if [x.units for x in xs] != [x.units for x in first.inputs]:
                self._report(flattened | first.flattened, f"'{path[-1]}' is called on units in another order")
            self._give(node, first.outputs, scope)
            return
        recounted = self._recounted(node, xs, given, path, first.recounted.order)
        moves = {weight.name: move for weight in node.resolved.weights if (move := self._move(weight, xs[0], path))}
        if moves != first.moves:
            self._report(flattened | first.flattened, f"'{path[-1]}' is called on units in another order")
        if (recounted.fields, recounted.nested) != (first.recounted.fields, first.recounted.nested):
            self._report([path], "it is called on tensors whose axes lie otherwise")
        self._outputs(node, xs, recounted, flattened or frozenset([path]), scope)

    def _block(self, kind: str, fields: dict[str, Any], inner: Model, node: BlockNode, scope: _Scope) -> None:
        wanted = self._wanted(inner, node.block)
        given = [scope.lying[reference] for reference in fields["inputs"]]
        orders = [wanted.get(name, each.x.order) for name, each in zip(inner.inputs, given, strict=True)]
        said, xs = self._viewed(fields["inputs"], orders, scope)
        scope.entries.append({kind: {**fields, "inputs": said}})
        lying = [replace(each, x=x) for each, x in zip(given, xs, strict=True)]
        scope.inner[node.name], outputs = self.body(inner, node.block, lying, (*scope.within, node.name))
        flattened = frozenset().union(*(each.flattened for each in given))
        scope.first[node.name] = _First(xs, Recounted(), {}, tuple(outputs), flattened)
        self._give(node, outputs, scope)

    # -- what a layer takes and gives ----------------------------------------------------------------------------------

    def _orders(self, layer: Layer, xs: Sequence[Counted], path: WeightPath, wanted: Order | None) -> list[Order]:
        """The order in which the axes of each input of a layer are to be counted."""
        orders = [layer.reads(x) for x in xs]
        shared = None
        if path not in self.plain and len({x.rank for x in xs}) == 1:
            shared = next((x.order for x in xs if not x.is_keras), None)
            if wanted is not None and layer.order(_counted(xs[0])) == wanted:  # it computes in the order that follows
                shared = wanted
        return [order or shared or axes.identity(x.rank) for order, x in zip(orders, xs, strict=True)]

    def _viewed(
        self, references: Sequence[str], orders: Sequence[Order], scope: _Scope
    ) -> tuple[list[str], tuple[Counted, ...]]:
        """References to inputs that are counted in these orders, and the tensors."""
        said = [scope.ordered(reference, order) for reference, order in zip(references, orders, strict=True)]
        return said, tuple(scope.lying[reference].x for reference in said)

    def _recounted(
        self, node: LayerNode, xs: Sequence[Counted], given: Sequence[_Lying], path: WeightPath, wanted: Order | None
    ) -> Recounted:
        """What changes in a layer; where it can't be given this, a round with other orders is asked for."""
        layer, weights = node.resolved.layer, node.resolved.weights
        made = layer.recounted(*xs, wanted=wanted)
        is_blind = made is not None and made.units is not None and not all(each.along for each in weights)
        if made is not None and not is_blind:
            return made
        flattened = frozenset().union(*(each.flattened for each in given if each.x.units is not None))
        self._report(flattened or [path], f"'{path[-1]}' reads their units by place")
        return layer.recounted(*(replace(x, units=None) for x in xs), wanted=wanted) or Recounted()

    def _report(self, paths: frozenset[WeightPath] | list[WeightPath], why: str) -> None:
        self.unfit.update(dict.fromkeys(paths, why))

    def _outputs(
        self,
        node: LayerNode,
        xs: Sequence[Counted],
        recounted: Recounted,
        flattened: frozenset[WeightPath],
        scope: _Scope,
    ) -> tuple[_Lying, ...]:
        """How the outputs of a layer are counted."""
        outputs, layer = [], node.resolved.layer
        for each in node.outputs:
            like = axes.identity(each.rank) if xs[0].is_keras else layer.output_order(each.rank, xs[0])
            x = _counted(each).permuted(recounted.order or like)
            units = recounted.units if x.rank == 2 else None
            outputs.append(_Lying(replace(x, units=units), flattened if units is not None else frozenset()))
        self._give(node, outputs, scope)
        return tuple(outputs)

    def _give(self, node: LayerNode | BlockNode, outputs: Sequence[_Lying], scope: _Scope) -> None:
        """Makes the outputs of a node known by the references to them."""
        own = node.block.output_names if isinstance(node, BlockNode) else None
        names = own or [str(index) for index in range(len(outputs))]
        scope.lying[node.name] = outputs[0]
        scope.lying |= {f"{node.name}.{name}": lying for name, lying in zip(names, outputs, strict=True)}

    def _move(self, weight: Weight, x: Counted, path: WeightPath) -> Move | None:
        """How a weight lies where the layer's input is counted like this; None where it lies as in Keras."""
        if not weight.along or weight.shape is None:
            return None
        sizes = zip(weight.along, weight.shape, strict=True)
        units = tuple(x.units if along == x.rank - 1 and size != 1 else None for along, size in sizes)
        order = axes.identity(len(units))
        if None not in weight.along:
            order = tuple(sorted(order, key=lambda axis: x.dimension(weight.along[axis] or 0)))
        penalty = weight.regularizer
        matters = penalty is not None and (penalty.reads_axes or penalty.lower(0, 1) != penalty.lower(1, 0))
        if order != axes.identity(len(units)) and (matters or weight.constraint is not None):
            self._report([path], f"the order of the axes of its {weight.name} matters")
        return Move(order, units) if any(units) or order != axes.identity(len(units)) else None

    def _wanted(self, model: Model, graph: Graph) -> dict[str, Order]:
        """The order in which the axes of each tensor are best counted, where what takes it, or follows, has one."""
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
        order = layer.reads(_counted(x))
        if order is None and not layer.chooses_order and node.outputs[0].rank == x.rank:
            return wanted.get(node.name)
        return order


def _rewritten(fields: Mapping[str, Any], recounted: Recounted) -> dict[str, Any]:
    """The fields of a layer, with those that change."""
    made = {**fields, **recounted.fields}
    for name, inner in recounted.nested.items():
        ((kind, own),) = made[name].items()
        made[name] = {kind: _rewritten(own or {}, inner)}
    said = {name: value for name, value in made.items() if value is not None or name not in recounted.fields}
    return weights_last(said)


def _counted(x: Symbol) -> Counted:
    """A tensor of a graph as Keras counts it."""
    return Counted(x.logical, x.source, x.dtype, (), "channels_last")


def _nodes(graph: Graph) -> dict[str, LayerNode | BlockNode]:
    """The nodes of a graph's entries, by their names."""
    return {node.name: node for node in graph.nodes}
