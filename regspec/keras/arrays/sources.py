"""What is asked of that in which the arrays of a model lie: an HDF5 file, or arrays at hand."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regspec.keras.arrays.headers import UnreadError
from regspec.text.problems import Problem, RegspecError

BFLOAT16 = np.dtype("V2")  # as which Keras writes it, because HDF5 has no such type


class Stored(Protocol):
    """An array that is not read yet, as datasets of h5py are; ``stored[()]`` reads it."""

    @property
    def name(self) -> Any:
        """The path that leads to it."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def size(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    def __getitem__(self, which: tuple[()], /) -> Any: ...


class Source(ABC):
    """Arrays in groups, by Keras's paths; or in the layers that have them, by the names of these, in order.

    Its methods may raise `RegspecError`, and what `damaged` makes one.
    """

    nbytes: int  # that hold all arrays, and may be compressed
    is_legacy: bool  # whether the arrays are listed by the names of layers, and not in groups by their places
    is_of_windows = False  # whether groups are named by whole paths, as Windows writes them
    lists_inner = False  # whether layers of models inside are listed by their names, too

    @abstractmethod
    def layers(self) -> list[str]:
        """The names of the layers by which arrays are listed; none where they are in groups."""

    def backends(self) -> list[str]:
        """What it says on the backend that trained the model."""
        return []

    @abstractmethod
    def has(self, group: str) -> bool:
        """Whether there is such a group."""

    @abstractmethod
    def below(self, group: str) -> list[tuple[str, Any]]:
        """The arrays below a group, with their paths in it; none where there is no such group."""

    @abstractmethod
    def of_layer(self, name: str) -> list[Any]:
        """The arrays of a layer by its name, in order; none of one that is not listed."""

    @abstractmethod
    def all(self) -> Iterator[Any]:
        """All arrays that are there."""

    def of_model(self) -> Iterator[Any]:
        """Those of the model: not of its optimizer, where they are listed by the names of layers."""
        return self.all()

    def read(self, stored: Any, most: int) -> NDArray[Any]:
        """The numbers of an array. Raises where it can't be what it says; ``most`` are the bytes of any."""
        return np.asarray(stored[()])

    def is_elsewhere(self, stored: Any) -> bool:
        """Whether an array that is listed is kept in another file."""
        return False


# What h5py and zipfile raise on files that are damaged, by whatever they stumble over.
DAMAGE = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, EOFError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Turns what h5py or zipfile raise inside into the problem that the file is damaged."""
    try:
        yield
    except UnreadError:
        what = "is HDF5 of a form that Keras does not write, and that is not read"
        raise RegspecError(Problem(what, "load it in Keras, and save it again", str(path))) from None
    except DAMAGE as error:
        raise RegspecError(Problem(f"is damaged: {error}", path=str(path))) from None


def joined(name: str) -> str:
    """A path as it is written anywhere but on Windows."""
    return name.replace("\\", "/")
