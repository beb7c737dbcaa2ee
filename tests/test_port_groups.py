"""Where a file has the arrays of its layers: as tf.keras 2.12 to 2.14 numbered groups, and as Windows named them."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import regspec
from regspec.keras.formats import reading
from regspec.keras.verification.giving import give_arrays, has_todays_groups

from .test_keras2 import agrees

FOLDER = Path(__file__).parent / "keras2"
FILES = [
    *("keras_2_12_0/counted.keras", "keras_2_14_0/counted.keras", "keras_2_12_0/distributed.keras"),
    *("keras_2_21_0/nested.keras", "keras_2_21_0/sequence.keras", "keras_2_21_0/local.keras"),
]
Change = Callable[[h5py.File], None]


def changed(name: str, path: Path, change: Change) -> Path:
    """A copy of an archive in which the file of weights is changed."""
    with zipfile.ZipFile(FOLDER / name) as archive, zipfile.ZipFile(path, "w") as copy:
        for member in archive.namelist():
            content = archive.read(member)
            if member.endswith(".h5"):
                buffer = io.BytesIO(content)
                with h5py.File(buffer, "r+") as file:
                    change(file)
                content = buffer.getvalue()
            copy.writestr(member, content)
    return path


def on_windows(file: h5py.File) -> None:
    """Each group that has `vars` is at the root, and named by its whole path."""
    groups: list[str] = []
    file.visit(lambda name: groups.append(name.rpartition("/")[0]) if name.endswith("/vars") else None)
    for name in groups:
        file.move(f"{name}/vars", name.replace("/", "\\") + "/vars")
    for name in {name.partition("/")[0] for name in groups}:
        del file[name]


def without_empty_groups(file: h5py.File) -> None:
    names: list[str] = []
    file.visit(names.append)
    for name in reversed(names):
        if isinstance(file[name], h5py.Group) and not len(file[name]):
            del file[name]


def both(*changes: Change) -> Change:
    def change(file: h5py.File) -> None:
        for each in changes:
            each(file)

    return change


CHANGES = {
    "Windows": on_windows,
    "no empty groups": without_empty_groups,
    "neither": both(without_empty_groups, on_windows),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", FILES)
def test_groups_by_other_names(name: str, change: str, tmp_path: Path) -> None:
    path = changed(name, tmp_path / "model.keras", CHANGES[change])
    with np.load((FOLDER / name).with_suffix(".npz")) as found:
        agrees(regspec.port(path), found)


@pytest.mark.parametrize("name", ["keras_2_12_0/counted.keras", "keras_2_14_0/counted.keras"])
def test_a_config_without_a_version(name: str, tmp_path: Path) -> None:
    """The file of weights itself shows how it counts."""
    with zipfile.ZipFile(FOLDER / name) as archive:
        archive.extractall(tmp_path)
    port = regspec.port(tmp_path / "config.json", weights=tmp_path / "model.weights.h5")
    with np.load((FOLDER / name).with_suffix(".npz")) as found:
        agrees(port, found)


@pytest.mark.parametrize(
    ("name", "change", "is_todays"),
    [
        ("keras_2_12_0/counted.keras", None, False),
        ("keras_2_14_0/counted.keras", None, False),
        ("keras_2_12_0/distributed.keras", None, False),
        ("keras_2_21_0/nested.keras", None, True),
        ("keras_2_21_0/nested.keras", on_windows, False),
        ("keras_2_12_0/distributed.keras", both(without_empty_groups, on_windows), False),
    ],
)
def test_keras_gets_arrays_where_it_looks_for_them(
    name: str, change: Change | None, is_todays: bool, tmp_path: Path
) -> None:
    """Written again as it writes them today, to verify a port of a file that it does not read."""
    path = changed(name, tmp_path / "model.keras", change or (lambda file: None))
    port, arrays, again = regspec.port(path), reading.read(path).arrays, tmp_path / "again.h5"
    assert arrays is not None
    assert has_todays_groups(arrays, port.provenance.renewed) == is_todays
    model = SimpleNamespace(load_weights=lambda written: shutil.copy(written, again))
    give_arrays(model, arrays, port.provenance.renewed)
    with h5py.File(again) as file:
        assert {*file} == {"layers", "vars"}
    (tmp_path / "config.json").write_text(json.dumps(port.provenance.config))
    found = regspec.port(tmp_path / "config.json", weights=again).weights
    assert found.keys() == port.weights.keys()
    for key, array in port.weights.items():
        np.testing.assert_array_equal(found[key], array)


def test_what_is_made_of_arrays_of_a_model_in_each_step(tmp_path: Path) -> None:
    """A kernel that tf.keras keeps as a row (place, output, cell), of a layer of a model in a TimeDistributed."""
    row, bias = np.arange(12, dtype="float32") - 5, np.arange(6, dtype="float32").reshape(3, 2)
    local = {"name": "local", "filters": 2, "kernel_size": [2], "strides": [1], "padding": "valid", "implementation": 3}
    config: dict[str, Any] = {"class_name": "LocallyConnected1D", "config": local}
    for name, shape in (("inner", [None, 4, 1]), ("outer", [None, 3, 4, 1])):
        first = {"class_name": "InputLayer", "config": {"name": f"x_{name}", "batch_input_shape": shape}}
        config = {"class_name": "Sequential", "config": {"name": name, "layers": [first, config]}}
        if name == "inner":
            config = {"class_name": "TimeDistributed", "config": {"name": "steps", "layer": config}}
    (tmp_path / "model.json").write_text(json.dumps({**config, "keras_version": "2.15.0"}))
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        for number, array in enumerate((row, bias)):
            file[f"layers/time_distributed/layer/layers/locally_connected1d/vars/{number}"] = array
    port = regspec.port(tmp_path / "model.json", weights=tmp_path / "model.weights.h5")
    x = torch.randn(5, 3, 4, 1)
    windows = x[..., 0].unfold(-1, 2, 1)  # (example, step, place, cell)
    wanted = torch.einsum("btpc,poc->btpo", windows, torch.tensor(row.reshape(3, 2, 2))) + torch.tensor(bias)
    torch.testing.assert_close(port.build()(x), wanted)


OLD = "_layer_checkpoint_dependencies"
TWICE: dict[str, tuple[Change, str]] = {
    "both forms": (
        lambda file: file.create_group(f"{OLD}\\dense"),
        f"has both '{OLD}\\dense' and '{OLD}/dense', which are one group",
    ),
    "an array of one path": (
        both(on_windows, lambda file: file.create_dataset(f"{OLD}\\dense\\vars/0", data=np.ones(3))),
        f"has several arrays of one path, of those in '{OLD}/dense'",
    ),
    "both generations": (
        lambda file: file.create_dataset("layers/dense/vars/0", data=np.ones(3)),
        "1 array that no layer of the model takes: /layers/dense/vars/0",
    ),
    "too deep": (lambda file: file.create_group("layers" + "\\x" * 100), "groups in groups without end"),
}


@pytest.mark.parametrize("name", TWICE)
def test_groups_that_are_there_twice(name: str, tmp_path: Path) -> None:
    change, message = TWICE[name]
    path = changed("keras_2_14_0/counted.keras", tmp_path / "model.keras", change)
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.port(path)
    assert message in str(raised.value)
