"""What a run has kept of its held-out examples: how far its probabilities can be believed, and its worst examples."""

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


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What is known of held-out examples, by outputs."""

    examples: int = 0  # that were looked at
    data: str | None = None  # by which data are told from others
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
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
            {name: tuple(map(_bad, each["worst"])) for name, each in outputs.items() if each["worst"]},
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise RegspecError(Problem("does not say what was held out", path=path)) from None


def _calibration(read: Mapping[str, Any]) -> Calibration:
    said, right, counts = (np.asarray(read[name], dtype=np.float64) for name in ("said", "right", "counts"))
    if not said.shape == right.shape == counts.shape or said.ndim != 1:
        raise ValueError
    return Calibration(said, right, counts, float(read["error"]))


def _bad(read: Mapping[str, Any]) -> Bad:
    probability = read["probability"]
    return Bad(
        str(read["name"]),
        float(read["loss"]),
        str(read["is"]),
        str(read["said"]),
        None if probability is None else float(probability),
    )
