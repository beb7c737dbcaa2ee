"""The sections of a spec file as they are written: what `loading.py` validates and the JSON Schema describes."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    Field,
    PlainValidator,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from regspec.code.shapes import DataFormat, Dtype, Precision
from regspec.language.fields import (
    MAX_NAME,
    MAX_SIZE,
    Count,
    Frozen,
    Meanings,
    Name,
    NameForm,
    Names,
    NamesIfAny,
    Sequence,
    Shape,
    check_meanings,
)
from regspec.language.regularizers import Reduction
from regspec.specs.rules import LayerRule

FrozenPenalties = Literal["omitted", "counted"]

ParameterName = Annotated[str, NameForm(r"[A-Za-z_]\w*", "must consist of letters, digits and underscores")]
ModelName = Annotated[
    str, NameForm(r"[A-Za-z]\w*", "must consist of letters, digits and underscores, and begin with a letter")
]
# A capital letter marks a kind, a small one a block: so a reader, and an editor, can tell them apart.
BlockName = Annotated[
    str, NameForm(r"[a-z]\w*", "of a block must begin with a small letter, as kinds begin with a capital")
]


def _outputs(value: Any) -> Any:
    """A layer's name, a list of them, or a mapping to them. Raises a pydantic error."""
    if isinstance(value, dict):
        for key in value:
            OUTPUT_NAME.check(key)
    names = [value] if isinstance(value, str) else list(value.values()) if isinstance(value, dict) else value
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        expected = "the name of a layer, a list of such names, or a mapping from names of outputs to names of layers"
        raise PydanticCustomError("form", "must be {expected}", {"expected": expected})
    return tuple(value) if isinstance(value, list) else value


OUTPUT_NAME = NameForm(r"[A-Za-z]\w*", "has a name that must consist of letters, digits and underscores")
_TEXT = {"type": "string"}
OutputNames = Annotated[
    str | tuple[str, ...] | dict[str, str],
    PlainValidator(_outputs),
    WithJsonSchema(
        {
            "anyOf": [
                _TEXT,
                {"type": "array", "items": _TEXT, "minItems": 1},
                {
                    "type": "object",
                    "patternProperties": {"^[A-Za-z][A-Za-z0-9_]*$": _TEXT},
                    "additionalProperties": False,
                    "minProperties": 1,
                },
            ]
        }
    ),
]


class Input(Frozen):
    """An input of the model."""

    shape: Shape = Field(description="Its sizes without the batch; null for a size that may vary.")
    dtype: Dtype = Field("float32", description="The type of its numbers; the model's dtype when absent.")
    unused: bool = Field(False, description="True for one that nothing uses: the model takes it, and does without it.")
    axes: Meanings | None = Field(
        None,
        description="What its axes mean, such as [height, width, channels]; by the model's data_format, and the layer "
        "that takes it, when absent.",
    )

    @model_validator(mode="after")
    def _has_as_many_axes(self) -> Input:
        check_meanings(self.axes, self.shape)
        return self


class BlockSection(Frozen):
    """A block that layers may use like a kind: its own layers, or the spec in a file."""

    file: str | None = Field(
        None, description="The path of a spec whose layers are the block, from this file's folder."
    )
    parameters: dict[ParameterName, Any] = Field(
        {}, description="Parameters with their defaults; null for one that each use must give."
    )
    inputs: Names = Field(("input",), description="The names of the block's inputs within it.")
    unused: Names | None = Field(None, description="Those of its inputs that nothing in it uses; none when absent.")
    layers: Annotated[tuple[Any, ...], Sequence, Field(min_length=1)] | None = Field(
        None, description="The layers, in order."
    )
    outputs: OutputNames | None = Field(None, description="The block's outputs; the last layer's when absent.")


