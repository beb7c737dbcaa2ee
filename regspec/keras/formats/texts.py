"""Texts of Keras: JSON and YAML of a model, or of its config alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regspec.keras.formats.archive import Archive
from regspec.keras.formats.configs import bounded_json, json_in, mapping_in, string_in
from regspec.keras.formats.yamls import yaml_in
from regspec.text.problems import Problem, RegspecError

MAX_QUOTED = 2  # times that a JSON text may stand in a JSON string


def read_json(path: Path) -> Archive:
    """What a JSON file says of a model. Raises `RegspecError`."""
    value = json_in(path)
    for _ in range(MAX_QUOTED):
        if isinstance(value, str):  # json.dump(model.to_json())
            value = bounded_json(value, path)
    return _archive(value, path, "JSON")


def read_yaml(path: Path) -> Archive:
    """What a YAML file says of a model. Raises `RegspecError`."""
    return _archive(yaml_in(path), path, "YAML")


def _archive(value: Any, path: Path, form: str) -> Archive:
    config = _model(value)
    if config is None:
        inner = [key for key, each in value.items() if _model(each) is not None] if isinstance(value, dict) else []
        hint = f"what stands in it under '{inner[0][:80]}' is one: give that by itself" if inner else None
        what = f"is {form} that describes no model of Keras"
        raise RegspecError(Problem(what, hint or "open('model.json', 'w').write(model.to_json()) makes one", str(path)))
    if isinstance(value, dict) and "model_config" in value:
        within = "$.model_config.config"
    else:
        within = "$.config" if isinstance(value, dict) and "class_name" in value else "$"
    version, training = string_in(config.get("keras_version")), mapping_in(config.get("compile_config"))
    return Archive(path, config, version, None, form=form, training=training, within=within)


def _model(value: Any) -> dict[str, Any] | None:
    """The config of a model, with its class; None for what is none.

    What ``get_config()`` gives has no class: it is a graph where it names its outputs, and else a Sequential, which
    before Keras 2.2.3 was the bare list of its layers.
    """
    if isinstance(value, list):
        is_sequence = bool(value) and all(isinstance(each, dict) and "class_name" in each for each in value)
        return {"class_name": "Sequential", "config": value} if is_sequence else None
    if not isinstance(value, dict):
        return None
    if "class_name" in value:
        return value
    if isinstance(value.get("model_config"), dict):
        rest = {key: each for key, each in value.items() if key != "model_config"}
        return {**rest, **value["model_config"]}
    if isinstance(value.get("layers"), list):
        return {"class_name": "Functional" if "output_layers" in value else "Sequential", "config": value}
    return None
