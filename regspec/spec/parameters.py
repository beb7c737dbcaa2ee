"""Putting parameters in: ``$width`` stands for a named value, ``$$`` for a dollar."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from regspec.errors import Problem, did_you_mean
from regspec.spec.faults import UNKNOWN, Origin, shown

MAX_TEXT = 1_000  # of a text with references in it, so that it can't grow without bound

_REFERENCE = re.compile(r"\$(\$|[A-Za-z_][A-Za-z0-9_]*)")


def substitute(value: Any, parameters: Mapping[str, Any], origin: Origin, problems: list[Problem]) -> Any:
    """``value`` with every reference to a parameter replaced; unknown names become problems.

    A string that is one reference becomes the parameter's value, of whatever type; a reference inside a longer string
    becomes its text.
    """
    if not _refers(value):
        return value
    if isinstance(value, str):
        return _text(value, parameters, origin, problems)
    if isinstance(value, dict):
        return {key: substitute(item, parameters, origin / key, problems) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, parameters, origin / index, problems) for index, item in enumerate(value)]
    return value


def _refers(value: Any) -> bool:
    """Whether there is a reference in a value: most have none, and need no copy."""
    if isinstance(value, str):
        return "$" in value
    if isinstance(value, dict):
        return any(map(_refers, value.values()))
    return isinstance(value, list) and any(map(_refers, value))


def _text(text: str, parameters: Mapping[str, Any], origin: Origin, problems: list[Problem]) -> Any:
    whole = _REFERENCE.fullmatch(text)
    if whole is not None and whole[1] != "$":
        return _lookup(whole[1], parameters, origin, problems)

    before = len(problems)

    def replaced(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        value = _lookup(match[1], parameters, origin, problems)
        if isinstance(value, str) and len(value) > MAX_TEXT:
            problems.append(origin.problem(f"'${match[1]}' is longer than {MAX_TEXT} characters"))
            return ""
        if value is not UNKNOWN and (isinstance(value, bool) or not isinstance(value, (str, int, float))):
            problems.append(origin.problem(f"'${match[1]}' is {shown(value)}, which can't stand inside a text"))
        return str(value)

    if len(text) > MAX_TEXT:
        problems.append(origin.problem(f"a text with parameters may have {MAX_TEXT} characters"))
        return UNKNOWN
    result = _REFERENCE.sub(replaced, text)
    return result if len(problems) == before else UNKNOWN


def _lookup(name: str, parameters: Mapping[str, Any], origin: Origin, problems: list[Problem]) -> Any:
    if name not in parameters:
        hint = did_you_mean(name, parameters) or "a literal dollar is written '$$'"
        problems.append(origin.problem(f"no parameter is called '{name}'", hint))
        return UNKNOWN
    return parameters[name]
