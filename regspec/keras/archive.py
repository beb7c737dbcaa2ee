"""Keras's files: what they say of a model, and the arrays in them. Nothing in a file is run, imported or followed.

A file may lie about everything. So its config is bounded in size and depth; its members are read by their fixed names,
and never unpacked to disk; links out of an HDF5 file and datasets stored elsewhere are refused; and an array is read
once its shape is known to be that of a weight.
"""

from __future__ import annotations

import io
import json
import lzma
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from regspec.text.problems import Problem, RegspecError

MAX_CONFIG = 10 * 2**20  # bytes, of which the worst take thirty times as much when they are read
MAX_VALUES = 300_000  # in a config, several times those of the largest of keras.applications
MAX_WEIGHTS = 64 * 2**30
MAX_DEPTH = 64  # of groups in groups
MAX_NESTING = 250  # of values in the values of a config
MAX_ITEMS = 100_000  # in all groups
BFLOAT16 = np.dtype("V2")  # as which Keras writes it, because HDF5 has no such type
MAX_INFLATION = 100  # how many times as large as its compressed form a member, or all arrays of a file, may be
MEMBERS = ("config.json", "metadata.json", "model.weights.h5")


@dataclass(frozen=True)
class Archive:
    """A model's config, the version of Keras that wrote it, and its arrays, where there are any."""

    path: Path
    config: dict[str, Any]
    version: str | None
    arrays: Arrays | None
    form: str = ".keras"  # or .h5, or JSON
    date: str | None = None  # of saving
    training: Mapping[str, Any] = field(default_factory=dict)  # what the model was compiled with
    others: tuple[str, ...] = ()  # members that are no part of a model


@dataclass(frozen=True)
class Account:
    """What became of a file's arrays: how many became parameters, and what nothing has taken."""

    arrays: int
    numbers: int
    bytes: int
    repeated: tuple[str, ...]  # taken more than once
    unused: tuple[str, ...]
    constant: int  # how many hold one number over and over, as new layers have it

    @property
    def is_complete(self) -> bool:
        """Whether each array was taken exactly once."""
        return not self.repeated and not self.unused


