"""Keras's serialized forms, as `to_json` writes them: ``{class_name: L2, config: {l2: 1e-4}}``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import PydanticCustomError

# What stands beside the name and the arguments. Where the class is Keras's own it says nothing more.
_BESIDE = frozenset(["module", "registered_name", "build_config", "compile_config", "name", "inbound_nodes"])
# In a JSON Schema. What stands in the config is the loader's to check.
SERIALIZED: dict[str, Any] = {
    "description": "What Keras serializes, as in to_json: {class_name: L2, config: {l2: 1e-4}}.",
    "type": "object",
    "properties": {
        "class_name": {"type": "string", "description": "The name of Keras's class."},
        "config": {"type": ["object", "string", "null"], "description": "Its arguments."},
        **{name: {"description": "Says nothing more of a class of Keras's own."} for name in sorted(_BESIDE)},
    },
    "required": ["class_name"],
    "additionalProperties": False,
}
_MODULES = ("keras", "tensorflow", "tf_keras", "builtins")


def is_serialized(value: Any) -> bool:
    """Whether a value is one of these forms."""
    return isinstance(value, dict) and "class_name" in value


def name_and_config(value: dict[str, Any]) -> tuple[str, Any]:
    """The name of what a form says, and its arguments, which are a text where it is a function.

    Raises a pydantic error.
    """
    name, config = value["class_name"], value.get("config")
    if not isinstance(name, str):
        raise _refused("must have the name of a class as its 'class_name'", "class_name")
    if not isinstance(config, dict) and config is not None and not (name == "function" and isinstance(config, str)):
        raise _refused("must have a mapping as its 'config'", "config")
    if others := [key for key in value if key not in {"class_name", "config", *_BESIDE}]:
        raise _refused(f"has '{others[0]}' beside its 'class_name', which Keras does not write", others[0])
    module = value.get("module")
    if module is not None and str(module).split(".")[0] not in _MODULES:
        raise _refused(f"is a class of '{module}', and not of Keras", "module")
    if value.get("inbound_nodes"):
        what = "has 'inbound_nodes', which only a whole model gives a meaning"
        hint = "name what it takes in 'inputs', or port the model: 'regspec port'"
        raise PydanticCustomError("serialized", what, {"at": ("inbound_nodes",), "hint": hint})
    if name == "function" and isinstance(config, str):
        return config, {}
    return name, {} if config is None else config


def arguments(config: Any, known: Iterable[str], names: Mapping[str | None, str | None] | None = None) -> Any:
    """The arguments of a config; other than ``known`` ones are left out where they are not used: null, or false.

    ``names`` are those of fields that Keras calls otherwise.
    """
    if not isinstance(config, dict):
        return config
    known = {*known}
    kept = {(names or {}).get(name) or name: value for name, value in config.items()}
    return {name: _plain(value) for name, value in kept.items() if name in known or value not in (None, False)}


def _plain(value: Any) -> Any:
    """A policy of types as the name of one."""
    is_policy = is_serialized(value) and str(value["class_name"]).endswith("DTypePolicy")
    return value["config"].get("name") if is_policy and isinstance(value.get("config"), dict) else value


def _refused(what: str, at: str) -> PydanticCustomError:
    return PydanticCustomError("serialized", "{what}", {"what": what, "at": (at,)})
