"""HDF5 files whose bytes are others, or their attributes, arrays and links: as h5py writes what h5py may read."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from random import Random
from typing import Any

import h5py
import numpy as np

from .changes import VALUES, changed_bytes, changed_json, often
from .checksums import PARTS, part_around, put_checksum

DULL = re.compile(rb"\0{24,}|[\x20-\x7e]{80,}")  # free space, and long texts, in which few places are of a kind
KEPT = 8  # bytes at the beginning of what is dull
LARGE = 2**20  # of an array that may be written

# What h5py raises where it can't write what is asked for, which is no fault of anybody.
UNWRITTEN = (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


def changed_hdf5(raw: bytes, rng: Random, other: bytes) -> bytes:
    """An HDF5 file of which some bytes are others, or that h5py has written so; or both."""
    kind = rng.random()
    if kind > 0.5:
        raw = with_other_contents(raw, rng)
    if kind > 0.7:
        return raw
    changed = bytearray(changed_bytes(raw, rng, other, structure(raw)))
    if kind < 0.4 and len(changed) == len(raw):
        for part in _parts(raw):
            put_checksum(changed, part)
    return bytes(changed)


@cache
def _parts(raw: bytes) -> list[tuple[int, int]]:
    """Where the parts of a good file begin and end that have checksums, as those of newer files have."""
    found = (part_around(raw, match.end()) for match in PARTS.finditer(raw))
    return [part for part in found if part is not None]


@cache
def _structure(raw: bytes) -> Sequence[int]:
    dull = np.zeros(len(raw), bool)
    with h5py.File(io.BytesIO(raw)) as file:
        for each in _objects(file):
            if isinstance(each, h5py.Dataset) and (start := each.id.get_offset()) is not None:
                dull[start : start + each.id.get_storage_size()] = True
    for match in DULL.finditer(raw):
        dull[match.start() + KEPT : match.end()] = True
    places: list[int] = np.flatnonzero(~dull).tolist()
    return places


def structure(raw: bytes) -> Sequence[int]:
    """The places of bytes that say what else the file holds, and where: no numbers of arrays, and no long texts."""
    try:
        return _structure(raw)
    finally:
        if _structure.cache_info().currsize > 50:  # more than there are originals
            _structure.cache_clear()


def _objects(file: h5py.File) -> list[Any]:
    """The file itself, and its groups and arrays."""
    found: list[Any] = [file]
    file.visititems(lambda name, each: found.append(each))
    return found


def with_other_contents(raw: bytes, rng: Random) -> bytes:
    """A file in which attributes, arrays or links are others."""
    buffer = io.BytesIO(raw)
    with h5py.File(buffer, "r+") as file:
        for _ in range(often(rng)):
            with suppress(*UNWRITTEN), np.errstate(all="ignore"):
                rng.choice(CHANGES)(file, rng, [each for each in _objects(file) if each])
    return buffer.getvalue()


# -- attributes --------------------------------------------------------------------------------------------------------


def _attribute(file: h5py.File, rng: Random, objects: Sequence[Any]) -> None:
    """An attribute with another text or list, or with another thing altogether."""
    owner = rng.choice([each for each in objects if len(each.attrs)])
    name = rng.choice([*owner.attrs])
    value = owner.attrs[name]
    text = value.decode() if isinstance(value, bytes) else value
    if isinstance(text, str) and text.startswith("{") and rng.random() < 0.7:
        found: Any = changed_json(text, rng)
    elif isinstance(value, np.ndarray) and rng.random() < 0.7:
        found = rng.choice((_shorter, _longer, _renamed, _vertical))(value, rng)
    else:
        found = rng.choice(ATTRIBUTES)
        found = found(file) if callable(found) else found
    del owner.attrs[name]
    if isinstance(found, str) and len(found) > 60_000:
        owner.attrs.create(name, found, dtype=h5py.string_dtype())
    else:
        owner.attrs[rng.choice((name, name, name, f"{name}0"))] = found


def _shorter(value: Any, rng: Random) -> Any:
    return np.delete(value, rng.randrange(len(value)))


def _longer(value: Any, rng: Random) -> Any:
    return np.append(value, [rng.choice(value)] * rng.choice((1, 5, 500)))


def _renamed(value: Any, rng: Random) -> Any:
    names = [each if isinstance(each, bytes) else str(each).encode() for each in value]
    at = rng.randrange(len(names))
    names[at] = rng.choice((changed_bytes(names[at], rng), b"/", b".", b"", b"/" + names[at], b"a/" * 300))
    return np.array(names)


def _vertical(value: Any, rng: Random) -> Any:
    return value.reshape(-1, 1)


ATTRIBUTES: tuple[Any, ...] = (
    *(each for each in VALUES if isinstance(each, (str, float, bool))),
    *(3, -1, 2**63, b"\xff", b"{", b"\xff\0x", h5py.Empty("f4"), h5py.Empty("S3"), np.zeros(3), np.zeros((2, 0))),
    *(np.array([b"a", b"bc"]), np.array([b"\xff"] * 9), np.zeros(2, "c8"), np.zeros(3, [("a", "f4"), ("b", "S2")])),
    *(np.array(b"x", "V3"), np.zeros((8, 1000), "S9"), np.bool_(True), np.float16(1)),
    lambda file: file.ref,
    lambda file: np.array([file.ref] * 3, h5py.ref_dtype),
    lambda file: np.array(["é", "x"], h5py.string_dtype()),
    lambda file: np.array(3, h5py.enum_dtype({"a": 3})),
    lambda file: np.array([np.arange(3), np.arange(2)], h5py.vlen_dtype("i4")),
)

# -- arrays ------------------------------------------------------------------------------------------------------------


def _array(file: h5py.File, rng: Random, objects: Sequence[Any]) -> None:
    """An array of another shape, type or layout in the place of one."""
    dataset = rng.choice([each for each in objects if isinstance(each, h5py.Dataset)])
    shape = rng.choice((dataset.shape, dataset.shape, rng.choice(SHAPES)(dataset.shape)))
    dtype = rng.choice((dataset.dtype, dataset.dtype, rng.choice(TYPES)))
    options = rng.choice(OPTIONS) if rng.random() < 0.7 else {}
    name, size = dataset.name, int(np.prod(np.maximum(shape, 1), dtype=float))
    is_written = size < LARGE and rng.random() < 0.8 and "external" not in options
    is_written &= np.dtype(dtype).kind in "fiubc"  # as h5py breaks down where numbers are written for references
    del file[name]
    if not is_written:
        file.create_dataset(name, shape, dtype, **{"chunks": (1,) * len(shape) if size > LARGE else None, **options})
    else:
        numbers = rng.choice((0, 1, -1, 1e30, float("nan"), float("inf")))
        file.create_dataset(name, shape, dtype, **options)[()] = numbers


SHAPES: tuple[Callable[[tuple[int, ...]], tuple[int, ...]], ...] = (
    lambda shape: shape[::-1],
    lambda shape: (*shape, 1),
    lambda shape: shape[1:],
    lambda shape: (int(np.prod(shape)),),
    lambda shape: (),
    lambda shape: tuple(size + 1 for size in shape),
    lambda shape: (0, *shape[1:]),
    lambda shape: (2**40, *shape[1:]),
    lambda shape: (2**12,) * len(shape),
    lambda shape: (1,) * 32,
)
TYPES: tuple[Any, ...] = (
    *("f2", "f8", ">f4", "i1", "u8", "i8", "bool", "c8", "S3", "V2", "V7", [("a", "f4")], ("f4", (2,))),
    *(h5py.string_dtype(), h5py.vlen_dtype("f4"), h5py.ref_dtype, h5py.regionref_dtype, h5py.enum_dtype({"a": 1})),
)
OPTIONS: tuple[dict[str, Any], ...] = (
    *({"chunks": True}, {"compression": "gzip"}, {"compression": "lzf", "shuffle": True}, {"fletcher32": True}),
    *({"scaleoffset": 3}, {"compression": "gzip", "maxshape": (None, None)}, {"maxshape": (None,)}),
    *({"chunks": (64,)}, {"chunks": (64, 64), "maxshape": (None, None)}, {"chunks": (4096, 4096)}, {"fillvalue": 3}),
    *({"external": [("/etc/hostname", 0, 100)]}, {"external": [("../x", 0, 2**40)]}, {"track_times": True}),
)

# -- links -------------------------------------------------------------------------------------------------------------


def _link(file: h5py.File, rng: Random, objects: Sequence[Any]) -> None:
    """A link to a file, to nothing, or to something else in the place of something."""
    first, second = rng.choice(objects[1:]), rng.choice(objects)
    target = rng.choice((second, h5py.SoftLink(second.name), h5py.ExternalLink("/etc/other.h5", "/x")))
    name = first.name
    del file[name]
    file[name] = target


def _move(file: h5py.File, rng: Random, objects: Sequence[Any]) -> None:
    """Something under another name, or where something else is."""
    name, there = rng.choice(objects[1:]).name, rng.choice(objects).name.rstrip("/")
    last = name.rpartition("/")[2]
    names = (f"{there}/{last}", f"{name}_1", f"{there}/x\\{last}", name.swapcase(), f"{there}/{last}/{last}")
    file.move(name, rng.choice(names))


def _copy(file: h5py.File, rng: Random, objects: Sequence[Any]) -> None:
    """Something a second time: all that is in it too."""
    name = rng.choice(objects[1:]).name
    file.copy(name, f"{rng.choice(objects).name.rstrip('/')}/{rng.choice(('0', '1', 'x', name.rpartition('/')[2]))}")


def _gone(file: h5py.File, rng: Random, objects: Sequence[Any]) -> None:
    del file[rng.choice(objects[1:]).name]


def _group(file: h5py.File, rng: Random, objects: Sequence[Any]) -> None:
    """An empty group in the place of something, or below it; in one order or in none."""
    name = rng.choice(objects[1:]).name
    if rng.random() < 0.5:
        del file[name]
    file.create_group(rng.choice((name, f"{name}/vars", f"{name}/0")), track_order=rng.random() < 0.5)


CHANGES = (_attribute, _attribute, _attribute, _array, _array, _array, _link, _move, _copy, _gone, _group)
