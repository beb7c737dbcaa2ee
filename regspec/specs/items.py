"""The entries of a list of layers as they are written: their kinds, their fields and their names."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from pydantic_core import PydanticCustomError

from regspec.language.fields import RESERVED, layer_name
from regspec.language.forms import spread
from regspec.language.serialized import Serialized, is_serialized, unserialized
from regspec.layers import find_kind
from regspec.layers.kinds import takes_names
from regspec.layers.layer import Layer, Placement
from regspec.specs import synonyms
from regspec.specs.parameters import substitute
from regspec.specs.translating import accepted, are_names, field_of, translated_fields, translated_kind
from regspec.text import faults
from regspec.text.faults import UNKNOWN, Origin
from regspec.text.problems import Problem, Problems, RegspecError

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
    def callable_names(self) -> list[str]:
        """The names that it was given, by which a further call may name it: of a repeated block those of its copies."""
        return [] if "name" not in self.fields else self.names()[1:] or [self.name]

    @property
    def stem(self) -> str:
        """What its name is made from."""
        called = self.fields.get("layer") if self.kind == "call" else self.kind
        return layer_name(called if isinstance(called, str) else self.kind) or "layer"


def items_of(
    layers: list[Any],
    parameters: Mapping[str, Any],
    origin: Origin,
    problems: Problems,
    main_of: Callable[[str], str | None],
    notes: list[Problem],
    blocks: Container[str] = (),
) -> list[Item]:
    """The entries of a list of layers; one that can't be read is reported, and left out.

    ``main_of`` gives the field of a kind or a block that a value stands for: ``Dropout: 0.5``. ``notes`` get what is
    read otherwise than it is written. An entry may have a kind that nobody knows, with
    whatever fields. Entries without names that say the same share their fields.
    """
    items = []
    known: dict[str, Item] = {}  # of which nothing was to be reported or noted
    for index, written in enumerate(layers):
        if (entry := _entry(written, origin / index, problems)) is None:
            continue
        written_kind, here, fields = entry
        if (same := known.get(said := repr(written))) is not None:
            items.append(Item(same.kind, same.fields, "", here))
            continue
        before = len(problems) + len(notes)
        kind = translated_kind(written_kind, here, notes)
        cls = find_kind(kind)
        if isinstance(fields, Serialized):
            fields = _fields_of(fields, cls)
        fields = accepted(written_kind, substitute(fields, parameters, here, problems), here, problems)
        if cls is not None and are_names(fields) and takes_names(cls):
            fields = {"inputs": fields}
        if fields is not UNKNOWN:
            fields = translated_fields(cls, spread(fields, main_of(kind)), here, notes, problems)
        is_faulty = False
        if fields is UNKNOWN:
            fields, is_faulty = {}, True
        elif cls is None and kind != "call" and kind not in blocks:
            fields = fields if isinstance(fields, dict) else {"inputs": fields} if are_names(fields) else {}
        elif not isinstance(fields, dict):
            what = f"{kind} takes a mapping of its fields, but is {faults.shown(fields)}"
            problems.append(here.problem(what, None if cls is None else synonyms.operand_hint(cls, fields)))
            fields, is_faulty = {}, True
        elif cls is not None and (hint := synonyms.operand_hint(cls, names := fields.get("inputs"))):
            place = here / "inputs"
            if isinstance(names, list):
                place = place / next(index for index, each in enumerate(names) if not isinstance(each, str))
            problems.append(place.problem(f"an input of {kind} must be a name", hint))
            is_faulty = True
        name = fields.get("name")
        items.append(Item(kind, fields, name if isinstance(name, str) else "", here, is_faulty))
        if len(problems) + len(notes) == before and "name" not in fields:
            known[said] = items[-1]
    return items


def _entry(written: Any, origin: Origin, problems: Problems) -> tuple[str, Origin, Any] | None:
    """The kind that an entry names, the place of its fields, and these; None where it can't be read, which is reported.

    What Keras has serialized stands for its fields.
    """
    if isinstance(written, str):
        return written, origin / written, None
    if is_serialized(written):
        try:
            form = unserialized(written)
        except PydanticCustomError as error:
            context = error.context or {}
            what = f"a layer as Keras serializes it {error.message()}"
            problems.append((origin / context["at"][0]).problem(what, context.get("hint"), key=True))
            return None
        return form.name, replace(origin / "config", name=(origin / "class_name").location), form
    if isinstance(written, dict) and len(written) == 1:
        ((kind, fields),) = written.items()
        return kind, origin / kind, fields
    received, hint = f"is {faults.shown(written)}", None
    if isinstance(written, dict):
        received = f"has {len(written)} keys"
        hint = "write '- Dense: {units: 10}', with the fields inside the kind"
    problems.append(origin.problem(f"a layer is one kind with a mapping of its fields, but this {received}", hint))
    return None


def _fields_of(form: Serialized, cls: type[Layer] | None) -> dict[str, Any]:
    """The fields of a layer that Keras has serialized."""
    known = () if cls is None else (*cls.model_fields, *Placement.model_fields)
    others = () if cls is None else (name for name in form.config if field_of(cls, name, form.config) != name)
    beside = {} if form.layer_name is None else {"name": form.layer_name}
    return beside | form.fields((*known, *others))


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
        names: list[str] = []
        while not names or any(map(is_taken, names)):
            count = counts.get(stem, 0)
            item.name = f"{stem}_{count}" if count else stem
            counts[stem] = count + 1
            names = item.names()
        taken.update(names)


def refuse_size(item: Item, problems: Problems) -> NoReturn:
    """Reports that the spec has too many layers, and reads no further."""
    problems.append(item.origin.problem(f"the blocks unfold to more than {MAX_ENTRIES:,} layers"))
    raise RegspecError(problems)
