"""A first training file for a table: a line for each column, with why, and how many numbers an input has to take.

Nothing is told from a table that the file does not say, so that whoever disagrees with a line writes another one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regspec.graph.loading import graph_of
from regspec.text.dumping import dumped
from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.data.columns import FEW, MANY_WORDS, cleaned, date_of, is_plain
from regspec.training.data.loading import load_data
from regspec.training.data.table_files import ENDINGS, Table, read_table
from regspec.training.data.targets import MANY
from regspec.training.data.texts import words_of
from regspec.training.options.columns import ColumnSection
from regspec.training.options.outputs import OutputSection
from regspec.views.summary import plural

if TYPE_CHECKING:
    import polars

MOST_WORDS = 50  # of which a column each is made
SHOWN = 5
# A network that takes any number of columns, by which it is counted how many there are.
_ANY = """\
regspec: 1
inputs: {x: {shape: [null, 1]}}
layers: [GlobalAveragePooling1D, {Dense: {name: out, units: %d}}]
"""
_ID = re.compile(r"(.*[_ ])?(id|key|index|uuid|nr|no)|.*[a-z]Id", re.IGNORECASE)


def draft(path: str, target: str | None = None, folder: Path | None = None) -> str:
    """The text of a training file for a table, in a folder to which its path is relative.

    Raises:
        RegspecError: where it is no table, a target has gaps, or no column is left that is an input.
    """
    if Path(path).suffix.lower() not in ENDINGS:
        raise RegspecError(Problem(f"'{path}' is no table", f"a draft is made of a {' or '.join(ENDINGS)} file"))
    table = read_table(path)
    names = table.frame.columns
    if target is not None and target not in names:
        hint = did_you_mean(target, names) or f"it has {', '.join(names)}"
        raise RegspecError(Problem(f"has no column '{target}'", hint, path))
    goal = target or names[-1]
    units, loss, about = _target(table, goal)
    lines = {name: _line(table.frame[name]) for name in names if name != goal}
    if lines and all(said == "drop" for said, _ in lines.values()):
        why = [f"{name}: {' '.join(each.split())}" for name, (_, each) in lines.items()]
        raise RegspecError(Problem("has no column that is an input", "; ".join(why[:SHOWN]), path))
    lines[goal] = "target", about if target else f"the last column: {about}"
    said = {name: ColumnSection.model_validate(each) for name, (each, _) in lines.items()}
    outputs = {} if loss is None else {"out": OutputSection(loss=loss)}
    columns = load_data(path, graph_of(_ANY % units), columns=said, outputs=outputs).columns
    widths: Mapping[str, int] = {} if columns is None else columns.widths
    given = ", ".join(f"{name} {width}" for name, width in widths.items())
    total, first = sum(widths.values()), os.path.relpath(path, folder) if folder else path
    head = [
        f"# {plural(len(table.frame), 'row', 'rows')}. An example has {plural(total, 'number', 'numbers')}: {given}.",
        f"# So the spec has inputs: {{x: {{shape: [{total}]}}}}, and a last layer of {plural(units, 'unit', 'units')}.",
    ]
    written = [_written(name, *lines[name]) for name in names]
    return "\n".join([*head, "regspec: 1", "data:", f"  train: {_scalar(first)}", "  columns:", *written, ""])


def _written(name: str, said: Any, why: str) -> str:
    return f"    {_scalar(name)}: {_flow(said)}  # {' '.join(why.split())}"


def _flow(said: Any) -> str:
    """What is said of a column, which is plain words, in a line."""
    if isinstance(said, dict):
        return f"{{{', '.join(f'{key}: {_flow(each)}' for key, each in said.items())}}}"
    return f"[{', '.join(said)}]" if isinstance(said, list) else "true" if said is True else str(said)


def _scalar(text: str) -> str:
    """A text as YAML has it, in quotes where it needs some."""
    return dumped([text]).strip()[1:-1]


def _target(table: Table, name: str) -> tuple[int, str | None, str]:
    """How many units a target takes, the loss that has to be said, and what it is. Raises `RegspecError` for gaps."""
    try:
        values = table.array(name, takes_words=True, is_input=False)
    except RegspecError as error:
        raise RegspecError(table.placed(error)) from None
    if values.dtype.kind == "f":
        return 1, None, f"quantities from {values.min():g} to {values.max():g}"
    classes = sorted({*values.tolist()})
    is_whole = values.dtype.kind == "i"
    if is_whole and (classes[0] < 0 or classes[-1] >= MANY):
        says = "that they are quantities is said by --outputs.OUTPUT.loss mse, with the name of the output"
        return 1, "mse", f"whole numbers from {classes[0]} to {classes[-1]}; {says}"
    count = int(classes[-1]) + 1 if is_whole else len(classes)
    whole = ", which are whole numbers: quantities are as 3.0" if is_whole else ""
    return count, None, f"{plural(len(classes), 'class', 'classes')}, {_some(map(str, classes))}{whole}"


def _line(column: polars.Series) -> tuple[Any, str]:
    """What is said of a column, and why."""
    import polars as pl

    column = cleaned(column)
    given, is_text = column.drop_nulls(), column.dtype == pl.String
    if not len(given):
        return "drop", "it is empty"
    if given.n_unique() == 1 and not column.null_count():
        return "drop", f"it is {given[0]} everywhere"
    if column.dtype in (pl.Date, pl.Datetime):
        return _dates(column, given.cast(pl.Datetime("us")).to_list())
    if not is_plain(column):
        return "drop", f"it is {column.dtype}, of which no numbers are made"
    numbers = column.cast(pl.Float64, strict=False).fill_nan(None)
    words = given.filter(given.cast(pl.Float64, strict=False).is_null())
    is_name = is_text and given.str.contains(r"^[+-]?0\d").any()  # 007
    if not len(words) and not is_name:
        return _numbers(numbers)
    if is_text and all(date_of(each) is not None for each in given):
        return _dates(column, [date_of(each) for each in given])
    if not is_name and 2 * len(words) < len(given):
        rows = plural(len(words), "row", "rows")
        return "drop", f"it is numbers, but for '{words[0]}' in {rows}: what is missing is empty in a table"
    return _words(column)


def _numbers(column: polars.Series) -> tuple[Any, str]:
    given = column.drop_nulls()
    low, high = float(given.min()), float(given.max())  # type: ignore[arg-type]  # of numbers
    if not (given % 1 != 0).any() and len(given) == len(column) == given.n_unique() and len(given) >= FEW:
        if high - low + 1 == len(given):
            return "drop", "whole numbers, each one more than another, as those of an id are"
        if _ID.fullmatch(column.name):
            return "drop", "whole numbers that all differ, as those of an id do"
    if {*given.unique().to_list()} <= {0.0, 1.0}:
        return ({"impute": "most_frequent"} if column.null_count() else {}), f"0 or 1{_missing(column)}"
    imputed = {"impute": "median"} if column.null_count() else {}
    return {**imputed, "scale": "standard"}, f"numbers from {low:g} to {high:g}{_missing(column)}"


def _dates(column: polars.Series, given: list[datetime | None]) -> tuple[Any, str]:
    has_times = any(each is not None and (each.hour or each.minute) for each in given)
    parts = ["year", "month", "weekday", *(["hour"] if has_times else [])]
    imputed = {"impute": "most_frequent"} if column.null_count() else {}
    return {"date": parts, **imputed, "scale": "standard"}, f"dates{_missing(column)}"


def _words(column: polars.Series) -> tuple[Any, str]:
    given = column.drop_nulls()
    count = given.n_unique()
    typical = float(words_of(given).list.len().median() or 0)  # type: ignore[arg-type]  # of numbers
    if typical >= MANY_WORDS and count > MOST_WORDS:
        made = "{text: {vocabulary: 20000, length: 100}} makes numbers of these, for an Embedding"
        return "drop", f"texts of some {typical:.0f} words: {made}"
    if count == len(given) and count >= FEW:
        return "drop", "words that all differ, as those of a name or an id do"
    if count > MOST_WORDS:
        return "drop", f"{count:,} words, many for one_hot: codes makes numbers of them, for an Embedding"
    words = f"{plural(count, 'word', 'words')}, {_some(given.unique().sort().to_list())}{_missing(column)}"
    return ({"one_hot": True, "impute": "most_frequent"} if column.null_count() else "one_hot"), words


def _missing(column: polars.Series) -> str:
    count = column.null_count()
    return f"; {count:,} of {len(column):,} are missing" if count else ""


def _some(words: Any) -> str:
    every = [*words]
    return ", ".join(every[:SHOWN]) + ", …" * (len(every) > SHOWN)
