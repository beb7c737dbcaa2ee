"""Masks, from Masking and mask_zero or by name, through the layers that hand them on to those that read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import torch
from keras import layers
from torch import Tensor

pytestmark = pytest.mark.filterwarnings("ignore")  # Keras warns of masks that are destroyed


def tokens() -> Tensor:
    """Sequences with padding at the end, at the start and inside, without any, and one of nothing else."""
    x = torch.randint(1, 11, (5, 7))
    x[0, 4:] = 0
    x[1, :3] = 0
    x[2, 2:4] = 0
    x[3] = 0
    return x


def steps() -> Tensor:
    x = torch.randn(4, 7, 5)
    x[0, 5:] = 0
    x[1, [0, 3]] = 0
    return x


def embedded(*after: Any) -> Any:
    """A Sequential model: layers after an embedding whose index 0 is padding."""
    return keras.Sequential([keras.Input((7,), dtype="int32"), layers.Embedding(11, 6, mask_zero=True), *after])


def masked(*after: Any) -> Any:
    return keras.Sequential([keras.Input((7, 5)), layers.Masking(0.0), *after])


def attending(make: Callable[[], Any], **call: Any) -> Any:
    x = keras.Input((7,), dtype="int32")
    y = layers.Embedding(11, 6, mask_zero=True)(x)
    z = make()(y, y, **call) if "Head" in make().name or "group" in make().name else make()([y, y], **call)
    return keras.Model(x, layers.GlobalAveragePooling1D()(layers.Dense(4)(z)))


def merged(merge: Any, *, both: bool = True) -> Any:
    x = keras.Input((7,), dtype="int32")
    first = layers.Embedding(11, 6, mask_zero=True)(x)
    second = layers.Embedding(11, 6, mask_zero=both)(x)
    return keras.Model(x, layers.GlobalAveragePooling1D()(merge([first, second])))
