"""Constraints: projections of a weight, applied after an optimizer's step. The formulas are Keras's.

Norms are computed in float32 at least: one of 65520 is infinite in float16, and what is divided by that is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-7


def _norms(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """The Euclidean norms along dimensions, which are kept."""
    wide = torch.promote_types(x.dtype, torch.float32)
    norms: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=wide)
    return norms


@dataclass(frozen=True)
class MaxNorm:
    """Norms along ``dim`` of at most ``max_value``."""

    max_value: float = 2.0
    dim: int | tuple[int, ...] = 0

    def __call__(self, x: Tensor) -> Tensor:
        norm = _norms(x, self.dim)
        return (x * (norm.clamp_max(self.max_value) / (EPSILON + norm))).to(x.dtype)


@dataclass(frozen=True)
class MinMaxNorm:
    """Norms along ``dim`` drawn into ``[min_value, max_value]``, by ``rate`` in each step."""

    min_value: float = 0.0
    max_value: float = 1.0
    rate: float = 1.0
    dim: int | tuple[int, ...] = 0

    def __call__(self, x: Tensor) -> Tensor:
        norm = _norms(x, self.dim)
        desired = self.rate * norm.clamp(self.min_value, self.max_value) + (1 - self.rate) * norm
        return (x * (desired / (EPSILON + norm))).to(x.dtype)


@dataclass(frozen=True)
class NonNeg:
    """No weight below zero."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.clamp_min(0)


@dataclass(frozen=True)
class UnitNorm:
    """Norms along ``dim`` of one."""

    dim: int | tuple[int, ...] = 0

    def __call__(self, x: Tensor) -> Tensor:
        return (x / (EPSILON + _norms(x, self.dim))).to(x.dtype)
