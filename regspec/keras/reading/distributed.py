"""Models inside TimeDistributed: the same as a model in which TimeDistributed is around each layer.

Two ways were weighed: a wrapper that takes a block, with which a layer would hold a graph in every stage; or, as here,
one wrapper a layer, which is what the spec has words for, and what people write by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.models import MODELS, name_of
from regspec.keras.configs.values import Item, UnportedError
from regspec.keras.operations.functions import is_function
from regspec.keras.operations.recorded import is_operation
from regspec.keras.reading.nodes import RecordedCall

# Layers of several inputs that take each number by itself, and so also of all steps at once.
EACH_BY_ITSELF = frozenset({"Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract", "ActivityRegularization"})
# And those that name axes, which come after the steps.
OF_AXES = {"Concatenate": "axis", "Dot": "axes", "MultiHeadAttention": "attention_axes"}
# The same of Keras 3's operations, on tensors of one rank.
OPERATIONS = frozenset(
    (
        *("Absolute", "Add", "Ceil", "Clip", "Cos", "Divide", "Elu", "Equal", "Erf", "Exp", "Expm1", "Floor", "Gelu"),
        *("Greater", "GreaterEqual", "HardSigmoid", "HardSilu", "LeakyRelu", "Less", "LessEqual", "Log", "Log1p"),
        *("Maximum", "Minimum", "Multiply", "Negative", "NotEqual", "Power", "Reciprocal", "Relu", "Relu6", "Round"),
        *("Rsqrt", "Selu", "Sigmoid", "Sign", "Silu", "Sin", "Softplus", "Softsign", "Sqrt", "Square", "Subtract"),
        *("Tanh", "TrueDivide", "Where"),
    )
)
OPERATIONS_OF_AXES = {
    **dict.fromkeys(("Amax", "Amin", "Argmax", "Argmin", "Concatenate", "Flip", "LogSoftmax", "Max", "Mean"), "axis"),
    **dict.fromkeys(("Min", "Prod", "Softmax", "Squeeze", "Stack", "Std", "Sum", "Var", "ExpandDims"), "axis"),
    "Transpose": "axes",
}
ADDITIVE = frozenset({"L1", "L2", "L1L2", "l1", "l2", "l1_l2"})  # penalties of all steps that are the sum of each one's
WRAPPERS = frozenset({"TimeDistributed"})
HELD_IN = "layer"  # the group in which a file has what TimeDistributed holds


def distributed(item: Item, dialect: Dialect) -> Item:
    """A layer or a model of a config, with no model inside a TimeDistributed.

    ``held_in`` says of the models that were: where, in its own group, a file has such a model's arrays.

    Raises:
        UnportedError: for a model of layers that do not work on each step by itself.
    """
    config = item.get("config")
    if not isinstance(config, dict):
        return item
    if item.get("class_name") in MODELS and isinstance(config.get("layers"), list):
        layers = [distributed(each, dialect) if isinstance(each, dict) else each for each in config["layers"]]
        return {**item, "config": {**config, "layers": layers}}
    inner = config.get("layer")
    if item.get("class_name") not in WRAPPERS or not isinstance(inner, dict):
        return item
    inner = distributed(inner, dialect)
    if inner["class_name"] not in MODELS:
        return item
    name, own = name_of(item), inner["config"]
    is_frozen = dialect.generation < 3 and False in (config.get("trainable"), own.get("trainable"))
    layers = [_in_steps(each, name, dialect, is_frozen) for each in own["layers"]]
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


def _in_steps(layer: Item, name: str, dialect: Dialect, is_frozen: bool) -> Item:
    """A layer of the model inside the TimeDistributed of this name, with steps."""
    class_name, config = layer["class_name"], layer.get("config") or {}
    where = f"'{name}' (TimeDistributed): '{name_of(layer)}' ({class_name}) in the model that it holds"
    if class_name == "InputLayer":
        return {**layer, "config": {**config, **_longer(config)}}
    if is_operation(layer) or is_function(layer):
        return _operation_in_steps(layer, where)
    activity = config.get("activity_regularizer")
    if is_penalized := activity is not None or "l1" in config:
        _check_adds_up(activity, where, dialect)
    if is_frozen:
        config = {**config, "trainable": False}
    written = layer.get("written_as", class_name)
    if class_name in EACH_BY_ITSELF:
        return {**layer, "config": config}
    nodes = layer.get("inbound_nodes") or []
    calls = [RecordedCall.of(layer, node) for node in nodes]
    if class_name in OF_AXES and not any(any(each.masks) for each in calls):
        field = OF_AXES[class_name]
        return {**layer, "config": {**config, field: _after_steps(config.get(field, -1))}}
    if any(len(each.tensors) > 1 or any(each.masks) for each in calls):
        raise UnportedError(f"{where}, which takes several tensors")
    held = {key: value for key, value in layer.items() if key != "inbound_nodes"}
    said = {key: config[key] for key in ("name", "trainable", "dtype") if key in config}
    if is_penalized:  # of all steps of a batch, which Keras adds
        said, config = {**said, "activity_regularizer": activity}, {**config, "activity_regularizer": None}
    wrapper = {"class_name": "TimeDistributed", "config": {**said, "layer": {**held, "config": config}}}
    if class_name in MODELS:
        wrapper = distributed({**wrapper, "config": {**said, "layer": held}}, dialect)
        wrapper.pop("held_in")  # this one is the file's own
    return {**layer, **wrapper, "name": name_of(layer), "written_as": written}


def _check_adds_up(activity: Any, where: str, dialect: Dialect) -> None:
    """Raises `UnportedError` for a penalty on an output that is not the same of all steps as the sum of each one's.

    Keras 3 divides that of a step by the batch size, and so the sum; by what Keras 2 divides depends on how it is
    called: TensorFlow 2.15 by twice as much in a graph as eagerly.
    """
    kind = activity.get("class_name") if isinstance(activity, dict) else activity
    if kind is not None and kind not in ADDITIVE:
        raise UnportedError(f"{where}, with a penalty on its output that does not add up over the steps")
    if dialect.generation < 3:
        what = "which Keras 2 divides by one number or another, by how the model is called"
        raise UnportedError(f"{where}, with a penalty on its output, {what}")


def _operation_in_steps(layer: Item, where: str) -> Item:
    """An operation of Keras 3 on all steps at once."""
    class_name, config = layer["class_name"], layer.get("config") or {}
    nodes = layer.get("inbound_nodes") or []
    ranks = {len(shape) for node in nodes for shape in RecordedCall.of(layer, node).shapes.values() if shape}
    if is_function(layer) or len(ranks) > 1 or class_name not in (*OPERATIONS, *OPERATIONS_OF_AXES):
        raise UnportedError(f"{where}, an operation, whose axes are those of a step")
    if (field := OPERATIONS_OF_AXES.get(class_name)) is not None:
        axes = config.get(field)
        if axes is None:
            raise UnportedError(f"{where}, an operation over all axes")
        if field == "axes":  # all of them, and so the examples first
            moved = [0, 1, *(axis + 1 for axis in axes[1:])] if axes[:1] == [0] and min(axes) >= 0 else _after_steps(0)
        else:
            moved = _after_steps(axes)
        config = {**config, field: moved}
    return {**layer, "config": config, "inbound_nodes": [_with_steps(node) for node in nodes]}


def _with_steps(value: Any) -> Any:
    """A node with the shapes of its tensors as they are with steps."""
    if isinstance(value, list):
        return [_with_steps(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__keras_tensor__" and isinstance(value["config"].get("shape"), list):
        first, *rest = value["config"]["shape"]
        return {**value, "config": {**value["config"], "shape": [first, None, *rest]}}
    return {key: _with_steps(each) for key, each in value.items()}


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
