"""Targets as tensors that a model's output fits: classes, or quantities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from regspec.code.shapes import text
from regspec.graph.network import Graph
from regspec.text.problems import Problem, RegspecError
from regspec.training.data.arrays import Array, Names

SHOWN = 5  # classes in a message
MANY = 100  # whole numbers up to here may well be classes


def fitted_targets(
    goals: Sequence[Array], names: Names, graph: Graph, source: str
) -> tuple[tuple[torch.Tensor, ...], Names]:
    """The targets of each part of the data, int64 classes or float32 quantities; and the names of the classes.

    Words and booleans are classes, in the order of their names; so are whole numbers, which count from 0.
    """
    shapes = {goal.shape[1:] for goal in goals}
    if len(shapes) > 1 or len({goal.dtype.kind == "U" for goal in goals}) > 1:
        each = " and ".join(f"{goal.dtype} {text((None, *goal.shape[1:]))}" for goal in goals)
        raise RegspecError(Problem(f"the targets of '{source}' are of two kinds: {each}"))
    goal = np.concatenate(goals)
    if goal.ndim == 2 and goal.shape[1] == 1 and goal.dtype.kind != "f":
        goal = goal[:, 0]  # a column of classes
    if goal.dtype.kind == "f":
        target = _quantities(goal, graph, source)
        classes = None
    else:
        if goal.ndim > 1:
            what = f"train takes one class for each example, but the target of '{source}' is {_shape(goal)}"
            raise RegspecError(Problem(what, "quantities are floating-point numbers: 3.0, and not 3"))
        if goal.dtype.kind == "U":
            found, goal = np.unique(goal, return_inverse=True)
            names = tuple(map(str, found))
        elif goal.dtype.kind == "b":
            names = ("false", "true")
        target = torch.from_numpy(goal.astype(np.int64))
        classes = _classes(target, names, graph, source)
    return torch.split(target, [len(each) for each in goals]), classes


def _shape(goal: Array) -> str:
    return text((None, *goal.shape[1:]))


def _quantities(goal: Array, graph: Graph, source: str) -> torch.Tensor:
    """Quantities that the model's output has a place for."""
    output, expected = graph.outputs[0].spec_shape, goal.shape[1:] or (1,)
    fits = len(output) == len(expected) + 1 and all(b in (None, a) for a, b in zip(expected, output[1:], strict=True))
    if not fits:
        what = f"the model gives {text(output)}, but the target of '{source}' is {_shape(goal)}: quantities"
        raise RegspecError(Problem(what, "classes are whole numbers, words or booleans"))
    largest = np.finfo(np.float32).max
    if (faulty := np.abs(goal) > largest).any():
        what = f"the target of '{source}' holds {goal[faulty][0]}, but quantities are float32, at most {largest:.3g}"
        raise RegspecError(Problem(what))
    return torch.from_numpy(goal.astype(np.float32))


def _classes(target: torch.Tensor, names: Names, graph: Graph, source: str) -> tuple[str, ...]:
    """The names of the classes, for which the model's output has a place."""
    output = graph.outputs[0].spec_shape
    seen = target.unique().tolist()
    shown = names if names is not None else tuple(map(str, seen))
    what = f"'{source}' has the classes {', '.join(shown[:SHOWN])}{', …' * (len(shown) > SHOWN)}"
    if seen[0] < 0:
        hint = "quantities are floating-point numbers: -1.0, and not -1"
        raise RegspecError(Problem(f"{what}, but they are counted from 0", hint))
    if len(output) != 2:
        raise RegspecError(Problem(f"the model gives {text(output)}, but {what}", "the output is (batch, classes)"))
    if len(seen) == 1:
        only = names[seen[0]] if names is not None else seen[0]
        raise RegspecError(Problem(f"'{source}' has one class only, {only}: there is nothing to tell apart"))
    units, count = output[1], len(names) if names is not None else seen[-1] + 1
    # with whole numbers, the last classes may not occur in these data
    fits = units is None or units == count or (units == 1 and count == 2) or (names is None and units > count > 1)
    if not fits:
        if names is None and count > MANY:
            hint = f"if they are quantities, write them as floating-point numbers: {seen[-1]}.0"
        else:
            hint = f"the last layer needs {count} units" if seen[0] == 0 or names else "classes are counted from 0"
        raise RegspecError(Problem(f"the model gives {text(output)}, but {what}", hint))
    return names or tuple(map(str, range(max(units or 0, count))))
