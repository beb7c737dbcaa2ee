"""Texts of Keras: the JSON of ``to_json()``."""

from __future__ import annotations

from pathlib import Path

from regspec.keras.formats.archive import Archive
from regspec.keras.formats.configs import MAX_CONFIG, mapping_in, parsed, string_in
from regspec.text.problems import Problem, RegspecError


def read(path: Path) -> Archive:
    """What a JSON file says. Raises `RegspecError`."""
    if path.stat().st_size > MAX_CONFIG:
        raise RegspecError(Problem("is larger than any model's config", path=str(path)))
    config = parsed(path.read_bytes(), path)
    training = mapping_in(config.get("compile_config"))
    return Archive(path, config, string_in(config.get("keras_version")), None, form="JSON", training=training)
