"""The reference: every kind with its fields, and every name of an activation function, an initializer and the like.

All of it comes from the declarations that check a spec, so a new kind or name appears in it by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel

from regspec.language.activations import ACTIVATIONS
from regspec.language.constraints import CONSTRAINTS
from regspec.language.forms import Family, Named
from regspec.language.initializers import INITIALIZERS
from regspec.language.registration import load_entry_points
from regspec.language.regularizers import REGULARIZERS
from regspec.language.schedules import SCHEDULES
from regspec.layers import KINDS, Layer
from regspec.layers.cells import CELLS
from regspec.layers.kinds import BUILT_IN, OPERATIONS
from regspec.layers.layer import Placement
from regspec.specs.synonyms import kind_elsewhere, kind_hint
from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.views.schema.models import model_schema
from regspec.views.wording import type_text, value_text

SORTS: dict[str, Family[Any]] = {
    "activations": ACTIVATIONS,
    "initializers": INITIALIZERS,
    "constraints": CONSTRAINTS,
    "regularizers": REGULARIZERS,
    "schedules": SCHEDULES,
}
_GROUPS = ("layers", "operations", "registered")
_OF_SLOTS = ("initializer", "regularizer", "constraint")
_SLOTS = (
    "kernel",
    "depthwise",
    "pointwise",
    "recurrent",
    "embeddings",
    "gamma",
    "beta",
    "alpha",
    "threshold",
    "bias",
)  # in order


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a kind, or an argument of a name."""

    name: str
    type: str  # in words
    default: str | None  # as a spec writes it; None where the field is required
    description: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of layer, or a cell of an RNN."""

    name: str
    declared: type[BaseModel]

    @property
    def family(self) -> str:
        """What it is listed under: the module of its family, or the user's module that registers it."""
        module = self.declared.__module__
        return module if self.group == "registered" else module.rpartition(".")[2]

    @property
    def group(self) -> str:
        """What its family belongs to: layers; operations, which Keras records as layers; or what is registered."""
        if not self.is_cell and self.name not in BUILT_IN:
            return "registered"
        return "operations" if self.name in OPERATIONS else "layers"

    @property
    def is_cell(self) -> bool:
        """Whether it stands in an RNN, and not among layers."""
        return self.name in CELLS

    @property
    def summary(self) -> str:
        """What it computes, in a line."""
        return _summary(self.declared)

    @property
    def fields(self) -> tuple[Field, ...]:
        """Its own fields: required ones first, those of slots last. What every kind has is in `shared_fields`."""
        owners = _owners(self.declared)

        def place(name: str) -> tuple[bool, int, int]:
            slot, ending = name.rpartition("_")[::2]
            number = (_SLOTS.index(slot) if slot in _SLOTS else 0) + 1 if ending in _OF_SLOTS else 0
            return not self.declared.model_fields[name].is_required(), number, owners[name][0]

        return _fields(self.declared, sorted((name for name in owners if owners[name][1] is not Layer), key=place))

    @property
    def slots(self) -> tuple[str, ...]:
        """The weights that may be regularized: kernel, bias, and so on."""
        ending = "_regularizer"
        slots = [field.name.removesuffix(ending) for field in self.fields if field.name.endswith(ending)]
        return tuple(slot for slot in slots if slot != "activity")

    @property
    def starts(self) -> dict[str, str]:
        """How the weight of each slot starts; empty text where the kind does not say."""
        named = {field.name: field.default for field in self.fields}
        return {slot: named.get(f"{slot}_initializer") or "" for slot in self.slots}

    @property
    def of_slots(self) -> tuple[str, ...]:
        """What its slots have fields for: ``kernel_initializer``, ``kernel_regularizer``, ``kernel_constraint``."""
        names = {field.name for field in self.fields}
        return tuple(ending for ending in _OF_SLOTS if any(f"{slot}_{ending}" in names for slot in self.slots))

    @property
    def plain_fields(self) -> tuple[Field, ...]:
        """Its fields without those of slots."""
        of_slots = {f"{slot}_{ending}" for slot in self.slots for ending in _OF_SLOTS}
        return tuple(field for field in self.fields if field.name not in of_slots)

    @property
    def example(self) -> str:
        """An example, as a spec writes it: ``- Dense: {units: 64}``."""
        written: str = getattr(self.declared, "example", "")
        if not written:
            required = [name for name, field in self.declared.model_fields.items() if field.is_required()]
            written = f"{{{', '.join(f'{name}: …' for name in required)}}}" if required else ""
        own = f"{self.name}: {written}" if written else self.name
        return f"- RNN: {{cell: {{{own}}}}}" if self.is_cell else f"- {own}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for ``--format json``."""
        return {
            "name": self.name,
            "family": self.family,
            "summary": self.summary,
            "fields": [asdict(field) for field in self.fields],
            "slots": [*self.slots],
            "example": self.example,
        }


