"""A Keras model's config as a spec: its layers in order of execution, its inputs, outputs, and models inside it.

Keras records a graph as calls: each layer has nodes, and a node names the tensors that it takes by the layer, the node
and the output that they come from. A spec has layers in order, and `call` for the further ones. A model inside another
is a block.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regspec.keras.dialect import Dialect
from regspec.keras.kinds import kind_of
from regspec.keras.layers import layer_of
from regspec.keras.modes import heed_training
from regspec.keras.nodes import Call, is_said, ordered, references_in
from regspec.keras.operations.functions import function_of, is_function, refuse_sizes, short_name
from regspec.keras.operations.operation import Reference, Source, Stored
from regspec.keras.operations.recorded import is_operation, operation_of
from regspec.keras.operations.tensorflow_rules import ShapeOf, SizeOf, Sizes
from regspec.keras.precision import policy_of
from regspec.keras.quantized import ADVICE, is_quantized
from regspec.keras.references import names_in
from regspec.keras.values import UnportedError, is_foreign
from regspec.language.fields import MAX_NAME, RESERVED, snake_case
from regspec.text.problems import Problem, Problems

GRAPHS = ("Functional", "Model")
MODELS = ("Sequential", *GRAPHS)
MAX_DEPTH = 32  # of models in models
MAX_LAYERS = 20_000  # in all of them, a layer that is called again counted again


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
    parameters: dict[str, Any] = field(default_factory=dict)  # of a block, with their defaults
    arrays: list[tuple[str, str, NDArray[np.generic]]] = field(default_factory=list)  # of the config: entry, weight
    operations: set[str] = field(default_factory=set)  # the entries that are operations, and no layers
    recorded: dict[str, list[str | None]] = field(default_factory=dict)  # the masks with which entries were called
    keys: dict[str, list[str]] = field(default_factory=dict)  # of the outputs of entries, in Keras's order
    sizes: dict[tuple[str, int], ShapeOf | SizeOf | Sizes] = field(default_factory=dict)  # by the calls that give them

    def output(self, entry: str, position: int) -> str:
        """How an output of an entry is referred to, by its place among them."""
        if entry in self.keys:
            return f"{entry}.{self.keys[entry][position]}"
        return entry if position == 0 else f"{entry}.{position}"


@dataclass
class Reader:
    """Reads a config; collects what can't be ported."""

    dialect: Dialect
    problems: Problems = field(default_factory=Problems)
    blocks: set[str] = field(default_factory=lambda: {"call"})  # names of models inside, and what no block is called
    count: int = 0  # of the layers so far

    def model(self, item: Mapping[str, Any], depth: int = 0) -> Model:
        """The model of a config."""
        config = item.get("config")
        if depth > MAX_DEPTH or not isinstance(config, dict) or not isinstance(config.get("layers"), list):
            raise UnportedError("a config without layers, or models in models without end")
        model = Model(_identifier(str(config.get("name") or "model"), set()))
        for layer in config["layers"]:
            if not isinstance(layer, dict) or not isinstance(layer.get("class_name"), str):
                raise UnportedError("a layer without a class")
            layer["config"] = {} if layer.get("config") is None else layer["config"]
            if not isinstance(layer["config"], dict):
                raise UnportedError(f"the layer '{name_of(layer)[:80]}', whose config is no mapping")
        if is_foreign(item):
            said = f"'{model.name}' is of the class {item['class_name'][:80]}, which is none of Keras's own"
            self.dialect.note(f"{said}: its graph is ported, but not what the class makes of it")
        body = _Body(self, model, depth)
        if item["class_name"] == "Sequential":
            body.sequential(config)
        else:
            body.functional(config)
        if not model.inputs or not (model.entries or self.problems):
            raise UnportedError("a model without inputs or without layers")
        return model

    def counted(self, layers: int) -> None:
        """Counts the layers of a model. Raises where there are too many."""
        self.count += layers
        if self.count > MAX_LAYERS:
            raise UnportedError(f"a model of more than {MAX_LAYERS:,} layers")

    def report(self, layer: Mapping[str, Any], reason: UnportedError) -> None:
        """Notes that a layer can't be ported."""
        name, cls = name_of(layer)[:80], layer["class_name"][:80]
        hint = f"put a torch module of yours in its place: --replace '{name}=package.module:Class'"
        if cls not in MODELS and kind_of(cls) is None and not is_operation(layer) and not is_function(layer):
            hint += f", or '{cls}=…' for all of the class; or regspec.register_layer(Class, name='{cls}')"
        is_replaced = self.dialect.replacements.find(layer) is not None
        what = f"'{name}' ({cls}) can't be ported: {reason}"
        self.problems.append(Problem(what, None if is_replaced else hint))


