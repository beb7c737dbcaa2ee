"""A network's calls in Keras as the text of a Python file that makes them: ``x = layers.Dense(…)(x)``."""

from __future__ import annotations

import builtins
import keyword
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from regspec.code.shapes import text
from regspec.graph.network import Graph
from regspec.targets.keras.calls import network_of
from regspec.targets.keras.network import Call, Function, Key, Network, Numbers, Object, Operation, Tensor, tensors_in
from regspec.targets.python.imports import Imports
from regspec.targets.python.layout import Brackets, Doc, Statement, beside, called, flat
from regspec.targets.python.printing import literal

_TAKEN = frozenset(
    (
        *dir(builtins),
        "keras",
        "layers",
        "activations",
        "constraints",
        "initializers",
        "numpy",
        "ops",
        "partial",
        "regularizers",
    )
)


def print_keras(graph: Graph) -> str:
    """The text of a file with a function for the network, which gives its ``keras.Model``, after those of its blocks.

    Raises:
        RegspecError: with everything that Keras has no counterpart of.
    """
    return print_network(network_of(graph))


def print_network(network: Network, *, more: str = "") -> str:
    """The text of a file with a function that gives the network's ``keras.Model``, after those of models inside.

    ``more`` is what its first line says besides.
    """
    file = _File(f"make_{network.name}")
    file.add(network)
    imports = Imports()
    imports.module("keras")
    for module in file.modules:
        imports.name("keras", module)
    if file.needs_partial:
        imports.name("functools", "partial")
    if file.needs_numpy:
        imports.module("numpy")
    functions = "\n\n\n".join(file.functions)
    return f'"""{network.name} in Keras 3, printed by regspec{more}."""\n\n{imports.text()}\n\n\n{functions}\n'


@dataclass
class _File:
    """The functions of a file, and what they need."""

    last: str  # the name of the whole network's function, which no other has
    functions: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # of functions, by their bodies
    modules: set[str] = field(default_factory=set)  # of Keras: layers, regularizers, …
    needs_partial: bool = False
    needs_numpy: bool = False

    def add(self, network: Network) -> str:
        """Adds the function of a network, after those of models inside; gives its name. Equal ones share one."""
        statements = [*_Function(network, self).statements()]
        body = "\n".join(line for statement in statements for line in statement.lines(1))
        if body not in self.names:
            name, number = f"make_{network.name}", 1
            while name in self.names.values() or (name == self.last and not network.is_root):
                number += 1
                name = f"make_{network.name}_{number}"
            self.names[body] = name
            inputs = ", ".join(f"{x.name} {text(x.shape)}" for x in network.inputs)
            outputs = ", ".join(f"{name} {text(x.shape)}" for name, x in _named_outputs(network))
            parameters = [] if network.is_root else ["name: str"]
            head = Statement(beside(called(name, parameters), " -> keras.Model"), "def ", ":").lines(0)
            self.functions.append("\n".join([*head, f'    """{inputs} -> {outputs}"""', body]))
        return self.names[body]

    def value(self, value: Any, variables: dict[Tensor, str]) -> Doc:
        """An argument."""
        match value:
            case Tensor():
                return variables[value]
            case Object():
                self.modules.add(value.module)
                first = [name for name, given in zip(value.plain, value.arguments, strict=False) if name == given]
                named = {name: each for name, each in value.arguments.items() if name not in first}
                plain = [self.value(value.arguments[name], variables) for name in first]
                return called(f"{value.module}.{value.name}", [*plain, *self.named(named, variables)])
            case Function():
                self.modules.add(value.module)
                name = f"{value.module}.{value.name}"
                if not value.arguments:
                    return name
                self.needs_partial = True
                return called("partial", [name, *self.named(value.arguments, variables)])
            case Numbers():
                self.needs_numpy = True
                return called("numpy.array", [literal(_listed(value.values)), beside("dtype=", literal(value.dtype))])
            case list():
                return Brackets("[", tuple(self.value(each, variables) for each in value), "]")
        return literal(value)

    def named(self, arguments: Any, variables: dict[Tensor, str]) -> list[Doc]:
        """Arguments by name."""
        return [beside(f"{name}=", self.value(value, variables)) for name, value in arguments.items()]


def _passed(network: Network) -> set[Tensor]:
    """The tensors that the next call takes, and nothing else, so that they need no name of their own."""
    uses = Counter(x for call in network.calls for x in call.tensors) + Counter(tensors_in(network.outputs))
    pairs = zip(network.calls, network.calls[1:], strict=False)
    found = {
        call.outputs
        for call, after in pairs
        if isinstance(call.outputs, Tensor) and uses[call.outputs] == 1 and call.outputs in after.tensors
    }
    has_name = any(x.name == "x" for x in (*network.inputs, *(x for call in network.calls for x in call.tensors)))
    return set() if has_name else found


def _named_outputs(network: Network) -> Iterator[tuple[str, Tensor]]:
    """The outputs with their names, or the layers that give them."""
    if isinstance(network.outputs, dict):
        yield from network.outputs.items()
    else:
        yield from ((x.name, x) for x in tensors_in(network.outputs))


