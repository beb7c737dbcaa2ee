"""For each format a damaged file of it, made at random of a good one."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import h5py
import yaml

from regspec.keras.formats.saved_model import table
from regspec.keras.formats.saved_model.bundle import TEXT
from regspec.keras.formats.saved_model.checksums import masked
from regspec.keras.formats.saved_model.protobuf import Message, varint
from tests.saved_models import writing

from . import originals
from .changes import NUMBERS, changed_bytes, changed_json, changed_message, changed_value, often
from .hdf5 import changed_hdf5

Good = TypeVar("Good")
GRAPH, WORDS, INDEX = "saved_model.pb", "keras_metadata.pb", "variables/variables.index"
MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
PLACES = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06")  # of what a zip says of its members
HEADER = 64  # bytes of that, about


@dataclass(frozen=True)
class Case:
    """A file or a folder to port, with a file of weights where it has none."""

    path: Path
    weights: Path | None = None


def _written(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def _two(rng: Random, good: Sequence[Good]) -> list[Good]:
    """One that is damaged, and one of which it may get parts: the smaller, so that more are tried in the same time."""
    return sorted(rng.sample(good, 2), key=_size)


def _size(good: Any) -> int:
    return len(good) if isinstance(good, bytes) else sum(map(len, good.values() if isinstance(good, dict) else good))


# -- HDF5, and archives ------------------------------------------------------------------------------------------------


def hdf5(rng: Random, folder: Path, made: Path) -> Case:
    """A model in HDF5."""
    first, second = _two(rng, originals.models(made))
    return Case(_written(folder, {"model.h5": changed_hdf5(first, rng, second)}) / "model.h5")


def weights(rng: Random, folder: Path, made: Path) -> Case:
    """A config with weights in an HDF5 file: these are damaged."""
    (config, first), (_, second) = _two(rng, originals.weights(made))
    _written(folder, {"model.json": config, "weights.h5": changed_hdf5(first, rng, second)})
    return Case(folder / "model.json", folder / "weights.h5")


def keras(rng: Random, folder: Path, made: Path) -> Case:
    """An archive whose members are damaged, or that is damaged itself."""
    first, second = _two(rng, originals.archives(made))
    files = dict(first)
    kind = rng.random()
    if kind < 0.35:
        files["config.json"] = changed_json(files["config.json"], rng, second["config.json"]).encode()
    elif kind < 0.4:
        files["metadata.json"] = changed_json(files["metadata.json"], rng, second["metadata.json"]).encode()
    elif kind < 0.7:
        name = MEMBERS[2]
        files[name] = changed_hdf5(files[name], rng, second[name])
    elif kind < 0.75:
        name = rng.choice([*files])
        files[rng.choice((name, f"{name}x", rng.choice([*second])))] = rng.choice((files.pop(name), second[name], b""))
    method = rng.choice(METHODS) if kind < 0.6 else zipfile.ZIP_STORED
    raw = _zip(files, method)
    if kind > 0.75:
        places = [at + more for mark in PLACES for at in _all(raw, mark) for more in range(HEADER)]
        raw = changed_bytes(raw, rng, _zip(second, method), places)
    return Case(_written(folder, {"model.keras": raw}) / "model.keras")


def _zip(files: Mapping[str, bytes], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)  # without the time
    return buffer.getvalue()


def _all(raw: bytes, mark: bytes) -> list[int]:
    found = [raw.find(mark)]
    while found[-1] >= 0:
        found.append(raw.find(mark, found[-1] + 1))
    return found[:-1]


# -- texts, and TensorFlow.js ------------------------------------------------------------------------------------------


def text(rng: Random, folder: Path, made: Path) -> Case:
    """The config of a model: its JSON, what get_config() gives, or YAML; of other values, or of other bytes."""
    first, second = (json.loads(_config(each)) for each in _two(rng, originals.models(made)))
    found = changed_value(first, rng, second) if rng.random() < 0.8 else first
    if isinstance(found, dict) and rng.random() < 0.3:
        found = found.get("config")
    is_yaml = rng.random() < 0.3
    raw = (yaml.dump(found) if is_yaml else json.dumps(found)).encode()
    if found is first:
        raw = changed_bytes(raw, rng)
    return Case(_written(folder, {"model.txt": raw}) / "model.txt")


def _config(raw: bytes) -> str:
    with h5py.File(io.BytesIO(raw)) as file:
        return str(file.attrs["model_config"])


def tfjs(rng: Random, folder: Path, made: Path) -> Case:
    """The `model.json` of TensorFlow.js."""
    first, second = _two(rng, originals.folders(made))
    name = "model.json"
    found = changed_json(first[name], rng, second[name]).encode() if rng.random() < 0.9 else first[name]
    if found is first[name]:
        found = changed_bytes(found, rng, second[name])
    _written(folder, {**first, name: found})
    return Case(rng.choice((folder, folder / name)))


def shards(rng: Random, folder: Path, made: Path) -> Case:
    """Files of weights of TensorFlow.js, of other bytes, and as long as `model.json` says, or not."""
    files = dict(_two(rng, originals.folders(made))[0])
    name = rng.choice([each for each in files if each != "model.json"])
    raw = files[name]
    changed = changed_bytes(raw, rng)
    files[name] = changed[: len(raw)].ljust(len(raw), b"\0") if rng.random() < 0.7 else changed
    found = json.loads(files["model.json"])
    for _ in range(often(rng) if rng.random() < 0.7 else 0):
        group = rng.choice(found["weightsManifest"])
        changed_value(group[rng.choice(("weights", "paths"))], rng)
    files["model.json"] = json.dumps(found).encode()
    return Case(_written(folder, files))


# -- SavedModels -------------------------------------------------------------------------------------------------------


def graph(rng: Random, folder: Path, made: Path) -> Case:
    """The graph of a SavedModel, in which older ones have Keras's words too."""
    return _saved(rng, folder, made, GRAPH)


