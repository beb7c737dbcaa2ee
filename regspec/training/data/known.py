"""Data for a model that was trained: inputs alone, or with targets that mean what they meant in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from regspec.graph.network import Graph
from regspec.text.problems import Problem, RegspecError
from regspec.training.data.encoding import encoded
from regspec.training.data.examples import Examples
from regspec.training.data.fitting import goal_in
from regspec.training.data.lazy import Lazy, Source
from regspec.training.data.loading import examples_of, name_of, read, whole
from regspec.training.data.streams import Stream, Streamed
from regspec.training.data.targets import Target
from regspec.training.data.wanted import Columns
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
    part = whole(parts[0])
    if isinstance(part, Stream):
        return Streamed.of(part, graph, ())
    if isinstance(part, Source):
        return Lazy.of(part, graph, ()).checked()
    return examples_of(part, (), graph, name_of(source))


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
    part, name = whole(parts[-1]), name_of(source)
    if isinstance(part, Stream):
        return Streamed.of(part, graph, targets, is_training=False)
    if isinstance(part, Source):
        if not len(part):
            raise RegspecError(Problem(f"'{name}' has {plural(0, 'example', 'examples')}"))
        return Lazy.of(part, graph, targets, is_training=False).checked()
    goals = tuple(encoded(goal_in(part, each.wanted, name), names, each, name) for each in targets)
    if not len(goals[0]):
        raise RegspecError(Problem(f"'{name}' has {plural(0, 'example', 'examples')}"))
    return examples_of(part, goals, graph, name)
