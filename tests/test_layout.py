"""Models with channels last as ones with channels first: outputs, penalties and gradients are Keras's, transposed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, regularizers
from keras.src.applications.convnext import LayerScale
from typer.testing import CliRunner

import regspec
from regspec.cli import app
from regspec.keras.conversion import changes
from regspec.keras.porting.porting import Port
from regspec.layers import KINDS
from regspec.layers.families import Elementwise

from .layers import reference
from .layers.rows import ROWS
from .layers.specs import spec_of, step_of
from .ported import agrees

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves


def converted(model: Any, folder: Path, seed: int = 1, data_format: Any = "channels_first") -> Port:
    """The model with random weights, saved, and ported with channels first."""
    reference.fill(model, seed)
    model.save(folder / "model.keras")
    port = regspec.port(folder / "model.keras", data_format=data_format)
    assert port.spec.data_format == (data_format or "channels_last")
    return port


def test_what_weights_lie_along_is_declared() -> None:
    """Of layers that take any order of units, which their weights then follow."""
    for row in ROWS:
        if issubclass(KINDS[row.kind], Elementwise):
            assert all(weight.along for weight in step_of(spec_of(row, row.fields)).lowered.weights), row.kind


# -- what follows a Flatten --------------------------------------------------------------------------------------------

VECTORS: dict[str, Callable[[Any], Any]] = {
    "dense": layers.Dense(5, activation="softmax", kernel_regularizer=regularizers.OrthogonalRegularizer(0.3)),
    "glu": layers.Activation("glu"),
    "softmax": lambda x: layers.Dense(3)(layers.Softmax()(x)),
    "relu": lambda x: layers.Dense(3)(layers.ReLU(negative_slope=0.1)(x)),
    "activity": lambda x: layers.Dense(3)(layers.ActivityRegularization(0.1, 0.2)(x)),
    "dropout": lambda x: layers.Dense(3)(layers.Dropout(0.5, noise_shape=[None, 24])(layers.Dropout(0.3)(x))),
    "batch": lambda x: layers.Dense(3)(layers.BatchNormalization(gamma_regularizer="l1")(x)),
    "layer": lambda x: layers.Dense(3)(layers.LayerNormalization(beta_regularizer="l2")(x)),
    "rms": lambda x: layers.Dense(3)(layers.RMSNormalization()(x)),
    "group": lambda x: layers.Dense(3)(layers.GroupNormalization(4)(x)),
    "unit": lambda x: layers.Dense(3)(layers.UnitNormalization()(x)),
    "scaled": lambda x: layers.Dense(3)(LayerScale(0.5, 24)(x)),
    "spectral": lambda x: layers.SpectralNormalization(layers.Dense(3, kernel_regularizer="l2"))(x),
    "prelu": lambda x: layers.Dense(3)(layers.PReLU(alpha_regularizer="l1")(x)),
    "prelu of one": lambda x: layers.Dense(3)(layers.PReLU(shared_axes=[1])(x)),
    "normalization": lambda x: layers.Dense(3)(layers.Normalization()(x)),
    "numbers": lambda x: layers.Dense(3)(layers.Normalization(mean=[*range(24)], variance=[*range(1, 25)])(x)),
    "scales": lambda x: layers.Dense(3)(layers.Rescaling([*range(24)])(x)),
    "scale": lambda x: layers.Dense(3)(2.0 - x * 3.0),
    "again": lambda x: layers.Dense(3)(layers.Flatten()(x)),
    "units are given": layers.Activation("tanh"),
    "reshape": lambda x: layers.Conv2D(2, 2)(layers.Reshape((4, 2, 3))(x)),
    "repeat": lambda x: layers.LSTM(3)(layers.RepeatVector(4)(x)),
    "einsum": layers.EinsumDense("ab,bc->ac", output_shape=3, bias_axes="c"),
    "residual": lambda x: layers.Dense(3)(layers.Add()([x, layers.Activation("tanh")(x)])),
    "another order": lambda x: layers.Dense(3)(layers.Multiply()([x, layers.Dense(24)(x)])),
    "a number": lambda x: layers.Dense(3)(layers.Multiply()([x, layers.Dense(1)(x)])),
    "joined": lambda x: layers.Dense(3)(layers.Concatenate()([layers.Dense(2)(x), x, layers.Activation("elu")(x)])),
    "dot": lambda x: layers.Dot(1)([x, layers.Activation("tanh")(x)]),
    "batch of a frozen layer": lambda x: layers.Dense(3)(layers.BatchNormalization(trainable=False)(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", VECTORS)
def test_what_follows_a_flatten(name: str, tmp_path: Path) -> None:
    image = keras.Input((5, 3, 2))
    flattened = layers.Flatten()(layers.Conv2D(3, 2, kernel_regularizer="l1")(image))  # (4, 2, 3)
    model = keras.Model(image, VECTORS[name](flattened))
    agrees(model, converted(model, tmp_path), inputs=[torch.randn(3, 5, 3, 2)])


def test_kernels_after_a_flatten_are_moved_and_nothing_is_permuted(tmp_path: Path) -> None:
    """By hand: the rows of the kernel in the order of torch's flatten."""
    image = keras.Input((4, 3, 2), name="image")
    model = keras.Model(image, layers.Dense(5, name="fc")(layers.Flatten(name="flatten")(image)))
    port = converted(model, tmp_path)
    assert "permute" not in regspec.source(port.spec)
    kernel = model.get_layer("fc").kernel.numpy().reshape(4, 3, 2, 5)
    np.testing.assert_array_equal(port.weights["fc.weight"], kernel.transpose(3, 2, 0, 1).reshape(5, 24))
    assert port.notes == (
        "the weights of 'fc' follow channels first, as 'flatten' gives them",
        "the input 'image' takes (batch, 2, 4, 3)",
    )


# -- what is not converted, and the command ----------------------------------------------------------------------------


def test_a_model_with_channels_first_stays_as_it_is(tmp_path: Path) -> None:
    x = keras.Input((2, 6, 5))
    model = keras.Model(
        x, layers.Flatten(data_format="channels_first")(layers.Conv2D(3, 2, data_format="channels_first")(x))
    )
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras", data_format="channels_first")
    assert port.text == regspec.port(tmp_path / "model.keras").text
    agrees(model, port, inputs=[torch.randn(3, 2, 6, 5)])
    with pytest.raises(regspec.RegspecError, match="is not converted to channels last"):
        regspec.port(tmp_path / "model.keras", data_format="channels_last")


def test_a_layer_that_can_not_be_converted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(changes.CHANGES, KINDS["UnitNormalization"], lambda *_, **__: None)
    x = keras.Input((2, 6, 5))
    model = keras.Model(x, layers.UnitNormalization(name="unit")(layers.Conv2D(3, 2)(x)))
    with pytest.raises(regspec.RegspecError, match="'unit' can't be converted to channels first"):
        converted(model, tmp_path)


def test_the_command(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4, 3, 2)), layers.Flatten(), layers.Dense(5)])
    model.save(tmp_path / "model.keras")
    arguments = [
        "port",
        str(tmp_path / "model.keras"),
        "-o",
        str(tmp_path / "ported"),
        "--data-format",
        "channels_first",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    spec = regspec.load(tmp_path / "ported" / "spec.yaml")
    assert [declared.shape for declared in spec.inputs.values()] == [(2, 4, 3)]
