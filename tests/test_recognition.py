"""What a file is, by what is in it and whatever its name: what is no model of Keras is named, with the way out."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shlex
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
import yaml

import regspec

from .test_keras2 import FOLDER, agrees


def field(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer that holds bytes, fewer than 128."""
    return bytes([number << 3 | 2, len(content)]) + content


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")
    return buffer.getvalue()


def hdf5(change: Callable[[h5py.File], Any]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        change(file)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.h5"))
    return buffer.getvalue()


def of_torch(is_zip: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(3)}, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


LAYERS = "its graph has no layers of Keras"
ALONE = "it has arrays without layers"
LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 32690\n"
# What is in a file, what it is called, and how the way out begins.
FILES: dict[str, tuple[bytes, str, str | None]] = {
    "empty": (b"", "is an empty file", "was it downloaded whole?"),
    "git lfs": (LFS.encode(), "is a pointer of Git LFS, and not the file itself", "git lfs pull"),
    "tflite": (b"\x1c\0\0\0TFL3\x14\0 \0", "is a model of TensorFlow Lite", LAYERS),
    "onnx": (b"\x08\x08" + field(2, b"pytorch") + field(7, b"\x0a\x02ab"), "is a model of ONNX", LAYERS),
    "frozen": (
        field(1, field(1, b"input") + field(2, b"Placeholder")) * 2,
        "is a frozen graph of TensorFlow",
        LAYERS,
    ),
    "saved_model.pb": (b"\x08\x01\x12\x7f\x0a\x10", "is a part of a SavedModel of TensorFlow", "give its folder"),
    "keras_metadata.pb": (
        field(1, b"\x10\x01" + field(3, b"root") + field(4, b"_tf_keras_sequential")),
        "is a part of a SavedModel of TensorFlow",
        "give its folder",
    ),
    "index": (bytes(40) + bytes.fromhex("57fb808b247547db"), "is a part of a checkpoint of TensorFlow", ALONE),
    "checkpoint": (b'model_checkpoint_path: "a"\n', "is a part of a checkpoint of TensorFlow", ALONE),
    "pickle": (pickle.dumps({"a": [1, 2]}), "is a pickle, which is code, and is not run", "load it where it was made"),
    "old pickle": (pickle.dumps([1], protocol=2), "is a pickle, which is code, and is not run", "load it where"),
    "torch": (of_torch(True), "is a model of PyTorch", "it needs no port"),
    "old torch": (of_torch(False), "is a model of PyTorch", "it needs no port"),
    "safetensors": (struct.pack("<Q", 2) + b"{}" + bytes(4), "is a file of safetensors", ALONE),
    "gzip": (gzip.compress(b"x"), "is a compressed file", "unpack it"),
    "tar": (tarred(), "is a tar archive", "unpack it"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is an image", None),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "is an image", None),
    "html": (b"\n<!DOCTYPE html><html>", "is HTML or XML", "a page that was saved in place of the file?"),
    "code": (b'"""What it does."""\nimport keras\n', "is a text, and no model of Keras", "save the model itself"),
    "npy": (b"\x93NUMPY\x01\0", "is an array of NumPy", "it has numbers without layers"),
    "npz": (zipped("a.npy", "b.npy"), "is an archive of NumPy's arrays", ALONE),
    "zip": (zipped("folder/model.h5"), "is a zip with models in it", "unpack it"),
    "other zip": (zipped("word/document.xml"), "has no config.json: it is no model of Keras", None),
    "weights": (
        hdf5(lambda file: file.create_group("layers/dense/vars")),
        "is an HDF5 file of weights alone, without a model's config",
        "its config is needed too: regspec port model.json --weights FILE",
    ),
    "old weights": (
        hdf5(lambda file: file.attrs.update(layer_names=[b"a"])),
        "is an HDF5 file of weights alone, without a model's config",
        "its config is needed too",
    ),
    "data": (hdf5(lambda file: file.create_dataset("x", data=[1])), "is an HDF5 file with no model of Keras", None),
    "graph model": (
        json.dumps({"format": "graph-model", "modelTopology": {"node": []}}).encode(),
        "is a graph model of TensorFlow.js",
        LAYERS,
    ),
    "old graph model": (
        json.dumps({"modelTopology": {"node": []}, "weightsManifest": []}).encode(),
        "is a graph model of TensorFlow.js",
        LAYERS,
    ),
    "large graph model": (
        b'{"format": "graph-model", "x": "' + b" " * 11 * 2**20 + b'"}',
        "is a graph model of TensorFlow.js",
        LAYERS,
    ),
    "json": (b'{"a": 1}', "is JSON that describes no model of Keras", "open('model.json', 'w')"),
    "wrapped": (
        json.dumps({"model": {"class_name": "Sequential", "config": []}}).encode(),
        "is JSON that describes no model of Keras",
        "what stands in it under 'model' is one",
    ),
    "quoted thrice": (
        json.dumps(json.dumps(json.dumps(json.dumps({})))).encode(),
        "is JSON that describes no model of Keras",
        "open('model.json', 'w')",
    ),
    "layer": (b'{"class_name": "Dense", "config": {"units": 3}}', "is the config of a layer, Dense", "model.to_json()"),
    "subclass": (
        b'{"class_name": "VAE", "config": {}, "registered_name": "VAE"}',
        "is of the class 'VAE', which is the user's own",
        "where the class is at hand: keras.Model(x, model.call(x))",
    ),
    "spec": (b"# mine\nregspec: 1\ninputs: {}\n", "is a spec of regspec", "it needs no port: regspec check FILE"),
    "text": (
        b"import keras\nmodel = keras.Sequential()\n",
        "is a text, and no model of Keras",
        "save the model itself",
    ),
    "noise": (bytes(range(130, 256)), "is no file of Keras", "save the model itself"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_what_is_no_model_is_named(name: str, suffix: str, tmp_path: Path) -> None:
    content, what, way_out = FILES[name]
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(content)
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.port(path)
    (problem,) = raised.value.problems
    assert problem.what.startswith(what)
    assert (problem.hint is None) if way_out is None else str(problem.hint).startswith(way_out)
    assert problem.path == str(path)


@pytest.mark.parametrize(
    "member",
    [
        *("saved_model.pb", "keras_metadata.pb", "variables/variables.index"),
        *("variables/variables.data-00000-of-00001", "model.json", "group1-shard2of3.bin"),
    ],
)
def test_a_pointer_in_the_place_of_a_file_of_a_folder_is_named(member: str, tmp_path: Path) -> None:
    """As a clone without Git LFS has it, where small files are whole and large ones are not."""
    with zipfile.ZipFile(FOLDER.parent / "saved_models" / "tf_2_15_0" / "sequence.zip") as archive:
        archive.extractall(tmp_path)
    (folder,) = {each.parent for each in tmp_path.rglob("saved_model.pb")}
    if not (folder / member).exists():
        folder = tmp_path / "tfjs"
        shutil.copytree(FOLDER.parent / "tfjs" / "uint8", folder)
    assert (folder / member).is_file()
    (folder / member).write_text(LFS)
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.port(folder)
    (problem,) = raised.value.problems
    assert (problem.what, problem.hint) == ("is a pointer of Git LFS, and not the file itself", "git lfs pull")
    assert problem.path == str(folder / member)


@pytest.mark.parametrize("name", ["empty", "git lfs", "torch", "data", "json", "tflite"])
def test_what_are_no_weights_is_named(name: str, tmp_path: Path) -> None:
    content, what, _ = FILES[name]
    (tmp_path / "weights.h5").write_bytes(content)
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.port(FOLDER / "keras_2_21_0" / "graph.json", weights=tmp_path / "weights.h5")
    (problem,) = raised.value.problems
    assert "where the weights of a model are wanted" in problem.what
    assert problem.path == str(tmp_path / "weights.h5")
    assert problem.what.startswith(what) or name == "json"


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("saved_models/tf_2_15_0/attending.zip", "is a zip with models in it, where the weights of a model are wanted"),
        ("keras2", "is a folder, where the weights of a model are wanted"),
        ("keras2/keras_2_21_0/graph.json", "is JSON of a model of Keras, where the weights of a model are wanted"),
        ("absent.keras", "can't be read: No such file"),
        ("a\0b", "can't be read: no path has a zero byte"),
    ],
)
def test_other_paths_are_no_weights(path: str, what: str) -> None:
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.port(FOLDER / "keras_2_21_0" / "graph.json", weights=FOLDER.parent / path)
    assert raised.value.problems[0].what.startswith(what)


FOLDERS = {
    "checkpoint": (
        ("checkpoint", "a.index", "a.data-00000-of-00001"),
        "is a checkpoint of TensorFlow",
        ALONE,
    ),
    "unpacked": (
        ("config.json", "metadata.json", "model.weights.h5"),
        "is a .keras file that was unpacked",
        "zip its files again",
    ),
    "models": (("model.h5", "notes.txt"), "is a folder with models in it", "give one of its files"),
    "empty": ((), "is a folder, and no SavedModel", "a SavedModel has a saved_model.pb"),
    "other": (("notes.txt",), "is a folder, and no SavedModel", "a SavedModel has a saved_model.pb"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_are_named(name: str, tmp_path: Path) -> None:
    names, what, way_out = FOLDERS[name]
    for each in names:
        (tmp_path / each).write_bytes(b"")
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.port(tmp_path)
    (problem,) = raised.value.problems
    assert problem.what == what
    assert (problem.hint is None) if way_out is None else str(problem.hint).startswith(way_out)


def test_a_part_of_a_model_of_tensorflow_js() -> None:
    with pytest.raises(regspec.RegspecError, match=r"is a file of weights of TensorFlow\.js\n.*give its folder"):
        regspec.port(FOLDER.parent / "tfjs" / "teachable" / "weights.bin")


# -- texts that are read -----------------------------------------------------------------------------------------------

KEPT = ("keras_1_2_2/sequence.h5", "keras_2_0_8/nested.h5", "keras_2_2_4/graph.h5", "keras_2_21_0/graph.h5")


def config_of(name: str) -> dict[str, Any]:
    with h5py.File(FOLDER / name) as file:
        return {**json.loads(file.attrs["model_config"]), "keras_version": str(file.attrs["keras_version"])}


def with_tuples(value: Any) -> Any:
    """Lists of numbers as the tuples that they were before they became JSON."""
    if isinstance(value, dict):
        return {key: with_tuples(each) for key, each in value.items()}
    if not isinstance(value, list):
        return value
    is_shape = bool(value) and all(each is None or isinstance(each, int) for each in value)
    return tuple(value) if is_shape else [with_tuples(each) for each in value]


TEXTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "JSON": json.dumps,
    "JSON in JSON": lambda config: json.dumps(json.dumps(config)),
    "JSON in JSON in JSON": lambda config: json.dumps(json.dumps(json.dumps(config))),
    "YAML": lambda config: yaml.dump(with_tuples(config)),
    "YAML of Python 2": lambda config: yaml.dump(with_tuples(config)).replace("name: ", "name: !!python/unicode "),
    "flow YAML": lambda config: "keras_version: 2.2.4\n" + yaml.dump(config, default_flow_style=None),
    "topology": lambda config: json.dumps({"keras_version": config.pop("keras_version"), "model_config": config}),
}


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("name", KEPT)
def test_texts_are_read(name: str, form: str, tmp_path: Path) -> None:
    path = tmp_path / "model.txt"
    path.write_text(TEXTS[form](config_of(name)))
    with np.load((FOLDER / name).with_suffix(".npz")) as found:
        agrees(regspec.port(path, weights=FOLDER / name), found)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config_of(KEPT[3])), encoding=encoding)
    assert regspec.port(path).spec.inputs


@pytest.mark.parametrize("name", ["keras_1_2_2/graph.h5", *KEPT[1:]])
def test_configs_without_a_class(name: str, tmp_path: Path) -> None:
    """What get_config() gives: the generation is that of its words."""
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config_of(name)["config"]))
    with np.load((FOLDER / name).with_suffix(".npz")) as found:
        port = regspec.port(path, weights=FOLDER / name, activity_reduction="mean" if "21" in name else "sum")
        agrees(port, found)


