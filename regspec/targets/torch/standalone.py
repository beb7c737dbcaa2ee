"""The pieces of the runtime that a file uses, to be put into it, so that it needs torch alone.

The runtime is read as text and never imported. Its modules consist of imports and top-level definitions, so that a
definition and all that it needs can be taken out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from regspec.targets.python.imports import Imports

PACKAGE = "regspec.runtime"


@dataclass(frozen=True, slots=True)
class _Definition:
    """A top-level statement of the runtime: its text, and the names that it uses, at all and when it is executed."""

    text: str
    uses: frozenset[str]
    first: frozenset[str]  # which must be defined before it


def definitions(wanted: Iterable[str], imports: Imports) -> dict[str, str]:
    """The definitions of these names of the runtime and of all that they use, by name, in an order that runs.

    What they import is added to ``imports``.
    """
    known, imported = _runtime()
    needed: set[str] = set()
    open_names = list(wanted)
    while open_names:
        name = open_names.pop()
        if name in known and name not in needed:
            needed.add(name)
            open_names.extend(known[name].uses)
    imports.name("__future__", "annotations")
    for name in {used for each in needed for used in known[each].uses} & imported.keys():
        module, original = imported[name]
        if module is None:
            imports.module(original)
        else:
            imports.name(module, original, name)
    return {name: known[name].text for name in _in_order(known) if name in needed}


def _in_order(known: Mapping[str, _Definition]) -> list[str]:
    """The names, each after what must be defined before it, and otherwise as they stand."""
    placed: dict[str, None] = {}

    def place(name: str) -> None:
        if name in known and name not in placed:
            for each in sorted(known[name].first - {name}):
                place(each)
            placed[name] = None

    for name in known:
        place(name)
    return [*placed]


@lru_cache(maxsize=1)
def _runtime() -> tuple[dict[str, _Definition], dict[str, tuple[str | None, str]]]:
    """The runtime's definitions by name, in the order of its files, and what its files import by the name there."""
    known: dict[str, _Definition] = {}
    imported: dict[str, tuple[str | None, str]] = {}
    rooms = [room for room in (files("regspec") / "runtime").iterdir() if room.is_dir()]
    for file in sorted((file for room in rooms for file in room.iterdir()), key=lambda each: each.name):
        if not file.name.endswith(".py") or file.name in ("__init__.py", "attaching.py"):
            continue  # what is attached to a module is no part of a compiled one
        text = file.read_text(encoding="utf-8")
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Import):
                imported.update({alias.name: (None, alias.name) for alias in statement.names})
            elif isinstance(statement, ast.ImportFrom):
                if (statement.module or "").startswith(PACKAGE):
                    continue  # a piece too, and no import
                imported.update(
                    {alias.asname or alias.name: (statement.module, alias.name) for alias in statement.names}
                )
            else:
                defined = _defined(statement, text)
                if twice := defined.keys() & known.keys():
                    raise ValueError(f"two files of the runtime define {', '.join(sorted(twice))}")
                known.update(defined)
    return known, imported


def _defined(statement: ast.stmt, text: str) -> dict[str, _Definition]:
    """What a top-level statement defines."""
    if isinstance(statement, (ast.ClassDef, ast.FunctionDef)):
        names = [statement.name]
    elif isinstance(statement, ast.Assign):
        names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        names = [statement.target.id]
    else:
        return {}
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
    source = "\n".join(text.splitlines()[first - 1 : statement.end_lineno])
    return dict.fromkeys(names, _Definition(source, frozenset(_names(statement)), frozenset(_executed(statement))))


def _executed(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement uses when it is executed: no annotations, and nothing of a function but its head."""
    if isinstance(statement, ast.ClassDef):
        for each in (*statement.bases, *statement.keywords, *statement.decorator_list):
            yield from _names(each)
        for inner in statement.body:
            yield from _executed(inner)
    elif isinstance(statement, ast.FunctionDef):
        defaults = (*statement.args.defaults, *statement.args.kw_defaults)
        for default in (*statement.decorator_list, *(each for each in defaults if each is not None)):
            yield from _names(default)
    elif isinstance(statement, ast.AnnAssign):
        yield from () if statement.value is None else _names(statement.value)
    else:
        yield from _names(statement)


def _names(node: ast.AST) -> Iterator[str]:
    return (each.id for each in ast.walk(node) if isinstance(each, ast.Name))
