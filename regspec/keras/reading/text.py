"""A model that was read from a config, as the text of a spec: a line a layer, which says no more than it must."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from regspec.code.shapes import DataFormat
from regspec.keras.configs.models import Model
from regspec.keras.configs.values import UnportedError

PLAIN = re.compile("[A-Za-z_][A-Za-z0-9_]*")  # texts that need no quotes, except a few words


def text_of(model: Model, data_format: DataFormat, settings: Mapping[str, str]) -> str:
    """The text of a model's spec; ``settings`` are further sections of it."""
    lines = ["regspec: 1", f"name: {_flow(model.name)}"]
    lines.append(f"data_format: {data_format}")
    lines += [f"{name}: {value}" for name, value in settings.items()]
    lines += ["inputs:", *(f"  {_flow(name)}: {_flow(declared)}" for name, declared in model.inputs.items())]
    called: dict[str, str] = {}
    if blocks := _blocks(model, called, {}):
        lines.append("blocks:")
        for name, block in blocks.items():
            lines += [f"  {_flow(name)}:", *block]
    lines += ["layers:", *(f"  - {entry}" for entry in _entries(model, called))]
    lines.append(f"outputs: {_flow(model.outputs)}")
    return "\n".join(lines) + "\n"


def _blocks(model: Model, called: dict[str, str], known: dict[tuple[str, ...], str]) -> dict[str, list[str]]:
    """The lines of the models inside, by the names of their blocks; those that others use come first.

    Those that are alike are one block, which has the name of the first: ``called`` gets what each of them is called.
    """
    found: dict[str, list[str]] = {}
    for inner in model.inner.values():
        found |= _blocks(inner, called, known)
        lines = [*_block(inner, called)]
        called[inner.name] = known.setdefault(tuple(lines), inner.name)
        if called[inner.name] == inner.name:
            found[inner.name] = lines
    return found


def _block(block: Model, called: Mapping[str, str]) -> Iterator[str]:
    """The lines of a block."""
    if block.parameters:
        yield f"    parameters: {_flow(block.parameters)}"
    if [*block.inputs] != ["input"]:
        yield f"    inputs: {_flow([*block.inputs])}"
    if unused := [name for name, declared in block.inputs.items() if declared.get("unused")]:
        yield f"    unused: {_flow(unused)}"
    yield "    layers:"
    yield from (f"      - {entry}" for entry in _entries(block, called))
    if block.outputs not in [fields["name"] for fields in block.entries[-1].values()]:
        yield f"    outputs: {_flow(block.outputs)}"


def _entries(model: Model, called: Mapping[str, str]) -> Iterator[str]:
    """The layers, a line each; a layer's inputs are written only where they are not the layer before."""
    last = list(model.inputs)[-1]
    for entry in model.entries:
        ((kind, fields),) = entry.items()
        said = dict(fields)
        if said["inputs"] == [last]:
            del said["inputs"]
        elif len(said["inputs"]) == 1:
            said["inputs"] = said["inputs"][0]
        last = said["name"]
        yield f"{_flow(called.get(kind, kind))}: {_flow(said)}"


def _flow(value: Any) -> str:
    """A value in YAML, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return _flow_of_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f".{value}".replace(".-", "-.")
    if not isinstance(value, (bool, int, float, type(None))):  # a slice, where no operation takes one
        raise UnportedError(f"the value {str(value)[:80]}")
    return json.dumps(value)


def _flow_of_text(value: str) -> str:
    """A text in YAML, in quotes where it needs them within a list."""
    if PLAIN.fullmatch(value) and value.lower() not in ("null", "true", "false", "yes", "no", "on", "off"):
        return value
    text: str = yaml.safe_dump([value], default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.strip()[1:-1]
