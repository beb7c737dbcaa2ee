"""Files of Keras that are damaged, or that lie: each is a fault that is told in a sentence, in bounded time and memory.

What is known to have gone wrong in other loaders stands in `test_port.py`; here is what mutated files have found.
"""

from __future__ import annotations

import copy
import io
import json
import random
import resource
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import regspec

Config = dict[str, Any]


def layer(kind: str, name: str, **fields: Any) -> Config:
    return {"class_name": kind, "config": {"name": name, **fields}, "name": name}


def sequence(*layers: Any) -> Config:
    first = layer("InputLayer", "x", batch_shape=[None, 4], dtype="float32")
    return {"class_name": "Sequential", "config": {"name": "model", "layers": [first, *layers]}}


def dense(**fields: Any) -> Config:
    return sequence(layer("Dense", "d", **{"units": 3, **fields}))


def tensor(*history: Any) -> Config:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [*history]}}


def graph(*nodes: Any, outputs: Any = ("d", 0, 0)) -> Config:
    first = layer("InputLayer", "x", batch_shape=[None, 4], dtype="float32")
    called = {**layer("Dense", "d", units=3), "inbound_nodes": [*nodes]}
    config = {"name": "m", "layers": [first, called], "input_layers": [["x", 0, 0]], "output_layers": [[*outputs]]}
    return {"class_name": "Functional", "config": config}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def models(depth: int) -> Config:
    value = dense()
    for index in range(depth):
        value = sequence({**value, "config": {**value["config"], "name": f"m{index}"}})
    return value


GOOD = graph({"args": [tensor("x", 0, 0)], "kwargs": {}})

CONFIGS: list[tuple[Any, str]] = [
    (dense(units=10**400), "units"),
    (dense(units="3"), "units"),
    (dense(units=[3]), "units"),
    (dense(units=True), "units"),
    (dense(units={"a": 1}), "the value .* of units"),
    (dense(units=nested(100)), "nested deeper"),
    (dense(units=nested(300)), "values in values without end"),
    (models(70), "values in values without end"),
    (dense(kernel_regularizer={"class_name": "L2", "config": {"l2": float("nan")}}), "l2"),
    (dense(kernel_regularizer={"class_name": "L2", "config": {"l2": 10**400}}), "damaged|l2"),
    (dense(kernel_regularizer={"class_name": "L2", "config": {"l2": "much"}}), "damaged|l2"),
    (dense(kernel_regularizer={"class_name": "L2", "config": [1]}), "regularizer 'L2'"),
    (dense(kernel_regularizer=["l2"]), "the regularizer"),
    (dense(kernel_initializer={"class_name": 3}), "the initializer"),
    (dense(activation={"class_name": "function", "config": {"a": 1}}), "the activation"),
    (dense(activation="\x1b[2J" * 9), "the activation '.*"),
    (dense(activation="x" * 10**6), "the activation 'xxx"),
    (sequence(layer("Mine", "\x1b[2J\u202e" * 9)), "no kind ports the class Mine"),
    (dense(dtype={"class_name": "DTypePolicyMap", "config": {"default_policy": nested(9)}}), "the precision"),
    (sequence(layer("Conv1D", "c", filters=3, kernel_size=2, data_format=["channels_last"])), "data_format"),
    (sequence(layer("Dense" * 10**5, "d")), "no kind ports the class"),
    (sequence({"class_name": "Dense", "config": [1]}), "whose config is no mapping"),
    (sequence({"class_name": "Dense"}), "units"),
    (sequence(layer("TimeDistributed", "t", layer=3)), "damaged|layer"),
    (sequence(layer("Sequential", "s", layers=[])), "can't be ported"),
    (sequence(*(layer("Dense", f"d{index}", units=3) for index in range(20_001))), "more than 20,000 layers"),
    (sequence(layer("Dense", "d", units=3, mean=[0.5] * 300_001)), "values in values without end"),
    ({"class_name": "Sequential", "config": {"layers": [layer("Flatten", "f", batch_shape=[2] * 9999)]}}, "9,999 axes"),
    (sequence(layer("EinsumDense", "e", equation="..." * 30_000, output_shape=3)), "'equation' of EinsumDense"),
    (sequence(layer("RepeatVector", "r", n=10**4000)), "the number is too large"),
    (sequence(layer("Permute", "p", dims=[*range(1, 3000)])), "p orders the axes"),
    (graph(), "can't be ported"),
    (graph({"args": [tensor("x", 0)]}), "damaged"),
    (graph({"args": [tensor("nobody", 0, 0)]}), "takes what nothing gives before"),
    (graph({"args": [tensor("d", 0, 0)]}), "takes what nothing gives before"),
    (graph({"args": [tensor("x", 0, 7)]}), "has no output '7'|without inputs"),
    (graph({"args": [tensor("x", float("inf"), 0)]}), "damaged"),
    (graph({"args": [{"class_name": "__keras_tensor__"}]}), "damaged"),
    (graph(["x"]), "is .*, where a mapping is wanted"),
    (graph({"args": [tensor("x", 0, 0)]}, outputs=("nobody", 0, 0)), "which nothing gives"),
    (graph({"args": [tensor("x", 0, 0)]}, outputs=("d", 0)), "damaged|outputs"),
]


