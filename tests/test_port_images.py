"""Ported models that work on images: ConvNeXt, augmentation before a network, files of older versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from keras import layers
from keras.src.applications.convnext import ConvNeXt

import regspec
from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.notes import Notes
from regspec.keras.reading.layers import layer_of

from .layers import reference
from .ported import agrees

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_convnext(suffix: str, tmp_path: Path) -> None:
    model = ConvNeXt(
        depths=[1, 1, 2, 1],
        projection_dims=[4, 8, 12, 16],
        drop_path_rate=0.2,
        weights=None,
        classes=5,
        input_shape=(32, 40, 3),
        name="tiny",
    )
    reference.fill(model, 1)
    path = tmp_path / f"model{suffix}"
    model.save(path)
    agrees(model, path, inputs=[255 * torch.rand(2, 32, 40, 3)])
    text = regspec.source(regspec.port(path).spec)
    assert "LayerScale(12, 1e-06" in text
    assert "Dropout(0.05, noise_shape=(None, 1, 1, 1))" in text


def augmented() -> Any:
    """As people write it: whole numbers in, augmentation first."""
    image = keras.Input((20, 24, 3), dtype="uint8", name="image")
    x = layers.Resizing(16, 16, crop_to_aspect_ratio=True)(image)
    x = layers.RandomFlip("horizontal", seed=3)(x)
    x = layers.RandomRotation(0.1, fill_mode="nearest", seed=3)(x)
    x = layers.RandomZoom((-0.2, 0.1))(x)
    x = layers.RandomTranslation(0.1, 0.2, fill_mode="constant")(x)
    x = layers.RandomContrast(0.4)(x)
    x = layers.RandomBrightness(0.2, value_range=(0, 255), bounding_box_format="xyxy")(x)
    x = layers.RandomShear(0.2, (0.1, 0.3))(x)
    x = layers.RandomCrop(16, 16)(x)
    x = layers.MixUp()(x)
    x = layers.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(3, 5))(x)
    x = layers.AutoContrast()(x)
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", kernel_regularizer="l2")(x)
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))


def test_augmentation_before_a_network(tmp_path: Path) -> None:
    model, path = augmented(), tmp_path / "model.keras"
    reference.fill(model, 1)
    model.save(path)
    x = torch.randint(0, 256, (3, 20, 24, 3), dtype=torch.uint8)
    agrees(model, path, inputs=[x])
    port = regspec.port(path)
    assert "seed" not in port.text
    for line in (
        "RandomFlip: {name: random_flip, mode: horizontal}",
        "factor: [-0.1, 0.1], fill_mode: nearest}",
        "factor: [0.0, 0.4]}",
        "x_factor: [-0.2, 0.2], y_factor: [0.1, 0.3]}",
        "tile_grid_size: [3, 5], as_on_torch: true}",
    ):
        assert line in port.text
    trained = port.build().train()
    assert not torch.equal(trained(x), trained(x))


def test_a_range_of_values_by_which_nothing_is_turned() -> None:
    """Keras 3.3 to 3.5 write one for RandomRotation, and read it nowhere."""
    config = {"name": "r", "factor": [-0.1, 0.2], "value_range": [0, 255]}
    found = layer_of({"class_name": "RandomRotation", "config": config}, Dialect(version=(3, 5, 0)), Notes())
    assert found == {"RandomRotation": {"factor": [-0.1, 0.2]}}


def json_of(tmp_path: Path, *items: layers.Layer, change: Any = None) -> Path:
    """A file with the config of a Sequential model."""
    model = keras.Sequential([keras.Input((8, 9, 3)), *items])
    document = json.loads(model.to_json())
    for layer in document["config"]["layers"]:
        if change is not None:
            change(layer)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(document))
    return path


def test_one_contrast_of_an_older_version_bounds_both_sides(tmp_path: Path) -> None:
    """Before 3.6 the config has the number itself, and the contrast is drawn from 1 - f to 1 + f."""

    def change(layer: dict[str, Any]) -> None:
        if layer["class_name"] == "RandomContrast":
            layer["config"]["factor"] = 0.3

    spec = regspec.port(json_of(tmp_path, layers.RandomContrast(0.3), change=change)).spec
    assert spec.layers[0].layer.factor == (0.3, 0.3)
    spec = regspec.port(json_of(tmp_path, layers.RandomContrast(0.3))).spec
    assert spec.layers[0].layer.factor == (0.0, 0.3)


@pytest.mark.parametrize("keeps_quirks", [True, False])
def test_what_differs_is_noted(keeps_quirks: bool, tmp_path: Path) -> None:
    items = [
        layers.RandomCrop(4, 5),
        layers.MixUp(),
        layers.CutMix(),
        layers.CutMix(),
        layers.ContrastLimitedAdaptiveHistogramEqualization(),
    ]
    port = regspec.port(json_of(tmp_path, *items), keeps_quirks=keeps_quirks)
    assert [note.split()[0] for note in port.notes] == [
        type(each).__name__ for each in items[:3] + items[4:] * keeps_quirks
    ]
    assert ("as_on_torch" in port.text) == keeps_quirks


def test_labels_beside_images_are_refused(tmp_path: Path) -> None:
    images, labels = keras.Input((8, 9, 3), name="images"), keras.Input((4,), name="labels")
    mixed = layers.MixUp()({"images": images, "labels": labels})
    keras.Model([images, labels], [mixed["images"], mixed["labels"]]).save(tmp_path / "model.keras")
    with pytest.raises(regspec.RegspecError, match="takes images alone, but is given 2 inputs"):
        regspec.port(tmp_path / "model.keras")


def test_signals(tmp_path: Path) -> None:
    sound = keras.Input((400,))
    mel = layers.MelSpectrogram(num_mel_bins=6, fft_length=64, sequence_stride=30, sampling_rate=8000)(sound)
    stft = layers.STFTSpectrogram(frame_length=40, trainable=False, expand_dims=True)(layers.Reshape((400, 1))(sound))
    x = layers.Conv2D(3, 3, kernel_regularizer="l1")(stft)
    model = keras.Model(sound, [layers.Dense(2)(mel), layers.GlobalMaxPooling2D()(x)])
    reference.fill(model, 1)
    model.save(tmp_path / "model.keras")
    agrees(model, tmp_path / "model.keras", inputs=[torch.randn(2, 400)])


def test_counts_with_weights(tmp_path: Path) -> None:
    numbers, weights = keras.Input((6,), dtype="int64"), keras.Input((6,))
    counts = layers.CategoryEncoding(5, output_mode="count")(numbers, count_weights=weights)
    model = keras.Model([numbers, weights], layers.Dense(2)(counts))
    model.save(tmp_path / "model.keras")
    agrees(model, tmp_path / "model.keras", inputs=[torch.randint(0, 5, (3, 6)), torch.rand(3, 6)])
