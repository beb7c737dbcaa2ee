"""SavedModels of Keras 2, ported: outputs, penalties and gradients are what that Keras computed.

`saved_models/make.py` has made the files, and what to expect of them; `saved_models/writing.py` writes those that
differ in their bytes alone.
"""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import regspec
from regspec.graph.loading import graph_of
from regspec.keras.formats import reading
from regspec.keras.formats.saved_model.checksums import crc32c, masked
from regspec.keras.formats.saved_model.table import unpacked
from regspec.keras.verification.original import Original

from .saved_models import writing
from .saved_models.writing import BIAS, KERNEL, dense, entry, field, words, write
from .test_keras2 import agrees

FOLDER = Path(__file__).parent / "saved_models"
FILES = sorted(FOLDER.glob("tf_*/*.zip"))
MODELS = [path for path in FILES if path.with_suffix(".npz").exists() and path.stem != "distributed"]


def named(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def folder_of(path: Path, target: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(target / path.stem)
    return target / path.stem


@pytest.mark.parametrize("path", MODELS, ids=named)
def test_computes_what_its_keras_did(path: Path, tmp_path: Path) -> None:
    port = regspec.port(folder_of(path, tmp_path))
    with np.load(path.with_suffix(".npz")) as found:
        agrees(port, found)
    account = port.provenance.account
    assert port.provenance.form == "SavedModel"
    assert account is not None
    assert account.is_complete


@pytest.mark.parametrize("form", ["tf_2_15_0/cudnn.zip", "tf_2_4_4/cudnn.zip", "tf_2_15_0/cudnn.keras"])
def test_layers_for_cudnn(form: str, tmp_path: Path) -> None:
    """As in an .h5 file, of whose layers of that sort `test_keras2` has what they compute."""
    path = FOLDER / form
    port = regspec.port(path if path.suffix == ".keras" else folder_of(path, tmp_path))
    wanted = regspec.port(FOLDER / "tf_2_15_0" / "cudnn.h5")
    assert port.text == wanted.text
    assert port.weights.keys() == wanted.weights.keys()
    for name, array in wanted.weights.items():
        np.testing.assert_array_equal(port.weights[name], array)


@pytest.mark.parametrize("path", [path for path in FILES if path.stem == "distributed"], ids=named)
def test_a_model_in_a_wrapper(path: Path, tmp_path: Path) -> None:
    """Its arrays lie where those of a model lie, and it is frozen by what is said of the model around it alone."""
    stored = reading.read(folder_of(path, tmp_path))
    assert stored.arrays is not None
    found = stored.arrays.below("layers/time_distributed/layer/layers") | stored.arrays.below("layers/dense")
    order = [f"dense/vars/{n}" for n in (0, 1)] + [f"batch_normalization/vars/{n}" for n in (0, 1)]
    order += (
        [f"dense_1/vars/{n}" for n in (0, 1)] + [f"batch_normalization/vars/{n}" for n in (2, 3)] + ["vars/0", "vars/1"]
    )
    assert {*found} == {*order}
    with np.load(path.with_suffix(".npz")) as arrays:
        wanted = [arrays[f"weight:{index}"] for index in range(len(order))]
    of_layer = {array.tobytes() for array in wanted}
    assert {found[name][()].tobytes() for name in order} == of_layer
    for name, shape in (("batch_normalization/vars/2", (3,)), ("dense_1/vars/0", (3, 2)), ("vars/0", (2, 2))):
        assert found[name].shape == shape
    layers = stored.config["config"]["layers"]
    inside = next(each for each in layers if each["class_name"] == "TimeDistributed")["config"]["layer"]
    own = [each for each in [*layers, *inside["config"]["layers"]] if each["class_name"] != "InputLayer"]
    assert [each["config"]["trainable"] for each in own if each["class_name"] != "TimeDistributed"] == [False] * 4


def test_arrays_are_no_views_of_the_folder(tmp_path: Path) -> None:
    """What becomes of it later changes no port."""
    folder = writing.write(tmp_path)
    port = regspec.port(folder)
    before = {name: array.copy() for name, array in port.weights.items()}
    shard = folder / "variables/variables.data-00000-of-00001"
    with shard.open("r+b") as file:
        file.write(bytes(shard.stat().st_size))
    for name, array in port.weights.items():
        assert array.any()
        np.testing.assert_array_equal(array, before[name])


def test_what_it_was_compiled_with(tmp_path: Path) -> None:
    for path in (path for path in FILES if path.stem == "sequence"):
        training = regspec.port(folder_of(path, tmp_path / path.parent.name)).training
        assert training["optimizer"] == "keras_adam" or "keras_adam" in training["optimizer"]
        assert training["lr"] == pytest.approx(0.01)


@pytest.mark.parametrize("path", [path for path in FILES if path.stem == "graph"], ids=named)
def test_penalties_that_no_config_has(path: Path, tmp_path: Path) -> None:
    """And what is frozen: a layer, and a model in a model."""
    model = regspec.port(folder_of(path, tmp_path)).build()
    model(torch.ones(2, 4), torch.ones(2, 4))
    names = {*model.regularization_terms()}
    assert {"add.activity", "re_lu.activity"} <= names
    frozen = {name.rpartition(".")[0] for name, each in model.named_parameters() if not each.requires_grad}
    assert frozen == {"frozen", *(name for name in frozen if ".second." in name)}
    assert len(frozen) == 3


REFUSED = {
    "subclassed": r"of the class 'Own', which is no Sequential or functional.*float32 \(None, 4\)\) -> .*\(None, 3\)",
    "module": r"without a model of Keras.*: serving_default\(x float32 \(None, 1\)\) -> twice float32 \(None, 2\)",
    "builder": r"without a model of Keras.*: serving_default\(x float32 \(None, 2\)\) -> y float32 \(None, 3\)",
}


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in REFUSED], ids=named)
def test_what_has_no_layers_is_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(regspec.RegspecError, match=REFUSED[path.stem]) as caught:
        regspec.port(folder_of(path, tmp_path))
    assert "model.save('model.keras')" in (caught.value.problems[0].hint or "")


