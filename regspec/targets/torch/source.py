"""The source that a spec compiles to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regspec.graph.loading import AnySpec, graph_of
from regspec.targets.torch.program import program_of
from regspec.targets.torch.writing import print_source


def source(spec: AnySpec, *, standalone: bool = False, parameters: Mapping[str, Any] | None = None) -> str:
    """The Python source that a spec compiles to: what `regspec.build` runs.

    Args:
        spec: a ModelSpec, or what `regspec.load` takes: a path, a text, a mapping.
        standalone: puts the pieces of the runtime that it uses into the file, which then needs torch alone.
        parameters: values for parameters of the spec, by name, in place of its defaults.

    Raises:
        RegspecError: with every problem of the spec.

    Example:
        >>> import regspec
        >>> "class Mlp(Regularized):" in regspec.source("examples/mlp.yaml")
        True
    """
    return print_source(program_of(graph_of(spec, parameters=parameters)), standalone=standalone)
