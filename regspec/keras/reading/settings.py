"""What a config says of the whole model: where channels lie, in which precision it computes, and what its spec says."""

from __future__ import annotations

from typing import Any

from regspec.code.shapes import DataFormat, Precision
from regspec.keras.configs.dialect import Dialect, values_under
from regspec.keras.configs.kinds import kind_of
from regspec.keras.configs.models import layers_in
from regspec.keras.configs.notes import Notes
from regspec.keras.configs.precision import precision_of
from regspec.keras.formats.archive import Archive
from regspec.keras.older import keras2
from regspec.layers.families import Spatial
from regspec.text.problems import Problem, RegspecError

PENALTIES = ("ActivityRegularization",)  # layers that are a penalty on an output


def data_format_of(config: Any) -> DataFormat:
    """Where the channels lie in a model: last, unless all layers that say so say first."""
    formats = [
        layer["config"].get("data_format")
        for layer in layers_in(config)
        if (cls := kind_of(layer["class_name"])) is not None and issubclass(cls, Spatial)
    ]
    said = [each for each in formats if each is not None]
    return "channels_first" if said and all(each == "channels_first" for each in said) else "channels_last"


def precision_in(config: Any) -> Precision:
    """The type in which most layers keep their weights."""
    layers = (layer for layer in layers_in(config) if kind_of(layer["class_name"]) is not None)
    return precision_of(layer["config"].get("dtype") for layer in layers)


def is_frozen(config: Any) -> bool:
    """Whether a graph is frozen as a whole: Keras 3 heeds that of the outermost model, and none of a Sequential."""
    own = config.get("config")
    return config.get("class_name") != "Sequential" and isinstance(own, dict) and own.get("trainable") is False


def reduction_in(stored: Archive, dialect: Dialect) -> str:
    """Whether the version that wrote a file divided activity penalties by the batch size."""
    of_layers = any(value is not None for value in values_under(stored.config, "activity_regularizer"))
    classes = values_under(stored.config, "class_name")
    if not of_layers and not any(each in classes for each in PENALTIES):
        return "mean"
    if dialect.generation < 3:
        return "sum" if dialect.is_standalone else "mean"
    if dialect.version:
        return "mean" if dialect.version >= (3, 14) else "sum"
    if values_under(stored.config, "input_axes", "renorm", "use_gate"):
        return "mean"
    if values_under(stored.config, "quantization_config", "optional"):
        what = "has activity penalties, and does not tell whether its Keras divided them by the batch size"
        hint = "give activity_reduction: 'mean' for Keras 3.14 or newer, 'sum' for 3.13"
        raise RegspecError(Problem(what, hint, str(stored.path)))
    return "sum"


def settings_of(config: Any, dialect: Dialect, reduction: str, notes: Notes) -> dict[str, str]:
    """The settings of a spec that differ from their defaults, without its data format."""
    settings: dict[str, str] = {}
    if dialect.dtype != "float32":
        settings["dtype"] = dialect.dtype
    if reduction != "mean":
        settings["activity_reduction"] = reduction
    if dialect.generation < 3 and keras2.has_frozen_penalties(config):
        settings["frozen_penalties"] = "counted"
        notes.add("penalties of frozen weights count in the sum, as in Keras 2: frozen_penalties: counted")
    return settings
