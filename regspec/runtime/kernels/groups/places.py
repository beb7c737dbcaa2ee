"""Where groups of numbers lie in tensors, and how far a step moves each number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regspec.runtime.kernels.fused import is_plain
from regspec.runtime.kernels.sharded import piece_of, shard
from regspec.runtime.kernels.thresholds import StepSize, number, wide


@dataclass(eq=False)
class Place:
    """Where groups lie in a tensor: ``by_groups`` gives a view of it whose first two dimensions count them."""

    x: Tensor
    by_groups: Callable[[Tensor], Tensor]

    @cached_property
    def shape(self) -> tuple[int, int]:
        """How many groups there are, and how many numbers the tensor has of each."""
        rows = self.rows(torch.empty(self.x.shape, device="meta"))
        return rows.shape[0], rows.shape[1]

    def rows(self, x: Tensor) -> Tensor:
        """A tensor of that shape as a matrix, with a row for each group."""
        return self.by_groups(x).unsqueeze(-1).flatten(2).flatten(0, 1)

    @cached_property
    def own(self) -> tuple[Tensor, Tensor]:
        """Which numbers of this rank's piece are in groups, and in which."""
        which = torch.full(self.x.shape, -1, device=self.x.device)
        view = self.by_groups(which)
        view.copy_(torch.arange(self.shape[0]).reshape(*view.shape[:2], *[1] * (view.ndim - 2)))
        piece = piece_of(self.x, which).flatten()
        index = (piece >= 0).nonzero().squeeze(1)
        return index, piece[index]


class Share(NamedTuple):
    """What groups have in a tensor, and the threshold of each number there: ``factor / (sqrt(squares) + eps)``.

    It is the factor where there are no squares. Where that is zero, numbers stay.
    """

    place: Place
    factor: Any  # a number, or a tensor of one that lies on a GPU
    eps: Any
    squares: Tensor | None  # of this rank's piece
    is_nonnegative: bool

    @property
    def moves(self) -> bool:
        """Whether the numbers move; of a factor on a GPU, which would have to be waited for, they do."""
        return isinstance(self.factor, Tensor) or self.factor > 0

    def values(self) -> Tensor:
        """The numbers of this rank's piece. What may not be negative goes first, and is no part of a norm."""
        x = wide(shard(self.place.x))
        return x.clamp_min(0) if self.is_nonnegative else x

    def thresholds(self) -> Tensor:
        """How far each of them goes alone."""
        if self.squares is not None:
            return inverted(wide(self.squares).clone(), self.factor, self.eps)
        x = shard(self.place.x)
        return torch.as_tensor(self.factor, dtype=wide(x[:0]).dtype, device=x.device).expand(x.shape)


def inverted(squares: Tensor, factor: Any, eps: Any) -> Tensor:
    """``factor / (sqrt(squares) + eps)``, in the memory of the squares."""
    return squares.sqrt_().add_(eps).reciprocal_().mul_(factor)


Groups = list[Share]  # of groups that lie in the same tensors


def share_of(place: Place, size: StepSize, strength: float, is_nonnegative: bool) -> Share:
    """What groups have in a tensor, by the size of the step that moved it."""
    rate, kept, squares, scale, eps = size
    factor = number(rate * strength / scale)
    if not kept or not (isinstance(factor, Tensor) or factor > 0):
        return Share(place, factor, 0.0, None, is_nonnegative)
    if not is_plain(place.x):
        kept = tuple(map(shard, kept))
    return Share(place, factor, number(eps / scale), squares(*kept) if squares else kept[0], is_nonnegative)
