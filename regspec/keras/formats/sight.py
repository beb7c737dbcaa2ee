"""What is looked at of a file or a folder, to tell what it is: its first bytes, its members, its JSON's keys."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from errno import EINVAL
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

from regspec.keras.arrays.headers import SIGNATURE, opened
from regspec.keras.arrays.sources import DAMAGE
from regspec.keras.formats.configs import json_in
from regspec.keras.formats.folders import file_in
from regspec.keras.formats.saved_model.protobuf import varint

START = 4096  # bytes that are looked at
MAX_MEMBERS = 10_000  # that are looked at
BLANKS = b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n"  # that may stand before a JSON text: marks of its encoding, and spaces


@dataclass(frozen=True)
class Sight:
    """A file or a folder, and what is seen of it without reading the whole; what is costly, only when it is asked."""

    path: Path
    is_folder: bool
    size: int  # bytes of a file
    start: bytes = field(repr=False)  # of a file
    end: bytes = field(repr=False)

    @classmethod
    def of(cls, path: Path) -> Sight:
        """The sight of a path. Raises `OSError` where it can't be read."""
        if "\0" in str(path):
            raise OSError(EINVAL, "no path has a zero byte")
        if path.is_dir():
            return cls(path, True, 0, b"", b"")
        if path.exists() and not path.is_file():  # for which one would wait
            raise OSError(EINVAL, "it is a pipe or a device, and no file")
        with path.open("rb") as file:
            start = file.read(START)
            size = file.seek(0, 2)
            file.seek(max(0, size - 64))
            return cls(path, False, size, start, file.read(64))

    def begins(self, *beginnings: bytes) -> bool:
        """Whether a file begins with one of these bytes."""
        return self.start.startswith(beginnings)

    @cached_property
    def members(self) -> tuple[str, ...]:
        """The names of what lies in a folder, or in a zip; none where that is damaged."""
        if self.is_folder:
            return tuple(sorted(each.name for each in islice(self.path.iterdir(), MAX_MEMBERS)))
        if not self.begins(b"PK"):
            return ()
        try:
            with zipfile.ZipFile(self.path) as archive:
                return tuple(islice(archive.namelist(), MAX_MEMBERS))
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            return ()

    def ending(self, *endings: str) -> str | None:
        """The first member whose name ends so."""
        return next((name for name in self.members if name.endswith(endings)), None)

    @property
    def is_hdf5(self) -> bool:
        """Whether it is an HDF5 file, which may have a block of something else before it, but no archive around it."""
        starts = [at for at in (0, 512, 1024, 2048) if self.start[at : at + len(SIGNATURE)] == SIGNATURE]
        return 0 in starts or (bool(starts) and not self.members)

    @cached_property
    def keys(self) -> frozenset[str]:
        """The names of the attributes and of the groups at the root of an HDF5 file; none where that is damaged."""
        try:
            file, _ = opened(self.path)
            with file:
                return frozenset(str(name) for name in islice(chain(file.attrs, file), MAX_MEMBERS))
        except DAMAGE:
            return frozenset()

    @cached_property
    def model(self) -> Sight:
        """The sight of the `model.json` in a folder; of anything else its own. Raises `RegspecError` for a link."""
        inner = file_in(self.path, "model.json") if self.is_folder else None
        return self if inner is None else Sight.of(inner)

    @property
    def is_json(self) -> bool:
        """Whether a file looks like JSON, broken or not."""
        start = self.start.replace(b"\x00", b"").lstrip(BLANKS)  # of whatever encoding
        is_quoted = start[:1] == b'"' and start[1:].lstrip()[:1] in (b"{", b"[", b"\\")  # and no text of its own
        return (start[:1] in (b"{", b"[") or is_quoted) and not self.is_folder

    @cached_property
    def json(self) -> Any:
        """What the JSON of a file says. Raises `RegspecError` where it is broken or too large."""
        return json_in(self.path)

    def said(self, *keys: str) -> bool:
        """Whether the JSON of a file is a mapping that has all of these keys."""
        return self.is_json and isinstance(self.json, dict) and all(key in self.json for key in keys)

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """The first lines of a text; none of what is no text."""
        try:
            text = self.start.decode("utf-8-sig", "strict" if self.size <= START else "ignore")
        except ValueError:
            return ()
        return () if "\x00" in text else tuple(text.splitlines())

    def fields(self) -> Iterator[tuple[int, bytes]]:
        """The first fields of a protocol buffer: each number, and the bytes in it, none of one that is a number."""
        at, data = 0, self.start
        with suppress(ValueError):  # where what is looked at ends within a number
            for _ in range(8):
                key, at = varint(data, at)
                value, at = varint(data, at)
                if key & 7 == 0:
                    yield key >> 3, b""
                elif key & 7 == 2:
                    yield key >> 3, data[at : at + value]
                    at += value
                else:
                    return
