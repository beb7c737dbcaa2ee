"""The sum of a model's penalties, with the fewest nodes in the autograd graph and messages between ranks."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from regspec.runtime.kernels.fused import Group, Strengths, can_fuse, fused_penalty, is_plain
from regspec.runtime.kernels.sharded import is_sharded, join, joined, placement, shard
from regspec.runtime.penalties.listeners import PENALTY, Heard, Listener, read
from regspec.runtime.penalties.terms import WeightTerm

LARGE = 2**20  # the bytes of an output from which on it has a node of its own


class Total:
    """A sum of penalties: the L1 and L2 of plain tensors as one, those of shards as well, and all others one by one."""

    def __init__(self) -> None:
        self.can_fuse = can_fuse()
        self.penalties: list[Tensor] = []
        # by strengths, type, device and whether they have a gradient
        self.groups: dict[tuple[float, float, torch.dtype, int, bool], list[Tensor]] = {}
        self.shards: dict[Any, tuple[Tensor, Total]] = {}  # by how tensors are sharded: one of them, and their sum

    def add(self, term: WeightTerm | Listener, x: Tensor, share: float) -> None:
        """Adds the parts of a term that are on the loss; ``share`` multiplies its penalty."""
        total, own = self, x
        if not (self.can_fuse and is_plain(x)):
            if self.can_fuse and is_sharded(x):
                how = isinstance(term, WeightTerm), *placement(x)
                _, total = self.shards.setdefault(how, (x, Total()))
                own = shard(x)
            if not (self.can_fuse and is_plain(own)):
                if parts := term.on_loss():
                    self.penalties.append(term.penalty(x, parts, share))
                return
        l1, l2 = term.strengths
        if l1 or l2:
            if isinstance(term, Listener) and is_large(own):
                total.penalties.append(_in_its_turn((l1 * share, l2 * share), own))
            else:
                kind = l1 * share, l2 * share, own.dtype, own.get_device(), own.requires_grad
                if (group := total.groups.get(kind)) is None:
                    total.groups[kind] = [own]
                else:
                    group.append(own)
        if term.others:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not x.is_inference()):
                self.penalties.append(term.penalty(x, term.others, share))

    def sum(self) -> Tensor | None:
        """The sum, on the device of the first; None where there is nothing."""
        by_place: dict[tuple[int, bool], list[Group]] = {}
        for (l1, l2, _, device, has_gradient), xs in self.groups.items():
            by_place.setdefault((device, has_gradient), []).append(((l1, l2), xs))
        for (_, has_gradient), groups in by_place.items():
            with nullcontext() if has_gradient else torch.no_grad():
                self.penalties.append(fused_penalty(groups))
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


def is_large(x: Tensor) -> bool:
    """Whether an output has a node of its own."""
    return x.nbytes > LARGE and x.grad_fn is not None


def let_go(heard: Heard) -> Heard:
    """A large output's penalty in its place, so that the backward pass frees the output as soon as it has come by."""
    x = heard[1]
    if not (is_plain(x) and is_large(x)):
        return heard
    total = Total()
    for listener, own, share in read([heard]):
        total.add(listener, own, share)
    penalty = total.sum()
    return heard if penalty is None else (heard[0], penalty, None, PENALTY, 1.0)


def _in_its_turn(strengths: Strengths, x: Tensor) -> Tensor:
    """The penalty of a large output, whose gradient is computed when the backward pass comes to it, and not before.

    One node for all outputs would give all their gradients at once, at the beginning of the pass. The pass goes through
    nodes from the latest to the earliest, so this one is counted as old as the output's own, which waits for it.
    """
    penalty = fused_penalty([(strengths, [x])])
    node: Any = penalty.grad_fn
    if node is not None and x.grad_fn is not None:
        node._set_sequence_nr(x.grad_fn._sequence_nr())
    return penalty
