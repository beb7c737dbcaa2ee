"""What a text says of a thing with a name, of an output or a column: ``price.loss=huber``, ``city=one_hot``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from regspec.text import document, faults
from regspec.text.document import document_of
from regspec.text.faults import Origin
from regspec.text.problems import Problem, Problems, RegspecError

S = TypeVar("S", bound=BaseModel)


def parted(text: str) -> tuple[str, str | None]:
    """What something is said of, and what is said, which may be None. A name with an equals sign stands in quotes.

    Example:
        >>> parted("price.loss=huber")
        ('price.loss', 'huber')
        >>> parted('"a=b".impute=0')
        ('"a=b".impute', '0')
    """
    _, end = _quoted(text)
    place, is_given, value = text[end:].partition("=")
    return text[:end] + place, value if is_given else None


def name_and_key(place: str, section: type[BaseModel] | None = None) -> tuple[str, str]:
    """The name and the key of a place, with or without quotes; with a section, what is no field of it is of the name.

    Example:
        >>> name_and_key("price.loss"), name_and_key('"v1.2".loss'), name_and_key("l1")
        (('price', 'loss'), ('v1.2', 'loss'), ('', 'l1'))
    """
    name, end = _quoted(place)
    if end:
        return name, place[end:].removeprefix(".")
    name, _, key = place.rpartition(".")
    if section is None or (name and key in section.model_fields):
        return name, key
    return place, ""


def written(name: str, key: str, value: Any) -> str:
    """The text that says something of a name; with a key, of that alone."""
    name = json.dumps(name, ensure_ascii=False) if {*'.="'} & {*name} else name
    return f"{name}{'.' * bool(key)}{key}={json.dumps(value, ensure_ascii=False)}"


def sections_said(texts: Sequence[str], section: type[S], what: str, example: str, *, takes_all: bool) -> dict[str, S]:
    """What texts say, by the names; values are as in YAML.

    Args:
        texts: ``NAME.KEY=VALUE``, or ``NAME=VALUE``; a name with dots that may be meant otherwise stands in quotes.
        section: what is said of a name.
        what: what has the names: ``column``.
        example: what to write, for messages.
        takes_all: whether all may be said at once, ``NAME=VALUE``; the last part of a name is a key if it is a field.
            A word alone, ``city=one_hot``, is that key, true, and others may be beside it.

    Raises:
        RegspecError: with all faults.
    """
    said: dict[str, Any] = {}
    words = set[str]()  # the names of which a word is said
    problems = Problems()
    for each in texts:
        place, value = parted(each)
        name, key = name_and_key(place, section if takes_all else None)
        if not name or not (value or "").strip() or not (key or takes_all):
            article = "an" if what[0] in "aeiou" else "a"
            problems.append(Problem(f"'{each}' says nothing of {article} {what}", f"write {example}"))
            continue
        try:
            data = document.parse(value or "", f"--{what}s.{place}").data
        except RegspecError as error:
            problems.extend(error.problems)
            continue
        is_word = not key and isinstance(data, str)
        if not key and name not in said:
            said[name] = {data: True} if is_word else data
        elif is_word and name not in words and isinstance(said[name], dict) and data not in said[name]:
            said[name] = {data: True, **said[name]}
        elif not key or not isinstance(said.setdefault(name, {}), dict):
            hint = (
                f"say all at once, --{what}s.{name} '{{one_hot: true, impute: most_frequent}}'" if takes_all else None
            )
            problems.append(Problem(f"two things are said of the {what} '{name}'", hint))
        elif key in said[name]:
            problems.append(Problem(f"'{key}' of the {what} '{name}' is given twice"))
        else:
            said[name][key] = data
        if is_word:
            words.add(name)
    found: dict[str, S] = {}
    for name, fields in said.items():
        try:
            found[name] = section.model_validate(fields)
        except ValidationError as error:
            origin = Origin(document_of({name: fields}, f"--{what}s")) / name
            subject, known = f"the {what} '{name}'", section.model_fields
            problems.extend(faults.problems(error.errors(include_url=False), origin, subject, known))
    if problems:
        raise RegspecError(problems)
    return found


def _quoted(text: str) -> tuple[str, int]:
    """The name in quotes at the beginning of a text, and where these end; 0 where there are none."""
    if text.startswith('"'):
        try:
            name, end = json.JSONDecoder().raw_decode(text)
        except json.JSONDecodeError:
            return "", 0
        return name, end
    return "", 0
