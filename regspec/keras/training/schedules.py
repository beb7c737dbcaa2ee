"""Schedules of the learning rate, from Keras to the words of a training file, and back.

Keras has one in place of a rate; a training file has the rate, and what it is multiplied by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from regspec.keras.training.settings import Settings, name_and_settings, number, rounded, whole

# The rate, and the schedule; or None where these words can't say it.
Scheduled = tuple[float, dict[str, Any]] | None
DIGITS = 12  # of what is multiplied again and again


def schedule_of(stored: Any) -> Scheduled:
    """The rate and the schedule of what Keras stores in place of a rate."""
    name, settings = name_and_settings(stored)
    make = SCHEDULES.get(name or "")
    start = number(settings, "initial_learning_rate", None)
    if make is None or (start is None and make is not _piecewise):
        return None
    return make(settings, start)


def by_decay(rate: float, decay: float) -> Scheduled:
    """The schedule of an older Keras's ``decay``."""
    return rate, {"inverse_time_decay": {"rate": decay}}


def _exponential(settings: Settings, start: float) -> Scheduled:
    steps, rate = number(settings, "decay_steps", None, least=1), number(settings, "decay_rate", None)
    if steps is None or not rate:
        return None
    if settings.get("staircase") is not True:
        return start, {"exponential": {"gamma": rounded(rate ** (1 / steps), DIGITS), "by": "steps"}}
    if steps != int(steps):
        return None
    return start, {"step": {"step_size": int(steps), "gamma": rate, "by": "steps"}}


def _inverse_time(settings: Settings, start: float) -> Scheduled:
    steps, rate = number(settings, "decay_steps", None, least=1), number(settings, "decay_rate", None)
    if steps is None or rate is None:
        return None
    staircase = {"staircase": True} if settings.get("staircase") is True else {}
    return start, {"inverse_time_decay": {"rate": rate, "steps": steps, **staircase}}


def _piecewise(settings: Settings, _: float) -> Scheduled:
    found = [settings.get(key) for key in ("boundaries", "values")]
    boundaries, values = (
        [number({"x": each}, "x", None) for each in stored] if isinstance(stored, list) else [] for stored in found
    )
    if None in (*boundaries, *values) or len(values) != len(boundaries) + 1 or boundaries != sorted(boundaries):
        return None
    rate = values[0] or max(values)
    if not rate or not boundaries:
        return None
    factors = [rounded(each / rate) for each in values]
    return rate, {"piecewise_constant": {"boundaries": boundaries, "factors": factors}}


def _polynomial(settings: Settings, start: float) -> Scheduled:
    steps, end = number(settings, "decay_steps", None, least=1), number(settings, "end_learning_rate", 1e-4)
    power = number(settings, "power", 1.0)
    if steps is None or not start:
        return None
    said = {"steps": steps, "end": rounded(end / start)}
    if settings.get("cycle") is not True and power == 1:
        return start, {"linear_decay": said}
    cycle = {"cycle": True} if settings.get("cycle") is True else {}
    return start, {"polynomial_decay": {**said, "power": power, **cycle}}


def _cosine(settings: Settings, start: float) -> Scheduled:
    steps, end = whole(settings, "decay_steps"), number(settings, "alpha", 0.0)
    peak, warmup = number(settings, "warmup_target", None), whole(settings, "warmup_steps", 0)
    if steps is None:
        return None
    said = {"steps": steps, **({"end": end} if end else {})}
    if settings.get("warmup_target") is None:
        return start, {"cosine": said}
    if not peak or warmup is None:
        return None
    return peak, {"cosine": {**said, **({"warmup": warmup, "begin": rounded(start / peak)} if warmup else {})}}


def _restarts(settings: Settings, start: float) -> Scheduled:
    steps, longer = number(settings, "first_decay_steps", None, least=1), number(settings, "t_mul", 2.0, least=1)
    lower, end = number(settings, "m_mul", 1.0), number(settings, "alpha", 0.0)
    if steps is None:
        return None
    return start, {"cosine_restarts": {"steps": steps, "t_mul": longer, "m_mul": lower, "end": end}}


SCHEDULES: dict[str, Callable[[Settings, Any], Scheduled]] = {
    "exponential_decay": _exponential,
    "inverse_time_decay": _inverse_time,
    "piecewise_constant_decay": _piecewise,
    "polynomial_decay": _polynomial,
    "cosine_decay": _cosine,
    "cosine_decay_restarts": _restarts,
}


