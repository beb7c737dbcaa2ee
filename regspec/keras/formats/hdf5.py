"""HDF5 files: models of Keras 1 and 2, and weights alone."""

from __future__ import annotations

import io
from pathlib import Path

import h5py

from regspec.keras.arrays import ArrayFile, damaged, text_in
from regspec.keras.formats.archive import Archive
from regspec.keras.formats.configs import parsed, training_in
from regspec.text.problems import Problem, RegspecError


def read(path: Path) -> Archive:
    """What an HDF5 file says. Raises `RegspecError`."""
    arrays = arrays_in(path, path)
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
        parsed(text_in(config), path),
        None if version is None else text_in(version),
        arrays,
        form=".h5",
        training={} if training is None else training_in(text_in(training)),
    )


def arrays_in(file: Path | io.BytesIO, path: Path) -> ArrayFile:
    """The arrays of an HDF5 file; ``path`` is what messages call it."""
    with damaged(path):
        return ArrayFile(h5py.File(file, "r"), path)
