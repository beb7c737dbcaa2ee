"""A config of Keras 2, as tf.keras or alone, in the form of Keras 3; the rest of the port reads that form only.

What Keras 3 has no words for is written in those of a spec: `hard_sigmoid` with a slope. What a layer says that neither
has stays as it is, so that it is refused, by name, with the rest of what can't be ported.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from regspec.keras.dialect import Dialect

WRAPPED = ("layer", "backward_layer")  # the fields in which a wrapper has its layers
Item = dict[str, Any]


def renewed(item: Item, dialect: Dialect) -> Item:
    """A layer or a model of Keras 2 as Keras 3 would write it; its class as it was is ``written_as``, if it changed."""
    config = item.get("config")
    if isinstance(config, list):  # Sequential, before Keras 2.2.3
        config = {"name": item.get("name") or "sequential", "layers": config}
    if not isinstance(config, dict):
        return item
    if not _is_model(config):
        return {**item, **_layer(str(item.get("class_name")), config, dialect)}
    layers = named_parts(config["layers"])
    config = {**config, "layers": [renewed(each, dialect) if isinstance(each, dict) else each for each in layers]}
    return {**item, "config": _sequence(config) if item.get("class_name") == "Sequential" else _graph(config)}


def named_parts(layers: list[Any]) -> list[Any]:
    """Layers, of which those that are bare lists of others, and so have no name, have one."""
    return [
        {"name": f"part_{number}", **each} if isinstance(each, dict) and isinstance(each.get("config"), list) else each
        for number, each in enumerate(layers, 1)
    ]


def _is_model(config: Any) -> bool:
    return isinstance(config, dict) and isinstance(config.get("layers"), list)


def has_frozen_penalties(item: Any) -> bool:
    """Whether a weight that is frozen has a penalty, in a layer or a model, or in what is in it."""
    config = item.get("config") if isinstance(item, dict) else None
    if not isinstance(config, dict):
        return False
    slots = {key for key, value in config.items() if key.endswith("_regularizer") and value is not None}
    if config.get("trainable") is False and slots - {"activity_regularizer"}:
        return True
    inner = [*(config["layers"] if _is_model(config) else ()), *(config.get(key) for key in WRAPPED)]
    return any(has_frozen_penalties(each) for each in inner)


# -- models ------------------------------------------------------------------------------------------------------------


def _sequence(config: Item) -> Item:
    """A Sequential with the input layer that Keras 3 writes; without one where the input's shape is not known."""
    first = next(iter(config["layers"]), None)
    shape = _input_shape(config)
    if shape is None or not isinstance(first, dict) or first.get("class_name") == "InputLayer":
        return config
    own = first.get("config") or {}
    dtype = own.get("input_dtype", "int32" if first.get("class_name") in WHOLE else own.get("dtype"))
    given = {"name": f"{own.get('name', 'layer')}_input", "batch_shape": shape, "dtype": dtype}
    given = {"class_name": "InputLayer", "config": given}
    return {**config, "layers": [given, *config["layers"]]}


WHOLE = frozenset({"Embedding"})  # layers of whole numbers, whatever type they name


def _input_shape(config: Any) -> list[int | None] | None:
    """The shape of a Sequential's input, the batch's size with it: its own, or what its first layer says."""
    while isinstance(config, dict):
        for key in ("batch_shape", "batch_input_shape", "build_input_shape"):
            if isinstance(config.get(key), list):
                shape: list[int | None] = config[key]
                return shape
        layers = config.get("layers") or [None]
        config = layers[0].get("config") if isinstance(layers[0], dict) else None
    return None


def _graph(config: Item) -> Item:
    """A graph whose calls are written as Keras 3 writes them.

    Keras 2 counts the calls of a model inside from one where that model begins with an input layer, because its own
    building is the first. All calls in a file are referred to, so the least number that is tells.
    """
    layers: list[Item] = config["layers"]
    names = {_name(layer) for layer in layers}
    graph = [layer.get("inbound_nodes") for layer in layers] + [config.get("output_layers")]
    firsts: dict[str, int] = {}
    for name, number, *_ in _references(graph, names):
        firsts[name] = min(number, firsts.get(name, number))
    models = {_name(layer): layer["config"] for layer in layers if _is_model(layer.get("config"))}
    calls = _Calls(names, {name: firsts[name] for name in firsts.keys() & models})
    for model in models.values():  # whose inputs and outputs may have names, in whose order they are taken and counted
        model |= {key: _in_order(model[key]) for key in ("input_layers", "output_layers") if key in model}
    called = [
        {**layer, "inbound_nodes": [calls.renewed(node) for node in layer.get("inbound_nodes") or []]}
        for layer in layers
    ]
    return {**config, "layers": called, "output_layers": calls.counted(config.get("output_layers"))}


