"""Whether a file says of a model what the port must know: checked by JSON Schemas, with the place of each fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.kinds import kind_of
from regspec.keras.configs.models import MODELS
from regspec.keras.formats.archive import Archive
from regspec.keras.formats.schemas import model_schema
from regspec.text.problems import Problem, RegspecError

MAX_FAULTS = 20  # that are told of a file
WORDS = {"array": "a list", "object": "a mapping", "string": "a text", "integer": "a whole number", "null": "nothing"}
WORDS |= {"boolean": "true or false"}


def check(archive: Archive) -> None:
    """Raises `RegspecError` where a config is none of a model whose layers it says."""
    item = archive.config
    name, config = item.get("class_name"), item.get("config")
    if isinstance(name, str) and name not in MODELS and not (isinstance(config, dict) and "layers" in config):
        _refuse_class(name, archive.path)
    check_schema(item, model_schema(Dialect.of(archive.version, item).generation), archive.place)


def _refuse_class(name: str, path: Path) -> None:
    if kind_of(name) is not None:
        what, hint = f"is the config of a layer, {name}, and of no model", "model.to_json() gives that of a model"
    else:
        what = f"is of the class '{name[:80]}', which is the user's own: what its layers are stands in its code alone"
        hint = "where the class is at hand: keras.Model(x, model.call(x)).save('model.keras'), with x = keras.Input(…)"
    raise RegspecError(Problem(what, hint, str(path)))


def check_schema(value: Any, schema: Mapping[str, Any], place: Callable[[str], str]) -> None:
    """Raises `RegspecError` with the faults of a value; ``place`` is what messages call a JSON path."""
    from jsonschema.validators import Draft202012Validator

    errors = islice(Draft202012Validator(schema).iter_errors(value), MAX_FAULTS)
    try:
        problems = [problem for error in errors for problem in _problems(error, place)]
    except RecursionError:  # a model in a model takes a hundred calls of the validator
        raise RegspecError(Problem("has a config of values in values without end", path=place("$"))) from None
    if problems:
        raise RegspecError([*dict.fromkeys(problems)])


def _problems(error: Any, place: Callable[[str], str]) -> Iterator[Problem]:
    """What a fault of a schema is in words."""
    value = error.instance
    if error.validator == "type":
        wanted = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
        what = f"is {shown(value)}, where {' or '.join(WORDS.get(each, each) for each in wanted)} is wanted"
    elif error.validator == "required":
        what = f"has no {error.message.split(chr(39))[1]}"  # which only the message tells, in quotes
    elif error.validator == "minItems":
        what = f"is {shown(value)}, where [layer, call, output] is wanted"
    elif error.validator == "anyOf":
        what = "says nothing of its layers: it has weights alone"
    else:
        what = f"is {shown(value)}, where {' or '.join(map(json.dumps, error.validator_value))} is wanted"
    yield Problem(what, path=place(error.json_path))


def shown(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, (dict, list)) and len(value) > 4:
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value):,}"
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
