"""Data in memory: arrays, tensors, mappings of these, and frames of polars or pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from regspec.graph.network import Graph
from regspec.text.problems import Problem, RegspecError
from regspec.training.data.arrays import Arrays, by_name, check_counts, checked, targets_of
from regspec.training.data.mapped import Mapped, mapped, opened
from regspec.training.data.streams import Batched, batched_in
from regspec.training.data.tables import Table, arrays_of
from regspec.training.data.wanted import Columns, Wanted

NAME = "data"  # what messages call them
TOLD = (
    "it may be (inputs, targets), with or without a held-out pair after them; a mapping of arrays; a frame; or a "
    "torch Dataset, DataLoader or function of batches, with or without a held-out one after it"
)


def given(
    data: Any, graph: Graph, wanted: Sequence[Wanted], columns: Columns | None
) -> Sequence[Arrays | Batched | Mapped]:
    """The part of data in memory, or the part to train on and the one held out.

    Args:
        data: A frame, whose columns are as those of a file; a mapping of arrays, or of paths of ``.npy`` files, whose
            keys are as those of an ``.npz``; a pair (inputs, targets), or two in one tuple, the second of which is held
            out; or a dataset or a stream of batches, or two. Where no targets are wanted, the inputs alone: an array, a
            frame, or several in a list or by name.
        graph: the model's.
        wanted: the outputs that get targets.
        columns: which columns of a frame are what, where a run has said so before.

    Raises:
        RegspecError: where it is none of these, or does not fit the model.
    """
    if found := batched_in(data, NAME):
        return found
    if is_frame(data):
        return [arrays_of(_table(data), graph, wanted, columns)]
    if isinstance(data, Mapping):
        arrays = {name: opened(each) if isinstance(each, (str, Path)) else each for name, each in data.items()}
        return mapped([by_name(arrays, graph, NAME, wanted)], NAME)
    if not wanted:
        return mapped([checked(data, {}, graph, NAME, wanted)], NAME)
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 4):
        raise RegspecError(Problem(f"'{NAME}' is {type(data).__name__}, and no data to train on", TOLD))
    pairs = [data[:2], *([data[2:]] if data[2:] else [])]
    parts: list[Arrays] = []
    for inputs, targets in pairs:
        parts.append(_pair(inputs, targets, graph, wanted, columns))
        columns = parts[0].columns or columns  # what is held out has the columns of what is trained on
    return mapped(parts, NAME)


def _pair(inputs: Any, targets: Any, graph: Graph, wanted: Sequence[Wanted], columns: Columns | None) -> Arrays:
    table = _table(inputs) if is_frame(inputs) else None
    if is_frame(targets):
        frame = _table(targets).frame
        targets = {name: frame[name] for name in frame.columns}
        if len(targets) == 1 == len(wanted):
            (targets,) = targets.values()
    if table is None:
        return checked(inputs, targets, graph, NAME, wanted)
    known = arrays_of(table, graph, (), columns)
    goals = targets_of(targets, known.inputs, NAME, wanted)
    check_counts({"the frame": len(table.frame)}, goals, NAME)
    return replace(known, targets=goals)


def is_frame(data: Any) -> bool:
    """Whether something is a table with named columns: polars's, pandas's, or of another library that has these."""
    return hasattr(data, "columns") and (hasattr(data, "__dataframe__") or hasattr(data, "__arrow_c_stream__"))


def _table(frame: Any) -> Table:
    try:
        import polars as pl
    except ImportError:
        raise RegspecError(Problem("frames need polars", "pip install 'regspec[data]'")) from None
    if not isinstance(frame, pl.DataFrame):
        try:  # not by the protocol: pandas's words are objects, of which it knows nothing
            frame = pl.DataFrame({str(name): _series(frame[name]) for name in frame.columns})
        except (AttributeError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise RegspecError(Problem(f"the frame in '{NAME}' can't be read: {error}")) from None
    return Table(NAME, frame, "row", range(1, len(frame) + 1))


def _series(column: Any) -> Any:
    array = np.asarray(column)
    return array.tolist() if array.dtype.kind == "O" else array
