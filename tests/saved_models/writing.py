"""SavedModels that are written byte by byte, so that each of them may lie: messages, tables, Snappy, whole folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

Rows = dict[bytes, bytes]
MAGIC = bytes.fromhex("57fb808b247547db")
OBJECTS = b"_CHECKPOINTABLE_OBJECT_GRAPH"


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def fixed(number: int, value: int) -> bytes:
    return varint(number << 3 | 5) + value.to_bytes(4, "little")


@lru_cache(1000)  # as it is slow, and tests write the same again and again
def masked(data: bytes) -> int:
    """CRC-32C, byte by byte, and turned as tables have it."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder = remainder >> 8 ^ _remainder((remainder ^ byte) & 0xFF)
    remainder ^= 0xFFFFFFFF
    return ((remainder >> 15 | remainder << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _remainder(byte: int) -> int:
    """That of a byte, bit by bit."""
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


# -- tables ------------------------------------------------------------------------------------------------------------


def snappy(data: bytes) -> bytes:
    """Data with each run of a byte as the byte and a copy that copies itself, and all else as it is."""
    found, at = varint(len(data)), 0
    while at < len(data):
        run = next((index for index in range(1, 65) if data[at : at + 1] != data[at + index : at + index + 1]), 64)
        found, at = found + b"\x00" + data[at : at + 1], at + 1
        if 5 <= run <= 11:
            found, at = found + bytes([1 | (run - 5) << 2, 1]), at + run - 1
        elif run > 11:
            found, at = found + bytes([2 | (run - 2) << 2, 1, 0]), at + run - 1
    return found


def block(rows: Iterable[tuple[bytes, bytes]], last: bytes = b"") -> bytes:
    found = b""
    for key, value in rows:
        shared = next((n for n, (a, b) in enumerate(zip(last, key, strict=False)) if a != b), min(len(last), len(key)))
        found += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return found + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")


def table(rows: Mapping[bytes, bytes], *, many: int = 1000, is_packed: bool = False) -> bytes:
    """A table with so many rows in a block."""
    pairs = sorted(rows.items())
    blocks = [block(pairs[at : at + many]) for at in range(0, len(pairs), many)]
    return table_of([(snappy(each), 1) if is_packed else (each, 0) for each in blocks])


def table_of(blocks: Sequence[tuple[bytes, int]]) -> bytes:
    """A table of blocks, each with its kind."""
    content, handles = b"", []

    def added(raw: bytes, kind: int) -> bytes:
        nonlocal content
        handle = varint(len(content)) + varint(len(raw))
        kept = raw + bytes([kind])
        content += kept + masked(kept).to_bytes(4, "little")
        return handle

    handles = [(b"%09d" % index, added(*each)) for index, each in enumerate(blocks)]
    footer = added(block([]), 0) + added(block(handles), 0)
    return content + footer.ljust(40, b"\0") + MAGIC


# -- bundles -----------------------------------------------------------------------------------------------------------


def shape(*sizes: int) -> bytes:
    return b"".join(field(2, field(1, size)) for size in sizes)


def entry(sizes: Sequence[int], offset: int, size: int, *, dtype: int = 1, shard: int = 0, rest: bytes = b"") -> bytes:
    return field(1, dtype) + field(2, shape(*sizes)) + field(3, shard) + field(4, offset) + field(5, size) + rest


def text(content: bytes) -> bytes:
    """An array of one text, as it lies in a file."""
    return varint(len(content)) + masked(len(content).to_bytes(4, "little")).to_bytes(4, "little") + content


def nodes(graph: Sequence[tuple[Mapping[str, int], bytes]], number: int) -> bytes:
    """Objects, with edges to others, and what else they have, in the field of their graph's message."""

    def edges(to: Mapping[str, int]) -> bytes:
        return b"".join(field(1, field(1, target) + field(2, name)) for name, target in to.items())

    return b"".join(field(number, edges(to) + rest) for to, rest in graph)


def variable(key: str) -> bytes:
    """What makes an object an array with this key."""
    return field(2, field(1, "VARIABLE_VALUE") + field(3, key))


# -- a folder: a Sequential of one Dense -------------------------------------------------------------------------------

KERNEL = np.arange(12, dtype="<f4").reshape(4, 3) / 7
BIAS = np.array([1, -2, 3], "<f4")
EDGES: list[tuple[Mapping[str, int], bytes]] = [
    ({"layer-0": 1, "keras_api": 0}, b""),
    ({"kernel": 2, "bias": 3}, b""),
    ({}, variable("k")),
    ({}, variable("b")),
]
HEADER = field(1, 1) + field(3, field(1, 1))


def dense(**fields: Any) -> dict[str, Any]:
    return {"class_name": "Dense", "config": {"name": "d", "units": 3, "trainable": True, **fields}}


def words(*layers: Any, **rest: Any) -> dict[str, Any]:
    """What Keras says of a Sequential."""
    shape = {"class_name": "__tuple__", "items": [None, 4]}
    first = {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": shape, "dtype": "float32"}}
    config = {"name": "model", "layers": [first, *layers]}
    return {"class_name": "Sequential", "config": config, "keras_version": "2.15.0", **rest}


def saved(edges: Sequence[Mapping[str, int]] = [each for each, _ in EDGES], said: str = "") -> bytes:
    """The content of ``saved_model.pb``; ``said`` is what Keras says of the model in it."""
    first = field(4, field(1, "_tf_keras_sequential") + (field(3, said) if said else b""))
    named = [(each, b"" if index else first) for index, each in enumerate(edges)]
    return field(1, 1) + field(2, field(2, b"\xff" * 50) + field(7, nodes(named, 1)))


def metadata(said: Mapping[int, Any]) -> bytes:
    """The content of ``keras_metadata.pb``."""
    return b"".join(
        field(1, field(2, number) + field(5, each if isinstance(each, str) else json.dumps(each)))
        for number, each in said.items()
    )


def rows_of(edges: Sequence[tuple[Mapping[str, int], bytes]] = EDGES) -> tuple[Rows, bytes]:
    """The rows of a bundle, and its file."""
    graph = text(nodes(edges, 1))
    numbers = KERNEL.tobytes() + BIAS.tobytes()
    rows = {
        b"": HEADER,
        OBJECTS: entry((), len(numbers), len(graph), dtype=7),
        b"k": entry((4, 3), 0, 48, rest=fixed(6, masked(KERNEL.tobytes()))),
        b"b": entry((3,), 48, 12, rest=fixed(6, masked(BIAS.tobytes()))),
    }
    return rows, numbers + graph


def write(
    folder: Path,
    *,
    said: Mapping[int, Any] | None = None,
    edges: Sequence[tuple[Mapping[str, int], bytes]] = EDGES,
    change: Callable[[Rows], object] = lambda rows: None,
    graph: bytes | None = None,
    index: bytes | None = None,
    **options: Any,
) -> Path:
    """The folder of a model of one Dense, in which anything may be another thing; options are those of `table`."""
    rows, data = rows_of(edges)
    change(rows)
    (folder / "variables").mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.pb").write_bytes(saved() if graph is None else graph)
    (folder / "keras_metadata.pb").write_bytes(metadata({0: words(dense())} if said is None else said))
    (folder / "variables/variables.index").write_bytes(table(rows, **options) if index is None else index)
    (folder / "variables/variables.data-00000-of-00001").write_bytes(data)
    return folder
