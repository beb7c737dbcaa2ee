"""A config of Keras 2, as tf.keras or alone, in the form of Keras 3; the rest of the port reads that form only.

What Keras 3 has no words for is written in those of a spec: `hard_sigmoid` with a slope. What a layer says that neither
has stays as it is, so that it is refused, by name, with the rest of what can't be ported.
"""

from __future__ import annotations

from typing import Any

from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.models import is_model
from regspec.keras.configs.notes import Notes
from regspec.keras.configs.values import Item, UnportedError, shortened
from regspec.keras.older.graphs import WHOLE, graph, sequence

WRAPPED = ("layer", "backward_layer")  # the fields in which a wrapper has its layers


def renewed(item: Item, dialect: Dialect, notes: Notes) -> Item:
    """A layer or a model of Keras 2 as Keras 3 would write it; ``written_as`` keeps the old class of a layer.

    Raises:
        UnportedError: for an input of ragged tensors.
    """
    config = item.get("config")
    if isinstance(config, list):  # Sequential, before Keras 2.2.3
        config = {"name": item.get("name") or "sequential", "layers": config}
    if not isinstance(config, dict):
        return item
    if not is_model(config):
        return {**item, **_layer(str(item.get("class_name")), config, dialect, notes)}
    layers = with_names(config["layers"])
    layers = [renewed(each, dialect, notes) if isinstance(each, dict) else each for each in layers]
    config = {**config, "layers": layers}
    return {**item, "config": sequence(config) if item.get("class_name") == "Sequential" else graph(config)}


def with_names(layers: list[Any]) -> list[Any]:
    """Layers, of which those that are bare lists of others, and so have no name, have one."""
    return [
        {"name": f"part_{number}", **each} if isinstance(each, dict) and isinstance(each.get("config"), list) else each
        for number, each in enumerate(layers, 1)
    ]


def has_frozen_penalties(item: Any) -> bool:
    """Whether a weight that is frozen has a penalty, in a layer or a model, or in what is in it."""
    config = item.get("config") if isinstance(item, dict) else None
    if not isinstance(config, dict):
        return False
    slots = {key for key, value in config.items() if key.endswith("_regularizer") and value is not None}
    if config.get("trainable") is False and slots - {"activity_regularizer"}:
        return True
    inner = [*(config["layers"] if is_model(config) else ()), *(config.get(key) for key in WRAPPED)]
    return any(has_frozen_penalties(each) for each in inner)


# -- layers ------------------------------------------------------------------------------------------------------------

# Classes that compute what another does.
CLASSES = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "CuDNNGRU": "GRU",
    "CuDNNLSTM": "LSTM",
    "Custom>CustomScaleLayer": "CustomScaleLayer",
    "SyncBatchNormalization": "BatchNormalization",
}
# Defaults of a class, for fields that a file leaves out, where Keras 3 has others.
DEFAULTS: dict[str, Item] = {
    "CuDNNGRU": {"reset_after": True},
    "GRU": {"reset_after": False},
    "GRUCell": {"reset_after": False},
}
AVERAGING = frozenset({"BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2"})
IMAGES = (3, 4, [3], [4])  # axes of channels behind those of images or volumes, which have a kernel of their own
OPEN = (1, [1])  # axes of features, or of channels before those of images
ADDED = frozenset({"CuDNNLSTM"})  # with two biases, where the class that computes the same has their sum
RENAMED = {("Attention", "causal"): "use_causal_mask", ("AdditiveAttention", "causal"): "use_causal_mask"}
SAME = {("UpSampling2D", "interpolation", "area"): "nearest"}  # values that mean what another does
SINGLE = frozenset({"axis"})  # fields whose value may be a list of one
# Slots that a class inherits from its parent without having such a weight: their fields have no effect.
INERT = dict.fromkeys(("SeparableConv1D", "SeparableConv2D", "DepthwiseConv1D", "DepthwiseConv2D"), "kernel")
# Layers that are activation functions and that Keras 3 does not have, with what they say of the function.
GONE = {"ThresholdedReLU": ("theta",)}
RESIZING = {"RandomHeight": "height", "RandomWidth": "width"}  # layers that change their input in training alone
MERGED = frozenset({"Bidirectional"})  # wrappers whose penalty, before TensorFlow's Keras, was that of the layer inside
# Names that only old files, and people, write.
NAMES = {"maxnorm": "max_norm", "nonneg": "non_neg", "unitnorm": "unit_norm", "l1l2": "l1_l2"}


