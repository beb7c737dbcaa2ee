"""A Keras model's config as a spec: its layers in order of execution, its inputs, outputs, and models inside it.

Keras records a graph as calls: each layer has nodes, and a node names the tensors that it takes by the layer, the node
and the output that they come from. A spec has layers in order, and `call` for the further ones. A model inside another
is a block.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regspec.errors import Problem, Problems
from regspec.keras.dialect import Dialect
from regspec.keras.layers import kind_of, layer_of
from regspec.keras.operation import Source, Stored
from regspec.keras.operations import is_operation, operation_of
from regspec.keras.values import UnportedError
from regspec.spec.fields import RESERVED, snake_case

MODELS = ("Sequential", "Functional", "Model")
MAX_DEPTH = 32  # of models in models


@dataclass
class Model:
    """What becomes of a model: entries of a spec, and where each has its weights in the file."""

    name: str
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)
    outputs: Any = None
    inner: dict[str, Model] = field(default_factory=dict)  # models inside, by the names of their entries
    layers: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # each layer's name in the spec, and config
    names: dict[str, str] = field(default_factory=dict)  # of layers here, by those there
    arrays: list[tuple[str, str, NDArray[np.generic]]] = field(default_factory=list)  # of the config: entry, weight


@dataclass
class Reader:
    """Reads a config; collects what can't be ported."""

    dialect: Dialect
    problems: Problems = field(default_factory=Problems)
    blocks: set[str] = field(default_factory=set)  # names of models inside, wherever they are

    def model(self, item: Mapping[str, Any], depth: int = 0) -> Model:
        """The model of a config."""
        config = item.get("config")
        if isinstance(config, list):  # Sequential, in Keras before 2.2.4
            config = {"name": "sequential", "layers": config}
        if depth > MAX_DEPTH or not isinstance(config, dict) or not isinstance(config.get("layers"), list):
            raise UnportedError("a config without layers, or models in models without end")
        model = Model(_identifier(str(config.get("name") or "model"), set()))
        for layer in config["layers"]:
            if not isinstance(layer, dict) or not isinstance(layer.get("class_name"), str):
                raise UnportedError("a layer without a class")
        if item["class_name"] == "Sequential":
            self._sequential(model, config, depth)
        else:
            self._functional(model, config, depth)
        if not model.inputs or not (model.entries or self.problems):
            raise UnportedError("a model without inputs or without layers")
        return model

    # -- sequences -----------------------------------------------------------------------------------------------------

    def _sequential(self, model: Model, config: dict[str, Any], depth: int) -> None:
        layers = config["layers"]
        shape = config.get("build_input_shape") or next(
            (found for layer in layers[:1] if (found := _batch_shape(layer)) is not None), None
        )
        if layers and layers[0]["class_name"] == "InputLayer":
            shape = _batch_shape(layers[0]) or shape
        if shape is None:
            raise UnportedError("a Sequential model that was never built, so that the shape of its input is not known")
        taken: set[str] = set()
        name = _identifier(name_of(layers[0]) if layers[0]["class_name"] == "InputLayer" else "input", taken)
        model.inputs[name] = {"shape": [*shape[1:]], **_dtype(layers[0])}
        last = name
        for layer in layers:
            if layer["class_name"] == "InputLayer":
                continue
            last = self._layer(model, layer, [last], taken, depth)
        model.outputs = last

    # -- graphs --------------------------------------------------------------------------------------------------------

    def _functional(self, model: Model, config: dict[str, Any], depth: int) -> None:
        taken: set[str] = set()
        results: dict[tuple[str, int], str] = {}  # the entry that a layer's node became
        order = [reference[0] for reference in _references(config.get("input_layers"))]
        layers = sorted(
            config["layers"], key=lambda layer: order.index(name_of(layer)) if name_of(layer) in order else -1
        )
        for layer in layers:
            if layer["class_name"] == "InputLayer":
                name = _identifier(name_of(layer), taken)
                shape = _batch_shape(layer)
                if shape is None:
                    raise UnportedError(f"the input '{name_of(layer)}', whose shape is not known")
                model.inputs[name] = {"shape": [*shape[1:]], **_dtype(layer)}
                results[name_of(layer), 0] = name
        calls = {
            (name_of(layer), index): (layer, Call.of_operation(node) if is_operation(layer) else Call.read(node))
            for layer in config["layers"]
            if layer["class_name"] != "InputLayer"
            for index, node in enumerate(layer.get("inbound_nodes") or [])
        }
        for name, index in _ordered(calls, results):
            layer, call = calls[name, index]
            results[name, index] = self._call(model, layer, index, call, results, taken, depth)
        model.outputs = _outputs(config.get("output_layers"), results)

    def _call(
        self,
        model: Model,
        layer: dict[str, Any],
        index: int,
        call: Call,
        results: Mapping[tuple[str, int], str],
        taken: set[str],
        depth: int,
    ) -> str:
        """The entry of one call of a layer."""
        if is_operation(layer):
            name = _identifier(name_of(layer), taken)
            try:
                source = operation_of(layer, call.constants, call.keywords, self.dialect, call.shapes)
                return self._operation(model, source, name, results, taken)
            except UnportedError as reason:
                self._report(layer, reason)
                return name
        inputs = [_output(results[name, number], position) for name, number, position in call.references]
        cls = kind_of(layer["class_name"])
        said = {key: value for key, value in call.keywords.items() if value not in (None, False, [])}
        given = {key: said.pop(key) for key in [*said] if cls is not None and key in cls.call_fields}
        if strange := [key for key in said if key != "training"]:
            self._report(layer, UnportedError(f"its call with {strange[0]}"))
        if index == 0:
            return self._layer(model, layer, inputs, taken, depth, given)
        name = _identifier(f"{name_of(layer)}_{index + 1}", taken)
        model.entries.append({"call": {"layer": model.names[name_of(layer)], "inputs": inputs, "name": name, **given}})
        return name

    def _operation(
        self,
        model: Model,
        source: Source,
        name: str,
        results: Mapping[tuple[str, int], str],
        taken: set[str],
        at: str | None = None,
    ) -> str:
        """The entry of an operation, after those of its inputs that are entries themselves; ``at`` is the own name."""
        if isinstance(source, tuple):
            layer, node, output = source
            return _output(results[layer, node], output)
        at = at or name
        inputs = []
        for each in source.inputs:
            own = at if isinstance(each, tuple) else _identifier(f"{name}_{snake_case(each.kind)}", taken)
            inputs.append(self._operation(model, each, name, results, taken, own))
        fields = {key: self._stored(model, at, key, value) for key, value in source.fields.items()}
        for key, numbers in source.weights.items():
            self._stored(model, at, key, Stored(numbers))
        model.entries.append({source.kind: {"name": at, "inputs": inputs, **fields}})
        return at

    def _stored(self, model: Model, name: str, key: str, value: Any) -> Any:
        """A field's value, with the shape of an array in its place, which goes to the weights of an entry."""
        if isinstance(value, list):
            return [self._stored(model, name, f"{key}_{index}", each) for index, each in enumerate(value)]
        if not isinstance(value, Stored):
            return value
        try:
            array = np.asarray(value.numbers, "float32")
        except (ValueError, TypeError):
            raise UnportedError("an array whose lists differ in length") from None
        model.arrays.append((name, key, array))
        return {"shape": [*array.shape]}

    def _layer(
        self,
        model: Model,
        layer: dict[str, Any],
        inputs: list[str],
        taken: set[str],
        depth: int,
        given: Mapping[str, Any] | None = None,
    ) -> str:
        """The entry of a layer, or of a model inside; with what its call says."""
        name = _identifier(name_of(layer), taken)
        model.names[name_of(layer)] = name
        model.layers.append((name, layer))
        try:
            if layer["class_name"] in MODELS:
                inner = self.model(layer, depth + 1)
                inner.name = _identifier(name[0].lower() + name[1:], self.blocks)  # a capital marks a kind
                model.inner[name] = inner
                entry: dict[str, Any] = {inner.name: {"name": name, "inputs": inputs}}
            elif layer["class_name"] == "CustomScaleLayer":  # of keras.applications: a + scale * b
                scaled = _identifier(f"{name}_scaled", taken)
                scale = float(layer["config"]["scale"])
                model.entries.append({"Rescaling": {"name": scaled, "inputs": inputs[1:], "scale": scale}})
                entry = {"Add": {"name": name, "inputs": [inputs[0], scaled]}}
            else:
                ((kind, fields),) = layer_of(layer, self.dialect).items()
                entry = {kind: {"name": name, "inputs": inputs, **fields, **(given or {})}}
        except UnportedError as reason:
            self._report(layer, reason)
            return name
        model.entries.append(entry)
        return name

    def _report(self, layer: Mapping[str, Any], reason: UnportedError) -> None:
        where = f"'{name_of(layer)}' ({layer['class_name']}) can't be ported: {reason}"
        hint = None if kind_of(layer["class_name"]) else "register_layer gives a class of that name a module"
        self.problems.append(Problem(where, hint))


