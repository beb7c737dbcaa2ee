"""Where a search may look for the value of a parameter: a range, or choices."""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeGuard

from pydantic import Field, PlainValidator, ValidationError, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from regspec.language.fields import Frozen
from regspec.text.dumping import written
from regspec.text.faults import shown


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a finite number, whole or not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _number(value: Any) -> int | float:
    """A finite number, whole or not. Raises a pydantic error."""
    if not is_number(value):
        raise PydanticCustomError("form", "must be {expected}", {"expected": "a number", "received": value})
    return value


def _step(value: Any) -> int | float:
    step = _number(value)
    if step <= 0:
        raise PydanticCustomError("form", "must be greater than 0")
    return step


def _choices(value: Any) -> tuple[Any, ...]:
    """Values of any sort, each once. Raises a pydantic error."""
    if not isinstance(value, (list, tuple)):
        raise PydanticCustomError("form", "must be {expected}", {"expected": "a list of values", "received": value})
    if not value:
        raise PydanticCustomError("empty", "must have at least one value, but has none")
    written_before = set()
    for index, each in enumerate(value):
        if written(each) in written_before:
            raise PydanticCustomError("twice", "has {value} twice", {"value": shown(each), "at": (index,)})
        written_before.add(written(each))
    return tuple(value)


class Range(Frozen):
    """Numbers from low to high, both included; whole ones, where both are whole."""

    low: Annotated[int | float, PlainValidator(_number), WithJsonSchema({"type": "number"})] = Field(
        description="The least value."
    )
    high: Annotated[int | float, PlainValidator(_number), WithJsonSchema({"type": "number"})] = Field(
        description="The greatest value."
    )
    log: bool = Field(False, description="Whether factors count, and not differences: right for strengths and rates.")
    step: (
        Annotated[int | float, PlainValidator(_step), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})] | None
    ) = Field(None, description="What lies between two values, counted from low.")

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def last(self) -> int | float:
        """The greatest value that it has: high, or the last step before it."""
        if self.step is None:
            return self.high
        return self.low + math.floor((self.high - self.low) / self.step * (1 + 1e-9)) * self.step

    @model_validator(mode="after")
    def _check(self) -> Range:
        if self.low >= self.high:
            raise _fault("must have a 'low' less than its 'high', but has {low} and {high}", "low", self)
        if self.log and self.low <= 0:
            raise _fault("must have a 'low' greater than 0, because it has 'log', but has {low}", "low", self)
        if self.step is None:
            return self
        if self.log:
            raise _fault("has both 'log' and 'step', but takes one of them", "step", self)
        if self.step > self.high - self.low:
            raise _fault("has a 'step' of {step}, which is more than from {low} to {high}", "step", self)
        if self.is_whole and not isinstance(self.step, int):
            raise _fault("must have a whole 'step', because 'low' and 'high' are whole, but has {step}", "step", self)
        return self

    def refusal(self, value: Any) -> str | None:
        """Why a value is not one of these; None, if it is one."""
        if not is_number(value):
            return "which is no number"
        if not self.low <= value <= self.high:
            return f"which is not between {self.low} and {self.high}"
        if self.is_whole and not isinstance(value, int):
            return "which is not whole, as 'low' and 'high' are"
        steps = 0 if self.step is None else (value - self.low) / self.step
        return f"which is not {self.low} plus steps of {self.step}" if abs(steps - round(steps)) > 1e-6 else None


class Choices(Frozen):
    """Values, one of which is chosen."""

    choices: Annotated[tuple[Any, ...], PlainValidator(_choices), WithJsonSchema({"type": "array", "minItems": 1})] = (
        Field(description="The values.")
    )

    def refusal(self, value: Any) -> str | None:
        """Why a value is not one of these; None, if it is one."""
        return (
            None
            if any(written(value) == written(each) for each in self.choices)
            else "which is not among its 'choices'"
        )


Search = Range | Choices


def _search(value: Any) -> Search:
    """The search of a parameter: a range or choices. Raises a pydantic error."""
    if not isinstance(value, dict):
        expected = "{low: …, high: …} or {choices: […]}"
        raise PydanticCustomError("form", "must be {expected}", {"expected": expected, "received": value})
    ranged = [name for name in value if name in Range.model_fields]
    if "choices" in value and ranged:
        what = "takes either 'low' and 'high', or 'choices', but has both"
        raise PydanticCustomError("both", what, {"at": (ranged[0],)})
    cls: type[Range] | type[Choices] = Choices if "choices" in value else Range
    try:
        return cls.model_validate(value)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        fields = [*cls.model_fields] if ranged else [*Range.model_fields, *Choices.model_fields]
        context = {"name": "search", "at": (), "errors": errors, "fields": fields}
        raise PydanticCustomError("nested", "{name}", context) from None


class OfOption(Frozen):
    """Where a search may look for better values of what has its default elsewhere."""

    search: Annotated[Search, PlainValidator(_search)] = Field(description="Where the value may lie.")


class Searched(OfOption):
    """A parameter with a default, and where a search may look for better values."""

    default: Any = Field(description="The value everywhere but in a search.")

    @model_validator(mode="after")
    def _check(self) -> Searched:
        refusal = self.search.refusal(self.default)
        if refusal is not None:
            context = {"default": shown(self.default), "refusal": refusal, "at": ("default",)}
            raise PydanticCustomError("default", "has the default {default}, {refusal}", context)
        return self


def _fault(what: str, field: str, search: Range) -> PydanticCustomError:
    """An error of a range at one of its fields."""
    return PydanticCustomError(
        "range", what, {"low": search.low, "high": search.high, "step": search.step, "at": (field,)}
    )


def is_searched(value: Any) -> bool:
    """Whether a parameter, as it is written, has a search, or was meant to have one."""
    return isinstance(value, dict) and not value.keys().isdisjoint(Searched.model_fields)
