"""Which figure tells what epoch is the best: the held-out loss, or a metric of what is held out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.data.targets import Target
from regspec.training.measures.metrics import HELD_OUT, metrics_of

LAST = "last"  # the last epoch, whatever its figures


@dataclass(frozen=True)
class Monitor:
    """A column of metrics, and whether the least of it is the best."""

    column: str = f"{HELD_OUT}loss"
    is_least: bool = True

    def __str__(self) -> str:
        """What it is, for people: ``the held-out loss``, ``the held-out kind f1``."""
        if self.column == "epoch":
            return "the last epoch"
        what, _, output = self.column.removeprefix(HELD_OUT).partition("/")
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
            metric of one's own; ``last`` for the last epoch. The whole loss where there is none.
        targets: what the outputs learn.

    Raises:
        RegspecError: where there is no such figure, or it is not known whether more of it is better.
    """
    if text is None:
        return Monitor()
    if text == LAST:
        return Monitor("epoch", is_least=False)
    way, _, name = text.strip().rpartition(" ")
    known: dict[str, tuple[str, bool | None]] = {"loss": (f"{HELD_OUT}loss", True)}
    is_only = len(targets) == 1
    for target in targets:
        always = {"loss": True} if target.kind == "quantities" else {"loss": True, "accuracy": False}
        for each, is_least in {**always, **metrics_of(target)}.items():
            column = f"{HELD_OUT}{each}" if is_only else f"{HELD_OUT}{each}/{target.name}"
            known |= {f"{target.name}.{each}": (column, is_least), **({each: (column, is_least)} if is_only else {})}
    if name not in known or way not in ("", "min", "max"):
        hint = did_you_mean(name, known) or f"it may be {', '.join(known)}"
        raise RegspecError(Problem(f"'{text}' is no figure of what is held out", hint))
    column, is_least = known[name]
    if way:
        is_least = way == "min"
    if is_least is None:
        raise RegspecError(
            Problem(f"'{text}' may be better where it is more, or less", f"write 'max {name}', or 'min {name}'")
        )
    return Monitor(column, is_least)
