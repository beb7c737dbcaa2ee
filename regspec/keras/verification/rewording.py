"""Configs of older Keras in the words of tf_keras, which is the reference of Keras 2.

It has other defaults than they, and its layers for cuDNN run on no CPU; its loader of weights makes those of the layers
that compute the same.
"""

from __future__ import annotations

from typing import Any

GATED = ("GRU", "GRUCell")  # which had no reset_after at first, and did what it does with false
# Layers for cuDNN: the layer that computes the same, and what it must say.
CUDNN: dict[str, tuple[str, dict[str, Any]]] = {
    "CuDNNGRU": ("GRU", {"reset_after": True}),
    "CuDNNLSTM": ("LSTM", {}),
}


def reworded(value: Any) -> Any:
    """A config, or a part of it, in which tf_keras reads what was meant; the same where it does so anyway."""
    if isinstance(value, list):
        return [reworded(each) for each in value]
    if not isinstance(value, dict):
        return value
    value = {key: reworded(each) for key, each in value.items()}
    name, config = value.get("class_name"), value.get("config")
    if not isinstance(name, str) or not isinstance(config, dict):
        return value
    if name in CUDNN:
        other, said = CUDNN[name]
        return {**value, "class_name": other, "config": {**config, **said}}
    return {**value, "config": {"reset_after": False, **config}} if name in GATED else value


def saved_again(value: Any) -> Any:
    """A config in the form of Keras 3, whose arrays are read from what tf_keras saves of the reworded one."""
    if isinstance(value, list):
        return [saved_again(each) for each in value]
    if not isinstance(value, dict):
        return value
    value = {key: saved_again(each) for key, each in value.items()}
    return {**value, "written_as": value.get("class_name")} if value.get("written_as") in CUDNN else value
