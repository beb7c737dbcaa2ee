"""Layers that Keras's torch backend computes otherwise than its TensorFlow backend, which is right.

The table says when, by kinds and families (see `regspec.keras.configs.kinds`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from regspec.code.shapes import Symbol, same_padding
from regspec.keras.configs.kinds import nearest
from regspec.layers.layer import Layer
from regspec.layers.nested import wanted
from regspec.layers.pooling import AveragePooling
from regspec.layers.preprocessing import Resizing
from regspec.layers.reshaping import UpSampling2D
from regspec.layers.wrappers import TimeDistributed


def differs_on_torch(layer: Layer, x: Symbol) -> bool:
    """Whether Keras's torch backend computes something else than its TensorFlow backend; ``x`` is the first input."""
    return nearest(DIFFERS, type(layer))(layer, x)


def _never(layer: Layer, x: Symbol) -> bool:
    return False


def _counts_padding(layer: AveragePooling, x: Symbol) -> bool:
    """Where padding is uneven, the torch backend counts padded cells in the mean; for a window of two it is right."""
    windows = [*zip(x.shape[2:], layer.pool_size, layer.steps, strict=True)]
    pads = [(0, 1) if size is None else same_padding(size, span, stride) for size, span, stride in windows]
    is_uneven = layer.padding == "same" and any(before != after for before, after in pads)
    return is_uneven and any(after and span > 2 for (_, after), span in zip(pads, layer.pool_size, strict=True))


def _is_bicubic(layer: Resizing | UpSampling2D, x: Symbol) -> bool:
    return layer.interpolation == "bicubic"


def _in_a_step(layer: TimeDistributed, x: Symbol) -> bool:
    step = Symbol((None, *x.shape[2:]), x.source, x.dtype)
    return differs_on_torch(layer.layer, wanted(layer.layer, step))


DIFFERS: Mapping[type[Layer], Callable[[Any, Symbol], bool]] = {
    Layer: _never,
    AveragePooling: _counts_padding,
    Resizing: _is_bicubic,
    TimeDistributed: _in_a_step,
    UpSampling2D: _is_bicubic,
}
