"""Schedules of the learning rate that torch does not have: what it is multiplied by at each step, counted from 0.

Those that fall have the length of the run, unless they are told ``steps``; the others, and ``begin``, are Keras's.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


def _falling(
    form: Callable[[float], float],
    optimizer: Optimizer,
    total: int,
    *,
    warmup: int = 0,
    end: float = 0.0,
    begin: float | None = None,
    steps: int | None = None,
) -> LambdaLR:
    """Rises in a line for ``warmup`` steps, then falls by a form, to ``end`` times the rate after the last step.

    The form goes from 1 to 0 as what is done goes from 0 to 1. With ``begin`` the first step has that share of the
    rate, and the step after the warm-up all of it.
    """
    if warmup < 0 or (steps is None and warmup >= total):
        raise ValueError(f"warmup is {warmup}, but the run has {total} steps")
    length = total - warmup if steps is None else _least("steps", steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup if begin is None else begin + (1 - begin) * step / warmup
        return end + (1 - end) * form(min(1.0, (step - warmup) / length))

    return LambdaLR(optimizer, factor)


def _cosine(done: float) -> float:
    return (1 + math.cos(math.pi * done)) / 2


def _line(done: float) -> float:
    return 1 - done


def polynomial_decay(
    optimizer: Optimizer, *, steps: int, power: float = 1.0, end: float = 0.0, cycle: bool = False
) -> LambdaLR:
    """Falls as ``(1 - done) ** power``, to ``end`` times the rate after so many steps.

    With ``cycle`` it rises then, and falls over twice, three times, … as many steps, counted from the beginning.
    """
    _least("steps", steps)

    def factor(step: int) -> float:
        done = min(1.0, step / steps)
        if cycle:
            done = step / (steps * max(1, math.ceil(step / steps)))
        return end + (1 - end) * float((1 - done) ** power)

    return LambdaLR(optimizer, factor)


def inverse_time_decay(optimizer: Optimizer, *, rate: float, steps: int = 1, staircase: bool = False) -> LambdaLR:
    """Falls as ``1 / (1 + rate * step / steps)``; with ``staircase`` once in so many steps."""
    _least("steps", steps)
    return LambdaLR(optimizer, lambda step: 1 / (1 + rate * (step // steps if staircase else step / steps)))


def piecewise_constant(optimizer: Optimizer, *, boundaries: Iterable[int], factors: Iterable[float]) -> LambdaLR:
    """A factor of the rate up to each boundary, that step included, and one for all steps after the last."""
    ends, values = [*boundaries], [*factors]
    if len(values) != len(ends) + 1 or ends != sorted(ends):
        raise ValueError("there is one factor more than boundaries, which rise")
    return LambdaLR(optimizer, lambda step: values[bisect_left(ends, step)])


def cosine_restarts(
    optimizer: Optimizer, *, steps: int, t_mul: float = 2.0, m_mul: float = 1.0, end: float = 0.0
) -> LambdaLR:
    """Falls by a cosine over so many steps, and again and again, over ``t_mul`` times as many, from ``m_mul`` of it.

    Loshchilov and Hutter (2017), SGDR; torch's cosine_annealing_warm_restarts does not fall from less each time.
    """
    _least("steps", steps)
    _least("t_mul", t_mul)

    def factor(step: int) -> float:
        length, height, left = float(steps), 1.0, float(step)
        while left >= length:
            left, length, height = left - length, length * t_mul, height * m_mul
        return end + (1 - end) * height * _cosine(left / length)

    return LambdaLR(optimizer, factor)


def _least(name: str, value: float) -> float:
    if value < 1:
        raise ValueError(f"{name} is {value}, and must be at least 1")
    return value


OF_RUN: dict[str, Callable[..., LRScheduler]] = {  # which take the number of its steps
    "cosine": partial(_falling, _cosine),
    "linear_decay": partial(_falling, _line),
}
OF_FACTORS: dict[str, Callable[..., LRScheduler]] = {
    **OF_RUN,
    **{each.__name__: each for each in (polynomial_decay, inverse_time_decay, piecewise_constant, cosine_restarts)},
}
