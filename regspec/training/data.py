"""Data to train on: scikit-learn's bundled sets by name, NumPy and CSV files, or a function of the user's."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regspec.blocks import Graph
from regspec.errors import Problem, RegspecError, did_you_mean
from regspec.shapes import text
from regspec.spec.registration import called

Array = NDArray[Any]
Arrays = dict[str, Array]  # by input

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
HELD_OUT = 0.2


@dataclass(frozen=True)
class Data:
    """Tensors to train on and tensors held out: the inputs in the model's order, and the target."""

    inputs: tuple[Tensor, ...]
    target: Tensor
    held_out_inputs: tuple[Tensor, ...]
    held_out_target: Tensor

    @property
    def is_classification(self) -> bool:
        """Whether the target is a class, a whole number, and not a quantity."""
        return not self.target.is_floating_point()


def load(source: str, graph: Graph, *, target: str | None = None, seed: int = 0) -> Data:
    """The data of a source, for a model's inputs; a fifth is held out unless the source says otherwise.

    ``source`` is a bundled set's name, the path of an ``.npz`` or ``.csv`` file, or ``package.module:function``.

    Raises:
        RegspecError: where the source can't be read, or does not fit the model.
    """
    if source in BUNDLED:
        arrays = _bundled(source)
    elif source.endswith(".npz"):
        arrays = _npz(source, graph, target)
    elif source.endswith(".csv"):
        arrays = _csv(source, target)
    elif ":" in source:
        arrays = _called(source)
    else:
        hint = (
            did_you_mean(source, BUNDLED) or f"it may be {', '.join(BUNDLED)}, a .npz or .csv file, or module:function"
        )
        raise RegspecError(Problem(f"'{source}' is no data to train on", hint))
    inputs, goal, *held_out = arrays
    if held_out:
        parts = (_arrays(inputs, goal, graph, source), _arrays(held_out[0], held_out[1], graph, source))
    else:
        parts = _split(*_arrays(inputs, goal, graph, source), seed)
    data = Data(*_tensors(*parts[0], graph, source), *_tensors(*parts[1], graph, source))
    _check_target(data, graph, source)
    return data


def _bundled(name: str) -> tuple[Any, ...]:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    # the digits' pixels go from 0 to 16
    return (bunch.data / 16 if name == "digits" else bunch.data), bunch.target


def _npz(path: str, graph: Graph, target: str | None) -> tuple[Any, ...]:
    """Arrays of a file: the inputs by their names (or x where there is one), and y or ``target``."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RegspecError(Problem(f"can't be read: {error}", path=path)) from None
    names = [x.source for x in graph.inputs]
    goal = target or "y"
    if len(names) == 1 and names[0] not in arrays and "x" in arrays:
        arrays[names[0]] = arrays["x"]
    missing = [name for name in (*names, goal) if name not in arrays]
    if missing:
        has = ", ".join(sorted(arrays)) or "nothing"
        raise RegspecError(Problem(f"has no array '{missing[0]}'", f"it has {has}", path=path))
    return {name: arrays[name] for name in names}, arrays[goal]


def _csv(path: str, target: str | None) -> tuple[Any, ...]:
    """Columns of a file with a header: numbers, and the target, by name or the last one; words are classes."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # spreadsheets put a mark before
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror}", path=path)) from None
    except UnicodeDecodeError:
        raise RegspecError(Problem("is not UTF-8", path=path)) from None
    delimiter = next((mark for mark in ";\t" if mark in text.partition("\n")[0]), ",")
    try:
        lines = [
            (number, row) for number, row in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), 1) if row
        ]
    except csv.Error as error:
        raise RegspecError(Problem(f"can't be read: {error}", path=path)) from None
    if len(lines) < 2 or all(map(_is_number, lines[0][1])):
        raise RegspecError(Problem("needs a first line with the columns' names, and rows below it", path=path))
    (_, header), *examples = lines
    goal = target or header[-1]
    if goal not in header:
        raise RegspecError(Problem(f"has no column '{goal}'", did_you_mean(goal, header), path=path))
    place = header.index(goal)
    features = []
    for number, row in examples:
        if len(row) != len(header):
            raise RegspecError(Problem(f"line {number} has {len(row)} values, but the header {len(header)}", path=path))
        try:
            features.append([float(value) for index, value in enumerate(row) if index != place])
        except ValueError as error:
            raise RegspecError(Problem(f"line {number}: {error}", path=path)) from None
    return np.array(features), _target_column([row[place] for _, row in examples])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _target_column(values: list[str]) -> Any:
    """A column as whole numbers, as numbers, or else as classes in the order of their names."""
    for kind in (int, float):
        try:
            return np.array([kind(value) for value in values])
        except ValueError:
            continue
    classes = sorted(set(values))
    return np.array([classes.index(value) for value in values])