def sequence(*layers: Any) -> str:
    return json.dumps([{"class_name": name, "config": config} for name, config in layers])


def test_a_list_of_layers_is_a_sequence_of_keras_2(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(sequence(("InputLayer", {"batch_shape": [None, 3]}), ("Dense", {"name": "d", "units": 4})))
    port = regspec.port(path)
    assert port.provenance.generation == 2
    assert [*port.spec.layers]


YAMLS: dict[str, tuple[str, str]] = {
    "a call": ("config: !!python/object/apply:os.system ['true']", "has the tag !!python/object/apply:os.system"),
    "a wrapper of a text": (
        "config: !!python/object/apply:tensorflow.data_structures.ListWrapper [a]",
        "a ListWrapper of something else than a list",
    ),
    "a wrapper of nothing": (
        "config: !!python/object/apply:tensorflow.data_structures.ListWrapper []",
        "a ListWrapper of something else than a list",
    ),
    "a name": ("config: !!python/name:os.system", "has the tag !!python/name:os.system"),
    "bytes": ("config: !!binary aGk=", "has the tag !!binary, of which nothing is made"),
    "a tuple of keys": ("config: !!python/tuple {a: 1}", "has the tag !!python/tuple"),
    "one's own": ("config: !mine 3", "has the tag !mine"),
    "aliases": (
        "config:\n" + "".join(f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else '0'}]\n" for n in range(12)),
        "values in values without end",
    ),
    "depth": ("config: " + "[" * 400 + "]" * 400, "values in values without end"),
    "more depth": ("config: " + "[" * 200_000, "values in values without end|nesting depth"),
    "depth by aliases": (
        "config:\n- &b0 [0]\n" + "".join(f"- &b{n} [*b{n - 1}]\n" for n in range(1, 400)),
        "values in values without end",
    ),
    "a cycle": ("config: &c [*c]", "has '*c', which names nothing that stands before it"),
    "no anchor": ("config: *c", "undefined alias|names nothing that stands before it"),
    "two documents": ("config: 1\n---\nconfig: 2", "has 2 documents"),
    "a list for a key": ("config: {[1]: 2}", "a key that is no text"),
    "broken": ("config: {a", "is no YAML"),
    "digits": ("config: " + "9" * 5000, "has a number of 5,000 characters"),
    "hexadecimal digits": ("class_name: 0x" + "f" * 5000 + "\nconfig: {}", "has a number of 5,002 characters"),
    "a number to the base 60": ("config: 1" + ":1" * 1_000_000, "has a number of 2,000,001 characters"),
    "a float to the base 60": ("config: 1" + ":1" * 400 + ".5", "has a number of 803 characters"),
    "no model": ("config: 1", "is YAML that describes no model of Keras"),
    "large": ("config: [" + "0, " * 2_000_000 + "]", "is larger than any model's config"),
}


