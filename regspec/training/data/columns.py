"""Columns of a table as numbers: gaps filled, scaled, words and dates as numbers, by what the training part holds.

What is fitted is plain data, which a run's folder keeps, and no pickle.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regspec.text.problems import Problem, RegspecError
from regspec.training.data import texts
from regspec.training.data.scaling import scaling_of
from regspec.training.options.columns import ColumnSection, Part

if TYPE_CHECKING:
    import polars

Array = NDArray[Any]
FEW = 3  # values that may all differ by chance
MANY_WORDS = 3  # in most values: it is a text, and no name


class UnknownWords(UserWarning):
    """Rows of new data have words that training did not have."""


@dataclass(frozen=True)
class Fitted:
    """A column with what was found in its training part. It gives float64 numbers, or int64 codes or words' numbers."""

    name: str
    said: ColumnSection
    gap: Any = None  # what stands for a missing value
    words: tuple[str, ...] = ()
    center: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Itself as plain data, of which `of_dict` makes it again."""
        plain = {
            "said": self.said.plain,
            "gap": self.gap,
            "words": self.words,
            "center": self.center,
            "spread": self.spread,
        }
        return {"name": self.name, **plain}

    @property
    def limit(self) -> int | None:
        """The number that is above all those that it gives, where these are codes or words' numbers."""
        if self.said.text:
            return len(self.words) + texts.FIRST
        return len(self.words) + 1 if self.said.codes else None

    def strangers(self, numbers: Array) -> int:
        """In how many rows of its numbers there is a word that training did not have."""
        if self.said.one_hot:
            return int((numbers == 0).all(1).sum())
        if self.said.codes:
            return int((numbers == 0).sum())
        # with all numbers taken, training may have had it, and it was too rare
        if self.said.text and self.limit != self.said.text.vocabulary:
            return int((numbers == texts.UNKNOWN).any(1).sum())
        return 0

    @classmethod
    def of_dict(cls, data: Mapping[str, Any]) -> Fitted:
        """The column of plain data."""
        said = ColumnSection.model_validate(data["said"])
        lists = {key: tuple(data[key]) for key in ("words", "center", "spread")}
        return cls(data["name"], said, data["gap"], **lists)

    def numbers(self, column: polars.Series, where: Any) -> Array:
        """The numbers of a column, (rows, width). Raises `RegspecError` for a value that is none."""
        if self.said.text:
            return texts.numbers(_texts(column), self.words, self.said.text.length)
        column = _filled(_read(column, self.said, where), self.gap, where)
        if self.said.one_hot:
            return np.stack([(column == word).to_numpy() for word in self.words], 1).astype(np.float64)
        if self.said.codes:
            codes = {word: number for number, word in enumerate(self.words, 1)}
            return column.replace_strict(codes, default=0).to_numpy().astype(np.int64)[:, None]
        found = _parts(column, self.said.date) if self.said.date else column.to_numpy().astype(np.float64)[:, None]
        return (found - np.array(self.center)) / np.array(self.spread) if self.center else found


def strangers_told(fits: Iterable[Fitted], counts: Mapping[str, int]) -> Iterator[str]:
    """A line for each column with rows that have words which training did not have, of which there are so many."""
    for each in fits:
        if count := counts.get(each.name):
            have = "1 row has a word" if count == 1 else f"{count:,} rows have words"
            becomes = "none of them" if each.said.one_hot else "unknown"
            counted = "it counts" if count == 1 else "they count"
            yield f"{have} of '{each.name}' that training did not have: {counted} as {becomes}"


def warn_of(lines: Iterable[str]) -> None:
    """Warns of words that training did not have, at the line outside of this package that asked for the data."""
    level, frame = 1, sys._getframe()
    while (
        frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]
    ):
        level, frame = level + 1, frame.f_back
    for line in lines:
        warnings.warn(line, UnknownWords, stacklevel=level)


