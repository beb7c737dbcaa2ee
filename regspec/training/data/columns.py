"""Columns of a table as numbers: gaps filled, scaled, words and dates as numbers, by what the training part holds.

What is fitted is plain data, which a run's folder keeps, and no pickle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regspec.text.problems import Problem, RegspecError
from regspec.training.options.columns import ColumnSection, Part

if TYPE_CHECKING:
    import polars

Array = NDArray[Any]


@dataclass(frozen=True)
class Fitted:
    """A column with what was found in its training part. It gives float64 numbers, or int64 codes."""

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

    @classmethod
    def of_dict(cls, data: Mapping[str, Any]) -> Fitted:
        """The column of plain data."""
        said = ColumnSection.model_validate(data["said"])
        lists = {key: tuple(data[key]) for key in ("words", "center", "spread")}
        return cls(data["name"], said, data["gap"], **lists)

    def numbers(self, column: polars.Series, where: Any) -> Array:
        """The numbers of a column, (rows, width). Raises `RegspecError` for a value that is none."""
        column = _filled(_read(column, self.said, where), self.gap, where)
        if self.said.one_hot:
            return np.stack([(column == word).to_numpy() for word in self.words], 1).astype(np.float64)
        if self.said.codes:
            codes = {word: number for number, word in enumerate(self.words, 1)}
            return column.replace_strict(codes, default=0).to_numpy().astype(np.int64)[:, None]
        found = _parts(column, self.said.date) if self.said.date else column.to_numpy().astype(np.float64)[:, None]
        return (found - np.array(self.center)) / np.array(self.spread) if self.center else found


def fitted(name: str, column: polars.Series, said: ColumnSection, rows: Array, where: Any) -> Fitted:
    """A column, fitted on the rows to train on. Raises `RegspecError` for a value that it can't take.

    Args:
        name: the column's.
        column: all of it.
        said: what becomes of it.
        rows: those to train on.
        where: raises the fault of the values that are faulty: ``where(is_faulty, what, hint)``.
    """
    import sklearn.preprocessing as preprocessing

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
    scalers = {
        "standard": preprocessing.StandardScaler, "min_max": preprocessing.MinMaxScaler,
        "robust": preprocessing.RobustScaler,
    }  # fmt: skip
    scaler = scalers[said.scale]().fit(made.numbers(column, where)[rows])
    if said.scale == "min_max":
        center, spread = scaler.data_min_, np.where(scaler.data_range_ == 0, 1.0, scaler.data_range_)
    else:
        center, spread = scaler.mean_ if said.scale == "standard" else scaler.center_, scaler.scale_
    return Fitted(name, said, gap, (), tuple(map(float, center)), tuple(map(float, spread)))


def _read(column: polars.Series, said: ColumnSection, where: Any) -> polars.Series:
    """A column as words, dates or numbers, with nulls where values are missing."""
    import polars as pl

    if column.dtype == pl.String or isinstance(column.dtype, (pl.Categorical, pl.Enum)):
        column = column.cast(pl.String).str.strip_chars()
        column = pl.select(pl.when(column != "").then(column)).to_series().alias(column.name)  # no text is a gap
    if said.one_hot or said.codes:
        return column.cast(pl.String)
    if said.date:
        made = column.str.to_datetime(strict=False) if column.dtype == pl.String else column.cast(pl.Datetime)
        if column.dtype == pl.String and made.null_count() > column.null_count():
            made = column.str.to_date(strict=False).cast(pl.Datetime) if made.null_count() == len(made) else made
        where(made.is_null() & column.is_not_null(), "has a value that is no date,", "dates are as 2024-01-31 18:30")
        return made
    made = column.cast(pl.Float64, strict=False)
    hint = f"--columns.{column.name} one_hot, codes or date makes numbers of it"
    where(made.is_null() & column.is_not_null(), "has a word", hint)
    where(made.is_infinite(), "is infinite", None)
    return pl.select(pl.when(made.is_not_nan()).then(made)).to_series().alias(column.name)


def _gap(part: polars.Series, said: ColumnSection, name: str) -> Any:
    """What stands for a missing value of a column; None where none may be missing."""
    import polars as pl

    if said.impute is None:
        return None
    if part.null_count() == len(part):
        raise RegspecError(Problem(f"column '{name}' has no value to train on", f"--columns.{name} drop leaves it out"))
    if said.impute in ("mean", "median", "most_frequent"):
        if said.impute == "most_frequent":
            counts = part.drop_nulls().value_counts().sort(["count", part.name], descending=[True, False])
            most = counts[part.name][0]
            return most.isoformat() if isinstance(most, datetime) else most
        if not part.dtype.is_numeric():
            what = f"column '{name}' has no {said.impute}, because it is no numbers"
            raise RegspecError(Problem(what, "impute: most_frequent, or a value of it"))
        return float(part.mean() if said.impute == "mean" else part.median())  # type: ignore[arg-type]  # of numbers
    if part.dtype.is_numeric() and isinstance(said.impute, str):
        known = "mean, median, most_frequent or a number"
        raise RegspecError(Problem(f"column '{name}' is numbers, which '{said.impute}' is none of", f"impute: {known}"))
    return str(said.impute) if part.dtype == pl.String or said.date else said.impute


def _filled(column: polars.Series, gap: Any, where: Any) -> polars.Series:
    if gap is None:
        hint = f"--columns.{column.name}.impute fills gaps: median, most_frequent, or a value"
        where(column.is_null(), "has no value", hint)
        return column
    return column.fill_null(datetime.fromisoformat(gap) if column.dtype.is_temporal() else gap)


def _parts(column: polars.Series, parts: Iterable[Part]) -> Array:
    """The parts of dates, (rows, parts)."""
    import polars as pl

    days = column.dt.epoch("us").cast(pl.Float64) / 86_400e6
    found = {part: days if part == "days" else getattr(column.dt, part)() for part in parts}
    return np.stack([each.to_numpy().astype(np.float64) for each in found.values()], 1)
