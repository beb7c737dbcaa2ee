"""Data that come in batches, one after the other: a `DataLoader`, an `IterableDataset`, or a function that gives these.

An epoch is one pass. Nobody can ask for an example by its number: what needs all of them is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from regspec.graph.network import Graph
from regspec.language.registration import code_of_the_user
from regspec.targets.torch.program import program_of
from regspec.text.problems import Problem, RegspecError
from regspec.training.data.arrays import Arrays, place_of
from regspec.training.data.datasets import Columned, Items, batch_of, dataset_in
from regspec.training.data.encoding import encoded
from regspec.training.data.examples import Data, weights_last
from regspec.training.data.fitting import Bounds, fitted_inputs, goal_in, index_bounds
from regspec.training.data.lazy import SAMPLE, Lazy, Source
from regspec.training.data.targets import Target, fitted_target
from regspec.training.data.wanted import Names, Wanted


@dataclass(frozen=True, eq=False)
class Stream:
    """What gives batches in passes.

    Args:
        passes: gives the batches of a pass, anew each time; of this size, where it gives items.
        name: what messages call it.
        names: those of the classes, where it has some.
        sizes: how many examples each batch has, where that is known without a pass.
        size: how many items are put together in a batch.
    """

    passes: Callable[[int], Iterable[Any]]
    name: str
    names: Names = None
    sizes: tuple[int, ...] | None = None
    size: int = 64

    def parts(self, graph: Graph, wanted: Sequence[Wanted]) -> Iterator[tuple[range, Arrays]]:
        """The batches of a pass, each with the numbers of its examples."""
        start, is_at_end = 0, object()
        with code_of_the_user(f"'{self.name}' does not give its batches"):
            batches = iter(self.passes(self.size))
        while True:
            with code_of_the_user(f"'{self.name}' does not give its batches"):
                batch = next(batches, is_at_end)
            if batch is is_at_end:
                break
            rows = _Numbers(start)
            part = batch_of(batch, graph, self.name, wanted, rows)
            numbers = range(start, start + len(next(iter(part.inputs.values()))))
            yield numbers, part
            start = numbers.stop
        if not start:
            what = f"'{self.name}' gives no batch"
            raise RegspecError(Problem(what, "an epoch is one pass: a function gives an iterator anew for each"))


class _Numbers(Sequence[int]):
    """The numbers of the examples from one on, of a batch whose size is not known yet."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __len__(self) -> int:
        raise TypeError("the size is not known")

    def __getitem__(self, row: Any) -> Any:
        return self.start + row


@dataclass(frozen=True)
class Streamed:
    """The batches of a stream, checked and fitted to the model as they come. The first examples may be asked for.

    Args:
        stream: where they come from.
        sizes: how many examples each batch has.
        graph: the model's.
        goals: what each output learns.
        bounds: the indices that the inputs may hold.
        is_training: whether they are trained on, or held out.
    """

    stream: Stream
    sizes: tuple[int, ...]
    graph: Graph
    goals: Sequence[Target]
    bounds: Sequence[Bounds | None] = field(repr=False)
    is_training: bool = True

    @classmethod
    def of(cls, stream: Stream, graph: Graph, goals: Sequence[Target], *, is_training: bool = True) -> Streamed:
        """A stream's batches, which are counted in a pass where their number is not known."""
        wanted, sizes = [each.wanted for each in goals], stream.sizes
        if sizes is None:
            sizes = tuple(len(numbers) for numbers, _ in stream.parts(graph, wanted))
        return cls(stream, sizes, graph, goals, index_bounds(program_of(graph)), is_training)

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def input_count(self) -> int:
        return len(self.graph.inputs)

    def name(self, row: int) -> str:
        """The number of the example in a pass."""
        return place_of(row)

    @property
    def targets(self) -> tuple[Tensor, ...]:
        """None is known before a pass. Raises `RegspecError`."""
        what = f"class_weights need all targets, which '{self.stream.name}' gives batch by batch only"
        raise RegspecError(Problem(what, "a torch Dataset with a length has them"))

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        name = self.stream.name
        for rows, part in self.stream.parts(self.graph, [each.wanted for each in self.goals]):
            inputs = fitted_inputs(part.inputs, self.graph, name, self.bounds, rows)
            told = rows if self.is_training else None
            goals = (
                encoded(goal_in(part, each.wanted, name), self.stream.names, each, name, told) for each in self.goals
            )
            yield *inputs, *goals, *weights_last(part.weights)

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        found, count = list[tuple[Tensor, ...]](), 0
        for batch in self:
            found.append(batch)
            count += len(batch[0])
            if count > max(rows):
                break
        return tuple(torch.cat(each)[torch.as_tensor(rows)] for each in zip(*found, strict=True))


