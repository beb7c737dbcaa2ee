"""A spec in which layers have other numbers of units: what it says otherwise stays as it is written.

A layer of a block stands in the text once, and in the network as often as the block is used. Where its number is not
the same each time, it becomes a parameter of the block, which each use gives, and a block that is repeated a list of
them. Two ways were weighed: to write each use out as a block of its own is simpler, but nobody sees any more that a
network is made of the same parts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regspec.graph.loading import loads
from regspec.language.forms import spread
from regspec.layers import Layer, find_kind
from regspec.layers.ties import FieldPath, said
from regspec.modules.shrinking.inlining import apart, inline
from regspec.specs.model import BlockUse, Body, LayerUse, ModelSpec
from regspec.text.problems import Problem, RegspecError
from regspec.views.formatting import formatted
from regspec.views.formatting.changing import changed

Changes = Mapping[FieldPath, tuple[Any, Any]]
Column = list[Any]  # a value for each time that a body stands in the network


@dataclass
class Place:
    """A body in the text, and where it stands in the network."""

    data: dict[str, Any]  # with its layers, and a block's parameters
    bodies: list[Body] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)  # of the paths of its layers


def resized(spec: ModelSpec, fields: Mapping[str, Changes]) -> ModelSpec:
    """The spec with other values in the fields of layers, by the layers' paths.

    Raises:
        RegspecError: where the spec was not made from a text, or a block in a file can't be written into it.
    """
    origin = spec.body.origin
    if origin is None:
        raise RegspecError(Problem("the spec was not made from a text, in which a smaller one is written"))
    again = loads(formatted(origin.document), origin.document.path, parameters=spec.given)
    assert again.body.origin is not None
    document = again.body.origin.document
    data = apart(document.data)
    inline(data, Path(document.path))
    data["name"] = spec.name
    if spec.dtype != again.dtype:
        data["dtype"] = spec.dtype
    for name, value in spec.given.items():
        data["parameters"][name] = value
    _Text(data, fields).write(again.body)
    return loads(changed(document, without_unused(document.data, data)))


@dataclass
class _Text:
    data: dict[str, Any]
    fields: Mapping[str, Changes]
    places: dict[str, Place] = field(default_factory=dict)  # of the blocks, those that stand in others first
    given: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # block, parameter, prefix: its value

    def write(self, body: Body) -> None:
        """Puts the values into the text."""
        root = Place(self.data, [body], [""])
        self._find(body, "")
        for name, place in self.places.items():
            self._body(place, name)
        self._body(root, None)

    def _find(self, body: Body, prefix: str) -> None:
        """Finds where blocks stand in the network; a block comes behind those that it uses."""
        for entry in body.entries:
            if isinstance(entry, BlockUse):
                for copy, path in zip(entry.copies, _paths(entry), strict=True):
                    own = f"{prefix}{path}."
                    self._find(copy.body, own)
                    place = self.places.setdefault(entry.block, Place(self.data["blocks"][entry.block]))
                    place.bodies.append(copy.body)
                    place.prefixes.append(own)

    def _body(self, place: Place, block: str | None) -> None:
        """Puts the values into the layers of a body, and makes those parameters of the block that differ."""
        made: dict[int, tuple[str, dict[FieldPath, Column]]] = {}  # by the entry's number
        for index, entries in enumerate(zip(*(body.entries for body in place.bodies), strict=True)):
            first = entries[0]
            if isinstance(first, LayerUse):
                layers = [each.layer for each in entries if isinstance(each, LayerUse)]
                changes = [self.fields.get(f"{prefix}{first.name}", {}) for prefix in place.prefixes]
                columns = dict(_columns(layers, changes))
            elif isinstance(first, BlockUse):
                columns = dict(self._of_use([each for each in entries if isinstance(each, BlockUse)], place))
            else:
                continue
            if columns:
                made[index] = first.name, columns
        if any(path[0] == "repeat" for _, columns in made.values() for path in columns):
            self._say_names(place)
        blocks = self.data.get("blocks") or {}
        found = [(_fields(place.data["layers"], index, blocks), *each) for index, each in made.items()]
        own = {} if block is None else _own_parameters(found, place.data)
        for written, name, columns in found:
            self._put(written, columns, place, block, name, own)

    def _of_use(self, uses: Sequence[BlockUse], place: Place) -> Iterator[tuple[FieldPath, Column]]:
        """The parameters that a use of a block gives from now on: of each copy, where it is repeated."""
        for name, values in self.given.get(uses[0].block, {}).items():
            column = [
                [values[f"{prefix}{path}."] for path in _paths(use)]
                for use, prefix in zip(uses, place.prefixes, strict=True)
            ]
            if any(len({*map(repr, each)}) > 1 for each in column):
                yield ("repeat", name), column
            else:
                yield (name,), [each[0] for each in column]

    def _put(
        self,
        written: dict[Any, Any],
        columns: Mapping[FieldPath, Column],
        place: Place,
        block: str | None,
        entry: str,
        parameters: Mapping[str, str],
    ) -> None:
        """Puts columns into the fields of an entry."""
        for path, column in columns.items():
            if path[0] == "repeat" and not isinstance(written.get("repeat"), dict):
                written["repeat"] = {}
            elif path[0] != "repeat":
                _not_of_copies(written, [str(path[0])])
            named = "_".join(str(step) for step in (entry, *path) if step not in ("*", "repeat"))
            before = written.get(path[0])
            own = parameters.get(before) if isinstance(before, str) else None
            _set(written, path, self._value(column, place, block, named, own))
            if path[0] == "repeat":
                written.pop(path[1], None)  # which was of all copies

    def _say_names(self, place: Place) -> None:
        """Says the names of blocks in a body, which are made otherwise where one is repeated by a list."""
        for index, entry in enumerate(place.bodies[0].entries):
            if isinstance(entry, BlockUse):
                fields = _fields(place.data["layers"], index, self.data.get("blocks") or {})
                fields.setdefault("name", entry.name)

    def _value(self, column: Column, place: Place, block: str | None, name: str, own: str | None = None) -> Any:
        """What stands in the text for a column: the value that all are, or a parameter of the block, maybe its own."""
        if len({*map(repr, column)}) == 1:
            return column[0]
        if all(isinstance(each, list) for each in column) and len({*map(len, column)}) == 1:
            parts = zip(*column, strict=True)
            return [self._value([*each], place, block, f"{name}_{number}") for number, each in enumerate(parts, 1)]
        assert block is not None  # the spec's own body stands in the network once
        parameters = place.data.setdefault("parameters", {})
        while name in parameters and own is None:
            name += "_"
        name = own or name
        parameters.setdefault(name, None)
        self.given.setdefault(block, {})[name] = dict(zip(place.prefixes, column, strict=True))
        return f"${name}"


def _own_parameters(
    found: Sequence[tuple[Mapping[Any, Any], str, Mapping[FieldPath, Column]]], data: Mapping[str, Any]
) -> dict[str, str]:
    """By what is written, the parameters of a block that all fields that name them may go on to name.

    That is where each of these changes, and all to the same values.
    """
    users: dict[str, list[Column]] = {}
    for written, _, columns in found:
        for path, column in columns.items():
            value = written.get(path[0])
            if path[0] != "repeat" and isinstance(value, str) and re.fullmatch(r"\$\w+", value):
                users.setdefault(value, []).append(column)
    text, parameters = json.dumps(data, default=str), data.get("parameters") or {}
    return {
        value: value[1:]
        for value, columns in users.items()
        if value[1:] in parameters
        and len(re.findall(rf"\$\{{?{value[1:]}\b", text)) == len(columns)
        and len({*map(repr, columns)}) == 1
    }


def _not_of_copies(written: dict[str, Any], names: Sequence[str]) -> None:
    """Takes parameters out of the lists that a use of a block has of its copies; without any, their number is left."""
    repeat = written.get("repeat")
    if isinstance(repeat, dict) and repeat.keys() & {*names}:
        copies = len(next(iter(repeat.values())))
        left = {name: each for name, each in repeat.items() if name not in names}
        written["repeat"] = left or copies


def _paths(use: BlockUse) -> list[str]:
    """The paths of the copies of a block, of one that is not repeated its name."""
    return [f"{use.name}.{index}" for index in range(len(use.copies))] if use.is_repeated else [use.name]


def _columns(layers: Sequence[Layer], changes: Sequence[Changes]) -> Iterator[tuple[FieldPath, Column]]:
    """The values of the fields that change anywhere, for each time that the layer stands in the network."""
    paths = dict.fromkeys(path for each in changes for path, (before, after) in each.items() if before != after)
    whole: dict[FieldPath, list[FieldPath]] = {}
    for path in paths:
        whole.setdefault(path[:-1] if isinstance(path[-1], int) else path, []).append(path)
    for path, parts in whole.items():
        column = []
        for layer, own in zip(layers, changes, strict=True):
            value = said(layer, path)
            if parts != [path]:
                value = [own[(*path, index)][1] if (*path, index) in own else each for index, each in enumerate(value)]
            elif path in own:
                value = own[path][1]
            column.append(value)
        yield path, column


def _fields(layers: list[Any], index: int, blocks: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an entry in the text, as a mapping, those of layers inside it too."""
    entry = layers[index]
    kind, given = (entry, None) if isinstance(entry, str) else next(iter(entry.items()))
    cls = find_kind(kind)
    parameters = (blocks.get(kind) or {}).get("parameters") or {}
    fields = dict(spread(given, next(iter(parameters), None) if cls is None else cls.main))
    layers[index] = {kind: fields}
    return fields


