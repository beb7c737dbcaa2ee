"""Proximal steps of groups of numbers, one group after the other, compiled by numba; `roots` has the formulas.

The numbers of a group are copied beside each other, with one over the threshold of each: what is summed for each step
of Newton then lies in a cache, whatever tensors it is of. Divisions and roots take longest, of which a number has three
where one such step is enough.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types

from regspec.runtime.kernels.by_numba import FAST, _at, _next
from regspec.runtime.kernels.groups.roots import ENOUGH

# Entries of tables: of all; of a piece of work; of groups, before their tensors; and of each tensor.
HEAD, WORK, BEGINS, EACH, NUMBERS = 8, 3, 3, 7, 3
STAYS, DIFFERS, ALIKE = 0, 1, 2  # the thresholds of a tensor: none, one for each number, or one for all
LEAST, MOST = 1e-30, 1e30  # one over a threshold
TOGETHER = 1024  # numbers that are summed in their own type


@njit(**FAST)  # type: ignore[untyped-decorator]  # numba has no types
def _fill(x: Any, squares: Any, low: float, factor: float, eps: float, own: Any, inverses: Any) -> tuple[float, float]:
    """Copies numbers, which are at least ``low``, and one over ``factor / (sqrt(squares) + eps)``.

    Returns the sums of squares of numbers, and of their ratios to thresholds.
    """
    up, more = x.dtype.type(1 / factor), x.dtype.type(eps)
    fewest, bound = x.dtype.type(LEAST), x.dtype.type(low)
    length = beyond = 0.0
    for start in range(0, len(x), TOGETHER):
        end = start + TOGETHER
        a, b, c, d = x[start:end], squares[start:end], own[start:end], inverses[start:end]
        one = two = x.dtype.type(0)
        for i in range(len(a)):
            over = max((np.sqrt(b[i]) + more) * up, fewest)
            value = max(a[i], bound)
            c[i], d[i] = value, over
            one += value * value
            two += value * over * (value * over)
        length, beyond = length + one, beyond + two
    return length, beyond


@njit(**FAST)  # type: ignore[untyped-decorator]  # numba has no types
def _slope(own: Any, inverses: Any, norm: float) -> tuple[float, float]:
    """``sum(r**2)`` and ``sum(r**2 / (norm + thresholds))``, where ``r = x / (norm + thresholds)``."""
    unit, now = own.dtype.type(1), own.dtype.type(norm)
    squares = slopes = 0.0
    for start in range(0, len(own), TOGETHER):
        x, over = own[start : start + TOGETHER], inverses[start : start + TOGETHER]
        one = two = own.dtype.type(0)
        for i in range(len(x)):
            factor = over[i] / (now * over[i] + unit)
            ratio = x[i] * factor
            one += ratio * ratio
            two += ratio * ratio * factor
        squares, slopes = squares + one, slopes + two
    return squares, slopes


@njit(**FAST)  # type: ignore[untyped-decorator]  # numba has no types
def _fill_alike(x: Any, low: float, inverse: float, own: Any, inverses: Any) -> tuple[float, float]:
    """The same where all have one threshold."""
    bound, over, length = x.dtype.type(low), x.dtype.type(inverse), 0.0
    for i in range(len(x)):
        value = max(x[i], bound)
        own[i], inverses[i] = value, over
        length += np.float64(value) * value
    return length, length * inverse * inverse


@njit(**FAST)  # type: ignore[untyped-decorator]  # numba has no types
def _gather(entry: Any, numbers: Any, which: int, own: Any, inverses: Any) -> tuple[float, float, float]:
    """Copies the numbers of a group; sums of squares, of those of ratios, and of squares of what has no threshold."""
    at, length, beyond, still = 0, 0.0, 0.0, 0.0
    for index in range(entry[0]):
        tensor = entry[BEGINS + EACH * index : BEGINS + EACH * (index + 1)]
        place = entry[2] + NUMBERS * index
        factor, eps, low = numbers[place], numbers[place + 1], numbers[place + 2]
        begin = carray(_at(tensor[2] + 8 * which), 1, np.int64)[0]
        runs, size, what = carray(_at(tensor[3]), tensor[4], np.int64), tensor[5], tensor[6]
        for run in range(len(runs)):
            offset = own.itemsize * (begin + runs[run])
            x, there, over = (
                carray(_at(tensor[0] + offset), size, own.dtype),
                own[at : at + size],
                inverses[at : at + size],
            )
            if what == DIFFERS:
                squares = carray(_at(tensor[1] + offset), size, own.dtype)
                one, two = _fill(x, squares, low, factor, eps, there, over)
            else:
                one, two = _fill_alike(x, low, 1 / factor if what == ALIKE else MOST, there, over)
            length, beyond = length + one, beyond + two
            if what == STAYS:
                still += one
            at += size
    return length, beyond, still


@njit(**FAST)  # type: ignore[untyped-decorator]  # numba has no types
def _norm(own: Any, inverses: Any, length: float, beyond: float, still: float, steps: int) -> float:
    """The norm of a group after the step, from the sums of `_gather`."""
    if beyond <= 1:
        return 0.0
    norm: float = np.sqrt(length) * (1 - 1 / np.sqrt(beyond))
    for _ in range(steps):
        squares, slopes = _slope(own, inverses, norm)
        if not slopes > 0:
            break
        off = np.sqrt(squares) - 1
        norm = max(norm + off * squares / slopes, np.sqrt(still))
        if off * off <= ENOUGH * np.finfo(own.dtype).eps:
            break
    return norm


@njit(**FAST)  # type: ignore[untyped-decorator]  # numba has no types
def _put(x: Any, own: Any, inverses: Any, norm: float) -> None:
    """Writes ``x * norm / (norm + thresholds)``."""
    unit, now = x.dtype.type(1), x.dtype.type(norm)
    for i in range(len(x)):
        times = now * inverses[i]
        x[i] = own[i] * (times / (times + unit))


@njit(**FAST)  # type: ignore[untyped-decorator]  # numba has no types
def _scatter(entry: Any, which: int, own: Any, inverses: Any, norm: float) -> None:
    """Writes the numbers of a group, but those that stay."""
    at = 0
    for index in range(entry[0]):
        tensor = entry[BEGINS + EACH * index : BEGINS + EACH * (index + 1)]
        begin = carray(_at(tensor[2] + 8 * which), 1, np.int64)[0]
        runs, size = carray(_at(tensor[3]), tensor[4], np.int64), tensor[5]
        for run in range(len(runs)):
            if tensor[6] != STAYS:
                x = carray(_at(tensor[0] + own.itemsize * (begin + runs[run])), size, own.dtype)
                _put(x, own[at : at + size], inverses[at : at + size], norm)
            at += size


def kernel(name: str, is_cached: bool) -> Any:
    """What one thread runs for tensors of a type, ``float32``, given the address of a table: a function of C.

    The table: the next piece of work, how many threads have begun, how many pieces there are, their address, that of
    the numbers, that of room for each thread, how many numbers of a group that holds, the most steps of Newton. A piece
    of work is some of the groups that lie in the same tensors: where their entry is, the first, and the one after the
    last. An entry: how many tensors, how many numbers of a group, where the numbers of the first tensor are; then for
    each its address, that of its squares, those of where groups begin and of where, from there, runs do, how many runs
    there are, how long they are, and what its thresholds are. Its numbers: a factor, what is added to the roots of
    squares, and the least that it may be.
    """
    dtype = np.dtype(name)
    size = dtype.itemsize

    @cfunc(types.void(types.int64), cache=is_cached, **FAST)  # type: ignore[untyped-decorator]  # numba has no types
    def run(address: int) -> None:
        head = carray(_at(address), HEAD, np.int64)
        most = head[6]
        room = carray(_at(head[5] + _next(address + 8) * 2 * most * size), 2 * most, dtype)
        works, work = carray(_at(head[3]), WORK * head[2], np.int64), _next(address)
        while work < head[2]:
            place, first, last = works[WORK * work], works[WORK * work + 1], works[WORK * work + 2]
            begins = carray(_at(place), BEGINS, np.int64)
            entry = carray(_at(place), BEGINS + EACH * begins[0], np.int64)
            numbers = carray(_at(head[4]), entry[2] + NUMBERS * begins[0], np.float64)
            own, inverses = room[: entry[1]], room[most : most + entry[1]]
            for which in range(first, last):
                length, beyond, still = _gather(entry, numbers, which, own, inverses)
                norm = _norm(own, inverses, length, beyond, still, head[7])
                _scatter(entry, which, own, inverses, norm)
            work = _next(address)

    return run.ctypes
