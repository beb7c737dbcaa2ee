"""Ratios of medians, of runs that alternate in one process."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SCALES = {"ms": 1e3, "MB": 1e-6, "": 1.0}


@dataclass(frozen=True)
class Figure:
    """What was compared, how much each took, and what was aimed at: seconds, or bytes for MB, or plain numbers."""

    name: str
    ours: float
    theirs: float
    most: float  # the ratio aimed at
    unit: str = "ms"  # in which both are printed: a key of `SCALES`

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        ours, theirs = (f"{each * SCALES[self.unit]:.3f} {self.unit}".rstrip() for each in (self.ours, self.theirs))
        return self.name, ours, theirs, f"{self.ratio:.3f}", f"{self.most:g}"


def compare(
    name: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    *,
    most: float,
    rounds: int = 15,
    calls: int = 1,
) -> Figure:
    """The medians over ``rounds`` of ``calls`` each, ours and theirs in turns, after one round that does not count."""
    seconds: tuple[list[float], list[float]] = ([], [])
    gc.collect()
    gc.freeze()  # or a search for garbage before each call would take half a second, all modules being searched
    for index in range(rounds + 1):
        # whoever is first may find a colder machine, so the two swap
        for which in (0, 1) if index % 2 else (1, 0):
            taken = _seconds((ours, theirs)[which], calls)
            if index:
                seconds[which].append(taken)
    gc.unfreeze()
    return Figure(name, statistics.median(seconds[0]), statistics.median(seconds[1]), most)


def _seconds(function: Callable[[], Any], calls: int) -> float:
    gc.collect()
    start = time.perf_counter()
    for _ in range(calls):
        result = function()
    taken = time.perf_counter() - start
    del result  # outside the time: freeing a model is not building it
    return taken / calls
