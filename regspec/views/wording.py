"""The types and values of fields in words: those that a spec uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from regspec.language.fields import MAX_SIZE, REFERENCE
from regspec.language.forms import Named
from regspec.layers.operations.operands import DEFINITIONS

LONG = 8  # the most characters of a number; longer ones are rounded
# Whole numbers that have a name, by the least and the greatest; None where there is no bound.
_WHOLE: dict[tuple[Any, Any], str] = {
    (1, None): "size",
    (0, None): "count",
    (-64, 64): "axis",
    (-MAX_SIZE, None): "whole number",
}


def type_text(schema: dict[str, Any]) -> str:
    """A type as words, from the JSON Schema of a field.

    Example:
        >>> type_text({"anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["auto"]}, {"type": "null"}]})
        'size, auto or null'
    """
    *first, last = dict.fromkeys(_forms(schema))
    return f"{', '.join(first)} or {last}" if first else last


def _forms(schema: dict[str, Any]) -> Iterator[str]:
    """What a value of a type may be, in words."""
    if REFERENCE in schema:
        yield _named(schema[REFERENCE])
    elif "anyOf" in schema:
        for each in schema["anyOf"]:
            yield from _forms(each)
    elif "enum" in schema:
        yield from map(value_text, schema["enum"])
    elif "const" in schema:
        yield value_text(schema["const"])
    elif schema.get("type") == "boolean":
        yield from ("true", "false")
    elif schema.get("type") in ("integer", "number"):
        yield _number(schema)
    elif schema.get("type") == "array":
        yield _list(schema)
    elif schema.get("type") == "object":
        keys = type_text(schema.get("propertyNames", {"type": "string"}))
        yield f"{{{keys}: {type_text(schema.get('additionalProperties', {}))}}}"
    else:
        yield {"string": "text", "null": "null"}.get(schema.get("type", ""), "anything")


def _named(definition: str) -> str:
    """A definition that pydantic does not know: an initializer, a regularizer, the numbers of an operand."""
    if definition not in DEFINITIONS:
        return definition.replace("_", " ")
    described: str = DEFINITIONS[definition]["description"]
    return described[0].lower() + described[1:].rstrip(".")


def _number(schema: dict[str, Any]) -> str:
    """A number: its sort, and its bounds."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if schema["type"] == "integer":
        high = None if high == MAX_SIZE else high
        if (low, high) in _WHOLE:
            return _WHOLE[low, high]
    sort = "whole number" if schema["type"] == "integer" else "number"
    if None not in (low, high) and below is None:
        return f"{sort} from {low} to {high}"
    start = f" above {above}" if above is not None else f" from {low}" if low is not None else ""
    end = f" below {below}" if below is not None else " up" if low is not None else ""
    return f"{sort}{start}{end}"


def _list(schema: dict[str, Any]) -> str:
    """A list: all its items where their number is fixed and small, else the first."""
    if "prefixItems" in schema:
        return f"[{', '.join(type_text(each) for each in schema['prefixItems'])}]"
    item = type_text(schema["items"]) if "items" in schema else "…"
    fewest, most = schema.get("minItems"), schema.get("maxItems")
    return f"[{', '.join([item] * most)}]" if most is not None and fewest == most else f"[{item}, …]"


def value_text(value: Any) -> str:
    """A value as a spec writes it, long numbers rounded.

    Example:
        >>> value_text((2, 3)), value_text(1 / 6), value_text(None)
        ('[2, 3]', '0.1667', 'null')
    """
    if isinstance(value, Named):
        return value.name
    if isinstance(value, float) and len(repr(value)) > LONG:
        return f"{value:.4g}"
    try:
        plain = json.loads(json.dumps(value))  # tuples as lists
    except (TypeError, ValueError):  # of a registered class's own
        return getattr(value, "__name__", str(value))
    text = yaml.safe_dump([plain], default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.strip()[1:-1]
