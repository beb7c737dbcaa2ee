"""The forms of options that say several things, in a training file: mappings, where the command line has texts."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from regspec.language.fields import Sequence
from regspec.training.options.columns import ColumnSection
from regspec.training.options.outputs import OutputSection
from regspec.training.options.rules import RuleSection, written_rule
from regspec.training.options.said import written

_PLAIN = {"type": ["number", "string", "boolean", "null", "array"]}


def called_text(value: Any) -> Any:
    """``adamw weight_decay=0.1`` for ``{adamw: {weight_decay: 0.1}}``."""
    if isinstance(value, str) and value.strip():
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise PydanticCustomError("form", "must be a name, or a mapping of one name to its arguments")
    ((name, arguments),) = value.items()
    if not isinstance(arguments, (dict, type(None))):
        raise PydanticCustomError("form", "must be a mapping of arguments", {"at": (name,), "received": arguments})
    for key, each in (arguments or {}).items():
        if isinstance(each, dict):
            what = "must be a number, a text, true, false or a list"
            raise PydanticCustomError("form", what, {"at": (name, key), "received": each})
    return " ".join([name, *(f"{key}={_text(each)}" for key, each in (arguments or {}).items())])


def _text(value: Any) -> str:
    """A value as YAML has it; a text as it is."""
    return value if isinstance(value, str) else json.dumps(value)


def _of_outputs(sections: dict[str, OutputSection]) -> tuple[str, ...]:
    return tuple(
        written(name, key, value)
        for name, section in sections.items()
        for key, value in (section.model_dump(exclude_unset=True) or {"weight": section.weight}).items()
    )


def _of_columns(sections: dict[str, ColumnSection]) -> tuple[str, ...]:
    return tuple(
        written(name, key, value)
        for name, section in sections.items()
        for key, value in (section.plain or {"": {}}).items()
    )


def _of_rules(rules: tuple[RuleSection, ...]) -> tuple[str, ...]:
    return tuple(map(written_rule, rules))


def _of_mapping(value: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{key}={each}" for key, each in value.items())


def _called_schema(**known: Any) -> Any:
    """The schema of a name with arguments, of which some are known."""
    arguments = {"type": "object", "additionalProperties": _PLAIN, **({"properties": known} if known else {})}
    mapping = {
        "type": "object",
        "additionalProperties": {"anyOf": [{"type": "null"}, arguments]},
        "minProperties": 1,
        "maxProperties": 1,
    }
    return WithJsonSchema({"anyOf": [{"type": "string", "pattern": r"\S"}, mapping]})


_RATE = {"type": "number", "minimum": 0, "description": "The learning rate: the option lr, which may stand beside."}
# A name with arguments: a schedule, an optimizer.
Called = Annotated[str, BeforeValidator(called_text), _called_schema()]
Optimizer = Annotated[str, BeforeValidator(called_text), _called_schema(lr=_RATE)]
Outputs = Annotated[dict[str, OutputSection], AfterValidator(_of_outputs)]
ColumnsSaid = Annotated[dict[str, ColumnSection], AfterValidator(_of_columns)]
Rules = Annotated[tuple[RuleSection, ...], Sequence, AfterValidator(_of_rules)]
Pairs = Annotated[dict[str, str], AfterValidator(_of_mapping)]
# A text that may be a number: how many devices, a column's name.
Text = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value),
    WithJsonSchema({"type": ["string", "number"]}),
]