@dataclass
class _Body:
    """The layers of one model, as they are read."""

    reader: Reader
    model: Model
    depth: int  # of the model in others
    taken: set[str] = field(default_factory=set)  # names of entries
    results: dict[tuple[str, int], str] = field(default_factory=dict)  # the entry that a layer's node became

    # -- sequences -----------------------------------------------------------------------------------------------------

    def sequential(self, config: dict[str, Any]) -> None:
        """Reads layers that stand one after the other."""
        layers = config["layers"]
        self.reader.counted(len(layers))
        shape = config.get("build_input_shape") or next(
            (found for layer in layers[:1] if (found := _batch_shape(layer)) is not None), None
        )
        if layers and layers[0]["class_name"] == "InputLayer":
            shape = _batch_shape(layers[0]) or shape
        if shape is None:
            raise UnportedError("a Sequential model that was never built, so that the shape of its input is not known")
        name = _identifier(name_of(layers[0]) if layers[0]["class_name"] == "InputLayer" else "input", self.taken)
        self.model.inputs[name] = _input(layers[0], shape, self.reader.dialect.dtype)
        last = name
        for layer in layers:
            if layer["class_name"] == "InputLayer":
                continue
            last = self.layer(layer, [last])
        self.model.outputs = last

    # -- graphs --------------------------------------------------------------------------------------------------------

    def functional(self, config: dict[str, Any]) -> None:
        """Reads layers that call each other."""
        declared = config.get("input_layers")
        if self.depth and isinstance(declared, dict):  # the order in which a call of the model gives them
            declared = dict(sorted(declared.items()))
        inputs = dict.fromkeys(name for name, _, _ in references_in(declared))
        order = {name: place for place, name in enumerate(inputs)}
        layers = sorted(config["layers"], key=lambda layer: order.get(name_of(layer), -1))
        for layer in layers:
            if layer["class_name"] == "InputLayer":
                name = self.model.names[name_of(layer)] = _identifier(name_of(layer), self.taken)
                shape = _batch_shape(layer)
                if shape is None:
                    raise UnportedError(f"the input '{name_of(layer)}', whose shape is not known")
                self.model.inputs[name] = _input(layer, shape, self.reader.dialect.dtype)
                self.results[name_of(layer), 0] = name
        calls = {
            (name_of(layer), index): (layer, Call.of(layer, node))
            for layer in config["layers"]
            if layer["class_name"] != "InputLayer"
            for index, node in enumerate(layer.get("inbound_nodes") or [])
        }
        self.reader.counted(len(calls))
        for name, index in ordered(calls, self.results):
            layer, call = calls[name, index]
            self.results[name, index] = self.call(layer, index, call)
        # Keras 3 counts the nodes of a model inside from 0 in calls, and from 1 here: the first is its own
        if self.reader.dialect.generation > 2:
            models = {name_of(layer) for layer in config["layers"] if layer["class_name"] in GRAPHS}
            self.results = {(name, index + (name in models)): entry for (name, index), entry in self.results.items()}
        self.model.outputs = self._outputs(config.get("output_layers"))
        self._check_inputs()

    def _check_inputs(self) -> None:
        """Takes out the inputs that nothing uses, which Keras allows."""
        used = {*names_in(self.model.outputs)}
        used.update(each for entry in self.model.entries for fields in entry.values() for each in fields["inputs"])
        used.update(mask for masks in self.model.recorded.values() for mask in masks if mask is not None)
        for there, name in self.model.names.items() if not self.reader.problems else ():
            if name in self.model.inputs and name not in used:
                if self.depth:
                    raise UnportedError(f"an input that nothing in it uses, '{there}'")
                self.reader.dialect.note(f"nothing uses the input '{there}', which is left out")
                del self.model.inputs[name]

    def _outputs(self, value: Any) -> Any:
        """The outputs of a spec: a name, a list of names, or a mapping to them."""

        def name(reference: Any) -> str:
            (found,) = references_in(reference)
            return self.reference(found)

        if isinstance(value, dict):
            taken: set[str] = set()
            keys = {key: _identifier(key, taken) for key in (sorted(value) if self.depth else value)}
            for key, made in keys.items():
                if made != key:
                    self.reader.dialect.note(f"the output '{key}' is called '{made}'")
            return {made: name(value[key]) for key, made in keys.items()}
        if isinstance(value, list) and value and isinstance(value[0], str):
            return name(value)
        names = [self.reference(each) for each in references_in(value)]
        return names[0] if len(names) == 1 else names

    def reference(self, found: Reference) -> str:
        """How an entry refers to a tensor."""
        layer, node, output = found
        return self.model.output(self.results[layer, node], output)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, layer: dict[str, Any], index: int, call: Call) -> str:
        """The entry of one call of a layer or an operation."""
        if self.reader.dialect.replacements.find(layer) is None and (is_function(layer) or is_operation(layer)):
            return self._computed(layer, index, call)
        return self._called(layer, index, call)

    def _computed(self, layer: dict[str, Any], index: int, call: Call) -> str:
        """The entry of an operation's call; the operation's own name where it gives a size, for which there is none."""
        try:
            if is_function(layer):
                source = function_of(layer, call.constants, call.keywords, self.reader.dialect, self.model.sizes)
            else:
                refuse_sizes(call.references, self.model.sizes)
                source = operation_of(layer, call.constants, call.keywords, self.reader.dialect, call.shapes)
            if isinstance(source, (ShapeOf, SizeOf, Sizes)):
                self.model.sizes[name_of(layer), index] = source
                return name_of(layer)
            name = short_name(layer) if is_function(layer) else name_of(layer)
            return self.operation(source, _identifier(name, self.taken))
        except UnportedError as reason:
            self.reader.report(layer, reason)
            return _identifier(name_of(layer), self.taken)

    def _called(self, layer: dict[str, Any], index: int, call: Call) -> str:
        """The entry of a layer's call, or a model's: the layer itself at the first."""
        try:
            refuse_sizes(call.references, self.model.sizes)
        except UnportedError as reason:
            self.reader.report(layer, reason)
            return _identifier(name_of(layer), self.taken)
        inputs = [*map(self.reference, call.references)]
        given = self._given(layer, call)
        if index == 0:
            name = self.layer(layer, inputs, given)
        else:
            name = _identifier(f"{name_of(layer)}_{index + 1}", self.taken)
            first = self.model.names[name_of(layer)]
            self.model.entries.append({"call": {"layer": first, "inputs": inputs, "name": name, **given}})
            if first in self.model.keys:
                self.model.keys[name] = self.model.keys[first]
        if any(call.masks):
            self.model.recorded[name] = [mask and self.reference(mask) for mask in call.masks]
        return name

    def _given(self, layer: dict[str, Any], call: Call) -> dict[str, Any]:
        """What a call says besides its tensors, as fields; what can't be ported of it is reported."""
        cls = kind_of(layer["class_name"])
        said = {key: value for key, value in call.keywords.items() if is_said(value)}
        given = {key: said.pop(key) for key in [*said] if cls is not None and key in cls.call_fields}
        if given.get("reverse") and is_quantized(layer["config"]):
            self.reader.report(layer, UnportedError(f"its call in reverse rounds what it takes: {ADVICE}"))
        if strange := [key for key in said if key != "training"] or call.strays:
            self.reader.report(layer, UnportedError(f"its call with {str(strange[0])[:80]}"))
        try:
            heed_training(layer, name_of(layer), call.keywords.get("training"), self.reader.dialect)
        except UnportedError as reason:
            self.reader.report(layer, reason)
        return given

    def operation(self, source: Source, name: str, at: str | None = None) -> str:
        """The entry of an operation, after those of its inputs that are entries themselves; ``at`` is the own name."""
        if isinstance(source, tuple):
            return self.reference(source)
        at = at or name
        inputs = []
        for each in source.inputs:
            own = at if isinstance(each, tuple) else _identifier(f"{name}_{snake_case(each.kind)}", self.taken)
            inputs.append(self.operation(each, name, own))
        self.model.operations.add(at)
        fields = {key: self._stored(at, key, value) for key, value in source.fields.items()}
        for key, numbers in source.weights.items():
            self._stored(at, key, Stored(numbers))
        self.model.entries.append({source.kind: {"name": at, "inputs": inputs, **fields}})
        return at

    def _stored(self, name: str, key: str, value: Any) -> Any:
        """A field's value, with the shape of an array in its place, which goes to the weights of an entry."""
        if isinstance(value, list):
            return [self._stored(name, f"{key}_{index}", each) for index, each in enumerate(value)]
        if not isinstance(value, Stored):
            return value
        try:
            array = np.asarray(value.numbers, "float32")
        except (ValueError, TypeError):
            raise UnportedError("an array whose lists differ in length") from None
        self.model.arrays.append((name, key, array))
        return {"shape": [*array.shape]}

    def layer(self, layer: dict[str, Any], inputs: list[str], given: Mapping[str, Any] | None = None) -> str:
        """The entry of a layer, or of a model inside; with what its call says."""
        name = _identifier(name_of(layer), self.taken)
        self.model.names[name_of(layer)] = name
        if not is_operation(layer):  # which has no weights
            self.model.layers.append((name, layer))
        try:
            if layer["class_name"] in MODELS:
                inner = self.reader.model(layer, self.depth + 1)
                inner.name = _identifier(name[0].lower() + name[1:], self.reader.blocks)  # a capital marks a kind
                self.model.inner[name] = inner
                if isinstance(inner.outputs, dict):
                    self.model.keys[name] = [*inner.outputs]
                entry: dict[str, Any] = {inner.name: {"name": name, "inputs": inputs}}
            else:
                ((kind, fields),) = layer_of(layer, self.reader.dialect).items()
                entry = {kind: {"name": name, "inputs": inputs, **fields, **(given or {})}}
        except UnportedError as reason:
            self.reader.report(layer, reason)
            return name
        self.model.entries.append(entry)
        return name


