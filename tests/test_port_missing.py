"""Files of Keras's that lack a part: a fault that says what is not known then, and the way out."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import torch
from keras import layers

import regspec

from .commands import command
from .layers import reference

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras, when it saves

MEMBERS = ("config.json", "metadata.json", "model.weights.h5")


def saved(path: Path) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, kernel_regularizer="l2", name="dense")])
    reference.fill(model, 1)
    model.save(path)
    return model


def without(path: Path, names: Collection[str]) -> None:
    """Takes members out of an archive."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name not in names}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("name", "unknown", "way_out"),
    [
        ("config.json", "what its layers are", "--weights FILE"),
        ("metadata.json", "which Keras wrote it", "regspec port config.json --weights FILE"),
        ("model.weights.h5", "what its weights are", "regspec port FILE --weights model.weights.h5"),
    ],
)
def test_a_member_that_is_missing(name: str, unknown: str, way_out: str, tmp_path: Path) -> None:
    saved(tmp_path / "model.keras")
    without(tmp_path / "model.keras", [name])
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.port(tmp_path / "model.keras")
    (problem,) = raised.value.problems
    assert problem.what.startswith(f"has no {name}, so that it is not known {unknown}")
    assert way_out in str(problem.hint)
    assert problem.path == str(tmp_path / "model.keras")


@pytest.mark.parametrize("name", MEMBERS)
def test_all_members_but_one(name: str, tmp_path: Path) -> None:
    """Both that are missing are named."""
    saved(tmp_path / "model.keras")
    missing = [each for each in MEMBERS if each != name]
    without(tmp_path / "model.keras", missing)
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.port(tmp_path / "model.keras")
    assert [each.what.split()[2].rstrip(",") for each in raised.value.problems] == missing


def test_weights_from_another_file(tmp_path: Path) -> None:
    """The way out for an archive without weights; what is given counts, whatever is in the archive."""
    model, x = saved(tmp_path / "model.keras"), torch.randn(5, 3)
    model.save_weights(tmp_path / "model.weights.h5")
    without(tmp_path / "model.keras", ["model.weights.h5"])
    port = regspec.port(tmp_path / "model.keras", weights=tmp_path / "model.weights.h5")
    torch.testing.assert_close(port.build()(x), model(x))


def test_the_way_out_without_metadata_or_with_random_weights(tmp_path: Path) -> None:
    model, x = saved(tmp_path / "model.keras"), torch.randn(5, 3)
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        archive.extractall(tmp_path)
    port = regspec.port(tmp_path / "config.json", weights=tmp_path / "model.weights.h5")
    torch.testing.assert_close(port.build()(x), model(x))
    assert not regspec.port(tmp_path / "config.json").weights


@pytest.mark.parametrize("part", ["model_weights", "model_weights/dense", "layer_names", "weight_names"])
def test_an_hdf5_file_without_weights(part: str, tmp_path: Path) -> None:
    saved(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        if part == "layer_names":
            del file["model_weights"].attrs[part]
        elif part == "weight_names":
            file["model_weights/dense"].attrs[part] = np.zeros(0, "S1")
        else:
            del file[part]
    with pytest.raises(regspec.RegspecError, match="'dense' has"):
        regspec.port(tmp_path / "model.h5")


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(regspec.RegspecError, match=r"has no config\.json: it is no model of Keras"):
        regspec.port(tmp_path / "model.keras")


def test_the_command(tmp_path: Path) -> None:
    saved(tmp_path / "model.keras")
    without(tmp_path / "model.keras", ["model.weights.h5"])
    done = command("port", str(tmp_path / "model.keras"), "-o", str(tmp_path / "ported"))
    assert done.code == 1
    assert "model.keras: error: has no model.weights.h5" in done.stderr
    assert not (tmp_path / "ported").exists()
