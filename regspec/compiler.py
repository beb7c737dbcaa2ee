"""The way from a spec's text to Python source, without torch: document, spec, graph, source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regspec import document
from regspec.blocks import Graph
from regspec.document import Document
from regspec.errors import Problem, RegspecError
from regspec.graph import resolve
from regspec.shapes import Precision
from regspec.spec import loading
from regspec.spec.model import ModelSpec
from regspec.summary import counted, summarize
from regspec.writing import print_source


def load(path: str | Path, *, parameters: Mapping[str, Any] | None = None) -> ModelSpec:
    """The spec in a YAML file, checked whole: fields, names and shapes.

    Args:
        path: The file.
        parameters: Values for parameters of the spec, by name, in place of its defaults.

    Raises:
        RegspecError: with every problem of the file, in the file's order.

    Example:
        >>> import regspec
        >>> regspec.load("examples/digits_cnn.yaml", parameters={"width": 32}).parameters["width"]
        32
    """
    return _checked(document.read(path), parameters)[0]


def loads(text: str, path: str = "<text>", *, parameters: Mapping[str, Any] | None = None) -> ModelSpec:
    """The spec in a YAML text, as `load` gives that of a file; ``path`` is what messages call it."""
    return _checked(document.parse(text, path), parameters)[0]


def source(spec: ModelSpec | str | Path, *, standalone: bool = False) -> str:
    """The Python source that a spec, or the file of one, compiles to: what `regspec.build` runs.

    With ``standalone`` the file holds the pieces of the runtime that it uses, and needs torch alone.

    Raises:
        RegspecError: with every problem of the spec.

    Example:
        >>> import regspec
        >>> "class Mlp(Regularized):" in regspec.source("examples/mlp.yaml")
        True
    """
    return print_source(graph_of(spec), standalone=standalone)


def graph_of(
    spec: ModelSpec | str | Path, dtype: Precision | None = None, *, parameters: Mapping[str, Any] | None = None
) -> Graph:
    """The graph of a spec, or of the file of one with ``parameters``; in another type than its own, if given.

    Raises `RegspecError`.
    """
    if not isinstance(spec, ModelSpec):
        spec, known = _checked(document.read(spec), parameters)
        if dtype in (None, spec.dtype):
            return known
    graph, problems = resolve(spec if dtype is None else spec.in_precision(dtype))
    if graph is None:
        raise RegspecError(_in_order(problems))
    return graph


def checked(path: str | Path) -> str:
    """What a file of a spec or of rules holds, in a line, if nothing is wrong with it. Raises `RegspecError`."""
    text = document.read(path)
    if isinstance(text.data, dict) and "rules" in text.data:
        rules, problems = loading.load_rules(text)
        if rules is None:
            raise RegspecError(_in_order(problems))
        return f"{path}: {counted(len(rules.rules), 'rule', 'rules')}"
    summary = summarize(_checked(text)[1])
    return f"{path}: {summary.name}, {summary.totals}"


def _checked(text: Document, parameters: Mapping[str, Any] | None = None) -> tuple[ModelSpec, Graph]:
    spec, problems = loading.load(text, parameters)
    graph = None
    if spec is not None:
        graph, more = resolve(spec, is_whole=not problems)
        problems = [*problems, *more]
    if spec is None or graph is None or problems:
        raise RegspecError(_in_order(problems))
    return spec, graph


def _in_order(problems: list[Problem]) -> list[Problem]:
    """Problems as they stand in the file, each once."""
    once = dict.fromkeys(problems)
    return sorted(once, key=lambda each: (each.path or "", each.line or 0, each.column or 0))
