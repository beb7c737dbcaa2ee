"""Examples to train on and examples held out, of which batches are taken by their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Examples(Protocol):
    """What a `DataLoader` with ``batch_size=None`` and a sampler of lists of rows takes.

    ``target`` holds the targets of all examples: int64 classes, or float32 quantities.
    """

    @property
    def target(self) -> Tensor: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        """The inputs of these examples in the model's order, and their targets."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Examples as tensors: a batch is one selection of rows for each."""

    inputs: tuple[Tensor, ...]
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        index = torch.as_tensor(rows)
        return tuple(each.index_select(0, index) for each in (*self.inputs, self.target))

    def part(self, rows: Tensor) -> InMemory:
        """The examples of these rows."""
        return InMemory(tuple(each[rows] for each in self.inputs), self.target[rows])


@dataclass(frozen=True)
class Data:
    """Examples to train on, examples held out, and the names of the classes, if the target is a class."""

    train: Examples
    held_out: Examples
    classes: tuple[str, ...] | None = None

    @property
    def is_classification(self) -> bool:
        """Whether the target is a class, a whole number, and not a quantity."""
        return not self.train.target.is_floating_point()


def class_weights(target: Tensor, classes: int | None = None) -> Tensor:
    """A float32 weight for each class, (classes,), by which all classes count the same in a loss.

    It is n / (classes · count), scikit-learn's "balanced", where only classes count that occur; others get 1.

    Args:
        target: The classes of all examples, int64.
        classes: How many classes there are, where the last ones may not occur.

    Example:
        >>> import torch
        >>> class_weights(torch.tensor([0, 0, 0, 1]))
        tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(target, minlength=classes or 0)
    occurs = counts > 0
    return torch.where(occurs, len(target) / (occurs.sum() * counts.clamp_min(1)), 1.0)