def _arrays(inputs: Any, target: Any, graph: Graph, source: str) -> tuple[Arrays, Array]:
    """The inputs by name, and the target, as finite numbers, one row for each example."""
    names = [x.source for x in graph.inputs]
    if not isinstance(inputs, Mapping):
        given = inputs if len(names) > 1 and isinstance(inputs, (tuple, list)) else [inputs]
        inputs = dict(zip(names, given, strict=False))
    missing = [name for name in names if name not in inputs]
    if missing:
        raise RegspecError(Problem(f"'{source}' gives no input '{missing[0]}'", f"it gives {', '.join(inputs)}"))
    arrays = {name: _numbers(inputs[name], f"the numbers for '{name}'", source) for name in names}
    goal = _numbers(target, "the numbers of the target", source)
    counts = [len(each) for each in (*arrays.values(), goal)]
    if len(set(counts)) > 1:
        raise RegspecError(Problem(f"'{source}' gives unequal numbers of examples: {', '.join(map(str, counts))}"))
    if goal.dtype.kind in "iub" and goal.ndim == 2 and goal.shape[1] == 1:
        goal = goal[:, 0]  # a column of classes
    return arrays, goal


def _numbers(value: Any, what: str, source: str) -> Array:
    """A value as an array of finite numbers, in the machine's order of bytes."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise RegspecError(Problem(f"{what} of '{source}' are no array: {error}")) from None
    if array.dtype.kind not in "biuf":
        raise RegspecError(Problem(f"{what} of '{source}' are no numbers"))
    if array.ndim == 0:
        raise RegspecError(Problem(f"{what} of '{source}' are one number, and not one for each example"))
    if not np.isfinite(array).all():
        raise RegspecError(Problem(f"{what} of '{source}' are not finite everywhere"))
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _called(source: str) -> tuple[Any, ...]:
    """What a function gives: (inputs, target), or with (held-out inputs, held-out target) after them."""
    result = called(source)
    if not isinstance(result, tuple) or len(result) not in (2, 4):
        raise RegspecError(
            Problem(f"'{source}' must give (inputs, target), with or without a held-out pair after them")
        )
    return result


def _split(arrays: Arrays, target: Array, seed: int) -> tuple[tuple[Arrays, Array], tuple[Arrays, Array]]:
    """A fifth held out; of classes, the same share of each."""
    from sklearn.model_selection import train_test_split

    if len(target) < 2:
        raise RegspecError(Problem(f"{len(target)} example(s) are too few to hold some out"))
    is_classes = target.dtype.kind in "iub" and target.ndim == 1
    counts = np.unique(target, return_counts=True)[1] if is_classes else np.array([1])
    stratify = target if counts.min() > 1 and len(counts) <= HELD_OUT * len(target) else None
    train, held_out = train_test_split(np.arange(len(target)), test_size=HELD_OUT, random_state=seed, stratify=stratify)
    first, second = (
        ({name: array[rows] for name, array in arrays.items()}, target[rows]) for rows in (train, held_out)
    )
    return first, second


def _tensors(arrays: Arrays, target: Array, graph: Graph, source: str) -> tuple[tuple[Tensor, ...], Tensor]:
    """The inputs as the model takes them, and the target. An input whose numbers fit is reshaped."""
    tensors = []
    for x in graph.inputs:
        array = torch.as_tensor(arrays[x.source]).to(getattr(torch, x.dtype))
        wanted = tuple(-1 if size is None else size for size in x.logical[1:])
        fits = array.ndim == x.rank and all(b in (-1, a) for a, b in zip(array.shape[1:], wanted, strict=True))
        if not fits:
            try:
                array = array.reshape(len(array), *wanted)
            except RuntimeError:
                given = text((None, *array.shape[1:]))
                what = f"'{source}' gives {given} for '{x.source}', but the spec takes {text(x.logical)}"
                raise RegspecError(Problem(what)) from None
        tensors.append(array)
    goal = torch.as_tensor(target)
    return tuple(tensors), goal.float() if goal.is_floating_point() else goal.long()


def _check_target(data: Data, graph: Graph, source: str) -> None:
    """Raises where the model's output does not fit the target."""
    if len(graph.outputs) != 1:
        names = ", ".join(graph.output_names or (x.source for x in graph.outputs))
        raise RegspecError(Problem(f"train takes a model with one output, but this has {names}"))
    if graph.output_names is not None:
        what = f"train takes a model that gives a tensor, but this gives a mapping with '{graph.output_names[0]}'"
        raise RegspecError(Problem(what, f"write 'outputs: {graph.outputs[0].source}'"))
    output = graph.outputs[0].logical
    if not data.is_classification:
        expected = data.target.shape[1:] or (1,)
        if tuple(output[1:]) != tuple(expected):
            given = text((None, *data.target.shape[1:]))
            raise RegspecError(Problem(f"the model gives {text(output)}, but the target of '{source}' is {given}"))
        return
    if data.target.ndim > 1:
        given = text((None, *data.target.shape[1:]))
        raise RegspecError(Problem(f"train takes one class for each example, but the target of '{source}' is {given}"))
    seen = torch.cat([data.target, data.held_out_target]).unique()
    what = f"'{source}' has the classes {', '.join(str(int(each)) for each in seen[:5])}{', …' * (len(seen) > 5)}"
    if seen[0] < 0:
        raise RegspecError(Problem(f"{what}, but they are counted from 0", "quantities are floating-point numbers"))
    if len(output) != 2:
        raise RegspecError(Problem(f"the model gives {text(output)}, but {what}", "the output is (batch, classes)"))
    classes = int(seen[-1]) + 1
    if output[1] != classes and not (output[1] == 1 and classes == 2):
        hint = f"the last layer needs {classes} units" if seen[0] == 0 else "classes are counted from 0"
        raise RegspecError(Problem(f"the model gives {text(output)}, but {what}", hint))
