"""Proximal steps of groups of numbers, each of which has a step size of its own."""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 6  # of Newton: over sizes that differ by a factor of 1e8, five give all digits of float32


def shrunk_groups(x: Tensor, thresholds: Tensor, dims: tuple[int, ...]) -> Tensor:
    """What minimizes ``sum((w - x)**2 / thresholds) / 2 + sum(norm(w))`` over the groups, which lie along ``dims``.

    A group is zero where the norm of ``x / thresholds`` is at most 1. Or else ``w = x * norm / (norm + thresholds)``,
    where ``norm``, that of w, is the root of ``norm(x / (norm + thresholds)) = 1``: the equation of a trust region. So
    Newton's method is for the inverse of both sides, and begins below the root, from where it never leaves it (Conn,
    Gould and Toint (2000), Trust-region methods, section 7.3.3).
    """
    tiny = torch.finfo(x.dtype).tiny

    def length(values: Tensor) -> Tensor:
        return values.square().sum(dims, keepdim=True).sqrt()

    is_zero = length(x / thresholds.clamp_min(tiny)) <= 1
    norm = (length(x) - thresholds.amax(dims, keepdim=True)).clamp_min(0)
    for _ in range(STEPS):
        factors = 1 / (norm + thresholds).clamp_min(tiny)
        ratios = x * factors
        ratio = length(ratios)
        slopes = (ratios.square() * factors).sum(dims, keepdim=True).clamp_min(tiny)
        norm = norm + (ratio - 1) * ratio.square() / slopes
    return torch.where(is_zero, 0, x * (norm / (norm + thresholds).clamp_min(tiny)))  # x itself, where they are zero
