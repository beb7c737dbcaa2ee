"""The arrays of a file of Keras, each of which is read when its shape is known to be that of a weight.

A file may lie about everything: so links and datasets that are stored elsewhere are refused, and all arrays together
are no larger than what a file of its size can hold.
"""

from __future__ import annotations

import lzma
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, count, takewhile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from regspec.keras.arrays.headers import Headers, UnreadError
from regspec.keras.arrays.pieces import check_pieces, count_of_pieces
from regspec.text.problems import Problem, RegspecError

MAX_DEPTH = 64  # of groups in groups
MAX_ITEMS = 100_000  # in all groups
MAX_PIECES = 10_000  # of all arrays of a small file, and of a larger one as many as it may hold
MAX_WIDTH = 8  # bytes of a number, as torch has them
PIECE = 16  # bytes that each takes in a file, at least
# Where the layers of a model have their groups, within the model's own. tf.keras 2.12 to 2.14 had a name of its own.
OLD_CONTAINER = "_layer_checkpoint_dependencies"
CONTAINERS = (OLD_CONTAINER, "layers")
BFLOAT16 = np.dtype("V2")  # as which Keras writes it, because HDF5 has no such type
MAX_INFLATION = 100  # how many times as large as its compressed form a member, or all arrays of a file, may be


@dataclass(frozen=True)
class Account:
    """What became of a file's arrays: how many became parameters, and what nothing has taken."""

    arrays: int
    numbers: int
    bytes: int
    repeated: tuple[str, ...]  # taken more than once
    unused: tuple[str, ...]
    constant: int  # how many hold one number over and over, as new layers have it
    made: int  # numbers that became parameters, which are others where arrays of an older Keras are put together

    @property
    def is_complete(self) -> bool:
        """Whether each array was taken exactly once."""
        return not self.repeated and not self.unused


