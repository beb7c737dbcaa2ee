"""A graph as the text of a Python file that builds it in Keras 3, layer by layer: ``x = layers.Dense(…)(x)``."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.shapes import ShapeError, States, Symbol, text
from regspec.graph.loading import in_order
from regspec.graph.network import BlockNode, Graph, LayerNode, Node
from regspec.graph.resolved import Term
from regspec.language.regularizers import Regularizer
from regspec.targets.keras.arguments import Arguments
from regspec.targets.python.imports import Imports
from regspec.targets.python.layout import Brackets, Doc, Statement, beside, called, flat
from regspec.targets.python.printing import literal
from regspec.text.problems import Problem, Problems, RegspecError

_TAKEN = frozenset(
    (*dir(builtins), "keras", "layers", "activations", "constraints", "initializers", "ops", "partial", "regularizers")
)


def print_keras(graph: Graph) -> str:
    """The text of a file with a function for the network, which gives its ``keras.Model``, after those of its blocks.

    Raises:
        RegspecError: with everything that Keras has no counterpart of.
    """
    file = _File()
    file.add(graph)
    if graph.counts_frozen:
        file.problems.append(Problem("frozen_penalties: counted, which Keras 3 does not do"))
    terms = [term for node in graph.layers() for term in node.resolved.terms]
    if graph.reduction != "mean" and any(each.is_activity and each.regularizer.reduction is None for each in terms):
        file.problems.append(Problem(f"activity_reduction: {graph.reduction}, where Keras divides by the batch size"))
    if file.problems:
        raise RegspecError(in_order(file.problems))
    imports = Imports()
    imports.module("keras")
    for module in file.arguments.modules:
        imports.name("keras", module)
    if file.arguments.needs_partial:
        imports.name("functools", "partial")
    functions = "\n\n\n".join(file.functions)
    return f'"""{graph.name} in Keras 3, printed by regspec."""\n\n{imports.text()}\n\n\n{functions}\n'


@dataclass
class _File:
    """The functions of a file, and what they need."""

    arguments: Arguments = field(default_factory=Arguments)
    functions: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # of functions, by their bodies
    problems: Problems = field(default_factory=Problems)

    def add(self, graph: Graph) -> str:
        """Adds the function of a graph, after those of its blocks; gives its name. Equal blocks share one."""
        function = _Function(graph, self)
        statements = [*function.statements()]
        body = "\n".join(line for statement in statements for line in statement.lines(1))
        if body not in self.names:
            name, number = f"make_{graph.name}", 1
            while name in self.names.values():
                number += 1
                name = f"make_{graph.name}_{number}"
            self.names[body] = name
            inputs = ", ".join(f"{x.source} {text(x.spec_shape)}" for x in graph.inputs)
            outputs = ", ".join(f"{name} {text(x.spec_shape)}" for name, x in _named_outputs(graph))
            parameters = [] if graph.is_root else ["name: str"]
            head = Statement(beside(called(name, parameters), " -> keras.Model"), "def ", ":").lines(0)
            self.functions.append("\n".join([*head, f'    """{inputs} -> {outputs}"""', body]))
        return self.names[body]


def _named_outputs(graph: Graph) -> Iterator[tuple[str, Symbol]]:
    """The outputs with their names, or the layers that give them."""
    yield from zip(graph.output_names or [x.source for x in graph.outputs], graph.outputs, strict=True)


@dataclass
class _Function:
    """The function of one graph."""

    graph: Graph
    file: _File
    variables: dict[Symbol, str] = field(default_factory=dict)
    layers: dict[Node, str] = field(default_factory=dict)  # the variables of layers that are called again
    taken: set[str] = field(default_factory=lambda: {*_TAKEN, "name"})

    def statements(self) -> Iterator[Statement]:
        """The inputs, a statement or two for each node, and the model."""
        graph = self.graph
        called_again = {node.first for node in graph.nodes if node.first is not None}
        for x in graph.inputs:
            self.variables[x] = self._new(x.source)
            shape = Brackets("(", tuple(literal(size) for size in x.spec_shape[1:]), ",)" if x.rank == 2 else ")")
            more = [] if x.dtype == "float32" else [beside("dtype=", literal(x.dtype))]
            name = beside("name=", literal(x.source))
            yield Statement(called("keras.Input", [shape, *more, name]), f"{self.variables[x]} = ")
        kept = _leading_to_outputs(graph)
        for node in graph.nodes:
            try:
                if node not in kept and _is_penalized(node):
                    raise ShapeError("adds a penalty and leads to no output: Keras's functional models leave it out")
                yield from self._node(node, node in called_again)
            except ShapeError as error:
                self._report(node, error)
                self.variables |= dict.fromkeys(node.outputs, node.name)
        yield Statement(self._model(), "return ")

    def _node(self, node: LayerNode | BlockNode, is_called_again: bool) -> Iterator[Statement]:
        """The statements that make a layer, if none has made it before, and call it."""
        if node.first is not None:
            layer: Doc = self.layers[node.first]
        else:
            layer = self._block(node) if isinstance(node, BlockNode) else self._layer(node)
            if is_called_again:
                self.layers[node] = self._new(f"{node.name}_layer")
                yield Statement(layer, f"{self.layers[node]} = ")
                layer = self.layers[node]
        if isinstance(node, LayerNode):
            like = self._counted_like(node)
            orders = node.resolved.layer.literal_orders(*like)
        else:  # which takes them as the spec counts them
            like, orders = node.inputs, [x.spec_order for x in node.inputs]
        value = called(layer, self._called_on(node, orders))
        names = node.block.output_names if isinstance(node, BlockNode) else None
        if names is not None:
            whole = self._new(node.name)
            self.variables |= {
                x: f"{whole}[{flat(literal(name))}]" for name, x in zip(names, node.outputs, strict=True)
            }
            yield Statement(value, f"{whole} = ")
            return
        for index, x in enumerate(node.outputs):
            self.variables[x] = self._new(f"{node.name}_{index}" if index else node.name)
        variables = [self.variables[x] for x in node.outputs]
        if isinstance(node, BlockNode):
            target = f"[{variables[0]}]" if len(variables) == 1 and not node.block.is_single else ", ".join(variables)
            yield Statement(value, f"{target} = ")
            return
        if len(variables) == 1:
            yield Statement(self._as_spec_counts(node, like, node.outputs[0], value), f"{variables[0]} = ")
            return
        yield Statement(value, f"{', '.join(map(flat, _as_given(node, variables)))} = ")
        for x, variable in zip(node.outputs, variables, strict=True):
            counted = self._as_spec_counts(node, like, x, variable)
            if counted is not variable:
                yield Statement(counted, f"{variable} = ")

    # -- layers -------------------------------------------------------------------------------------------------------

    def _block(self, node: BlockNode) -> Doc:
        return called(self.file.add(node.block), [literal(node.name)])

    def _layer(self, node: LayerNode) -> Doc:
        """The constructor of a layer, with the regularizers that rules give it, its type and its name."""
        layer = node.resolved.layer
        if isinstance(layer.trainable, tuple):
            raise ShapeError("is trained in part, which Keras's layers can't be")
        fields: dict[str, Any] = self._by_rules(node)
        dtype = layer.precision or self.graph.dtype
        if dtype != "float32":
            fields["dtype"] = dtype
        return self.file.arguments.layer(layer, {**fields, "name": node.name}, node.resolved.inputs)

    def _by_rules(self, node: LayerNode) -> dict[str, Regularizer]:
        """The regularizers of a layer's slots that it does not say itself."""
        layer, found = node.resolved.layer, dict[str, Regularizer]()
        slots = {weight.name: (weight.slot, weight.regularizer) for weight in node.resolved.weights}
        for term in node.resolved.terms:
            slot, own = slots[term.weight] if term.weight is not None else _activity(term, node)
            if term.regularizer == own:
                continue
            if not hasattr(layer, f"{slot}_regularizer"):
                raise ShapeError(f"has a penalty on {term.slot} by a rule, which Keras's {node.kind} does not take")
            found[f"{slot}_regularizer"] = term.regularizer
        return found

    # -- calls --------------------------------------------------------------------------------------------------------

    def _called_on(self, node: LayerNode | BlockNode, orders: Sequence[Order]) -> list[Doc]:
        """The arguments of a call: tensors in these orders of axes, masks, and what of a layer belongs to a call."""
        tensors = [self._literal(node, x, order) for x, order in zip(node.inputs, orders, strict=True)]
        in_list: Doc = tensors[0] if len(tensors) == 1 else Brackets("[", tuple(tensors), "]")
        if isinstance(node, BlockNode):
            return [in_list]
        layer = node.resolved.layer
        if layer.takes_inputs_apart:
            given: list[Doc] = [*tensors]
        elif layer.state_structure and len(tensors) > 1:
            states = _in_lists(layer.state_structure, iter(tensors[1:]))
            given = [tensors[0], beside("initial_state=", Brackets("[", states, "]"))]
        else:
            given = [in_list]
        said = {name: getattr(layer, name) for name in sorted(layer.call_fields)}
        flags = [beside(f"{name}=", literal(value)) for name, value in said.items() if value]
        return [*given, *self._masks(node), *flags]

    def _counted_like(self, node: LayerNode) -> Sequence[Symbol]:
        """The inputs by which Keras's layer has its fields: those of the first call, where it makes a difference.

        Raises `ShapeError` where the layer is another for Keras.
        """
        first, arguments = node.first, self.file.arguments
        if not isinstance(first, LayerNode):
            return node.inputs
        made, again = (arguments.layer(each.resolved.layer, {}, each.resolved.inputs) for each in (first, node))
        if made == again:
            return node.inputs
        if first.resolved.layer != node.resolved.layer or [x.rank for x in first.inputs] != [
            x.rank for x in node.inputs
        ]:
            what = f"calls '{first.name}' where axes are counted otherwise, for which Keras needs another layer"
            raise ShapeError(what, "say data_format: channels_last")
        return first.inputs

    def _literal(self, node: LayerNode | BlockNode, x: Symbol, order: Order) -> Doc:
        """An input with its axes in the order in which Keras's layer takes them."""
        return self._permuted(self.variables[x], x, x.spec_order, order, f"{x.source}_for_{node.name}")

    def _as_spec_counts(self, node: LayerNode, like: Sequence[Symbol], x: Symbol, value: Doc) -> Doc:
        """An output of Keras's layer, which has its fields by ``like``, with its axes as the spec counts them."""
        order = node.resolved.layer.literal_output_order(x, *like)
        return self._permuted(value, x, order, x.spec_order, f"{self.variables[x]}_as_counted")

    def _permuted(self, value: Doc, x: Symbol, have: Order, want: Order, name: str) -> Doc:
        """A tensor ``x`` in another order of axes. Raises `ShapeError` where it has a mask."""
        if have == want:
            return value
        if x.mask is not None:
            what = f"has its axes moved for Keras, whose Permute drops the mask of '{x.source}'"
            raise ShapeError(what, "say data_format: channels_last")
        dims = Brackets("(", tuple(literal(axis) for axis in axes.between(have, want)[1:]), ")")
        self.file.arguments.modules.add("layers")
        return called(called("layers.Permute", [dims, beside("name=", literal(self._new(name)))]), [value])

    def _masks(self, node: LayerNode) -> Iterator[Doc]:
        """The masks that are named for a layer, in place of those that its inputs have."""
        if node.attention_mask is not None:
            yield beside("attention_mask=", self.variables[node.attention_mask])
        if all(mask is x.mask for x, mask in zip(node.inputs, node.masks, strict=True)):
            return
        if any(mask is None and x.mask is not None for x, mask in zip(node.inputs, node.masks, strict=True)):
            raise ShapeError("takes no mask, though its input has one, which Keras can't say")
        for mask in node.masks:
            if mask is not None and mask not in self.variables:
                what = f"takes the mask that comes with '{mask.source}', which is no tensor in Keras's code"
                hint = "name a tensor of true and false, such as '- NotEqual: {name: counts, inputs: tokens, x2: 0}'"
                raise ShapeError(what, hint)
        masks = [literal(None) if mask is None else self.variables[mask] for mask in node.masks]
        yield beside("mask=", masks[0] if len(masks) == 1 else Brackets("[", tuple(masks), "]"))

    def _model(self) -> Doc:
        graph = self.graph
        inputs = [self.variables[x] for x in graph.inputs]
        outputs = [self.variables[x] for x in graph.outputs]
        given: Doc = inputs[0] if len(inputs) == 1 else Brackets("[", tuple(inputs), "]")
        gives: Doc = Brackets("[", tuple(outputs), "]")
        if graph.output_names is not None:
            pairs = zip(graph.output_names, outputs, strict=True)
            gives = Brackets("{", tuple(beside(literal(name), ": ", variable) for name, variable in pairs), "}")
        elif graph.is_single:
            gives = outputs[0]
        name = literal(graph.name) if graph.is_root else "name"
        return called("keras.Model", [given, gives, beside("name=", name)])

    def _new(self, name: str) -> str:
        """A variable's name that no other variable and no function of the file has."""
        if name.startswith("make_"):
            name = f"_{name}"
        while name in self.taken or keyword.iskeyword(name):
            name += "_"
        self.taken.add(name)
        return name

    def _report(self, node: Node, error: ShapeError) -> None:
        what = f"{node.name} {error.what}"
        self.file.problems.append(
            Problem(what, error.hint) if node.origin is None else node.origin.problem(what, error.hint, key=True)
        )


