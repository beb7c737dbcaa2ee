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
from regspec.text.document import Document, document_of, parse
from regspec.text.problems import Problem, RegspecError

AnySpec = ModelSpec | str | Path | Mapping[str, Any]  # or the path of its file, its text, or its content as a mapping


def load(spec: AnySpec, *, parameters: Mapping[str, Any] | None = None) -> ModelSpec:
    """A spec, checked whole: fields, names and shapes.

    Args:
        spec: The path of a YAML file; its text, which has several lines; or its content as a mapping, in which
            ``regspec: 1`` may be left out, and numbers may be as PyYAML reads them. A ModelSpec is returned as it is.
        parameters: Values for parameters of the spec, by name, in place of its defaults.

    Raises:
        RegspecError: with every problem of the file, in the file's order.

    Example:
        >>> import regspec
        >>> regspec.load("examples/digits_cnn.yaml", parameters={"width": 32}).parameters["width"]
        32
        >>> layers = [{"Dense": {"units": 3, "kernel_regularizer": {"l2": 1e-4}}}]
        >>> regspec.load({"inputs": {"x": {"shape": [4]}}, "layers": layers}).layers[0].name
        'dense'
    """
    if not isinstance(spec, ModelSpec):
        given = {"regspec": 1, **spec} if isinstance(spec, Mapping) else spec
        return checked(document_of(given, "<mapping>" if isinstance(spec, Mapping) else "<text>"), parameters)
    if not parameters:
        return spec
    if spec.body.origin is None:
        raise RegspecError(Problem("the spec was not made from a text, so its parameters have their values"))
    return checked(spec.body.origin.document, {**spec.given, **parameters})


def loads(text: str, path: str = "<text>", *, parameters: Mapping[str, Any] | None = None) -> ModelSpec:
    """The spec in a YAML text, as `load` gives it; ``path`` is what messages call it.

    Raises:
        RegspecError: with every problem of the text.

    Example:
        >>> import regspec
        >>> regspec.loads("{regspec: 1, inputs: {x: {shape: [4]}}, layers: [Flatten]}").layers[0].name
        'flatten'
    """
    return checked(parse(text, path), parameters)


def graph_of(spec: AnySpec, dtype: Precision | None = None, *, parameters: Mapping[str, Any] | None = None) -> Graph:
    """The graph of a spec as `load` takes it; in another type than its own, if given.

    A spec is resolved once, and keeps its graph. Raises `RegspecError`.
    """
    spec = load(spec, parameters=parameters)
    if dtype not in (None, spec.dtype):
        spec = spec.in_precision(dtype)
    if "graph" not in spec.derived:
        graph, problems = resolve(spec)
        if graph is None:
            raise RegspecError(in_order(problems))
        _keep(spec, graph)
    found = spec.derived["graph"]
    assert isinstance(found, Graph)
    return found


def checked(text: Document, parameters: Mapping[str, Any] | None = None) -> ModelSpec:
    """The spec of a document, checked whole. Raises `RegspecError` with every problem of the file."""
    spec, problems = loading.spec_from(text, parameters)
    if spec is not None:
        graph, more = resolve(spec, is_whole=not problems)
        problems = [*problems, *more]
        if graph is not None:
            _keep(spec, graph)
    if spec is None or problems:
        raise RegspecError(in_order(problems))
    return spec


def _keep(spec: ModelSpec, graph: Graph) -> None:
    """Makes a spec and its graph known to each other."""
    spec.derived["graph"] = graph
    graph.derived["spec"] = spec


def in_order(problems: list[Problem]) -> list[Problem]:
    """Problems as they stand in the file, each once."""
    once = dict.fromkeys(problems)
    return sorted(once, key=lambda each: (each.path or "", each.line or 0, each.column or 0))
