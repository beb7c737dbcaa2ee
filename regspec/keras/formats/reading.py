"""The reading of a file of Keras, by what its first bytes say that it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from regspec.keras.formats import hdf5, texts, zipped
from regspec.keras.formats.archive import Archive
from regspec.text.problems import Problem, RegspecError


def read(path: Path, weights: Path | None = None) -> Archive:
    """What a file of Keras says: `.keras`, `.h5`, or the JSON of `to_json()`; with the weights of another, if given.

    Raises:
        RegspecError: where it can't be read, or is no such file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
        if start[:4] == b"PK\x03\x04":
            archive = zipped.read(path, has_others=weights is not None)
        elif start == b"\x89HDF\r\n\x1a\n":
            archive = hdf5.read(path)
        else:
            archive = texts.read(path)
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror or error}", path=str(path))) from None
    if weights is None:
        return archive
    try:
        weights.open("rb").close()
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror or error}", path=str(weights))) from None
    return replace(archive, arrays=hdf5.arrays_in(weights, weights))
