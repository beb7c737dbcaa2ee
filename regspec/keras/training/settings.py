"""A thing that Keras stores with its settings, and numbers in these: a file may hold anything in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regspec.language.fields import snake_case

MOST = 1e18  # no setting is as large
Settings = Mapping[str, Any]


def name_and_settings(stored: Any) -> tuple[str | None, Settings]:
    """The name in small letters, and the settings, of a thing that Keras stores by its name or by both."""
    if isinstance(stored, str):
        return snake_case(stored)[:80], {}
    if isinstance(stored, dict) and isinstance(stored.get("class_name"), str):
        config = stored.get("config")
        if stored["class_name"] == "function":
            return (snake_case(config)[:80], {}) if isinstance(config, str) else ("function", {})
        name = snake_case(stored["class_name"].rpartition(">")[2])[:80]
        return name, config if isinstance(config, dict) else {}
    return None, {}


def number(settings: Settings, key: str, default: float | None, *, least: float = 0.0, most: float = MOST) -> Any:
    """A setting that is a number, as Keras rounds it; ``default`` where it is none, or out of bounds."""
    value = settings.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < most:
        return default
    return value if isinstance(value, int) else rounded(value)  # it was a float32


def whole(settings: Settings, key: str, least: int = 1) -> int | None:
    """A setting that is a whole number, maybe written as 100.0."""
    value = number(settings, key, None, least=least)
    return int(value) if value is not None and value == int(value) else None


def rounded(value: float, digits: int = 7) -> float:
    """A number without what its type has added."""
    return float(f"{value:.{digits}g}")


def code(text: Any) -> str:
    """A text of the file as a span of code in Markdown."""
    return f"`{' '.join(str(text).replace('`', ' ').split())[:80]}`"


def listed(settings: Settings) -> str:
    """The settings that are numbers, for people."""
    plain = {key: each for key, each in settings.items() if isinstance(each, (int, float)) and key != "name"}
    return code(", ".join(f"{key}={each}" for key, each in plain.items()) or "no settings")
