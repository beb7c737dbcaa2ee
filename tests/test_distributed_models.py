"""Models inside TimeDistributed: Keras's outputs, penalties, gradients and statistics, from either form of file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from keras import layers

import regspec
from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.values import UnportedError
from regspec.keras.reading.distributed import distributed

from .layers import reference

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras, when it saves


def images() -> Any:
    return keras.Sequential(
        [
            layers.Input((6, 5, 3)),
            layers.Conv2D(2, (3, 2), kernel_regularizer="l2"),
            layers.BatchNormalization(momentum=0.8, gamma_regularizer="l1"),
            layers.Conv2D(3, 1, trainable=False),
            layers.Flatten(),
            layers.Dense(3),
        ],
        name="cnn",
    )


def branches() -> Any:
    x = keras.Input((6, 5, 3))
    a = layers.Conv2D(4, (3, 2), padding="same")(x)
    b = layers.Conv2D(4, 1)(layers.DepthwiseConv2D(3, padding="same")(x))
    y = layers.Concatenate(axis=1)([a, b])
    y = layers.Add()([y, layers.LayerNormalization()(y)])
    return keras.Model(x, layers.GlobalAveragePooling2D()(y))


def in_a_model() -> Any:
    return keras.Sequential([layers.Input((6, 5, 3)), images(), layers.Dense(2, kernel_regularizer="l1")])


def in_steps() -> Any:
    return layers.TimeDistributed(images(), name="inner")


def sequences() -> Any:
    recurrent = layers.Bidirectional(layers.GRU(2, return_sequences=True, kernel_regularizer="l2"))
    return keras.Sequential([layers.Input((5, 3)), recurrent, layers.LSTM(3)])


def penalized() -> Any:
    """On outputs: of layers, of a wrapper, of a sum, and of a model in it; Keras adds those of the steps."""
    x = keras.Input((5, 3))
    y = layers.Dense(4, activity_regularizer="l2")(x)
    y = layers.TimeDistributed(layers.Dense(2), activity_regularizer="l1")(y)
    y = layers.Add(activity_regularizer="l2")([y, layers.Conv1D(2, 2, padding="same", kernel_regularizer="l2")(x)])
    y = layers.ActivityRegularization(0.1, 0.2)(y)
    inner = keras.Sequential([layers.Input((5, 2)), layers.GRU(3, activity_regularizer=keras.regularizers.L1L2(0.1))])
    return keras.Model(x, inner(y))


def attending() -> Any:
    x = keras.Input((5, 4))
    y = layers.MultiHeadAttention(2, 3, activity_regularizer="l2")(x, layers.Dense(4)(x))
    y = layers.LayerNormalization()(layers.Add()([x, y]))
    return keras.Model(x, layers.GlobalAveragePooling1D()(y))


def operating() -> Any:
    x = keras.Input((5, 3))
    y = keras.ops.relu(layers.Dense(3)(x) * 2.0 + x)
    y = keras.ops.concatenate([keras.ops.softmax(y, axis=1), 1.0 - y], axis=2)
    y = keras.ops.transpose(y, (0, 2, 1))
    y = layers.Dense(2)(keras.ops.exp(-keras.ops.maximum(y, 0.1)))
    return keras.Model(x, layers.Dense(3)(keras.ops.mean(y, axis=-1) / keras.ops.sum(y, axis=[2])))


def of_cells() -> Any:
    cells = [layers.LSTMCell(3, kernel_regularizer="l2"), layers.GRUCell(2)]
    return keras.Sequential([layers.Input((5, 3)), layers.Bidirectional(layers.RNN(cells))])


MODELS: dict[str, tuple[Callable[[], Any], tuple[int | None, ...]]] = {
    "images": (images, (4, 6, 5, 3)),
    "any number of steps": (images, (None, 6, 5, 3)),
    "branches": (branches, (4, 6, 5, 3)),
    "in a model": (in_a_model, (4, 6, 5, 3)),
    "sequences": (sequences, (4, 5, 3)),
    "penalties": (penalized, (4, 5, 3)),
    "penalties in steps": (lambda: layers.TimeDistributed(penalized()), (2, 4, 5, 3)),
    "cells": (of_cells, (4, 5, 3)),
    "attention": (attending, (6, 5, 4)),
    "operations": (operating, (4, 5, 3)),
    "in steps": (in_steps, (2, 4, 6, 5, 3)),
    "in steps of any number": (in_steps, (None, 4, 6, 5, 3)),
}


def of_steps(inner: Any, shape: tuple[int | None, ...]) -> Any:
    x = keras.Input(shape)
    return keras.Model(x, layers.Dense(3)(layers.TimeDistributed(inner, name="steps")(x)))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_models(name: str, suffix: str, tmp_path: Path) -> None:
    make, shape = MODELS[name]
    model = of_steps(make(), shape)
    reference.fill(model, 1)
    model.save(tmp_path / f"model.{suffix}")
    port = regspec.port(tmp_path / f"model.{suffix}")
    if (name, suffix) == ("operations", "h5"):  # which Keras itself can't read
        x = torch.randn(2, *shape)
        torch.testing.assert_close(port.build()(x), model(x), rtol=1e-4, atol=1e-5)
        return
    verification = port.verify()
    assert verification.passed
    assert verification.reference is not None
    assert {"outputs in training", "gradients in training"} <= {row.what for row in verification.rows()}
    assert any(name.startswith("steps.") for name in port.weights)


def computed(compute: Callable[[Any], Any]) -> Callable[[], Any]:
    def made() -> Any:
        x = keras.Input((5, 3))
        return keras.Model(x, compute(x))

    return made


WHERE = "can't be ported: 'steps' (TimeDistributed): "
REFUSED = {
    "an operation": (
        computed(lambda x: keras.ops.roll(x, 2)),
        "'roll' (Roll) in the model that it holds, an operation, whose axes are those ",
    ),
    "of ranks": (
        computed(lambda x: x + keras.ops.sum(x, axis=(1, 2))),
        "'add' (Add) in the model that it holds, an operation, whose axes are those ",
    ),
    "all axes": (
        computed(lambda x: x - keras.ops.mean(x)),
        "'mean' (Mean) in the model that it holds, an operation over all axes",
    ),
    "several tensors": (
        computed(lambda x: layers.Attention()([x, x])),
        "'attention' (Attention) in the model that it holds, which takes several tensors",
    ),
    "a penalty on an output": (
        computed(layers.Dense(2, activity_regularizer=keras.regularizers.OrthogonalRegularizer(), name="d")),
        "'d' (Dense) in the model that it holds, with a penalty on its output that does not add up",
    ),
}


def test_a_penalty_on_an_output_of_keras_2() -> None:
    penalty = {"class_name": "L2", "config": {"l2": 0.1}}
    own = {"name": "d", "units": 2, "activity_regularizer": penalty, "batch_input_shape": [None, 3]}
    inner = {"class_name": "Sequential", "config": {"name": "m", "layers": [{"class_name": "Dense", "config": own}]}}
    steps = {"name": "t", "layer": inner, "batch_input_shape": [None, 4, 3]}
    config = {"name": "s", "layers": [{"class_name": "TimeDistributed", "config": steps}]}
    model = {"class_name": "Sequential", "config": config}
    dialect = Dialect.of("2.15.0", model)
    with pytest.raises(UnportedError, match="which Keras 2 divides by one number or another"):
        distributed(model, dialect)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    make, message = REFUSED[name]
    keras.utils.clear_session()
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.port(of_steps(make(), (4, 5, 3)))
    assert caught.value.problems[0].what.startswith(WHERE + message)