class SpecSections(Frozen):
    """A network and its regularizers, for regspec."""

    regspec: Literal[1] = Field(description="The version of the language: 1.")
    name: ModelName | None = Field(
        None, description="The model's name, of which the class's is made; the file's when absent."
    )
    data_format: DataFormat | None = Field(
        None,
        description="How axes are counted: channels_first for images, volumes and signals as in torch, and (steps, "
        "features) for sequences, which is so when absent too; channels_last as in Keras.",
    )
    dtype: Precision = Field("float32", description="The type in which layers compute and keep their weights.")
    activity_reduction: Reduction = Field(
        "mean", description="Whether activity penalties are divided by the batch size (mean) or not (sum)."
    )
    frozen_penalties: FrozenPenalties = Field(
        "omitted", description="Whether penalties of frozen weights count in the sum, as in Keras 2, or are left out."
    )
    parameters: dict[ParameterName, Any] = Field(
        {}, description="Named values: $name stands for one, anywhere a value may stand, and $name // 2 for arithmetic."
    )
    inputs: Annotated[dict[Name, Input], Field(min_length=1)] = Field(description="The inputs, by name.")
    blocks: dict[BlockName, BlockSection] = Field({}, description="Groups of layers that may be used like a kind.")
    layers: Annotated[tuple[Any, ...], Sequence, Field(min_length=1)] = Field(description="The layers, in order.")
    outputs: OutputNames | None = Field(None, description="The model's outputs; the last layer's when absent.")
    regularizers: Annotated[tuple[LayerRule, ...], Sequence] = Field(
        (), description="Regularizers for many layers at once; what a layer says itself wins."
    )


@cache
def section_of(name: str) -> TypeAdapter[Any]:
    """What validates one section of a spec file."""
    return TypeAdapter(SpecSections.model_fields[name].rebuild_annotation())


def fields_in(section: str) -> list[str]:
    """The fields of a section's items, to suggest one for a fault."""
    items: dict[str, type[Frozen]] = {"inputs": Input, "blocks": BlockSection, "regularizers": LayerRule}
    return [field.alias or name for name, field in items[section].model_fields.items()] if section in items else []


class CallEntry(Frozen):
    """A further call of a layer or a block, with the same weights."""

    main = "layer"

    layer: str = Field(description="The layer or block that is called again.")
    inputs: Names | None = Field(None, description="What it is called on; the layer before when absent.")
    mask: NamesIfAny | None = Field(None, description="In place of the masks of its inputs, as for a layer.")
    name: Name | None = Field(None, description="The name of the result.")


def _number_or_values(value: Any, number: ValidatorFunctionWrapHandler) -> int | dict[str, list[Any]]:
    """How many copies, or the values of parameters in each."""
    if not isinstance(value, dict):
        count: int = number(value)
        return count
    if not value or not all(isinstance(each, list) and each for each in value.values()):
        raise PydanticCustomError(
            "repeat", "must be a number, or a mapping of parameters with a list of values, one for each copy"
        )
    return value


if TYPE_CHECKING:
    Repeat = int | dict[str, list[Any]]
else:
    Repeat = Annotated[
        Count,
        WrapValidator(_number_or_values),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 0, "maximum": MAX_SIZE},
                    {
                        "type": "object",
                        "additionalProperties": {"type": "array", "minItems": 1},
                        "minProperties": 1,
                    },
                ]
            }
        ),
    ]


class UseEntry(Frozen):
    """What the use of a block says besides the block's own parameters."""

    name: Name | None = Field(None, description="The name of the block's module.")
    inputs: Names | None = Field(None, description="What it is called on; the layer before when absent.")
    repeat: Repeat | None = Field(
        None,
        description="How many copies follow each other, name_1, name_2, …; none for 0, whose input goes on; or a "
        "parameter's value in each: {dilation: [1, 2, 4]}.",
    )


def name_of_file(path: str) -> str:
    """The name of a spec that says none: its file's, without what no name may have."""
    if path.startswith("<"):
        return "model"
    stem = re.sub(r"\W", "_", Path(path).stem, flags=re.ASCII).strip("_")
    return stem[:MAX_NAME] if stem[:1].isalpha() else "model"
