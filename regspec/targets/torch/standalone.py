"""The pieces of the runtime that a file uses, to be put into it, so that it needs torch alone.

The runtime is read as text and never imported. Its modules consist of imports and top-level definitions, so that a
definition and all that it needs can be taken out. Penalties are those of ``runtime/standalone``, which are short. A
statement below a comment ``# for …`` is taken where the program has that.

Two ways were weighed for penalties: a loss printed as plain code over ``self.conv.weight``; or, as here, a short class
with the interface of the runtime's. The second keeps one text of the model in both forms, and repeated blocks short.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from regspec.code.expressions import Call, walk
from regspec.graph.loading import in_order
from regspec.language.penalties import Dimensions
from regspec.targets.python.imports import Imports
from regspec.targets.torch.program import Program, block_of
from regspec.text.problems import Problem, RegspecError

PACKAGE = "regspec.runtime"
OF_PENALTIES = tuple(f"penalties/{name}.py" for name in ("constraints", "passes", "regularizers", "slices"))
PIECES = ("modules", "standalone", *OF_PENALTIES)


@dataclass(frozen=True, slots=True)
class _Definition:
    """A top-level statement of the runtime: its text, and the names that it uses, at all and when it is executed."""

    text: str
    uses: frozenset[str]
    first: frozenset[str]  # which must be defined before it


def definitions(wanted: Iterable[str], imports: Imports, program: Program) -> dict[str, str]:
    """The definitions of these names of the runtime and of all that they use, by name, in an order that runs.

    What they import is added to ``imports``. Raises `RegspecError` where the program needs regspec itself.
    """
    if refused := [*_scheduled(program)]:
        raise RegspecError(in_order(refused))
    known, imported = _runtime(frozenset(_features(program)))
    needed: set[str] = set()
    open_names = list(wanted)
    while open_names:
        name = open_names.pop()
        if name in known and name not in needed:
            needed.add(name)
            open_names.extend(known[name].uses)
    if needed:
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


def _scheduled(program: Program) -> Iterator[Problem]:
    """The faults of a program and its blocks: schedules, which need what counts steps."""
    for coupled in program.graph.coupled:
        if _is_scheduled(coupled.regularizer.lower(Dimensions(0))):
            what = f"{coupled.name} {_SCHEDULED}"
            yield Problem(what, _HINT) if coupled.origin is None else coupled.origin.problem(what, _HINT, key=True)
    for step in program.steps:
        if (block := block_of(step)) is not None:
            yield from _scheduled(block)
        for each in step.lowered.penalized:
            if _is_scheduled(each.constructor):
                what = f"{step.name}.{each.slot} {_SCHEDULED}"
                origin = None if step.node is None else step.node.origin
                yield Problem(what, _HINT) if origin is None else origin.problem(what, _HINT, key=True)


def _is_scheduled(constructor: Call) -> bool:
    return "Scheduled" in {part.function for part in walk(constructor) if isinstance(part, Call)}


_SCHEDULED = "follows a schedule, which a file that stands alone does not"
_HINT = "compile it without --standalone, or give it a strength that stays"


def _features(program: Program) -> Iterator[str]:
    """What a program or a block of it has: penalties, of weights, units or activities, and constraints."""
    yield from ("penalties", "units") if program.graph.coupled else ()
    for step in program.steps:
        if (block := block_of(step)) is not None:
            yield from _features(block)
        for each in step.lowered.penalized:
            yield from ("penalties", "activities" if each.is_activity else "weights")
        yield from ("constraints" for _ in step.lowered.constrained)


@lru_cache(maxsize=8)
def _runtime(features: frozenset[str]) -> tuple[dict[str, _Definition], dict[str, tuple[str | None, str]]]:
    """The definitions by name, in the order of their files, and what these import by the name there."""
    known: dict[str, _Definition] = {}
    imported: dict[str, tuple[str | None, str]] = {}
    runtime = files("regspec") / "runtime"
    found = [file for piece in PIECES for file in ([runtime / piece] if "/" in piece else (runtime / piece).iterdir())]
    for file in sorted(found, key=lambda each: each.name):
        if not file.name.endswith(".py") or file.name == "__init__.py":
            continue
        text = _kept(file.read_text(encoding="utf-8"), features)
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


def _kept(text: str, features: frozenset[str]) -> str:
    """A file without the statements that are for what is not among the features, and without the marks of the rest."""
    lines = text.splitlines()
    marks = {
        number: found[1] for number, line in enumerate(lines, 1) if (found := re.fullmatch(r" *# for (\w+)", line))
    }
    gone = {*marks}
    for node in ast.walk(ast.parse(text)) if marks else ():
        if isinstance(node, ast.stmt) and marks.get(_first(node) - 1) not in {None, *features}:
            assert node.end_lineno is not None
            after = 2 if isinstance(node, ast.FunctionDef) else 1  # and the empty line below a method
            gone.update(range(_first(node), node.end_lineno + after))
    kept = (line for number, line in enumerate(lines, 1) if number not in gone)
    return "\n".join(line.partition("  # type: ignore")[0] for line in kept)


def _first(statement: ast.stmt) -> int:
    """The number of a statement's first line, which is that of its first decorator."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(each.lineno for each in decorators)])


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
    source = "\n".join(text.splitlines()[_first(statement) - 1 : statement.end_lineno])
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
