"""Layers of Keras 1 that are a few layers of Keras 3: each becomes a model of these, in the form of Keras 3.

Others say less than their arrays do: which axes share the numbers of a PReLU.

- MaxoutDense: the largest of several dense layers, max over f of x @ W[f] + b[f].
- Highway: t * activation(x @ W + b) + (1 - t) * x, where t = sigmoid(x @ W_carry + b_carry). Its penalties and
  constraints are on W and b alone, as Keras 1 has them.
- Merge with the mode cos: the cosine of two vectors, of the shape (examples, 1, 1), which is what Keras 1 computes,
  though it takes it for (examples, 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from regspec.keras.arrays.files import ArrayFile
from regspec.keras.configs.values import Item, UnportedError

SHAPE = [None, None]  # of their input: examples, features
OF_WEIGHTS = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
OF_BIAS = ("bias_regularizer", "bias_constraint")


def composed(item: Item, arrays: ArrayFile | None) -> Item:
    """A layer or a model of a config, in which such layers are models; ``arrays`` are those of the file.

    Raises:
        UnportedError: for a highway whose size nothing tells.
    """
    config = item.get("config")
    if not isinstance(config, dict):
        return item
    if isinstance(config.get("layers"), list):
        layers = [composed(each, arrays) if isinstance(each, dict) else each for each in config["layers"]]
        return {**item, "config": {**config, "layers": layers}}
    if isinstance(config.get("layer"), dict):
        return {**item, "config": {**config, "layer": composed(config["layer"], arrays)}}
    make = COMPOSED.get(str(item.get("class_name")))
    return item if make is None else {**item, **make(config, arrays)}


def _maxout(config: Item, arrays: ArrayFile | None) -> Item:
    said = _some(config, *OF_WEIGHTS, "trainable", *(OF_BIAS if config.get("use_bias", True) else ()))
    several = {
        **said,
        "name": "several",
        "equation": "bi,fio->bfo",
        "output_shape": [config.get("nb_feature", 4), config["units"]],
        "bias_axes": "fo" if config.get("use_bias", True) else None,
    }
    largest = {"name": "largest", **_some(config, "activity_regularizer")}
    layers = [_layer("EinsumDense", several), _layer("GlobalMaxPooling1D", largest)]
    return {"class_name": "Sequential", "config": {**_head(config), "build_input_shape": SHAPE, "layers": layers}}


def _highway(config: Item, arrays: ArrayFile | None) -> Item:
    shape = config.get("batch_input_shape") or [None]
    datasets = [] if arrays is None or not arrays.is_legacy else arrays.of_layer(str(config.get("name")))
    units = shape[-1] or next((each.shape[-1] for each in datasets), None)
    if units is None:
        raise UnportedError(f"'{config.get('name')}' (Highway), of whose size only its weights tell, which are missing")
    both = {"units": units, "use_bias": config.get("use_bias", True), **_some(config, "trainable")}
    carried = {**both, **_some(config, *OF_WEIGHTS, *OF_BIAS, "activation"), "name": "carried"}
    start = {"class_name": "Constant", "config": {"value": config.get("transform_bias", -2)}}
    gate = {**both, "name": "gate", "activation": "sigmoid", "bias_initializer": start}
    result = {"name": "result", "activation": "linear", **_some(config, "activity_regularizer")}
    layers = [
        _layer("InputLayer", {"name": "given", "batch_shape": SHAPE}),
        _layer("Dense", carried, "given"),
        _layer("Dense", gate, "given"),
        _layer("Subtract", {"name": "change"}, "carried", "given"),
        _layer("Multiply", {"name": "gated"}, "gate", "change"),
        _layer("Add", {"name": "sum"}, "given", "gated"),
        _layer("Activation", result, "sum"),
    ]
    ends = {"input_layers": [["given", 0, 0]], "output_layers": [["result", 0, 0]]}
    return {"class_name": "Functional", "config": {**_head(config), "layers": layers, **ends}}


def _merged(config: Item, arrays: ArrayFile | None) -> Item:
    if config.get("mode") != "cos":
        return {}
    layers = [
        *(_layer("InputLayer", {"name": name, "batch_shape": SHAPE}) for name in ("one", "other")),
        _layer("Dot", {"name": "cosine", "axes": config.get("dot_axes", -1), "normalize": True}, "one", "other"),
        _layer("Reshape", {"name": "result", "target_shape": [1, 1]}, "cosine"),
    ]
    ends = {"input_layers": [["one", 0, 0], ["other", 0, 0]], "output_layers": [["result", 0, 0]]}
    return {"class_name": "Functional", "config": {**_head(config), "layers": layers, **ends}}


def _shared(config: Item, arrays: ArrayFile | None) -> Item:
    """The layer with the axes that share its numbers, of which its arrays alone tell, by sizes of one."""
    datasets = [] if arrays is None or not arrays.is_legacy else arrays.of_layer(str(config.get("name")))
    axes = [axis for axis, size in enumerate(datasets[0].shape, 1) if size == 1] if datasets else []
    return {"config": {**config, "shared_axes": axes}} if axes else {}


COMPOSED: dict[str, Callable[[Item, ArrayFile | None], Item]] = {
    "MaxoutDense": _maxout,
    "Highway": _highway,
    "Merge": _merged,
    **dict.fromkeys(("PReLU", "SReLU", "ParametricSoftplus"), _shared),
}


def _head(config: Item) -> Item:
    """What a model has of the layer that it stands for."""
    return _some(config, "name", "batch_input_shape", "trainable")


def _some(config: Item, *keys: str) -> Item:
    return {key: config[key] for key in keys if key in config}


def _layer(class_name: str, config: Item, *inputs: str) -> Item:
    """A layer of such a model, called on layers of these names."""
    tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [each, 0, 0]}} for each in inputs]
    given: Any = tensors if len(tensors) == 1 else [tensors]
    nodes = {"inbound_nodes": [{"args": given, "kwargs": {}}] if inputs else []}
    return {"module": "keras.layers", "class_name": class_name, "name": config["name"], "config": config, **nodes}
