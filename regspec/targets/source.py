"""The source that a spec compiles to, for each target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from regspec.graph.loading import AnySpec, graph_of
from regspec.graph.network import Graph
from regspec.targets.torch.program import program_of
from regspec.targets.torch.writing import print_source
from regspec.text.problems import RegspecError


def _torch(graph: Graph, standalone: bool) -> str:
    return print_source(program_of(graph), standalone=standalone)


def _keras(graph: Graph, standalone: bool) -> str:
    from regspec.targets.keras.code import print_keras  # which takes longer to import than a small spec to check

    return print_keras(graph)  # which needs nothing of regspec


TARGETS: dict[str, Callable[[Graph, bool], str]] = {"torch": _torch, "keras": _keras}


def source(
    spec: AnySpec, *, target: str = "torch", standalone: bool = False, parameters: Mapping[str, Any] | None = None
) -> str:
    """The Python source that a spec compiles to; for torch it is what `regspec.build` runs.

    Args:
        spec: a ModelSpec, or what `regspec.load` takes: a path, a text, a mapping.
        target: ``torch`` for the class of an ``nn.Module``; ``keras`` for a function that makes the network in Keras 3.
        standalone: gives a file that needs no regspec: what torch lacks is in it, and penalties in a short form.
        parameters: values for parameters of the spec, by name, in place of its defaults.

    Raises:
        RegspecError: with every problem of the spec, and with all that the target has no counterpart of, such as a
            schedule in a file that stands alone.

    Example:
        >>> import regspec
        >>> "class Mlp(Regularized):" in regspec.source("examples/mlp.yaml")
        True
        >>> "def make_mlp() -> keras.Model:" in regspec.source("examples/mlp.yaml", target="keras")
        True
    """
    if target not in TARGETS:
        raise RegspecError(f"no target is called '{target}'; there are {' and '.join(TARGETS)}")
    return TARGETS[target](graph_of(spec, parameters=parameters), standalone)