def fitted(name: str, column: polars.Series, said: ColumnSection, rows: Array, where: Any) -> Fitted:
    """A column, fitted on the rows to train on. Raises `RegspecError` for a value that it can't take.

    Args:
        name: the column's.
        column: all of it.
        said: what becomes of it.
        rows: those to train on.
        where: raises the fault of the values that are faulty: ``where(is_faulty, what, hint)``.
    """
    if said.text:
        return Fitted(name, said, words=texts.vocabulary(_texts(column)[rows], said.text.vocabulary))
    whole = _read(column, said, where)
    part = whole[rows]
    gap = _gap(part, said, name)
    words: tuple[str, ...] = ()
    if said.one_hot or said.codes:
        words = tuple(sorted(_filled(part, gap, where).unique().to_list()))
        return Fitted(name, said, gap, words)
    made = Fitted(name, said, gap)
    if said.scale is None:
        return made
    scaling = scaling_of(made.numbers(column, where)[rows], said.scale)
    return Fitted(name, said, gap, (), scaling.center, scaling.spread)


def cleaned(column: polars.Series) -> polars.Series:
    """A column as it is, but categories are texts, these have no spaces around, and what holds nothing is null."""
    import polars as pl

    if column.dtype == pl.String or isinstance(column.dtype, (pl.Categorical, pl.Enum)):
        column = column.cast(pl.String).str.strip_chars()
        return pl.select(pl.when(column != "").then(column)).to_series().alias(column.name)
    return column.fill_nan(None) if column.dtype.is_float() else column


def is_plain(column: polars.Series) -> bool:
    """Whether a column is numbers, booleans or texts, or empty: what a word or a number can be read from."""
    import polars as pl

    return column.dtype.is_numeric() or column.dtype in (pl.String, pl.Boolean, pl.Null)


def no_such(column: polars.Series, kind: str) -> RegspecError:
    """The fault of a column whose type can't be read as words, numbers or dates."""
    import polars as pl

    hint = f"--columns.{column.name}.date '[year, month]' makes numbers of dates"
    what = f"column '{column.name}' is {column.dtype}, and no {kind}"
    return RegspecError(Problem(what, hint if column.dtype in (pl.Date, pl.Datetime) and kind != "dates" else None))


def no_number(column: polars.Series, is_word: polars.Series) -> tuple[str, str]:
    """What is wrong with a column of which some values are no numbers, and what makes numbers of such ones."""
    words, given, name = column.filter(is_word), column.drop_nulls(), f"--columns.{column.name}"
    what = f"has '{words[0]}', which is no number,"
    if all(date_of(each) is not None for each in words):
        return what, f"{name}.date '[year, month]' makes numbers of dates"
    if float(texts.words_of(words).list.len().median() or 0) >= MANY_WORDS:  # type: ignore[arg-type]  # of numbers
        return what, f"{name}.text '{{length: 100}}' makes numbers of its words, for an Embedding"
    if len(given) >= FEW and given.n_unique() == len(given) == len(words):
        return what, f"{name} drop leaves it out: all its values differ, as those of a name or an id do"
    return what, f"{name} one_hot or codes makes numbers of its words"


def _read(column: polars.Series, said: ColumnSection, where: Any) -> polars.Series:
    """A column as words, dates or numbers, with nulls where values are missing."""
    import polars as pl

    column = cleaned(column)
    if said.one_hot or said.codes:
        return _words(column)
    if said.date:
        return _dates(column, where)
    if not is_plain(column):
        raise no_such(column, "numbers")
    made = column.cast(pl.Float64, strict=False)
    if (is_word := made.is_null() & column.is_not_null()).any():
        where(is_word, *no_number(column, is_word))
    where(made.is_infinite(), "is infinite", None)
    return made.fill_nan(None)


