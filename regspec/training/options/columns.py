"""What is said of a table's columns that are not taken as they are.

Two ways were weighed: to tell from a column what becomes of it; or, as here, that it is said, because the width of a
model's input follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from regspec.language.fields import Frozen, OneOrMore
from regspec.training.options.said import sections_said

ALONE = ("target", "drop", "weight", "group", "one_hot", "codes")  # what a word may say alone
Part = Literal["year", "month", "day", "weekday", "hour", "minute", "days"]
_PART = {"enum": [*get_args(Part)]}
Parts = Annotated[
    tuple[Part, ...],
    OneOrMore,
    Field(min_length=1),
    WithJsonSchema({"anyOf": [_PART, {"type": "array", "items": _PART, "minItems": 1}]}),
]
Scale = Literal["standard", "min_max", "robust"]
# A word that takes nothing: ``true``, or a mapping without arguments.
Word = Annotated[
    Literal[True] | None,
    BeforeValidator(lambda value: True if value == {} else value),
    WithJsonSchema({"anyOf": [{"const": True}, {"type": "object", "maxProperties": 0}, {"type": "null"}]}),
]


class TextSection(Frozen):
    """How words become numbers: 0 is padding, 1 an unknown word, 2 the most frequent one."""

    length: int = Field(description="How many words of a text are taken; shorter ones end in 0.", ge=1)
    vocabulary: int | None = Field(
        None,
        description="How many numbers there are, those of padding and unknown words too; all words', if absent.",
        ge=3,
    )


class ColumnSection(Frozen):
    """What becomes of a column: a word alone, such as ``drop`` or ``one_hot``, or some of these keys."""

    target: Word = Field(None, description="Whether it is a target: of the output of its name, or of an only one.")
    drop: Word = Field(None, description="Whether it is left out: a number of rows, a name.")
    weight: Word = Field(None, description="Whether it says how much each example counts in the loss.")
    group: Word = Field(
        None, description="Whether it says what belongs together: a patient, of whom all is trained on or held out."
    )
    impute: bool | int | float | str | None = Field(
        None, description="What stands for gaps: mean, median, most_frequent, or a value of the column."
    )
    scale: Scale | None = Field(
        None, description="standard: mean 0, deviation 1; min_max: 0 to 1; robust: median 0, quartiles 1 apart."
    )
    one_hot: Word = Field(None, description="A column for each word; 0 in all for others.")
    codes: Word = Field(None, description="A whole number for each word, from 1 on, for an Embedding; 0 for others.")
    text: TextSection | None = Field(
        None, description="The numbers of a text's words, for an Embedding, by how frequent the words are."
    )
    date: Parts | None = Field(
        None,
        description="A column for each part of a date, in UTC where it has a zone; days: since 1970, with fractions.",
    )

    @property
    def is_beside(self) -> bool:
        """Whether it is neither an input nor a target."""
        return bool(self.drop or self.weight or self.group)

    @property
    def plain(self) -> dict[str, Any]:
        """What is said, as plain data."""
        return self.model_dump(mode="json", exclude_none=True)

    @model_validator(mode="before")
    @classmethod
    def _by_a_word(cls, value: Any) -> Any:
        return {value: True} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_kind(self) -> ColumnSection:
        said = [name for name in (*ALONE, "text", "date") if getattr(self, name) is not None]
        if (self.is_beside or self.target or self.text) and self.impute is not None:
            raise _apart(said[0], "impute")
        if len(said) > 1 or (said and self.scale is not None and said != ["date"]):
            raise _apart(*said, *(["scale"] if self.scale else []))
        return self


def _apart(*said: str) -> PydanticCustomError:
    return PydanticCustomError("column", "is {said}, which don't go together", {"said": " and ".join(said)})


def columns_said(texts: Sequence[str]) -> dict[str, ColumnSection]:
    """What options say of columns, ``city=one_hot`` or ``age.impute=median``, by their names.

    Raises:
        RegspecError: with all faults.
    """
    return sections_said(texts, ColumnSection, "column", "--columns.city one_hot", takes_all=True)
