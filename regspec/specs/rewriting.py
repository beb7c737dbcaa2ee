"""The text of a spec with other values, or with a name; all else, comments too, is kept as it is."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Any

from regspec.specs.searches import Searched, is_searched
from regspec.text import document
from regspec.text.document import Document, Location
from regspec.text.dumping import written
from regspec.text.problems import Problem, RegspecError


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
