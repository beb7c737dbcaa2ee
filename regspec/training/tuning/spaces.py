"""The searches of parameters, and their values, as Optuna's trials take them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna

from regspec.specs.searches import Range, Search
from regspec.text.dumping import written

DIGITS = 6  # of a number that is tried, which people will read
DIGITS_OF_FACTORS = 4

Searches = Mapping[str, Search]


def grid(searches: Searches, trials: int) -> list[dict[str, Any]]:
    """All combinations of choices and of some values of each range, so many that there are about ``trials``.

    Example:
        >>> grid({"strength": Range(low=1e-4, high=1e-2, log=True)}, 3)
        [{'strength': 0.0001}, {'strength': 0.001}, {'strength': 0.01}]
    """
    columns: dict[str, list[Any]] = {}
    room = float(trials)
    for name, search in searches.items():
        if not isinstance(search, Range):
            columns[name] = [*search.choices]
            room /= len(search.choices)
    ranges = {name: search for name, search in searches.items() if isinstance(search, Range)}
    by_size = sorted(ranges, key=lambda name: len(_spread(ranges[name], trials)))
    for index, name in enumerate(by_size):  # what has few values leaves room to the others
        share = int(room ** (1 / (len(by_size) - index)) + 1e-9)
        columns[name] = _spread(ranges[name], max(share, 2))
        room /= len(columns[name])
    return [
        dict(zip(searches, values, strict=True)) for values in itertools.product(*(columns[name] for name in searches))
    ]


def _spread(search: Range, count: int) -> list[int | float]:
    """At most so many values of a range, evenly from its first to its last."""
    if search.step is not None or (search.is_whole and not search.log):
        step = search.step or 1
        steps = np.linspace(0, round((search.last - search.low) / step), count)
        spread: Any = search.low + step * steps.round()
    else:
        spread = (np.geomspace if search.log else np.linspace)(search.low, search.last, count)
    return [*dict.fromkeys(_rounded(value, search) for value in spread.tolist())]


def _rounded(value: float, search: Range) -> int | float:
    """A number of a range, as it is tried and shown."""
    digits = DIGITS_OF_FACTORS if search.log else DIGITS
    number = round(value) if search.is_whole else float(f"{value:.{digits}g}")
    return min(max(number, search.low), search.high)


def stored(searches: Searches, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as a study keeps them: numbers as they are, choices as YAML."""
    return {name: value if isinstance(searches[name], Range) else written(value) for name, value in values.items()}


def restored(searches: Searches, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a study keeps as these parameters: the inverse of `stored`."""
    values: dict[str, Any] = {}
    for name, search in searches.items():
        if isinstance(search, Range):
            values[name] = _rounded(parameters[name], search)
        else:
            values[name] = next(each for each in search.choices if written(each) == parameters[name])
    return values


def suggested(trial: optuna.Trial, searches: Searches) -> dict[str, Any]:
    """The values of a trial."""
    return restored(searches, {name: _suggestion(trial, name, search) for name, search in searches.items()})


def _suggestion(trial: optuna.Trial, name: str, search: Search) -> Any:
    if not isinstance(search, Range):
        return trial.suggest_categorical(name, [written(each) for each in search.choices])
    if search.is_whole:
        return trial.suggest_int(name, int(search.low), int(search.last), step=int(search.step or 1), log=search.log)
    return trial.suggest_float(name, search.low, search.last, step=search.step, log=search.log)


def ends(search: Search) -> tuple[Any, ...]:
    """The values that a spec must take for the search to be sound: every choice, or a range's first and last value."""
    return (search.low, _rounded(search.last, search)) if isinstance(search, Range) else search.choices


def told(searches: Searches, values: Mapping[str, Any]) -> str:
    """Values for people: ``strength 0.001, width 64``."""
    return ", ".join(f"{name} {written(values[name])}" for name in searches)


def told_of(name: str, search: Search) -> str:
    """Where a parameter may lie, for people."""
    if not isinstance(search, Range):
        return f"{name} among {', '.join(map(written, search.choices))}"
    how = " by factors" if search.log else "" if search.step is None else f" in steps of {search.step}"
    return f"{name} from {search.low} to {search.high}{how}"
