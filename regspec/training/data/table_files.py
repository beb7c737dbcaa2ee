"""Files of tables, by polars: a column for each number, and where each example stands in the file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regspec.text.problems import Problem, RegspecError
from regspec.training.data.columns import cleaned, is_plain, no_number, no_such
from regspec.training.data.scanned import Scanned
from regspec.training.data.wanted import Array

if TYPE_CHECKING:
    import polars

ENDINGS = (".csv", ".parquet")


@dataclass(frozen=True)
class Table:
    """Columns of a file, in memory or not, and where each example stands in it: the numbers of its lines or rows."""

    path: str
    frame: polars.DataFrame | Scanned
    unit: str
    places: Sequence[int]

    def array(self, name: str, *, takes_words: bool = False, is_input: bool = True, hint: str | None = None) -> Array:
        """A column as int64 where all is whole, as booleans, as numbers, or else as words.

        Args:
            name: the column's.
            takes_words: whether it may be words.
            is_input: whether it may be prepared, which faults hint at then.
            hint: what is hinted at otherwise, where it is words.

        Raises:
            RegspecError: where a value is missing, infinite, or a word where none may be.
        """
        import polars as pl

        column = cleaned(self.frame[name])
        gaps = f"--columns.{name}.impute fills gaps: median, most_frequent, or a value" if is_input else None
        if not is_plain(column):
            raise no_such(column, "numbers")
        self.refuse(name, column.is_null(), "has no value", gaps)
        if column.dtype == pl.Boolean:
            return column.to_numpy()
        # what is no number of a type becomes null
        wholes, numbers = (column.cast(dtype, strict=False) for dtype in (pl.Int64, pl.Float64))
        self.refuse(name, numbers.is_nan(), "has no value", gaps)
        if takes_words and column.dtype == pl.String and column.str.contains(r"^[+-]?0\d").any():
            return column.to_numpy().astype(str)  # 007 is a name
        if (is_word := numbers.is_null()).any():
            if takes_words:
                return column.to_numpy().astype(str)
            what, prepared = no_number(column, is_word)
            self.refuse(name, is_word, what, prepared if is_input else hint)
        self.refuse(name, numbers.is_infinite(), "is infinite")
        is_whole = not column.dtype.is_float() and not column.dtype.is_decimal() and not wholes.null_count()
        return np.asarray(wholes if is_whole else numbers)

    def words(self, name: str) -> Array:
        """A column's values as words. Raises `RegspecError` where one is missing."""
        import polars as pl

        column = cleaned(self.frame[name])
        self.refuse(name, column.is_null(), "has no value")
        return column.cast(pl.String).to_numpy().astype(str)

    def placed(self, error: RegspecError) -> list[Problem]:
        """The problems of a fault of a column, which are those of this file."""
        return [replace(each, path=self.path) for each in error.problems]

    def refuse(self, name: str, faulty: polars.Series, what: str, hint: str | None = None) -> None:
        """Raises with the place of a column's first fault, and how many there are."""
        rows = faulty.arg_true()  # nulls are none
        if len(rows):
            more = f", and in {len(rows) - 1:,} more" if len(rows) > 1 else ""
            where = f"{self.unit} {self.places[rows[0]]}"
            raise RegspecError(Problem(f"column '{name}' {what} in {where}{more}", hint, path=self.path))


def read_table(path: str) -> Table:
    """The columns of a file."""
    return _csv(path) if path.lower().endswith(".csv") else _parquet(path)


def _csv(path: str) -> Table:
    """A text with a header; its values are words until they are taken. Empty lines are left out."""
    content = _content(path)
    pl = _polars(path)
    first = content[: content.find(b"\n")] if b"\n" in content else content
    separator = next((mark for mark in ";\t" if mark.encode() in first), ",")
    try:
        frame = pl.read_csv(content, has_header=False, infer_schema=False, separator=separator)
    except pl.exceptions.NoDataError:
        frame = pl.DataFrame()
    except pl.exceptions.PolarsError as error:
        raise RegspecError(_fault_of_text(content, separator, path, error)) from None
    header = [(name or "").strip() for name in frame.row(0)] if len(frame) else []
    frame = frame.with_row_index("", offset=1)[1:].filter(~pl.all_horizontal(pl.exclude("").is_null()))
    if not len(frame) or all(map(_is_number, header)):
        raise RegspecError(Problem("needs a first line with the columns' names, and rows below it", path=path))
    if twice := [name for name in header if header.count(name) > 1]:
        raise RegspecError(Problem(f"has two columns '{twice[0]}'", path=path))
    lines, frame = frame[""], frame.drop("")
    frame.columns = header
    return Table(path, frame, "line", lines)


def _parquet(path: str) -> Table:
    _check_opens(path)
    pl = _polars(path)
    try:
        scanned = Scanned(path)
        frame = scanned if scanned.is_large else scanned.whole()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        what = str(error).partition("\n")[0]
        raise RegspecError(Problem(f"can't be read as parquet: {what}", path=path)) from None
    if not len(frame.columns) or not len(frame):
        raise RegspecError(Problem("has no rows", path=path))
    return Table(path, frame, "row", range(1, len(frame) + 1))


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror}", path=path)) from None


def _check_opens(path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror}", path=path)) from None


def _polars(path: str) -> Any:
    try:
        import polars
    except ImportError:
        raise RegspecError(Problem("tables need polars", "pip install 'regspec[data]'", path=path)) from None
    return polars


def _fault_of_text(content: bytes, separator: str, path: str, error: Exception) -> Problem:
    """What is wrong with a text that polars refuses: polars names no line."""
    try:
        lines = content.decode("utf-8-sig").splitlines()
        rows = [(number, row) for number, row in enumerate(csv.reader(lines, delimiter=separator), 1) if row]
    except UnicodeDecodeError:
        return Problem("is not UTF-8", path=path)
    except csv.Error as fault:
        return Problem(f"can't be read: {fault}", path=path)
    for number, row in rows:
        if len(row) > len(rows[0][1]):
            what = f"line {number} has {len(row)} values, but the header {len(rows[0][1])}"
            return Problem(what, path=path)
    return Problem(f"can't be read: {str(error).partition(chr(10))[0]}", path=path)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
