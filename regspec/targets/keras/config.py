"""A network's calls in Keras as the config of its file: plain data, as ``model.get_config()`` gives it.

It says what differs from Keras's defaults, so that every version that knows the layers reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regspec.targets.keras.network import Call, Function, Key, Network, Numbers, Object, Operation, Tensor, tensors_in
from regspec.targets.keras.order import ordered

Config = dict[str, Any]


def config_of(network: Network) -> Config:
    """The model as a file has it, with class and config."""
    return _made("src.models.functional", "Functional", _functional(network), "Functional")


def _functional(network: Network) -> Config:
    history: dict[Tensor, tuple[str, int, int]] = {x: (x.name, 0, 0) for x in network.inputs}
    calls: dict[str, list[Call]] = {}
    for call in network.calls:
        own = calls.setdefault(call.layer, [])
        history |= {x: (call.layer, len(own), index) for index, x in enumerate(tensors_in(call.outputs))}
        own.append(call)
    inputs = {x.name: x for x in network.inputs}
    layers = [
        _input(inputs[name]) if name in inputs else _layer(name, calls[name], history) for name in ordered(network)
    ]
    models = {name for name, own in calls.items() if isinstance(own[0].made, Network)}

    def place(x: Tensor) -> list[Any]:
        """Where a tensor comes from; the outputs of a model inside are numbered from 1 here, and from 0 in calls."""
        layer, node, index = history[x]
        return [layer, node + (layer in models), index]

    return {
        "name": network.called,
        "trainable": True,
        "layers": layers,
        "input_layers": place(network.inputs[0]) if len(network.inputs) == 1 else [*map(place, network.inputs)],
        "output_layers": _mapped(network.outputs, place),
    }


def _made(module: str, name: str, config: Config, registered: str | None = None) -> Config:
    return {"module": f"keras.{module}", "class_name": name, "config": config, "registered_name": registered}


def _input(x: Tensor) -> Config:
    config = {"batch_shape": [*x.shape], "dtype": x.dtype, "name": x.name}
    return {**_made("layers", "InputLayer", config), "name": x.name, "inbound_nodes": []}


def _layer(name: str, calls: list[Call], history: Mapping[Tensor, tuple[str, int, int]]) -> Config:
    """A layer with its calls."""
    made = calls[0].made
    assert made is not None  # by its first call
    own = config_of(made) if isinstance(made, Network) else _value(made, history)
    if isinstance(made, Operation):
        own["config"]["name"] = name
    nodes = [
        {
            "args": [_value(each, history) for each in call.arguments],
            "kwargs": {key: _value(each, history) for key, each in call.keywords.items()},
        }
        for call in calls
    ]
    return {**own, "name": name, "inbound_nodes": nodes}


def _value(value: Any, history: Mapping[Tensor, tuple[str, int, int]]) -> Any:
    """An argument as JSON has it."""
    match value:
        case Tensor():
            config = {"shape": [*value.shape], "dtype": value.dtype, "keras_history": [*history[value]]}
            return {"class_name": "__keras_tensor__", "config": config}
        case Object():
            given = {name: _value(each, history) for name, each in value.arguments.items()}
            return _made(value.module, value.name, given)
        case Operation():
            given = {name: _value(each, history) for name, each in value.arguments.items()}
            return _made(f"src.ops.{value.module}", value.name, given, value.name)
        case Numbers():
            return {"class_name": "__numpy__", "config": {"value": value.values, "dtype": value.dtype}}
        case Key():
            return [*map(_item, value.items)]
        case Function():
            return _made(value.module, "function", value.name, value.name)  # type: ignore[arg-type]  # its name
        case list() | tuple():
            return [_value(each, history) for each in value]
        case dict():
            return {key: _value(each, history) for key, each in value.items()}
    return value


def _item(item: Any) -> Any:
    """What is between commas in brackets."""
    if item is ...:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(item, slice):
        return {"class_name": "__slice__", "config": {"start": item.start, "stop": item.stop, "step": item.step}}
    return item


def _mapped(value: Any, place: Any) -> Any:
    """A structure of tensors with others in their place."""
    if isinstance(value, Tensor):
        return place(value)
    if isinstance(value, dict):
        return {key: _mapped(each, place) for key, each in value.items()}
    return [_mapped(each, place) for each in value]
