"""Parameters: their values, and their substitution.

``$width`` becomes a named value, ``$width // 2`` a number, ``$$`` a dollar.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from regspec.language.arithmetic import ExpressionError, Number, Token, evaluated, lexed, tokens_of
from regspec.language.calls import FilledCall, is_call, parse_call
from regspec.specs.searches import is_number, is_searched
from regspec.text import document
from regspec.text.document import Part
from regspec.text.dumping import written
from regspec.text.faults import UNKNOWN, Origin, shown
from regspec.text.problems import Problem, did_you_mean

MAX_KNOWN = 8  # parameters that a message names
MAX_TEXT = 1_000  # of a text with references in it, so that it can't grow without bound

_REFERENCE = re.compile(r"\$(\$|[A-Za-z_][A-Za-z0-9_]*|\{[^{}]*\})")  # the last as others write one


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
        if not is_number(value):
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
