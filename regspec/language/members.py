"""Members that users add to a family: an initializer, a regularizer or the like that is a callable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import create_model

from regspec.code.expressions import Call, Import, call
from regspec.language.forms import Family, Named
from regspec.language.registration import fields_of
from regspec.text.problems import RegspecError


def own_fields(function: Callable[..., Any]) -> dict[str, Any]:
    """The fields of a callable that gets a tensor: its parameters after the first; of a class, its constructor's."""
    return fields_of(function, skip=0 if inspect.isclass(function) else 1)


def made_of(target: Import, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Call:
    """What is called with a tensor: an instance of a class, or a function with its arguments."""
    if inspect.isclass(function):
        return call(target, **arguments)
    return call(Import("functools", "partial"), target, **arguments)


def given_to(member: Named) -> dict[str, Any]:
    """The arguments of a member that its spec says."""
    return {field: getattr(member, field) for field in type(member).model_fields if field in member.model_fields_set}


def add_member(
    family: Family[Any],
    base: type[Named],
    target: Import,
    function: Callable[..., Any],
    name: str | None,
    fields: Mapping[str, Any],
) -> None:
    """Adds the member of a family that a function is. Raises `RegspecError` where its name, or a field's, is taken."""
    name = name or target.name
    known = family.spellings.get(name)
    if known is not None and not known.is_registered:
        raise RegspecError(f"'{name}' can't be registered: it has a meaning of its own in regspec")
    if reserved := [field for field in fields if hasattr(base, field)]:
        what = f"'{reserved[0]}' has a meaning of its own in every {family.sort}"
        raise RegspecError(f"'{name}' can't be registered: {what}")
    own: Any = dict(fields)
    made = create_model(
        target.name, __base__=base, __doc__=inspect.getdoc(function), __module__=function.__module__, **own
    )
    made.name, made.of_user, made.is_registered = name, target, True
    family.add(made)
