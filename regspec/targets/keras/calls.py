"""A graph as the calls of Keras's layers, with what Keras has no counterpart of refused, or left out and listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.shapes import ShapeError, States, Symbol
from regspec.graph.loading import in_order
from regspec.graph.network import BlockNode, Graph, LayerNode, Node
from regspec.graph.resolved import Term
from regspec.language.regularizers import Regularizer
from regspec.layers import Layer
from regspec.layers.families import Activated
from regspec.layers.layer import Weight
from regspec.layers.operations.operands import Array, dtype_of
from regspec.layers.reshaping import OF_AXES
from regspec.targets.keras.arguments import Arguments
from regspec.targets.keras.masks import Masks
from regspec.targets.keras.network import Call, Key, Network, Numbers, Object, Operation, Stored, Tensor
from regspec.text.problems import Problem, Problems, RegspecError


def network_of(graph: Graph, *, for_file: bool = False, lossy: bool = False) -> Network:
    """A graph in Keras.

    Args:
        graph: the network.
        for_file: whether a file can keep it, and not only code.
        lossy: whether penalties, and what else changes no output, are left out and listed where Keras has none such.

    Raises:
        RegspecError: with everything that Keras has no counterpart of.
    """
    making = _Making(for_file, lossy)
    network = making.network(graph, graph.name)
    if graph.counts_frozen:
        making.lose(Problem("frozen_penalties: counted, which Keras 3 does not do"))
    for each in graph.coupled:
        what = f"{each.name} has the regularizer {each.regularizer}, which Keras does not have"
        making.lose(Problem(what) if each.origin is None else each.origin.problem(what, key=True))
    terms = [term for node in graph.layers() for term in node.resolved.terms]
    if graph.reduction != "mean" and any(each.is_activity and each.regularizer.reduction is None for each in terms):
        making.lose(Problem(f"activity_reduction: {graph.reduction}, where Keras divides by the batch size"))
    if making.problems:
        raise RegspecError(in_order(making.problems))
    making.left_out.sort(key=lambda each: (each.line or 0, each.column or 0))
    return Network(**{**vars(network), "left_out": tuple(dict.fromkeys(each.what for each in making.left_out))})


@dataclass
class _Making:
    """What goes on while networks are made, one in another."""

    for_file: bool
    lossy: bool
    problems: Problems = field(default_factory=Problems)
    left_out: list[Problem] = field(default_factory=list)

    def lose(self, problem: Problem) -> None:
        """Notes what only training would miss: a problem, unless such things may be left out."""
        (self.left_out if self.lossy else self.problems).append(problem)

    def network(self, graph: Graph, called: str) -> Network:
        """A graph as a model of this name."""
        return _Body(graph, self, Arguments(self.for_file)).network(called)


@dataclass
class _Body:
    """One graph while its calls are made."""

    graph: Graph
    making: _Making
    arguments: Arguments
    tensors: dict[Symbol, Tensor] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)  # names of layers
    masks: Masks = field(init=False)
    calls: list[Call] = field(default_factory=list)

    def network(self, called: str) -> Network:
        """The whole."""
        graph = self.graph
        self.masks = Masks(self.tensors, self._called)
        self.taken.update(graph.names)
        for x in graph.inputs:
            self.tensors[x] = Tensor(x.source, x.spec_shape, x.dtype)
        kept = _leading_to_outputs(graph)
        for node in graph.nodes:
            try:
                if node in kept:
                    self._node(node)
                elif _is_penalized(node):
                    raise ShapeError("adds a penalty and leads to no output: Keras's functional models leave it out")
            except ShapeError as error:
                self.making.problems.append(_problem(node, error.what, error.hint))
                self.tensors |= {x: Tensor(node.name, x.spec_shape, x.dtype) for x in node.outputs}
        inputs = tuple(self.tensors[x] for x in graph.inputs)
        outputs: Any = [self.tensors[x] for x in graph.outputs]
        if graph.output_names is not None:
            outputs = dict(zip(graph.output_names, outputs, strict=True))
        elif graph.is_single:
            (outputs,) = outputs
        return Network(graph.name, called, inputs, tuple(self.calls), outputs, graph.is_root)

    def _node(self, node: LayerNode | BlockNode) -> None:
        """The calls of a node: its own, and those that bring tensors in the order of axes that it has."""
        if isinstance(node, BlockNode):
            self._block(node)
            return
        layer, function = self._apart(node)
        made = self._layer(node, layer) if node.first is None else None
        self._check_sizes(node)
        like = self._counted_like(node)
        arguments, keywords = self._called_on(node, layer.literal_orders(*like))
        orders = [layer.literal_output_order(x, *like) for x in node.outputs]
        own = [
            Tensor(_name_of_output(node, index), axes.permute(x.logical, order), x.dtype)
            for index, (x, order) in enumerate(zip(node.outputs, orders, strict=True))
        ]
        stored = tuple(_stored(node, like)) if made is not None else ()
        numbers = layer.keras_numbers if any(each.weight.is_loaded for each in stored) else {}
        name = (node.first or node).name
        self.calls.append(Call(name, made, arguments, keywords, _as_given(node, own), stored, numbers))
        if function is not None:
            own[0] = self._called(f"{node.name}_activation", function, (own[0],), own[0].dtype)
        self.masks.add(node)
        for x, tensor, order in zip(node.outputs, own, orders, strict=True):
            self.tensors[x] = self._permuted(tensor, x, order, x.spec_order, f"{tensor.name}_as_counted", tensor.name)

    def _block(self, node: BlockNode) -> None:
        """The call of a block, which takes and gives tensors as the spec counts their axes."""
        made = self.making.network(node.block, node.name) if node.first is None else None
        own = [Tensor(_name_of_output(node, index), x.spec_shape, x.dtype) for index, x in enumerate(node.outputs)]
        self.tensors |= dict(zip(node.outputs, own, strict=True))
        names = node.block.output_names
        outputs: Any = own[0] if node.block.is_single else own
        if names is not None:
            outputs = dict(zip(names, own, strict=True))
        given = _one_or_list([self.tensors[x] for x in node.inputs])
        told = self._told([x.mask for x in node.inputs])
        self.calls.append(Call((node.first or node).name, made, (given,), told, outputs))

    # -- layers -------------------------------------------------------------------------------------------------------

    def _check_sizes(self, node: LayerNode) -> None:
        """Raises `ShapeError` where Keras would make what follows for other sizes than a function gives."""
        layer = node.resolved.layer
        alone = layer.function_alone(*node.resolved.inputs)
        function = layer.activation if isinstance(layer, Activated) else alone
        is_changed = function is not None and function.output_shape((None, 2), 1) != (None, 2)
        if is_changed and any(x in node.outputs for each in self.graph.nodes for x in each.inputs):
            what = f"has the activation {function}, of whose output Keras believes that it has the input's sizes"
            raise ShapeError(what, "two layers with half of the units, multiplied, are the same")

    def _apart(self, node: LayerNode) -> tuple[Layer, Operation | None]:
        """A layer as Keras has it, and the function after it that no field of it can be. Raises `ShapeError`."""
        layer = node.resolved.layer
        if not isinstance(layer, Activated):
            return layer, None
        found = self.arguments.kept_apart(layer.keras_fields(*node.resolved.inputs).get("activation", layer.activation))
        if found is None or node.resolved.activity is not None:
            return layer, None
        return layer.model_copy(update={"activation": None}), found

    def _layer(self, node: LayerNode, layer: Layer) -> Object | Operation:
        """The constructor of a layer, with the regularizers that rules give it, its type and its name."""
        if (alone := self.arguments.kept_apart(layer.function_alone(*node.resolved.inputs))) is not None:
            if node.resolved.activity is not None:
                self.making.lose(_problem(node, "has a penalty on its output, and is an operation in a file of Keras"))
            return alone
        made = self._operation(node) if layer.operated_by is not None else self._object(node, layer)
        for what in self.arguments.lost:
            self.making.lose(_problem(node, what))
        self.arguments.lost.clear()
        return made

    def _operation(self, node: LayerNode) -> Operation:
        return self.arguments.operation(node.resolved.layer, node.resolved.inputs, node.resolved.activity)

    def _object(self, node: LayerNode, layer: Layer) -> Object:
        if isinstance(layer.trainable, tuple):
            self.making.lose(_problem(node, "is trained in part, which Keras's layers can't be"))
        if layer.trainable is False and not layer.is_frozen_in_keras:
            self.making.lose(_problem(node, f"is frozen, and Keras trains what {node.kind} makes itself"))
        fields = self._by_rules(node)
        dtype = layer.precision or self.graph.dtype
        if dtype != "float32":
            fields["dtype"] = dtype
        return self.arguments.layer(layer, {**fields, "name": node.name}, node.resolved.inputs)

    def _by_rules(self, node: LayerNode) -> dict[str, Any]:
        """The regularizers of a layer's slots that it does not say itself."""
        layer, found = node.resolved.layer, dict[str, Any]()
        weights = {weight.name: weight for weight in node.resolved.weights}
        terms = [term.alone for term in node.resolved.terms if term.alone is not None]
        now = {term.weight: term.regularizer for term in terms}
        for term in terms:
            weight = weights.get(term.weight or "")
            slot, own = _activity(term, node) if weight is None else (weight.slot, weight.alone)
            if term.regularizer == own:
                continue
            others = [now.get(each.name) for each in weights.values() if weight is not None and each.slot == slot]
            if not hasattr(layer, f"{slot}_regularizer") or any(each != term.regularizer for each in others):
                what = f"has a penalty on {term.slot} by a rule, which Keras's {node.kind} does not take"
                self.making.lose(_problem(node, what))
                continue
            found[f"{slot}_regularizer"] = term.regularizer
        return found

    # -- calls --------------------------------------------------------------------------------------------------------

    def _called_on(self, node: LayerNode, orders: Sequence[Order]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call: tensors in these orders of axes, masks, and what of a layer belongs to a call."""
        tensors = [
            self._permuted(self.tensors[x], x, x.spec_order, order, f"{x.source}_for_{node.name}")
            for x, order in zip(node.inputs, orders, strict=True)
        ]
        layer = node.resolved.layer
        if layer.operated_by is not None:
            given, named = layer.keras_call(*tensors)
            return tuple(map(_operand, given)), {name: _operand(each) for name, each in named.items()}
        said = {name: getattr(layer, name) for name in sorted(layer.call_fields)}
        keywords = {**self._masks(node), **{name: value for name, value in said.items() if value}}
        if layer.takes_inputs_apart:
            return tuple(tensors), keywords
        if layer.state_structure and len(tensors) > 1:
            states = [*_in_lists(layer.state_structure, iter(tensors[1:]))]
            return (tensors[0],), {"initial_state": states, **keywords}
        return (_one_or_list(tensors),), keywords

    def _counted_like(self, node: LayerNode) -> Sequence[Symbol]:
        """The inputs by which Keras's layer has its fields: those of the first call, where it makes a difference.

        Raises `ShapeError` where the layer is another for Keras.
        """
        first = node.first
        if not isinstance(first, LayerNode):
            return node.inputs
        if first.resolved.layer.operated_by is not None:
            return node.inputs
        arguments = Arguments()
        made, again = (arguments.layer(each.resolved.layer, {}, each.resolved.inputs) for each in (first, node))
        if made == again:
            return node.inputs
        if first.resolved.layer != node.resolved.layer or [x.rank for x in first.inputs] != [
            x.rank for x in node.inputs
        ]:
            what = f"calls '{first.name}' where axes are counted otherwise, for which Keras needs another layer"
            raise ShapeError(what, "say data_format: channels_last")
        return first.inputs

    def _permuted(self, tensor: Tensor, x: Symbol, have: Order, want: Order, name: str, as_: str = "") -> Tensor:
        """A tensor of ``x`` in another order of axes. Raises `ShapeError` where it has a mask."""
        if have == want:
            return tensor
        if x.mask is not None:
            what = f"has its axes moved for Keras, whose Permute drops the mask of '{x.source}'"
            raise ShapeError(what, "say data_format: channels_last")
        name = self._new(name)
        moved = axes.between(have, want)
        made = Object("layers", OF_AXES, {"dims": moved[1:], "name": name})
        given = Tensor(as_ or name, axes.permute(tensor.shape, moved), tensor.dtype)
        self.calls.append(Call(name, made, (tensor,), {}, given))
        return given

    def _called(self, name: str, operation: Operation, arguments: tuple[Any, ...], dtype: str = "bool") -> Tensor:
        """What an operation gives that computes a mask, or that is apart from its layer."""
        name = self._new(name)
        given = next(each for each in arguments if isinstance(each, Tensor))
        shape = given.shape[: -1 if dtype == "bool" and "axis" in operation.arguments else None]
        made = Tensor(name, shape, dtype)
        self.calls.append(Call(name, operation, arguments, {}, made))
        return made

    def _new(self, name: str) -> str:
        """A name that no other layer has."""
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def _told(self, masks: Sequence[Symbol | None]) -> dict[str, Any]:
        """Masks as an argument of a call, where all are known; else Keras hands them on."""
        known = [None if mask is None else self.masks.tensor(mask) for mask in masks]
        return {"mask": _one_or_list(known)} if None not in known else {}

    def _masks(self, node: LayerNode) -> dict[str, Any]:
        """The masks by which a layer computes: those that are named for it, or those that its inputs have."""
        found: dict[str, Any] = {}
        if node.attention_mask is not None:
            found["attention_mask"] = self.tensors[node.attention_mask]
        if all(mask is x.mask for x, mask in zip(node.inputs, node.masks, strict=True)):
            layer = node.resolved.layer
            is_told = not (layer.merges_masks or layer.takes_inputs_apart)
            if not (is_told and layer.counts_by_mask(*node.resolved.inputs)):
                return found  # Keras's class has no argument of masks, or takes them off its inputs
            return {**found, **self._told(node.masks[:1] if layer.state_structure else node.masks)}
        if any(mask is None and x.mask is not None for x, mask in zip(node.inputs, node.masks, strict=True)):
            raise ShapeError("takes no mask, though its input has one, which Keras can't say")
        masks = [None if mask is None else self.masks.tensor(mask) for mask in node.masks]
        for mask, tensor in zip(node.masks, masks, strict=True):
            if mask is not None and tensor is None:
                what = f"takes the mask that comes with '{mask.source}', which is no tensor in Keras's code"
                hint = "name a tensor of true and false, such as '- NotEqual: {name: counts, inputs: tokens, x2: 0}'"
                raise ShapeError(what, hint)
        found["mask"] = _one_or_list(masks)
        return found


def _name_of_output(node: Node, index: int) -> str:
    return f"{node.name}_{index}" if index else node.name


def _problem(node: Node, what: str, hint: str | None = None) -> Problem:
    what = f"{node.name} {what}"
    return Problem(what, hint) if node.origin is None else node.origin.problem(what, hint, key=True)


def _stored(node: LayerNode, like: Sequence[Symbol]) -> Iterator[Stored]:
    """The weights of a layer, as Keras's files have them."""
    layer, order = node.resolved.layer, node.resolved.layer.literal_orders(*like)[0]
    known: Mapping[str, Weight] = {weight.name: weight for weight in node.resolved.weights}
    for path, name in layer.keras_paths([*known]):
        weight = known[name]
        places = [order.index(axis) for axis in weight.along if axis is not None]
        is_moved = len(places) == len(weight.along)  # each of its axes goes with one of the input
        yield Stored(weight, path, tuple(sorted(range(len(places)), key=places.__getitem__)) if is_moved else ())


def _leading_to_outputs(graph: Graph) -> set[Node]:
    """The nodes that an output depends on, and those whose layers or blocks they call again."""
    kept, wanted, called = set[Node](), {*graph.outputs}, set[Node]()
    for node in reversed(graph.nodes):
        if wanted.isdisjoint(node.outputs) and node not in called:
            continue
        kept.add(node)
        if node.first is not None:
            called.add(node.first)
        wanted.update(node.inputs)
        if isinstance(node, LayerNode):
            wanted.update(mask for mask in (*node.masks, node.attention_mask) if mask is not None)
    return kept


def _is_penalized(node: LayerNode | BlockNode) -> bool:
    """Whether a node adds to the regularization loss; a further call of a layer does by its output alone."""
    if isinstance(node, BlockNode):
        return any(map(_is_penalized, node.block.nodes))
    return any(term.is_activity or not node.is_again for term in node.resolved.terms)


def _operand(value: Any) -> Any:
    """An argument of an operation: nested numbers as an array, and what is in brackets behind a tensor as such."""
    if isinstance(value, Array):
        raise ShapeError("has numbers that come with its weights, which no operation of Keras has")
    if not isinstance(value, tuple):
        return value
    is_key = any(each is None or each is ... or isinstance(each, slice) for each in value)
    return Key(value) if is_key else Numbers(value, dtype_of(value))


def _one_or_list(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _as_given(node: LayerNode, tensors: list[Tensor]) -> Any:
    """The outputs of a call, states in the lists in which Keras gives them."""
    states = node.resolved.layer.state_structure
    plain = len(tensors) - _count(states)
    given = (*tensors[:plain], *_in_lists(states, iter(tensors[plain:]))) if plain > 0 else tuple(tensors)
    return given[0] if len(given) == 1 else given


def _count(states: States | None) -> int:
    return 1 if states is None else sum(map(_count, states))


def _in_lists(states: States, tensors: Iterator[Tensor]) -> tuple[Any, ...]:
    return tuple(next(tensors) if each is None else [*_in_lists(each, tensors)] for each in states)


def _activity(term: Term, node: LayerNode) -> tuple[str, Regularizer | None]:
    """The slot of a term of an output, and what the layer itself says of it."""
    if term.slot != "activity":  # of a layer inside, whose own field has it
        return term.slot, term.regularizer
    return "activity", node.resolved.layer.activity if node.resolved.layer.says_activity else None
