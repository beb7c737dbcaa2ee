"""Keras's serialized values as the forms of a spec: regularizers, constraints, initializers, activation functions.

A value is plain data: a string, a number, or a mapping with ``class_name`` and ``config``. Nothing that it names is
ever imported.
"""

from __future__ import annotations

import struct
from typing import Any

from regspec.spec.activations import ACTIVATIONS
from regspec.spec.constraints import CONSTRAINTS
from regspec.spec.fields import snake_case
from regspec.spec.forms import Family
from regspec.spec.initializers import INITIALIZERS
from regspec.spec.regularizers import REGULARIZERS

FAMILIES: dict[str, Family[Any]] = {
    "regularizer": REGULARIZERS,
    "constraint": CONSTRAINTS,
    "initializer": INITIALIZERS,
    "activation": ACTIVATIONS,
}
# Of initializers, which draw nothing here, because the weights are in the file; and of any object.
NOT_FIELDS = ("seed", "input_axes", "output_axes", "name", "dtype")


class UnportedError(Exception):
    """A value, a layer or a call that has no counterpart here; its text says which."""


def named(value: Any, sort: str) -> Any:
    """A thing of a family as a spec writes it: its name, or ``{name: arguments}``; None for none.

    Raises:
        UnportedError: where the family has no such member.
    """
    if value is None:
        return None
    if isinstance(value, str):
        name, config = value, dict[str, Any]()
    elif isinstance(value, dict) and isinstance(value.get("class_name"), str):
        name, config = value["class_name"], value.get("config") or {}
        if name == "function":  # an activation function of its own
            name, config = config if isinstance(config, str) else "", {}
    else:
        raise UnportedError(f"the {sort} {str(value)[:80]}")
    if name in ("L1L2", "l1_l2", "L1", "L2", "l1", "l2") and sort == "regularizer":
        return _norms(name, config)
    family = FAMILIES[sort]
    member = family.get(name) or family.get(snake_case(name).removesuffix(f"_{sort}"))
    if member is None:
        raise UnportedError(f"the {sort} '{name}'")
    if not isinstance(config, dict):
        raise UnportedError(f"the {sort} '{name}' with {str(config)[:80]}")
    fields = {field: each for field, each in config.items() if field not in NOT_FIELDS}
    for field, each in [*fields.items()]:
        if field not in member.model_fields:
            if each is not None:
                raise UnportedError(f"the {sort} '{name}' with {field} = {str(each)[:80]}")
            del fields[field]
    return {member.name: fields} if fields else member.name


def _norms(name: str, config: Any) -> Any:
    """L1, L2 or both; their strengths may be strings' defaults, which are Keras's."""
    if not isinstance(config, dict):
        raise UnportedError(f"the regularizer '{name}' with {str(config)[:80]}")
    known = {"l1": config.get("l1"), "l2": config.get("l2", config.get("l"))}
    if name in ("L1", "l1"):
        known = {"l1": config.get("l1", config.get("l", 0.01))}
    if name in ("L2", "l2"):
        known = {"l2": config.get("l2", config.get("l", 0.01))}
    strengths = {norm: shortened(float(strength)) for norm, strength in known.items() if strength}
    return strengths or None


def shortened(value: Any) -> Any:
    """A value with its numbers as the user wrote them: Keras keeps 0.01 as float32, 0.009999999776482582."""
    if isinstance(value, float):
        for digits in range(1, 9):
            short = float(f"{value:.{digits}g}")
            if _single(short) == value:
                return short
        return value
    if isinstance(value, list):
        return [shortened(each) for each in value]
    return {key: shortened(each) for key, each in value.items()} if isinstance(value, dict) else value


def _single(value: float) -> float:
    """The nearest number in float32."""
    try:
        number: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return float("inf")
    return number
