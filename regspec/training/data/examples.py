"""Examples to train on and examples held out, of which batches are taken by their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from regspec.training.data.arrays import Where, place_of
from regspec.training.data.targets import Target
from regspec.training.data.wanted import Array, Columns


class Examples(Protocol):
    """What a `DataLoader` with ``batch_size=None`` and a sampler of lists of rows takes.

    ``targets`` holds those of all examples, for each output that learns: int64 classes, or float32 numbers.
    """

    @property
    def targets(self) -> tuple[Tensor, ...]: ...

    @property
    def input_count(self) -> int:
        """How many inputs a batch begins with."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        """The inputs of these examples in the model's order, their targets, and their weights if they have some."""
        ...

    def name(self, row: int) -> str:
        """What an example is called where it is from, for people: ``line 18``, ``cats/7.png``."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Examples as tensors: a batch is one selection of rows for each."""

    inputs: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]
    weights: Tensor | None = None
    where: Where | None = None  # in the source

    def __len__(self) -> int:
        return len(self.inputs[0])

    @property
    def input_count(self) -> int:
        return len(self.inputs)

    @property
    def _all(self) -> tuple[Tensor, ...]:
        return (*self.inputs, *self.targets, *weights_last(self.weights))

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        if isinstance(rows, range) and rows.step == 1:  # a slice, which copies nothing
            return tuple(each[rows.start : rows.stop] for each in self._all)
        index = torch.as_tensor(rows)
        return tuple(each.index_select(0, index) for each in self._all)

    def part(self, rows: Tensor) -> InMemory:
        """The examples of these rows."""
        unit, numbers = self.where or ("item", range(len(self)))
        inputs, targets = (tuple(each[rows] for each in own) for own in (self.inputs, self.targets))
        weights = None if self.weights is None else self.weights[rows]
        return InMemory(inputs, targets, weights, (unit, [numbers[row] for row in rows.tolist()]))

    def name(self, row: int) -> str:
        return place_of(row, self.where)


def weights_last(weights: Array | Tensor | None) -> tuple[Tensor, ...]:
    """What stands at the end of a batch: the weights of its examples, if they have some."""
    return () if weights is None else (torch.as_tensor(weights),)


@dataclass(frozen=True)
class Parted:
    """A batch in its parts."""

    inputs: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]
    weights: Tensor | None

    @classmethod
    def of(cls, batch: Sequence[Tensor], inputs: int, targets: int) -> Parted:
        """A batch that begins with so many inputs and targets; what follows are the weights of its examples."""
        own = (*batch,)
        rest = own[inputs + targets :]
        return cls(own[:inputs], own[inputs : inputs + targets], rest[0] if rest else None)


@dataclass(frozen=True)
class Data:
    """Examples to train on, examples held out, and what each of their targets is."""

    train: Examples
    held_out: Examples
    targets: tuple[Target, ...]
    columns: Columns | None = None  # of the table that they are from
    is_weighted: bool = False  # whether those to train on count more or less
    unknown_words: tuple[str, ...] = ()  # lines on what is held out and has words that training does not have

    @property
    def is_classification(self) -> bool:
        """Whether the only target is a class for each example."""
        return len(self.targets) == 1 and self.targets[0].kind == "classes" and not self.targets[0].wanted.places

    @property
    def kinds(self) -> str:
        """What the targets are, for people: quantities, classes and labels."""
        return " and ".join(dict.fromkeys(target.kind for target in self.targets))

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, if the only target is a class."""
        return self.targets[0].classes if len(self.targets) == 1 else None


def class_weights(target: Tensor, classes: int | None = None) -> Tensor:
    """A float32 weight for each class, (classes,), by which all classes count the same in a loss.

    It is n / (classes · count), scikit-learn's "balanced", where only classes count that occur; others get 1.

    Args:
        target: The classes of all examples, int64; of each place, where they have several.
        classes: How many classes there are, where the last ones may not occur.

    Example:
        >>> import torch
        >>> class_weights(torch.tensor([0, 0, 0, 1]))
        tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(target.flatten(), minlength=classes or 0)
    occurs = counts > 0
    return torch.where(occurs, target.numel() / (occurs.sum() * counts.clamp_min(1)), 1.0)