class ArrayFile:
    """The arrays of a file, by Keras's paths."""

    def __init__(
        self, file: h5py.File, path: Path, *, headers: Headers | None = None, lists_inner: bool = False
    ) -> None:
        """``headers`` are the file's; None of a file that was written here."""
        self.file = file
        self.path = path
        self.headers = headers
        self.lists_inner = lists_inner  # whether it lists layers of models inside by their names, too
        self.version: tuple[int, ...] = ()  # of the Keras that wrote it, where that matters and is known
        self._seen = 0
        with damaged(path):
            self.root = self._own(file, "model_weights") or file
            size = file.id.get_filesize()
            self._most = MAX_INFLATION * max(size, 2**20)  # bytes of all arrays
            self._most_pieces = max(MAX_PIECES, size // PIECE)
            self._joined = self._joined_groups()
        self._bytes = self._pieces = 0  # that were read
        self.gained = 0  # numbers that arrays have more, once they are made of others
        self._taken: list[tuple[h5py.Dataset, bool]] = []  # and whether it is constant

    @property
    def is_legacy(self) -> bool:
        """Whether the arrays are listed by the names of layers, and not in groups by their places in the model."""
        with damaged(self.path):
            return "layer_names" in self.root.attrs or "layer_names0" in self.root.attrs

    @property
    def is_of_windows(self) -> bool:
        """Whether groups are named by whole paths, as Windows writes them."""
        return bool(self._joined)

    @property
    def container(self) -> str:
        """The name of the group in which this file has the groups of a model's layers."""
        return next((name for name in CONTAINERS if self.has(name)), CONTAINERS[-1])

    def has(self, group: str) -> bool:
        """Whether there is such a group."""
        with damaged(self.path):
            return group in self._joined or self._own(self.root, group) is not None

    def below(self, group: str) -> dict[str, h5py.Dataset]:
        """The datasets below a group, by their paths in it; none where there is no such group."""
        with damaged(self.path):
            ways = [(group, ""), *self._joined.get(group, ())]
            owners = [(self._own(self.root, way), prefix) for way, prefix in ways]
            groups = [(owner, prefix) for owner, prefix in owners if isinstance(owner, h5py.Group)]
            datasets = [each for owner, prefix in groups for each in self._datasets(owner, prefix)]
        found = dict(datasets)
        if len(found) < len(datasets):
            raise self._fault(f"has several arrays of one path, of those in '{group}'")
        return found

    def of_layer(self, name: str) -> list[h5py.Dataset]:
        """The datasets of a layer in a legacy file, in order, without the counters that ``adapt()`` leaves."""
        with damaged(self.path):
            group = self._own(self.root, name)
            names = self.names(group, "weight_names") if isinstance(group, h5py.Group) else []
            datasets = [self._own(group, each) for each in names]
        if not all(isinstance(each, h5py.Dataset) for each in datasets):
            raise self._fault(f"names weights of '{name}' that are not in it")
        return [each for each in datasets if each.shape or each.dtype.kind == "f"]

    def names(self, group: h5py.Group, key: str) -> list[str]:
        """The names in an attribute of a group, or, where they are too many for one, in several that are numbered."""
        keys = [key] if key in group.attrs else takewhile(group.attrs.__contains__, (f"{key}{n}" for n in count()))
        values = (np.asarray(self._attribute(group, part)) for part in keys)
        return [text_in(each) for value in values for each in value.reshape(-1)]

    def text(self, name: str, group: h5py.Group | None = None) -> str | None:
        """The text in an attribute of the file, or of a group in it; None where there is none."""
        with damaged(self.path):
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
            if self.headers is not None:
                self.headers.check_texts(h5py.h5o.get_info(group.id).addr)
        return group.attrs[name]

    def array(self, dataset: h5py.Dataset, shape: tuple[int, ...]) -> NDArray[Any]:
        """The array of a dataset, whose shape must be this one."""
        if dataset.shape != shape:
            raise self._fault(f"has '{dataset.name}' with the shape {dataset.shape}, where {shape} is wanted")
        array = self._read(dataset)
        self._taken.append((dataset, array.size > 1 and bool((array == array.flat[0]).all())))
        if array.dtype == BFLOAT16:  # the upper halves of float32
            array = (array.view("<u2").astype("<u4") << 16).view("<f4")
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def account(self, ignored: re.Pattern[str]) -> Account:
        """What was read, and what was not; datasets whose paths match ``ignored`` are no weights."""
        times = Counter(dataset.name for dataset, _ in self._taken)
        taken = {dataset.name: dataset for dataset, _ in self._taken}
        with damaged(self.path):
            unread = tuple(
                dataset.name
                for dataset in self._weights()
                if not ignored.fullmatch(dataset.name) and not self._is_known(dataset, taken)
            )
        return Account(
            arrays=sum(times.values()),
            numbers=sum(dataset.size for dataset, _ in self._taken),
            bytes=sum(dataset.nbytes for dataset, _ in self._taken),
            repeated=tuple(name for name, count in times.items() if count > 1),
            unused=unread,
            constant=sum(is_constant for _, is_constant in self._taken),
            made=sum(dataset.size for dataset, _ in self._taken) + self.gained,
        )

    def check(self) -> None:
        """Raises `RegspecError` where anything in the file leads out of it, or can't be what it says."""
        with damaged(self.path):
            for _, dataset in self._datasets(self.file, ""):
                self._check(dataset)

    def _weights(self) -> Iterator[h5py.Dataset]:
        """All that may be weights of layers: not the optimizer's state."""
        if self.is_legacy:
            yield from (dataset for _, dataset in self._datasets(self.root, ""))
        for name in () if self.is_legacy else CONTAINERS:
            yield from self.below(name).values()

    def _is_known(self, dataset: h5py.Dataset, taken: Mapping[str, h5py.Dataset]) -> bool:
        """Whether an array was read, or is no weight, or is a wrapper's copy of one that was."""
        if dataset.name in taken or not dataset.shape:
            return True
        layer = _joined(dataset.name).rpartition("vars/")[0]
        alike = [e for name, e in taken.items() if _joined(name).startswith(layer) and e.shape == dataset.shape]
        self._check(dataset)
        if not layer or not alike:
            return False
        own = self._read(dataset)
        return any(np.array_equal(each[()], own) for each in alike)

    def _read(self, dataset: h5py.Dataset) -> NDArray[Any]:
        """The numbers of a dataset. Raises where it has no numbers, or can't be what it says."""
        with damaged(self.path):
            self._check(dataset)
            dtype = dataset.dtype
            if (dtype.kind not in "fiub" or dtype.itemsize > MAX_WIDTH) and dtype != BFLOAT16:
                raise self._fault(f"has '{dataset.name}' of the type {dtype}, where numbers are wanted")
            self._count(dataset)
            check_pieces(dataset, self._most)
            return np.asarray(dataset[()])

    def _count(self, dataset: h5py.Dataset) -> None:
        """Adds up the datasets that are read. Raises where they are more together than what the file can hold."""
        self._bytes += dataset.nbytes
        if self._bytes > self._most:
            raise self._fault(f"says that '{dataset.name}' has {dataset.nbytes:,} bytes, which it does not hold")
        self._pieces += count_of_pieces(dataset)
        if self._pieces > self._most_pieces:
            raise self._fault(f"says that '{dataset.name}' has {count_of_pieces(dataset):,} pieces, as no array has")

    def _check(self, dataset: h5py.Dataset) -> None:
        """Raises where a dataset is kept in another file, or claims more bytes than this file can hold."""
        if dataset.external or dataset.is_virtual:
            raise self._fault(f"keeps '{dataset.name}' in another file, which is not opened")
        if dataset.nbytes > self._most:
            raise self._fault(f"says that '{dataset.name}' has {dataset.nbytes:,} bytes, which it does not hold")

    def _joined_groups(self) -> dict[str, list[tuple[str, str]]]:
        r"""The groups at the root that are named by a whole path, as Windows writes it: a\\b, by each part of the path.

        Each is told by its name, and by the path that leads to it from that part.
        """
        found: dict[str, list[tuple[str, str]]] = {}
        for name in () if self.is_legacy else map(_text_of_name, self.root):
            if "\\" not in name:
                continue
            path = _joined(name)
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
            if self.headers is not None:
                self.headers.check(link.u)
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


# What h5py and zipfile raise on files that are damaged, by whatever they stumble over.
DAMAGE = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, EOFError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Turns what h5py or zipfile raise inside into the problem that the file is damaged."""
    try:
        yield
    except UnreadError:
        what = "is HDF5 of a form that Keras does not write, and that is not read"
        raise RegspecError(Problem(what, "load it in Keras, and save it again", str(path))) from None
    except DAMAGE as error:
        raise RegspecError(Problem(f"is damaged: {error}", path=str(path))) from None


def _text_of_name(name: str | bytes) -> str:
    """The name of a group or a dataset, whatever its bytes are."""
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name


def _joined(name: str) -> str:
    """A path as it is written anywhere but on Windows."""
    return name.replace("\\", "/")


def text_in(value: Any) -> str:
    """A text of a file, which may be bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, (bytes, np.bytes_)) else str(value)
