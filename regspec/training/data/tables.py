"""Tables as inputs and targets: which columns are what, and the numbers that become of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, takewhile
from typing import TYPE_CHECKING

import numpy as np

from regspec.code.shapes import Symbol, text
from regspec.graph.network import Graph
from regspec.text.problems import Problem, Problems, RegspecError, did_you_mean
from regspec.training.data.arrays import Arrays
from regspec.training.data.columns import Fitted, fitted
from regspec.training.data.mapped import Mapped
from regspec.training.data.scanned import Scanned
from regspec.training.data.table_files import Table
from regspec.training.data.wanted import Array, Columns, Wanted
from regspec.training.options.columns import ColumnSection

if TYPE_CHECKING:
    import polars


@dataclass(frozen=True)
class Tabular(Arrays):
    """The targets of a table's rows; the inputs are known once its columns are fitted on some of the rows."""

    table: Table | None = None

    def fitted(
        self, rows: Array | None = None, known: Sequence[Fitted] = (), *, is_known: bool = False
    ) -> Arrays | Mapped:
        """The inputs too, of columns that are fitted on these rows or all, unless they are ``known`` already.

        Those of a file that may be larger than memory stay in one. Where a model is trained, ``is_known``, no option
        says any more what becomes of a column.

        Raises:
            RegspecError: with the faults of all columns.
        """
        assert self.table is not None
        assert self.columns is not None
        rows = np.arange(len(self.table.frame)) if rows is None else rows
        fits = {each.name: each for each in known}
        if isinstance(self.table.frame, Scanned):
            return self._in_files(self.table, self.table.frame, self.columns, rows, fits, is_known)
        arrays, problems = dict[str, Array](), Problems()
        for name in dict.fromkeys(name for own in self.columns.inputs.values() for name in own):
            try:
                arrays[name] = _numbers(self.table, name, self.columns.said.get(name), fits, rows)
            except RegspecError as error:
                problems.extend(_as_known(self.table.placed(error), is_known))
        if problems:
            raise RegspecError(problems)
        strangers = {name: fits[name].strangers(arrays[name]) for name in arrays if name in fits}
        inputs = {name: _side_by_side(arrays, own) for name, own in self.columns.inputs.items()}
        widths = {name: 1 if each.ndim == 1 else each.shape[1] for name, each in arrays.items()}
        columns = replace(self.columns, fitted=tuple(fits.values()), widths=widths, strangers=strangers)
        return Arrays(inputs, self.targets, columns, self.weights, self.groups, (self.table.unit, self.table.places))

    def _in_files(
        self, table: Table, frame: Scanned, columns: Columns, rows: Array, fits: dict[str, Fitted], is_known: bool
    ) -> Mapped:
        """The inputs in files, some rows written after the other; columns that are fitted are read one by one."""
        problems = Problems()
        for name in dict.fromkeys(name for own in columns.inputs.values() for name in own):
            try:
                if name not in fits and (said := columns.said.get(name)) is not None:
                    fits[name] = fitted(name, frame[name], said, rows, partial(table.refuse, name))
            except RegspecError as error:
                problems.extend(table.placed(error))
        if problems:
            raise RegspecError(problems)

        strangers, widths = Counter[str](), dict[str, int]()

        def numbers(names: Sequence[str], start: int, part: polars.DataFrame) -> Array:
            chunk = Table(table.path, part, table.unit, range(start + 1, start + 1 + len(part)))
            try:
                found = [_numbers(chunk, name, None, fits, rows) for name in names]
            except RegspecError as error:
                raise RegspecError(_as_known(chunk.placed(error), is_known)) from None
            strangers.update({n: fits[n].strangers(each) for n, each in zip(names, found, strict=True) if n in fits})
            widths.update({n: 1 if each.ndim == 1 else each.shape[1] for n, each in zip(names, found, strict=True)})
            return np.column_stack(found)

        inputs = {}
        for name, own in columns.inputs.items():
            is_whole = all(fits[each].limit if each in fits else frame.schema[each].is_integer() for each in own)
            dtype = np.int64 if is_whole else np.float64
            inputs[name] = frame.written(own, partial(numbers, own), dtype, table.path)
        known = replace(columns, fitted=tuple(fits.values()), widths=widths, strangers=strangers)
        where = table.unit, table.places
        return Mapped(Arrays(inputs, self.targets, known, self.weights, self.groups, where), table.path)


def _numbers(table: Table, name: str, said: ColumnSection | None, fits: dict[str, Fitted], rows: Array) -> Array:
    """The numbers of a column, which is fitted where something is said of it, and it is not in ``fits`` already."""
    where = partial(table.refuse, name)
    if name not in fits and said is not None:
        fits[name] = fitted(name, table.frame[name], said, rows, where)
    return fits[name].numbers(table.frame[name], where) if name in fits else table.array(name)


