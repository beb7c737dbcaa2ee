"""The reading of a file of Keras, by what it is, whatever its name."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from regspec.keras.arrays.files import ArrayFile
from regspec.keras.formats import hdf5, zipped
from regspec.keras.formats.archive import Archive
from regspec.keras.formats.envelopes import check
from regspec.keras.formats.recognition import form_of, has_weights
from regspec.keras.formats.sight import Sight
from regspec.text.problems import Problem, RegspecError


def read(path: Path, weights: Path | None = None) -> Archive:
    """What a file or a folder of Keras says; with the weights of another file, if given.

    Raises:
        RegspecError: where it can't be read, or is something else, which is named.
    """
    with _readable(path):
        sight = Sight.of(path)
        form = form_of(sight)
        if form.read is None:
            beside = _config_beside(path) if has_weights(sight) else None
            hint = form.way_out if beside is None else f"its config lies beside it: {_command(beside, path)}"
            raise RegspecError(Problem(f"is {form.words}", hint, str(path)))
        archive = form.read(path, has_others=weights is not None)
    check(archive)
    archive = replace(archive, config=_with_flags(archive.config))
    return archive if weights is None else replace(archive, arrays=_arrays(weights))


def _with_flags(value: Any) -> Any:
    """A config that says true or false of what is trained, where it may have a number: ``layer.trainable = 0``."""
    if isinstance(value, list):
        return [_with_flags(each) for each in value]
    if not isinstance(value, dict):
        return value
    flags = {"trainable": bool(value["trainable"])} if isinstance(value.get("trainable"), (int, float)) else {}
    return {**{key: _with_flags(each) for key, each in value.items()}, **flags}


def _config_beside(weights: Path) -> Path | None:
    """The text of a model in the folder of a file of weights: of its name, or called model."""
    own = weights.stem.removesuffix(".weights")
    near = [weights.with_name(f"{name}{ending}") for name in (own, "model") for ending in (".json", ".yaml", ".yml")]
    return next((each for each in near if _is_readable(each)), None)


def _is_readable(path: Path) -> bool:
    try:
        return path.is_file() and form_of(Sight.of(path)).read is not None
    except (RegspecError, OSError):  # which is said where it is asked for
        return False


def _command(config: Path, weights: Path) -> str:
    return shlex.join(["regspec", "port", str(config), "--weights", str(weights)])


def _arrays(path: Path) -> ArrayFile:
    """The arrays of a file of weights, or of a whole model: HDF5, or an archive of Keras 3."""
    with _readable(path):
        sight = Sight.of(path)
        if not has_weights(sight):
            form = form_of(sight)
            if form.read is zipped.read and (arrays := zipped.read(path, has_others=False).arrays) is not None:
                return arrays
            hint = "the weights of a model are its model.weights.h5, model.h5 or model.keras"
            what = f"is {form.words}, where the weights of a model are wanted"
            raise RegspecError(Problem(what, hint if form.read else form.way_out, str(path)))
        return hdf5.arrays_in(path, path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Makes of what can't be opened a `RegspecError`."""
    try:
        yield
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror or error}", path=str(path))) from None
