"""HDF5 files: models of Keras 1 and 2, and weights alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from pathlib import Path

import h5py

from regspec.keras.arrays.files import ArrayFile, damaged, text_in
from regspec.keras.formats.archive import Archive
from regspec.keras.formats.configs import parsed, words_in
from regspec.keras.formats.heaps import check_heaps


def read(path: Path, *, has_others: bool) -> Archive:
    """What an HDF5 file says; its arrays are not taken where those of another are given. Raises `RegspecError`."""
    arrays = arrays_in(path, path)
    with damaged(path):
        names = ("model_config", "keras_version", "training_config")
        config, version, training = (arrays.file.attrs.get(name) for name in names)
    return Archive(
        path,
        parsed(text_in(config), path),
        None if version is None else text_in(version),
        None if has_others else arrays,
        form=".h5",
        training={} if training is None else words_in(text_in(training)),
    )


def arrays_in(file: Path | io.BytesIO, path: Path) -> ArrayFile:
    """The arrays of an HDF5 file; ``path`` is what messages call it."""
    with damaged(path):
        opened = h5py.File(file, "r")
        _, width = opened.id.get_create_plist().get_sizes()
        if isinstance(file, io.BytesIO):
            check_heaps(file.getbuffer(), width)
        else:
            with file.open("rb") as raw, mmap(raw.fileno(), 0, access=ACCESS_READ) as data:
                check_heaps(data, width)
        return ArrayFile(opened, path)


def in_memory(write: Callable[[h5py.File], None], path: Path, *, lists_inner: bool = False) -> ArrayFile:
    """The arrays of what ``write`` writes to an HDF5 file in memory; ``path`` is what messages call it."""
    with damaged(path):
        file = h5py.File(io.BytesIO(), "w")
        write(file)
        file.flush()
        return ArrayFile(file, path, lists_inner=lists_inner)
