"""JSON Schema of specs and of rules, from the declarations that validate them, for editors and for other programs.

What a schema can't say (that names are unique and known, that shapes fit) is `regspec check`'s to say.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from regspec.language.activations import ACTIVATIONS
from regspec.language.constraints import CONSTRAINTS
from regspec.language.fields import PER_AXIS, REFERENCE, Frozen
from regspec.language.forms import Family, Named
from regspec.language.initializers import INITIALIZERS, INITIALIZERS_OF_TORCH
from regspec.language.regularizers import REGULARIZERS, Regularizer
from regspec.language.schedules import SCHEDULES
from regspec.language.serialized import SERIALIZED
from regspec.layers import KINDS, Layer
from regspec.layers.cells import CELLS
from regspec.layers.families import Spatial
from regspec.layers.layer import Placement
from regspec.layers.operations.operands import DEFINITIONS
from regspec.specs import translating
from regspec.specs.parameters import Choices, Range, Searched
from regspec.specs.rules import RulesFile
from regspec.specs.sections import CallEntry, SpecSections, UseEntry
from regspec.text.hints import FIELDS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MIN_SHARED = 3  # a field that as many definitions share gets a definition of its own
Schema = dict[str, Any]

_SERIALIZED: Schema = {"$ref": "#/$defs/serialized"}
_CALL: Schema = {
    "type": "string",
    "pattern": r"^\s*[A-Za-z_][A-Za-z0-9_.]*\s*\(.*\)\s*$",
    "description": "A call, as Python has it: l2(1e-4).",
}
_NOTHING: list[Schema] = [{"type": "null"}, {"type": "object", "maxProperties": 0}]
_PARAMETER: Schema = {"$ref": "#/$defs/parameter"}
_FAMILIES: tuple[Family[Any], ...] = (ACTIVATIONS, INITIALIZERS, CONSTRAINTS, REGULARIZERS, SCHEDULES)
_SCHEDULE: Schema = {"$ref": "#/$defs/schedule", "description": "What the strength follows, from the first step on."}
_REDUCTION: Schema = {
    "enum": ["mean", "sum"],
    "description": "Whether this penalty of an output is divided by the batch size (mean) or not (sum); the model's "
    "activity_reduction when absent.",
}
_VALUE: Schema = {"not": {"type": "object", "anyOf": [{"required": [name]} for name in Searched.model_fields]}}
_BLOCK_NAME = "^[a-z][A-Za-z0-9_]*$"

# The fields of slots, by their endings; {slot} is the weight's name.
_SLOT_FIELDS = {
    "_initializer": "How {slot} starts.",
    "_regularizer": "The penalty on {slot}.",
    "_constraint": "What holds for {slot} after each step of the optimizer.",
}
# The arguments of named things, which mean the same in each that has them.
_ARGUMENTS = {
    "alpha": "What the output is at the least, negated.",
    "approximate": "Whether it is computed by tanh.",
    "at": "The counts of steps or epochs at which it changes.",
    "axis": "The axis that it works along.",
    "b": "How round it is at zero.",
    "default_value": "What stands for numbers up to the threshold.",
    "distribution": "What it is drawn from.",
    "end": "The factor at last.",
    "factor": "What the penalty is multiplied by.",
    "gain": "What the matrix is multiplied by.",
    "k": "How many numbers are kept.",
    "l1": "The strength of the L1 part.",
    "l2": "The strength of the L2 part.",
    "lower": "The least slope.",
    "max_value": "The most that it may be.",
    "maxval": "The upper bound.",
    "mean": "The mean.",
    "min_value": "The least that it may be.",
    "minval": "The lower bound.",
    "mode": "What counts: inputs, outputs or their mean for a fan; rows or columns of a matrix.",
    "negative_slope": "The slope below zero.",
    "over": "For how many steps or epochs.",
    "periodic": "Whether the window is periodic.",
    "rate": "The factor of each step, epoch or count.",
    "scale": "What the variance is multiplied by.",
    "scaling": "How the transform is scaled.",
    "seed": "The start of its random numbers: the same ones each time.",
    "side": "The part of the transform.",
    "slope": "The slope around zero.",
    "start": "The factor at first.",
    "stddev": "The standard deviation.",
    "strength": "What the penalty is multiplied by.",
    "target": "The mean activity that is wanted.",
    "threshold": "Where it begins.",
    "unit": "What is counted: steps of the optimizer, or epochs.",
    "upper": "The greatest slope.",
    "value": "The number.",
    "window": "The window of the transform.",
}
_KERNELS = ("recurrent", "depthwise", "pointwise")  # slots whose names say which kernel they are


def spec_schema() -> Schema:
    """The JSON Schema of a spec, of every kind that is known now: registered ones too."""
    schema = model_schema(SpecSections)
    layers = {"type": "array", "items": {"$ref": "#/$defs/layer"}}
    schema["properties"]["layers"] |= {**layers, "minItems": 1}
    definitions = {
        "parameter": {
            "type": "string",
            "pattern": r"\$|[0-9.)] *(\*\*|//|[-+*/%]) *[-+0-9.(]",
            "description": "A parameter, $name, or arithmetic, $name // 2 or 7 * 7.",
        },
        "layer": _layer(),
        "cell": _cells(),
        **{name: _cell(cell) for name, cell in sorted(CELLS.items())},
        **{name: _kind(kind) for name, kind in sorted(KINDS.items())},
        **_families(),
        **DEFINITIONS,
        "serialized": SERIALIZED,
        **schema.pop("$defs", {}),
    }
    definitions["BlockSection"]["properties"]["layers"] |= {**layers, "minItems": 1}
    # the values of parameters, and what stands in blocks, are checked where they are used
    for section, form in ((schema, {"anyOf": [_searched(), _VALUE]}), (definitions["BlockSection"], _VALUE)):
        section["properties"]["parameters"] = {
            **section["properties"]["parameters"],
            "type": "object",
            "patternProperties": {"^[A-Za-z_][A-Za-z0-9_]*$": form},
            "additionalProperties": False,
        }
    return finished("A regspec spec", schema, definitions)


def _searched() -> Schema:
    """A parameter with a search. Other parameters can't stand in it."""
    schema = model_schema(Searched)
    schema["properties"]["search"] |= {"anyOf": [model_schema(Range), model_schema(Choices)]}
    return schema


