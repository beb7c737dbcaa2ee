"""The source that a spec compiles to."""

from __future__ import annotations

from pathlib import Path

from regspec.graph.loading import graph_of
from regspec.specs.model import ModelSpec
from regspec.targets.torch.program import program_of
from regspec.targets.torch.writing import print_source


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
    return print_source(program_of(graph_of(spec)), standalone=standalone)