def data_of(parts: Sequence[Stream | Source], graph: Graph, wanted: Sequence[Wanted]) -> Data:
    """The data of a stream to train on, and of what is held out. What the targets are is told by the first batches.

    Raises:
        RegspecError: where nothing is held out, or the first batches do not fit the model.
    """
    first = parts[0]
    if not isinstance(first, Stream):
        what = f"'{first.name}' has a length, but what is held out has none"
        raise RegspecError(Problem(what, "hold out what has a length, too, or train on a DataLoader of it"))
    if len(parts) < 2:
        what = f"'{first.name}' gives batch after batch, of which none can be held out"
        raise RegspecError(Problem(what, "give what is held out after it, or --validation"))
    seen = [part for _, part in _first(first, graph, wanted)]
    for part in seen[:1]:
        fitted_inputs(part.inputs, graph, first.name)  # before the targets, whose faults are longer
    targets = []
    for each in wanted:
        goal = np.concatenate([goal_in(part, each, first.name) for part in seen])
        (tensor,), target = fitted_target([goal], first.names, each, first.name, is_whole=False)
        targets.append(target.scaled(tensor))
    other = parts[1]
    held_out = Streamed.of(other, graph, targets) if isinstance(other, Stream) else Lazy.of(other, graph, targets)
    if isinstance(held_out, Lazy):
        held_out.checked()
    is_weighted = any(part.weights is not None for part in seen)
    return Data(Streamed.of(first, graph, targets), held_out, tuple(targets), is_weighted=is_weighted)


def _first(stream: Stream, graph: Graph, wanted: Sequence[Wanted]) -> Iterator[tuple[range, Arrays]]:
    """Batches, until it may be told by them what the targets are."""
    for numbers, part in stream.parts(graph, wanted):
        yield numbers, part
        if numbers.stop >= SAMPLE:
            return


MOST = 4  # in one tuple: inputs and targets, and those held out
Batched = Stream | Items | Columned


def batched_in(data: Any, name: str) -> Sequence[Batched]:
    """The datasets and streams that data are: one, or one to train on and another that is held out; none in others.

    Raises:
        RegspecError: for one beside something else.
    """
    given = data if isinstance(data, (tuple, list)) and len(data) <= MOST else [data]
    found = [_stream(each, name) or dataset_in(each, name) for each in given]
    known = [each for each in found if each is not None]
    if not known or len(known) == len(found) <= 2:
        return known
    other = next((each for each, own in zip(given, found, strict=True) if own is None), None)
    has = f"{len(found)}" if other is None else f"a {type(other).__name__} beside"
    raise RegspecError(Problem(f"'{name}' has {has} datasets or loaders", "one, or that and one that is held out"))


def _stream(data: Any, name: str) -> Stream | None:
    """The stream that data are: a loader, whose batches are taken as they are, items, or a function; None for others.

    Raises:
        RegspecError: for an iterator, of which there is one pass only.
    """
    if isinstance(data, DataLoader):
        return Stream(lambda size: data, name, Items(data.dataset, name).names, _sizes(data))
    if isinstance(data, IterableDataset):
        return Stream(lambda size: DataLoader(data, batch_size=size), name, Items(data, name).names)
    if isinstance(data, Iterator):
        what = f"'{name}' is a {type(data).__name__}, of which there is one pass only"
        raise RegspecError(Problem(what, "give the function that makes it, which is called anew for each epoch"))
    is_function = callable(data) and not hasattr(data, "__len__") and not hasattr(data, "__array__")
    return Stream(lambda size: data(), name) if is_function else None


def _sizes(loader: DataLoader[Any]) -> tuple[int, ...] | None:
    """How many examples each batch of a loader has, where it says so."""
    size = loader.batch_size
    if isinstance(loader.dataset, IterableDataset) or size is None or not isinstance(loader.sampler, Sized):
        return None
    whole, rest = divmod(len(loader.sampler), size)
    return (*(size,) * whole, *([rest] if rest and not loader.drop_last else []))
