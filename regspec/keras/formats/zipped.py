"""Archives of Keras 3, ``.keras``."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from regspec.keras.arrays.files import MAX_INFLATION
from regspec.keras.arrays.sources import damaged
from regspec.keras.formats.archive import Archive
from regspec.keras.formats.configs import MAX_CONFIG, mapping_in, parsed, string_in
from regspec.keras.formats.hdf5 import arrays_in
from regspec.text.problems import Problem, RegspecError

MAX_WEIGHTS = 64 * 2**30
WEIGHTS = "model.weights.h5"
MEMBERS = ("config.json", "metadata.json", WEIGHTS)


def read(path: Path, *, has_others: bool) -> Archive:
    """What an archive says; with the weights in it, unless those of another file are given."""
    with damaged(path), zipfile.ZipFile(path) as archive:
        _check_members(archive, path, [name for name in MEMBERS if name != WEIGHTS or not has_others])
        config = parsed(_member(archive, "config.json", MAX_CONFIG, path), path)
        metadata = parsed(_member(archive, "metadata.json", MAX_CONFIG, path), path)
        arrays = None
        if not has_others:
            arrays = arrays_in(io.BytesIO(_member(archive, WEIGHTS, MAX_WEIGHTS, path)), path)
        others = tuple(name for name in archive.namelist() if name not in MEMBERS)
    return Archive(
        path,
        config,
        string_in(metadata.get("keras_version")),
        arrays,
        date=string_in(metadata.get("date_saved")),
        training=mapping_in(config.get("compile_config")),
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
