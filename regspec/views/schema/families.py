"""The forms of named things: initializers, activations, constraints, regularizers, schedules."""

from __future__ import annotations

from typing import Any

from regspec.language.activations import ACTIVATIONS
from regspec.language.constraints import CONSTRAINTS
from regspec.language.forms import Family, Named
from regspec.language.initializers import INITIALIZERS, INITIALIZERS_OF_TORCH
from regspec.language.regularizers import REGULARIZERS
from regspec.language.schedules import SCHEDULES
from regspec.views.schema.models import Schema, first_line, is_required, model_schema

SERIALIZED_FORM: Schema = {"$ref": "#/$defs/serialized"}
_CALL: Schema = {
    "type": "string",
    "pattern": r"^\s*[A-Za-z_][A-Za-z0-9_.]*\s*\(.*\)\s*$",
    "description": "A call, as Python has it: l2(1e-4).",
}
_NOTHING: list[Schema] = [{"type": "null"}, {"type": "object", "maxProperties": 0}]
_FAMILIES: tuple[Family[Any], ...] = (ACTIVATIONS, INITIALIZERS, CONSTRAINTS, REGULARIZERS, SCHEDULES)
_SCHEDULE: Schema = {"$ref": "#/$defs/schedule", "description": "What the strength follows, from the first step on."}
_REDUCTION: Schema = {
    "enum": ["mean", "sum"],
    "description": "Whether this penalty of an output is divided by the batch size (mean) or not (sum); the model's "
    "activity_reduction when absent.",
}


def families(*families: Family[Any]) -> Schema:
    """The definitions of the named things: initializers, activations, constraints, regularizers."""
    definitions: Schema = {}
    for family in families or _FAMILIES:
        definitions[family.definition] = _family(family)
        for name, member in family.members.items():
            definitions[f"{family.definition}.{name}"] = _arguments(member)
    return definitions


def _family(family: Family[Any]) -> Schema:
    """Every form of every member: its name, or a mapping of the name to its arguments."""
    names = {name: family.spellings[name] for name in sorted(family.spellings)}
    plain: list[Schema] = [
        {"const": name, "description": first_line(member)} for name, member in names.items() if not is_required(member)
    ]
    others = _initializers_of_others() if family is INITIALIZERS else {}
    plain += [{"const": name, **notes} for name, notes in others.items()]
    mapping: Schema = {
        "type": "object",
        "properties": {
            name: {"$ref": f"#/$defs/{family.definition}.{member.name}", "description": first_line(member)}
            for name, member in names.items()
        }
        | {name: {"anyOf": _NOTHING, **notes} for name, notes in others.items()},
        "additionalProperties": False,
        "minProperties": 1,
    }
    forms: list[Schema] = [*([{"anyOf": plain}] if plain else []), mapping, _CALL, SERIALIZED_FORM]
    if family is REGULARIZERS:
        mapping["properties"] |= {"schedule": _SCHEDULE, "reduction": _REDUCTION}
    if family in (REGULARIZERS, SCHEDULES):
        forms.append({"type": "array", "items": {"$ref": f"#/$defs/{family.definition}"}, "minItems": 1})
    if family is not REGULARIZERS:
        mapping["maxProperties"] = 1
    return {"description": f"The forms of {'an' if family.sort[0] in 'aeiou' else 'a'} {family.sort}.", "anyOf": forms}


def _initializers_of_others() -> dict[str, Schema]:
    """What torch calls an initializer, and its function that fills a tensor, which end in an underscore."""
    return {
        f"{name}{ending}": {"description": "torch's initializer of the name.", "deprecated": True}
        for name in sorted(INITIALIZERS_OF_TORCH)
        for ending in ("", "_")
    }


def _arguments(member: type[Named]) -> Schema:
    """The arguments of a named thing: a mapping, its main one alone, or null where it has none and needs none."""
    model = model_schema(member)
    forms = [model]
    if member.main is not None:
        forms.append(model["properties"][member.main])
    elif not is_required(member):
        forms.append({"type": "null"})
    return {"description": model.pop("description"), "anyOf": forms}
