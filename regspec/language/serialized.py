"""Keras's serialized forms, as `to_json` writes them: ``{class_name: L2, config: {l2: 1e-4}}``."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
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
MODULES = ("keras", "tensorflow", "tf_keras", "tf", "builtins")  # where Keras's own classes and functions are


def is_serialized(value: Any) -> bool:
    """Whether a value is one of these forms."""
    return isinstance(value, dict) and "class_name" in value


@dataclass(frozen=True)
class Serialized:
    """What such a form says: a class, its arguments, and the name of a layer where that stands beside them."""

    name: str
    config: dict[str, Any]
    layer_name: str | None = None

    def fields(
        self, known: Iterable[str], *, without: Iterable[str] = (), names: Mapping[str | None, str | None] | None = None
    ) -> dict[str, Any]:
        """The arguments that say something, of which ``known`` ones are fields; none of those ``without``.

        ``names`` are those of fields that Keras calls otherwise.
        """
        known, without = {*known}, {*without}
        renamed = {(names or {}).get(name) or name: value for name, value in self.config.items()}
        kept = {name: _plain(value) for name, value in renamed.items()}
        return {
            name: value
            for name, value in kept.items()
            if says(name, known, without, is_off=value is None or value is False)
        }


def says(name: str, known: Container[str], without: Container[str], *, is_off: bool) -> bool:
    """Whether an argument says something: Keras writes many that are not used, as null or false."""
    return name not in without and (name in known or not is_off)


def of_layers(known: Iterable[str]) -> frozenset[str]:
    """What Keras writes of a function that it has as a layer, and that is none of its ``known`` arguments."""
    return frozenset(("name", "trainable", "dtype")) - {*known}


def unserialized(value: dict[str, Any]) -> Serialized:
    """What a form says. Raises a pydantic error."""
    name, config = value["class_name"], value.get("config")
    if not isinstance(name, str):
        raise _refused("must have the name of a class as its 'class_name'", "class_name")
    if not isinstance(config, dict) and config is not None and not (name == "function" and isinstance(config, str)):
        raise _refused("must have a mapping as its 'config'", "config")
    if others := [key for key in value if key not in {"class_name", "config", *_BESIDE}]:
        raise _refused(f"has '{others[0]}' beside its 'class_name', which Keras does not write", others[0])
    module = value.get("module")
    if module is not None and str(module).split(".")[0] not in MODULES:
        raise _refused(f"is a class of '{module}', and not of Keras", "module")
    if value.get("inbound_nodes"):
        what = "has 'inbound_nodes', which only a whole model gives a meaning"
        hint = "name what it takes in 'inputs', or port the model: 'regspec port'"
        raise PydanticCustomError("serialized", what, {"at": ("inbound_nodes",), "hint": hint})
    if isinstance(config, str):
        return Serialized(config, {})
    layer_name = value.get("name")
    return Serialized(name, config or {}, layer_name if isinstance(layer_name, str) else None)


def _plain(value: Any) -> Any:
    """A policy of types as the name of one."""
    is_policy = is_serialized(value) and str(value["class_name"]).endswith("DTypePolicy")
    return value["config"].get("name") if is_policy and isinstance(value.get("config"), dict) else value


def _refused(what: str, at: str) -> PydanticCustomError:
    return PydanticCustomError("serialized", "{what}", {"what": what, "at": (at,)})
