"""Attributes of HDF5 files, of which no more is asked of HDF5 than the file can hold.

A text of any length lies in a heap, and an attribute says in which, and how long it is. HDF5 makes room for that many
bytes, up to 4 GB for each text, before it looks into the heap. In a heap it goes from one text to the next by the size
that the first one says, and where that leads nowhere it goes on for ever, in code that nothing interrupts (HDF5 2.0,
and all before). So both are gone through here, before it reads any.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import h5py

Data = bytes | memoryview | mmap.mmap
# As the format has it: https://docs.hdfgroup.org, IV.A, data object headers; IV.A.2.m, attributes; III.E, global heaps.
HEADER = b"OHDR"  # of the newer kind
ATTRIBUTE, ATTRIBUTES, CONTINUATION = 0x0C, 0x15, 0x10  # types of messages in the header of an object
OF_ANY_LENGTH = 9  # the class of a datatype
IS_SHARED = 2  # a flag of a message that lies elsewhere
MAX_STEPS = 2_000_000  # from one message, or text, to the next, in all of a file


@dataclass
class Attributes:
    """The attributes of a file; ``data`` are its bytes, which are None where it was written here, and does not lie."""

    file: h5py.File
    data: Data | None
    _left: int = field(default=MAX_STEPS, init=False)

    def value(self, owner: h5py.Group, name: str) -> Any:
        """The value of an attribute; None where there is none. Raises `ValueError` where it can't be what it says."""
        if name not in owner.attrs:
            return None
        dtype = owner.attrs.get_id(name).dtype
        if dtype.hasobject:
            text = h5py.check_string_dtype(dtype)
            if text is None or text.length is not None:
                raise ValueError(f"'{name}' is neither text nor numbers")
            if self.data is not None:
                self._check_texts(owner, self.data)
        return owner.attrs[name]

    def _check_texts(self, owner: h5py.Group, data: Data) -> None:
        """Raises `ValueError` where texts in an object's attributes are longer than the file, or lie in no heap."""
        base = self.file.userblock_size
        width, _ = self._widths
        texts = [
            text
            for content in self._attributes(base + h5py.h5o.get_info(owner.id).addr, base, data)
            for text in _texts_of(content, width)
        ]
        if sum(length for length, _ in texts) > len(data):
            raise ValueError("its texts are longer than it is")
        for heap in {heap for _, heap in texts if heap}:
            self._check_heap(base + heap, data)

    @property
    def _widths(self) -> tuple[int, int]:
        """How many bytes the numbers of places, and of sizes, have in this file."""
        found: tuple[int, int] = self.file.id.get_create_plist().get_sizes()
        return found

    def _attributes(self, at: int, base: int, data: Data) -> Iterator[bytes]:
        """The messages of an object's attributes; ``at`` is the place of its header."""
        for kind, flags, content in self._messages(at, base, data):
            if kind == ATTRIBUTES and content[-2 * self._widths[0] :].strip(b"\xff"):
                raise ValueError("it keeps texts of attributes elsewhere than Keras does")
            if kind == ATTRIBUTE:
                if flags & IS_SHARED:
                    raise ValueError("it keeps texts of attributes elsewhere than Keras does")
                yield content

    def _messages(self, at: int, base: int, data: Data) -> Iterator[tuple[int, int, bytes]]:
        """The messages in an object's header: the type, flags and content of each."""
        place, size = self._widths
        is_new = data[at : at + 4] == HEADER
        if is_new:  # whose parts begin with a name and end with a checksum
            flags = data[at + 5]
            width, start = 1 << (flags & 3), at + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
            parts = [(start + width, _number(data, start, width))]
            header, around = 4 + 2 * bool(flags & 4), 4
        else:
            parts = [(at + 16, _number(data, at + 8, 4))]
            header, around = 8, 0
        for at, length in parts:  # which grows
            last = min(at + length, len(data)) - header
            while at <= last:
                self._step()
                kind, count = _number(data, at, 2 - is_new), _number(data, at + 2 - is_new, 2)
                content = bytes(data[at + header : at + header + count])
                yield kind, data[at + 4 - is_new], content
                if kind == CONTINUATION:
                    start, length = base + _number(content, 0, place), _number(content, place, size)
                    parts.append((start + around, length - 2 * around))
                at += header + count

    def _check_heap(self, start: int, data: Data) -> None:
        """Raises `ValueError` where a heap has no end."""
        _, width = self._widths
        header = _aligned(8 + width)
        end = min(start + _number(data, start + 8, width), len(data))
        at = start + header
        while at + header <= end:
            size = _number(data, at + 8, width)
            if _number(data, at, 2):  # and not what is free
                size = (header + _aligned(size)) % 2**64
            if not size:
                raise ValueError("a heap of its texts has no end")
            self._step()
            at += size

    def _step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError("its attributes have no end")


def _texts_of(content: bytes, width: int) -> Iterator[tuple[int, int]]:
    """The length of each text in an attribute, and the place of its heap; none of one of another type."""
    version, flags = content[0], content[1]
    name, dtype, space = (_number(content, at, 2) for at in (2, 4, 6))
    padded = _aligned if version == 1 else int
    at = 8 + (version == 3) + padded(name)
    if version > 1 and flags & 1:
        raise ValueError("it keeps types of attributes elsewhere than Keras does")
    if content[at] & 15 != OF_ANY_LENGTH:
        return
    at += padded(dtype) + padded(space)
    while at + 8 + width <= len(content):
        yield _number(content, at, 4), _number(content, at + 4, width)
        at += 8 + width


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def _number(data: Data, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "little")
