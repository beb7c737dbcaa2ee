"""Configs of older Keras in the words of tf_keras, which is the reference of Keras 2.

It has other defaults than they, and its layers for cuDNN run on no CPU; its loader of weights makes those of the layers
that compute the same.
"""

from __future__ import annotations

from typing import Any

from regspec.keras.older.keras2 import MERGED, with_inner_activity

GATED = ("GRU", "GRUCell")  # which had no reset_after at first, and did what it does with false
ENGINE = "keras.engine."
# Layers for cuDNN: the layer that computes the same, and what it must say.
CUDNN: dict[str, tuple[str, dict[str, Any]]] = {
    "CuDNNGRU": ("GRU", {"reset_after": True}),
    "CuDNNLSTM": ("LSTM", {}),
}


def reworded(value: Any, *, is_standalone: bool) -> Any:
    """A config, or a part of it, in which tf_keras reads what was meant; the same where it does so anyway.

    Before TensorFlow had Keras (``is_standalone``), the penalty of the layer in a Bidirectional was that of its output.
    """
    if isinstance(value, list):
        return [reworded(each, is_standalone=is_standalone) for each in value]
    if not isinstance(value, dict):
        return value
    value = {key: reworded(each, is_standalone=is_standalone) for key, each in value.items()}
    name, config = value.get("class_name"), value.get("config")
    if str(value.get("module")).startswith(ENGINE):  # of 2.12, which tf_keras has elsewhere
        value["module"] = value["module"].replace(ENGINE, "keras.src.engine.", 1)
    if not isinstance(name, str) or not isinstance(config, dict):
        return value
    if name == "__numpy__" and "value" in config:  # a number, as 2.12 writes some
        return config["value"]
    if name in CUDNN:
        other, said = CUDNN[name]
        return {**value, "class_name": other, "config": {**config, **said}}
    if name in MERGED and is_standalone:
        return {**value, "config": with_inner_activity(config)}
    return {**value, "config": {"reset_after": False, **config}} if name in GATED else value


def saved_again(value: Any) -> Any:
    """A config in the form of Keras 3, whose arrays are read from what tf_keras saves of the reworded one."""
    if isinstance(value, list):
        return [saved_again(each) for each in value]
    if not isinstance(value, dict):
        return value
    value = {key: saved_again(each) for key, each in value.items()}
    return {**value, "written_as": value.get("class_name")} if value.get("written_as") in CUDNN else value
