"""A config in the form of Keras 3 as a model: its layers in the order in which they are called, inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regspec.keras.arrays.quantized import ADVICE, is_quantized
from regspec.keras.configs.defaults import as_a_person_writes
from regspec.keras.configs.kinds import kind_of
from regspec.keras.configs.models import GRAPHS, MODELS, Entry, Model, name_of
from regspec.keras.configs.references import names_in
from regspec.keras.configs.values import UnportedError, is_foreign
from regspec.keras.older import theano
from regspec.keras.operations.functions import function_of, is_function, refuse_sizes, short_name
from regspec.keras.operations.operation import KerasTensor, Operand, Stored
from regspec.keras.operations.recorded import is_operation, operation_of
from regspec.keras.operations.tensorflow_rules import ShapeOf, SizeOf, Sizes
from regspec.keras.reading.layers import layer_of
from regspec.keras.reading.modes import note_on_training
from regspec.keras.reading.nodes import RecordedCall, has_loose_keys, is_said, nested_tensors, ordered, tensors_in
from regspec.keras.reading.reader import Reader, batch_shape, declared_input, identifier
from regspec.language.fields import layer_name
from regspec.layers.kinds import KINDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_DEPTH = 32  # of models in models
FEATURES = "port a model of the layers behind it: keras.Sequential([keras.Input(…), *model.layers[1:]])"


def model_of(item: Mapping[str, Any], reader: Reader, depth: int = 0) -> Model:
    """The model of a config in which every layer has one; ``depth`` is how many models it is in."""
    config = item.get("config")
    if depth > MAX_DEPTH or not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        raise UnportedError("a config without layers, or models in models without end")
    name = identifier(str(config.get("name") or "model"), set())
    for layer in config["layers"]:
        if not isinstance(layer, dict) or not isinstance(layer.get("class_name"), str):
            raise UnportedError("a layer without a class")
        if not isinstance(layer["config"], dict):
            raise UnportedError(f"the layer '{name_of(layer)[:80]}', whose config is no mapping")
    if is_foreign(item):
        said = f"'{name}' is of the class {item['class_name'][:80]}, which is none of Keras's own"
        reader.notes.add(f"{said}: its graph is ported, but not what the class makes of it")
    body = _Body(reader, depth)
    if item["class_name"] == "Sequential":
        body.sequential(config)
    else:
        body.functional(config)
    if not body.inputs or not (body.entries or reader.problems):
        raise UnportedError("a model without inputs or without layers")
    return body.model(name)


@dataclass
class _Body:
    """One model while its layers are read. For its fields see `Model`."""

    reader: Reader
    depth: int  # of the model in others
    taken: set[str] = field(default_factory=set)  # names of entries
    results: dict[tuple[str, int], str] = field(default_factory=dict)  # the entry that a layer's node became
    keys: dict[str, list[str]] = field(default_factory=dict)  # of the outputs of entries, in Keras's order
    sizes: dict[tuple[str, int], ShapeOf | SizeOf | Sizes] = field(default_factory=dict)  # by the nodes that give them
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    outputs: Any = None
    inner: dict[str, Model] = field(default_factory=dict)
    layers: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    arrays: list[tuple[str, str, NDArray[np.generic]]] = field(default_factory=list)
    operations: set[str] = field(default_factory=set)
    paddings: dict[str, str] = field(default_factory=dict)  # the entries of zeros before those of layers
    recorded_masks: dict[str, list[str | None]] = field(default_factory=dict)

    def model(self, name: str) -> Model:
        """The model, once it is read."""
        return Model(
            name,
            inputs=self.inputs,
            entries=self.entries,
            outputs=self.outputs,
            inner=self.inner,
            layers=self.layers,
            names=self.names,
            arrays=self.arrays,
            operations=self.operations,
            recorded_masks=self.recorded_masks,
        )

    # -- sequences -----------------------------------------------------------------------------------------------------

    def sequential(self, config: Mapping[str, Any]) -> None:
        """Reads layers that stand one after the other."""
        layers = config["layers"]
        self.reader.count_layers(len(layers))
        shape = config.get("build_input_shape") or next(
            (found for layer in layers[:1] if (found := batch_shape(layer)) is not None), None
        )
        if layers and layers[0]["class_name"] == "InputLayer":
            shape = batch_shape(layers[0]) or shape
        if shape is None:
            raise UnportedError("a Sequential model that was never built, so that the shape of its input is not known")
        if not isinstance(shape, list):
            first = f"'{name_of(layers[0])}' ({str(layers[0]['class_name'])[:80]})"
            what = f"a Sequential model whose inputs are a mapping, {', '.join(shape)[:80]}, which {first} takes"
            raise UnportedError(what, FEATURES)
        name = identifier(name_of(layers[0]) if layers[0]["class_name"] == "InputLayer" else "input", self.taken)
        self.inputs[name] = declared_input(layers[0], shape, self.reader.dialect.dtype)
        last = name
        for layer in layers:
            if layer["class_name"] == "InputLayer":
                continue
            last = self.layer(layer, [last])
        self.outputs = last

    # -- graphs --------------------------------------------------------------------------------------------------------

    def functional(self, config: Mapping[str, Any]) -> None:
        """Reads layers that call each other."""
        declared = config.get("input_layers")
        if self.depth:  # the order in which a call of the model gives them
            inputs = dict.fromkeys(name for _, (name, _, _) in nested_tensors(declared))
        else:
            inputs = dict.fromkeys(name for name, _, _ in tensors_in(declared))
        order = {name: place for place, name in enumerate(inputs)}
        layers = sorted(config["layers"], key=lambda layer: order.get(name_of(layer), -1))
        for layer in layers:
            if layer["class_name"] == "InputLayer":
                name = self.names[name_of(layer)] = identifier(name_of(layer), self.taken)
                shape = batch_shape(layer)
                if shape is None:
                    raise UnportedError(f"the input '{name_of(layer)}', whose shape is not known")
                self.inputs[name] = declared_input(layer, shape, self.reader.dialect.dtype)
                self.results[name_of(layer), 0] = name
        calls = {
            (name_of(layer), index): (layer, RecordedCall.of(layer, node))
            for layer in config["layers"]
            if layer["class_name"] != "InputLayer"
            for index, node in enumerate(layer.get("inbound_nodes") or [])
        }
        if not self.depth:
            self._note_inputs(declared)
        self.reader.count_layers(len(calls))
        for name, index in ordered(calls, self.results):
            layer, call = calls[name, index]
            self.results[name, index] = self.call(layer, index, call)
        # Keras 3 numbers the nodes of a model inside from 0 in calls, and from 1 in outputs: the first is its own
        if self.reader.dialect.generation > 2:
            models = {name_of(layer) for layer in config["layers"] if layer["class_name"] in GRAPHS}
            self.results = {(name, index + (name in models)): entry for (name, index), entry in self.results.items()}
        self.outputs = self._outputs(config.get("output_layers"))
        self._check_inputs()

    def _note_inputs(self, declared: Any) -> None:
        """Tells what inputs are called that the file nests, or gives by another name than their own."""
        for path, (layer, _, _) in nested_tensors(declared, is_sorted=False):
            name = self.names.get(layer)
            is_named = isinstance(declared, dict) and len(path) == 1
            if len(path) > 1 or (is_named and path[0] != name):
                place = "".join(f"[{key!r}]" for key in path)
                self.reader.notes.add(f"the input {place} is called '{name}'")

    def _check_inputs(self) -> None:
        """Marks the inputs that nothing uses, which Keras allows, and which a call of the model gives all the same."""
        used = {*names_in(self.outputs)}
        used.update(each for entry in self.entries for fields in entry.values() for each in fields["inputs"])
        used.update(mask for masks in self.recorded_masks.values() for mask in masks if mask is not None)
        for there, name in self.names.items() if not self.reader.problems else ():
            if name in self.inputs and name not in used:
                self.reader.notes.add(f"nothing uses the input '{there}', which the model takes all the same")
                self.inputs[name] = {**self.inputs[name], "unused": True}

    def _outputs(self, value: Any) -> Any:
        """The outputs of a spec: a name, a list of names, or a mapping to them; what is nested in these is flat."""
        # of the whole model as the file lists them; of one inside in the order in which Keras numbers them
        if self.depth and has_loose_keys(value):
            what = "outputs that nest mappings whose keys are in no order: which is which depends on how Keras was "
            raise UnportedError(f"{what}installed, with optree or without, and the file does not tell")
        outputs = [*nested_tensors(value, is_sorted=self.depth > 0)]
        names = [self.reference(tensor) for _, tensor in outputs]
        is_nested = any(len(path) > 1 for path, _ in outputs)
        if not isinstance(value, dict):
            if is_nested and not self.depth:
                places = ", ".join("".join(f"[{key!r}]" for key in path) for path, _ in outputs)
                self.reader.notes.add(f"the outputs, which the file nests, are one after the other: {places}")
            return names[0] if len(names) == 1 else names
        taken: set[str] = set()
        paths = sorted((path for path, _ in outputs), key=lambda path: len(path) > 1)  # those that are names come first
        by_path = {path: identifier("_".join(map(str, path)), taken) for path in paths}
        made = [by_path[path] for path, _ in outputs]
        for name, (path, _) in zip(made, outputs, strict=True) if not self.depth else ():
            if len(path) > 1:
                place = "".join(f"[{key!r}]" for key in path)
                self.reader.notes.add(f"the output {place}, which the file nests, is called '{name}'")
            elif name != path[0]:
                self.reader.notes.add(f"the output '{path[0]}' is called '{name}'")
        return dict(zip(made, names, strict=True))

    def reference(self, tensor: KerasTensor) -> str:
        """How an entry refers to a tensor."""
        layer, node, output = tensor
        if (layer, node) not in self.results:
            raise UnportedError(f"output {output} of call {node} of '{layer[:80]}', which nothing gives")
        entry = self.results[layer, node]
        if entry in self.keys:
            return f"{entry}.{self.keys[entry][output]}"
        return entry if output == 0 else f"{entry}.{output}"

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, layer: Mapping[str, Any], index: int, call: RecordedCall) -> str:
        """The entry of one call of a layer or an operation."""
        if self.reader.replacement(layer) is None and (is_function(layer) or is_operation(layer)):
            return self._operation_call(layer, index, call)
        return self._layer_call(layer, index, call)

    def _operation_call(self, layer: Mapping[str, Any], index: int, call: RecordedCall) -> str:
        """The entry of an operation's call; for a result that is a size, which has no entry, the operation's name."""
        dialect = self.reader.dialect
        try:
            if is_function(layer):
                result = function_of(layer, call.arguments, call.keywords, dialect, self.sizes)
            else:
                refuse_sizes(call.tensors, self.sizes)
                result = operation_of(layer, call.arguments, call.keywords, dialect, call.shapes)
            if isinstance(result, (ShapeOf, SizeOf, Sizes)):
                self.sizes[name_of(layer), index] = result
                return name_of(layer)
            name = short_name(layer) if is_function(layer) else name_of(layer)
            return self.operation(result, identifier(name, self.taken))
        except UnportedError as reason:
            self.reader.report(layer, reason)
            return identifier(name_of(layer), self.taken)

    def _layer_call(self, layer: Mapping[str, Any], index: int, call: RecordedCall) -> str:
        """The entry of a layer's call, or a model's: the layer itself at the first."""
        try:
            refuse_sizes(call.tensors, self.sizes)
        except UnportedError as reason:
            self.reader.report(layer, reason)
            return identifier(name_of(layer), self.taken)
        inputs = [*map(self.reference, call.tensors)]
        given = self._given(layer, call)
        if index == 0:
            name = self.layer(layer, inputs, given)
        else:
            first = self.names[name_of(layer)]
            name = identifier(f"{first.rstrip('_')}_{index + 1}", self.taken)
            if first in self.paddings:
                again = identifier(f"{name}_padding", self.taken)
                self.operations.add(again)
                self.entries.append({"call": {"layer": self.paddings[first], "inputs": inputs, "name": again}})
                inputs = [again]
            self.entries.append({"call": {"layer": first, "inputs": inputs, "name": name, **given}})
            if first in self.keys:
                self.keys[name] = self.keys[first]
        if any(call.masks):
            self.recorded_masks[name] = [mask and self.reference(mask) for mask in call.masks]
        return name

    def _given(self, layer: Mapping[str, Any], call: RecordedCall) -> dict[str, Any]:
        """What a call says besides its tensors, as fields; what can't be ported of it is reported."""
        cls = kind_of(layer["class_name"])
        fields = cls.call_fields if cls is not None else frozenset[str]()
        said = {key: value for key, value in call.keywords.items() if is_said(value)}
        given = {key: value for key, value in said.items() if key in fields}
        if given.get("reverse") and is_quantized(layer["config"]):
            self.reader.report(layer, UnportedError(f"its call in reverse rounds what it takes: {ADVICE}"))
        if strange := [key for key in said if key not in fields and key != "training"] or call.strays:
            self.reader.report(layer, UnportedError(f"its call with {str(strange[0])[:80]}"))
        training = call.keywords.get("training")
        try:
            note = note_on_training(layer, name_of(layer), training, self.reader.dialect.generation)
        except UnportedError as reason:
            self.reader.report(layer, reason)
        else:
            self.reader.notes.add(*([] if note is None else [note]))
        return given

    def operation(self, operand: Operand, name: str, own_name: str | None = None) -> str:
        """The reference to an operand, whose entry is added after those of its own operands.

        ``name`` is that of the whole operation, with which the names of its operands' entries begin.
        """
        if isinstance(operand, tuple):
            return self.reference(operand)
        own_name = own_name or name
        inputs = []
        for each in operand.inputs:
            other = own_name if isinstance(each, tuple) else identifier(f"{name}_{layer_name(each.kind)}", self.taken)
            inputs.append(self.operation(each, name, other))
        self.operations.add(own_name)
        self.reader.notes.add(*operand.notes)
        fields = {key: self._stored(own_name, key, value) for key, value in operand.fields.items()}
        for key, numbers in operand.weights.items():
            self._stored(own_name, key, Stored(numbers))
        fields = as_a_person_writes(KINDS[operand.kind], fields)
        self.entries.append({operand.kind: {"name": own_name, "inputs": inputs, **fields}})
        return own_name

    def _stored(self, name: str, key: str, value: Any) -> Any:
        """A field's value; an array in it becomes a weight of the entry, and leaves its shape in the field."""
        if isinstance(value, list):
            return [self._stored(name, f"{key}_{index}", each) for index, each in enumerate(value)]
        if not isinstance(value, Stored):
            return value
        try:
            array = np.asarray(value.numbers, "float32")
        except (ValueError, TypeError):
            raise UnportedError("an array whose lists differ in length") from None
        self.arrays.append((name, key, array))
        return {"shape": [*array.shape]}

    def _zeros_around(self, layer: Mapping[str, Any]) -> list[list[int]] | None:
        """The zeros that Theano puts around a layer's input, where that is another padding than the layer says."""
        dialect = self.reader.dialect
        return theano.padding_of(layer, dialect.generation) if dialect.backend == "theano" else None

    def _padded(self, name: str, kind: str, fields: dict[str, Any], inputs: list[str], sides: list[list[int]]) -> str:
        """The entry of zeros around the input of a layer, which has no padding of its own then."""
        del fields["padding"]
        self.paddings[name] = identifier(f"{name}_padding", self.taken)
        format_said = {key: value for key, value in fields.items() if key == "data_format"}
        zeros = {"padding": sides if len(sides) > 1 else sides[0], **format_said}
        self.operations.add(self.paddings[name])
        self.entries.append({f"ZeroPadding{len(sides)}D": {"name": self.paddings[name], "inputs": inputs, **zeros}})
        what = f"'{name}' was padded by Theano, which begins elsewhere with padding = same"
        self.reader.notes.add(f"{what}: its zeros are those of '{self.paddings[name]}'")
        return self.paddings[name]

    def layer(self, layer: Mapping[str, Any], inputs: list[str], given: Mapping[str, Any] | None = None) -> str:
        """The entry of a layer, or of a model inside; with what its call says."""
        name = identifier(name_of(layer), self.taken)
        self.names[name_of(layer)] = name
        self.reader.at = name_of(layer)
        if not is_operation(layer):  # which has no weights
            self.layers.append((name, layer))
        try:
            if layer["class_name"] in MODELS:
                inner = model_of(layer, self.reader, self.depth + 1)
                block = identifier(name[0].lower() + name[1:], self.reader.blocks)  # a capital marks a kind
                self.inner[name] = replace(inner, name=block)
                if isinstance(inner.outputs, dict):
                    self.keys[name] = [*inner.outputs]
                entry: Entry = {block: {"name": name, "inputs": inputs}}
            else:
                ((kind, fields),) = layer_of(layer, self.reader.dialect, self.reader.notes).items()
                if (sides := self._zeros_around(layer)) is not None:
                    inputs = [self._padded(name, kind, fields, inputs, sides)]
                entry = {kind: {"name": name, "inputs": inputs, **fields, **(given or {})}}
        except UnportedError as reason:
            self.reader.report(layer, reason)
            return name
        self.entries.append(entry)
        return name
