"""The arrays of an HDF5 file, of which nothing is followed that leads out of it, and nothing for ever."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, count, takewhile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from regspec.keras.arrays.headers import Headers
from regspec.keras.arrays.pieces import check_pieces, count_of_pieces
from regspec.keras.arrays.sources import Source, damaged, joined
from regspec.text.problems import Problem, RegspecError

MAX_DEPTH = 64  # of groups in groups
MAX_ITEMS = 100_000  # in all groups
MAX_PIECES = 10_000  # of all arrays of a small file, and of a larger one as many as it may hold
PIECE = 16  # bytes that each takes in a file, at least


class Hdf5(Source):
    """The arrays of an HDF5 file: links and datasets that are stored elsewhere are refused."""

    def __init__(self, file: h5py.File, path: Path, headers: Headers | None = None) -> None:
        """``headers`` are the file's; None of a file that was written here."""
        self.file = file
        self.path = path
        self._headers = headers
        self._seen = self._pieces = 0
        with damaged(path):
            self.nbytes = int(file.id.get_filesize())
            self._most_pieces = max(MAX_PIECES, self.nbytes // PIECE)
            self.root = self._own(file, "model_weights") or file
            self.is_legacy = "layer_names" in self.root.attrs or "layer_names0" in self.root.attrs
            self._joined = self._joined_groups()
        self.is_of_windows = bool(self._joined)

    def layers(self) -> list[str]:
        return self._names(self.root, "layer_names")

    def backends(self) -> list[str]:
        said = [self.text("backend", group) for group in (self.root, self.file)]
        return [each for each in said if each]

    def text(self, name: str, group: h5py.Group | None = None) -> str | None:
        """The text in an attribute of the file, or of a group in it; None where there is none."""
        value = self._attribute(self.file if group is None else group, name)
        return None if value is None else text_in(value)

    def _attribute(self, group: h5py.Group, name: str) -> Any:
        """The value of an attribute; None where there is none. Raises `ValueError` where it can't be what it says."""
        if name not in group.attrs:
            return None
        dtype = group.attrs.get_id(name).dtype
        if dtype.hasobject:
            text = h5py.check_string_dtype(dtype)
            if text is None or text.length is not None:
                raise ValueError(f"'{name}' is neither text nor numbers")
            if self._headers is not None:
                self._headers.check_texts(h5py.h5o.get_info(group.id).addr)
        return group.attrs[name]

    def has(self, group: str) -> bool:
        return group in self._joined or self._own(self.root, group) is not None

    def below(self, group: str) -> list[tuple[str, h5py.Dataset]]:
        ways = [(group, ""), *self._joined.get(group, ())]
        owners = [(self._own(self.root, way), prefix) for way, prefix in ways]
        groups = [(owner, prefix) for owner, prefix in owners if isinstance(owner, h5py.Group)]
        return [each for owner, prefix in groups for each in self._datasets(owner, prefix)]

    def of_layer(self, name: str) -> list[h5py.Dataset]:
        group = self._own(self.root, name)
        names = self._names(group, "weight_names") if isinstance(group, h5py.Group) else []
        datasets = [self._own(group, each) for each in names]
        if not all(isinstance(each, h5py.Dataset) for each in datasets):
            raise self._fault(f"names weights of '{name}' that are not in it")
        return datasets

    def of_model(self) -> Iterator[h5py.Dataset]:
        return (dataset for _, dataset in self._datasets(self.root, ""))

    def all(self) -> Iterator[h5py.Dataset]:
        return (dataset for _, dataset in self._datasets(self.file, ""))

    def read(self, stored: h5py.Dataset, most: int) -> NDArray[Any]:
        self._pieces += count_of_pieces(stored)
        if self._pieces > self._most_pieces:
            raise self._fault(f"says that '{stored.name}' has {count_of_pieces(stored):,} pieces, as no array has")
        check_pieces(stored, most)
        return np.asarray(stored[()])

    def is_elsewhere(self, stored: h5py.Dataset) -> bool:
        return bool(stored.external or stored.is_virtual)

    def _names(self, group: h5py.Group, key: str) -> list[str]:
        """The names in an attribute of a group, or, where they are too many for one, in several that are numbered."""
        keys = [key] if key in group.attrs else takewhile(group.attrs.__contains__, (f"{key}{n}" for n in count()))
        values = (np.asarray(self._attribute(group, part)) for part in keys)
        return [text_in(each) for value in values for each in value.reshape(-1)]

    def _joined_groups(self) -> dict[str, list[tuple[str, str]]]:
        r"""The groups at the root that are named by a whole path, as Windows writes it: a\\b, by each part of the path.

        Each is told by its name, and by the path that leads to it from that part.
        """
        found: dict[str, list[tuple[str, str]]] = {}
        for name in () if self.is_legacy else map(_text_of_name, self.root):
            if "\\" not in name:
                continue
            path = joined(name)
            self._count_items(path.count("/"))
            if self._own(self.root, path) is not None:
                raise self._fault(f"has both '{name}' and '{path}', which are one group")
            for part in accumulate(path.split("/"), "{}/{}".format):
                found.setdefault(part, []).append((name, path[len(part) + 1 :] + "/" * (part != path)))
        return found

    def _own(self, group: h5py.Group, path: str) -> Any:
        """What lies at a path, by links within the file only; None where there is nothing."""
        for step in path.split("/"):
            # asked of the link itself, because h5py's own `in` opens what it leads to
            name = step.encode(errors="surrogateescape")
            if not isinstance(group, h5py.Group) or not group.id.links.exists(name):
                return None
            link = group.id.links.get_info(name)
            if link.type != h5py.h5l.TYPE_HARD:
                raise self._fault(f"has '{step}', a link, which is not followed")
            if self._headers is not None:
                self._headers.check(link.u)
            group = group[step]
        return group

    def _datasets(self, group: h5py.Group, prefix: str, depth: int = 0) -> Iterator[tuple[str, h5py.Dataset]]:
        for name in map(_text_of_name, group):
            self._count_items(depth)
            item = self._own(group, name)
            if isinstance(item, h5py.Dataset):
                yield prefix + name, item
            elif isinstance(item, h5py.Group):
                yield from self._datasets(item, f"{prefix}{name}/", depth + 1)

    def _count_items(self, depth: int) -> None:
        """Counts one more item, so deep in groups. Raises where there are too many: links may make many of one."""
        self._seen += 1
        if depth > MAX_DEPTH or self._seen > MAX_ITEMS:
            raise self._fault("has groups in groups without end")

    def _fault(self, what: str) -> RegspecError:
        return RegspecError(Problem(what, path=str(self.path)))


def _text_of_name(name: str | bytes) -> str:
    """The name of a group or a dataset, whatever its bytes are."""
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name


def text_in(value: Any) -> str:
    """A text of a file, which may be bytes, or be no Unicode."""
    if isinstance(value, str):  # as h5py gives bytes that are none
        value = value.encode("utf-8", "surrogateescape")
    return value.decode("utf-8", "replace") if isinstance(value, (bytes, np.bytes_)) else str(value)
