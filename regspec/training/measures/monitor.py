"""Which figure tells what epoch is the best: the held-out loss, or a metric of what is held out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.data.targets import Target
from regspec.training.measures.metrics import names_of

LEAST = ("loss", "mse", "rmse", "mae", "mape", "smape", "calibration_error")  # of others more is better


@dataclass(frozen=True)
class Monitor:
    """A column of metrics, and whether the least of it is the best."""

    column: str = "held_out_loss"
    is_least: bool = True

    def __str__(self) -> str:
        """What it is, for people: ``the held-out loss``, ``the held-out kind f1``."""
        what, _, output = self.column.removeprefix("held_out_").partition("/")
        return " ".join(("the held-out", *([output] if output else []), what))

    def best(self, rows: Sequence[Mapping[str, float]]) -> int:
        """The first of the best epochs, counted from 1; 0 where there is none. What is no number is the worst."""
        values = [row[self.column] if self.is_least else -row[self.column] for row in rows]
        values = [math.inf if math.isnan(value) else value for value in values]
        return 1 + values.index(min(values)) if values else 0


def monitor_of(text: str | None, targets: Sequence[Target]) -> Monitor:
    """The figure that a text names.

    Args:
        text: ``loss``, ``f1``, or ``kind.f1`` of one of several outputs; with ``min`` or ``max`` before it for a
            metric of one's own. The whole loss where there is none.
        targets: what the outputs learn.

    Raises:
        RegspecError: where there is no such figure, or it is not known whether more of it is better.
    """
    if text is None:
        return Monitor()
    way, _, name = text.strip().rpartition(" ")
    known = {"loss": "held_out_loss"}
    for target in targets:
        figures = ["loss", *([] if target.kind == "quantities" else ["accuracy"]), *names_of(target)]
        for each in figures:
            is_only = len(targets) == 1
            column = f"held_out_{each}" if is_only else f"held_out_{each}/{target.name}"
            known |= {f"{target.name}.{each}": column, **({each: column} if is_only else {})}
    if name not in known or way not in ("", "min", "max"):
        hint = did_you_mean(name, known) or f"it may be {', '.join(known)}"
        raise RegspecError(Problem(f"'{text}' is no figure of what is held out", hint))
    metric = known[name].removeprefix("held_out_").partition("/")[0]
    is_own = any(
        ":" in each and each.endswith(f":{metric}") for target in targets for each in target.wanted.said.metrics
    )
    if is_own and not way:
        raise RegspecError(
            Problem(f"'{text}' may be better where it is more, or less", f"write 'max {name}', or 'min {name}'")
        )
    return Monitor(known[name], way == "min" if way else metric in LEAST)