@pytest.mark.parametrize("name", YAMLS)
def test_yaml_is_plain_data(name: str, tmp_path: Path) -> None:
    text, message = YAMLS[name]
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(regspec.RegspecError, match=message.replace("*", r"\*").replace("[", r"\[")) as raised:
        regspec.port(path)
    assert "model.yaml" in str(raised.value)


def test_what_tensorflow_2_1_wrote_around_a_list(tmp_path: Path) -> None:
    wrapper = "!!python/object/apply:tensorflow.python.training.tracking.data_structures.ListWrapper"
    path = tmp_path / "model.yaml"
    path.write_text(
        "class_name: Sequential\nkeras_version: 2.3.0-tf\nconfig:\n  name: s\n  layers:\n"
        "  - class_name: BatchNormalization\n    config:\n      name: b\n"
        f"      axis: {wrapper}\n      - - 1\n"
        "      batch_input_shape: &id001 !!python/tuple [null, 4]\n"
        "  - {class_name: Dense, config: {name: d, units: 3}}\n"
    )
    text = regspec.port(path).text
    assert "- BatchNormalization: {name: b, moving_variance: biased}" in text
    assert "- Dense: {name: d, units: 3}" in text


def test_hdf5_behind_a_block_of_something_else(tmp_path: Path) -> None:
    name = "keras_2_21_0/graph.h5"
    path = tmp_path / "model.bin"
    path.write_bytes(b"x" * 512 + (FOLDER / name).read_bytes())
    with np.load((FOLDER / name).with_suffix(".npz")) as found:
        agrees(regspec.port(path), found)


