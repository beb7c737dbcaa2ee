"""Writes what is generated from the code, and kept beside it: ``python -m tests.generate``.

``--check`` writes nothing, and fails where something is not up to date.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from textwrap import fill

import regspec
from regspec.keras.formats.schemas import model_schema, tfjs_schema
from regspec.layers import KINDS
from regspec.targets.python.imports import order_of
from regspec.training.options.schema import training_schema
from regspec.views.markdown import page
from regspec.views.reference import reference
from regspec.views.schema import rules_schema, spec_schema

ROOT = Path(regspec.__file__).parent.parent
RUNTIME = ROOT / "regspec" / "runtime"
INDEX = '''"""The kinds of each family of layers: generated, so that a family is imported when one is named."""

FAMILIES = {'''
# What only the runtime's own files, and those that attach and bind, use.
INSIDE = (
    *("attaching", "by_numba", "closed", "compiling", "fused", "listeners", "missed", "notebook", "one_pass", "passes"),
    *(
        "places",
        "readings",
        "roots",
        "sharded",
        "shards",
        "shrinking",
        "state",
        "terms",
        "thresholds",
        "totals",
        "tracing",
        "units",
        "weights",
    ),
)


def schema_of_specs() -> str:
    return json.dumps(spec_schema(), indent=1) + "\n"


def schema_of_rules() -> str:
    return json.dumps(rules_schema(), indent=1) + "\n"


def schema_of_trainings() -> str:
    return json.dumps(training_schema(), indent=1) + "\n"


def schema_of_keras(generation: int) -> str:
    return json.dumps(model_schema(generation), indent=1) + "\n"


def schema_of_tensorflow_js() -> str:
    return json.dumps(tfjs_schema(), indent=1) + "\n"


def reference_of_kinds() -> str:
    return page(reference())


def families_of_kinds() -> str:
    """The families of layers with their kinds, in the order in which their files have them."""
    families: dict[str, list[str]] = {}
    for module in walk_packages(regspec.layers.__path__, "regspec.layers."):
        import_module(module.name)
        families[module.name] = []
    for name in KINDS:
        if (cls := KINDS.get(name)) is not None:  # None is one that is gone
            families[cls.__module__].append(name)
    lines = []
    for family, names in families.items():
        if names:
            listed = fill(" ".join(names), 110, initial_indent=" " * 8, subsequent_indent=" " * 8)
            lines += [f'    "{family.removeprefix("regspec.layers.")}": """', listed, '    """,']
    return "\n".join([INDEX, *lines, "}", ""])


def runtime_names() -> str:
    """What the runtime offers to compiled source: each class and function that its files define, and where."""
    homes = {}
    for path in RUNTIME.rglob("*.py"):
        if path.stem in INSIDE or path.parent.name == "standalone":
            continue
        home = ".".join(path.relative_to(RUNTIME).with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                homes[node.name] = home
    places = sorted(homes.items(), key=lambda item: (item[1], order_of(item[0])))
    return "".join(f"from .{home} import {name} as {name}\n" for name, home in places)


GENERATED: dict[str, Callable[[], str]] = {
    "regspec/layers/index.py": families_of_kinds,  # first, because it imports all that the others list
    "schemas/model.schema.json": schema_of_specs,
    "schemas/rules.schema.json": schema_of_rules,
    "schemas/training.schema.json": schema_of_trainings,
    "schemas/keras/keras_2.schema.json": lambda: schema_of_keras(2),
    "schemas/keras/keras_3.schema.json": lambda: schema_of_keras(3),
    "schemas/keras/tensorflow_js.schema.json": schema_of_tensorflow_js,
    "schemas/kinds.md": reference_of_kinds,
    "regspec/runtime/__init__.pyi": runtime_names,
    **{
        str(path.with_suffix(".py").relative_to(ROOT)): lambda path=path: regspec.source(path)
        for path in sorted((ROOT / "examples").glob("*.yaml"))
    },
}


def _is_made(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def main(arguments: list[str]) -> None:
    made = {path: make() for path, make in GENERATED.items()}
    stale = [path for path, text in made.items() if not _is_made(ROOT / path, text)]
    if arguments == ["--check"]:
        sys.exit(f"not up to date: {', '.join(stale)}" if stale else 0)
    for path in stale:
        (ROOT / path).write_text(made[path], encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
