"""A bundle: arrays by key, of which an index says where in one of several files their numbers lie."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from regspec.keras.arrays.held import Numbers
from regspec.keras.arrays.sources import BFLOAT16
from regspec.keras.formats.folders import file_in
from regspec.keras.formats.saved_model.checksums import masked
from regspec.keras.formats.saved_model.protobuf import Message, varint
from regspec.keras.formats.saved_model.table import MAX_INDEX, rows

MAX_SHARDS = 100_000
MAX_RANK = 16
# Types of arrays that numpy lacks, and the others, by their numbers.
TEXT, HALF = 7, 14
TYPES = dict(
    (
        *((1, "float32"), (2, "float64"), (3, "int32"), (4, "uint8"), (5, "int16"), (6, "int8"), (9, "int64")),
        *((10, "bool"), (HALF, "uint16"), (17, "uint16"), (19, "float16"), (22, "uint32"), (23, "uint64")),
    )
)


class Bundle:
    """The arrays of a bundle. Its methods raise `ValueError` and `LookupError` where it is damaged."""

    def __init__(self, index: Path, folder: Path) -> None:
        """``folder`` is that of the whole model, which no link may lead out of."""
        if index.stat().st_size > MAX_INDEX:
            raise ValueError("its index is larger than any model's")
        self.name = index.relative_to(folder).with_suffix("").as_posix()
        self.folder = folder
        self.rows = rows(index.read_bytes())
        header = self._entry(b"")
        self._count = header.whole(1, 1) or 1
        if not 0 < self._count <= MAX_SHARDS:
            raise ValueError(f"it says that it lies in {self._count:,} files")
        self._order: Literal[">", "<"] = ">" if header.whole(2) else "<"
        self._shards: dict[int, NDArray[np.uint8]] = {}
        self._known: dict[str, Numbers] = {}
        self._said = 0  # bytes of all of these

    def text(self, key: str) -> memoryview:
        """The bytes of an array of one text."""
        entry = self._entry(key.encode())
        if entry.whole(1) != TEXT or _shape(entry.message(2)):
            raise ValueError(f"'{key}' is no text")
        raw = self._raw(entry)
        size, at = varint(raw, 0)
        content = raw[at + 4 :]  # behind a checksum of the size
        if size != len(content):
            raise ValueError(f"'{key}' has another size than it says")
        _check(key, entry, size.to_bytes(8 if size >= 2**32 else 4, "little") + raw[at:])
        return content

    def numbers(self, key: str) -> Numbers:
        """An array of numbers, once it is known to lie in its file; those of bfloat16 as two bytes."""
        if key not in self._known:
            entry = self._entry(key.encode())
            self._known[key] = self._joined(key, entry) if entry.has(7) else self._whole(key, entry)
        return self._known[key]

    def _whole(self, key: str, entry: Message) -> Numbers:
        """An array that lies in one piece."""
        shape, dtype = _shape(entry.message(2)), self._type(key, entry)
        if math.prod(shape) * dtype.itemsize != entry.whole(5):
            raise ValueError(f"'{key}' has another size than its shape")
        raw = self._raw(entry)
        is_half = entry.whole(1) == HALF

        def read() -> NDArray[Any]:
            _check(key, entry, raw)
            array = np.frombuffer(raw, dtype).reshape(shape).astype(dtype.newbyteorder("<"))
            return array.view(BFLOAT16) if is_half else array

        return Numbers(shape, BFLOAT16 if is_half else dtype.newbyteorder("<"), read)

    def _joined(self, key: str, entry: Message) -> Numbers:
        """An array that is cut into parts, which lie under keys of their own, in the order of their places."""
        shape = _shape(entry.message(2))
        places = sorted(_place(each, shape) for each in entry.messages(7))
        name = key.encode().replace(b"\xff", b"\xff\x00").replace(b"\x00", b"\x00\xff")
        start = b"\x00" + name + b"\x00\x01"
        entries = [Message(memoryview(self.rows[own])) for own in sorted(self.rows) if own.startswith(start)]
        sizes = [tuple(end - start for start, end in place) for place in places]
        if [_shape(each.message(2)) for each in entries] != sizes or sum(map(math.prod, sizes)) != math.prod(shape):
            raise ValueError(f"'{key}' is cut into parts that do not make it")
        parts = [self._whole(key, each) for each in entries]
        if len({each.dtype for each in parts}) != 1:
            raise ValueError(f"'{key}' is cut into parts of several types")

        def read() -> NDArray[Any]:
            found = np.zeros(shape, parts[0].dtype)
            filled = np.zeros(shape, bool)
            for place, part in zip(places, parts, strict=True):
                where = tuple(slice(*each) for each in place)
                found[where], filled[where] = part.read(), True
            if not filled.all():
                raise ValueError(f"'{key}' is cut into parts that overlap")
            return found

        return Numbers(shape, parts[0].dtype, read)

    def _entry(self, key: bytes) -> Message:
        if key not in self.rows:
            raise ValueError(f"it has no '{key.decode(errors='replace')}'")
        return Message(memoryview(self.rows[key]))

    def _type(self, key: str, entry: Message) -> np.dtype[Any]:
        number = entry.whole(1)
        if number not in TYPES:
            raise ValueError(f"'{key}' is of a type of TensorFlow that no weight has: {number}")
        return np.dtype(TYPES[number]).newbyteorder(self._order)

    def _raw(self, entry: Message) -> memoryview:
        """The bytes of an array."""
        shard = self._shard(entry.whole(3))
        offset, size = entry.whole(4), entry.whole(5)
        if offset < 0 or size < 0 or offset + size > len(shard):
            raise ValueError("an array lies outside of its file")
        self._said += size
        if self._said > sum(map(len, self._shards.values())):
            raise ValueError("its arrays overlap")
        return shard[offset : offset + size].data

    def _shard(self, number: int) -> NDArray[np.uint8]:
        """The bytes of one of the files, which is opened when the first of its arrays is read."""
        if not 0 <= number < self._count:
            raise ValueError(f"an array lies in file {number:,} of {self._count:,}")
        if number not in self._shards:
            name = f"{self.name}.data-{number:05d}-of-{self._count:05d}"
            if (path := file_in(self.folder, name)) is None:
                raise ValueError(
                    f"'{name}', which has its arrays, is not there; give the whole folder, as it was saved"
                )
            is_empty = not path.stat().st_size  # which can't be mapped
            self._shards[number] = np.zeros(0, np.uint8) if is_empty else np.memmap(path, np.uint8, "r")
        return self._shards[number]


def _check(key: str, entry: Message, data: memoryview | bytes) -> None:
    """Raises `ValueError` where an array is another than was written."""
    if (checksum := entry.bytes(6)) and int.from_bytes(checksum, "little") != masked(data):
        raise ValueError(f"'{key}' has another checksum than it says")


def _shape(message: Message) -> tuple[int, ...]:
    """The sizes of an array, in numbers that no shape is too large for."""
    sizes = tuple(each.whole(1) for each in message.messages(2))
    if len(sizes) > MAX_RANK or any(size < 0 for size in sizes):
        raise ValueError("an array has a shape that no array has")
    return sizes


def _place(message: Message, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Where a part of an array lies in it: by each axis the start and the end."""
    extents = [(each.whole(1), each.whole(2, size)) for each, size in zip(message.messages(1), shape, strict=True)]
    if any(start < 0 or size < 0 or start + size > whole for (start, size), whole in zip(extents, shape, strict=True)):
        raise ValueError("a part of an array lies outside of it")
    return tuple((start, start + size) for start, size in extents)
