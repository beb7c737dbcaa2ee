"""The data of a source: read, fitted to a model's inputs and output, and divided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regspec.graph.network import Graph
from regspec.language.registration import called
from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.data import arrays, images, lazy, mapped, memory, pictures, streams, table_files, tables
from regspec.training.data.columns import Fitted, warn_of
from regspec.training.data.division import Fold, division
from regspec.training.data.examples import Data, InMemory
from regspec.training.data.fitting import check_codes, check_widths, fitted_inputs, goal_in
from regspec.training.data.streams import Stream
from regspec.training.data.targets import fitted_target
from regspec.training.data.wanted import Columns, Names, Wanted, wanted_outputs
from regspec.training.options.columns import ColumnSection
from regspec.training.options.options import BUNDLED, IN_MEMORY
from regspec.training.options.outputs import OutputSection
from regspec.views.summary import plural

Stored = arrays.Arrays | images.Files
Part = Stored | lazy.Source | Stream


def load_data(
    source: Any,
    graph: Graph,
    *,
    validation: str | None = None,
    target: str | None = None,
    outputs: Mapping[str, OutputSection] | None = None,
    columns: Mapping[str, ColumnSection] | None = None,
    seed: int = 0,
    batch_size: int = 64,
    fold: Fold | None = None,
) -> Data:
    """The data of a source, for a model's inputs; a fifth is held out unless the source says otherwise.

    Whole numbers, words and booleans as a target are classes, floating-point numbers are quantities, unless the loss of
    an output takes the other.

    Args:
        source: What the data are:

            - a set that scikit-learn brings along: ``breast_cancer``, ``diabetes``, ``digits``, ``iris``, ``wine``;
            - an ``.npz`` file: the inputs by their names (or ``x`` where there is one), and the targets by those of the
              outputs (or ``y`` where there is one);
            - a folder of ``.npy`` files, with names as those of an ``.npz``, which may be larger than memory;
            - a ``.csv`` or ``.parquet`` file: a column for each number, and the targets by the outputs' names; that of
              an only output is the last column, unless it is said, or one has its name. A
              model with one input takes all other columns in their order; with several, an input of one number takes
              the column of its name, a wider one the columns ``name_0``, ``name_1``, … or ``name.0``, ``name.1``, …;
            - a folder with a folder of images for each class, or with ``train`` and ``val`` (or ``test``) that have
              them. Images get the input's channels (1: grey, 3: RGB, 4: RGBA) and its size, by bilinear
              interpolation; their numbers are 0 to 1 in an input of floating-point numbers, and 0 to 255 in one of
              whole numbers. A model that learns its input takes all images that are there, without classes;
            - ``package.module:function``, which gives data as `regspec.train` takes them in memory, or yields batches;
            - or data in memory, as `regspec.train` takes them.
        graph: The model's graph.
        validation: What is held out, in place of a fifth: a source whose classes and columns are those of the first.
        target: The only output's target: an array, a column (several as ``a,b``), or an input, which it learns to give.
        outputs: What is said of outputs, by their names; where a target or a loss is, the others do not learn.
        columns: What becomes of columns of a table that are not taken as they are.
        seed: Which examples are held out; of classes, the same share of each.
        batch_size: Of a stream of items, how many are put together.
        fold: Which of several parts is held out, in place of a fifth.

    Raises:
        RegspecError: where the source can't be read, or does not fit the model.
    """
    wanted = wanted_outputs(graph, outputs or {}, target)
    parts, names = read(source, graph, wanted, Columns(said=columns or {}))
    sources = [name_of(source)] * 2
    if validation is not None:
        sources = [name_of(source), validation]
        parts = [*parts, _held_out(validation, sources[0], parts, names, graph, wanted)]
    source = sources[0]
    if fold is not None:
        _check_folds(parts, source, validation)
    if any(isinstance(each, Stream) for each in parts):
        given = [replace(each, size=batch_size) if isinstance(each, Stream) else each for each in parts]
        return streams.data_of([each for each in given if isinstance(each, (Stream, lazy.Source))], graph, wanted)
    counted = [each for each in parts if not isinstance(each, Stream)]
    least = 2 if len(parts) == 1 else 1
    if (number := min(map(_count, counted))) < least:
        what = ", too few to hold some out" if len(parts) == 1 else " to train on or to hold out"
        raise RegspecError(Problem(f"'{source}' has {plural(number, 'example', 'examples')}{what}"))
    if rows_of := [each for each in counted if isinstance(each, lazy.Source)]:
        return lazy.data_of(rows_of, graph, wanted, lambda targets: division(targets, source, seed, fold))
    stored = [each for each in counted if not isinstance(each, lazy.Source)]
    fitted = [
        fitted_target(
            [goal_in(part, each, own) for own, part in zip(sources, stored, strict=False)], names, each, source
        )
        for each in wanted
    ]
    goals = [tuple(tensors[index] for tensors, _ in fitted) for index in range(len(stored))]
    groups = stored[0].groups if isinstance(stored[0], arrays.Arrays) else None
    rows = [torch.arange(len(goals[0][0]))]
    if len(stored) == 1:
        rows = division(goals[0], source, seed, fold, groups)
    made = _with_inputs(stored, rows[0])
    targets = tuple(target.scaled(tensors[0][rows[0]]) for tensors, target in fitted)
    first = made[0].arrays if isinstance(made[0], mapped.Mapped) else made[0]
    if isinstance(first, arrays.Arrays):
        check_widths(first, graph, source)
    check_codes(_columns_of(made[0]), graph, source)
    examples = [
        lazy.Lazy.of(part, graph, targets).checked()
        if isinstance(part, mapped.Mapped)
        else examples_of(part, goal, graph, own)
        for own, part, goal in zip(sources, made, goals, strict=False)
    ]
    if len(examples) == 1:
        examples = [examples[0].part(each) for each in rows]
    train, held_out = examples
    if isinstance(first, images.Files):
        return Data(train, held_out, targets)
    targets = tuple(each.named(first.columns) for each in targets)
    columns_held_out = _columns_of(made[-1])
    told = () if columns_held_out is None else columns_held_out.unknown_words
    return Data(train, held_out, targets, first.columns, first.weights is not None, tuple(told))


def _check_folds(parts: Sequence[Part], source: str, validation: str | None) -> None:
    """Raises where what is held out is said otherwise, or can't be divided."""
    if validation is not None:
        what = f"--folds hold out each example once, and --validation holds out '{validation}'"
        raise RegspecError(Problem(what, "leave out one of them"))
    if any(isinstance(each, Stream) for each in parts):
        what = f"'{source}' gives batch after batch, which can't be divided into folds"
        raise RegspecError(Problem(what, "a torch Dataset with a length can"))
    if len(parts) > 1:
        what = f"'{source}' has a part that is held out already, and --folds hold out each example once"
        raise RegspecError(Problem(what, "leave out --folds, or give all examples in one part"))


