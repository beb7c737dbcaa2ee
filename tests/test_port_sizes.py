"""Inputs whose features a config of Keras leaves open: the means of a Normalization on them say how many there are."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from keras import layers

import regspec

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves


def adapted(features: int) -> Any:
    layer = layers.Normalization(axis=-1)
    layer.adapt(np.random.default_rng(0).normal(3, 2, (20, features)))
    return layer


def sequence() -> Any:
    return keras.Sequential([keras.Input((3,)), adapted(3), layers.Dense(2)])


def graph() -> Any:
    first, second, third = (keras.Input((size,)) for size in (3, 5, 2))
    x = layers.Concatenate()([adapted(3)(first), layers.Dense(2)(second), adapted(2)(third)])
    return keras.Model([first, second, third], layers.Dense(4)(x))


def sequence_of_steps() -> Any:
    return keras.Sequential([keras.Input((7, 3)), adapted(3), layers.LSTM(2)])


def opened(config: Any) -> str:
    """The JSON of a model whose inputs say no features, but for one of five, on which no Normalization stands."""
    config["config"].pop("build_input_shape", None)
    for layer in config["config"]["layers"]:
        layer.pop("build_config", None)
        if layer["class_name"] == "InputLayer" and layer["config"]["batch_shape"][-1] != 5:
            layer["config"]["batch_shape"][-1] = None
    return json.dumps(config)


def write_keras(model: Any, path: Path) -> Path:
    model.save(path / "whole.keras")
    with zipfile.ZipFile(path / "whole.keras") as whole, zipfile.ZipFile(path / "model.keras", "w") as made:
        for name in whole.namelist():
            content = whole.read(name)
            made.writestr(name, opened(json.loads(content)) if name == "config.json" else content)
    return path / "model.keras"


def write_hdf5(model: Any, path: Path) -> Path:
    model.save(path / "model.h5")
    with h5py.File(path / "model.h5", "a") as file:
        file.attrs["model_config"] = opened(json.loads(file.attrs["model_config"]))
    return path / "model.h5"


@pytest.mark.parametrize("write", [write_keras, write_hdf5])
@pytest.mark.parametrize("make", [sequence, graph, sequence_of_steps])
def test_features_are_counted_by_means(make: Any, write: Any, tmp_path: Path) -> None:
    model = make()
    port = regspec.port(write(model, tmp_path))
    xs = [torch.randn(4, *x.shape[1:]) for x in model.inputs]
    expected = model(xs if len(xs) > 1 else xs[0])
    torch.testing.assert_close(port.build()(*xs), expected)


def test_without_arrays_the_size_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(opened(json.loads(sequence().to_json())))
    with pytest.raises(regspec.RegspecError, match="needs to know the size of axis 1"):
        regspec.port(tmp_path / "model.json")
