"""Layers models of TensorFlow.js: as its converter writes them, and as JavaScript does; and manifests that lie.

`tfjs/make.py` and `tfjs/make.js` have made the folders.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

import regspec
from regspec.keras.formats import reading
from regspec.keras.verification.giving import give_arrays

from .layers.specs import outputs_of
from .test_keras2 import FOLDER as KEPT
from .test_keras2 import agrees

FOLDER = Path(__file__).parent / "tfjs"
CONVERTED = {
    "graph": "keras_2_21_0/graph",
    "nested": "keras_2_21_0/nested",
    "sequence": "keras_2_21_0/sequence",
    "old": "keras_2_2_4/graph",
}


@pytest.mark.parametrize("name", CONVERTED)
def test_computes_what_keras_did(name: str) -> None:
    with np.load(KEPT / f"{CONVERTED[name]}.npz") as found:
        agrees(regspec.port(FOLDER / name / "model.json"), found)


def tensor(said: dict[str, Any]) -> Tensor:
    return torch.tensor(said["values"], dtype=getattr(torch, said["dtype"])).reshape(said["shape"])


@pytest.mark.parametrize("name", ["teachable", "recurrent", "branches"])
def test_computes_what_javascript_did(name: str) -> None:
    expected = json.loads((FOLDER / name / "expected.json").read_text())
    port = regspec.port(FOLDER / name)
    outputs = outputs_of(port.build()(*map(tensor, expected["inputs"])))
    assert len(outputs) == len(expected["outputs"])
    for output, wanted in zip(outputs, expected["outputs"], strict=True):
        torch.testing.assert_close(output.detach(), tensor(wanted), rtol=1e-5, atol=1e-6)
    assert port.provenance.version == "tfjs-layers 4.22.0"


def test_penalties_of_javascript() -> None:
    model = regspec.port(FOLDER / "branches").build()
    model(torch.zeros(1, 6, 5, 2))
    terms = {name: term.item() for name, term in model.regularization_terms().items()}
    state = {name: value.abs() for name, value in model.state_dict().items()}
    kernel = state["conv2d_Conv2D1.weight"]
    assert terms["conv2d_Conv2D1.kernel"] == pytest.approx((0.1 * kernel + 0.3 * kernel**2).sum().item(), rel=1e-5)
    bias = state["dense_Dense5.bias"]
    assert terms["dense_Dense5.bias"] == pytest.approx((0.01 * bias + 0.01 * bias**2).sum().item(), rel=1e-5)


@pytest.mark.parametrize("name", ["uint8", "uint16", "float16"])
def test_rounded_weights_are_as_the_converter_reads_them(name: str) -> None:
    port = regspec.port(FOLDER / name)
    with np.load(FOLDER / name / "expected.npz") as found:
        wanted = [found[key].T for key in found]
    for array, own in zip(port.weights.values(), wanted, strict=True):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, own)


# -- other ways in which folders are written ---------------------------------------------------------------------------


def written(folder: Path, config: Any, arrays: dict[str, np.ndarray], version: str = "2.15.0") -> Path:
    """A folder with these weights, in one file."""
    weights = [{"name": name, "shape": [*array.shape], "dtype": str(array.dtype)} for name, array in arrays.items()]
    topology = {"keras_version": version, "backend": "tensorflow", "model_config": config}
    model = {"modelTopology": topology, "weightsManifest": [{"paths": ["a.bin"], "weights": weights}]}
    folder.mkdir(exist_ok=True)
    (folder / "a.bin").write_bytes(b"".join(array.tobytes() for array in arrays.values()))
    (folder / "model.json").write_text(json.dumps(model))
    return folder


def test_weights_that_are_named_by_their_places(tmp_path: Path) -> None:
    """As the converter names those of a .keras file."""
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(KEPT / "keras_2_21_0/nested.keras") as archive:
        config = json.loads(archive.read("config.json"))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            file.visititems(
                lambda name, each: arrays.update({name: each[()]} if isinstance(each, h5py.Dataset) else {})
            )
    arrays = {name: array.astype("float32") for name, array in arrays.items()}
    with np.load(KEPT / "keras_2_21_0/nested.npz") as found:
        agrees(regspec.port(written(tmp_path / "model", config, arrays, "2.21.0")), found)


def test_a_topology_without_weights_and_weights_of_another_file(tmp_path: Path) -> None:
    said = json.loads((FOLDER / "graph" / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**said, "weightsManifest": []}))
    assert not regspec.port(tmp_path).weights
    (tmp_path / "model.json").write_text(json.dumps(said))  # whose files are not asked for then
    with np.load(KEPT / "keras_2_21_0/graph.npz") as found:
        agrees(regspec.port(tmp_path, weights=KEPT / "keras_2_21_0/graph.weights.h5"), found)


def dense(name: str, units: int = 3, **fields: Any) -> dict[str, Any]:
    return {"class_name": "Dense", "config": {"name": name, "units": units, **fields}}


def sequence(*layers: Any, name: str = "s") -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": name, "layers": [*layers]}}


KERNEL, BIAS = np.arange(12, dtype="float32").reshape(4, 3), np.ones(3, "float32")
FIRST = dense("d", batch_input_shape=[None, 4])


@pytest.mark.parametrize("prefix", ["d", "s/d", "a/b/s/d"])
def test_names_of_models_before_that_of_a_layer(prefix: str, tmp_path: Path) -> None:
    port = regspec.port(written(tmp_path, sequence(FIRST), {f"{prefix}/kernel": KERNEL, f"{prefix}/bias": BIAS}))
    np.testing.assert_array_equal(port.weights["d.weight"], KERNEL.T)


def test_layers_of_one_name_are_refused(tmp_path: Path) -> None:
    config = sequence(FIRST, sequence(dense("d"), name="inner"))
    with pytest.raises(regspec.RegspecError, match="has the weight 'd/kernel' of 2 layers of the name 'd'"):
        regspec.port(written(tmp_path, config, {"d/kernel": KERNEL, "d/bias": BIAS}))


def test_weights_of_no_layer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(regspec.RegspecError, match="has the weight 'e/kernel' of none of its layers"):
        regspec.port(written(tmp_path, sequence(FIRST), {"e/kernel": KERNEL}))


def test_the_state_of_an_optimizer_is_left_out(tmp_path: Path) -> None:
    written(tmp_path, sequence(FIRST), {"d/kernel": KERNEL, "d/bias": BIAS, "Adam/d/kernel/m": KERNEL})
    said = json.loads((tmp_path / "model.json").read_text())
    said["weightsManifest"][0]["weights"][2]["group"] = "optimizer"
    (tmp_path / "model.json").write_text(json.dumps(said))
    assert regspec.port(tmp_path).provenance.account.arrays == 2


def test_many_layers(tmp_path: Path) -> None:
    """More names than an attribute of HDF5 holds, in a second or so."""
    layers = [dense(f"a_layer_with_a_long_name_{n}", 2, batch_input_shape=[None, 2]) for n in range(2500)]
    arrays = {}
    for n in range(2500):
        arrays |= {
            f"a_layer_with_a_long_name_{n}/kernel": np.ones((2, 2), "f4"),
            f"a_layer_with_a_long_name_{n}/bias": np.zeros(2, "f4"),
        }
    folder = written(tmp_path / "model", sequence(*layers), arrays)
    started = time.process_time()
    stored = reading.read(folder)
    assert time.process_time() - started < 5
    assert stored.arrays is not None
    assert len(stored.arrays.of_layer("a_layer_with_a_long_name_2499")) == 2


def test_keras_gets_the_arrays_of_each_layer(tmp_path: Path) -> None:
    """To verify a port: those of layers in a model inside too, in their order."""
    given: dict[str, list[Any]] = {}

    def made(name: str, *layers: Any) -> Any:
        return SimpleNamespace(name=name, **({"layers": layers} if layers else {"set_weights": partial(note, name)}))

    def note(name: str, arrays: Any) -> None:
        given[name] = [each.tolist() for each in arrays]

    config = sequence(FIRST, sequence(dense("e", 2), name="inner"), dense("f", 2))
    arrays = {"e/bias": np.ones(2, "f4"), "d/kernel": KERNEL, "d/bias": BIAS, "e/kernel": KERNEL[:3, :2]}
    arrays |= {"f/kernel": np.ones((2, 2), "f4"), "f/bias": np.zeros(2, "f4")}
    folder = written(tmp_path, config, {name: arrays[name] for name in sorted(arrays, reverse=True)})
    model = made("s", made("d"), made("inner", made("e")), made("f"), made("nothing"))
    stored = reading.read(folder)
    assert stored.arrays is not None
    give_arrays(model, stored.arrays, {})
    assert given == {name: [arrays[f"{name}/{key}"].tolist() for key in ("kernel", "bias")] for name in "def"}


# -- manifests that lie ------------------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], Any]


def of_weight(**fields: Any) -> Change:
    return lambda group: group["weights"][0].update(fields)


def of_paths(*paths: Any) -> Change:
    return lambda group: group.update(paths=[*paths])


def rounded(**fields: Any) -> Change:
    return of_weight(quantization={"dtype": "uint8", "scale": 1.0, "min": 0.0, **fields})


PATHS = r"\$\.weightsManifest\[0\]\.paths\[0\]"
WEIGHT = r"\$\.weightsManifest\[0\]\.weights\[0\]"
LIES: dict[str, tuple[Change, str]] = {
    "parent": (of_paths("../a.bin"), f"{PATHS}: error: is no plain name of a file beside it: ../a.bin"),
    "root": (of_paths("/etc/passwd"), "is no plain name of a file beside it"),
    "scheme": (of_paths("https://example.org/a.bin"), "is no plain name of a file beside it"),
    "drive": (of_paths("C:a.bin"), "is no plain name of a file beside it"),
    "backslash": (of_paths("..\\a.bin"), "is no plain name of a file beside it"),
    "dots": (of_paths(".."), "is no plain name of a file beside it"),
    "twice dotted": (of_paths("././a.bin"), "is no plain name of a file beside it"),
    "nothing": (of_paths(""), "is no plain name of a file beside it"),
    "zero byte": (of_paths("a\0.bin"), "is no plain name of a file beside it"),
    "number": (of_paths(3), "is no plain name of a file beside it: 3"),
    "long": (of_paths("a" * 300), "is no plain name of a file beside it"),
    "missing": (of_paths("b.bin"), f"{PATHS}: error: 'b.bin' is not there"),
    "folder": (of_paths("folder"), "'folder' is not there"),
    "link": (of_paths("link.bin"), "'link.bin' is a link out of its folder, which is not followed"),
    "a thousand times": (of_paths(*["a.bin"] * 1000), r"paths\[1\]: error: names 'a\.bin' a second time"),
    "no files": (of_paths(), "has 0 bytes, where its weights have 60"),
    "larger": (of_weight(shape=[2**40, 2**40]), "has 60 bytes, where its weights have"),
    "smaller": (of_weight(shape=[4, 2]), "has 60 bytes, where its weights have 44"),
    "negative": (of_weight(shape=[-4, -3]), rf"{WEIGHT}\.shape: error: is no shape: \[-4, -3\]"),
    "half": (of_weight(shape=[4.0, 3]), "is no shape"),
    "true": (of_weight(shape=[True, 12]), "is no shape"),
    "deep": (of_weight(shape=[1] * 40), "is no shape"),
    "text": (of_weight(shape="4x3"), "is no shape"),
    "other shape": (of_weight(shape=[3, 4]), r"with the shape \(3, 4\), where \(4, 3\) is wanted"),
    "no name": (of_weight(name=None), f"{WEIGHT}: error: has no name"),
    "name twice": (of_weight(name="d/bias"), r"weights\[1\]: error: has the name 'd/bias' a second time"),
    "strings": (of_weight(dtype="string"), rf"{WEIGHT}\.dtype: error: is string, where numbers are wanted"),
    "complex": (of_weight(dtype="complex64"), "is complex64, where numbers are wanted"),
    "type": (of_weight(dtype=[]), "where numbers are wanted"),
    "rounded type": (rounded(dtype="int4"), "has no dtype out of uint8, uint16, float16"),
    "rounded list": (of_weight(quantization=[]), "has no dtype out of uint8, uint16, float16"),
    "unhashable": (rounded(dtype=[]), "has no dtype out of uint8, uint16, float16"),
    "nan": (rounded(scale=float("nan")), rf"{WEIGHT}\.quantization\.scale: error: is no finite number: nan"),
    "infinite": (rounded(min=float("-inf")), rf"{WEIGHT}\.quantization\.min: error: is no finite number: -inf"),
    "no scale": (rounded(scale=None), "is no finite number: None"),
    "text for a number": (rounded(scale="1"), "is no finite number: 1"),
    "huge": (rounded(scale=1e300), "is no finite number"),
    "rounded sum": (rounded(), "has 60 bytes, where its weights have 24"),
    "weights": (lambda group: group.update(weights=3), r"\[0\]\.weights: error: is 3, where a list is wanted"),
    "weight": (lambda group: group.update(weights=[3]), "has no name"),
    "many": (lambda group: group.update(paths=["a"] * 100_001), "more than 100,000 weights and files"),
}


@pytest.mark.parametrize("name", LIES)
def test_manifests_that_lie(name: str, tmp_path: Path) -> None:
    change, message = LIES[name]
    folder = written(tmp_path / "model", sequence(FIRST), {"d/kernel": KERNEL, "d/bias": BIAS})
    assert regspec.port(folder).weights
    (folder / "folder").mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "a.bin")
    shutil.copy(folder / "a.bin", tmp_path)
    said = json.loads((folder / "model.json").read_text())
    change(said["weightsManifest"][0])
    (folder / "model.json").write_text(json.dumps(said))
    with pytest.raises(regspec.RegspecError, match=message) as raised:
        regspec.port(folder)
    assert str(folder / "model.json") in str(raised.value) or "other shape" in name


def test_a_model_by_a_link_or_a_pipe(tmp_path: Path) -> None:
    """In a folder that is given; what is itself given may be a link, because its user names it."""
    folder = written(tmp_path / "model", sequence(FIRST), {"d/kernel": KERNEL, "d/bias": BIAS})
    (tmp_path / "link").symlink_to(folder)
    assert regspec.port(tmp_path / "link").weights
    (folder / "model.json").rename(tmp_path / "model.json")
    (folder / "model.json").symlink_to(tmp_path / "model.json")
    with pytest.raises(regspec.RegspecError, match=r"'model\.json' is a link out of its folder"):
        regspec.port(folder)
    (folder / "model.json").unlink()
    os.mkfifo(folder / "model.json")
    with pytest.raises(regspec.RegspecError, match="is a folder with models in it"):
        regspec.port(folder)
    with pytest.raises(regspec.RegspecError, match="can't be read: it is a pipe or a device"):
        regspec.port(folder / "model.json")


@pytest.mark.parametrize("manifest", [3, "x", {"a": 1}, [3], [[]], [None]])
def test_manifests_of_other_kinds(manifest: Any, tmp_path: Path) -> None:
    folder = written(tmp_path, sequence(FIRST), {})
    said = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**said, "weightsManifest": manifest}))
    with pytest.raises(regspec.RegspecError, match=r"model\.json: \$\.weightsManifest"):
        regspec.port(folder)


TOPOLOGIES: dict[str, tuple[Any, str]] = {
    "null": (None, r"\$\.modelTopology: error: is null, where a mapping is wanted"),
    "number": (3, r"\$\.modelTopology: error: is 3, where a mapping is wanted"),
    "list": ([], r"\$\.modelTopology: error: is \[\], where a mapping is wanted"),
    "empty": ({}, r"\$\.modelTopology: error: says nothing of its layers: it has weights alone"),
    "no config": ({"model_config": 3}, r"\$\.modelTopology\.model_config: error: is 3, where a mapping"),
    "unhashable": ({"backend": "tensor_flow.js", "class_name": [], "config": {"class_name": []}}, r"\$\.class_name: "),
}


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_topologies_of_other_kinds(name: str, tmp_path: Path) -> None:
    topology, message = TOPOLOGIES[name]
    (tmp_path / "model.json").write_text(json.dumps({"modelTopology": topology, "weightsManifest": []}))
    with pytest.raises(regspec.RegspecError, match=rf"model\.json: {message}"):
        regspec.port(tmp_path)
