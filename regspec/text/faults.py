"""Turns pydantic's errors into problems in regspec's own words, at their place in the document."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from regspec.text.document import IN_BRACES, Document, Location, Part
from regspec.text.hints import OPEN_SIZES, choice_hint, field_hint, near_field, size_hint
from regspec.text.problems import Problem

SHOWN = 60  # characters of a value that a message shows
UNKNOWN: Any = object()  # stands for the value of a parameter that does not exist, so that it causes no second fault


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a part of a spec was written."""

    document: Document
    location: Location = ()
    name: Location | None = None  # where the text says what this is, if no key before it does

    def __truediv__(self, step: str | int) -> Origin:
        return Origin(self.document, (*self.location, step))

    def problem(self, what: str, hint: str | None = None, *, key: bool = False, part: Part | None = None) -> Problem:
        """A problem here; with ``key``, at the key that leads here; with ``part``, at characters of the text here."""
        if key and self.name is not None:
            return self.document.problem(self.name, what, hint)
        return self.document.problem(self.location, what, hint, key=key, part=part)


def shown(value: Any) -> str:
    """A value as a message shows it: ``'abc'``, ``64``, ``null``, ``a mapping``."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(str(value) if isinstance(value, str) else value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def problems(
    errors: Iterable[Any],
    origin: Origin,
    subject: str,
    known: Iterable[str] = (),
    parts: Mapping[str, Part] | None = None,
    parameters: Container[str] = (),
) -> Iterator[Problem]:
    """The problems of a ValidationError's ``errors()``; ``subject`` is what was validated, ``known`` its fields.

    ``parts`` are where fields stand in the text at the origin, if they stand in one; ``parameters`` those that it may
    refer to.
    """
    errors = [error for error in errors if error["input"] is not UNKNOWN]
    is_cut = any(error.get("ctx", {}).get("hint") == IN_BRACES for error in errors)
    misspelt = {
        (*error["loc"][:-1], near_field(str(error["loc"][-1]), known))
        for error in errors
        if error["type"] == "extra_forbidden"
    }
    for error in errors:
        if error["type"] == "missing" and error["loc"] in misspelt:
            continue  # it is given under a misspelt name, which is reported by itself
        if error["type"] == "too_short" and _is_long_enough(error, errors):
            continue
        if error["type"] == "extra_forbidden" and is_cut and not str(error["loc"][-1]).isidentifier():
            continue  # the rest of a call that a comma has cut in two, which is reported by itself
        context = error.get("ctx", {})
        location, is_key = error["loc"], False
        if location and location[-1] == "[key]":  # pydantic's mark for the key of a mapping
            location, is_key = location[:-1], True
        steps = (*location, *context.get("at", ()))
        here = _inside(origin, steps)
        kind = error["type"]
        part = context.get("part") or (parts or {}).get(str(location[0]) if location else "")
        if kind == "nested":
            name, fields = f"'{context['name']}'", context["fields"]
            if "named" in context:  # as Keras serializes it: its name stands beside its fields
                here = replace(here, name=_inside(origin, (*location, *context["named"])).location)
            yield from problems(context["errors"], here, name, fields, context.get("parts"), parameters)
        elif kind in ("missing", "extra_forbidden"):
            *owner, field = location
            whose = _field(tuple(owner)) or subject
            if kind == "missing":
                yield _inside(origin, steps[:-1]).problem(f"{whose} needs '{field}'", key=True)
            else:
                hint = field_hint(str(field), known)
                yield here.problem(f"{whose} has no field '{field}'", hint, key=part is None, part=part)
        elif kind == "unknown_name":
            what = error["msg"].replace("names", f"{_field(location)} of {subject} names", 1)
            hint = _as_reference(error["input"], here, parameters) or context["hint"]
            yield here.problem(what, hint, key=context["at"][-1:] not in ((), ("class_name",)), part=part)
        else:
            field = "a name" if is_key else f"{_field(location)} of {subject}" if location else subject
            what = f"{field} {_expected(kind, context, error)}"
            hint = _as_reference(error["input"], here, parameters) or _hint(error, context)
            yield here.problem(what, hint, key=is_key, part=part)


def _inside(origin: Origin, steps: Iterable[str | int]) -> Origin:
    for step in steps:
        origin = origin / step
    return origin


def _is_long_enough(error: Any, errors: Iterable[Any]) -> bool:
    """Whether something is too short only because faulty items, which have errors of their own, do not count."""
    own = error["loc"]
    faulty = {each["loc"][: len(own) + 1] for each in errors if each["loc"][: len(own)] == own != each["loc"]}
    return bool(faulty) and error["ctx"]["actual_length"] + len(faulty) >= error["ctx"]["min_length"]


def _field(location: tuple[str | int, ...]) -> str:
    """``'kernel_size[0]'`` for the location of an error in its model."""
    names = [str(step) if isinstance(step, str) else f"[{step}]" for step in location]
    return f"'{'.'.join(names).replace('.[', '[')}'" if names else ""


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def _expected(kind: str, context: dict[str, Any], error: Any) -> str:
    """``must be a whole number, but is 'abc'``."""
    received = shown(error["input"])
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, but is {received}"
    if kind == "greater_than_equal":
        return f"must be at least {context['ge']:g}, but is {received}"
    if kind == "greater_than":
        return f"must be greater than {context['gt']:g}, but is {received}"
    if kind == "less_than_equal":
        return f"must be at most {context['le']:g}, but is {received}"
    if kind == "less_than":
        return f"must be less than {context['lt']:g}, but is {received}"
    if kind == "literal_error":
        return f"must be {context['expected']}, but is {received}"
    if kind in ("too_short", "too_long"):
        bound = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        given = error["input"]  # of which pydantic counts what is valid
        count = len(given) if isinstance(given, (list, tuple, dict)) else context["actual_length"]
        return f"must have {bound} items, but has {count}"
    if kind == "form":
        return f"{error['msg']}, but is {shown(context.get('received', error['input']))}"
    return str(error["msg"])


_WORD = re.compile(r"[A-Za-z_]\w*")
_ARITHMETIC = re.compile(r"[\w\s.+*/%()-]+")


def _as_reference(value: Any, origin: Origin, parameters: Container[str]) -> str | None:
    """The hint at a reference, where a text says the names of parameters without their dollars."""
    words = _WORD.findall(value) if isinstance(value, str) and _ARITHMETIC.fullmatch(value) else []
    if not words or not all(word in parameters for word in words) or "$" in str(_written(origin)):
        return None
    return f"did you mean '{_WORD.sub(lambda word: f'${word[0]}', str(value))}'?"


def _written(origin: Origin) -> Any:
    """What the document has at a place, as far as it has that."""
    value = origin.document.data
    for step in origin.location:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            break
    return value if isinstance(value, str) else ""


def _hint(error: Any, context: dict[str, Any]) -> str | None:
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        choices = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        return choice_hint(error["input"], choices)
    field = next((each for each in reversed(error["loc"]) if isinstance(each, str)), "")
    if field in (*OPEN_SIZES, "units") and error["type"] in (
        "int_type",
        "greater_than_equal",
        "list_type",
        "tuple_type",
    ):
        return size_hint(field, error["input"])
    return context.get("hint") if error["type"] not in _EXPECTED else None