# -- calls -------------------------------------------------------------------------------------------------------------

Reference = tuple[str, int, int]  # the layer, its node, the output
TENSORS = ("inputs", "query", "value", "key", "initial_state")  # arguments that are inputs here, in order


@dataclass(frozen=True)
class Call:
    """What a node says: the tensors that it takes, and other arguments, in order and by name."""

    references: list[Reference]
    constants: list[Any]  # the arguments in order, with None for tensors
    keywords: dict[str, Any]
    shapes: Mapping[Reference, Any] = field(default_factory=dict)  # of an operation's tensors

    @classmethod
    def read(cls, node: Any) -> Call:
        """A node as Keras 3 or Keras 2 writes it."""
        references: list[Reference] = []
        if isinstance(node, dict):
            arguments = node.get("args") or []
            constants = [None if _tensors_in(each, references) else each for each in arguments]
            keywords = dict(node.get("kwargs") or {})
            for key in TENSORS:
                if key in keywords and _tensors_in(keywords[key], references):
                    del keywords[key]
            return cls(references, constants, keywords)
        keywords = {}
        flat = [node] if node and isinstance(node[0], str) else node
        for each in flat:
            references.append((str(each[0]), int(each[1]), int(each[2])))
            keywords.update(each[3] if len(each) > 3 and isinstance(each[3], dict) else {})
        return cls(
            references, [None] * len(references), {key: value for key, value in keywords.items() if key != "name"}
        )

    @classmethod
    def of_operation(cls, node: Any) -> Call:
        """The node of an operation; tensors stay among its arguments, as references."""
        if not isinstance(node, dict):
            return cls.read(node)
        shapes: dict[Reference, Any] = {}
        arguments = _plain(node.get("args") or [], shapes)
        keywords = _plain(node.get("kwargs") or {}, shapes)
        return cls([*shapes], arguments, keywords, shapes)