@dataclass(frozen=True, slots=True)
class Name:
    """A name that a field takes: that of an activation function, an initializer or another of `SORTS`."""

    name: str
    sort: str  # a key of SORTS
    declared: type[Named]

    @property
    def summary(self) -> str:
        """What it computes, in a line."""
        return _summary(self.declared)

    @property
    def aliases(self) -> tuple[str, ...]:
        """Its other names."""
        return self.declared.aliases

    @property
    def main(self) -> str | None:
        """The argument that may stand for all of them: ``{leaky_relu: 0.1}``."""
        return self.declared.main

    @property
    def arguments(self) -> tuple[Field, ...]:
        """Its arguments, the main one first."""
        owners = _owners(self.declared)
        return _fields(self.declared, sorted(owners, key=lambda name: (name != self.main, owners[name][0])))

    @property
    def forms(self) -> tuple[str, ...]:
        """How a spec writes it: alone, where no argument is required, and with arguments."""
        fields = self.declared.model_fields
        is_plain = not any(field.is_required() for field in fields.values())
        written = self.declared.example
        if not written and self.main is not None:
            written = value_text(fields[self.main].default)
        return (*([self.name] if is_plain else []), *([f"{{{self.name}: {written}}}"] if written else []))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for ``--format json``."""
        return {
            "name": self.name,
            "sort": self.sort,
            "summary": self.summary,
            "aliases": [*self.aliases],
            "arguments": [asdict(field) for field in self.arguments],
            "forms": [*self.forms],
        }


@dataclass(frozen=True, slots=True)
class Reference:
    """Kinds and names: all that there are, or those that are asked for."""

    kinds: tuple[Kind, ...] = ()
    names: tuple[Name, ...] = ()

    @property
    def families(self) -> dict[str, list[Kind]]:
        """The kinds by family: layers in the order of the alphabet, then cells, operations, and the user's own."""
        found: dict[str, list[Kind]] = {}
        for kind in sorted(self.kinds, key=lambda kind: (_GROUPS.index(kind.group), kind.is_cell, kind.family)):
            found.setdefault(f"{kind.group}: {kind.family}", []).append(kind)
        return found

    @property
    def sorts(self) -> dict[str, list[Name]]:
        """The names by their sort."""
        found: dict[str, list[Name]] = {}
        for name in self.names:
            found.setdefault(name.sort, []).append(name)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for ``--format json``."""
        return {
            "kinds": [kind.as_dict() for kinds in self.families.values() for kind in kinds],
            "names": [name.as_dict() for name in self.names],
        }


def reference() -> Reference:
    """All kinds and names, those among them that are registered and that installed packages offer.

    Example:
        >>> import regspec.views.reference as views
        >>> dense = next(kind for kind in views.reference().kinds if kind.name == "Dense")
        >>> dense.slots
        ('kernel', 'bias')
        >>> dense.fields[0]
        Field(name='units', type='size', default=None, description="The size of the output's last axis.")
    """
    for group in ("regspec.layers", "regspec.regularizers"):
        load_entry_points(group)
    known: dict[str, type[BaseModel]] = {**KINDS, **CELLS}
    kinds = tuple(Kind(name, declared) for name, declared in known.items())
    return Reference(kinds, tuple(name for sort in SORTS for name in _names(sort)))


def found(name: str) -> Reference:
    """What is called by a name: a kind, a family or group of kinds, a sort of names, or a name.

    Raises:
        RegspecError: where nothing is called so.

    Example:
        >>> [(each.name, each.sort) for each in found("linear").names]
        [('linear', 'activations'), ('linear', 'schedules')]
    """
    whole = reference()
    part = Reference(
        tuple(kind for kind in whole.kinds if name in (kind.name, kind.family, kind.group)),
        tuple(each for each in whole.names if name in (each.name, each.sort, *each.aliases)),
    )
    if part == Reference():
        raise RegspecError(Problem(f"no kind and no name is called '{name}'", _hint(name, whole)))
    return part


def _hint(name: str, whole: Reference) -> str | None:
    """What may be meant by a word that names nothing: a name in other letters, what it means elsewhere."""
    names = [
        *(kind.name for kind in whole.kinds),
        *(text for each in whole.names for text in (each.name, *each.aliases)),
    ]
    same = [each for each in names if each.lower().replace("_", "") == name.lower().replace("_", "")]
    if same and kind_elsewhere(name) is None:
        return f"did you mean '{same[0]}'?"
    if meant := next(filter(None, (family.elsewhere(name) for family in SORTS.values())), None):
        return meant
    known = [
        *(text for kind in whole.kinds for text in (kind.family, kind.group)),
        *(text for each in whole.names for text in (each.name, each.sort, *each.aliases)),
        *(kind.name for kind in whole.kinds),  # last, so that 'Dens' is rather the kind than a family of its name
    ]
    return kind_hint(name, known) if name.isidentifier() else did_you_mean(name, known)


def shared_fields() -> tuple[Field, ...]:
    """The fields that every kind of layer has besides its own."""
    return (*_fields(Placement, [*Placement.model_fields]), *_fields(Layer, [*Layer.model_fields]))


def _names(sort: str) -> Iterator[Name]:
    family = SORTS[sort]
    for name in sorted(family.members) if family is ACTIVATIONS else family.members:
        yield Name(name, sort, family.members[name])


def _owners(declared: type[BaseModel]) -> dict[str, tuple[int, type]]:
    """The class that declares each field, and how far up it stands."""
    classes = [*enumerate(declared.__mro__)]
    return {
        name: next((place, each) for place, each in classes if name in inspect.get_annotations(each))
        for name in declared.model_fields
    }


def _summary(declared: type[BaseModel]) -> str:
    return inspect.cleandoc(declared.__doc__ or "").partition("\n")[0].rstrip(".")


def _fields(declared: type[BaseModel], names: Sequence[str]) -> tuple[Field, ...]:
    """The fields of these names, in this order."""
    schemas = model_schema(declared)["properties"]
    made = []
    for name in names:
        field = declared.model_fields[name]
        schema = schemas[field.alias or name]
        if field.default is None and "anyOf" in schema:  # which says that it may be null
            schema = {**schema, "anyOf": [each for each in schema["anyOf"] if each != {"type": "null"}]}
        type_ = type_text(schema)
        default = None if field.is_required() else value_text(_single(field.default, type_))
        made.append(Field(field.alias or name, type_, default, schema.get("description", "")))
    return tuple(made)


def _single(default: Any, type_: str) -> Any:
    """A default; of a tuple that stands for one number, as for all axes, the number."""
    return default[0] if isinstance(default, tuple) and len(default) == 1 and not type_.startswith("[") else default