# -- back to Keras -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """What a training file multiplies the rate by."""

    name: str
    arguments: Mapping[str, Any]  # those that are given
    period: int | None = 1  # how many steps what it counts has: an epoch's, or one; None where that is not known
    total: int | None = None  # the steps of the whole run, as far as they are known


Made = tuple[str, dict[str, Any]]  # the class of Keras's schedule, and its arguments


def schedule_in_keras(schedule: Schedule, rate: float) -> Made | None:
    """Keras's schedule of a rate that is multiplied by another; None where Keras has no such one."""
    make = IN_KERAS.get(schedule.name)
    made = None if make is None or schedule.period is None else make(rate, schedule, **schedule.arguments)
    if made is None:
        return None
    name, settings = made
    return name, {key: rounded(each, DIGITS) if isinstance(each, float) else each for key, each in settings.items()}


def _to_exponential(rate: float, schedule: Schedule, *, gamma: float) -> Made | None:
    staircase = {"staircase": True} if schedule.period != 1 else {}
    return "ExponentialDecay", _falls(rate, schedule.period, decay_rate=gamma, **staircase)


def _to_staircase(rate: float, schedule: Schedule, *, step_size: int, gamma: float = 0.1) -> Made | None:
    steps = step_size * (schedule.period or 1)
    return "ExponentialDecay", _falls(rate, steps, decay_rate=gamma, staircase=True)


def _to_pieces(rate: float, _: Schedule, *, boundaries: Any, factors: Any) -> Made | None:
    values = [rounded(rate * each, DIGITS) for each in factors]
    return "PiecewiseConstantDecay", {"boundaries": [*boundaries], "values": values}


def _to_milestones(rate: float, schedule: Schedule, *, milestones: Any, gamma: float = 0.1) -> Made | None:
    ends = [each * (schedule.period or 1) - 1 for each in sorted(milestones)]  # the last steps before
    if len({*ends}) < len(ends) or ends[:1] <= [0]:
        return None
    return _to_pieces(rate, schedule, boundaries=ends, factors=[gamma**index for index in range(len(ends) + 1)])


def _to_polynomial(
    rate: float, _: Schedule, *, steps: float, power: float = 1.0, end: float = 0.0, cycle: bool = False
) -> Made | None:
    said = {"power": power, **({"cycle": True} if cycle else {})}
    return "PolynomialDecay", _falls(rate, steps, end_learning_rate=rate * end, **said)


def _to_line(
    rate: float, schedule: Schedule, *, warmup: int = 0, end: float = 0.0, begin: float | None = None, steps: Any = None
) -> Made | None:
    length = schedule.total if steps is None else steps
    return None if warmup or not length else _to_polynomial(rate, schedule, steps=length, end=end)


def _to_inverse_time(
    start: float, _: Schedule, *, rate: float, steps: float = 1, staircase: bool = False
) -> Made | None:
    said = {"staircase": True} if staircase else {}
    return "InverseTimeDecay", _falls(start, steps, decay_rate=rate, **said)


def _to_cosine(
    rate: float, schedule: Schedule, *, warmup: int = 0, end: float = 0.0, begin: float | None = None, steps: Any = None
) -> Made | None:
    length = steps if steps is not None else schedule.total and schedule.total - warmup
    if not length or (warmup and begin is None):  # Keras's first step has the rate that the rise begins with
        return None
    if not warmup:
        return "CosineDecay", _falls(rate, length, alpha=end)
    rise = {"warmup_target": rate, "warmup_steps": warmup}
    return "CosineDecay", {**_falls(rate * (begin or 0.0), length, alpha=end), **rise}


def _to_restarts(
    rate: float, _: Schedule, *, steps: float, t_mul: float = 2.0, m_mul: float = 1.0, end: float = 0.0
) -> Made | None:
    said = {"t_mul": t_mul, "m_mul": m_mul, "alpha": end}
    return "CosineDecayRestarts", {"initial_learning_rate": rate, "first_decay_steps": steps, **said}


def _falls(rate: float, steps: Any, **more: Any) -> dict[str, Any]:
    return {"initial_learning_rate": rate, "decay_steps": steps, **more}


IN_KERAS: dict[str, Callable[..., Made | None]] = {
    "exponential": _to_exponential,
    "step": _to_staircase,
    "multi_step": _to_milestones,
    "piecewise_constant": _to_pieces,
    "polynomial_decay": _to_polynomial,
    "linear_decay": _to_line,
    "inverse_time_decay": _to_inverse_time,
    "cosine": _to_cosine,
    "cosine_restarts": _to_restarts,
}
