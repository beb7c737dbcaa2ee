"""What users add to the language: an importable callable, whose parameters become fields of a spec."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_type_hints

from regspec.code.expressions import Import
from regspec.text.problems import Problem, RegspecError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


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
    """The parameters of ``target`` after the first ``skip``, as pydantic fields: name -> (type, default or ...).

    ``*args`` and ``**kwargs`` are left out, because a spec gives arguments by known names.
    """
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    fields = {}
    for parameter in list(inspect.signature(target).parameters.values())[skip:]:
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise RegspecError(
                f"'{target.__qualname__}' can't be registered: '{parameter.name}' can't be given by name"
            )
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (hints.get(parameter.name, Any), default)
    return fields


@contextmanager
def code_of_the_user(what: str) -> Iterator[None]:
    """Raises `RegspecError` for whatever the user's own code raises in it, with the line of that code.

    Args:
        what: what can't be done then.
    """
    try:
        yield
    except RegspecError:
        raise
    except Exception as error:  # code that is not ours may raise anything, and the user must hear what and where
        outside = [
            frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_ON_THE_WAY)
        ]
        own = [frame for frame in outside if frame.filename == outside[0].filename]  # and none of a library below it
        where = f"raised from {own[-1].filename}, line {own[-1].lineno}" if own else None
        # a KeyError's text is the key alone
        said = str(error) if not isinstance(error, LookupError) else f"{type(error).__name__}: {error}"
        said = said or type(error).__name__
        raise RegspecError(Problem(f"{what}: {said}", where)) from None


# Files through which a call of ours reaches the user's code.
_ON_THE_WAY = (str(Path(__file__).parent.parent), str(Path(importlib.__file__).parent), contextlib.__file__, "<frozen ")


def load_entry_points(group: str, name: str | None = None) -> None:
    """Loads the entry points of a group, or the one of a name; each registers what it holds. Raises `RegspecError`."""
    for entry in entry_points(group):
        if name in (None, entry.name):
            with code_of_the_user(f"the entry point '{entry.name}' of {group} can't be loaded"):
                entry.load()


@cache  # it reads the metadata of every installed package
def entry_points(group: str) -> tuple[EntryPoint, ...]:
    """What installed packages offer in a group."""
    from importlib import metadata  # which takes long to import, and few specs name what nobody knows

    return tuple(metadata.entry_points(group=group))


def load_module(name: str) -> ModuleType:
    """A module of the user's, for what it registers or holds. Raises `RegspecError`.

    Those in the current folder are found, after all others: a file there must not stand in for an installed package.
    """
    if "" not in sys.path:
        sys.path.append("")
    with code_of_the_user(f"'{name}' can't be imported"):
        return importlib.import_module(name)


def found(target: str) -> Any:
    """A callable of the user's, ``package.module:function`` or ``package.module:Class``. Raises `RegspecError`."""
    module, _, name = target.partition(":")
    function = getattr(load_module(module), name, None) if name else None
    if not callable(function):
        raise RegspecError(Problem(f"'{target}' names nothing to call", "write package.module:callable"))
    return function


def called(target: str) -> Any:
    """What a callable of the user's gives, ``package.module:function``. Raises `RegspecError`."""
    function = found(target)
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise RegspecError(f"'{target}' is called without arguments, but is {error}") from None
    except ValueError:
        pass  # some callables have no signature
    with code_of_the_user(f"'{target}' fails"):
        return function()
