"""Statements that convert a model, or parts of it, to the types in which they compute."""

from __future__ import annotations

from collections.abc import Iterator

from regspec.code.expressions import CASTS, Call, Definition
from regspec.targets.python.layout import Statement, loop_over
from regspec.targets.torch.program import Program
from regspec.targets.torch.repeats import module_text


def casts(program: Program) -> Iterator[Statement]:
    """Statements that convert the model, or parts of it, to the types in which they compute."""
    by_type: dict[str, list[str]] = {}
    for path, dtype in _typed(program, ""):
        by_type.setdefault(dtype, []).append(module_text(path) if path else "self")
    for dtype, paths in by_type.items():
        if dtype == "float32":  # the type in which modules are made
            continue
        if len(paths) > 1:
            yield loop_over(paths)
            yield Statement(f"layer.{CASTS[dtype]}()", indent=1)
        else:
            yield Statement(f"{paths[0]}.{CASTS[dtype]}()")


def _typed(program: Program, path: str) -> list[tuple[str, str]]:
    """The paths of modules that hold numbers, with their types; the program's path alone where all types are equal."""
    found = []
    for step in program.steps:
        for name, constructor in step.modules.items():
            if isinstance(constructor, Program):
                found += _typed(constructor, f"{path}.{name}".strip("."))
            elif step.lowered.weights or not _is_torch(constructor):  # a module of torch without weights holds none
                resolved = step.lowered.resolved
                dtype = None if resolved is None else resolved.layer.precision
                found.append((f"{path}.{name}".strip("."), dtype or program.graph.dtype))
    return [(path, found[0][1])] if len({dtype for _, dtype in found}) == 1 else found


def _is_torch(constructor: Call | Definition) -> bool:
    return (
        isinstance(constructor, Call)
        and isinstance(constructor.function, str)
        and constructor.function.startswith("nn.")
    )
