"""The headers of objects in HDF5 files: gone through before HDF5 reads what they say, so that it reads no more than is.

A text of any length lies in a heap, and an attribute says in which, and how long it is. HDF5 makes room for that many
bytes, gigabytes for each text, before it looks into the heap. In a heap it goes from one text to the next by the size
that the first one says, and where that leads nowhere it goes on for ever, in code that nothing interrupts. So it does
where what is free in the heap of a group's names leads back, and takes memory with each step; and where a tree of links
or pieces leads to a part that it comes from.

In the ways in which newer files may keep many links, attributes and pieces, a file that lies brings HDF5 down, with all
of the process, or makes it take gigabytes. Keras never asks for them, and so they are not read; but for many links,
which HDF5 itself keeps so where a name has letters beyond ASCII: those another process goes through first. All that is
of HDF5 2.0, and of all before.
"""

from __future__ import annotations

import io
import mmap
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py

Data = bytes | memoryview | mmap.mmap
# As the format has it: https://docs.hdfgroup.org, II.A, superblocks; IV.A, headers and their messages; III.E, heaps.
SIGNATURE, HEADER = b"\x89HDF\r\n\x1a\n", b"OHDR"  # of a file; of a header of the newer kind
LINKS, LAYOUT, ATTRIBUTE, CONTINUATION, ATTRIBUTES = 0x02, 0x08, 0x0C, 0x10, 0x15  # types of messages
GROUP = 0x11  # the type of the message of an older group: its tree, and the heap of its names
NO_MORE = 1  # what the last free part of such a heap says of the next
IN_PIECES, IN_FILES = 2, 3  # classes of layouts
PLAIN = (1, 2)  # indices of pieces that are none
OF_ANY_LENGTH = 9  # the class of a datatype
IS_SHARED = 2  # a flag of a message that lies elsewhere
MAX_SECONDS = 30  # of another process that goes through the links
MAX_STEPS = 2_000_000  # from one message, or text, to the next, in all of a file


class UnreadError(ValueError):
    """A file is written in a way of HDF5 that is not read."""


def opened(file: Path | io.BytesIO) -> tuple[h5py.File, Headers]:
    """An HDF5 file, with its headers, of which that of its root is as it must be. Raises `ValueError` for any other."""
    if isinstance(file, io.BytesIO):
        data: Data = file.getbuffer()
    else:
        with file.open("rb") as raw:
            data = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
    base = 0
    while data[base : base + 8] != SIGNATURE:
        base = max(512, 2 * base)
        if base > len(data):
            raise ValueError("it has no signature of HDF5")
    version = data[base + 8]
    if version > 1:
        place, size = data[base + 9 : base + 11]
        root = base + 12 + 3 * place
        if bytes(data[base + 12 + place : base + 12 + 2 * place]).strip(b"\xff"):  # more of it, elsewhere
            raise UnreadError
    else:
        place, size = data[base + 13 : base + 15]
        root = base + 24 + 4 * version + 5 * place
    headers = Headers(file, data, base, (place, size))
    headers.check(_number(data, root, place))
    return h5py.File(file, "r"), headers


