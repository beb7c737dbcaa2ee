"""Slices of parameters, one for each unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slices:
    """Where units lie in a parameter: along a dimension, from a start to a stop.

    Along the dimension they may lie in several ``parts``, as for the gates of an LSTM, in each of which every unit is
    so many numbers in a row.

    Example:
        >>> import torch
        >>> Slices("lstm.weight_ih_l0", parts=4).rows(torch.arange(8.0).unsqueeze(1))
        tensor([[0., 2., 4., 6.],
                [1., 3., 5., 7.]])
    """

    parameter: str
    dim: int = 0
    start: int = 0
    stop: int | None = None
    parts: int = 1
    each: int = 1

    def rows(self, x: Tensor) -> Tensor:
        """The slices of a parameter as a matrix, with a row for each unit."""
        own = self._by_units(x)
        return own.flatten(1) if own.ndim > 1 else own.unsqueeze(1)

    def is_in(self, others: Iterable[Slices], shape: Sequence[int]) -> bool:
        """Whether others have its numbers, in a parameter of a shape that is tied to theirs: they count once.

        Raises:
            RuntimeError: where others have some of them; what is left are no slices.
        """
        covered = torch.zeros(shape, dtype=torch.bool)
        for other in others:
            other._by_units(covered).fill_(True)
        own = self._by_units(covered)
        if own.any() and not own.all():
            what = f"'{self.parameter}' is tied to a parameter that has some of the numbers of its units in others"
            raise RuntimeError(f"{what}: untie them, or leave the units of one of the layers out of the penalty")
        return bool(own.all())

    # for regspec
    def by_groups(self, x: Tensor) -> Tensor:
        """A view of the slices, whose first two dimensions are one, and units."""
        return self._by_units(x).unsqueeze(0)

    def _by_units(self, x: Tensor) -> Tensor:
        """A view of the slices: units first, and then parts, the numbers of each, and the other dimensions."""
        own = x.movedim(self.dim, 0) if self.dim else x
        if self.start or self.stop is not None:
            own = own[self.start : self.stop]
        if self.parts == 1 and self.each == 1:  # each is a row
            return own
        parted: Tensor = own.unflatten(0, (self.parts, -1, self.each))
        return parted.movedim(1, 0)
