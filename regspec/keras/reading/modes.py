"""Calls that say whether they are in training, as ``layer(x, training=True)`` does, and what a port can make of that.

Keras 2 heeds them whatever the model does: dropout that is called with training=True is never off, and a batch
normalization that is called with training=False never takes the batch's statistics. Keras 3 heeds them only where the
model itself is called without training=, as neither fit nor predict do; and it writes training=False by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from regspec.keras.configs.kinds import kind_of, nearest
from regspec.keras.configs.values import UnportedError
from regspec.layers.dropout import Noise
from regspec.layers.layer import Layer
from regspec.layers.normalization import BatchNormalization
from regspec.layers.spectral import SpectralNormalization

Config = Mapping[str, Any]

# Fields of layers that are random in training, unless these are zero.
RATES = ("dropout", "recurrent_dropout", "rate", "stddev", "drop_path_rate")
HELD = ("layer", "backward_layer", "cell", "cells", "layers")  # where a layer or a model keeps others


def note_on_training(layer: Mapping[str, Any], name: str, value: Any, generation: int) -> str | None:
    """What a call with training= makes of a layer, or a model, in this generation of Keras, if the port does otherwise.

    Raises:
        UnportedError: where the port would be wrong in evaluation.
    """
    own = None if value is None else next(_changing(layer), None)
    if own is None:
        return None
    said = f"'{name}' is called with training={str(value)[:80]}"
    if generation > 2:
        if not value:
            return None
        where = "which Keras 3 heeds where the model is called without training=, but neither in fit nor in predict"
        return f"{said}, {where}; in the port it follows train() and eval()"
    if value in (False, 0):
        what = f"so that in Keras 2 '{own}' does in training what it does in evaluation"
        return f"{said}, {what}; in the port it follows train() and eval()"
    raise UnportedError(f"its call with training={str(value)[:80]}: '{own}' does in evaluation what is for training")


def _changing(item: Any) -> Iterator[str]:
    """The names of the layers that compute otherwise in training: a layer, or those that it, or a model, holds."""
    config = item.get("config") if isinstance(item, dict) else None
    if not isinstance(config, dict):
        return
    cls = kind_of(str(item.get("class_name")))
    rates = [config[key] for key in RATES if config.get(key) is not None]
    if any(rates) or (not rates and cls is not None and nearest(IN_TRAINING, cls)(config)):
        yield str(config.get("name") or item["class_name"])
    for key in HELD:
        inner = config.get(key)
        for each in inner if isinstance(inner, list) else [inner]:
            yield from _changing(each)


def _never(config: Config) -> bool:
    return False


def _always(config: Config) -> bool:
    return True


def _unless_frozen(config: Config) -> bool:
    """One that is frozen keeps its statistics."""
    return config.get("trainable") is not False


# Whether a layer without rates computes otherwise in training, by kinds and families (see `configs.kinds`).
IN_TRAINING: Mapping[type[Layer], Callable[[Config], bool]] = {
    Layer: _never,
    BatchNormalization: _unless_frozen,
    Noise: _always,
    SpectralNormalization: _always,
}
