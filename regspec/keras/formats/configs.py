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
MAX_NESTING = 250  # of values in the values of a config


def parsed(text: str | bytes, path: Path) -> dict[str, Any]:
    """A JSON object. Raises `RegspecError` for anything else."""
    if len(text) > MAX_CONFIG:
        raise RegspecError(Problem("has a config that is larger than any model's", path=str(path)))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RegspecError(Problem(f"has a config that is no JSON: {error}", path=str(path))) from None
    if not isinstance(value, dict):
        raise RegspecError(Problem("has a config that is no mapping", path=str(path)))
    if not _is_bounded(value):
        raise RegspecError(Problem("has a config of values in values without end", path=str(path)))
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


def training_in(text: str) -> Mapping[str, Any]:
    """What a model was compiled with; nothing where that is damaged, because the port does without it."""
    try:
        return mapping_in(json.loads(text))
    except (ValueError, RecursionError):
        return {}


def string_in(value: Any) -> str | None:
    """A text; None for anything else."""
    return value if isinstance(value, str) else None


def mapping_in(value: Any) -> Mapping[str, Any]:
    """A mapping; an empty one for anything else."""
    return value if isinstance(value, dict) else {}
