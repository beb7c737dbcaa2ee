"""Writes what is generated from the code, and kept beside it: ``python -m tests.generate``.

``--check`` writes nothing, and fails where something is not up to date.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from pathlib import Path

import regspec
from regspec.keras.formats.schemas import model_schema, tfjs_schema
from regspec.targets.python.imports import order_of
from regspec.training.options.schema import training_schema
from regspec.views.markdown import page
from regspec.views.reference import reference
from regspec.views.schema import rules_schema, spec_schema

ROOT = Path(regspec.__file__).parent.parent
RUNTIME = ROOT / "regspec" / "runtime"
# What only the runtime's own files, and those that attach and bind, use.
INSIDE = (
    *("attaching", "compiling", "fused", "missed", "notebook", "passes", "readings", "sharded", "state", "terms"),
    *("totals", "weights"),
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