class Arrays:
    """The arrays of a file, by Keras's paths."""

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.file = file
        self.path = path
        with damaged(path):
            self.root = self._own(file, "model_weights") or file
            self._most = MAX_INFLATION * max(file.id.get_filesize(), 2**20)  # bytes of all arrays
        self._seen = 0
        self._bytes = 0  # that were read
        self._taken: list[tuple[h5py.Dataset, bool]] = []  # and whether it is constant

    @property
    def is_legacy(self) -> bool:
        """Whether the arrays are listed by the names of layers, and not in groups by their places in the model."""
        with damaged(self.path):
            return "layer_names" in self.root.attrs or "layer_names0" in self.root.attrs

    def below(self, group: str) -> dict[str, h5py.Dataset]:
        """The datasets below a group, by their paths in it; none where there is no such group."""
        with damaged(self.path):
            found = self._own(self.root, group)
            return dict(self._datasets(found, "")) if isinstance(found, h5py.Group) else {}

    def of_layer(self, name: str) -> list[h5py.Dataset]:
        """The datasets of a layer in a legacy file, in order, without those that count what it was adapted to."""
        with damaged(self.path):
            group = self._own(self.root, name)
            names = self.names(group, "weight_names") if isinstance(group, h5py.Group) else []
            datasets = [self._own(group, each) for each in names]
        if not all(isinstance(each, h5py.Dataset) for each in datasets):
            raise self._fault(f"names weights of '{name}' that are not in it")
        return [each for each in datasets if each.shape or each.dtype.kind == "f"]

    @staticmethod
    def names(group: h5py.Group, key: str) -> list[str]:
        """The names in an attribute of a group, or, where they are too many for one, in several that are numbered."""
        keys = [key] if key in group.attrs else takewhile(group.attrs.__contains__, (f"{key}{n}" for n in count()))
        return [_text(each) for part in keys for each in np.asarray(group.attrs[part]).reshape(-1)]

    def array(self, dataset: h5py.Dataset, shape: tuple[int, ...]) -> NDArray[Any]:
        """The array of a dataset, whose shape must be this one."""
        if dataset.shape != shape:
            raise self._fault(f"has '{dataset.name}' with the shape {dataset.shape}, where {shape} is wanted")
        self._check(dataset)
        self._count_bytes(dataset)
        if dataset.dtype.kind not in "fiub" and dataset.dtype != BFLOAT16:
            raise self._fault(f"has '{dataset.name}' of the type {dataset.dtype}, where numbers are wanted")
        with damaged(self.path):
            array: NDArray[Any] = np.asarray(dataset[()])
        self._taken.append((dataset, array.size > 1 and bool((array == array.flat[0]).all())))
        if array.dtype == BFLOAT16:  # the upper halves of float32
            array = (array.view("<u2").astype("<u4") << 16).view("<f4")
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def account(self, ignored: re.Pattern[str]) -> Account:
        """What was read, and what was not; without what is no weight, as these paths tell."""
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
        )

    def check(self) -> None:
        """Raises `RegspecError` where anything in the file leads out of it, or can't be what it says."""
        with damaged(self.path):
            for _, dataset in self._datasets(self.file, ""):
                self._check(dataset)

    def _weights(self) -> Iterator[h5py.Dataset]:
        """All that may be weights of layers: not the optimizer's state."""
        group = self.root if self.is_legacy else self._own(self.root, "layers")
        if isinstance(group, h5py.Group):
            for _, dataset in self._datasets(group, ""):
                yield dataset

    def _is_known(self, dataset: h5py.Dataset, taken: Mapping[str, h5py.Dataset]) -> bool:
        """Whether an array was read, or is no weight, or is a wrapper's copy of one that was."""
        if dataset.name in taken or not dataset.shape:
            return True
        layer = dataset.name.rpartition("vars/")[0]
        alike = [each for name, each in taken.items() if name.startswith(layer) and each.shape == dataset.shape]
        self._check(dataset)
        if not layer or not alike:
            return False
        self._count_bytes(dataset)
        own = dataset[()]
        return any(np.array_equal(each[()], own) for each in alike)

    def _count_bytes(self, dataset: h5py.Dataset) -> None:
        """Adds up the datasets that are read. Raises where they are larger together than what the file can hold."""
        self._bytes += dataset.nbytes
        if self._bytes > self._most:
            raise self._fault(f"says that '{dataset.name}' has {dataset.nbytes:,} bytes, which it does not hold")

    def _check(self, dataset: h5py.Dataset) -> None:
        """Raises where a dataset lies elsewhere, or is larger than what it holds can be."""
        if dataset.external or dataset.is_virtual:
            raise self._fault(f"keeps '{dataset.name}' in another file, which is not opened")
        if dataset.nbytes > self._most:
            raise self._fault(f"says that '{dataset.name}' has {dataset.nbytes:,} bytes, which it does not hold")

    def _own(self, group: h5py.Group, path: str) -> Any:
        """What lies at a path, by links within the file only; None where there is nothing."""
        for step in path.split("/"):
            # asked of the link itself, because h5py's own `in` opens what it leads to
            name = step.encode(errors="surrogateescape")
            if not isinstance(group, h5py.Group) or not group.id.links.exists(name):
                return None
            if group.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                raise self._fault(f"has '{step}', a link, which is not followed")
            group = group[step]
        return group

    def _datasets(self, group: h5py.Group, prefix: str, depth: int = 0) -> Iterator[tuple[str, h5py.Dataset]]:
        for key in group:
            name = key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else key
            self._seen += 1
            if depth > MAX_DEPTH or self._seen > MAX_ITEMS:  # links may make many paths to one group
                raise self._fault("has groups in groups without end")
            item = self._own(group, name)
            if isinstance(item, h5py.Dataset):
                yield prefix + name, item
            elif isinstance(item, h5py.Group):
                yield from self._datasets(item, f"{prefix}{name}/", depth + 1)

    def _fault(self, what: str) -> RegspecError:
        return RegspecError(Problem(what, path=str(self.path)))


# What h5py and zipfile raise on files that are damaged, by whatever they stumble over.
DAMAGE = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, EOFError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Says of what h5py or zipfile raises inside that the file is damaged."""
    try:
        yield
    except DAMAGE as error:
        raise RegspecError(Problem(f"is damaged: {error}", path=str(path))) from None


def read(path: Path, weights: Path | None = None) -> Archive:
    """What a file of Keras says: `.keras`, `.h5`, or the JSON of `to_json()`; with the weights of another, if given.

    Raises:
        RegspecError: where it can't be read, or is no such file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
        if start[:4] == b"PK\x03\x04":
            archive = _zip(path)
        elif start == b"\x89HDF\r\n\x1a\n":
            archive = _hdf5(path)
        else:
            archive = _json(path)
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror or error}", path=str(path))) from None
    if weights is None:
        return archive
    try:
        weights.open("rb").close()
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror or error}", path=str(weights))) from None
    return replace(archive, arrays=_arrays(weights, weights))


