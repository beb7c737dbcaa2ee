"""Soft thresholds of many weights: the proximal step of L1, by how far an optimizer's step moves each number.

On a CPU numba does it in one pass over the weights of large models (`by_numba`). torch's operations do it otherwise, on
a CPU in pieces that are small enough for a cache, and everywhere on several small weights at once.

Measured with one thread on 24 M float32 weights, in ms: by numba 12.4 under Adam, where adding one tensor to another,
which moves as many bytes, takes 10.6, and 6.3 under SGD; by torch 50 in pieces of 2**16, and 74 in pieces of 2**14.

What a step costs with it, in units of the step alone, is bounded by the bytes that both move, 12 for each number or 8
under SGD: 1.17 for Adam (72 bytes) and 1.13 were measured, 1.23 for RMSprop (52) and 1.22, 1.27 for Adagrad (44) and
1.28, 1.25 for SGD with momentum (32) and 1.21. For a fused step they are 1.43 for Adam (28) and 1.55, 1.4 for SGD (20)
and 1.42. To follow a fused step piece by piece, while weights are in a cache, saved nothing, for roots and divisions
take as long as memory does. Inside of its loop the threshold would cost 1.02; but that loop is torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regspec.runtime.kernels import one_pass
from regspec.runtime.kernels.fused import PACKED, is_plain
from regspec.runtime.kernels.sharded import shard

FEWEST = 2**17  # numbers for which numba is loaded: here it saves more than for sums
PIECE = 2**16  # numbers
TOGETHER = 2**24  # the most numbers, of several tensors, that one call takes on a GPU: twice as many are computed


class StepSize(NamedTuple):
    """``rate / (scale * sqrt(squares) + eps)``, for each number of a weight; where nothing is kept, ``rate``.

    ``squares`` computes them from what the optimizer keeps, number by number; without it they are the first of that.
    """

    rate: Any
    kept: tuple[Tensor, ...] = ()
    squares: Callable[..., Tensor] | None = None
    scale: Any = 1.0
    eps: float = 0.0

    def threshold(self, strength: float) -> Any:
        """How far a proximal step moves each number, for a penalty of this strength."""
        if not self.kept:
            return self.rate * strength
        squares = self.kept[0] if self.squares is None else self.squares(*self.kept)
        return wide(squares).sqrt().mul_(self.scale).add_(self.eps).reciprocal_().mul_(self.rate * strength)


def wide(x: Tensor) -> Tensor:
    """In float32 at least: squares of small gradients are none in float16, and one over their root may be infinite."""
    return x if x.dtype is torch.float64 else x.float()


def number(x: Any) -> Any:
    """A number, as a plain one where that does not wait for a device."""
    return x.item() if isinstance(x, Tensor) and x.is_cpu else x


class Softened(NamedTuple):
    """Numbers, and the threshold of each: ``factor / (sqrt(squares) + eps)``, or ``factor`` where nothing is kept."""

    x: Tensor
    factor: Any  # a number, or a tensor of one that lies on a GPU
    eps: Any
    kept: tuple[Tensor, ...]
    squares: Callable[..., Tensor] | None


def soften(weights: list[tuple[Tensor, StepSize, float]]) -> None:
    """Moves each number towards zero by its step size times a strength, and no further.

    It is done in place, to the shards that this rank has.
    """
    rest = []
    for x, size, strength in weights:
        factor, eps = number(size.rate * strength / size.scale), number(size.eps / size.scale)
        if isinstance(factor, Tensor) or factor > 0:  # at a rate of zero all stay as they are, to the last bit
            rest.append(Softened(shard(x), factor, eps, (*map(shard, size.kept),), size.squares))
    if one_pass.takes(sum(each.x.numel() for each in rest), fewest=FEWEST) and not torch._C._len_torch_dispatch_stack():
        taken = [each for each in rest if _is_for_one_pass(each)]
        rest = [each for each in rest if not _is_for_one_pass(each)]
        for alike in _by(lambda each: (each.x.dtype, len(each.kept)), taken):
            one_pass.soften([(factor, eps, x, kept[0] if kept else None) for x, factor, eps, kept, _ in alike])
    for alike in _by(_kind, [piece for each in rest for piece in _pieces(each)]):
        for batch in _batches(alike):
            _soften_together(batch)


def _is_for_one_pass(softened: Softened) -> bool:
    x, factor, _, kept, squares = softened
    if isinstance(factor, Tensor) or squares is not None:
        return False
    return is_plain(x) and one_pass.is_in_one_piece(x) and all(one_pass.lie_alike(x, each) for each in kept)


def _by(key: Callable[[Softened], Any], softened: list[Softened]) -> Collection[list[Softened]]:
    """In groups that are alike."""
    groups: dict[Any, list[Softened]] = {}
    for each in softened:
        groups.setdefault(key(each), []).append(each)
    return groups.values()


# -- by torch ----------------------------------------------------------------------------------------------------------


def _kind(softened: Softened) -> Any:
    """What operations on several tensors want to have alike."""
    x, factor, eps, kept, _ = softened
    return x.dtype, x.device, not kept, isinstance(factor, Tensor), isinstance(eps, Tensor)


def _pieces(softened: Softened) -> Iterator[Softened]:
    """The same in pieces: each operation goes through all of them, so they had better be in a cache."""
    x, kept = softened.x, softened.kept
    if not x.is_cpu or x.numel() <= PIECE or not all(each.is_contiguous() for each in (x, *kept)):
        yield softened
        return
    for piece, *others in zip(*[each.view(-1).split(PIECE) for each in (x, *kept)], strict=True):
        yield softened._replace(x=piece, kept=tuple(others))


def _batches(alike: list[Softened]) -> Iterator[list[Softened]]:
    """Those that one call of each operation takes: several that are small for the device, or one."""
    batch: list[Softened] = []
    most = PACKED if alike[0].x.is_cpu else TOGETHER
    room = most
    for each in alike:
        room -= each.x.numel()
        if batch and room < 0:
            yield batch
            batch, room = [], most - each.x.numel()
        batch.append(each)
    yield batch


def _soften_together(batch: list[Softened]) -> None:
    """The numbers less what they are between their thresholds."""
    values = [wide(each.x) for each in batch]
    limits = factors = [each.factor for each in batch]
    if batch[0].kept:
        squares = [each.kept[0] if each.squares is None else each.squares(*each.kept) for each in batch]
        limits = [*torch._foreach_sqrt([*map(wide, squares)])]
        torch._foreach_add_(limits, [each.eps for each in batch])
        torch._foreach_reciprocal_(limits)
        torch._foreach_mul_(limits, factors)
    between = torch._foreach_minimum(values, limits)
    if batch[0].kept:
        torch._foreach_neg_(limits)
    else:
        limits = [-each for each in limits]
    torch._foreach_maximum_(between, limits)
    torch._foreach_sub_(values, between)
    for each, value in zip(batch, values, strict=True):
        if value is not each.x:
            each.x.copy_(value)
