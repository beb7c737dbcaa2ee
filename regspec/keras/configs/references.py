"""Names by which the entries of a model refer to others, and to one of several outputs: ``conv``, ``lstm.1``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NAMING = ("inputs", "mask")  # the fields of an entry that refer to others


def names_in(value: Any) -> Iterator[str]:
    """Every reference in a structure."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from names_in(each)


def renamed(value: Any, by: Mapping[str, str]) -> Any:
    """A structure of references with names replaced."""
    if isinstance(value, list):
        return [renamed(each, by) for each in value]
    if isinstance(value, dict):
        return {key: renamed(each, by) for key, each in value.items()}
    if not isinstance(value, str):
        return value
    name, dot, output = value.partition(".")
    return f"{by.get(name, name)}{dot}{output}"


def with_renamed(fields: Mapping[str, Any], by: Mapping[str, str]) -> dict[str, Any]:
    """The fields of an entry, with those that refer to others by other names."""
    return {key: renamed(value, by) if key in NAMING else value for key, value in fields.items()}


def referred(fields: Mapping[str, Any]) -> Iterator[str]:
    """The references of an entry."""
    for key in NAMING:
        yield from names_in(fields.get(key))
