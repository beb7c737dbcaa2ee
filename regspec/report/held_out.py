"""What a run has kept of its held-out examples: calibration, which class is taken for which, and the worst of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regspec.text.problems import Problem, RegspecError

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What was said with which probability, how often it was so, and of how much, in bins; and the expected error."""

    said: Numbers
    right: Numbers
    counts: Numbers
    error: float


@dataclass(frozen=True, slots=True)
class Bad:
    """An example with a large loss: its name, what it is, what the model says, and how probable it has that."""

    name: str
    loss: float
    truth: str
    said: str
    probability: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """How often a class (row) is taken for each class (column); of many classes, the most frequent mistakes instead.

    A mistake is the class that it is, that which it is taken for, how often, and of how many of the class.
    """

    classes: tuple[str, ...]
    counts: Numbers
    mistakes: tuple[tuple[str, str, int, int], ...]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What is known of held-out examples, by outputs."""

    examples: int = 0  # that were looked at
    data: str | None = None  # by which data are told from others
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    confusions: Mapping[str, Confusion] = field(default_factory=dict)
    worst: Mapping[str, tuple[Bad, ...]] = field(default_factory=dict)


def held_out_of(read: Mapping[str, Any], path: str) -> HeldOut:
    """What a file's mapping says; nothing of an empty one. Raises `RegspecError` where it says something else."""
    if not read:
        return HeldOut()
    try:
        outputs: Mapping[str, Any] = dict(read["outputs"])
        return HeldOut(
            int(read["examples"]),
            read.get("data"),
            {name: _calibration(each["calibration"]) for name, each in outputs.items() if each["calibration"]},
            {name: _confusion(each["confusion"]) for name, each in outputs.items() if each.get("confusion")},
            {name: tuple(map(_bad, each["worst"])) for name, each in outputs.items() if each["worst"]},
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise RegspecError(Problem("does not say what was held out", path=path)) from None


def _calibration(read: Mapping[str, Any]) -> Calibration:
    said, right, counts = (np.asarray(read[name], dtype=np.float64) for name in ("said", "right", "counts"))
    if not said.shape == right.shape == counts.shape or said.ndim != 1:
        raise ValueError
    return Calibration(said, right, counts, float(read["error"]))


def _confusion(read: Mapping[str, Any]) -> Confusion:
    classes, counts = tuple(map(str, read["classes"])), np.asarray(read["counts"], dtype=np.float64)
    if classes and counts.shape != (len(classes), len(classes)):
        raise ValueError
    mistakes = tuple((str(is_), str(said), int(count), int(of)) for is_, said, count, of in read["mistakes"])
    return Confusion(classes, counts, mistakes)


def _bad(read: Mapping[str, Any]) -> Bad:
    probability = read["probability"]
    return Bad(
        str(read["name"]),
        float(read["loss"]),
        str(read["is"]),
        str(read["said"]),
        None if probability is None else float(probability),
    )
