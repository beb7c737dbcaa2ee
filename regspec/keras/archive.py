"""Keras's files: what they say of a model, and the arrays in them. Nothing in a file is run, imported or followed.

A file may lie about everything. So its config is bounded in size and depth; its members are read by their fixed names,
and never unpacked to disk; links out of an HDF5 file and datasets stored elsewhere are refused; and an array is read
once its shape is known to be that of a weight.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from regspec.errors import Problem, RegspecError

MAX_CONFIG = 64 * 2**20  # bytes
MAX_WEIGHTS = 64 * 2**30
MAX_DEPTH = 64  # of groups in groups
MAX_ITEMS = 1_000_000  # in all groups
MAX_INFLATION = 100  # how many times as large as its compressed form a member may be


@dataclass(frozen=True)
class Archive:
    """A model's config, the version of Keras that wrote it, and its arrays, where there are any."""

    path: Path
    config: dict[str, Any]
    version: str | None
    arrays: Arrays | None


class Arrays:
    """The arrays of a file, by Keras's paths."""

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.file = file
        self.path = path
        self.root = self._own(file, "model_weights") or file
        self._seen = 0

    @property
    def is_legacy(self) -> bool:
        """Whether the arrays are stored by the names of layers, and not by their places in the model."""
        return "layer_names" in self.root.attrs or "layer_names0" in self.root.attrs

    def below(self, place: str) -> dict[str, h5py.Dataset]:
        """The datasets below a group, by their paths in it; none where there is no such group."""
        found: dict[str, h5py.Dataset] = {}
        group = self._own(self.root, place)
        if isinstance(group, h5py.Group):
            for path, dataset in self._datasets(group, ""):
                found[path] = dataset
        return found

    def of_layer(self, name: str) -> list[h5py.Dataset]:
        """The datasets of a layer in a legacy file, in order."""
        group = self._own(self.root, name)
        names = self.names(group, "weight_names") if isinstance(group, h5py.Group) else []
        datasets = [self._own(group, each) for each in names]
        if not all(isinstance(each, h5py.Dataset) for each in datasets):
            raise self._fault(f"names weights of '{name}' that are not in it")
        return [
            each for each in datasets if each.shape or each.dtype.kind == "f"
        ]  # a count of what was adapted is none

    @staticmethod
    def names(group: h5py.Group, key: str) -> list[str]:
        """The names in an attribute of a group, or, where they are too many for one, in several that are numbered."""
        keys = [key] if key in group.attrs else takewhile(group.attrs.__contains__, (f"{key}{n}" for n in count()))
        return [_text(each) for part in keys for each in group.attrs[part]]

    def read(self, dataset: h5py.Dataset, shape: tuple[int, ...]) -> NDArray[Any]:
        """The array of a dataset, whose shape must be this one."""
        if dataset.shape != shape:
            raise self._fault(f"has '{dataset.name}' with the shape {dataset.shape}, where {shape} is wanted")
        if dataset.external or dataset.is_virtual:
            raise self._fault(f"keeps '{dataset.name}' in another file, which is not opened")
        if dataset.nbytes > MAX_INFLATION * max(dataset.id.get_storage_size(), 2**20):
            raise self._fault(f"says that '{dataset.name}' has {dataset.nbytes:,} bytes, which it does not hold")
        try:
            array: NDArray[Any] = dataset[()]
        except (OSError, ValueError, RuntimeError) as error:
            raise self._fault(f"has '{dataset.name}', which can't be read: {error}") from None
        return array

    def _own(self, group: h5py.Group, path: str) -> Any:
        """What lies at a path, by links within the file only; None where there is nothing."""
        for step in path.split("/"):
            # asked of the link itself, because h5py's own `in` opens what it leads to
            name = step.encode()
            if not isinstance(group, h5py.Group) or not group.id.links.exists(name):
                return None
            if group.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                raise self._fault(f"has '{step}', a link, which is not followed")
            group = group[step]
        return group

    def _datasets(self, group: h5py.Group, prefix: str, depth: int = 0) -> Iterator[tuple[str, h5py.Dataset]]:
        for name in group:
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
        return replace(archive, arrays=Arrays(h5py.File(weights, "r"), weights))
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror or error}", path=str(weights))) from None


def _zip(path: Path) -> Archive:
    try:
        with zipfile.ZipFile(path) as archive:
            config = _parsed(_member(archive, "config.json", MAX_CONFIG, path), path)
            metadata = {}
            if "metadata.json" in archive.namelist():
                metadata = _parsed(_member(archive, "metadata.json", MAX_CONFIG, path), path)
            arrays = None
            if "model.weights.h5" in archive.namelist():
                raw = _member(archive, "model.weights.h5", MAX_WEIGHTS, path)
                arrays = Arrays(h5py.File(io.BytesIO(raw), "r"), path)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise RegspecError(Problem(f"is damaged: {error}", path=str(path))) from None
    version = metadata.get("keras_version")
    return Archive(path, config, version if isinstance(version, str) else None, arrays)


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


def _hdf5(path: Path) -> Archive:
    file = h5py.File(path, "r")
    config = file.attrs.get("model_config")
    if config is None:
        what = "holds weights alone, without a model's config"
        raise RegspecError(
            Problem(what, "give it as the weights of a config: regspec.port('model.json', weights=…)", str(path))
        )
    version = file.attrs.get("keras_version")
    return Archive(path, _parsed(_text(config), path), None if version is None else _text(version), Arrays(file, path))


def _json(path: Path) -> Archive:
    if path.stat().st_size > MAX_CONFIG:
        raise RegspecError(Problem("is larger than any config", path=str(path)))
    config = _parsed(path.read_bytes(), path)
    version = config.get("keras_version")
    return Archive(path, config, version if isinstance(version, str) else None, None)


def _parsed(text: str | bytes, path: Path) -> dict[str, Any]:
    """A JSON object. Raises `RegspecError` for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RegspecError(Problem(f"has a config that is no JSON: {error}", path=str(path))) from None
    if not isinstance(value, dict):
        raise RegspecError(Problem("has a config that is no mapping", path=str(path)))
    return value


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, (bytes, np.bytes_)) else str(value)