def rules_schema() -> Schema:
    """The JSON Schema of a file of rules for modules."""
    schema = model_schema(RulesFile)
    families = _families(REGULARIZERS, SCHEDULES)
    definitions = {**families, "serialized": SERIALIZED, **schema.pop("$defs", {})}
    return finished("Rules for regspec.regularize", schema, definitions)


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


class _Generator(GenerateJsonSchema):
    """pydantic's generator, with defaults in a spec's words and without made-up titles.

    A type or a default of a registered class that JSON does not know is left open.
    """

    ignored_warning_kinds = frozenset({"skipped-choice", "non-serializable-default"})  # type: ignore[assignment]  # pydantic says set

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Schema:
        return {}

    def encode_default(self, default: Any) -> Any:
        if isinstance(default, Named):
            return default.name
        if isinstance(default, (BaseModel, Regularizer)):
            return str(default)
        return super().encode_default(default)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def model_schema(model: type[BaseModel]) -> Schema:
    """The schema of a model's fields, with a description each; of a kind's too."""
    schema = model.model_json_schema(schema_generator=_Generator, by_alias=True)
    schema.pop("title", None)
    schema["description"] = _first_line(model)
    for name, field in schema.get("properties", {}).items():
        if "description" not in field and (described := _description(model, name)):
            field["description"] = described
    if issubclass(model, Spatial):
        schema = _per_axis(schema, model.spatial_rank)
    return schema


def _description(model: type[BaseModel], field: str) -> str | None:
    """What a field is, where many declare it alike: that of a slot, or an argument of a named thing."""
    if issubclass(model, Named) and not model.is_registered:
        return _ARGUMENTS.get(field)
    for ending, text in _SLOT_FIELDS.items():
        if field.endswith(ending):
            slot = field.removesuffix(ending)
            return text.format(slot=f"the {slot} kernel" if slot in _KERNELS else f"the {slot}")
    return None


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().split("\n")[0]


def _kind(kind: type[Layer]) -> Schema:
    schema = model_schema(kind)
    schema["properties"] = {**model_schema(Placement)["properties"], **schema["properties"]}
    return _with_names_of_others(schema, kind.__name__)


def _with_names_of_others(schema: Schema, kind: str) -> Schema:
    """A kind's schema with what torch and older Keras call its fields."""
    own, place = schema["properties"], f"#/$defs/{kind}/properties"
    fields = {other: translating.field_of(KINDS[kind], other, ()) for other in FIELDS}
    others = {other: field for other, field in fields.items() if field != other and field in own and other not in own}
    properties = {
        other: {"$ref": f"{place}/{field}", "description": f"Another name of '{field}'.", "deprecated": True}
        for other, field in others.items()
    }
    required = schema.get("required", [])
    either = [
        {"anyOf": [{"required": [each]} for each in (field, *(other for other in others if others[other] == field))]}
        for field in required
        if field in others.values()
    ]
    made = {**schema, "properties": {**own, **properties}}
    if either:
        made["required"] = [field for field in required if field not in others.values()]
        made["allOf"] = either
    return made