def _leading_to_outputs(graph: Graph) -> set[Node]:
    """The nodes that an output depends on."""
    kept, wanted = set[Node](), {*graph.outputs}
    for node in reversed(graph.nodes):
        if wanted.isdisjoint(node.outputs):
            continue
        kept.add(node)
        wanted.update(node.inputs)
        if isinstance(node, LayerNode):
            wanted.update(mask for mask in (*node.masks, node.attention_mask) if mask is not None)
    return kept


def _is_penalized(node: LayerNode | BlockNode) -> bool:
    """Whether a node adds to the regularization loss; a further call of a layer does by its output alone."""
    if isinstance(node, BlockNode):
        return any(map(_is_penalized, node.block.nodes))
    return any(term.is_activity or not node.is_again for term in node.resolved.terms)


def _as_given(node: LayerNode | BlockNode, variables: list[str]) -> tuple[Doc, ...]:
    """The outputs of a call, states in the lists in which Keras gives them."""
    states = node.resolved.layer.state_structure if isinstance(node, LayerNode) else ()
    plain = len(variables) - _count(states)
    return (*variables[:plain], *_in_lists(states, iter(variables[plain:]))) if plain > 0 else tuple(variables)


def _count(states: States | None) -> int:
    return 1 if states is None else sum(map(_count, states))


def _in_lists(states: States, variables: Iterator[Doc]) -> tuple[Doc, ...]:
    return tuple(next(variables) if each is None else Brackets("[", _in_lists(each, variables), "]") for each in states)


def _activity(term: Term, node: LayerNode) -> tuple[str, Regularizer | None]:
    """The slot of a term of an output, and what the layer itself says of it."""
    if term.slot != "activity":  # of a layer inside, whose own field has it
        return term.slot, term.regularizer
    return "activity", node.resolved.layer.activity if node.resolved.layer.says_activity else None
