"""Data for a model that was trained: inputs alone, or with targets that mean what they meant in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regspec.code.shapes import text
from regspec.graph.network import Graph
from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.data.examples import Examples
from regspec.training.data.loading import examples_of, goal_in, name_of, read
from regspec.training.data.targets import SHOWN, Target, check_range, fits, is_binary, quantities_of, shape_of
from regspec.training.data.wanted import Array, Columns, Names
from regspec.views.summary import plural


def load_inputs(source: Any, graph: Graph, columns: Columns | None = None) -> Examples:
    """The inputs of a source as `load_data` takes it, without targets; those that it has are not looked at.

    Args:
        source: the data.
        graph: the model's.
        columns: which columns of a table the model was trained with; all, in their order, where none are known.

    Raises:
        RegspecError: where the source can't be read, or does not fit the model.
    """
    parts, _ = read(source, graph, (), columns)
    return examples_of(parts[0], (), graph, name_of(source))


def load_known(source: Any, graph: Graph, targets: Sequence[Target], columns: Columns | None = None) -> Examples:
    """The examples of a source with their targets; those held out, where the source says itself which are.

    Args:
        source: the data, as `load_data` takes it.
        graph: the model's.
        targets: what each output has learned.
        columns: which columns of a table are what.

    Raises:
        RegspecError: where the source can't be read, does not fit the model, or has a class that training did not.
    """
    parts, names = read(source, graph, [each.wanted for each in targets], columns)
    part, name = parts[-1], name_of(source)
    goals = tuple(encoded(goal_in(part, each.wanted, name), names, each, name) for each in targets)
    if not len(goals[0]):
        raise RegspecError(Problem(f"'{name}' has {plural(0, 'example', 'examples')}"))
    return examples_of(part, goals, graph, name)


def encoded(goal: Array, names: Names, target: Target, source: str) -> Tensor:
    """A target as the numbers that it had in training: int64 classes, or float32.

    Args:
        goal: the target.
        names: those of its classes, where the source has them.
        target: what the output has learned.
        source: of the data, for messages.

    Raises:
        RegspecError: where it is of another kind, or has a class that training did not have.
    """
    wanted = target.wanted
    if target.kind == "classes":
        return _classes(goal, names, target, source)
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


def _classes(goal: Array, names: Names, target: Target, source: str) -> Tensor:
    wanted, known = target.wanted, {name: number for number, name in enumerate(target.classes or ())}
    if goal.ndim == 2 and goal.shape[1] == 1 and not wanted.places:
        goal = goal[:, 0]  # a column of classes
    if goal.dtype.kind == "f":
        raise RegspecError(Problem(f"'{source}' has quantities for '{target.name}', which has learned classes"))
    if not fits(goal.shape[1:], wanted.places):
        what = f"the model gives {text(wanted.x.spec_shape)}, but the target of '{source}' is {shape_of(goal)}"
        raise RegspecError(Problem(what))
    found, places = np.unique(goal, return_inverse=True)
    numbers = [_number(each, known, names, target, source) for each in found.tolist()]
    return torch.from_numpy(np.array(numbers, dtype=np.int64)[places].reshape(goal.shape))


def _number(value: Any, known: Mapping[str, int], names: Names, target: Target, source: str) -> int:
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
        shown = f"{', '.join([*known][:SHOWN])}{', …' * (len(known) > SHOWN)}"
        what = f"'{source}' has the class '{name}' for '{target.name}', which was not there in training"
        raise RegspecError(Problem(what, did_you_mean(name, known) or f"it knows {shown}"))
    return known[name]