def _set(written: dict[str, Any], path: FieldPath, value: Any) -> None:
    """Puts a value at a path into fields; ``*`` is what the one kind at a place says, in whatever form."""
    holder: Any = written
    key: Any = path[0]
    for step in path[1:]:
        if step == "*":
            inner = holder[key]
            kind, given = (inner, None) if isinstance(inner, str) else next(iter(inner.items()))
            cls = find_kind(kind)
            fields = dict(spread(given, "units" if cls is None else cls.main))  # of a cell, which is no layer
            holder[key] = {kind: fields}
            holder, key = fields, None
        else:
            holder = holder if key is None else holder[key]
            if isinstance(step, int) and isinstance(holder, dict):  # a stack of cells that is written as one
                (stack,) = holder.values()
                holder = stack["cells"] if isinstance(stack, dict) else stack
            key = step
    holder[key] = value


def without_unused(before: Mapping[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """The spec without parameters that something in it named before, and nothing names any more."""
    blocks = data.get("blocks") or {}
    for name, block in blocks.items():
        gone = _unused(block, (before.get("blocks") or {}).get(name, {}))
        for each in gone:
            del block["parameters"][each]
        for entry in (each for body in (data, *blocks.values()) for each in body.get("layers") or ()):
            fields = entry.get(name) if isinstance(entry, dict) else None
            if not isinstance(fields, dict):
                continue
            for each in gone:
                fields.pop(each, None)
            _not_of_copies(fields, gone)
        if block.get("parameters") == {}:
            del block["parameters"]
    for each in _unused(data, before):
        del data["parameters"][each]
    if data.get("parameters") == {}:
        del data["parameters"]
    return data


def _unused(section: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """The parameters of a section that nothing in it names, though something did."""

    def named(data: Mapping[str, Any], name: str) -> bool:
        rest = {
            **data,
            "parameters": {key: each for key, each in (data.get("parameters") or {}).items() if key != name},
        }
        return re.search(rf"\$\{{?{name}\b", json.dumps(rest, default=str)) is not None

    return [name for name in section.get("parameters") or {} if not named(section, name) and named(before, name)]
