"""HDF5 files: models of Keras 1 and 2, and weights alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import h5py

from regspec.keras.arrays.files import ArrayFile, damaged
from regspec.keras.arrays.headers import opened
from regspec.keras.formats.archive import Archive
from regspec.keras.formats.configs import parsed, words_in


def read(path: Path, *, has_others: bool) -> Archive:
    """What an HDF5 file says; its arrays are not taken where those of another are given. Raises `RegspecError`."""
    arrays = arrays_in(path, path)
    return Archive(
        path,
        parsed(str(arrays.text("model_config")), path),
        arrays.text("keras_version"),
        None if has_others else arrays,
        form=".h5",
        training=words_in(arrays.text("training_config") or ""),
    )


def arrays_in(file: Path | io.BytesIO, path: Path) -> ArrayFile:
    """The arrays of an HDF5 file; ``path`` is what messages call it."""
    with damaged(path):
        found, headers = opened(file)
        return ArrayFile(found, path, headers=headers)


def in_memory(write: Callable[[h5py.File], None], path: Path, *, lists_inner: bool = False) -> ArrayFile:
    """The arrays of what ``write`` writes to an HDF5 file in memory; ``path`` is what messages call it."""
    with damaged(path):
        file = h5py.File(io.BytesIO(), "w")
        write(file)
        file.flush()
        return ArrayFile(file, path, lists_inner=lists_inner)