def words(rng: Random, folder: Path, made: Path) -> Case:
    """Keras's words on a SavedModel."""
    return _saved(rng, folder, made, WORDS)


def _saved(rng: Random, folder: Path, made: Path, name: str) -> Case:
    first, second = _two(rng, [each for each in originals.graphs(made) if name in each])
    is_message = rng.random() < 0.8
    changed = changed_message(first[name], rng) if is_message else changed_bytes(first[name], rng, second[name])
    return Case(_written(folder, {**first, name: changed}))


def index(rng: Random, folder: Path, made: Path) -> Case:
    """The index of a SavedModel's arrays: other rows, blocks and handles with their right checksums, or other bytes."""
    files = dict(_two(rng, originals.saved_models(made))[0])
    raw, kind = files[INDEX], rng.random()
    rows = table.rows(raw)
    if kind < 0.6:
        for _ in range(often(rng)):
            key = rng.choice([*rows])
            value = changed_message(rows[key], rng) if rng.random() < 0.8 else rows[rng.choice([*rows])]
            rows[key if rng.random() < 0.9 else changed_bytes(key, rng)] = value
        raw = writing.table(rows, many=rng.choice((1, 3, 1000)), is_packed=rng.random() < 0.3)
    elif kind < 0.9:
        block = changed_bytes(writing.block(sorted(rows.items())), rng)
        blocks = [(block, 0), (changed_bytes(writing.snappy(block), rng), 1)]
        raw = writing.table_of(rng.choice((blocks[:1], blocks[1:], blocks, blocks[:1] * 3)))
        if rng.random() < 0.3:
            footer = b"".join(writing.varint(rng.choice((*NUMBERS, rng.randrange(len(raw))))) for _ in range(4))
            raw = raw[:-48] + rng.choice((footer[:40].ljust(40, b"\0"), changed_bytes(raw[-48:-8], rng))) + raw[-8:]
    else:
        raw = changed_bytes(raw, rng)
    return Case(_written(folder, {**files, INDEX: raw}))


def objects(rng: Random, folder: Path, made: Path) -> Case:
    """The graph of objects in a SavedModel's arrays, with its right size and checksum."""
    files, name, rows, entry = _bundle(rng, made)
    offset, size = entry.whole(4), entry.whole(5)
    raw = files[name][offset : offset + size]
    length, at = varint(raw, 0)
    changed = changed_message(raw[at + 4 : at + 4 + length], rng)
    found = writing.text(changed)
    rows[writing.OBJECTS] = writing.entry((), len(files[name]), len(found), dtype=7, shard=entry.whole(3))
    return Case(_written(folder, {**files, name: files[name] + found, INDEX: writing.table(rows)}))


def data(rng: Random, folder: Path, made: Path) -> Case:
    """The arrays of a SavedModel, of other bytes: with checksums that say so, with right ones, or with none."""
    files, name, rows, _ = _bundle(rng, made)
    raw, kind = changed_bytes(files[name], rng), rng.random()
    for key, row in rows.items() if kind < 0.9 else ():
        entry = Message(memoryview(row))
        if key and not entry.has(7) and f"data-{entry.whole(3):05d}" in name:
            rest = b"".join(_fields_but(entry, 6))
            rows[key] = rest + (b"" if kind < 0.2 else writing.fixed(6, _checksum(entry, raw)))
    return Case(_written(folder, {**files, name: raw, INDEX: writing.table(rows)}))


def _checksum(entry: Message, raw: bytes) -> int:
    """That of an array; of a text its size is part."""
    own = raw[entry.whole(4) :][: entry.whole(5)]
    if entry.whole(1) == TEXT and own[:9].strip(b"\xff"):
        size, at = varint(own[:9] + b"\0", 0)
        own = (size % 2**32).to_bytes(4, "little") + own[at:]
    return masked(own)


def _fields_but(entry: Message, left_out: int) -> list[bytes]:
    return [
        writing.field(number, value if isinstance(value, int) else bytes(value))
        for number, value in entry.fields()
        if number != left_out
    ]


def _bundle(rng: Random, made: Path) -> tuple[originals.Files, str, writing.Rows, Message]:
    """A SavedModel with Keras's objects: its files, that with the objects, the rows of its index, the objects' row."""
    files = _two(rng, originals.saved_models(made))[0]
    rows = table.rows(files[INDEX])
    entry = Message(memoryview(rows[writing.OBJECTS]))
    name = next(each for each in files if each.startswith(f"variables/variables.data-{entry.whole(3):05d}"))
    return files, name, rows, entry


FORMATS: dict[str, Callable[[Random, Path, Path], Case]] = {
    each.__name__: each for each in (hdf5, weights, keras, text, tfjs, shards, graph, words, index, objects, data)
}