def _count(part: Stored | lazy.Source) -> int:
    """How many examples a part has."""
    return len(part) if isinstance(part, lazy.Source) else min(map(len, part.targets.values()))


def _with_inputs(parts: Sequence[Stored], rows: Tensor) -> list[Stored | mapped.Mapped]:
    """The parts of tables with their inputs: columns are fitted on these rows of the first one."""
    made: list[Stored | mapped.Mapped] = []
    known: tuple[Fitted, ...] = ()
    for part in parts:
        made.append(part.fitted(rows.numpy(), known) if isinstance(part, tables.Tabular) else part)
        columns = _columns_of(made[0])
        known = () if columns is None else columns.fitted
    return made


def _columns_of(part: Part) -> Columns | None:
    part = part.arrays if isinstance(part, mapped.Mapped) else part
    return part.columns if isinstance(part, arrays.Arrays) else None


def _held_out(
    validation: str, source: str, parts: Sequence[Part], names: Names, graph: Graph, wanted: Sequence[Wanted]
) -> Part:
    """The part that a source of its own holds out. Raises where it does not go with what is trained on."""
    if len(parts) > 1:
        hint = "leave out --validation, or give the part to train on alone"
        raise RegspecError(Problem(f"'{source}' has a part that is held out already", hint))
    (train,) = parts
    columns = train.columns if isinstance(train, arrays.Arrays) else None
    (held_out, *others), _ = read(validation, graph, wanted, columns, names)
    if others:
        raise RegspecError(Problem(f"'{validation}' has two parts, and one is to be held out"))
    is_read = isinstance(train, (lazy.Source, Stream))  # in batches, whose classes are looked at as they come
    if is_read and isinstance(held_out, arrays.Arrays) and not isinstance(held_out, tables.Tabular):
        held_out = mapped.Mapped(held_out, validation)
    if is_read != isinstance(held_out, (lazy.Source, Stream)) or (
        isinstance(held_out, images.Files) != isinstance(train, images.Files)
    ):
        raise RegspecError(Problem(f"'{validation}' is to be held out, but is no data like '{source}'"))
    if isinstance(train, (lazy.Source, Stream)) or isinstance(held_out, (lazy.Source, Stream)):
        return held_out
    for name, goal in train.targets.items():
        other = held_out.targets[name]
        if goal.dtype.kind == other.dtype.kind == "U" and (new := sorted({*other.tolist()} - {*goal.tolist()})):
            raise RegspecError(Problem(f"'{validation}' has the class '{new[0]}', which '{source}' does not have"))
    return held_out


