"""Arrays in ``.npy`` files that may be larger than memory: looked through once, then read and converted in batches."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regspec.graph.network import Graph
from regspec.text.problems import Problem, RegspecError
from regspec.training.data.arrays import Arrays, by_name, checked, place_of, targets_of
from regspec.training.data.wanted import Array, Names, Wanted

CHUNK = 2**22  # bytes that are looked at at a time
ENDING = ".npy"


@dataclass(frozen=True, eq=False)
class Mapped:
    """Arrays of which some are memory-mapped; these stay in their files but for a batch."""

    arrays: Arrays
    name: str
    names: Names = None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.inputs.values())))

    @property
    def chunk(self) -> int:
        """How many examples have so many bytes as are looked at at a time."""
        return max(1, CHUNK * len(self) // max(1, sum(each.nbytes for each in self._all())))

    def _all(self) -> list[Array]:
        return [*self.arrays.inputs.values(), *self.arrays.targets.values()]

    def part(self, rows: Sequence[int], graph: Graph, wanted: Sequence[Wanted]) -> Arrays:
        """These examples."""
        index = np.asarray(rows)
        inputs = {name: array[index] for name, array in self.arrays.inputs.items()}
        own = {id(array) for array in self.arrays.inputs.values()}  # a target that is an input is not read again
        targets = {name: array[index] for name, array in self.arrays.targets.items() if id(array) not in own}
        weights = None if self.arrays.weights is None else self.arrays.weights[index]
        for array in self._all():
            _release(array)
        return checked(inputs, targets, graph, self.name, wanted, rows, weights=weights)

    def place(self, row: int) -> str:
        return place_of(row, self.arrays.where)

    def known(self, graph: Graph, wanted: Sequence[Wanted]) -> Mapping[str, Array] | None:
        """The targets, where they are in memory, or one number an example."""
        targets = self.arrays.targets
        if any(isinstance(each, np.memmap) and each.size > len(each) for each in targets.values()):
            return None
        return targets_of({name: np.array(each) for name, each in targets.items()}, {}, self.name, wanted)


def mapped(parts: Sequence[Arrays], name: str) -> Sequence[Arrays] | Sequence[Mapped]:
    """Parts of which an array is memory-mapped as what reads batches; others as they are."""
    arrays = [each for part in parts for each in (*part.inputs.values(), *part.targets.values())]
    if not any(isinstance(each, np.memmap) for each in arrays):
        return parts
    return [Mapped(part, name) for part in parts]


def has_arrays(folder: str) -> bool:
    """Whether a folder has ``.npy`` files."""
    return Path(folder).is_dir() and any(Path(folder).glob(f"*{ENDING}"))


def of_folder(folder: str, graph: Graph, wanted: Sequence[Wanted]) -> Sequence[Arrays] | Sequence[Mapped]:
    """The arrays of a folder's ``.npy`` files, by the names that they have in an ``.npz``."""
    arrays = {file.stem: opened(file) for file in sorted(Path(folder).glob(f"*{ENDING}"))}
    return mapped([by_name(arrays, graph, folder, wanted)], folder)


def opened(file: str | Path) -> Any:
    """The array of an ``.npy`` file, which stays there. Raises `RegspecError` where it is none."""
    try:
        with open(file, "rb") as start:
            if start.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
                raise RegspecError(Problem("can't be read as .npy: it does not begin as one", path=str(file)))
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror or error}", path=str(file))) from None
    except ValueError as error:  # a file that is cut off, or objects
        raise RegspecError(Problem(f"can't be read as .npy: {error}", path=str(file))) from None


def _release(array: Array) -> None:
    """Lets go of the pages of a file that a batch was read from; they stay in the system's cache."""
    if not isinstance(array, np.memmap) or array.mode == "c":  # changes in memory would be lost
        return
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)
