"""Strengths that change while a model is trained.

A schedule gives the factor of a strength after a number of optimizer steps, or of epochs. Eager code multiplies by a
number; compiled code by a tensor, which is filled anew after each step, so that nothing is compiled again. The tensor
is no buffer of the module: `half()` would round it, and DistributedDataParallel would send it around. It is not in the
state_dict either: how many steps were taken is saved with the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A factor of a strength, as a function of ``unit``: the steps of the optimizer, or the epochs, that are done."""

    unit: str = "step"

    def factor(self, count: int) -> float:
        """The factor after ``count`` steps or epochs."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ConstantSchedule(Schedule):
    """``value`` for the first ``over``, and then 1; as `torch.optim.lr_scheduler.ConstantLR`."""

    value: float
    over: int

    def factor(self, count: int) -> float:
        return self.value if count < self.over else 1.0


@dataclass(frozen=True, kw_only=True)
class LinearSchedule(Schedule):
    """A straight line from ``start`` to ``end``, where it stays; as `torch.optim.lr_scheduler.LinearLR`."""

    start: float
    end: float
    over: int

    def factor(self, count: int) -> float:
        return self.start + (self.end - self.start) * min(count / self.over, 1.0)


@dataclass(frozen=True, kw_only=True)
class CosineSchedule(Schedule):
    """Half a cosine from ``start`` to ``end``, where it stays.

    Loshchilov and Hutter (2017), https://arxiv.org/abs/1608.03983, without restarts.
    """

    start: float = 1.0
    end: float = 0.0
    over: int

    def factor(self, count: int) -> float:
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * min(count / self.over, 1.0))) / 2


@dataclass(frozen=True, kw_only=True)
class ExponentialSchedule(Schedule):
    """``rate ** (count / over)``; as Keras's ExponentialDecay."""

    rate: float
    over: int = 1

    def factor(self, count: int) -> float:
        return math.pow(self.rate, count / self.over)


@dataclass(frozen=True, kw_only=True)
class WarmupSchedule(Schedule):
    """A straight line from 0 to 1, where it stays."""

    over: int

    def factor(self, count: int) -> float:
        return min(count / self.over, 1.0)


@dataclass(frozen=True, kw_only=True)
class StepsSchedule(Schedule):
    """``rate`` to the power of how many of the counts ``at`` are reached; as `torch.optim.lr_scheduler.MultiStepLR`."""

    at: tuple[int, ...]
    rate: float

    def factor(self, count: int) -> float:
        return math.pow(self.rate, sum(each <= count for each in self.at))


class Scheduled:
    """A regularizer whose strength follows schedules: their factors are multiplied.

    Example:
        >>> warm = Scheduled(torch.linalg.vector_norm, WarmupSchedule(over=10))
        >>> warm.set(step=5)
        >>> warm(torch.tensor([3.0, 4.0]))
        tensor(2.5000)
    """

    def __init__(self, regularizer: Callable[[Tensor], Tensor], *schedules: Schedule) -> None:
        self.regularizer = regularizer
        self.schedules = schedules
        self.is_set = False  # whether anything has said how many steps are done
        self.factor = self._product(0, 0)
        self._traced = torch.tensor(self.factor, dtype=torch.float64)

    @property
    def averages_batch(self) -> bool:
        """Whether the penalty is a mean over the batch by itself."""
        return bool(getattr(self.regularizer, "averages_batch", False))

    @property
    def needs_epochs(self) -> bool:
        """Whether a schedule counts epochs."""
        return any(schedule.unit == "epoch" for schedule in self.schedules)

    def set(self, step: int, epoch: int | None = None) -> None:
        """Sets the strength to what it is after so many steps of the optimizer, and so many epochs.

        Raises:
            ValueError: where a schedule counts epochs, and none are given.
        """
        if epoch is None and self.needs_epochs:
            raise ValueError("a schedule counts epochs: say how many are done")
        self.factor = self._product(step, epoch or 0)
        self._traced.fill_(self.factor)
        self.is_set = True

    def _product(self, step: int, epoch: int) -> float:
        counts = {"step": step, "epoch": epoch}
        return math.prod(schedule.factor(counts[schedule.unit]) for schedule in self.schedules)

    @property
    def of_shard(self) -> Callable[..., Tensor] | None:
        """The penalty of a tensor by its pieces, if the regularizer knows how."""
        return None if getattr(self.regularizer, "of_shard", None) is None else self._of_shard

    def _of_shard(self, *arguments: Any) -> Tensor:
        regularizer: Any = self.regularizer
        return self._scaled(regularizer.of_shard(*arguments))

    def __call__(self, x: Tensor) -> Tensor:
        return self._scaled(self.regularizer(x))

    def _scaled(self, penalty: Tensor) -> Tensor:
        return penalty * (self._traced.to(penalty.dtype) if torch.compiler.is_compiling() else self.factor)
