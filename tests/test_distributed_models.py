"""Models inside TimeDistributed: Keras's outputs, penalties, gradients and statistics, from either form of file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers

import regspec

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


MODELS: dict[str, tuple[Callable[[], Any], tuple[int | None, ...]]] = {
    "images": (images, (4, 6, 5, 3)),
    "any number of steps": (images, (None, 6, 5, 3)),
    "branches": (branches, (4, 6, 5, 3)),
    "in a model": (in_a_model, (4, 6, 5, 3)),
    "sequences": (sequences, (4, 5, 3)),
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
    verification = port.verify()
    assert verification.passed
    assert verification.reference is not None
    assert {"outputs in training", "gradients in training"} <= {row.what for row in verification.rows()}
    assert any(name.startswith("steps.") for name in port.weights)


def shuffled() -> Any:
    x = keras.Input((5, 3))
    return keras.Model(x, layers.Dense(2)(keras.ops.transpose(x, (0, 2, 1))))


def attending() -> Any:
    x = keras.Input((5, 3))
    return keras.Model(x, layers.Attention()([x, x]))


def penalized() -> Any:
    return keras.Sequential([layers.Input((5, 3)), layers.Dense(2, activity_regularizer="l2", name="d")])


WHERE = "can't be ported: 'steps' (TimeDistributed): "
REFUSED = {
    "an operation": (
        shuffled,
        "'transpose' (Transpose) in the model that it holds, an operation, whose axes are those ",
    ),
    "several tensors": (attending, "'attention' (Attention) in the model that it holds, which takes several tensors"),
    "a penalty on an output": (
        penalized,
        "'d' (Dense) in the model that it holds, with a penalty on its output, which",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    make, message = REFUSED[name]
    keras.utils.clear_session()
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.port(of_steps(make(), (4, 5, 3)))
    assert caught.value.problems[0].what.startswith(WHERE + message)
