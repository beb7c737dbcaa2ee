"""Data to train on: scikit-learn's bundled sets by name, NumPy and CSV files, or a function of the user's."""

from __future__ import annotations

import csv
import importlib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regspec.errors import Problem, RegspecError, did_you_mean
from regspec.graph import Graph
from regspec.shapes import text

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
    if not held_out:
        inputs, goal, *held_out = _split(inputs, goal, seed)
    data = Data(*_tensors(inputs, goal, graph, source), *_tensors(held_out[0], held_out[1], graph, source))
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
        with Path(path).open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RegspecError(Problem(f"can't be read: {error}", path=path)) from None
    except ValueError:
        raise RegspecError(Problem("is empty, but needs a header and rows", path=path)) from None
    goal = target or header[-1]
    if goal not in header:
        raise RegspecError(Problem(f"has no column '{goal}'", did_you_mean(goal, header), path=path))
    place = header.index(goal)
    features = []
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise RegspecError(Problem(f"line {number} has {len(row)} values, but the header {len(header)}", path=path))
        try:
            features.append([float(value) for index, value in enumerate(row) if index != place])
        except ValueError as error:
            raise RegspecError(Problem(f"line {number}: {error}", path=path)) from None
    return np.array(features), _target_column([row[place] for row in rows])


def _target_column(values: list[str]) -> Any:
    """A column as whole numbers, as numbers, or else as classes in the order of their names."""
    for kind in (int, float):
        try:
            return np.array([kind(value) for value in values])
        except ValueError:
            continue
    classes = sorted(set(values))
    return np.array([classes.index(value) for value in values])


def _number_tensor(array: Any, what: str, source: str) -> Tensor:
    """An array as a tensor of finite numbers."""
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
        raise RegspecError(Problem(f"{what} of '{source}' are no numbers"))
    if array.ndim == 0:
        raise RegspecError(Problem(f"{what} of '{source}' are one number, and not one for each example"))
    if not np.isfinite(array).all():
        raise RegspecError(Problem(f"{what} of '{source}' are not finite everywhere"))
    return torch.as_tensor(array)


def _called(source: str) -> tuple[Any, ...]:
    """What a function gives: (inputs, target), or with (held-out inputs, held-out target) after them."""
    module, _, name = source.partition(":")
    try:
        function: Callable[[], Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RegspecError(Problem(f"'{source}' can't be imported: {error}")) from None
    result = function()
    if not isinstance(result, tuple) or len(result) not in (2, 4):
        raise RegspecError(
            Problem(f"'{source}' must give (inputs, target), with or without a held-out pair after them")
        )
    return result


def _split(inputs: Any, target: Any, seed: int) -> tuple[Any, ...]:
    """A fifth held out; of classes, the same share of each."""
    from sklearn.model_selection import train_test_split

    target = np.asarray(target)
    names = list(inputs) if isinstance(inputs, Mapping) else [""]
    arrays = [np.asarray(inputs[name]) if isinstance(inputs, Mapping) else np.asarray(inputs) for name in names]
    counts = (
        np.unique(target, return_counts=True)[1] if target.dtype.kind in "iub" and target.ndim == 1 else np.array([1])
    )
    stratify = target if counts.min() > 1 and len(counts) <= HELD_OUT * len(target) else None
    try:
        parts = train_test_split(*arrays, target, test_size=HELD_OUT, random_state=seed, stratify=stratify)
    except (TypeError, ValueError) as error:
        raise RegspecError(Problem(f"the data can't be split: {error}")) from None
    train, held_out = parts[0::2], parts[1::2]
    if isinstance(inputs, Mapping):
        return dict(zip(names, train, strict=False)), train[-1], dict(zip(names, held_out, strict=False)), held_out[-1]
    return train[0], train[-1], held_out[0], held_out[-1]


def _tensors(inputs: Any, target: Any, graph: Graph, source: str) -> tuple[tuple[Tensor, ...], Tensor]:
    """The inputs as the model takes them, and the target. An input whose numbers fit is reshaped."""
    by_name = inputs if isinstance(inputs, Mapping) else {graph.inputs[0].source: inputs}
    tensors = []
    for x in graph.inputs:
        if x.source not in by_name:
            raise RegspecError(Problem(f"'{source}' gives no input '{x.source}'", f"it gives {', '.join(by_name)}"))
        array = _number_tensor(by_name[x.source], f"the numbers for '{x.source}'", source).to(getattr(torch, x.dtype))
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
    goal = _number_tensor(target, "the numbers of the target", source)
    if len({len(each) for each in (*tensors, goal)}) > 1:
        counts = ", ".join(str(len(each)) for each in (*tensors, goal))
        raise RegspecError(Problem(f"'{source}' gives unequal numbers of examples: {counts}"))
    return tuple(tensors), goal.long() if not goal.is_floating_point() else goal.float()


def _check_target(data: Data, graph: Graph, source: str) -> None:
    """Raises where the model's output does not fit the target."""
    if len(graph.outputs) != 1:
        names = ", ".join(graph.output_names or (x.source for x in graph.outputs))
        raise RegspecError(Problem(f"train takes a model with one output, but this has {names}"))
    output = graph.outputs[0].logical
    if not data.is_classification:
        expected = data.target.shape[1:] or (1,)
        if tuple(output[1:]) != tuple(expected):
            given = text((None, *data.target.shape[1:]))
            raise RegspecError(Problem(f"the model gives {text(output)}, but the target of '{source}' is {given}"))
        return
    classes = int(max(data.target.max(), data.held_out_target.max())) + 1
    if min(data.target.min(), data.held_out_target.min()) < 0:
        raise RegspecError(Problem(f"the target of '{source}' has classes below 0"))
    if len(output) != 2 or output[1] is None or (output[1] < classes and not (output[1] == 1 and classes == 2)):
        what = f"the model gives {text(output)}, but the target of '{source}' has {classes} classes"
        raise RegspecError(Problem(what, f"the last layer needs {classes} units"))