# -- where it is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "saved_model.pb", "keras_metadata.pb"])
def test_its_folder_or_a_file_in_it(name: str, tmp_path: Path) -> None:
    port = regspec.port(write(tmp_path / "saved") / name)
    assert port.provenance.path == tmp_path / "saved"
    np.testing.assert_array_equal(port.weights["d.weight"], KERNEL.T)
    np.testing.assert_array_equal(port.weights["d.bias"], BIAS)
    port.save(tmp_path / "port")
    assert "- **From:** `saved`: a SavedModel, written by Keras `2.15.0`." in (tmp_path / "port/report.md").read_text()


MISSING = {
    "saved_model.pb": "is a folder, and no SavedModel",
    "keras_metadata.pb": "has no keras_metadata.pb, in which Keras says what its layers are",
    "variables/variables.index": "has no variables/variables.index, and so no weights",
    "variables/variables.data-00000-of-00001": "00000-of-00001', which has its arrays, is not there; give",
}


@pytest.mark.parametrize("name", MISSING)
def test_files_that_are_missing(name: str, tmp_path: Path) -> None:
    (write(tmp_path) / name).unlink()
    with pytest.raises(regspec.RegspecError, match=MISSING[name]):
        regspec.port(tmp_path)


def test_other_folders(tmp_path: Path) -> None:
    write(tmp_path / "served" / "12")
    (tmp_path / "text").mkdir()
    (tmp_path / "text/saved_model.pbtxt").write_text("saved_model_schema_version: 1")
    with pytest.raises(regspec.RegspecError, match=r"no SavedModel(?s:.*)did you mean '.*served.12'"):
        regspec.port(tmp_path / "served")
    with pytest.raises(regspec.RegspecError, match=r"no SavedModel(?s:.*)did you mean '.*served.12'"):
        regspec.port(tmp_path / "served/12/variables")
    with pytest.raises(regspec.RegspecError, match="a SavedModel as text"):
        regspec.port(tmp_path / "text")
    with pytest.raises(regspec.RegspecError, match="can't be read: No such file"):
        regspec.port(tmp_path / "nowhere/saved_model.pbtxt")


def test_other_weights(tmp_path: Path) -> None:
    """Those in the folder need not be there then."""
    shutil.rmtree(write(tmp_path / "saved") / "variables")
    with h5py.File(tmp_path / "own.weights.h5", "w") as file:
        file["layers/dense/vars/0"], file["layers/dense/vars/1"] = KERNEL + 1, BIAS
    port = regspec.port(tmp_path / "saved", weights=tmp_path / "own.weights.h5")
    np.testing.assert_array_equal(port.weights["d.weight"], KERNEL.T + 1)


