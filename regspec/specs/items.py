"""The entries of a list of layers as they are written: their kinds, their fields and their names."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from regspec.language.fields import RESERVED, layer_name
from regspec.layers import find_kind
from regspec.specs import synonyms
from regspec.specs.parameters import substitute
from regspec.text import faults
from regspec.text.faults import Origin
from regspec.text.problems import Problems, RegspecError

MAX_ENTRIES = 100_000  # layers of a spec, with its blocks unfolded


@dataclass(slots=True)
class Item:
    """An entry as it is written: its kind, its fields with parameters put in, and its name, given or made."""

    kind: str
    fields: dict[str, Any]
    name: str
    origin: Origin
    is_faulty: bool = False  # has a fault that is reported already

    @property
    def copies(self) -> int:
        """How often a block is repeated, if it is."""
        repeat = self.fields.get("repeat")
        return repeat if isinstance(repeat, int) and repeat > 0 else 0

    def names(self) -> list[str]:
        """The names that it takes: of a repeated block, its own and each copy's."""
        return [self.name, *(f"{self.name}_{index + 1}" for index in range(self.copies))]

    @property
    def stem(self) -> str:
        """What its name is made from."""
        called = self.fields.get("layer") if self.kind == "call" else self.kind
        return layer_name(called if isinstance(called, str) else self.kind) or "layer"


def items_of(layers: list[Any], parameters: Mapping[str, Any], origin: Origin, problems: Problems) -> list[Item]:
    """The entries of a list of layers; one that can't be read is reported, and left out."""
    items = []
    for index, written in enumerate(layers):
        if isinstance(written, str):
            written = {written: None}
        if not isinstance(written, dict) or len(written) != 1:
            received, hint = f"is {faults.shown(written)}", None
            if isinstance(written, dict):
                received = f"has {len(written)} keys"
                hint = "write '- Dense: {units: 10}', with the fields inside the kind"
            what = f"a layer is one kind with a mapping of its fields, but this {received}"
            problems.append((origin / index).problem(what, hint))
            continue
        ((kind, fields),) = written.items()
        here = origin / index / kind
        fields = substitute({} if fields is None else fields, parameters, here, problems)
        is_faulty = False
        if not isinstance(fields, dict):
            what = f"{kind} takes a mapping of its fields, but is {faults.shown(fields)}"
            problems.append(
                here.problem(what, _in_first_field(kind, fields) if kind.isidentifier() else synonyms.COLON)
            )
            fields, is_faulty = {}, True
        name = fields.get("name")
        items.append(Item(kind, fields, name if isinstance(name, str) else "", here, is_faulty))
    return items


def _in_first_field(kind: str, value: Any) -> str | None:
    """How to write a kind that was given a value in place of its fields, as a hint."""
    cls = find_kind(kind)
    required = [] if cls is None else [name for name, each in cls.model_fields.items() if each.is_required()]
    return f"write '- {kind}: {{{required[0]}: {value}}}'" if required and not isinstance(value, list) else None


def name_items(items: list[Item], taken: set[str], problems: Problems) -> None:
    """Names the items that have no name, as Keras does: ``dense``, ``dense_1``."""
    copies = 0
    for item in items:
        copies += item.copies
        if copies > MAX_ENTRIES:
            refuse_size(item, problems)
        for name in item.names() if item.name else ():
            if name in taken:
                problems.append((item.origin / "name").problem(f"'{name}' is the name of another layer or input"))
            taken.add(name)

    def is_taken(name: str) -> bool:
        return name in taken or name in RESERVED or keyword.iskeyword(name)

    counts: dict[str, int] = {}
    for item in items:
        if item.name:
            continue
        stem = item.stem
        while not item.name or any(map(is_taken, item.names())):
            count = counts.get(stem, 0)
            item.name = f"{stem}_{count}" if count else stem
            counts[stem] = count + 1
        taken.update(item.names())


def refuse_size(item: Item, problems: Problems) -> NoReturn:
    """Reports that the spec has too many layers, and reads no further."""
    problems.append(item.origin.problem(f"the blocks unfold to more than {MAX_ENTRIES:,} layers"))
    raise RegspecError(problems)