@pytest.mark.parametrize(("config", "message"), CONFIGS, ids=[str(index) for index in range(len(CONFIGS))])
def test_configs(config: Config, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config))
    start = time.monotonic()
    with pytest.raises(regspec.RegspecError, match=message) as caught:
        regspec.port(path)
    assert time.monotonic() - start < 20  # it takes a hundredth of that, but other things run here
    assert all(len(line) < 1500 and line.isprintable() for line in str(caught.value).splitlines())


NAMES = [
    "import",
    "self",
    "forward",
    "training",
    "T_destination",
    "input",
    "call",
    "a.b/c d",
    "a\nb: {c: !!python/object:os.system x}",
    "'\"`$(id)`",
    "$x",
    "état",
    "日本",
    "\x00\x1b[2J",
    "../../etc/passwd",
    "x" * 5000,
    "x" * 90 + "é",
    "1",
    "_",
    "null",
    "0x10",
    "1e3",
]


@pytest.mark.parametrize("name", NAMES, ids=[str(index) for index in range(len(NAMES))])
def test_names(name: str, tmp_path: Path) -> None:
    """Of models, inputs, layers and outputs; nothing of them is read as YAML or as Python, and none is lost."""
    config = json.loads(json.dumps(GOOD).replace('"d"', json.dumps(name)).replace('"m"', json.dumps(name)))
    config["config"]["output_layers"] = {"out": [name, 0, 0]}
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config))
    port = regspec.port(path)
    assert len(port.spec.layers) == 1
    assert port.build()(torch.ones(2, 4))["out"].shape == (2, 3)


def test_many_layers_of_one_name_take_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(sequence(*[layer("Dense", "d", units=4)] * 5000)))
    assert len({each.name for each in regspec.port(path).spec.layers}) == 5000


# -- archives ----------------------------------------------------------------------------------------------------------


def arrays(change: Callable[[h5py.File], None] = lambda file: None, **options: Any) -> bytes:
    """The weights of `GOOD`, after a change."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        file["layers/dense/vars/0"] = np.ones((4, 3), "float32")
        file["layers/dense/vars/1"] = np.ones(3, "float32")
        change(file)
    return buffer.getvalue()


def archive(path: Path, weights: bytes, config: Any = GOOD, metadata: Any = None) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("metadata.json", json.dumps({} if metadata is None else metadata))
        file.writestr("model.weights.h5", weights)
    return path


def replaced(make: Callable[[h5py.Group], None]) -> Callable[[h5py.File], None]:
    """Another dataset in the place of the kernel's."""

    def change(file: h5py.File) -> None:
        del file["layers/dense/vars/0"]
        make(file["layers/dense/vars"])

    return change


def virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[...] = h5py.VirtualSource("/etc/other.h5", "x", (4, 3))
    group.create_virtual_dataset("0", layout)


DATASETS: dict[str, tuple[Callable[[h5py.Group], Any], str]] = {
    "text": (lambda group: group.create_dataset("0", data=np.full((4, 3), b"abc")), "where numbers are wanted"),
    "texts": (lambda group: group.create_dataset("0", (4, 3), h5py.string_dtype()), "where numbers are wanted"),
    "references": (lambda group: group.create_dataset("0", (4, 3), h5py.ref_dtype), "where numbers are wanted"),
    "records": (lambda group: group.create_dataset("0", (4, 3), [("a", "f4")]), "where numbers are wanted"),
    "complex": (lambda group: group.create_dataset("0", (4, 3), "c8"), "where numbers are wanted"),
    "bytes": (lambda group: group.create_dataset("0", (4, 3), "V3"), "where numbers are wanted"),
    "scalar": (lambda group: group.create_dataset("0", (), "f4"), "no array for kernel|shape"),
    "empty": (lambda group: group.create_dataset("0", data=h5py.Empty("f4")), "kernel|shape|damaged"),
    "virtual": (virtual, "another file"),
    "other file": (
        lambda group: group.create_dataset("0", (4, 3), "f4", external=[("/etc/other", 0, 48)]),
        "another file",
    ),
    "link to a file": (
        lambda group: group.__setitem__("0", h5py.ExternalLink("/etc/other", "/x")),
        "a link, which is not followed",
    ),
    "links in a circle": (
        lambda group: [group.__setitem__(a, h5py.SoftLink(f"/layers/dense/vars/{b}")) for a, b in ("0b", "b0")],
        "a link, which is not followed",
    ),
    "groups in a circle": (lambda group: group.__setitem__("0", group.file["/"]), "groups in groups without end"),
    "petabytes": (
        lambda group: group.create_dataset("0", (2**25, 2**25), "f4", chunks=(64, 64)),
        r"with the shape \(33554432, 33554432\), where",
    ),
    "group": (lambda group: group.create_group("0"), "kernel|shape"),
    "soft link": (lambda group: group.__setitem__("0", h5py.SoftLink("/layers")), "a link, which is not followed"),
}


