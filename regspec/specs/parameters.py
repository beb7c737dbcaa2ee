"""Parameters: their searches, and their substitution.

``$width`` becomes a named value, ``$width // 2`` a number, ``$$`` a dollar.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Annotated, Any, TypeGuard

from pydantic import Field, PlainValidator, ValidationError, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from regspec.language.arithmetic import ExpressionError, Number, Token, evaluated, lexed, tokens_of
from regspec.language.calls import FilledCall, is_call, parse_call
from regspec.language.fields import Frozen
from regspec.text import document
from regspec.text.document import Document, Location, Part
from regspec.text.faults import UNKNOWN, Origin, shown
from regspec.text.problems import Problem, RegspecError, did_you_mean

MAX_KNOWN = 8  # parameters that a message names
MAX_TEXT = 1_000  # of a text with references in it, so that it can't grow without bound

_REFERENCE = re.compile(r"\$(\$|[A-Za-z_][A-Za-z0-9_]*|\{[^{}]*\})")  # the last as others write one
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _number(value: Any) -> int | float:
    """A finite number, whole or not. Raises a pydantic error."""
    if not _is_number(value):
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
        if not _is_number(value):
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


def defaults(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The values of parameters as they are written, where nothing else is given."""
    return {name: value.get("default", UNKNOWN) if is_searched(value) else value for name, value in parameters.items()}


def resolved(
    parameters: Mapping[str, Any],
    given: Mapping[str, Any],
    around: Mapping[str, Any],
    origin: Origin,
    problems: list[Problem],
    *,
    places: Mapping[str, Origin] | None = None,
    null: Any = None,
) -> dict[str, Any]:
    """The values of parameters: those given, and the defaults, each of which may refer to parameters before it.

    ``around`` are the parameters of what is around; ``places`` those of given values that may refer to others too;
    ``null`` is what others see of a parameter that is null.
    """
    values: dict[str, Any] = {}
    scope = dict(around)
    for name, default in defaults(parameters).items():
        value = given.get(name, default)
        place = (places or {}).get(name) if name in given else origin / name
        values[name] = value if place is None else substitute(value, scope, place, problems)
        scope[name] = null if values[name] is None else values[name]
    return values


def places_of(given: Mapping[str, Any]) -> dict[str, Origin]:
    """Where given values that refer to parameters were written, which is in no file."""
    texts = {name: json.dumps(value, default=str) for name, value in given.items() if _refers(value)}
    return {name: Origin(document.parse(text, f"parameter {name}")) for name, text in texts.items()}


def written(value: Any) -> str:
    """A value as YAML in a line."""
    if isinstance(value, str) and _WORD.fullmatch(value) and document.parse(value).data == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def with_defaults(spec: Document, values: Mapping[str, Any]) -> str:
    """The text of a spec with other defaults of its parameters; all else, comments too, is kept as it is.

    A parameter whose new value lies outside of its search loses the search, because a default must lie inside.

    Raises:
        RegspecError: where the text can't be changed at that place alone: for a value that is an alias of another.
    """
    places: dict[Location, Any] = {}
    for name, value in values.items():
        before = spec.data["parameters"][name]
        is_in = is_searched(before) and Searched.model_validate(before).search.refusal(value) is None
        places[("parameters", name, "default") if is_in else ("parameters", name)] = value
    return with_values(spec, places)


def with_values(spec: Document, values: Mapping[Location, Any]) -> str:
    """The text of a spec with other values at some places; all else, comments too, is kept as it is.

    Raises:
        RegspecError: where the text can't be changed at a place alone: for a value that is an alias of another.
    """
    text, expected = spec.text, copy.deepcopy(spec.data)
    for location, value in values.items():
        *path, last = location
        reduce(getitem, path, expected)[last] = value
    for (start, end), value in sorted(((spec.span(each), values[each]) for each in values), reverse=True):
        anchor = re.match(r"&\S+\s+", text[start:end])
        start += len(anchor[0]) if anchor else 0
        gap = " " if text[start - 1] == ":" else ""  # after a key without a value
        text = text[:start] + gap + written(value) + text[end:]
    if document.parse(text, spec.path).data != expected:
        places = ", ".join(str(location[1]) for location in values)
        hint = "write each as a value of its own, without an anchor or an alias"
        raise RegspecError(Problem(f"the values of {places} can't be written anew", hint, path=spec.path))
    return text


def with_name(spec: Document, name: str) -> str:
    """The text of a spec that has no name of its own, and has that of its file, with the name in it."""
    end = spec.span(("regspec",))[1]
    if not spec.is_in_braces:
        end = spec.text.find("\n", end) if "\n" in spec.text[end:] else len(spec.text)
    text = f"{spec.text[:end]}{', ' if spec.is_in_braces else chr(10)}name: {written(name)}{spec.text[end:]}"
    assert document.parse(text, spec.path).data == {**spec.data, "name": name}
    return text


def substitute(value: Any, parameters: Mapping[str, Any], origin: Origin, problems: list[Problem]) -> Any:
    """``value`` with every reference to a parameter replaced; unknown names become problems.

    A string that is one reference becomes the parameter's value, of whatever type; one that is arithmetic its result;
    a reference inside another string becomes its text.
    """
    if not _refers(value):
        return value
    if isinstance(value, str):
        return _text(value, parameters, origin, problems)
    if isinstance(value, dict):
        return {key: substitute(item, parameters, origin / key, problems) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, parameters, origin / index, problems) for index, item in enumerate(value)]
    return value


