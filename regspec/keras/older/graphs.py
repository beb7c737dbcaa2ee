"""Models of Keras 2, sequences and graphs, as Keras 3 would write them: their inputs, and the calls of their layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from regspec.keras.configs.models import is_model
from regspec.keras.configs.values import Item, shortened
from regspec.keras.operations.tensorflow_nodes import NODE_CLASS, as_function_call


def sequence(config: Item) -> Item:
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


def graph(config: Item) -> Item:
    """A graph whose calls are written as Keras 3 writes them.

    Keras 2 numbers the calls of a model inside from one where that model begins with an input layer, because its own
    building is the first. A file refers to all its calls, so the least number in it tells.
    """
    layers = [_with_outputs_in_order(layer) for layer in _used(config)]
    names = {_name(layer) for layer in layers}
    graph = [layer.get("inbound_nodes") for layer in layers] + [config.get("output_layers")]
    firsts: dict[str, int] = {}
    for name, number, *_ in _references(graph, names):
        firsts[name] = min(number, firsts.get(name, number))
    models = {_name(layer) for layer in layers if is_model(layer.get("config"))}
    calls = _Calls(names, {name: firsts[name] for name in firsts.keys() & models})
    renewed = [
        {**layer, "inbound_nodes": [calls.renewed(node) for node in layer.get("inbound_nodes") or []]}
        for layer in layers
    ]
    renewed = [as_function_call(layer) if layer.get("class_name") == NODE_CLASS else layer for layer in renewed]
    return {**config, "layers": renewed, "output_layers": calls.renumbered(config.get("output_layers"))}


# Layers that measure a model's tensors, and what is computed for them alone.
MEASURING = frozenset({"AddMetric", "SlicingOpLambda", "TFOpLambda"})


def _used(config: Item) -> list[Item]:
    """The layers of a graph, without those that only a metric uses."""
    layers: dict[str, Item] = {_name(layer): layer for layer in config["layers"]}
    if not any(layer.get("class_name") in MEASURING for layer in layers.values()):
        return [*layers.values()] if len(layers) == len(config["layers"]) else config["layers"]
    rest = [layer for layer in layers.values() if layer.get("class_name") not in MEASURING]
    roots = [config.get("output_layers"), *(layer.get("inbound_nodes") for layer in rest)]
    waiting, used = [name for name, *_ in _references(roots, {*layers})], {_name(layer) for layer in rest}
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            waiting += [each for each, *_ in _references(layers[name].get("inbound_nodes"), {*layers})]
    return [layer for name, layer in layers.items() if name in used]


def _with_outputs_in_order(layer: Item) -> Item:
    """A model inside with its outputs in a list, by the order of their names, in which Keras numbers them."""
    config: Any = layer.get("config")
    outputs = config.get("output_layers") if is_model(config) else None
    if not isinstance(outputs, dict):
        return layer
    return {**layer, "config": {**config, "output_layers": [outputs[name] for name in sorted(outputs)]}}


class _Calls:
    """Calls in a graph with layers of these names, some of which are numbered from another number than zero."""

    def __init__(self, names: set[str], firsts: Mapping[str, int]) -> None:
        self.names = names
        self.firsts = firsts

    def renewed(self, node: Any) -> Item:
        """A call; Keras 2 keeps its keyword arguments with each of the tensors of its first argument."""
        keywords: Item = next((each[3] for each in self._arguments(node) if len(each) > 3), {})
        # a layer on one tensor takes it as it is, and not in a list
        first = node[0] if isinstance(node, list) and len(node) == 1 and isinstance(node[0], list) else node
        given = {name: self._tensors(shortened(value)) for name, value in keywords.items() if name != "name"}
        return {"args": [self._tensors(first)], "kwargs": given}

    def _arguments(self, value: Any) -> Iterator[list[Any]]:
        """The references and constants that a call's first argument is made of."""
        if _is_constant(value) or _is_reference(value, self.names):
            yield value
        elif isinstance(value, (list, dict)):
            for each in value.values() if isinstance(value, dict) else value:
                yield from self._arguments(each)

    def renumbered(self, value: Any) -> Any:
        """References to tensors, with the calls of each layer numbered from zero."""
        if _is_reference(value, self.names):
            return [value[0], value[1] - self.firsts.get(value[0], 0), *value[2:3]]
        if isinstance(value, list):
            return [self.renumbered(each) for each in value]
        return {name: self.renumbered(each) for name, each in value.items()} if isinstance(value, dict) else value

    def _tensors(self, value: Any) -> Any:
        """A structure of references as Keras 3's structure of tensors."""
        if _is_reference(value, self.names):
            return {"class_name": "__keras_tensor__", "config": {"keras_history": self.renumbered(value)}}
        if _is_constant(value):
            return shortened(value[2])
        if isinstance(value, list):
            return [self._tensors(each) for each in value]
        return {name: self._tensors(each) for name, each in value.items()} if isinstance(value, dict) else value


def _is_constant(value: Any) -> bool:
    """Whether a value stands for a number or an array in the place of a tensor."""
    return isinstance(value, list) and len(value) in (3, 4) and value[:2] == ["_CONSTANT_VALUE", -1]


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