@dataclass
class Headers:
    """The headers of the objects in a file."""

    file: Path | io.BytesIO
    data: Data  # the bytes of the file
    base: int  # the place from which it counts places
    widths: tuple[int, int]  # bytes of a number that is a place, and of one that is a size
    _known: set[int] = field(default_factory=set, init=False)
    _is_walked: bool = field(default=False, init=False)  # whether another process has gone through all links
    _left: int = field(default=MAX_STEPS, init=False)

    def check(self, at: int) -> None:
        """Raises `ValueError` where the object at a place is kept in a way that is not read."""
        if at in self._known:
            return
        self._known.add(at)
        for kind, flags, content in self._messages(at):
            if flags & IS_SHARED and content[:2] == b"\x03\x01":  # with other objects, in a heap of messages
                raise UnreadError
            if kind in (LINKS, ATTRIBUTES):
                width = 8 if kind == LINKS else 2
                heap = content[2 + width * (content[1] & 1) :][: self.widths[0]]
                if heap.strip(b"\xff") and not (kind == LINKS and self._can_be_walked()):
                    raise UnreadError
            if kind == LAYOUT and content[0] > 3:
                if content[1] == IN_FILES:
                    raise ValueError("it keeps an array in another file, which is not opened")
                if content[1] == IN_PIECES and content[5 + content[3] * content[4]] not in PLAIN:
                    raise UnreadError
            elif kind == LAYOUT:
                self._check_older_layout(content)
            elif kind == GROUP:
                place = self.widths[0]
                self._check_tree(content[:place], 0, self.widths[1])
                self._check_names(_number(content, place, place))

    def _can_be_walked(self) -> bool:
        """Whether another process comes through the links of all groups, as this one will."""
        if not self._is_walked:
            command, given = [sys.executable, "-P", str(Path(__file__).with_name("walked.py"))], None
            if isinstance(self.file, io.BytesIO):
                given = self.file.getvalue()
            else:
                command.append(str(self.file))
            try:
                done = subprocess.run(command, input=given, capture_output=True, timeout=MAX_SECONDS, check=False)
            except subprocess.TimeoutExpired:
                return False
            self._is_walked = done.returncode == 0
        return self._is_walked

    def check_texts(self, at: int) -> None:
        """Raises `ValueError` where texts in an object's attributes are longer than the file, or lie in no heap."""
        texts: list[tuple[int, int]] = []
        for kind, flags, content in self._messages(at):
            if kind == ATTRIBUTE and flags & IS_SHARED:
                raise UnreadError
            if kind == ATTRIBUTE:
                texts += _texts_of(content, self.widths[0])
        if sum(length for length, _ in texts) > len(self.data):
            raise ValueError("its texts are longer than it is")
        for heap in {heap for _, heap in texts if heap}:
            self._check_heap(heap)

    def _messages(self, at: int) -> Iterator[tuple[int, int, bytes]]:
        """The messages in the header of an object: the type, flags and content of each."""
        data, base = self.data, self.base
        at += base
        place, size = self.widths
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

    def _check_older_layout(self, content: bytes) -> None:
        """Raises `ValueError` where pieces lie in a tree that is none."""
        kind, rank, start = (content[1], content[2], 3) if content[0] == 3 else (content[2], content[1], 8)
        if kind == IN_PIECES:
            self._check_tree(content[start : start + self.widths[0]], 1, 8 + 8 * rank)

    def _check_tree(self, root: bytes, kind: int, width: int) -> None:
        """Raises `ValueError` where a tree with keys of a width leads to a part of it twice; there may be no tree."""
        place, data = self.widths[0], self.data
        nodes: list[tuple[int, int | None]] = [(_number(root, 0, place), None)] if root.strip(b"\xff") else []
        for at, level in nodes:  # which grows
            start = self.base + at
            own, count = data[start + 5], _number(data, start + 6, 2)
            if data[start : start + 5] != b"TREE" + bytes([kind]) or level not in (None, own):
                raise ValueError("what should be a tree is none")
            first, step = start + 8 + 2 * place + width, width + place
            children = [_number(data, first + step * index, place) for index in range(count)]
            if own:
                nodes.extend((child, own - 1) for child in children)
            self._step(count)
        if len({at for at, _ in nodes}) < len(nodes):
            raise ValueError("a tree leads to one of its parts twice")

    def _check_names(self, at: int) -> None:
        """Raises `ValueError` where the heap of a group's names is longer than the file, or what is free has no end."""
        size, data, start = self.widths[1], self.data, self.base + at
        length, free = (_number(data, start + 8 + size * index, size) for index in range(2))
        names = self.base + _number(data, start + 8 + 2 * size, self.widths[0])
        if data[start : start + 4] != b"HEAP" or names + length > len(data):
            raise ValueError("the names of a group lie nowhere")
        seen = set()
        while free != NO_MORE and free + 2 * size <= length:
            if free in seen:
                raise ValueError("what is free among the names of a group has no end")
            seen.add(free)
            free = _number(data, names + free, size)

    def _check_heap(self, start: int) -> None:
        """Raises `ValueError` where a heap has no end."""
        data, start = self.data, start + self.base
        _, width = self.widths
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

    def _step(self, count: int = 1) -> None:
        self._left -= count
        if self._left < 0:
            raise ValueError("its objects have no end")


def _texts_of(content: bytes, width: int) -> Iterator[tuple[int, int]]:
    """The bytes of each text in an attribute, and the place of its heap; none of one of another type."""
    version, flags = content[0], content[1]
    name, dtype, space = (_number(content, at, 2) for at in (2, 4, 6))
    padded = _aligned if version == 1 else int
    at = 8 + (version == 3) + padded(name)
    if version > 1 and flags & 1:
        raise UnreadError
    if content[at] & 15 != OF_ANY_LENGTH:
        return
    letter = _number(content, at + 12, 4)  # bytes, of which each text has as many as its length says
    at += padded(dtype) + padded(space)
    while at + 8 + width <= len(content):
        yield _number(content, at, 4) * letter, _number(content, at + 4, width)
        at += 8 + width


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def _number(data: Data, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "little")
