"""A schedule of Keras's learning rate in the words of a training file: the rate, and what it is multiplied by."""

from __future__ import annotations

from collections.abc import Callable
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
