"""The table of kinds: the layers and operations that specs may name. A kind is made when it is asked for.

The other way that was weighed, reading the sources of the families for what they declare, needs no table that is
generated, but sources beside the code.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from importlib import import_module
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from regspec.language.registration import load_entry_points
from regspec.language.tables import Table
from regspec.layers.index import FAMILIES
from regspec.layers.layer import FIRST, Layer

# the kinds of this package, under whose names users can't register classes, and the modules that have them
BUILT_IN = {name: family for family, names in FAMILIES.items() for name in names.split()}
# the built-in kinds that are operations in Keras, and no layers
OPERATIONS = frozenset(name for name, family in BUILT_IN.items() if family.startswith("operations."))


def _made(name: str) -> type[Layer]:
    """A kind of this package, whose family is imported."""
    found: type[Layer] = getattr(import_module(f"regspec.layers.{BUILT_IN[name]}"), name)
    return found


KINDS = Table({name: partial(_made, name) for name in BUILT_IN})  # by their names; users' come later

L = TypeVar("L", bound=type[Layer])


def add_kind(name: str, cls: type[Layer]) -> None:
    """Puts a class into the table of kinds, and says which field of it a value stands for."""
    if cls.main == FIRST:
        fields = {field: each.alias or field for field, each in cls.model_fields.items()}
        required = [field for field in fields if cls.model_fields[field].is_required()]
        declared = [field for each in cls.__mro__ if each not in Layer.__mro__ for field in _declared(each)]
        cls.main = fields[first] if (first := next(iter([*required, *declared]), "")) else None
    KINDS[name] = cls


def _declared(cls: type) -> list[str]:
    """The fields that a class declares itself, and none of those that it derives from."""
    before = {field for base in cls.__bases__ for field in getattr(base, "model_fields", ())}
    return [field for field in getattr(cls, "model_fields", ()) if field not in before]


@cache
def takes_names(cls: type[Layer]) -> bool:
    """Whether names alone behind a kind are its inputs: it takes several, needs no field, and its first is no list."""
    if cls.arity[1] == 1 or any(field.is_required() for field in cls.model_fields.values()):
        return False
    first = [field for name, field in cls.model_fields.items() if cls.main == (field.alias or name)]
    return all(set(_types(field.annotation)) <= {bool, int, float, NoneType} for field in first)


def _types(annotation: Any) -> Iterator[Any]:
    """The types of which a value may be."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType, Annotated):
        for each in arguments[:1] if origin is Annotated else arguments:
            yield from _types(each)
    else:
        yield origin or annotation


def kind(cls: L) -> L:
    """Adds a kind to the language, under its class's name; a decorator."""
    add_kind(cls.__name__, cls)
    return cls


def operation(cls: L) -> L:
    """Adds a kind that is an operation in Keras, and no layer; a decorator."""
    cls.is_in_keras = False
    cls.keras_operation = cls.keras_operation or "numpy"
    return kind(cls)


def find_kind(name: str) -> type[Layer] | None:
    """The kind of a name: of this package, registered, or offered by an entry point of the group ``regspec.layers``."""
    if name not in KINDS and name[:1].isupper():
        load_entry_points("regspec.layers", name)
    return KINDS.get(name)