@pytest.mark.parametrize("name", DATASETS)
def test_datasets(name: str, tmp_path: Path) -> None:
    make, message = DATASETS[name]
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.port(archive(tmp_path / "model.keras", arrays(replaced(make))))


@pytest.mark.parametrize("name", ["²", "9" * 5000, "a", "0x1"], ids=["power", "digits", "letter", "hexadecimal"])
def test_datasets_of_strange_names(name: str, tmp_path: Path) -> None:
    weights = arrays(lambda file: file.create_dataset(f"layers/dense/vars/{name}", data=np.ones((4, 3), "f4")))
    with pytest.raises(regspec.RegspecError, match=r"shape|an array that no weight takes"):
        regspec.port(archive(tmp_path / "model.keras", weights))


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8", "int64", "bool", ">f4"])
def test_numbers_of_other_types_are_read(dtype: str, tmp_path: Path) -> None:
    weights = arrays(replaced(lambda group: group.create_dataset("0", data=np.ones((4, 3), dtype))))
    model = regspec.port(archive(tmp_path / "model.keras", weights)).build()
    assert model.d.weight.tolist() == np.ones((3, 4)).tolist()


def test_compressed_arrays_are_read(tmp_path: Path) -> None:
    options = {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": (2, 3)}
    weights = arrays(replaced(lambda group: group.create_dataset("0", data=np.ones((4, 3), "f4"), **options)))
    assert regspec.port(archive(tmp_path / "model.keras", weights)).build().d.weight.sum() == 12


def test_arrays_that_hold_nothing_are_counted_together(tmp_path: Path) -> None:
    """Each by itself is small enough to be true."""
    layers = [layer("Dense", f"d{index}", units=2000, use_bias=False) for index in range(40)]
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for index in range(40):
            name = f"layers/dense_{index}" if index else "layers/dense"
            size = 2000 if index else 4
            file.create_dataset(f"{name}/vars/0", (size, 2000), "float32", chunks=(min(size, 100), 2000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(regspec.RegspecError, match="bytes, which it does not hold"):
        regspec.port(archive(tmp_path / "model.keras", buffer.getvalue(), sequence(*layers)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 2**10


VERSIONS = [None, 3, [], {"keras_version": None}, {"keras_version": 3}, {"keras_version": "3.²"}]
VERSIONS += [{"keras_version": each} for each in ("", "-tf", "9" * 5000, "three.two", "3.15.1.dev")]


@pytest.mark.parametrize("metadata", VERSIONS, ids=[str(index) for index in range(len(VERSIONS))])
def test_versions(metadata: Any, tmp_path: Path) -> None:
    path = archive(tmp_path / "model.keras", arrays(), GOOD, metadata)
    if metadata is not None and not isinstance(metadata, dict):
        with pytest.raises(regspec.RegspecError, match="no mapping"):
            regspec.port(path)
    else:
        assert regspec.port(path).build()


def test_archives_that_are_cut_off_anywhere(tmp_path: Path) -> None:
    """Or have bytes turned over: what is read is right, or it is a fault of the file."""
    rng = random.Random(1)
    good = archive(tmp_path / "model.keras", arrays()).read_bytes()
    path = tmp_path / "damaged.keras"
    for _ in range(150):
        raw = bytearray(good)
        if rng.random() < 0.5:
            raw = raw[: rng.randrange(len(raw))]
        else:
            for _ in range(rng.choice([1, 5, 50])):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
        path.write_bytes(raw)
        assert is_read_or_refused(path)


def test_weights_that_are_damaged_anywhere(tmp_path: Path) -> None:
    """The archive is whole, and the HDF5 file in it is not."""
    rng = random.Random(2)
    good = arrays()
    for _ in range(200):
        raw = bytearray(good)
        for _ in range(rng.choice([1, 5, 50])):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        assert is_read_or_refused(archive(tmp_path / "model.keras", bytes(raw)))


def test_configs_that_are_damaged_anywhere(tmp_path: Path) -> None:
    """Values taken out, put in the place of others, or of another type."""
    rng = random.Random(3)
    values: list[Any] = [None, True, -1, 0, 0.5, 2**63, 1e308, float("nan"), "", "x", [], {}, [[]], [None], {"a": 1}]
    path = tmp_path / "model.json"
    for _ in range(400):
        config = copy.deepcopy(rng.choice([GOOD, dense(kernel_regularizer="l2"), SHARED]))
        for _ in range(rng.choice([1, 1, 2])):
            holder, key = rng.choice([*places(config)])
            if rng.random() < 0.2:
                del holder[key]
            else:
                holder[key] = rng.choice([*values, copy.deepcopy(rng.choice([*places(config)])[0])])
            if not config:
                break
        path.write_text(json.dumps(config))
        assert is_read_or_refused(path)


SHARED = graph({"args": [tensor("x", 0, 0)]}, {"args": [tensor("x", 0, 0)]}, outputs=("d", 1, 0))


def places(value: Any) -> Any:
    """Every mapping or list in a value with each of its keys or places."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def is_read_or_refused(path: Path) -> bool:
    """Whether it is ported, or refused with a sentence; what else is raised is not caught."""
    try:
        return regspec.port(path).spec is not None
    except regspec.RegspecError as error:
        return bool(str(error))


def member(name: str, content: bytes = b"{}") -> Callable[[zipfile.ZipFile], None]:
    return lambda file: file.writestr(name, content)


@pytest.mark.parametrize(
    "add", [member("../../outside"), member("/etc/outside"), member("config.json"), member("model.weights.h5", b"no")]
)
def test_members_that_are_there_twice_or_lead_outside(add: Callable[[zipfile.ZipFile], None], tmp_path: Path) -> None:
    """Nothing is unpacked, and of two members of a name one is read."""
    path = archive(tmp_path / "model.keras", arrays())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the duplicate
        with zipfile.ZipFile(path, "a") as file:
            add(file)
    assert is_read_or_refused(path)
    assert [each.name for each in tmp_path.iterdir()] == ["model.keras"]


def test_encrypted_members(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.keras", arrays())
    raw = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        raw[raw.find(signature) + flags] |= 1
    path.write_bytes(raw)
    with pytest.raises(regspec.RegspecError, match=r"damaged: .*encrypted"):
        regspec.port(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_archives(method: int, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("config.json", json.dumps(GOOD))
        file.writestr("metadata.json", json.dumps({}))
        file.writestr("model.weights.h5", arrays())
    assert regspec.port(path).build()
    raw = bytearray(path.read_bytes())
    raw[60:200] = bytes(140)
    path.write_bytes(raw)
    with pytest.raises(regspec.RegspecError, match="damaged"):
        regspec.port(path)


# -- HDF5 with a config ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model_config", 3, "no mapping"),
        ("model_config", np.zeros(3), "no JSON"),
        ("model_config", b"\xff\xfe", "no JSON"),
        ("model_config", h5py.Empty("f4"), "no JSON"),
        ("model_config", "[]", "no mapping"),
        ("model_config", " " * (11 * 2**20), "larger than any model's"),
        ("weight_names", 5, "names weights of 'd' that are not in it"),
        ("weight_names", np.array([b"\xff", b"x"]), "names weights of 'd' that are not in it"),
        ("weight_names", np.array([b"/", b"."]), "damaged"),
        ("weight_names", h5py.Empty("S3"), "weights, but|not in it|damaged"),
        ("weight_names", np.array([b"d/kernel"]), "has 2 weights, but the file 1 arrays"),
    ],
)
def test_attributes(name: str, value: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    with h5py.File(path, "w", track_order=True) as file:
        file.attrs["model_config"] = json.dumps(GOOD)
        group = file.create_group("model_weights", track_order=True)
        group.attrs["layer_names"] = np.array([b"d"])
        group["d/d/kernel"], group["d/d/bias"] = np.ones((4, 3), "f4"), np.ones(3, "f4")
        group["d"].attrs["weight_names"] = np.array([b"d/kernel", b"d/bias"])
    assert regspec.port(path).build()
    with h5py.File(path, "r+") as file:
        holder = file if name == "model_config" else file["model_weights/d"]
        del holder.attrs[name]
        if isinstance(value, str) and len(value) > 2**16:
            holder.attrs.create(name, value, dtype=h5py.string_dtype())
        else:
            holder.attrs[name] = value
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.port(path)


def test_a_file_of_weights_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(GOOD))
    with pytest.raises(regspec.RegspecError, match=r"weights\.h5: error: can't be read: No such file"):
        regspec.port(tmp_path / "model.json", weights=tmp_path / "weights.h5")
    with pytest.raises(regspec.RegspecError, match=r"is a folder.*, where the weights of a model are wanted"):
        regspec.port(tmp_path / "model.json", weights=tmp_path)
    (tmp_path / "weights.h5").write_bytes(b"")
    with pytest.raises(regspec.RegspecError, match=r"weights\.h5: error: is an empty file, where the weights"):
        regspec.port(tmp_path / "model.json", weights=tmp_path / "weights.h5")