def test_words_in_the_graph_itself(tmp_path: Path) -> None:
    """As TensorFlow up to 2.4 writes them."""
    text = json.dumps(words(dense(), keras_version="2.3.0-tf"))
    write(tmp_path, graph=writing.saved(said=text))
    (tmp_path / "keras_metadata.pb").unlink()
    port = regspec.port(tmp_path)
    assert (port.provenance.version, port.provenance.generation) == ("2.3.0-tf", 2)
    np.testing.assert_array_equal(port.weights["d.weight"], KERNEL.T)


# -- how its arrays are kept -------------------------------------------------------------------------------------------

INDICES: dict[str, dict[str, Any]] = {
    "blocks": {"many": 1},
    "Snappy": {"is_packed": True},
    "blocks of Snappy": {"many": 2, "is_packed": True},
}


@pytest.mark.parametrize("name", INDICES)
def test_tables(name: str, tmp_path: Path) -> None:
    weights = regspec.port(write(tmp_path, **INDICES[name])).weights
    np.testing.assert_array_equal(weights["d.weight"], KERNEL.T)


@pytest.mark.parametrize("size", [0, 1, 4, 5, 6, 12, 13, 64, 65, 66, 300])
def test_snappy(size: int) -> None:
    for data in (b"a" * size, bytes(range(256)) * 2, b"ab" * size + b"c" * size):
        assert unpacked(writing.snappy(data[:size])) == data[:size]


# Of a size of 70,000: pieces of lengths in one, two and three bytes, and copies far back.
LONG = bytes(range(256)) * 274
PIECES = [
    (b"\xf0\x3b" + LONG[:60], LONG[:60]),
    (b"\xf4" + struct.pack("<H", 299) + LONG[:300], LONG[:300]),
    (b"\xf8" + struct.pack("<I", 70_000)[:3] + LONG[:70_001], LONG[:70_001]),
    (b"\xf4" + struct.pack("<H", 299) + LONG[:300] + b"\x3d\x2c", LONG[:300] + LONG[:11]),
    (b"\xf4" + struct.pack("<H", 299) + LONG[:300] + b"\xff" + struct.pack("<I", 300), LONG[:300] + LONG[:64]),
]


@pytest.mark.parametrize("index", range(len(PIECES)))
def test_pieces_of_snappy(index: int) -> None:
    packed, wanted = PIECES[index]
    assert unpacked(writing.varint(len(wanted)) + packed) == wanted


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 15, 16, 17, 100, 1023, 1024, 4097])
def test_checksums(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert masked(data) == writing.masked(data)


def test_a_known_checksum() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, and everybody since
    assert crc32c(bytes(32)) == 0x8A9136AA  # its appendix B.4


TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 17: "<u2", 19: "<f2", 22: "<u4", 23: "<u8"}


def other_kernel(folder: Path, numbers: np.ndarray[Any, Any], number: int, header: bytes = writing.HEADER) -> Path:
    """A model whose kernel is an array of another type, and whose bias is left out."""
    edges = [writing.EDGES[0], ({"kernel": 2}, b""), writing.EDGES[2]]
    rows, data = writing.rows_of(edges)
    rows |= {b"": header, b"k": entry((4, 3), len(data), numbers.nbytes, dtype=number)}
    del rows[b"b"]
    write(folder, said={0: words(dense(use_bias=False))}, index=writing.table(rows))
    (folder / "variables/variables.data-00000-of-00001").write_bytes(data + numbers.tobytes())
    return folder


@pytest.mark.parametrize("number", TYPES)
def test_types(number: int, tmp_path: Path) -> None:
    numbers = np.arange(12).reshape(4, 3).astype(TYPES[number])
    assert regspec.port(other_kernel(tmp_path, numbers, number)).weights["d.weight"].tolist() == numbers.T.tolist()


@pytest.mark.parametrize("order", ["little", "big"])
def test_bfloat16_and_the_order_of_bytes(order: str, tmp_path: Path) -> None:
    """A bfloat16 is the upper half of a float32."""
    sign, is_big = (">" if order == "big" else "<"), order == "big"
    header = field(1, 1) + (field(2, 1) if is_big else b"") + field(3, field(1, 1))
    numbers = np.array([0.5, -1.5, 3, 1 / 4] * 3, "<f4").reshape(4, 3)
    halves = (numbers.view("<u4") >> 16).astype(f"{sign}u2")
    for name, array, number in (("half", halves, 14), ("whole", numbers.astype(f"{sign}f4"), 1)):
        port = regspec.port(other_kernel(tmp_path / name, array, number, header))
        assert port.weights["d.weight"].tolist() == numbers.T.tolist()