def _words(column: polars.Series) -> polars.Series:
    """A column's words, which are the same whatever type a table gives it: 1 for 1.0 and "1.0", true for "True"."""
    import polars as pl

    if not is_plain(column) and column.dtype != pl.Date:
        raise no_such(column, "words")
    column = column.cast(pl.Float64) if column.dtype.is_decimal() else column
    words = column.cast(pl.String).str.replace(r"^(-?(?:0|[1-9]\d*))\.0$", "${1}")  # 007 and 1.10 are names
    lower = words.str.to_lowercase()
    return (
        pl.select(pl.when(lower.is_in(["true", "false"])).then(lower).otherwise(words)).to_series().alias(column.name)
    )


def _texts(column: polars.Series) -> polars.Series:
    """A column's texts; null where there is none."""
    import polars as pl

    column = cleaned(column)
    if column.dtype not in (pl.String, pl.Null):
        raise no_such(column, "texts")
    return column.cast(pl.String)


def _dates(column: polars.Series, where: Any) -> polars.Series:
    """A column's dates, without zone: those that have one in UTC. Texts are ISO 8601, each read for itself.

    polars tells the form of all from the first one, and takes 03/04/2024 for the third of April.
    """
    import polars as pl

    time = pl.Datetime("us")
    if column.dtype == pl.String:
        made = pl.Series(column.name, [None if each is None else date_of(each) for each in column], time)
        hint = "dates are as 2024-01-31, 2024-01-31 18:30 or 2024-01-31T18:30:00+01:00"
        where(made.is_null() & column.is_not_null(), "has a value that is no date,", hint)
        return made
    if column.dtype not in (pl.Date, pl.Datetime, pl.Null):
        raise no_such(column, "dates")
    return column.cast(time)


def date_of(text: str) -> datetime | None:
    """The date of a text in ISO 8601, in UTC where it has a zone; None where it is none."""
    try:
        read = datetime.fromisoformat(text)
        return read if read.tzinfo is None else read.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):  # next to the years 1 and 9999
        return None


def _gap(part: polars.Series, said: ColumnSection, name: str) -> Any:
    """What stands for a missing value of a column; None where none may be missing."""
    import polars as pl

    if said.impute is None:
        return None
    kind = "dates" if said.date else "words" if said.one_hot or said.codes else "numbers"
    if part.null_count() == len(part):
        raise RegspecError(Problem(f"column '{name}' has no value to train on", f"--columns.{name} drop leaves it out"))
    if said.impute in ("mean", "median", "most_frequent"):
        if said.impute == "most_frequent":
            counts = part.drop_nulls().value_counts().sort(["count", part.name], descending=[True, False])
            return _plain(counts[part.name][0])
        if not part.dtype.is_numeric():
            what = f"column '{name}' has no {said.impute}, because it is no numbers"
            raise RegspecError(Problem(what, "impute: most_frequent, or a value of it"))
        return float(part.mean() if said.impute == "mean" else part.median())  # type: ignore[arg-type]  # of numbers
    value = _read(pl.Series(name, [str(said.impute)]), said, lambda *fault: None)[0]
    if value is None:
        known = f"{'mean, median, ' * (kind == 'numbers')}most_frequent or one of these"
        raise RegspecError(Problem(f"column '{name}' is {kind}, which '{said.impute}' is none of", f"impute: {known}"))
    return _plain(value)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _filled(column: polars.Series, gap: Any, where: Any) -> polars.Series:
    if gap is None:
        known = "median, most_frequent, or a value" if column.dtype.is_numeric() else "most_frequent, or a value"
        hint = f"--columns.{column.name}.impute fills gaps: {known}"
        where(column.is_null(), "has no value", hint)
        return column
    return column.fill_null(datetime.fromisoformat(gap) if column.dtype.is_temporal() else gap)


def _parts(column: polars.Series, parts: Iterable[Part]) -> Array:
    """The parts of dates, (rows, parts)."""
    import polars as pl

    days = column.dt.epoch("us").cast(pl.Float64) / 86_400e6
    found = {part: days if part == "days" else getattr(column.dt, part)() for part in parts}
    return np.stack([each.to_numpy().astype(np.float64) for each in found.values()], 1)