def _per_axis(schema: Any, rank: int) -> Any:
    """A schema whose lists of sizes have one for each spatial axis."""
    if isinstance(schema, list):
        return [_per_axis(each, rank) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _per_axis(each, rank) for name, each in schema.items() if name != PER_AXIS}
    return {**made, "minItems": rank, "maxItems": rank} if PER_AXIS in schema else made


def _layer() -> Schema:
    """A layer: a kind with its fields, or alone where it needs none; a call; the use of a block."""
    others = translating.OF_TORCH | translating.OF_KERAS
    named = KINDS | {other: KINDS[name] for other, name in others.items()}
    plain = sorted(name for name, kind in named.items() if not _is_required(kind))
    kinds: Schema = {}
    for name, kind in sorted(KINDS.items()):
        kinds[name] = {"anyOf": _forms(kind, f"#/$defs/{name}"), "description": _first_line(kind)}
    for other, name in others.items():
        forms = _forms(KINDS[name], f"#/$defs/{name}", takes_value=translating.takes_value(other))
        kinds[other] = {"anyOf": forms, "description": f"Another name of {name}.", "deprecated": True}
    call = model_schema(CallEntry)
    call["additionalProperties"] = True  # what a layer's kind lets a call set anew
    calls = {"anyOf": [call, call["properties"]["layer"]], "description": call["description"]}
    use = model_schema(UseEntry)
    use["additionalProperties"] = True  # the block's parameters
    return {
        "description": "A layer: one kind, or one block, with a mapping of its fields, or the first of them.",
        "anyOf": [
            {"enum": plain},
            {"type": "string", "pattern": _BLOCK_NAME, "not": {"const": "call"}},
            {
                "type": "object",
                "properties": {**kinds, "call": calls},
                "patternProperties": {_BLOCK_NAME: {"anyOf": [use, {"not": {"type": "object"}}]}},
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
            _SERIALIZED,
        ],
    }


def _forms(model: type[Frozen], place: str, *, takes_value: bool = True) -> list[Schema]:
    """What may stand behind a kind: a mapping of its fields, its main one alone, or nothing; ``place`` is theirs."""
    forms: list[Schema] = [{"$ref": place}]
    required = {each.alias or name for name, each in model.model_fields.items() if each.is_required()}
    if takes_value and model.main is not None and required <= {model.main}:
        forms.append({"$ref": f"{place}/properties/{model.main}", "not": {"type": "object"}})
    if not required:
        forms.append({"type": "null"})
    return forms


def _cell(model: type[Frozen]) -> Schema:
    schema = model_schema(model)
    schema["properties"].pop("activity_regularizer", None)  # which an RNN takes, and its cells don't
    return schema


def _cells() -> Schema:
    """A cell with its fields, or several that are stacked."""
    forms = {
        name: {"anyOf": _forms(cell, f"#/$defs/{name}"), "description": _first_line(cell)}
        for name, cell in sorted(CELLS.items())
    }
    return {
        "description": "A cell of an RNN, with a mapping of its fields, or its units alone.",
        "anyOf": [
            {
                "type": "object",
                "properties": forms,
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
            _SERIALIZED,
        ],
    }


def _is_required(model: type[BaseModel]) -> bool:
    return any(field.is_required() for field in model.model_fields.values())


def _families(*families: Family[Any]) -> Schema:
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
        {"const": name, "description": _first_line(member)}
        for name, member in names.items()
        if not _is_required(member)
    ]
    others = _initializers_of_others() if family is INITIALIZERS else {}
    plain += [{"const": name, **notes} for name, notes in others.items()]
    mapping: Schema = {
        "type": "object",
        "properties": {
            name: {"$ref": f"#/$defs/{family.definition}.{member.name}", "description": _first_line(member)}
            for name, member in names.items()
        }
        | {name: {"anyOf": _NOTHING, **notes} for name, notes in others.items()},
        "additionalProperties": False,
        "minProperties": 1,
    }
    forms: list[Schema] = [*([{"anyOf": plain}] if plain else []), mapping, _CALL, _SERIALIZED]
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
    elif not _is_required(member):
        forms.append({"type": "null"})
    return {"description": model.pop("description"), "anyOf": forms}


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
