"""The schedules that a regularizer's strength may follow: its factor, from the first step of the optimizer on.

``schedule: {warmup: 1000}``; ``{linear: {start: 0, end: 1, over: 10, unit: epoch}}``; a list of these is their product.
The formulas stand with the runtime's classes of the same names.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from regspec.code.expressions import Call, call, unless
from regspec.language.fields import NotNegative, Positive, Sequence, Size
from regspec.language.forms import Family, Named, at


class Schedule(Named):
    """A factor that changes with the steps of the optimizer, or with the epochs."""

    unit: Literal["step", "epoch"] = "step"

    def lower(self) -> Call:
        """The constructor of the runtime's schedule."""
        fields = sorted(type(self).model_fields.items(), key=lambda item: item[0] == "unit")
        given = {name: unless(field.default, getattr(self, name)) for name, field in fields}
        return call(f"{type(self).__name__}Schedule", **given)


_SYNONYMS = {
    "cosine_annealing": "cosine",
    "cosine_decay": "cosine",
    "exponential_decay": "exponential",
    "linear_decay": "linear",
    "polynomial": "linear",
    "ramp": "warmup",
    "step": "steps",
    "multi_step": "steps",
    "piecewise_constant": "steps",
    "delay": "constant",
}

SCHEDULES: Family[Schedule] = Family("schedule", synonyms=_SYNONYMS)


@SCHEDULES.add
class Constant(Schedule):
    """value for the first steps, and then 1: a penalty that begins late, or is weaker at first."""

    example = "{value: 0.0, over: 1000}"
    value: NotNegative
    over: Size


@SCHEDULES.add
class Linear(Schedule):
    """A straight line from start to end, where it stays."""

    example = "{start: 0.0, end: 1.0, over: 1000}"
    start: NotNegative
    end: NotNegative
    over: Size


@SCHEDULES.add
class Cosine(Schedule):
    """Half a cosine from start to end, where it stays."""

    main = "over"
    example = "1000"
    over: Size
    start: NotNegative = 1.0
    end: NotNegative = 0.0


@SCHEDULES.add
class Exponential(Schedule):
    """rate ** (steps / over)."""

    main = "rate"
    example = "0.99"
    rate: Positive
    over: Size = 1


@SCHEDULES.add
class Warmup(Schedule):
    """A straight line from 0 to 1, where it stays."""

    main = "over"
    example = "1000"
    over: Size


@SCHEDULES.add
class Steps(Schedule):
    """rate to the power of how many of the counts in at are reached."""

    example = "{at: [1000, 2000], rate: 0.1}"
    at: Annotated[tuple[Size, ...], Sequence, Field(min_length=1)]
    rate: NotNegative


def parse_schedules(value: Any) -> tuple[Schedule, ...]:
    """The schedules that a value of the document means: one, or a list of them. Raises a pydantic error."""
    if not isinstance(value, list) or not value:
        return (SCHEDULES.parse(value),)
    schedules = []
    for index, item in enumerate(value):
        with at(index):
            schedules.append(SCHEDULES.parse(item))
    return tuple(schedules)