def _layer(class_name: str, config: Item, dialect: Dialect, notes: Notes) -> Item:
    """A layer's class and fields as Keras 3 has them, and its class as it was."""
    if class_name in GONE:
        own = {key: config[key] for key in GONE[class_name] if key in config}
        activation = {"class_name": class_name, "config": {**own, "trainable": True}}
        config = {**{key: value for key, value in config.items() if key not in own}, "activation": activation}
        return {**_layer("Activation", config, dialect, notes), "written_as": class_name}
    where = f"'{config.get('name')}'"
    if config.get("ragged") is True:
        raise UnportedError(f"the input {where} of ragged tensors")
    if class_name in RESIZING:
        notes.add(f"{where} changes the {RESIZING[class_name]} at random in training, which is left out")
        config = {key: config[key] for key in ("name", "trainable") if key in config}
        return {"class_name": "Identity", "config": config, "written_as": class_name}
    is_averaging = class_name in AVERAGING and config.get("trainable", True) and not dialect.is_standalone
    is_fused = is_averaging and config.get("axis") in IMAGES and config.get("dtype") != "float64"
    if is_averaging and config.get("axis") in OPEN:
        notes.add(
            f"in training, Keras 2 averages the unbiased variance of batches of images; that of {where}, whose axis is "
            "the first and may be of features, is biased here, as in Keras 3"
        )
    if class_name in ADDED and config.get("bias_regularizer") is not None:
        notes.add(f"{where} has two biases, and a penalty on both; here it is on their sum, which is the only bias")
    fields = {**DEFAULTS.get(class_name, {})}
    for key, value in config.items():
        field = RENAMED.get((class_name, key), key)
        fields[field] = _field(field, value, dialect, notes)
        if isinstance(value, str):
            fields[field] = SAME.get((class_name, field, value), fields[field])
    if is_fused:
        fields["moving_variance"] = "unbiased"
    if class_name in WHOLE and "int" in str(fields.get("dtype")):  # before Keras 2.1, of what it takes
        fields["dtype"] = None
    if class_name in INERT:
        fields = _without_slot(INERT[class_name], fields, where, notes)
    if class_name in MERGED and dialect.is_standalone:
        fields = with_inner_activity(fields)
    if fields.get("trainable") is False:
        fields |= {key: _frozen(fields[key]) for key in WRAPPED if fields.get(key)}
    for field in SINGLE & fields.keys():
        if isinstance(fields[field], list) and len(fields[field]) == 1:
            fields[field] = fields[field][0]
    return {"class_name": CLASSES.get(class_name, class_name), "config": fields, "written_as": class_name}


def _without_slot(slot: str, fields: Item, where: str, notes: Notes) -> Item:
    """The fields without what they say of a weight that the layer does not have."""
    for ending in ("regularizer", "constraint"):
        if fields.get(f"{slot}_{ending}") is not None:
            notes.add(f"{where} has a {slot}_{ending}, which Keras 2 ignores, because it has no {slot}")
    inert = {f"{slot}_{ending}" for ending in ("initializer", "regularizer", "constraint")}
    return {key: value for key, value in fields.items() if key not in inert}


def with_inner_activity(fields: Item) -> Item:
    """A wrapper that takes over its layer's activity penalty, for the merged outputs of both directions."""
    own = fields["layer"]["config"]
    inner = {**fields["layer"], "config": {**own, "activity_regularizer": None}}
    return {**fields, "layer": inner, "activity_regularizer": own.get("activity_regularizer")}


def _frozen(item: Item) -> Item:
    """A layer that is frozen because the layer around it is."""
    return {**item, "config": {**item["config"], "trainable": False}}


def _field(key: str, value: Any, dialect: Dialect, notes: Notes) -> Any:
    """The value of a layer's field."""
    if isinstance(value, dict) and value.get("class_name") == "__numpy__":  # a number, as Keras 2.12 writes some
        value = (value.get("config") or {}).get("value")
    if key in (*WRAPPED, "cell") and isinstance(value, dict):
        return renewed(value, dialect, notes)
    if key == "cells" and isinstance(value, list):
        return [renewed(each, dialect, notes) if isinstance(each, dict) else each for each in value]
    if key == "dtype" and isinstance(value, dict):
        return (value.get("config") or {}).get("name")
    if key.endswith("activation"):
        return _activation(value)
    if key.endswith(("_regularizer", "_constraint")):
        return _serialized(value)
    return shortened(value)


def _serialized(value: Any) -> Any:
    """A regularizer or a constraint: by its name alone, or with its arguments."""
    if not (isinstance(value, str) or (isinstance(value, dict) and "class_name" in value)):
        return value
    name, config = (value, None) if isinstance(value, str) else (str(value.get("class_name")), value.get("config"))
    name = NAMES.get(name, name)
    if name == "l1_l2" and not config:  # the function, with the strengths that it has where none are said
        config = {"l1": 0.01, "l2": 0.01}
    return {"class_name": name, "config": shortened(config)}


def _activation(value: Any) -> Any:
    """An activation function: its name, or a layer that is one."""
    if value == "hard_sigmoid":  # clip(0.2 * x + 0.5), where Keras 3 has relu6(x + 3) / 6
        return {"class_name": "hard_sigmoid", "config": {"slope": 0.2}}
    config = value.get("config") if isinstance(value, dict) else None
    if isinstance(config, dict) and "activation" in config:  # a layer that is the function that it has
        return {**value, "config": {**config, "activation": _activation(config["activation"])}}
    return shortened(value)
