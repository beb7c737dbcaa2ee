"""Parquet files that may be larger than memory: a column is read when it is asked for, or some rows of several.

Two ways were weighed: to read row groups anew in each epoch, whose examples are mixed within a few of them only; or, as
here, to write the numbers once to a file without a name, of which any rows can be taken, as of an ``.npy``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regspec.text.problems import Problem, RegspecError

if TYPE_CHECKING:
    import polars

LARGE = 2**30  # bytes of a file's numbers, from which on it is read in parts
CHUNK = 2**25  # bytes of numbers that are read at a time


class Scanned:
    """The columns of a file by their names, as a frame has them."""

    def __init__(self, path: str) -> None:
        import polars as pl

        self._scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        self.schema = self._scan.collect_schema()
        self.columns = self.schema.names()
        self._count = int(self._scan.select(pl.len()).collect().item())

    @property
    def is_large(self) -> bool:
        """Whether its numbers are too many to be held several times."""
        return len(self) * len(self.columns) * 8 > LARGE

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, name: str) -> polars.Series:
        return self._scan.select(name).collect()[name]

    def whole(self) -> polars.DataFrame:
        """All columns, in memory."""
        return self._scan.collect()

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, polars.DataFrame]]:
        """Some rows after the other of columns, each with the number of the first, counted from 0."""
        size = max(1, CHUNK // (8 * len(names)))
        for start in range(0, len(self), size):
            yield start, self._scan.select(names).slice(start, size).collect()

    def written(
        self, names: Sequence[str], numbers: Callable[[int, polars.DataFrame], NDArray[Any]], dtype: Any, path: str
    ) -> Any:
        """The numbers of columns, (rows, width), in a file that goes when nobody has the array any more.

        Args:
            names: the columns'.
            numbers: makes numbers of some rows, of which the first's number is given.
            dtype: the numbers' type.
            path: the file's, for messages.

        Raises:
            RegspecError: where the disk is full.
        """
        width = 0
        try:
            with tempfile.TemporaryFile() as file:
                for start, frame in self.rows(names):
                    made = np.ascontiguousarray(numbers(start, frame), dtype)
                    width = made.shape[1]
                    file.write(made.data)  # and not `tofile`, which does not notice a full disk
                file.flush()
                return np.memmap(file, dtype, "r", shape=(len(self), width))
        except OSError as error:
            what = f"the numbers of '{path}' can't be written to {tempfile.gettempdir()}: {error.strerror or error}"
            raise RegspecError(Problem(what, "TMPDIR names another folder")) from None
