"""Fields of a config as a spec has them: without those that have their default values, and in the fewest words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any, get_args

from regspec.language.fields import Frozen, as_written, in_order
from regspec.language.sorts import FAMILIES

LARGEST = 2**53  # whole numbers up to which floats have all
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


def as_a_person_writes(cls: type[Frozen], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a class in order, with one number for equal ones, and without those that follow from the others.

    So a file that is made of a spec says the same as one that Keras has saved.
    """
    declared = {cls.model_fields[name].alias or name: name for name in in_order(cls)}
    order = {name: place for place, name in enumerate(declared)}
    of_several = getattr(cls, "one_for_all", ())
    said = dict[str, Any]()
    for name in sorted(fields, key=lambda name: order.get(name, -1)):
        own, value = declared.get(name), fields[name]
        if own is not None:
            value = as_written(cls.model_fields[own], _one_of(value) if own in of_several else value)
            value = _as_floats(value) if takes_floats(cls, own) else value
        if own is None or own not in of_several or not is_default(cls, own, value):
            said[name] = value
    means = getattr(cls, "unsaid", {})
    if not means.keys() & said.keys():
        return said
    whole = SimpleNamespace(**{own: said.get(name, cls.model_fields[own].default) for name, own in declared.items()})
    return {name: value for name, value in said.items() if name not in means or not is_like(value, means[name](whole))}


@cache
def takes_floats(cls: type[Frozen], field: str) -> bool:
    """Whether the numbers of a field are floats, whatever a file has: so ``-1`` is said as ``-1.0``."""
    types = {*_types(cls.model_fields[field].annotation)}
    return float in types and int not in types


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for each in get_args(annotation):
        yield from _types(each)


def _as_floats(value: Any) -> Any:
    """A whole number as a float, and so those in a list, where they are not too large to be one."""
    if isinstance(value, list):
        return [_as_floats(each) for each in value]
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_whole and abs(value) < LARGEST else value


def _one_of(value: Any) -> Any:
    """The number that all of a list's are, lists in it included; a list of several as it is."""
    numbers = [*_flat(value)]
    return numbers[0] if numbers and all(each == numbers[0] for each in numbers) else value


def _flat(value: Any) -> Iterator[Any]:
    for each in value if isinstance(value, list) else [value]:
        yield from _flat(each) if isinstance(each, list) else [each]