def _zip(path: Path) -> Archive:
    with damaged(path), zipfile.ZipFile(path) as archive:
        config = _parsed(_member(archive, "config.json", MAX_CONFIG, path), path)
        metadata = {}
        if "metadata.json" in archive.namelist():
            metadata = _parsed(_member(archive, "metadata.json", MAX_CONFIG, path), path)
        arrays = None
        if "model.weights.h5" in archive.namelist():
            raw = _member(archive, "model.weights.h5", MAX_WEIGHTS, path)
            arrays = _arrays(io.BytesIO(raw), path)
        others = tuple(name for name in archive.namelist() if name not in MEMBERS)
    return Archive(
        path,
        config,
        _string(metadata.get("keras_version")),
        arrays,
        date=_string(metadata.get("date_saved")),
        training=_mapping(config.get("compile_config")),
        others=others,
    )


def _member(archive: zipfile.ZipFile, name: str, most: int, path: Path) -> bytes:
    """A member's bytes. Raises `RegspecError` for one that is not there, or too large."""
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise RegspecError(Problem(f"has no {name}: it is no model of Keras", path=str(path))) from None
    if member.file_size > most or member.file_size > MAX_INFLATION * max(member.compress_size, 2**20):
        raise RegspecError(Problem(f"says that its {name} has {member.file_size:,} bytes", path=str(path)))
    with archive.open(member) as file:
        content = file.read(member.file_size + 1)
    if len(content) > member.file_size:
        raise RegspecError(Problem(f"has a {name} that is larger than it says", path=str(path)))
    return content


def _arrays(file: Path | io.BytesIO, path: Path) -> Arrays:
    """The arrays of an HDF5 file; ``path`` is what messages call it."""
    with damaged(path):
        return Arrays(h5py.File(file, "r"), path)


def _hdf5(path: Path) -> Archive:
    arrays = _arrays(path, path)
    with damaged(path):
        names = ("model_config", "keras_version", "training_config")
        config, version, training = (arrays.file.attrs.get(name) for name in names)
    if config is None:
        what = "holds weights alone, without a model's config"
        raise RegspecError(
            Problem(what, "give it as the weights of a config: regspec.port('model.json', weights=…)", str(path))
        )
    return Archive(
        path,
        _parsed(_text(config), path),
        None if version is None else _text(version),
        arrays,
        form=".h5",
        training={} if training is None else _training(_text(training)),
    )


def _json(path: Path) -> Archive:
    if path.stat().st_size > MAX_CONFIG:
        raise RegspecError(Problem("is larger than any model's config", path=str(path)))
    config = _parsed(path.read_bytes(), path)
    training = _mapping(config.get("compile_config"))
    return Archive(path, config, _string(config.get("keras_version")), None, form="JSON", training=training)


def _parsed(text: str | bytes, path: Path) -> dict[str, Any]:
    """A JSON object. Raises `RegspecError` for anything else."""
    if len(text) > MAX_CONFIG:
        raise RegspecError(Problem("has a config that is larger than any model's", path=str(path)))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RegspecError(Problem(f"has a config that is no JSON: {error}", path=str(path))) from None
    if not isinstance(value, dict):
        raise RegspecError(Problem("has a config that is no mapping", path=str(path)))
    if not _is_bounded(value):
        raise RegspecError(Problem("has a config of values in values without end", path=str(path)))
    return value


def _is_bounded(value: Any) -> bool:
    """Whether a value holds as few values, nested as little, as a model's config."""
    level, count = [value], 0
    for _ in range(MAX_NESTING):
        inside = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list)))
        level = [*chain.from_iterable(inside)]
        count += len(level)
        if count > MAX_VALUES or not level:
            break
    return count <= MAX_VALUES and not level


def _training(text: str) -> Mapping[str, Any]:
    """What a model was compiled with; nothing where that is damaged, because the port does without it."""
    try:
        return _mapping(json.loads(text))
    except (ValueError, RecursionError):
        return {}


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, (bytes, np.bytes_)) else str(value)
