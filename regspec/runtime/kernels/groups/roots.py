"""The proximal step of groups of numbers, each of which has a threshold of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 8  # of Newton at most: over thresholds that differ by a factor of 1e8, six give all digits of float32
ENOUGH = 8  # times what two numbers of a type differ by: the most that the square of an error is before the last step


def shrunk(
    x: Tensor,
    thresholds: Tensor,
    total: Callable[..., list[Tensor]],
    spread: Callable[[Tensor], Tensor],
    *,
    looks: bool,
) -> Tensor:
    """What minimizes ``sum((w - x)**2 / thresholds) / 2 + sum(norm(w))`` over groups, of the shape of ``x``.

    A group is zero where the norm of ``x / thresholds`` is at most 1. Or else ``w = x * norm / (norm + thresholds)``,
    where ``norm``, that of w, is the root of ``norm(x / (norm + thresholds)) = 1``: the equation of a trust region. So
    Newton's method is for the inverse of both sides, which is concave in the norm (Conn, Gould and Toint (2000),
    Trust-region methods, section 7.3.3). So it comes below the root by its first step, and never leaves it from there.
    The inverse grows by no less than one over the norm of x; so the root is at most where it would be if it grew as
    slowly from zero on. There it begins, which is the root where all thresholds of a group are the same.

    Args:
        x: numbers, in float32 or float64.
        thresholds: how far each would go alone; zero where it stays.
        total: the sums of tensors over groups.
        spread: for each number what its group has.
        looks: whether it ends where all roots are found; on a GPU that would have to be waited for.
    """
    limits = torch.finfo(x.dtype)
    squares = x.square()
    length, beyond, still = total(
        squares,
        (x / thresholds.clamp_min(limits.tiny)).square_(),
        squares * (thresholds == 0),  # which the norm has at least
    )
    is_zero, least = beyond <= 1, still.sqrt()
    norms = length.sqrt() * (1 - beyond.rsqrt())
    for _ in range(STEPS):
        factors = (spread(norms) + thresholds).clamp_min_(limits.tiny).reciprocal_()
        ratios = (x * factors).square_()
        ratio, slopes = total(ratios, factors.mul_(ratios))
        off = (ratio.sqrt() - 1).masked_fill_(is_zero, 0)
        norms = torch.maximum(norms + off * ratio / slopes.clamp_min_(limits.tiny), least)
        if looks and not bool((off.square() > ENOUGH * limits.eps).any()):
            break
    norms = spread(norms.masked_fill(is_zero, 0))
    return x * (norms / (norms + thresholds).clamp_min_(limits.tiny))
