"""Configs in the files of Keras: JSON, bounded in size and depth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from regspec.text.problems import Problem, RegspecError

MAX_CONFIG = 10 * 2**20  # bytes; once parsed, the worst config takes thirty times as much memory
MAX_VALUES = 300_000  # in a config, several times those of the largest of keras.applications
MAX_NESTING = 200  # of values in the values of a config: more than models in models may have


def json_in(path: Path) -> Any:
    """What the JSON of a file says. Raises `RegspecError` where it is broken or too large."""
    if path.stat().st_size > MAX_CONFIG:
        raise RegspecError(Problem("is larger than any model's config", path=str(path)))
    return bounded_json(path.read_bytes(), path)


def bounded_json(text: str | bytes, path: Path) -> Any:
    """What a JSON text says. Raises `RegspecError` where it is broken or too large."""
    try:
        return _bounded(text)
    except ValueError as error:
        raise RegspecError(Problem(f"has a config {error}", path=str(path))) from None


def words_in(text: str) -> Mapping[str, Any]:
    """A JSON object with which a port does better, and without which it does: nothing where it is no such."""
    try:
        return mapping_in(_bounded(text))
    except ValueError:
        return {}


def parsed(text: str | bytes, path: Path) -> dict[str, Any]:
    """A JSON object. Raises `RegspecError` for anything else."""
    value = bounded_json(text, path)
    if not isinstance(value, dict):
        raise RegspecError(Problem("has a config that is no mapping", path=str(path)))
    return value


def _bounded(text: str | bytes) -> Any:
    """What a JSON text says. Raises `ValueError` with what is wrong with it."""
    if len(text) > MAX_CONFIG:
        raise ValueError("that is larger than any model's")
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # an error where letters are halves
    except (ValueError, RecursionError) as error:
        raise ValueError(f"that is no JSON: {error}") from None
    if not _is_bounded(value):
        raise ValueError("of values in values without end")
    return value


def _is_bounded(value: Any) -> bool:
    """Whether a value holds as few values, nested as little, as a model's config."""
    level, count = [value], 0
    for _ in range(MAX_NESTING):
        inside = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list)))
        level = [*chain.from_iterable(inside)]
        count += len(level)
        if count > MAX_VALUES or not level:
            break
    return count <= MAX_VALUES and not level


def string_in(value: Any) -> str | None:
    """A text; None for anything else."""
    return value if isinstance(value, str) else None


def mapping_in(value: Any) -> Mapping[str, Any]:
    """A mapping; an empty one for anything else."""
    return value if isinstance(value, dict) else {}