def _listed(values: Any) -> Any:
    return [*map(_listed, values)] if isinstance(values, tuple) else values


def _item(item: Any) -> Doc:
    """What is between commas in brackets."""
    if item is ...:
        return "..."
    if isinstance(item, slice):
        parts = ["" if part is None else str(part) for part in (item.start, item.stop)]
        return ":".join(parts if item.step is None else [*parts, str(item.step)])
    return literal(item)


@dataclass
class _Function:
    """The function of one network."""

    network: Network
    file: _File
    variables: dict[Tensor, str] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)  # the variables of layers that are called again
    operations: dict[str, Operation] = field(default_factory=dict)
    taken: set[str] = field(default_factory=lambda: {*_TAKEN, "name"})
    passed: set[Tensor] = field(default_factory=set)  # those that the next call alone takes, each of them ``x``

    def statements(self) -> Iterator[Statement]:
        """The inputs, a statement or two for each call, and the model."""
        network = self.network
        again = {call.layer for call in network.calls if call.made is None}
        self.passed = _passed(network)
        for x in network.inputs:
            self.variables[x] = self._new(x.name)
            shape = Brackets("(", tuple(literal(size) for size in x.shape[1:]), ",)" if len(x.shape) == 2 else ")")
            more = [] if x.dtype == "float32" else [beside("dtype=", literal(x.dtype))]
            name = beside("name=", literal(x.name))
            yield Statement(called("keras.Input", [shape, *more, name]), f"{self.variables[x]} = ")
        for call in network.calls:
            yield from self._call(call, call.layer in again)
        gives = self._structure(network.outputs)
        own_name = literal(network.called) if network.is_root else "name"
        inputs = [self.variables[x] for x in network.inputs]
        given: Doc = inputs[0] if len(inputs) == 1 else Brackets("[", tuple(inputs), "]")
        yield Statement(called("keras.Model", [given, gives, beside("name=", own_name)]), "return ")

    def _call(self, call: Call, is_called_again: bool) -> Iterator[Statement]:
        """The statements that make a layer, if none has made it before, and call it."""
        if isinstance(call.made, Operation):
            self.operations[call.layer] = call.made
        if call.layer in self.operations:
            yield from self._given(call, self._operated(call, self.operations[call.layer]))
            return
        layer: Doc
        if call.made is None:
            layer = self.layers[call.layer]
        elif isinstance(call.made, Network):
            layer = called(self.file.add(call.made), [literal(call.layer)])
        else:
            layer = self.file.value(call.made, {})
        if is_called_again and call.made is not None:
            self.layers[call.layer] = self._new(f"{call.layer}_layer")
            yield Statement(layer, f"{self.layers[call.layer]} = ")
            layer = self.layers[call.layer]
        arguments = [self.file.value(each, self.variables) for each in call.arguments]
        yield from self._given(call, called(layer, [*arguments, *self.file.named(call.keywords, self.variables)]))

    def _operated(self, call: Call, operation: Operation) -> Doc:
        """The call of an operation's function, or brackets behind a tensor."""
        given: list[Any] = [*call.arguments]
        if isinstance(given[-1], Key):
            items = tuple(map(_item, given.pop().items))
            end = ",]" if len(items) == 1 else "]"  # a slice alone Keras does not take
            return beside(self.file.value(given[0], self.variables), Brackets("[", items, end, "index"))
        self.file.modules.add("ops")
        arguments = {**operation.arguments}
        if operation.first is not None:
            given.insert(0, arguments.pop(operation.first))
        named = self.file.named({**call.keywords, **arguments}, self.variables)
        return called(f"ops.{operation.function}", [*(self.file.value(each, self.variables) for each in given), *named])

    def _given(self, call: Call, value: Doc) -> Iterator[Statement]:
        """The statement that gives the outputs of a call their names."""
        if isinstance(call.outputs, dict):
            whole = self._new(call.layer)
            self.variables |= {x: f"{whole}[{flat(literal(name))}]" for name, x in call.outputs.items()}
            yield Statement(value, f"{whole} = ")
            return
        for x in tensors_in(call.outputs):
            self.variables[x] = "x" if x in self.passed else self._new(x.name)
        target = self._structure(call.outputs)
        if isinstance(call.outputs, tuple) or (isinstance(call.outputs, list) and len(call.outputs) > 1):
            assert isinstance(target, Brackets)
            yield Statement(value, f"{', '.join(map(flat, target.items))} = ")
        else:
            yield Statement(value, f"{flat(target)} = ")

    def _structure(self, value: Any) -> Doc:
        """The variables of tensors, in the lists or the mapping in which they stand."""
        if isinstance(value, Tensor):
            return self.variables[value]
        if isinstance(value, dict):
            pairs = (beside(literal(name), ": ", self.variables[x]) for name, x in value.items())
            return Brackets("{", tuple(pairs), "}")
        return Brackets("[", tuple(map(self._structure, value)), "]")

    def _new(self, name: str) -> str:
        """A variable's name that no other variable and no function of the file has."""
        if name.startswith("make_"):
            name = f"_{name}"
        while name in self.taken or keyword.iskeyword(name):
            name += "_"
        self.taken.add(name)
        return name