def plain(value: Any) -> Any:
    """A value with its calls as the texts that they are."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, FilledCall) else value


def _refers(value: Any) -> bool:
    """Whether there is a reference in a value: most have none, and need no copy."""
    if isinstance(value, str):
        return "$" in value
    if isinstance(value, dict):
        return any(map(_refers, value.values()))
    return isinstance(value, list) and any(map(_refers, value))


def _text(text: str, parameters: Mapping[str, Any], origin: Origin, problems: list[Problem]) -> Any:
    whole = _REFERENCE.fullmatch(text)
    if whole is not None and whole[1] != "$":
        return _lookup(whole[1], parameters, origin, problems)

    if len(text) > MAX_TEXT:
        problems.append(origin.problem(f"a text with parameters may have {MAX_TEXT} characters"))
        return UNKNOWN
    if is_call(text) and (called := _call(text, parameters, origin, problems)) is not None:
        return called
    tokens = tokens_of(text)
    if tokens is not None:
        return _computed(text, tokens, parameters, origin, problems)
    filled = _filled(text, parameters, origin, problems)
    if isinstance(filled, str) and is_call(filled) and "$" in text.partition("(")[2].replace("$$", ""):
        # a call only by its name's parameter: values pasted into its arithmetic would bind otherwise
        problems.append(origin.problem("has a parameter in the name of a call and in its arguments: write the name"))
        return UNKNOWN
    return filled


def _filled(
    text: str, parameters: Mapping[str, Any], origin: Origin, problems: list[Problem], part: Part | None = None
) -> Any:
    """A text with the texts of parameters in it; ``part`` is where it stands, if that is in another."""
    before, unknown = len(problems), False

    def replaced(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        nonlocal unknown
        value = _lookup(match[1], parameters, origin, problems, part)
        unknown |= value is UNKNOWN
        if isinstance(value, str) and len(value) > MAX_TEXT:
            problems.append(origin.problem(f"'${match[1]}' is longer than {MAX_TEXT} characters", part=part))
            return ""
        if value is not UNKNOWN and (isinstance(value, bool) or not isinstance(value, (str, int, float))):
            what = f"'${match[1]}' is {shown(value)}, which can't stand inside a text"
            problems.append(origin.problem(what, part=part))
        return str(value)

    result = _REFERENCE.sub(replaced, text)
    return result if len(problems) == before and not unknown else UNKNOWN


def _call(text: str, parameters: Mapping[str, Any], origin: Origin, problems: list[Problem]) -> Any:
    """A call with the values of its parameters; None for another text, such as a pattern with brackets."""
    found: list[Problem] = []
    unknown = False

    def read(argument: Token) -> Any:
        nonlocal unknown
        if argument.sort == "text":
            value = _filled(argument.text, parameters, origin, found, Part(text, *argument.part))
        elif (tokens := lexed(text, *argument.part)) is None:
            raise ExpressionError("", argument)
        elif [token.sort for token in tokens] == ["parameter"]:
            value = _lookup(tokens[0].text[1:], parameters, origin, found, Part(text, *argument.part))
        else:
            value = _computed(text, tokens, parameters, origin, found)
        unknown |= value is UNKNOWN
        return value

    try:
        call = parse_call(text, read)
    except ExpressionError:
        return None
    problems.extend(found)
    return UNKNOWN if unknown else FilledCall.of(_as_text(text, parameters), text, call)


def _as_text(text: str, parameters: Mapping[str, Any]) -> str:
    """A call for where it is a text: with its parameters as YAML has them; read again it means the same."""

    def replaced(match: re.Match[str]) -> str:
        value = "$" if match[1] == "$" else parameters[match[1]]
        is_power = text[match.end() :].lstrip().startswith("**")  # which binds stronger than a sign
        made = value if isinstance(value, str) else written(value)
        return f"({made})" if is_power and made.startswith("-") else made

    return _REFERENCE.sub(replaced, text)


def _computed(
    text: str, tokens: list[Token], parameters: Mapping[str, Any], origin: Origin, problems: list[Problem]
) -> Any:
    """The result of tokens of a text that are arithmetic."""
    values = {
        token: _lookup(token.text[1:], parameters, origin, problems, Part(text, *token.part))
        for token in tokens
        if token.sort == "parameter"
    }
    if any(value is UNKNOWN for value in values.values()):
        return UNKNOWN

    def number_of(token: Token) -> Number:
        value = values[token]
        if not _is_number(value):
            raise ExpressionError(f"'{token.text}' is {shown(value)}, which is no number", token)
        return value

    try:
        return evaluated(tokens, number_of)
    except ExpressionError as error:
        problems.append(origin.problem(error.what, error.hint, part=Part(text, *error.part)))
        return UNKNOWN


def _lookup(
    name: str, parameters: Mapping[str, Any], origin: Origin, problems: list[Problem], part: Part | None = None
) -> Any:
    """The value of a parameter, by what stands behind the dollar."""
    if name.startswith("{"):
        *_, written = ["name", *re.findall(r"[^\W\d]\w*", name)]
        what = f"'${name}' is no reference to a parameter"
        problems.append(origin.problem(what, f"write ${written}, without braces", part=part))
        return UNKNOWN
    if name not in parameters:
        is_parameter = origin.location[-2:-1] == ("parameters",)
        before = "a parameter may refer to those before it"
        hint = did_you_mean(name, parameters) or (before if is_parameter else _known(parameters))
        problems.append(origin.problem(f"no parameter is called '{name}'", hint, part=part))
        return UNKNOWN
    return parameters[name]


def _known(parameters: Mapping[str, Any]) -> str:
    """Which parameters there are, and what a dollar may be else."""
    names = [f"${name}" for name in parameters]
    if len(names) > MAX_KNOWN + 1:
        names[MAX_KNOWN:] = [f"{len(names) - MAX_KNOWN} others"]
    *others, last = names or ["none"]
    there = f"there are {', '.join(others)} and {last}" if others else f"there is {last}"
    return f"{there}; a literal dollar is written '$$'"
