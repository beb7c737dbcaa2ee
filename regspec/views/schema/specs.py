"""The schemas of specs and of rules: sections, layers of every kind, uses of blocks, cells."""

from __future__ import annotations

from regspec.language.fields import Frozen
from regspec.language.regularizers import REGULARIZERS
from regspec.language.schedules import SCHEDULES
from regspec.language.serialized import SERIALIZED
from regspec.layers import KINDS, Layer
from regspec.layers.cells import CELLS
from regspec.layers.kinds import takes_names
from regspec.layers.layer import Placement
from regspec.layers.nested import inner_form
from regspec.layers.operations.operands import DEFINITIONS
from regspec.specs import translating
from regspec.specs.rules import RulesFile
from regspec.specs.searches import Choices, Range, Searched
from regspec.specs.sections import CallEntry, SpecSections, UseEntry
from regspec.text.hints import FIELDS
from regspec.views.schema.families import SERIALIZED_FORM, families
from regspec.views.schema.models import Schema, first_line, is_required, model_schema
from regspec.views.schema.whole import finished

_VALUE: Schema = {"not": {"type": "object", "anyOf": [{"required": [name]} for name in Searched.model_fields]}}
_BLOCK_NAME = "^[a-z][A-Za-z0-9_]*$"


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
        **_said(),
        **families(),
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


def rules_schema() -> Schema:
    """The JSON Schema of a file of rules for modules."""
    schema = model_schema(RulesFile)
    named = families(REGULARIZERS, SCHEDULES)
    definitions = {**named, "serialized": SERIALIZED, **schema.pop("$defs", {})}
    return finished("Rules for regspec.regularize", schema, definitions)


def _searched() -> Schema:
    """A parameter with a search. Other parameters can't stand in it."""
    schema = model_schema(Searched)
    schema["properties"]["search"] |= {"anyOf": [model_schema(Range), model_schema(Choices)]}
    return schema


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


def _said() -> dict[str, Schema]:
    """The fields of kinds of which names of others say the rest."""
    made = {}
    for kind, said in translating.FUNCTIONS_OF_TORCH.values():
        schema = _kind(KINDS[kind])
        rest = {name: field for name, field in schema["properties"].items() if name not in said}
        required = [name for name in schema.get("required", []) if name not in said]
        made[_said_name(kind)] = {**schema, "properties": rest, "required": required}
    return made


def _said_name(kind: str) -> str:
    """The name of the definition of a kind's fields without those that names of others say."""
    return f"{kind}.of_torch"


def _layer() -> Schema:
    """A layer: a kind with its fields, or alone where it needs none; a call; the use of a block."""
    named = translating.OF_TORCH | translating.OF_KERAS
    others = {other: name for other, name in named.items() if other not in KINDS}
    functions = [other for other in translating.FUNCTIONS_OF_TORCH if other not in KINDS]
    all_kinds = {**KINDS} | {other: KINDS[name] for other, name in others.items()}
    plain = sorted([*functions, *(name for name, kind in all_kinds.items() if not is_required(kind))])
    kinds: Schema = {}
    for name, kind in sorted(KINDS.items()):
        kinds[name] = {"anyOf": _forms(kind, f"#/$defs/{name}"), "description": first_line(kind)}
    for other, name in others.items():
        forms = _forms(KINDS[name], f"#/$defs/{name}", takes_value=translating.takes_value(other))
        kinds[other] = {"anyOf": forms, "description": f"Another name of {name}.", "deprecated": True}
    for other in functions:
        name, said = translating.FUNCTIONS_OF_TORCH[other]
        forms = [{"$ref": f"#/$defs/{_said_name(name)}"}, {"type": "null"}]
        text = f"Another name of {name}: {', '.join(said.values())}."
        kinds[other] = {"anyOf": forms, "description": text, "deprecated": True}
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
            SERIALIZED_FORM,
        ],
    }


def _forms(model: type[Frozen], place: str, *, takes_value: bool = True) -> list[Schema]:
    """What may stand behind a kind: a mapping of its fields, its main one or its inputs alone, or nothing.

    ``place`` is where its fields are. A layer that another wraps is a mapping of its kind, which no field is called.
    """
    forms: list[Schema] = [{"$ref": place}]
    required = {each.alias or name for name, each in model.model_fields.items() if each.is_required()}
    if takes_value and model.main is not None and required <= {model.main}:
        other = {"not": {"type": "object"}} if inner_form(model) is None else {"propertyNames": {"pattern": "^[A-Z]"}}
        forms.append({"$ref": f"{place}/properties/{model.main}", **other})
    if issubclass(model, Layer) and takes_names(model):
        forms.append({"$ref": f"{place}/properties/inputs"})
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
        name: {"anyOf": _forms(cell, f"#/$defs/{name}"), "description": first_line(cell)}
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
            SERIALIZED_FORM,
        ],
    }