def _plain(value: Any, shapes: dict[Reference, Any]) -> Any:
    """A serialized argument as a value: tensors as references, whose shapes are noted, and arrays as lists."""
    if isinstance(value, list):
        return [_plain(each, shapes) for each in value]
    if not isinstance(value, dict):
        return value
    config = value.get("config")
    match value.get("class_name"):
        case "__keras_tensor__":
            (reference,) = _tensors(value)
            shapes[reference] = value["config"].get("shape")
            return reference
        case "__numpy__" | "__tensor__" if isinstance(config, dict):
            return _plain(config.get("value"), shapes)
        case "__slice__" if isinstance(config, dict):
            return slice(*(config.get(part) for part in ("start", "stop", "step")))
        case "__ellipsis__":
            return ...
        case None:
            return {key: _plain(each, shapes) for key, each in value.items()}
    return value


def _ordered(calls: Mapping[tuple[str, int], tuple[Any, Call]], known: Collection[tuple[str, int]]) -> list[Any]:
    """The calls as they can be done one after the other, and as they stand where that can be."""
    done: dict[tuple[str, int], None] = {}
    begun = set()
    for first in calls:
        waiting = [first]
        while waiting:
            key = waiting[-1]
            missing = [
                (name, index)
                for name, index, _ in calls[key][1].references
                if (name, index) not in done and (name, index) not in known
            ]
            if not missing or key in done:
                done[waiting.pop()] = None
            elif key in begun or any(each not in calls for each in missing):
                raise UnportedError(f"the call of '{key[0]}', which takes what nothing gives before")
            else:
                begun.add(key)
                waiting.extend(missing)
    return [*done]


def _tensors_in(value: Any, references: list[Reference]) -> bool:
    """Whether an argument is a tensor, or a list of tensors; they are added to ``references``."""
    found = [*_tensors(value)]
    references.extend(found)
    return bool(found)


def _tensors(value: Any) -> Iterator[Reference]:
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            layer, node, output = value["config"]["keras_history"]
            yield str(layer), int(node), int(output)
        else:
            for each in value.values():
                yield from _tensors(each)
    elif isinstance(value, list):
        for each in value:
            yield from _tensors(each)


def _references(value: Any) -> Iterator[Reference]:
    """The references in a structure of ``[layer, node, output]``."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
        yield value[0], int(value[1]), int(value[2])
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _outputs(value: Any, results: Mapping[tuple[str, int], str]) -> Any:
    """The outputs of a spec: a name, a list of names, or a mapping to them."""

    def name(reference: Any) -> str:
        ((layer, node, output),) = _references(reference)
        return _output(results[layer, node], output)

    if isinstance(value, dict):
        return {key: name(each) for key, each in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], str):
        return name(value)
    names = [_output(results[layer, node], output) for layer, node, output in _references(value)]
    return names[0] if len(names) == 1 else names


def _output(name: str, position: int) -> str:
    return name if position == 0 else f"{name}.{position}"


# -- names and shapes --------------------------------------------------------------------------------------------------


def name_of(layer: Mapping[str, Any]) -> str:
    """The name of a layer in its config."""
    config = layer.get("config")
    return str(layer.get("name") or (config.get("name") if isinstance(config, dict) else None) or layer["class_name"])


def _identifier(name: str, taken: set[str]) -> str:
    """A name that a spec takes, made of Keras's; it is added to those that are taken."""
    made = re.sub(r"\W", "_", name, flags=re.ASCII)
    made = made if made[:1].isalpha() else f"layer_{made.lstrip('_')}"
    made = f"{made}_" if made in RESERVED or keyword.iskeyword(made) else made
    unique, number = made, 1
    while unique in taken:
        number += 1
        unique = f"{made}_{number}"
    taken.add(unique)
    return unique


def _batch_shape(layer: Mapping[str, Any]) -> list[int | None] | None:
    config = layer.get("config") or {}
    shape = config.get("batch_shape") or config.get("batch_input_shape") if isinstance(config, dict) else None
    if isinstance(shape, dict):
        shape = shape.get("items")
    return shape if isinstance(shape, list) and shape else None


def _dtype(layer: Mapping[str, Any]) -> dict[str, str]:
    dtype = (layer.get("config") or {}).get("dtype")
    return {"dtype": dtype} if isinstance(dtype, str) and dtype != "float32" else {}