def extent(start: int, size: int | None) -> bytes:
    return field(1, (field(1, start) if start else b"") + (b"" if size is None else field(2, size)))


def sliced(places: list[tuple[tuple[int, int | None], ...]]) -> tuple[bytes, list[bytes]]:
    """The entry of a kernel that is cut into parts, and the entries of the parts, in the order of ``places``."""
    parts, offset = [], 0
    data = b""
    for rows, columns in places:
        part = KERNEL[slice(rows[0], None if rows[1] is None else rows[0] + rows[1])]
        part = part[:, slice(columns[0], None if columns[1] is None else columns[0] + columns[1])]
        parts.append(entry(part.shape, offset, part.nbytes, shard=1))
        data, offset = data + part.tobytes(), offset + part.nbytes
    slices = b"".join(field(7, extent(*rows) + extent(*columns)) for rows, columns in places)
    return field(1, 1) + field(2, writing.shape(4, 3)) + slices, [*parts, data]


def cut(folder: Path, places: list[tuple[tuple[int, int | None], ...]]) -> Path:
    """A model whose kernel is cut into parts, which lie in a second file."""
    whole, [*parts, data] = sliced(places)
    rows, _ = writing.rows_of()
    rows |= {b"": field(1, 2), b"k": whole}
    rows |= {b"\x00k\x00\x01" + bytes([index]): each for index, each in enumerate(parts)}
    write(folder, index=writing.table(rows))
    (folder / "variables/variables.data-00000-of-00001").rename(folder / "variables/variables.data-00000-of-00002")
    (folder / "variables/variables.data-00001-of-00002").write_bytes(data)
    return folder


CUTS: list[list[tuple[tuple[int, int | None], ...]]] = [
    [((0, 1), (0, None)), ((1, 3), (0, None))],
    [((0, None), (0, 2)), ((0, None), (2, 1))],
    [((0, 2), (0, 1)), ((0, 2), (1, 2)), ((2, 2), (0, 3))],
    [((0, 4), (0, 3))],
]


@pytest.mark.parametrize("index", range(len(CUTS)))
def test_arrays_that_are_cut(index: int, tmp_path: Path) -> None:
    np.testing.assert_array_equal(regspec.port(cut(tmp_path, CUTS[index])).weights["d.weight"], KERNEL.T)


NO_CUTS: list[list[tuple[tuple[int, int | None], ...]]] = [
    [((0, 1), (0, None)), ((1, 2), (0, None))],
    [((0, 2), (0, None)), ((1, 2), (0, None))],
    [((0, 2), (0, None)), ((3, 2), (0, None))],
]


@pytest.mark.parametrize("index", range(len(NO_CUTS)))
def test_parts_that_do_not_make_an_array(index: int, tmp_path: Path) -> None:
    with pytest.raises(
        regspec.RegspecError, match=r"parts that (do not make it|overlap)|part of an array lies outside"
    ):
        regspec.port(cut(tmp_path, NO_CUTS[index]))


# -- verification ------------------------------------------------------------------------------------------------------


def test_keras_gets_the_config_and_the_arrays(tmp_path: Path) -> None:
    """And not the folder, whose functions its own loader would load."""
    given: dict[str, Any] = {}

    def load(path: str) -> None:
        with h5py.File(path) as file:
            given["arrays"] = [file[f"layers/dense/vars/{index}"][()].tolist() for index in (0, 1)]

    def model_from_json(text: str) -> Any:
        given["config"] = json.loads(text)
        return SimpleNamespace(load_weights=load, _flatten_layers=list)

    port = regspec.port(write(tmp_path))
    package: Any = SimpleNamespace(__name__="tf_keras", __version__="2.21.0", models=SimpleNamespace())
    package.models.model_from_json = model_from_json
    original = Original(package, "tensorflow", port.provenance, graph_of(port.spec))
    original.load_file(reading.read(tmp_path).arrays)
    assert given["arrays"] == [KERNEL.tolist(), BIAS.tolist()]
    assert given["config"] == port.provenance.config
    assert "which array of the file is which layer's" in original.unasked[0]
