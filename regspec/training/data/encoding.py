"""Targets of other data as the numbers that they had in training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regspec.code.shapes import text
from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.data.targets import SHOWN, Target, check_range, fits, is_binary, quantities_of, shape_of
from regspec.training.data.wanted import Array, Names


def encoded(goal: Array, names: Names, target: Target, source: str, rows: Sequence[int] | None = None) -> Tensor:
    """A target as the numbers that it had in training: int64 classes, or float32.

    Args:
        goal: the target.
        names: those of its classes, where the source has them.
        target: what the output has learned.
        source: of the data, for messages.
        rows: the numbers of the examples, where these are a batch of the training.

    Raises:
        RegspecError: where it is of another kind, or has a class that training did not have.
    """
    wanted = target.wanted
    if target.kind == "classes":
        return _classes(goal, names, target, source, rows)
    if goal.dtype.kind == "U":
        raise RegspecError(Problem(f"'{source}' has '{goal.flat[0]}' for '{target.name}', which has {target.kind}"))
    if target.kind == "labels":
        output = wanted.x.spec_shape[1:]
        if not (fits(goal.shape[1:], output) or (goal.ndim == 1 and fits((1,), output))) or not is_binary(goal):
            what = f"'{source}' has {shape_of(goal)} for '{target.name}'"
            raise RegspecError(Problem(what, f"it has learned labels, 0 or 1, {text(wanted.x.spec_shape)}"))
        return torch.from_numpy(goal.astype(np.float32))
    numbers = quantities_of(goal, wanted, source)
    check_range(numbers, target.loss, target.kind, wanted, source)
    return numbers


def _classes(goal: Array, names: Names, target: Target, source: str, rows: Sequence[int] | None) -> Tensor:
    wanted, known = target.wanted, {name: number for number, name in enumerate(target.classes or ())}
    if goal.ndim == 2 and goal.shape[1] == 1 and not wanted.places:
        goal = goal[:, 0]  # a column of classes
    if goal.dtype.kind == "f":
        raise RegspecError(Problem(f"'{source}' has quantities for '{target.name}', which has learned classes"))
    if not fits(goal.shape[1:], wanted.places):
        what = f"the model gives {text(wanted.x.spec_shape)}, but the target of '{source}' is {shape_of(goal)}"
        raise RegspecError(Problem(what))
    if goal.dtype.kind == "i" and (names or (*map(str, range(len(known))),)) == target.classes:
        return _counted(goal, target, source, rows)
    found, first, places = np.unique(goal, return_index=True, return_inverse=True)
    numbers = [
        _number(each, known, names, target, source, _example(place, goal, rows))
        for each, place in zip(found.tolist(), first.tolist(), strict=True)
    ]
    return torch.from_numpy(np.array(numbers, dtype=np.int64)[places].reshape(goal.shape))


def _counted(goal: Array, target: Target, source: str, rows: Sequence[int] | None) -> Tensor:
    """Classes that have the numbers of training already, which large targets need not be sorted for."""
    ignored, names = target.wanted.said.ignore_index, target.classes or ()
    faulty = (goal < 0) | (goal >= len(names))
    if ignored is not None:
        faulty &= goal != ignored
    if faulty.any():
        place = int(np.argmax(faulty))
        raise RegspecError(_unknown(str(goal.flat[place]), names, target, source, _example(place, goal, rows)))
    return torch.from_numpy(goal.astype(np.int64))


def _example(place: int, goal: Array, rows: Sequence[int] | None) -> int | None:
    """The number of the example that a place of a batch's targets is in."""
    return None if rows is None else rows[place // max(1, math.prod(goal.shape[1:]))]


def _number(
    value: Any, known: Mapping[str, int], names: Names, target: Target, source: str, example: int | None
) -> int:
    """The number in training of a class: it is that of its name."""
    if isinstance(value, bool):
        name = str(value).lower()
    elif isinstance(value, int):
        if value == target.wanted.said.ignore_index:
            return value
        name = names[value] if names is not None and 0 <= value < len(names) else str(value)
    else:
        name = value
    if name not in known:
        raise RegspecError(_unknown(name, [*known], target, source, example))
    return known[name]


def _unknown(name: str, known: Sequence[str], target: Target, source: str, example: int | None) -> Problem:
    """What is wrong with a class that is none of those known; with the example's number where it is trained on."""
    shown = f"{', '.join([*known][:SHOWN])}{', …' * (len(known) > SHOWN)}"
    what = f"'{source}' has the class '{name}' for '{target.name}'"
    if example is None:
        return Problem(f"{what}, which was not there in training", did_you_mean(name, known) or f"it knows {shown}")
    return Problem(f"{what} in example {example}, counted from 0, but the classes are {shown}")
