"""The schema of a whole file: fields that several definitions share, parameters in place of values, links."""

from __future__ import annotations

import json
from typing import Any

from regspec.language.fields import REFERENCE
from regspec.views.schema.models import Schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MIN_SHARED = 3  # a field that as many definitions share gets a definition of its own
_PARAMETER: Schema = {"$ref": "#/$defs/parameter"}


def finished(title: str, schema: Schema, definitions: Schema) -> Schema:
    """A whole schema of a file, with its definitions."""
    has_parameters = "parameter" in definitions
    if has_parameters:
        definitions = {
            name: definition if name == "parameter" else _with_parameters(definition)
            for name, definition in definitions.items()
        }
        keep = {name: schema["properties"][name] for name in ("parameters", "blocks", "layers")}
        schema = _with_parameters(schema)
        schema["properties"].update(keep)
    definitions = _with_shared_fields(dict(sorted(definitions.items())))
    whole = {"$schema": DIALECT, "title": title, **schema, "$defs": definitions}
    linked: Schema = _linked(whole)
    return linked


def _with_shared_fields(definitions: Schema) -> Schema:
    """The definitions, with the fields that several of them have alike in definitions of their own: ``field.name``."""
    uses: dict[str, list[tuple[Schema, str]]] = {}
    for definition in definitions.values():
        properties = definition.get("properties", {})
        for name, field in properties.items():
            uses.setdefault(f"{name} {json.dumps(field, sort_keys=True)}", []).append((properties, name))
    shared: Schema = {}
    for places in uses.values():
        properties, name = places[0]
        if len(places) < MIN_SHARED:
            continue
        key, number = f"field.{name}", 1
        while key in shared:
            number += 1
            key = f"field.{name}.{number}"
        shared[key] = properties[name]
        for others, _ in places:
            others[name] = {"$ref": f"#/$defs/{key}"}
    return {**definitions, **shared}


def _with_parameters(schema: Any) -> Any:
    """A schema in which a parameter may stand for every value."""
    made = dict(schema)
    for name in ("properties", "patternProperties"):
        if name in made:
            made[name] = {key: _or_parameter(_with_parameters(each)) for key, each in made[name].items()}
    if isinstance(made.get("items"), dict):
        made["items"] = _or_parameter(_with_parameters(made["items"]))
    if isinstance(made.get("additionalProperties"), dict):
        made["additionalProperties"] = _or_parameter(_with_parameters(made["additionalProperties"]))
    for name in ("anyOf", "prefixItems"):
        if name in made:
            made[name] = [_with_parameters(each) for each in made[name]]
    return made


def _or_parameter(schema: Schema) -> Schema:
    if (
        not schema
        or schema == _PARAMETER
        or (schema.get("type") == "string" and not schema.keys() & {"pattern", "enum"})
    ):
        return schema
    notes: Schema = {name: schema[name] for name in ("description", "default") if name in schema}
    rest = {name: value for name, value in schema.items() if name not in notes}
    forms = rest["anyOf"] if rest.keys() == {"anyOf"} else [rest]
    return {**notes, "anyOf": [*forms, _PARAMETER]}


def _linked(schema: Any) -> Any:
    """A schema in which marks by `REFERENCE`, which pydantic does not know, are JSON Schema's ``$ref``."""
    if isinstance(schema, list):
        return [_linked(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _linked(each) for name, each in schema.items() if name != REFERENCE}
    return {"$ref": f"#/$defs/{schema[REFERENCE]}", **made} if REFERENCE in schema else made
