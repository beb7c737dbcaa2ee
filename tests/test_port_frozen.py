"""Frozen layers in a file of Keras's: what Keras trains, and which penalties it counts, when it has read the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from keras import layers

import regspec

from .layers import reference
from .layers.operating import is_operation
from .layers.row import Row
from .layers.rows import ROWS
from .layers.specs import with_penalties
from .ported import UNSAVED, agrees, is_saved

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Keras, when it saves
]


def has_weights(row: Row) -> bool:
    if not row.has_reference or not is_saved(row) or row.kind in UNSAVED or is_operation(row.kind, row.fields):
        return False
    return bool(called(row)[0].weights)


def called(row: Row, make: Callable[[Any], Any] = lambda layer: layer) -> tuple[Any, Any]:
    """A row's layer, and a model of it."""
    symbolic = [keras.Input(shape, dtype=dtype) for shape, dtype in zip(row.shapes, row.types, strict=True)]
    layer = make(reference.keras_layer(row.kind, with_penalties(row), row.data_format, len(row.shapes[0]) + 1))
    return layer, keras.Model(symbolic, reference.call(layer, row, symbolic, False))


def kinds_with_weights() -> list[Any]:
    found: dict[str, int] = {}
    for index, row in enumerate(ROWS):
        if row.kind not in found and row.has_gradient and has_weights(row):
            found[row.kind] = index
    return [pytest.param(index, id=kind) for kind, index in found.items()]


def frozen_by_constructor(row: Row) -> Any:
    layer, _ = called(row)
    return called(row, lambda _: type(layer).from_config({**layer.get_config(), "trainable": False}))[1]


def frozen_later(row: Row) -> Any:
    layer, model = called(row)
    layer.trainable = False
    return model


def in_a_frozen_model(row: Row) -> Any:
    _, inner = called(row)
    inner.trainable = False
    symbolic = [keras.Input(shape, dtype=dtype) for shape, dtype in zip(row.shapes, row.types, strict=True)]
    return keras.Model(symbolic, inner(symbolic))


def frozen_whole(row: Row) -> Any:
    _, model = called(row)
    model.trainable = False
    return model


@pytest.mark.parametrize("freeze", [frozen_by_constructor, frozen_later, in_a_frozen_model, frozen_whole])
@pytest.mark.parametrize("index", kinds_with_weights())
def test_what_keras_trains_once_it_has_read_the_file(index: int, freeze: Any, tmp_path: Path) -> None:
    """Of a layer that is frozen: all of it, part of it or nothing, and so is what counts of its penalties."""
    row = ROWS[index]
    model = freeze(row)
    reference.fill(model, index)
    model.save(tmp_path / "model.keras")
    read = keras.saving.load_model(tmp_path / "model.keras")
    inputs = [torch.as_tensor(x) for x in reference.inputs_of(row, index)]
    agrees(read, tmp_path / "model.keras", inputs=inputs)


COMPOSITES = ("MultiHeadAttention", "GroupQueryAttention", "ConvLSTM2D", "RNN", "TimeDistributed")


@pytest.mark.parametrize("form", [".keras", ".h5", ".json"])
@pytest.mark.parametrize("kind", COMPOSITES)
def test_each_form_of_file(kind: str, form: str, tmp_path: Path) -> None:
    index = next(index for index, row in enumerate(ROWS) if row.kind == kind)
    row = ROWS[index]
    model = frozen_by_constructor(row)
    reference.fill(model, index)
    inputs = [torch.as_tensor(x) for x in reference.inputs_of(row, index)]
    path = tmp_path / f"model{form}"
    if form != ".json":
        model.save(path)
        agrees(keras.saving.load_model(path), path, inputs=inputs)
        return
    path.write_text(model.to_json())
    model.save_weights(tmp_path / "model.weights.h5")
    read = keras.models.model_from_json(path.read_text())
    read.load_weights(tmp_path / "model.weights.h5")
    reduction = "mean"  # of this Keras, which a JSON does not name
    port = regspec.port(path, weights=tmp_path / "model.weights.h5", activity_reduction=reduction)
    agrees(read, port, inputs=inputs)


@pytest.mark.parametrize("keeps_quirks", [True, False])
@pytest.mark.parametrize("kind", COMPOSITES)
def test_what_was_meant(kind: str, keeps_quirks: bool, tmp_path: Path) -> None:
    """Frozen, without penalties of weights; a note names the layer in either case."""
    index = next(index for index, row in enumerate(ROWS) if row.kind == kind)
    model = frozen_by_constructor(ROWS[index])
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras", keeps_quirks=keeps_quirks)
    built = port.build()
    assert any(each.requires_grad for each in built.parameters()) == keeps_quirks
    name = model.layers[-1].name
    assert any(f"'{name}' is frozen, but not what it holds" in note for note in port.notes) == keeps_quirks
    assert not keeps_quirks or port.verify().passed


def test_layers_that_are_trained_in_a_frozen_model(tmp_path: Path) -> None:
    """Keras trains nothing of them; but a batch normalization follows its batches, and penalties of outputs count."""
    x = keras.Input((5, 3))
    y = layers.BatchNormalization(gamma_regularizer="l2", name="norm")(x)
    y = layers.Dense(4, kernel_regularizer="l2", activity_regularizer="l1", name="dense")(y)
    y = layers.TimeDistributed(layers.BatchNormalization(), name="steps")(y)
    model = keras.Model(x, layers.ReLU()(y))
    model.trainable = False
    for layer in model.layers[1:]:
        layer.trainable = True
    reference.fill(model, 3)
    model.save(tmp_path / "model.keras")
    read = keras.saving.load_model(tmp_path / "model.keras")
    assert not read.trainable_variables
    inputs = torch.randn(4, 5, 3)
    agrees(read, tmp_path / "model.keras", inputs=[inputs])
    port = regspec.port(tmp_path / "model.keras")
    ported = port.build().train()
    torch.testing.assert_close(ported(inputs), read(inputs, training=True), rtol=1e-4, atol=1e-5)
    mean = read.get_layer("norm").moving_mean.value
    torch.testing.assert_close(ported.norm.running_mean, mean)
    assert any("frozen as a whole" in note for note in port.notes)


def test_a_frozen_sequence(tmp_path: Path) -> None:
    """Keras does not heed that a Sequential is frozen as a whole, when it reads one."""
    model = keras.Sequential(
        [keras.Input((3, 5, 7, 2)), layers.ConvLSTM2D(4, 3, kernel_regularizer="l2"), layers.Flatten(), layers.Dense(2)]
    )
    model.trainable = False
    reference.fill(model, 3)
    model.save(tmp_path / "model.keras")
    read = keras.saving.load_model(tmp_path / "model.keras")
    assert read.trainable_variables
    agrees(read, tmp_path / "model.keras", inputs=[torch.randn(2, 3, 5, 7, 2)])
