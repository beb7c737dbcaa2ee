"""The schema of one model: its fields as pydantic has them, with a description each."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from regspec.language.fields import PER_AXIS
from regspec.language.forms import Named
from regspec.language.regularizers import Regularizer
from regspec.layers.families import Spatial

Schema = dict[str, Any]
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
    schema["description"] = first_line(model)
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


def first_line(model: type[BaseModel]) -> str:
    """The first line of a model's docstring."""
    return (model.__doc__ or "").strip().split("\n")[0]


def is_required(model: type[BaseModel]) -> bool:
    """Whether a field of a model must be given."""
    return any(field.is_required() for field in model.model_fields.values())


def _per_axis(schema: Any, rank: int) -> Any:
    """A schema whose lists of sizes have one for each spatial axis."""
    if isinstance(schema, list):
        return [_per_axis(each, rank) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _per_axis(each, rank) for name, each in schema.items() if name != PER_AXIS}
    return {**made, "minItems": rank, "maxItems": rank} if PER_AXIS in schema else made
