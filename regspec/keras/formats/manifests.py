"""The weights beside a `model.json` of TensorFlow.js: a manifest of names, shapes and types, and files of bytes.

A manifest may lie about everything. So a file of bytes is a plain one in the same folder, which is used once, and all
sizes are compared before anything is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regspec.keras.formats.folders import file_in
from regspec.text.problems import Problem, RegspecError

MAX_ITEMS = 100_000  # weights, or files
MAX_RANK = 16
MAX_NUMBER = 1e30  # of a scale or a minimum, with which all that is made is finite
TYPES = {"float32": "<f4", "int32": "<i4", "bool": "?", "uint8": "u1"}
QUANTIZED = {"uint8": "u1", "uint16": "<u2", "float16": "<f2"}


@dataclass(frozen=True)
class Entry:
    """A weight as a manifest says it: value = number x scale + minimum where it is quantized."""

    name: str
    shape: tuple[int, ...]
    stored: np.dtype[Any]
    dtype: np.dtype[Any]
    scale: float | None
    minimum: float

    @property
    def nbytes(self) -> int:
        """How many bytes it has in the files."""
        return math.prod(self.shape) * self.stored.itemsize

    def array(self, content: memoryview) -> NDArray[Any]:
        """Its array, of its bytes."""
        numbers = np.frombuffer(content, self.stored).reshape(self.shape)
        if self.scale is None:
            return numbers.astype(self.dtype)
        return (numbers.astype("f8") * self.scale + self.minimum).astype(self.dtype)


def weights_in(manifest: list[Any], path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a manifest by their names, in order, but those of an optimizer; ``path`` is that of `model.json`.

    The manifest is a list of groups, as its schema has it.

    Raises:
        RegspecError: where the manifest or a file is not as it must be.
    """
    found: dict[str, NDArray[Any]] = {}
    used: set[str] = set()
    count = 0
    for number, group in enumerate(manifest):
        where = f"$.weightsManifest[{number}]"
        weights, names = group["weights"], group["paths"]
        count += len(weights) + len(names)
        if count > MAX_ITEMS:
            raise _fault(path, where, f"is behind more than {MAX_ITEMS:,} weights and files")
        entries = [entry_of(each, f"{where}.weights[{index}]", path) for index, each in enumerate(weights)]
        files = [_shard(each, f"{where}.paths[{index}]", path, used) for index, each in enumerate(names)]
        content = _joined(files, sum(entry.nbytes for entry in entries), where, path)
        at = 0
        for index, entry in enumerate(entries):
            if entry.name in found:
                raise _fault(path, f"{where}.weights[{index}]", f"has the name '{entry.name[:80]}' a second time")
            array = entry.array(content[at : at + entry.nbytes])
            at += entry.nbytes
            if weights[index].get("group") != "optimizer":
                found[entry.name] = array
    return found


def entry_of(item: Any, where: str, path: Path) -> Entry:
    """What a manifest says of a weight. Raises `RegspecError`."""
    name, shape, dtype = (item.get(key) if isinstance(item, dict) else None for key in ("name", "shape", "dtype"))
    if not isinstance(name, str) or not name:
        raise _fault(path, where, "has no name")
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(type(n) is int and n >= 0 for n in shape):
        raise _fault(path, f"{where}.shape", f"is no shape: {str(shape)[:80]}")
    if not isinstance(dtype, str) or dtype not in TYPES:
        known = ", ".join(TYPES)
        raise _fault(path, f"{where}.dtype", f"is {str(dtype)[:80]}, where numbers are wanted: {known}")
    scale, minimum, stored = None, 0.0, TYPES[dtype]
    if (said := item.get("quantization")) is not None:
        kind = said.get("dtype") if isinstance(said, dict) else None
        if not isinstance(kind, str) or kind not in QUANTIZED:
            raise _fault(path, f"{where}.quantization", f"has no dtype out of {', '.join(QUANTIZED)}")
        stored = QUANTIZED[kind]
        if kind != "float16":
            scale, minimum = (_number(said, key, f"{where}.quantization", path) for key in ("scale", "min"))
    return Entry(name, tuple(shape), np.dtype(stored), np.dtype(TYPES[dtype]), scale, minimum)


def _number(said: Mapping[str, Any], key: str, where: str, path: Path) -> float:
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= MAX_NUMBER:
        raise _fault(path, f"{where}.{key}", f"is no finite number: {str(value)[:80]}")
    return float(value)


def _shard(name: Any, where: str, path: Path, used: set[str]) -> Path:
    """The file that a manifest names, which stands beside it. Raises `RegspecError` for any other."""
    name = name.removeprefix("./") if isinstance(name, str) else name  # as browsers write it
    if not isinstance(name, str) or not name.strip(". ") or any(each in name for each in "/\\:\0") or len(name) > 255:
        raise _fault(path, where, f"is no plain name of a file beside it: {str(name)[:80]}")
    if name in used:
        raise _fault(path, where, f"names '{name}' a second time")
    used.add(name)
    if (file := file_in(path.parent, name, f"{path}: {where}")) is None:
        hint = "a model of TensorFlow.js is model.json and all files that it names, in one folder"
        raise RegspecError(Problem(f"'{name}' is not there", hint, f"{path}: {where}"))
    return file


def _joined(files: list[Path], wanted: int, where: str, path: Path) -> memoryview:
    """The bytes of a group's files, one after the other, which must be as many as its weights have."""
    sizes = sum(file.stat().st_size for file in files)
    if sizes != wanted:
        hint = "were all of its files downloaded whole?"
        raise RegspecError(Problem(f"has {sizes:,} bytes, where its weights have {wanted:,}", hint, f"{path}: {where}"))
    content = bytearray(wanted)
    at = 0
    for file in files:
        part = file.read_bytes()
        content[at : at + len(part)] = part
        at += len(part)
    if len(content) != wanted:
        raise _fault(path, where, "changed while it was read")
    return memoryview(content)


def _fault(path: Path, where: str, what: str) -> RegspecError:
    return RegspecError(Problem(what, path=f"{path}: {where}"))