def _in_order(value: Any) -> Any:
    """What has names in the order of the names, as Keras flattens it."""
    return [value[name] for name in sorted(value)] if isinstance(value, dict) else value


class _Calls:
    """Calls in a graph with layers of these names, of which some are counted from another number than zero."""

    def __init__(self, names: set[str], firsts: Mapping[str, int]) -> None:
        self.names = names
        self.firsts = firsts

    def renewed(self, node: Any) -> Item:
        """A call: the tensors that its first argument is made of each have the other arguments."""
        keywords: Item = next((each[3] for each in _references(node, self.names) if len(each) > 3), {})
        # a layer on one tensor takes it as it is, and not in a list
        first = node[0] if isinstance(node, list) and len(node) == 1 and isinstance(node[0], list) else node
        given = {name: self._tensors(value) for name, value in keywords.items() if name != "name"}
        return {"args": [self._tensors(first)], "kwargs": given}

    def counted(self, value: Any) -> Any:
        """References to tensors, of which each call's number is counted from zero."""
        if _is_reference(value, self.names):
            return [value[0], value[1] - self.firsts.get(value[0], 0), *value[2:3]]
        if isinstance(value, list):
            return [self.counted(each) for each in value]
        return {name: self.counted(each) for name, each in value.items()} if isinstance(value, dict) else value

    def _tensors(self, value: Any) -> Any:
        """A structure of references as Keras 3's structure of tensors."""
        if _is_reference(value, self.names):
            return {"class_name": "__keras_tensor__", "config": {"keras_history": self.counted(value)}}
        if next(_references(value, self.names), None) is None:
            return value
        return [self._tensors(each) for each in _in_order(value)]


def _is_reference(value: Any, names: set[str]) -> bool:
    """Whether a value is ``[layer, call, output]``, with or without the call's other arguments."""
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and value[0] in names
        and all(isinstance(each, int) and not isinstance(each, bool) for each in value[1:3])
    )


