"""The sum of a model's penalties, with the fewest nodes in the autograd graph and messages between ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regspec.runtime.kernels.fused import can_fuse, fused_penalty, is_plain
from regspec.runtime.kernels.sharded import is_sharded, join, joined, placement, shard
from regspec.runtime.penalties.terms import Listener, WeightTerm


class Total:
    """A sum of penalties: the L1 and L2 of plain tensors as one, those of shards as well, and all others one by one."""

    def __init__(self) -> None:
        self.can_fuse = can_fuse()
        self.penalties: list[Tensor] = []
        self.groups: dict[tuple[float, float, torch.dtype, int], list[Tensor]] = {}
        self.shards: dict[Any, tuple[Tensor, Total]] = {}  # by how tensors are sharded: one of them, and their sum

    def add(self, term: WeightTerm | Listener, x: Tensor, share: float) -> None:
        """Adds the parts of a term that are on the loss; ``share`` multiplies its penalty."""
        total, own = self, x
        if self.can_fuse and not is_plain(x) and is_sharded(x):
            how = isinstance(term, WeightTerm), *placement(x)
            _, total = self.shards.setdefault(how, (x, Total()))
            own = shard(x)
        if not (self.can_fuse and is_plain(own)):
            if parts := term.on_loss():
                self.penalties.append(term.penalty(x, parts, share))
            return
        l1, l2 = term.strengths
        if l1 or l2:
            total.groups.setdefault((l1 * share, l2 * share, own.dtype, own.get_device()), []).append(own)
        if term.others:
            self.penalties.append(term.penalty(x, term.others, share))

    def sum(self) -> Tensor | None:
        """The sum, on the device of the first; None where there is nothing."""
        for device in {device for *_, device in self.groups}:
            own = [((l1, l2), xs) for (l1, l2, _, where), xs in self.groups.items() if where == device]
            self.penalties.append(fused_penalty(own))
        # All weights are joined at once. Outputs are not joined with them: ranks that share a weight have other data.
        sums = [(is_weight, x, own.sum()) for (is_weight, *_), (x, own) in self.shards.items()]
        weights = [(value, x) for is_weight, x, value in sums if is_weight and value is not None]
        self.penalties += joined(weights) if weights else []
        self.penalties += [join(x, value) for is_weight, x, value in sums if not is_weight and value is not None]
        if len(self.penalties) < 2:
            return self.penalties[0] if self.penalties else None
        first, *others = self.penalties
        if torch.compiler.is_compiling():  # a stack would be one more buffer
            return sum([each.to(first.device) for each in others], first)
        return torch.stack([first, *(each.to(first.device) for each in others)]).sum()
