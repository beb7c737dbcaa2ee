"""Data in memory: arrays, tensors, mappings of these, and frames of polars or pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from regspec.graph.network import Graph
from regspec.text.problems import Problem, RegspecError
from regspec.training.data.arrays import WEIGHTS, Arrays, by_name, check_counts, checked, targets_of, weighted
from regspec.training.data.datamodules import is_module, loaders_of
from regspec.training.data.mapped import Mapped, mapped, opened
from regspec.training.data.streams import Batched, batched_in
from regspec.training.data.table_files import Table
from regspec.training.data.tables import arrays_of
from regspec.training.data.wanted import Columns, Wanted

NAME = "data"  # what messages call those that are given as an argument
TOLD = (
    "it may be (inputs, targets) or (inputs, targets, weights), alone or twice; a mapping of arrays; a frame; or a "
    "torch Dataset, DataLoader or function of batches, with or without a held-out one after it; or a "
    "LightningDataModule"
)


@dataclass(frozen=True)
class Weighted:
    """Data whose examples to train on count as much as weights say."""

    data: Any
    weights: Any


def given(
    data: Any, graph: Graph, wanted: Sequence[Wanted], columns: Columns | None, name: str = NAME
) -> Sequence[Arrays | Batched | Mapped]:
    """The part of data in memory, or the part to train on and the one held out.

    Args:
        data: A frame, whose columns are as those of a file; a mapping of arrays, or of paths of ``.npy`` files, whose
            keys are as those of an ``.npz``; a pair (inputs, targets), or two in one tuple, the second of which is held
            out, with the examples' weights after each pair or none; a dataset or a stream of batches, or two; a data
            module of Lightning's; or one
            of these as `Weighted`. Where no targets are wanted, the inputs alone: an array, a frame, or several in a
            list or by name.
        graph: the model's.
        wanted: the outputs that get targets.
        columns: which columns of a frame are what, where a run has said so before.
        name: what messages call the data.

    Raises:
        RegspecError: where it is none of these, or does not fit the model.
    """
    if isinstance(data, Weighted):
        return _weighted(data, graph, wanted, columns, name)
    if is_module(data):
        data = loaders_of(data, name, has_targets=bool(wanted))
    if found := batched_in(data, name):
        return found
    if is_frame(data):
        return [arrays_of(_table(data, name), graph, wanted, columns)]
    if isinstance(data, Mapping):
        arrays = {key: opened(each) if isinstance(each, (str, Path)) else each for key, each in data.items()}
        return mapped([by_name(arrays, graph, name, wanted)], name)
    if not wanted:
        return mapped([checked(data, {}, graph, name, wanted)], name)
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3, 4, 6):
        raise RegspecError(Problem(f"'{name}' is {type(data).__name__}, and no data to train on", TOLD))
    size = 3 if len(data) % 3 == 0 else 2
    parts: list[Arrays] = []
    for inputs, targets, *weights in (data[start : start + size] for start in range(0, len(data), size)):
        part = _pair(inputs, targets, graph, wanted, columns, name)
        parts.append(_with_weights(part, weights[0], name) if weights and weights[0] is not None else part)
        columns = parts[0].columns or columns  # what is held out has the columns of what is trained on
    return mapped(parts, name)


def _weighted(
    data: Weighted, graph: Graph, wanted: Sequence[Wanted], columns: Columns | None, name: str
) -> Sequence[Arrays | Batched | Mapped]:
    first, *others = given(data.data, graph, wanted, columns, name)
    if isinstance(first, Arrays):
        return [_with_weights(first, data.weights, name), *others]
    if isinstance(first, Mapped):
        return [replace(first, arrays=_with_weights(first.arrays, data.weights, name)), *others]
    what = f"'{WEIGHTS}' is for arrays and frames, but '{name}' gives items or batches"
    raise RegspecError(Problem(what, "an item is (input, target, weight) then"))


def _with_weights(part: Arrays, weights: Any, name: str) -> Arrays:
    if part.weights is not None:
        raise RegspecError(Problem(f"'{name}' has weights of its own, beside '{WEIGHTS}'", "leave out one of them"))
    return weighted(part, weights, name)


def _pair(
    inputs: Any, targets: Any, graph: Graph, wanted: Sequence[Wanted], columns: Columns | None, name: str
) -> Arrays:
    table = _table(inputs, name) if is_frame(inputs) else None
    if is_frame(targets):
        frame = _table(targets, name).frame
        targets = {each: frame[each] for each in frame.columns}
        if len(targets) == 1 == len(wanted):
            (targets,) = targets.values()
    if table is None:
        return checked(inputs, targets, graph, name, wanted)
    known = arrays_of(table, graph, (), columns, has_targets=True)
    goals = targets_of(targets, known.inputs, name, wanted)
    check_counts({"the frame": len(table.frame)}, goals, name)
    return replace(known, targets=goals)


def is_frame(data: Any) -> bool:
    """Whether something is a table with named columns: polars's, pandas's, or of another library that has these."""
    return hasattr(data, "columns") and (hasattr(data, "__dataframe__") or hasattr(data, "__arrow_c_stream__"))


def _table(frame: Any, name: str) -> Table:
    try:
        import polars as pl
    except ImportError:
        raise RegspecError(Problem("frames need polars", "pip install 'regspec[data]'")) from None
    if isinstance(frame, pl.DataFrame):
        return Table(name, frame, "row", range(1, len(frame) + 1))
    own = [str(each) for each in frame.columns]
    if twice := [each for each in own if own.count(each) > 1]:
        raise RegspecError(Problem(f"has two columns '{twice[0]}'", path=name))
    made = dict[str, Any]()
    for each in frame.columns:  # not by the protocol: pandas's words are objects, of which it knows nothing
        try:
            made[str(each)] = pl.Series(_values(frame[each]))
        except (AttributeError, TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
            what = f"column '{each}' can't be read: {str(error).partition(chr(10))[0]}"
            raise RegspecError(Problem(what, "values of one type, and None for gaps, can be", path=name)) from None
    try:
        table = pl.DataFrame(made)
    except pl.exceptions.PolarsError as error:
        raise RegspecError(Problem(f"can't be read: {str(error).partition(chr(10))[0]}", path=name)) from None
    return Table(name, table, "row", range(1, len(table) + 1))


def _values(column: Any) -> Any:
    """An array, or where that would be of objects, these in a list, in which gaps are None."""
    array = np.asarray(column)
    if array.dtype.kind != "O":
        return array
    gaps = column.isna() if hasattr(column, "isna") else [False] * len(array)  # pandas has three kinds of gaps
    return [None if is_gap else each for is_gap, each in zip(gaps, array.tolist(), strict=True)]
