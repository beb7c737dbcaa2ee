"""Keras's files: what they say of a model, and the arrays in them. Nothing in a file is run, imported or followed.

A file may lie about everything. So its config is bounded in size and depth, and its members are read by their fixed
names, and never unpacked to disk; for its arrays see `regspec.keras.arrays`.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import h5py

from regspec.keras.arrays import MAX_INFLATION, ArrayFile, damaged, text_in
from regspec.text.problems import Problem, RegspecError

MAX_CONFIG = 10 * 2**20  # bytes; once parsed, the worst config takes thirty times as much memory
MAX_VALUES = 300_000  # in a config, several times those of the largest of keras.applications
MAX_WEIGHTS = 64 * 2**30
MAX_NESTING = 250  # of values in the values of a config
WEIGHTS = "model.weights.h5"
MEMBERS = ("config.json", "metadata.json", WEIGHTS)


@dataclass(frozen=True)
class Archive:
    """A model's config, the version of Keras that wrote it, and its arrays, where there are any."""

    path: Path
    config: dict[str, Any]
    version: str | None
    arrays: ArrayFile | None
    form: str = ".keras"  # or .h5, or JSON
    date: str | None = None  # of saving
    training: Mapping[str, Any] = field(default_factory=dict)  # what the model was compiled with
    others: tuple[str, ...] = ()  # members that are no part of a model


def read(path: Path, weights: Path | None = None) -> Archive:
    """What a file of Keras says: `.keras`, `.h5`, or the JSON of `to_json()`; with the weights of another, if given.

    Raises:
        RegspecError: where it can't be read, or is no such file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
        if start[:4] == b"PK\x03\x04":
            archive = _zip(path, has_others=weights is not None)
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


def _zip(path: Path, *, has_others: bool) -> Archive:
    """What an archive says; with the weights in it, unless those of another file are given."""
    with damaged(path), zipfile.ZipFile(path) as archive:
        _check_members(archive, path, [name for name in MEMBERS if name != WEIGHTS or not has_others])
        config = _parsed(_member(archive, "config.json", MAX_CONFIG, path), path)
        metadata = _parsed(_member(archive, "metadata.json", MAX_CONFIG, path), path)
        arrays = None
        if not has_others:
            arrays = _arrays(io.BytesIO(_member(archive, WEIGHTS, MAX_WEIGHTS, path)), path)
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


# What is not known where a member is missing, and the way out.
MISSING = {
    "config.json": (
        "what its layers are",
        "save the whole model, by model.save('model.keras'); of weights alone, give the model's config: "
        "regspec port model.json --weights FILE",
    ),
    "metadata.json": (
        "which Keras wrote it, on which the meaning of its config depends",
        "save the model again; or unpack its config.json, and port that: regspec port config.json --weights FILE",
    ),
    WEIGHTS: (
        "what its weights are",
        "save the model again, or give its weights: regspec port FILE --weights model.weights.h5; "
        "to port it with random weights, unpack its config.json, and port that",
    ),
}


def _check_members(archive: zipfile.ZipFile, path: Path, wanted: Sequence[str]) -> None:
    """Raises `RegspecError` where members are missing without which an archive is no whole model."""
    there = archive.namelist()
    if missing := [name for name in wanted if name not in there]:
        if len(missing) == len(wanted):
            raise RegspecError(Problem(f"has no {missing[0]}: it is no model of Keras", path=str(path)))
        raise RegspecError(
            [
                Problem(f"has no {name}, so that it is not known {MISSING[name][0]}", MISSING[name][1], str(path))
                for name in missing
            ]
        )


def _member(archive: zipfile.ZipFile, name: str, most: int, path: Path) -> bytes:
    """The bytes of a member that is there. Raises `RegspecError` for one that is too large."""
    member = archive.getinfo(name)
    if member.file_size > most or member.file_size > MAX_INFLATION * max(member.compress_size, 2**20):
        raise RegspecError(Problem(f"says that its {name} has {member.file_size:,} bytes", path=str(path)))
    with archive.open(member) as file:
        content = file.read(member.file_size + 1)
    if len(content) > member.file_size:
        raise RegspecError(Problem(f"has a {name} that is larger than it says", path=str(path)))
    return content


def _arrays(file: Path | io.BytesIO, path: Path) -> ArrayFile:
    """The arrays of an HDF5 file; ``path`` is what messages call it."""
    with damaged(path):
        return ArrayFile(h5py.File(file, "r"), path)


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
        _parsed(text_in(config), path),
        None if version is None else text_in(version),
        arrays,
        form=".h5",
        training={} if training is None else _training(text_in(training)),
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
