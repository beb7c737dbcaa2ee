"""The reading of a file of Keras, by what it is, whatever its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from regspec.keras.arrays import ArrayFile
from regspec.keras.formats import hdf5
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
        form = form_of(Sight.of(path))
        if form.read is None:
            raise RegspecError(Problem(f"is {form.words}", form.way_out, str(path)))
        archive = form.read(path, has_others=weights is not None)
    check(archive)
    return archive if weights is None else replace(archive, arrays=_arrays(weights))


def _arrays(path: Path) -> ArrayFile:
    """The arrays of a file of weights, or of a whole model in HDF5."""
    with _readable(path):
        path.open("rb").close()  # which no folder is
        sight = Sight.of(path)
        if not has_weights(sight):
            form = form_of(sight)
            hint = "the weights of a model are its model.weights.h5, or its model.h5"
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