@pytest.mark.parametrize("offset", [512, 1024, 2048])
def test_an_archive_whose_weights_lie_where_hdf5_may_begin(offset: int, tmp_path: Path) -> None:
    """As they do in one of some hundred."""
    example = Path(__file__).parents[1] / "examples" / "keras_mlp.keras"
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(example) as given, zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("model.weights.h5")
        room = offset - zipfile.sizeFileHeader - len(member.filename) - 4
        member.extra = struct.pack("<HH", 0x9999, room) + bytes(room)
        for name in (member, "config.json", "metadata.json"):
            archive.writestr(name, given.read(member.filename if name is member else name))
    assert path.read_bytes()[offset : offset + 4] == b"\x89HDF"
    assert regspec.port(path).text == regspec.port(example).text


@pytest.mark.parametrize(("number", "size"), [(0, 0), (7, 2**64 - 16)], ids=["free", "used"])
def test_heaps_without_an_end(number: int, size: int, tmp_path: Path) -> None:
    """HDF5 itself goes round in them for ever: the second object of the heap of texts leads to its own place."""
    raw = bytearray((FOLDER / "keras_2_21_0/graph.h5").read_bytes())
    struct.pack_into("<HHIQ", raw, raw.index(b"GCOL") + 40, number, 0, 0, size)
    path = tmp_path / "model.h5"
    path.write_bytes(raw)
    with pytest.raises(regspec.RegspecError, match="is damaged: a heap of its texts has no end"):
        regspec.port(path)
    with pytest.raises(regspec.RegspecError, match="is damaged: a heap of its texts has no end"):
        regspec.port(FOLDER / "keras_2_21_0/graph.json", weights=path)


