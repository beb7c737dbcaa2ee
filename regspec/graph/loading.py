"""From a spec's text to its checked spec and graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regspec.code.shapes import Precision
from regspec.graph.network import Graph
from regspec.graph.resolving import resolve
from regspec.specs import loading
from regspec.specs.model import ModelSpec
from regspec.text import document
from regspec.text.document import Document
from regspec.text.problems import Problem, RegspecError


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
    return checked(document.read(path), parameters)


def loads(text: str, path: str = "<text>", *, parameters: Mapping[str, Any] | None = None) -> ModelSpec:
    """The spec in a YAML text, as `load` gives that of a file; ``path`` is what messages call it."""
    return checked(document.parse(text, path), parameters)


def graph_of(
    spec: ModelSpec | str | Path, dtype: Precision | None = None, *, parameters: Mapping[str, Any] | None = None
) -> Graph:
    """The graph of a spec, or of the file of one with ``parameters``; in another type than its own, if given.

    A spec is resolved once, and keeps its graph. Raises `RegspecError`.
    """
    if not isinstance(spec, ModelSpec):
        spec = load(spec, parameters=parameters)
    if dtype not in (None, spec.dtype):
        spec = spec.in_precision(dtype)
    if "graph" not in spec.derived:
        graph, problems = resolve(spec)
        if graph is None:
            raise RegspecError(in_order(problems))
        spec.derived["graph"] = graph
    graph = spec.derived["graph"]
    assert isinstance(graph, Graph)
    return graph


def checked(text: Document, parameters: Mapping[str, Any] | None = None) -> ModelSpec:
    """The spec of a document, checked whole. Raises `RegspecError` with every problem of the file."""
    spec, problems = loading.load(text, parameters)
    if spec is not None:
        graph, more = resolve(spec, is_whole=not problems)
        problems = [*problems, *more]
        spec.derived["graph"] = graph
    if spec is None or problems:
        raise RegspecError(in_order(problems))
    return spec


def in_order(problems: list[Problem]) -> list[Problem]:
    """Problems as they stand in the file, each once."""
    once = dict.fromkeys(problems)
    return sorted(once, key=lambda each: (each.path or "", each.line or 0, each.column or 0))
