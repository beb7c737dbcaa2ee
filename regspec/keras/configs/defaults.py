"""Which values of a config are those that a spec leaves out, because they are the defaults."""

from __future__ import annotations

from typing import Any

from regspec.language.fields import Frozen
from regspec.language.sorts import FAMILIES

SORTS = {"projection_activity": "regularizer"}  # of fields whose names don't end with what they are


def sort_of(field: str) -> str | None:
    """What family of things a field names, if any."""
    return SORTS.get(field) or next((sort for sort in FAMILIES if field == sort or field.endswith(f"_{sort}")), None)


def is_default(cls: type[Frozen], field: str, value: Any) -> bool:
    """Whether a value is a field's default; one of a family as a spec writes it."""
    default = cls.model_fields[field].default
    sort = sort_of(field)
    if sort is None or value is None:
        return is_like(value, default)
    if default is None:
        return bool(value == "linear")
    return bool(FAMILIES[sort].parse(value) == default)


def is_like(value: Any, default: Any) -> bool:
    """Whether a value means a default: as a list for a tuple, and one size for all axes, or all of them for one."""
    if not isinstance(default, tuple) or value is None:
        return bool(value == default)
    given = _tuples(value) if isinstance(value, list) else (value,)
    is_repeated = bool(given) and all(each == given[0] for each in given)
    return given == default or (given,) == default or (is_repeated and given[:1] == default)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