def _as_known(problems: Sequence[Problem], is_known: bool) -> list[Problem]:
    """The faults of columns; where a model is trained, with what these were then in place of options to train with."""
    if not is_known:
        return [*problems]
    has_no_value = "the data to train on had a value in every row"
    return [
        replace(each, hint=has_no_value if "has no value" in each.what else "the data to train on had numbers there")
        if each.hint is not None and each.hint.startswith("--columns")
        else each
        for each in problems
    ]


def arrays_of(
    table: Table, graph: Graph, wanted: Sequence[Wanted], columns: Columns | None = None, *, has_targets: bool = False
) -> Arrays:
    """The columns of a table: the inputs, and the targets by their names; of one output several, or the last column.

    Where something is said of columns that are to be fitted yet, the inputs are not there: it is a `Tabular`.

    Args:
        table: the table.
        graph: the model's.
        wanted: the outputs that get targets.
        columns: what becomes of columns, and which are what, where a run has said so before.
        has_targets: whether there are targets beside the table, so that its weights and groups are asked for.
    """
    path, names, columns = table.path, table.frame.columns, columns or Columns()
    is_known = bool(columns.inputs)
    weight = columns.weight or _only(columns.said, "weight")
    group = _only(columns.said, "group")
    if columns.inputs:
        by_output = {each.name: columns.targets[each.name] for each in wanted if each.name in columns.targets}
        by_input = columns.inputs
        _check_known([name for by_name in (by_output, by_input) for own in by_name.values() for name in own], table)
    else:
        by_output = _by_output(table, graph, wanted, columns.said)
        taken = {name for own in by_output.values() for name in own}
        left = [name for name in _left(names, columns.said) if name not in taken]
        by_input = _columns(graph, left, path, columns.said)
    if isinstance(table.frame, Scanned) and any(each.name not in by_output for each in wanted):
        table = replace(table, frame=table.frame.whole())  # an input that is learned is needed as a whole
    words = {own[0] for own in by_output.values() if len(own) == 1}
    arrays, problems = dict[str, Array](), Problems()
    for name in (name for own in by_output.values() for name in own):
        try:
            hint = "only one column of targets may be words"
            arrays[name] = table.array(name, takes_words=name in words, is_input=False, hint=hint)
        except RegspecError as error:
            problems.extend(table.placed(error))
    targets = (
        {name: arrays[own[0]] if len(own) == 1 else _side_by_side(arrays, own) for name, own in by_output.items()}
        if not problems
        else {}
    )
    has_targets = has_targets or bool(wanted)
    weights = None
    if has_targets and weight in names:  # which data to evaluate need not have
        try:
            weights = _weights(table, weight)
        except RegspecError as error:
            problems.extend(table.placed(error))
    groups = None
    if has_targets and group in names:
        try:
            groups = table.words(group)
        except RegspecError as error:
            problems.extend(table.placed(error))
    columns = replace(columns, inputs=by_input, targets=by_output, weight=weight)
    made = Tabular({}, targets, columns, weights, groups, table=table)
    if columns.said and not columns.fitted and not problems:
        if inputs := [each.name for each in wanted if each.name not in by_output]:
            what = f"'{inputs[0]}' learns an input, and of columns of that something is said"
            raise RegspecError(Problem(what, "prepare the table before, or leave out --columns", path=path))
        return made
    if isinstance(table.frame, Scanned) and not problems:
        return made
    try:
        found = made.fitted(known=columns.fitted, is_known=is_known)
    except RegspecError as error:
        problems.extend(error.problems)
    if problems:
        raise RegspecError(problems)
    assert isinstance(found, Arrays)
    goals = {each.name: found.inputs[each.said.target or ""] for each in wanted if each.name not in by_output}
    return replace(found, targets={**targets, **goals})


def _only(said: Mapping[str, ColumnSection], word: str) -> str | None:
    """The column of which a word is said, ``weight`` or ``group``. Raises `RegspecError` for two."""
    found = [name for name, each in said.items() if getattr(each, word)]
    if len(found) > 1:
        raise RegspecError(Problem(f"the columns {' and '.join(found)} are both {word}s", "an example has one"))
    return found[0] if found else None


def _weights(table: Table, name: str) -> Array:
    """How much each row counts. Raises `RegspecError` for what is no weight."""
    import polars as pl

    numbers = table.array(name, is_input=False)
    table.refuse(name, pl.Series(numbers < 0), "has a weight below 0")
    if not numbers.any():
        raise RegspecError(Problem(f"column '{name}' has weights that are all 0: nothing would be learned"))
    return numbers.astype(np.float32)