def name_of(source: Any) -> str:
    """What messages call a source: one in memory is ``data``, as the argument is."""
    return str(source) if isinstance(source, (str, Path)) else "data"


def whole(part: Part) -> Part:
    """A part with its inputs, where it is a table in which these are not there yet. Warns of words that are new."""
    if isinstance(part, tables.Tabular) and part.columns is not None:
        part = part.fitted(known=part.columns.fitted, is_known=True)
    columns = _columns_of(part)
    warn_of(() if columns is None else columns.unknown_words)
    return part


def examples_of(part: Stored, goals: tuple[Tensor, ...], graph: Graph, source: str) -> images.Images | InMemory:
    """A part of the data, with the targets of the outputs that learn, as what batches are taken of."""
    if isinstance(part, images.Files):
        return images.Images(part.files, goals, part.form)
    weights = None if part.weights is None else torch.from_numpy(part.weights)
    return InMemory(fitted_inputs(part.inputs, graph, source), goals, weights, part.where)


def read(
    source: Any, graph: Graph, wanted: Sequence[Wanted], columns: Columns | None = None, names: Names = None
) -> tuple[Sequence[Part], Names]:
    """One part, or the part to train on and the one held out; and the classes' names where the source has them.

    Args:
        source: as for `load_data`.
        graph: the model's.
        wanted: the outputs that get targets; none for the inputs alone.
        columns: which columns of a table are what, where those of what is trained on have said so before.
        names: those of the classes of a folder that is trained on, where another one is held out.

    Raises:
        RegspecError: where it can't be read, or columns are to be made numbers of and it has none.
    """
    parts, names = _read(source, graph, wanted, columns, names)
    if columns and not all(isinstance(part, arrays.Arrays) and part.columns for part in parts):
        hint = "a .csv or .parquet file has columns, and a frame"
        if columns.fitted:
            prepared = ", ".join(each.name for each in columns.fitted)
            what = (
                f"the model was trained on columns that are prepared, {prepared}, but '{name_of(source)}' is no table"
            )
            raise RegspecError(Problem(what, hint))
        if columns.said:
            what = f"something is said of the column '{next(iter(columns.said))}', but '{name_of(source)}' is no table"
            raise RegspecError(Problem(what, hint))
    return parts, names


def _read(
    source: Any, graph: Graph, wanted: Sequence[Wanted], columns: Columns | None, names: Names
) -> tuple[Sequence[Part], Names]:
    if isinstance(source, Path):
        source = str(source)
    if not isinstance(source, str):
        return memory.given(source, graph, wanted, columns), None
    if source == IN_MEMORY:
        raise RegspecError(Problem("the run was trained on data in memory, which its folder does not keep"))
    ending = "" if source in BUNDLED else Path(source).suffix.lower()
    if ending == ".npz":
        return [arrays.npz(source, graph, wanted)], None
    if ending in table_files.ENDINGS:
        return [tables.arrays_of(table_files.read_table(source), graph, wanted, columns)], None
    if mapped.has_arrays(source):
        return mapped.of_folder(source, graph, wanted), None
    if ending == mapped.ENDING:
        what = f"'{source}' is one array, and the inputs and targets are several"
        raise RegspecError(
            Problem(what, "--data takes the folder, with an .npy of each one's name, or x.npy and y.npy")
        )
    inputs = {x.source for x in graph.inputs}
    if ":" not in source and (said := [each.said.target for each in wanted if each.said.target not in {None, *inputs}]):
        raise RegspecError(Problem(f"the target '{said[0]}' would be one of a file's, but '{source}' has its own"))
    if source in BUNDLED:
        return arrays.bundled(source, graph, wanted)
    if Path(source).is_dir() and not wanted:
        return [images.images_alone(source, graph)], None
    if Path(source).is_dir() and all(each.said.target in inputs for each in wanted):
        return pictures.of_folder(source, graph), None
    if Path(source).is_dir():
        return images.read_images(source, graph, wanted, names)
    if ":" in source:
        result = called(source)
        if isinstance(result, Iterator):  # a generator, which is begun anew for each epoch
            return [Stream(lambda size: called(source), source)], None
        has_targets = isinstance(result, tuple) and len(result) in (2, 3, 4, 6) and len(result) != len(graph.inputs)
        if not wanted and has_targets:
            result = result[0]  # the targets are not looked at
        return memory.given(result, graph, wanted, columns, source), None
    files = "a .npz, .csv or .parquet file, a folder of images or of .npy files"
    hint = did_you_mean(source, BUNDLED) or f"it may be {', '.join(BUNDLED)}, {files}, or module:function"
    if Path(source).is_file() and ending in images.ENDINGS:
        hint = f"images are taken from a folder: --data {Path(source).parent}"
    raise RegspecError(Problem(f"'{source}' is no data", hint))