@pytest.mark.parametrize(
    ("weights", "config", "is_said"),
    [
        ("net.h5", "net.json", True),
        ("net.weights.h5", "net.json", True),
        ("best weights.hdf5", "model.json", True),
        ("net.h5", "net.yml", True),
        ("net.h5", "other.json", False),
        ("net.h5", "net.txt", False),
    ],
)
def test_a_config_beside_weights(weights: str, config: str, is_said: bool, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")])
    (tmp_path / weights).write_bytes(hdf5(lambda file: file.create_group("layers/dense/vars")))
    text = model.to_json()
    (tmp_path / config).write_text(text if config.endswith("json") else yaml.safe_dump(json.loads(text)))
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.port(tmp_path / weights)
    (problem,) = caught.value.problems
    assert problem.hint is not None
    said = shlex.split(problem.hint.partition("beside it: ")[2])
    wanted = ["regspec", "port", str(tmp_path / config), "--weights", str(tmp_path / weights)]
    assert said == (wanted if is_said else [])


def test_a_config_that_is_broken_lies_beside_weights(tmp_path: Path) -> None:
    (tmp_path / "net.h5").write_bytes(hdf5(lambda file: file.create_group("layers/dense/vars")))
    (tmp_path / "net.json").write_text("{")
    with pytest.raises(regspec.RegspecError, match=r"regspec port model\.json --weights FILE"):
        regspec.port(tmp_path / "net.h5")


NUMBERS: list[tuple[dict[str, Any], str, Any]] = [
    ({"trainable": 0}, "trainable", False),
    ({"trainable": 1}, "trainable", True),
    ({"trainable": -1}, "trainable", True),
    ({"use_bias": 0}, "use_bias", False),
    ({"use_bias": 0.0}, "use_bias", False),
    ({"use_bias": -1}, "use_bias", True),
    ({"use_bias": 2.5}, "use_bias", True),
]


@pytest.mark.parametrize(("fields", "key", "wanted"), NUMBERS)
def test_numbers_that_say_true_or_false(fields: dict[str, Any], key: str, wanted: bool, tmp_path: Path) -> None:
    """As Python takes them; a public file has `stateful: -1`."""
    dense = {"class_name": "Dense", "config": {"name": "d", "units": 3, "batch_input_shape": [None, 4], **fields}}
    for layer in (dense, {"class_name": "TimeDistributed", "config": {"name": "d", "layer": dense}}):
        config = {"name": "m", "layers": [layer], "build_input_shape": [None, 4] if layer is dense else [None, 5, 4]}
        (tmp_path / "m.json").write_text(json.dumps({"class_name": "Sequential", "config": config}))
        own = regspec.port(tmp_path / "m.json").spec.layers[0].layer
        assert getattr(own if layer is dense else own.layer, key) is wanted


def test_a_sequence_whose_inputs_are_a_mapping(tmp_path: Path) -> None:
    """As those of TensorFlow's feature columns."""
    layers = [{"class_name": "DenseFeatures", "config": {"name": "f", "feature_columns": []}}]
    config = {"name": "m", "layers": layers, "build_input_shape": {"age": [None, 1], "height": [None, 1]}}
    (tmp_path / "m.json").write_text(json.dumps({"class_name": "Sequential", "config": config}))
    with pytest.raises(
        regspec.RegspecError, match=r"a mapping, age, height, which 'f' \(DenseFeatures\) takes"
    ) as told:
        regspec.port(tmp_path / "m.json")
    assert "port a model of the layers behind it" in str(told.value)
