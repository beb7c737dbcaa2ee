"""Turns pydantic's errors into problems in regspec's own words, at their place in the document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from regspec.text.document import Document, Location
from regspec.text.problems import Problem, did_you_mean, nearest

SHOWN = 60  # characters of a value that a message shows
UNKNOWN: Any = object()  # stands for the value of a parameter that does not exist, so that it causes no second fault


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a part of a spec was written."""

    document: Document
    location: Location = ()

    def __truediv__(self, step: str | int) -> Origin:
        return Origin(self.document, (*self.location, step))

    def problem(self, what: str, hint: str | None = None, *, key: bool = False) -> Problem:
        """A problem here; with ``key``, at the key that leads here."""
        return self.document.problem(self.location, what, hint, key=key)


def shown(value: Any) -> str:
    """A value as a message shows it: ``'abc'``, ``64``, ``null``, ``a mapping``."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def problems(errors: Iterable[Any], origin: Origin, subject: str, known: Iterable[str] = ()) -> Iterator[Problem]:
    """The problems of a ValidationError's ``errors()``; ``subject`` is what was validated, ``known`` its fields."""
    errors = [error for error in errors if error["input"] is not UNKNOWN]
    misspelt = {_near(str(error["loc"][-1]), known) for error in errors if error["type"] == "extra_forbidden"}
    for error in errors:
        if error["type"] == "missing" and len(error["loc"]) == 1 and error["loc"][0] in misspelt:
            continue  # it is given under a misspelt name, which is reported by itself
        context = error.get("ctx", {})
        location, is_key = error["loc"], False
        if location and location[-1] == "[key]":  # pydantic's mark for the key of a mapping
            location, is_key = location[:-1], True
        here = origin
        for step in (*location, *context.get("at", ())):
            here = here / step
        kind = error["type"]
        if kind == "nested":
            yield from problems(context["errors"], here, f"'{context['name']}'", context["fields"])
        elif kind in ("missing", "extra_forbidden"):
            *owner, field = location
            whose = _field(tuple(owner)) or subject
            if kind == "missing":
                yield Origin(here.document, here.location[:-1]).problem(f"{whose} needs '{field}'", key=True)
            else:
                near = _near(str(field), known)
                hint = None if near is None else f"did you mean '{near}'?"
                yield here.problem(f"{whose} has no field '{field}'", hint, key=True)
        elif kind == "unknown_name":
            what = error["msg"].replace("names", f"{_field(location)} of {subject} names", 1)
            yield here.problem(what, context["hint"], key=bool(context["at"]))
        else:
            field = "a name" if is_key else f"{_field(location)} of {subject}" if location else subject
            yield here.problem(f"{field} {_expected(kind, context, error)}", _hint(error, context), key=is_key)


# What PyTorch and others call a field that Keras calls otherwise.
_SYNONYMS = {
    "bias": ("use_bias",),
    "embedding_dim": ("output_dim",),
    "eps": ("epsilon",),
    "hidden_size": ("units",),
    "num_embeddings": ("input_dim",),
    "out_channels": ("filters",),
    "out_features": ("units",),
    "p": ("rate",),
    "regularizer": ("kernel_regularizer", "embeddings_regularizer", "activity_regularizer"),
    "weight_regularizer": ("kernel_regularizer", "embeddings_regularizer"),
    "kernel_regularizer": ("kernel",),
    "bias_regularizer": ("bias",),
}


def _near(field: str, known: Iterable[str]) -> str | None:
    """The known field that is probably meant: a synonym, or the nearest name; else None."""
    known = [*known]
    return next((each for each in _SYNONYMS.get(field, ()) if each in known), None) or nearest(field, known)


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
        return f"must have {bound} items, but has {context['actual_length']}"
    if kind == "form":
        return f"{error['msg']}, but is {shown(context.get('received', error['input']))}"
    return str(error["msg"])


def _hint(error: Any, context: dict[str, Any]) -> str | None:
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        return did_you_mean(error["input"], str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", "))
    return context.get("hint") if error["type"] not in _EXPECTED else None
