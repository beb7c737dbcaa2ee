"""HDF5 files: models of Keras 1 and 2, and weights alone."""

from __future__ import annotations

import io
from pathlib import Path

from regspec.keras.arrays.files import ArrayFile
from regspec.keras.arrays.hdf5 import Hdf5
from regspec.keras.arrays.headers import opened
from regspec.keras.arrays.sources import damaged
from regspec.keras.formats.archive import Archive
from regspec.keras.formats.configs import parsed, words_in


def read(path: Path, *, has_others: bool) -> Archive:
    """What an HDF5 file says; its arrays are not taken where those of another are given. Raises `RegspecError`."""
    source = _source_of(path, path)
    with damaged(path):
        config, version, training = map(source.text, ("model_config", "keras_version", "training_config"))
    return Archive(
        path,
        parsed(str(config), path),
        version,
        None if has_others else ArrayFile(source, path),
        form=".h5",
        training=words_in(training or ""),
    )


def arrays_in(file: Path | io.BytesIO, path: Path) -> ArrayFile:
    """The arrays of an HDF5 file; ``path`` is what messages call it."""
    return ArrayFile(_source_of(file, path), path)


def _source_of(file: Path | io.BytesIO, path: Path) -> Hdf5:
    with damaged(path):
        found, headers = opened(file)
        return Hdf5(found, path, headers)
