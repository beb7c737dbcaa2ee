"""Penalties of units: of all slices of a module's parameters that make a unit, and so vanish with it.

A unit's slices are a row of a matrix, beside each other; a regularizer by rows is that of the units. So a group lasso
of units needs no formula of its own, in value, gradient and proximal step, but the copy that puts them side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from regspec.runtime.kernels.sharded import whole
from regspec.runtime.penalties.slices import Slices
from regspec.runtime.penalties.terms import Regularizer, Seen, WeightTerm
from regspec.runtime.penalties.weights import identity_at, is_trained_at, tensor_at, weight_at


def slices_of(slices: Iterable[str | Slices]) -> tuple[Slices, ...]:
    """Slices, of which a parameter's path alone stands for its rows."""
    return tuple(Slices(each) if isinstance(each, str) else each for each in slices)


class UnitTerm(WeightTerm):
    """A regularizer of units, by rows of the matrix of all their slices. Frozen parameters count nothing."""

    def __init__(self, regularizer: Regularizer, slices: tuple[Slices, ...], counts_frozen: bool = False) -> None:
        super().__init__(regularizer, tuple(each.parameter for each in slices), counts_frozen)
        self.slices = slices

    def weight(self, module: nn.Module, seen: Seen | None = None) -> Tensor | None:
        """The matrix now; None where all of it is frozen, or is in other terms that were ``seen``."""
        is_own = [True] * len(self.ways) if seen is None else self.is_own(module, seen)
        found = [
            weight_at(module, way, self.counts_frozen) if is_first else None
            for way, is_first in zip(self.ways, is_own, strict=True)
        ]
        return None if all(each is None for each in found) else self.joined(found)

    def joined(self, parameters: Sequence[Tensor | None]) -> Tensor:
        """The matrix of parameters, without those that are None."""
        pairs = zip(self.slices, parameters, strict=True)
        rows = [slices.rows(whole(each)) for slices, each in pairs if each is not None]
        return torch.cat([each.to(rows[0].device) for each in rows], 1)

    def is_trained(self, module: nn.Module) -> bool:
        return any(is_trained_at(module, way) for way in self.ways)

    def is_seen(self, module: nn.Module, seen: Seen) -> bool:
        return not any(self.is_own(module, seen))

    def refuse_ties(self, module: nn.Module, seen: Seen) -> None:
        """Raises `RuntimeError` where other units have some of the slices."""
        for slices, is_first in zip(self.slices, self.is_own(module, seen), strict=True):
            if not is_first:
                what = f"'{slices.parameter}' has become tied to a parameter of units"
                raise RuntimeError(f"{what}, and has the loss route only: bind the model again")

    def is_own(self, module: nn.Module, seen: Seen) -> list[bool]:
        """For each of the slices whether no other has its numbers before: those of tied parameters count once.

        Raises:
            RuntimeError: where others have some of the numbers.
        """
        found = []
        for index, (way, slices) in enumerate(zip(self.ways, self.slices, strict=True)):
            known = seen.slices.setdefault(identity_at(module, way), {})
            known.setdefault((self, module, index), (way, slices))
            tied = []
            for (term, owner, number), (other_way, other) in known.items():
                if term is self and owner is module and number == index:
                    break
                if owner is not module or other_way != way:
                    tied.append(other)
            found.append(not tied or not _are_in(slices, tuple(tied), tensor_at(module, way).shape))
        return found


@lru_cache(maxsize=1024)
def _are_in(slices: Slices, others: tuple[Slices, ...], shape: torch.Size) -> bool:
    return slices.is_in(others, shape)
