"""Examples to train on and examples held out, of which batches are taken by their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from regspec.training.data.targets import Target
from regspec.training.data.wanted import Columns


class Examples(Protocol):
    """What a `DataLoader` with ``batch_size=None`` and a sampler of lists of rows takes.

    ``targets`` holds those of all examples, for each output that learns: int64 classes, or float32 numbers.
    """

    @property
    def targets(self) -> tuple[Tensor, ...]: ...

    @property
    def learned(self) -> int:
        """How many targets come with a batch: one for each output that learns, or none."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        """The inputs of these examples in the model's order, and then their targets."""
        ...

    def name(self, row: int) -> str:
        """What an example is called where it is from, for people: ``line 18``, ``cats/7.png``."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Examples as tensors: a batch is one selection of rows for each."""

    inputs: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]
    where: tuple[str, Sequence[int]] | None = None  # what each is in the source, and its number there; None for items

    def __len__(self) -> int:
        return len(self.inputs[0])

    @property
    def learned(self) -> int:
        return len(self.targets)

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        if isinstance(rows, range) and rows.step == 1:  # a slice, which copies nothing
            return tuple(each[rows.start : rows.stop] for each in (*self.inputs, *self.targets))
        index = torch.as_tensor(rows)
        return tuple(each.index_select(0, index) for each in (*self.inputs, *self.targets))

    def part(self, rows: Tensor) -> InMemory:
        """The examples of these rows."""
        unit, numbers = self.where or ("item", range(len(self)))
        where = unit, [numbers[row] for row in rows.tolist()]
        return InMemory(tuple(each[rows] for each in self.inputs), tuple(each[rows] for each in self.targets), where)

    def name(self, row: int) -> str:
        unit, numbers = self.where or ("item", range(len(self)))
        return f"{unit} {numbers[row]}"


@dataclass(frozen=True)
class Data:
    """Examples to train on, examples held out, and what each of their targets is."""

    train: Examples
    held_out: Examples
    targets: tuple[Target, ...]
    columns: Columns | None = None  # of the table that they are from

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
