"""Examples that are read when a batch takes them: what their targets are is told by all of them or by a sample.

Each batch is checked as it comes, because nobody has seen all of them before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from regspec.graph.network import Graph
from regspec.targets.torch.program import program_of
from regspec.training.data.arrays import Arrays
from regspec.training.data.encoding import encoded
from regspec.training.data.examples import Data, weights_last
from regspec.training.data.fitting import Bounds, fitted_inputs, goal_in, index_bounds
from regspec.training.data.targets import Target, fitted_target
from regspec.training.data.wanted import Array, Names, Wanted

SAMPLE = 1000  # examples by whose targets it is told what these are
Division = Callable[[Sequence[Tensor]], list[Tensor]]  # by the targets: the rows to train on, and those held out


@runtime_checkable
class Source(Protocol):
    """What gives examples by their rows."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def names(self) -> Names:
        """Those of the classes, where it has some."""
        ...

    def __len__(self) -> int: ...

    def part(self, rows: Sequence[int], graph: Graph, wanted: Sequence[Wanted]) -> Arrays:
        """These examples, as finite numbers or words."""
        ...

    def known(self, graph: Graph, wanted: Sequence[Wanted]) -> Mapping[str, Array] | None:
        """All targets, by the outputs' names, where they are at hand without the inputs."""
        ...

    def place(self, row: int) -> str:
        """What an example is called there, for people: ``item 17``, ``row 18``, ``cats/7.png``."""
        ...

    @property
    def chunk(self) -> int:
        """How many examples are checked at a time before training; 0 where each batch is checked as it comes only."""
        ...


@dataclass(frozen=True)
class Lazy:
    """Examples of a source, read, checked and fitted to the model when a batch takes them.

    Args:
        source: where they are.
        rows: which of them.
        graph: the model's.
        goals: what each output learns.
        bounds: the indices that the inputs may hold.
        is_training: whether they are trained on, or held out; if not, what is new in them was not there in training.
    """

    source: Source
    rows: Tensor
    graph: Graph
    goals: Sequence[Target]
    bounds: Sequence[Bounds | None] = field(repr=False)
    is_training: bool = True

    @classmethod
    def of(
        cls,
        source: Source,
        graph: Graph,
        goals: Sequence[Target],
        rows: Tensor | None = None,
        *,
        is_training: bool = True,
    ) -> Lazy:
        """The examples of these rows, or of all."""
        rows = torch.arange(len(source)) if rows is None else rows
        return cls(source, rows, graph, goals, index_bounds(program_of(graph)), is_training)

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, rows: Tensor) -> Lazy:
        """The examples of these rows."""
        return replace(self, rows=self.rows[rows])

    @property
    def input_count(self) -> int:
        return len(self.graph.inputs)

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        own = self.rows[torch.as_tensor(rows, dtype=torch.int64)].tolist()
        part = self.source.part(own, self.graph, [each.wanted for each in self.goals])
        inputs = fitted_inputs(part.inputs, self.graph, self.source.name, self.bounds, own)
        return *inputs, *self._encoded(part, own), *weights_last(part.weights)

    def name(self, row: int) -> str:
        """What the source calls it."""
        return self.source.place(int(self.rows[row]))

    def _encoded(self, part: Arrays, rows: Sequence[int]) -> Iterator[Tensor]:
        for each in self.goals:
            goal = goal_in(part, each.wanted, self.source.name)
            yield encoded(goal, self.source.names, each, self.source.name, rows if self.is_training else None)

    @cached_property
    def targets(self) -> tuple[Tensor, ...]:
        """Those of all examples, which are gone through for them where they are not at hand."""
        wanted, rows = [each.wanted for each in self.goals], self.rows.tolist()
        known = self.source.known(self.graph, wanted)
        if known is not None:
            part = Arrays({}, {name: goal[self.rows.numpy()] for name, goal in known.items()})
            return tuple(self._encoded(part, rows))
        found = [
            tuple(self._encoded(self.source.part(chunk, self.graph, wanted), chunk))
            for chunk in (rows[start : start + SAMPLE] for start in range(0, len(rows), SAMPLE))
        ]
        return tuple(map(torch.cat, zip(*found, strict=True)))

    def checked(self) -> Lazy:
        """Itself, after a source of numbers was looked through. Raises `RegspecError` for what does not fit."""
        size = self.source.chunk
        for start in range(0, len(self), size) if size else ():
            self[range(start, min(len(self), start + size))]  # which checks, and is forgotten
        return self


def data_of(parts: Sequence[Source], graph: Graph, wanted: Sequence[Wanted], divided: Division) -> Data:
    """The data of a source that is divided, or of one to train on and another that is held out.

    What the targets are is told by all of them where they are at hand, and else by a sample of those to train on.

    Raises:
        RegspecError: where the first examples do not fit the model, or a source of numbers does not anywhere.
    """
    first = parts[0]
    known = first.known(graph, wanted)
    rows = [torch.arange(len(each)) for each in parts]
    if known is None:
        if len(parts) == 1:
            rows = divided([torch.zeros(len(first))])
        count = len(rows[0])
        sample = rows[0][torch.linspace(0, count - 1, min(count, SAMPLE)).long()].tolist()
        part = first.part(sample, graph, wanted)
        fitted_inputs(part.inputs, graph, first.name, rows=sample)  # before the targets, whose faults are longer
        goals = {each.name: goal_in(part, each, first.name) for each in wanted}
        is_whole = len(sample) == count
    else:
        goals, is_whole = dict(known), True
    fitted = [fitted_target([goals[each.name]], first.names, each, first.name, is_whole=is_whole) for each in wanted]
    if known is not None and len(parts) == 1:
        rows = divided([tensor for (tensor,), _ in fitted])
    targets = tuple(target.scaled(tensor if known is None else tensor[rows[0]]) for (tensor,), target in fitted)
    for each in parts:
        Lazy.of(each, graph, targets).checked()  # in the order of a file, which reads no place twice
    train, held_out = (
        Lazy.of(each, graph, targets, own) for each, own in zip((parts[0], parts[-1]), rows, strict=True)
    )
    is_weighted = first.part([0], graph, wanted).weights is not None
    return Data(train, held_out, targets, is_weighted=is_weighted)
