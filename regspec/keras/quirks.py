"""What a Keras does with a config that nobody can have wanted: done too, or set right, and named in a note."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from regspec.keras.dialect import Dialect
from regspec.keras.values import UnportedError

Config = dict[str, Any]


def heeded(class_name: str, config: Config, dialect: Dialect) -> Config:
    """A layer's config as its Keras heeds it; or, where quirks are not kept, as it was meant."""
    quirk = QUIRKS.get((dialect.generation, class_name))
    return config if quirk is None else quirk(config, dialect)


def _unheard(config: Config, dialect: Dialect) -> Config:
    """Without the penalty on the output of a layer inside: Keras 3 calls it so that none is added."""
    inner = config.get("layer") or {}
    own = inner.get("config")
    if not isinstance(own, dict) or own.get("activity_regularizer") is None:
        return config
    where = f"'{config.get('name')}' wraps a layer with an activity_regularizer, which Keras 3 never applies there"
    if not dialect.keeps_quirks:
        dialect.note(f"{where}; here it is")
        return config
    dialect.note(f"{where}, and so it is left out; keeps_quirks=False applies it")
    return {**config, "layer": {**inner, "config": {**own, "activity_regularizer": None}}}


def _off_center(config: Config, dialect: Dialect) -> Config:
    """As it is now: before TensorFlow 2, images were enlarged so that they moved."""
    if not dialect.is_standalone or config.get("interpolation", "nearest") == "nearest":
        return config
    what = f"the interpolation {config['interpolation']} of Keras before TensorFlow 2, which moves the image"
    if dialect.keeps_quirks:
        raise UnportedError(f"{what}; keeps_quirks=False ports it as it is now")
    dialect.note(f"'{config.get('name')}' has {what}; here it does not")
    return config


QUIRKS: dict[tuple[int, str], Callable[[Config, Dialect], Config]] = {
    (2, "UpSampling2D"): _off_center,
    (3, "TimeDistributed"): _unheard,
}