# -- names and shapes --------------------------------------------------------------------------------------------------


def name_of(layer: Mapping[str, Any]) -> str:
    """The name of a layer in its config."""
    config = layer.get("config")
    return str(layer.get("name") or (config.get("name") if isinstance(config, dict) else None) or layer["class_name"])


def _identifier(name: str, taken: set[str]) -> str:
    """A name that a spec takes, made of Keras's; it is added to those that are taken."""
    made = re.sub(r"\W", "_", name[: MAX_NAME - 16], flags=re.ASCII)
    made = made if made[:1].isalpha() else f"layer_{made.lstrip('_')}"
    made = f"{made}_" if made in RESERVED or keyword.iskeyword(made) else made
    numbered = (f"{made}_{number}" for number in chain(range(2, 12), count(len(taken))))  # few of which are taken
    unique = next(each for each in chain([made], numbered) if each not in taken)
    taken.add(unique)
    return unique


def _batch_shape(layer: Mapping[str, Any]) -> list[int | None] | None:
    config = layer.get("config") or {}
    shape = config.get("batch_shape") or config.get("batch_input_shape") if isinstance(config, dict) else None
    if isinstance(shape, dict):
        shape = shape.get("items")
    return shape if isinstance(shape, list) and shape else None


def _input(layer: Mapping[str, Any], shape: list[int | None], dtype: str) -> dict[str, Any]:
    """An input of a model with this dtype, as a spec declares it; ``layer`` is its InputLayer, or the first layer."""
    config = layer.get("config") or {}
    own = config.get("dtype") if layer["class_name"] == "InputLayer" or "batch_input_shape" in config else None
    try:
        given = dtype if own is None else policy_of(own).computes
    except UnportedError:
        raise UnportedError(f"the input '{name_of(layer)}' of the type {str(own)[:80]}") from None
    # an axis without cells is one whose size may vary: so may what torch makes of it
    sizes = [None if size == 0 else size for size in shape[1:]]
    return {"shape": sizes, **({} if given == dtype else {"dtype": given})}
