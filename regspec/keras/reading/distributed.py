"""Models inside TimeDistributed: the same as a model in which TimeDistributed is around each layer.

Two ways were weighed: a wrapper that takes a block, with which a layer would hold a graph in every stage; or, as here,
one wrapper a layer, which is what the spec has words for, and what people write by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regspec.keras.configs.models import MODELS, name_of
from regspec.keras.configs.values import Item, UnportedError
from regspec.keras.operations.functions import is_function
from regspec.keras.operations.recorded import is_operation
from regspec.keras.reading.nodes import RecordedCall

# Layers of several inputs that take each number by itself, and so also of all steps at once.
EACH_BY_ITSELF = frozenset({"Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"})
OF_AXES = {"Concatenate": "axis", "Dot": "axes"}  # and those that name axes, which come after the steps
WRAPPERS = frozenset({"TimeDistributed"})
HELD_IN = "layer"  # the group in which a file has what TimeDistributed holds


def distributed(item: Item, generation: int) -> Item:
    """A layer or a model of a config, with no model inside a TimeDistributed.

    ``held_in`` says of the models that were: where, in its own group, a file has such a model's arrays.

    Raises:
        UnportedError: for a model of layers that do not work on each step by itself.
    """
    config = item.get("config")
    if not isinstance(config, dict):
        return item
    if item.get("class_name") in MODELS and isinstance(config.get("layers"), list):
        layers = [distributed(each, generation) if isinstance(each, dict) else each for each in config["layers"]]
        return {**item, "config": {**config, "layers": layers}}
    inner = config.get("layer")
    if item.get("class_name") not in WRAPPERS or not isinstance(inner, dict):
        return item
    inner = distributed(inner, generation)
    if inner["class_name"] not in MODELS:
        return item
    name, own = name_of(item), inner["config"]
    is_frozen = generation < 3 and False in (config.get("trainable"), own.get("trainable"))
    layers = [_in_steps(each, name, generation, is_frozen) for each in own["layers"]]
    shape = own.get("build_input_shape")
    shapes = {"build_input_shape": [*shape[:1], None, *shape[1:]]} if isinstance(shape, list) else {}
    made = {**own, **shapes, "name": name, "layers": layers}
    return {
        **item,
        "class_name": inner["class_name"],
        "config": made,
        "written_as": "TimeDistributed",
        "held_in": "/".join([HELD_IN, *([inner["held_in"]] if "held_in" in inner else [])]),
    }


def _in_steps(layer: Item, name: str, generation: int, is_frozen: bool) -> Item:
    """A layer of the model inside the TimeDistributed of this name, with steps."""
    class_name, config = layer["class_name"], layer.get("config") or {}
    where = f"'{name_of(layer)}' ({class_name}) in the model that it holds"
    if class_name == "InputLayer":
        return {**layer, "config": {**config, **_longer(config)}}
    if is_operation(layer) or is_function(layer):
        raise UnportedError(f"'{name}' (TimeDistributed): {where}, an operation, whose axes are those of a step")
    if config.get("activity_regularizer") is not None:
        raise UnportedError(
            f"'{name}' (TimeDistributed): {where}, with a penalty on its output, which adds up over the steps"
        )
    if is_frozen:
        config = {**config, "trainable": False}
    written = layer.get("written_as", class_name)
    if class_name in EACH_BY_ITSELF:
        return {**layer, "config": config}
    if class_name in OF_AXES:
        field = OF_AXES[class_name]
        return {**layer, "config": {**config, field: _after_steps(config.get(field, -1))}}
    nodes = layer.get("inbound_nodes") or []
    calls = [RecordedCall.of(layer, node) for node in nodes]
    if any(len(each.tensors) > 1 or any(each.masks) for each in calls):
        raise UnportedError(f"'{name}' (TimeDistributed): {where}, which takes several tensors")
    held = {key: value for key, value in layer.items() if key != "inbound_nodes"}
    said = {key: config[key] for key in ("name", "trainable", "dtype") if key in config}
    wrapper = {"class_name": "TimeDistributed", "config": {**said, "layer": {**held, "config": config}}}
    if class_name in MODELS:
        wrapper = distributed({**wrapper, "config": {**said, "layer": held}}, generation)
        wrapper.pop("held_in")  # this one is the file's own
    return {**layer, **wrapper, "name": name_of(layer), "written_as": written}


def _longer(config: Mapping[str, Any]) -> Item:
    """The shape of an input, with steps."""
    shapes = {key: config[key] for key in ("batch_shape", "batch_input_shape") if isinstance(config.get(key), list)}
    return {key: [*shape[:1], None, *shape[1:]] for key, shape in shapes.items()}


def _after_steps(axes: Any) -> Any:
    """Axes, one or several, counted with the steps."""
    if isinstance(axes, list):
        return [_after_steps(each) for each in axes]
    if axes == 0:
        raise UnportedError("a layer inside TimeDistributed that puts examples together")
    return axes + 1 if isinstance(axes, int) and axes > 0 else axes