def _references(value: Any, names: set[str]) -> Iterator[list[Any]]:
    """All references in a structure, those among the other arguments of a call too."""
    if _is_reference(value, names):
        yield value
        yield from _references(value[3:], names)
    elif isinstance(value, (list, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _references(each, names)


def _name(layer: Item) -> str:
    return str(layer.get("name") or (layer.get("config") or {}).get("name"))


# -- layers ------------------------------------------------------------------------------------------------------------

# What a class did where the file does not say it, and Keras 3 does otherwise.
DEFAULTS: dict[str, Item] = {"GRU": {"reset_after": False}, "GRUCell": {"reset_after": False}}
SINGLE = frozenset({"axis"})  # fields whose value may be a list of one
# Weights that a class has of its parent by name only: what is said of them has no effect.
INERT = {
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D", "DepthwiseConv1D", "DepthwiseConv2D"), ("kernel",)),
}
# Layers that are activation functions, which others may have as theirs: the function, and its fields by the layer's.
FUNCTIONS: dict[str, tuple[str, dict[str, str], Item]] = {
    "ELU": ("elu", {"alpha": "alpha"}, {}),
    "LeakyReLU": ("leaky_relu", {"alpha": "negative_slope"}, {}),
    "ReLU": ("relu", {name: name for name in ("max_value", "negative_slope", "threshold")}, {}),
    "Softmax": ("softmax", {"axis": "axis"}, {}),
    "ThresholdedReLU": ("threshold", {"theta": "threshold"}, {"default_value": 0.0}),
}
GONE = frozenset({"ThresholdedReLU"})  # of these, the layers that Keras 3 does not have
MERGED = frozenset({"Bidirectional"})  # wrappers whose penalty, before TensorFlow's Keras, was that of the layer inside
# Layers for one sort of hardware, and those that compute the same on any.
ADDED = frozenset({"CuDNNLSTM"})  # which have two biases where the others have their sum
ON_ANY: dict[str, tuple[str, Item]] = {"CuDNNGRU": ("GRU", {"reset_after": True}), "CuDNNLSTM": ("LSTM", {})}


def _layer(class_name: str, config: Item, dialect: Dialect) -> Item:
    """A layer's class and fields as Keras 3 has them."""
    if class_name in ON_ANY:
        same, given = ON_ANY[class_name]
        if class_name in ADDED and config.get("bias_regularizer") is not None:
            what = "two biases and a penalty on both; here it is on their sum, which is the layer's bias"
            dialect.note(f"'{config.get('name')}' is a {class_name}, with {what}")
        return {**_layer(same, {**given, **config}, dialect), "written_as": class_name}
    if class_name in GONE:
        activation = _activation({"class_name": class_name, "config": config})
        rest = {key: value for key, value in config.items() if key not in FUNCTIONS[class_name][1]}
        return {**_layer("Activation", rest, dialect), "config": {**rest, "activation": activation}}
    fields = {key: _field(key, value, dialect) for key, value in config.items()}
    for slot in INERT.get(class_name, ()):
        for ending in ("initializer", "regularizer", "constraint"):
            if fields.pop(f"{slot}_{ending}", None) and ending != "initializer":
                dialect.note(f"'{config.get('name')}' has a {slot}_{ending}, which Keras 2 ignores: it has no {slot}")
    if class_name in MERGED and dialect.is_standalone:
        fields = _with_inner_activity(fields)
    if fields.get("trainable") is False:
        fields |= {key: _frozen(fields[key]) for key in WRAPPED if fields.get(key)}
    for field in SINGLE & fields.keys():
        if isinstance(fields[field], list) and len(fields[field]) == 1:
            fields[field] = fields[field][0]
    return {"class_name": class_name, "config": {**DEFAULTS.get(class_name, {}), **fields}}


def _with_inner_activity(fields: Item) -> Item:
    """A wrapper with the penalty on what its layer gives as its own: on both directions' outputs, merged."""
    own = fields["layer"]["config"]
    inner = {**fields["layer"], "config": {**own, "activity_regularizer": None}}
    return {**fields, "layer": inner, "activity_regularizer": own.get("activity_regularizer")}


def _frozen(item: Item) -> Item:
    """A layer that is not trained, because that around it is not."""
    return {**item, "config": {**item["config"], "trainable": False}}


def _field(key: str, value: Any, dialect: Dialect) -> Any:
    """The value of a layer's field."""
    if key in (*WRAPPED, "cell") and isinstance(value, dict):
        return renewed(value, dialect)
    if key == "cells" and isinstance(value, list):
        return [renewed(each, dialect) if isinstance(each, dict) else each for each in value]
    if key == "dtype" and isinstance(value, dict):
        return (value.get("config") or {}).get("name")
    if key.endswith("activation"):
        return _activation(value)
    return shortened(value)


def _activation(value: Any) -> Any:
    """An activation function: its name, or a layer that is one."""
    if value == "hard_sigmoid":  # clip(0.2 * x + 0.5), where Keras 3 has relu6(x + 3) / 6
        return {"class_name": "hard_sigmoid", "config": {"slope": 0.2}}
    if isinstance(value, dict) and value.get("class_name") in FUNCTIONS and isinstance(value.get("config"), dict):
        function, names, fixed = FUNCTIONS[value["class_name"]]
        said = {names[key]: each for key, each in value["config"].items() if key in names and each is not None}
        return {"class_name": function, "config": {**shortened(said), **fixed}}
    return shortened(value)


def shortened(value: Any) -> Any:
    """A value with its numbers as the user wrote them: Keras 2 keeps 0.01 as float32, 0.009999999776482582."""
    if isinstance(value, float):
        for digits in range(1, 9):
            short = float(f"{value:.{digits}g}")
            if _single(short) == value:
                return short
        return value
    if isinstance(value, list):
        return [shortened(each) for each in value]
    return {key: shortened(each) for key, each in value.items()} if isinstance(value, dict) else value


def _single(value: float) -> float:
    """The nearest number in float32."""
    try:
        number: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return float("inf")
    return number