def _left(names: Sequence[str], said: Mapping[str, ColumnSection]) -> list[str]:
    """The columns that are inputs or targets: neither dropped, nor weights or groups."""
    return [name for name in names if name not in said or not said[name].is_beside]


def _by_output(
    table: Table, graph: Graph, wanted: Sequence[Wanted], said: Mapping[str, ColumnSection]
) -> dict[str, Sequence[str]]:
    """The columns of each output's target; none of one that learns an input."""
    path, names = table.path, table.frame.columns
    if unknown := [name for name in said if name not in names]:
        raise RegspecError(_no_column(unknown[0], names, path))
    left = _left(names, said)
    own_inputs = {x.source for x in graph.inputs} - {*names}  # which a target may be, too
    marked = [name for name in said if said[name].target]
    found = {
        each.name: _goals(each, left if each.said.target is None else names, path, marked, is_only=len(wanted) == 1)
        for each in wanted
        if each.said.target not in own_inputs
    }
    if idle := [name for name in marked if not any(name in own for own in found.values())]:
        outputs = ", ".join(each.name for each in wanted) or "none"
        what = f"column '{idle[0]}' is said to be a target, but no output learns it"
        hint = f"those that learn: {outputs}; --outputs.OUTPUT.target {idle[0]} says which"
        raise RegspecError(Problem(what, hint, path=path))
    if twice := [(output, n) for output, own in found.items() for n in own if n in said and not said[n].target]:
        output, name = twice[0]
        hint = f"leave out --columns.{name}"
        if scale := said[name].scale:
            hint = f"--outputs.{output}.scale {scale} scales a target for the loss"
        raise RegspecError(Problem(f"column '{name}' is a target, which is taken as it is", hint, path=path))
    return found


def _check_known(names: Sequence[str], table: Table) -> None:
    """Raises where columns are missing that a run was trained with."""
    has = table.frame.columns
    problems = Problems()
    for name in dict.fromkeys(names):
        if name not in has:
            hint = did_you_mean(name, has) or f"it has {', '.join(has)}"
            problems.append(Problem(f"has no column '{name}', which the data to train on have", hint, path=table.path))
    if problems:
        raise RegspecError(problems)


def _side_by_side(arrays: Mapping[str, Array], names: Sequence[str]) -> Array:
    return np.column_stack([arrays[name] for name in names])


def _goals(wanted: Wanted, names: Sequence[str], path: str, marked: Sequence[str], *, is_only: bool) -> Sequence[str]:
    """The columns of an output's target: those that are said, that of its name, or for an only output the last one.

    ``marked`` are those of which their columns say that they are targets.
    """
    target = wanted.said.target
    if target is None and is_only and (marked or wanted.name not in names):
        return marked or [names[-1]]
    target = target or wanted.name
    goals = [target] if target in names else [name.strip() for name in target.split(",")]
    for goal in goals:
        if goal not in names:
            raise RegspecError(_no_column(goal, names, path))
    return goals


def _no_column(name: str, names: Sequence[str], path: str) -> Problem:
    hint = did_you_mean(name, names) or f"it has {', '.join(names)}"
    return Problem(f"has no column '{name}'", hint, path=path)


def _columns(
    graph: Graph, names: Sequence[str], path: str, said: Mapping[str, ColumnSection]
) -> Mapping[str, Sequence[str]]:
    """The columns of each input: all that there are for the only one, else those of its name, or numbered from 0."""
    if not names:
        raise RegspecError(Problem("has no column beside the target", path=path))
    if len(graph.inputs) == 1:
        return {graph.inputs[0].source: names}
    return {x.source: _columns_of(x, names, path, said) for x in graph.inputs}


def _columns_of(x: Symbol, names: Sequence[str], path: str, said: Mapping[str, ColumnSection]) -> Sequence[str]:
    width = None if None in x.shape[1:] else math.prod(size or 1 for size in x.shape[1:])
    if x.source in names and (width in (None, 1) or x.source in said):  # of which more columns may be made
        return [x.source]
    numbered = [[*takewhile(names.__contains__, (f"{x.source}{mark}{number}" for number in count()))] for mark in "_."]
    found = max(numbered, key=len)
    if (found and len(found) == width) or (found and width is None):
        return found
    wanted = f"'{x.source}'" if width == 1 else f"'{x.source}_0' to '{x.source}_{(width or 2) - 1}'"
    has = f"{', '.join(found or names)}"
    what = f"the spec takes {text(x.spec_shape)} for '{x.source}', the columns {wanted}, but the file has {has}"
    raise RegspecError(Problem(what, path=path))
