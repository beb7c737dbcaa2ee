"""What a user adds to the language: from an importable callable to fields that a spec may give."""

from __future__ import annotations

import importlib.metadata
import inspect
import sys
from collections.abc import Callable
from typing import Any, get_type_hints

from regspec.calls import Import
from regspec.errors import RegspecError


def importable(target: Callable[..., Any]) -> Import:
    """The import by which compiled source reaches ``target``. Raises `RegspecError` if there is none."""
    module, name = target.__module__, target.__qualname__
    if getattr(sys.modules.get(module), name, target) is not target or not all(
        part.isidentifier() for part in (*module.split("."), name)
    ):
        raise RegspecError(
            f"'{name}' can't be registered: compiled source imports it, so it must be defined at the top of a module"
        )
    return Import(module, name)


def fields_of(target: Callable[..., Any], *, skip: int) -> dict[str, tuple[Any, Any]]:
    """The parameters of ``target`` after the first ``skip``, as pydantic fields: name -> (type, default or ...)."""
    parameters = list(inspect.signature(target).parameters.values())[skip:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    fields = {}
    for parameter in parameters:
        if parameter.kind not in named:
            raise RegspecError(f"'{target.__qualname__}' can't be registered: a spec can't give '{parameter}'")
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (hints.get(parameter.name, Any), default)
    return fields


def load_entry_point(group: str, name: str) -> bool:
    """Loads the entry point of this group and name, which registers what it holds; False where there is none."""
    for entry in importlib.metadata.entry_points(group=group, name=name):
        entry.load()
        return True
    return False
