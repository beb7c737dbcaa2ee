"""A class or function of torch that a text names, with its arguments: ``adam betas=(0.9,0.99) amsgrad=true``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping
from inspect import Parameter
from typing import Any

from regspec.text import document
from regspec.text.problems import Problem, RegspecError, did_you_mean

NEEDED: Any = Parameter.empty  # the default of an argument that has none
_NEXT = re.compile(r"\s+(?=\w+\s*=)")  # between arguments: a value may have spaces, (0.9, 0.99)
_ONE = re.compile(r"\w+\.\w+\s*=")  # one argument: ``sgd.momentum=0.9``
_NEXT_ONE = re.compile(r"\s+(?=\w+\.\w+\s*=)")
_NONE = re.compile(r"\b(none|None)\b")  # which YAML writes null


def parts_of(text: str) -> list[str]:
    """The name in a text, and its arguments: ``adam``, ``betas=(0.9, 0.99)``."""
    name, *rest = text.split(maxsplit=1) or [""]
    return [name, *(settings_in(rest[0]) if rest else [])]


def settings_in(text: str) -> list[str]:
    """What a text says of several names: ``betas=(0.9, 0.99)``, ``amsgrad=true``."""
    return _NEXT.split(text)


def is_one_argument(text: str) -> bool:
    """Whether a text says single arguments of a name, ``sgd.momentum=0.9``, beside those that are said before."""
    return _ONE.match(text) is not None


def over(text: str, before: str | None) -> tuple[str, list[str]]:
    """A name with single arguments over those that it had, and what of it is new: arguments, or the name.

    Example:
        >>> over("sgd.momentum=0.9", "sgd nesterov=true")
        ('sgd nesterov=true momentum=0.9', ['sgd.momentum'])

    Raises:
        RegspecError: where it says arguments of two names.
    """
    said = [each.partition("=")[::2] for each in _NEXT_ONE.split(text)]
    names = [*dict.fromkeys(place.partition(".")[0] for place, _ in said)]
    if len(names) > 1:
        raise RegspecError(Problem(f"arguments are said of {' and '.join(names)}", "one of them is taken"))
    name, *settings = parts_of(before or "")
    new = [place.strip() for place, _ in said]
    if name.lower() != names[0].lower():
        settings = []
    arguments = {each.partition("=")[0].strip(): each.partition("=")[2] for each in settings}
    arguments |= {place.strip().partition(".")[2]: value for place, value in said}
    whole = " ".join([names[0], *(f"{key}={value}" for key, value in arguments.items())])
    return whole, new if name.lower() == names[0].lower() else [names[0]]


def parameters_of(called: Any, unfit: Collection[str] = ()) -> dict[str, Parameter]:
    """What a class or a function takes, but for what is given otherwise; by names in small letters."""
    found = inspect.signature(called).parameters.values()
    return {each.name.lower(): each for each in found if each.name not in unfit}


def arguments_of(
    name: str, settings: Collection[str], known: Mapping[str, Parameter], elsewhere: Mapping[str, str]
) -> dict[str, Any]:
    """The values of arguments, by the names that torch has for them.

    Args:
        name: what is called.
        settings: the arguments, ``betas=(0.9, 0.99)``.
        known: what it takes.
        elsewhere: what else may be meant by names that it does not take.

    Raises:
        RegspecError: for one that it does not take, or not so; what is needed and not given is none here.
    """
    arguments: dict[str, Any] = {}
    for setting in settings:
        key, is_given, value = (part.strip() for part in setting.partition("="))
        parameter = known.get(key.lower())
        if not is_given or parameter is None:
            raise RegspecError(Problem(f"{name} does not take '{setting}'", elsewhere.get(key) or _hint(key, known)))
        if parameter.name in arguments:
            raise RegspecError(Problem(f"{name} is given '{key}' twice"))
        arguments[parameter.name] = _plain(value)
        if not _is_like(arguments[parameter.name], parameter):
            raise RegspecError(Problem(f"{name} does not take '{setting}'", f"{key} is {_described(parameter)}"))
    return arguments


def _hint(key: str, known: Mapping[str, Parameter]) -> str:
    """What to write instead of an argument that is unknown, or is given no value."""
    if key in known:
        return f"write {key}=…, where {key} is {_described(known[key])}"
    return did_you_mean(key, known) or (
        f"it takes {', '.join(known)}, each as name=value" if known else "it takes none"
    )


def _plain(text: str) -> Any:
    """A value as a spec writes it, ``1e-4``, or as Python does, ``(0.9, None)``; itself where it is neither."""
    written = f"[{text[1:-1]}]" if text.startswith("(") and text.endswith(")") else text
    try:
        value = document.parse(_NONE.sub("null", written)).data
    except RegspecError:
        return text
    return tuple(value) if isinstance(value, list) else value


def _is_like(value: Any, parameter: Parameter) -> bool:
    """Whether a value is of an argument's sort, by its default: torch takes ``nesterov=3``, and ``momentum=true``."""
    default = parameter.default
    if isinstance(default, tuple):
        return (
            isinstance(value, tuple)
            and len(value) == len(default)
            and all(_is_number(each) or (each is None and None in default) for each in value)
        )
    if _is_list(parameter):
        return isinstance(value, tuple) and all(_is_number(each) for each in value)
    if isinstance(default, str):
        return value in _words(parameter)
    if default is None and _may_be_number(parameter):
        return value is None or _is_number(value)
    if default is None or isinstance(default, bool):  # foreach and fused are chosen where they are None
        return isinstance(value, bool) or value is default
    return _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_list(parameter: Parameter) -> bool:
    return str(parameter.annotation).startswith("Iterable")


def _may_be_number(parameter: Parameter) -> bool:
    return re.match(r"(int|float)\b", str(parameter.annotation)) is not None


def _words(parameter: Parameter) -> list[str]:
    """The texts that an argument may be, which its type says."""
    return re.findall(r"'(\w+)'", str(parameter.annotation))


def _described(parameter: Parameter) -> str:
    """What an argument is, for people."""
    default = parameter.default
    if isinstance(default, tuple):
        numbers = ",".join("none" if each is None else f"{each:g}" for each in default)
        return f"{len(default)} numbers in brackets, such as ({numbers})"
    if _is_list(parameter):
        return "numbers in brackets, such as (10,20)"
    if isinstance(default, str):
        return " or ".join(_words(parameter))
    if default is None:
        return "a number or none" if _may_be_number(parameter) else "true, false or none"
    if isinstance(default, bool):
        return "true or false"
    return "a number" if default is NEEDED else f"a number, such as {default:g}"
