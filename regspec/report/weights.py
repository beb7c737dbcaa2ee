"""A run's weights by Keras's names, before and after training, with the regularizer that the spec gives them."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regspec.graph.network import Graph
from regspec.report.runs import Recorded, Weights
from regspec.targets.torch.lowered import Place
from regspec.targets.torch.program import Program, layers_in, program_of

Numbers32 = NDArray[np.float32]
SMALL = 1e-3  # a magnitude up to which a weight is nearly zero


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A weight: ``conv.kernel``; all its numbers, in one axis."""

    name: str
    before: Numbers32 | None
    after: Numbers32
    regularizer: str | None
    is_matrix: bool  # whether it has two axes or more, as kernels and embeddings have

    @property
    def zeros(self) -> float:
        """The share of exact zeros."""
        return _share(self.after == 0)

    @property
    def nearly_zeros(self) -> float:
        """The share of magnitudes of at most 1e-3."""
        return _share(np.abs(self.after) <= SMALL)


def _share(marks: NDArray[np.bool_]) -> float:
    return float(marks.mean()) if marks.size else 0.0


def weights_in(run: Recorded) -> list[Weight]:
    """The weights of a run that are trained, or have a term; where the graph is not known, by torch's names."""
    if run.weights is None:
        return []
    found, seen = [], set[str]()
    for slot in () if run.graph is None else _slots(program_of(run.graph), run.graph):
        seen.update(slot.paths)
        if (slot.is_trained or slot.regularizer is not None) and all(path in run.weights for path in slot.paths):
            found.append(_weight(slot.name, slot.paths, slot.regularizer, run.weights, run.initial))
    others = [path for path in run.weights if path not in seen and "running_" not in path]
    return [*found, *(_weight(path, [path], None, run.weights, run.initial) for path in others)]


def zeros_of(weights: list[Weight], names: Container[str] | None = None) -> float | None:
    """The share of exact zeros in all weights that have a term, or these names; None where there are none."""
    penalized = [
        weight.after
        for weight in weights
        if (weight.regularizer is not None if names is None else weight.name in names)
    ]
    return _share(np.concatenate(penalized) == 0) if penalized else None


def _weight(name: str, paths: list[str], regularizer: str | None, after: Weights, before: Weights | None) -> Weight:
    is_known = before is not None and all(path in before for path in paths)
    return Weight(
        name,
        np.concatenate([before[path].ravel() for path in paths]) if before is not None and is_known else None,
        np.concatenate([after[path].ravel() for path in paths]),
        regularizer,
        any(after[path].ndim > 1 for path in paths),
    )


@dataclass(frozen=True, slots=True)
class _Slot:
    name: str
    paths: list[str]  # of its parameters
    regularizer: str | None
    is_trained: bool


def _slots(program: Program, graph: Graph) -> Iterator[_Slot]:
    """The weights of a program, its blocks' among them, by the names of their terms."""
    coupled = {(own.path, own.weight): str(each.regularizer) for each in graph.coupled for own in each.slices}
    for step, path, module in layers_in(program):
        if (resolved := step.lowered.resolved) is None:
            continue
        regularizers = {each.weight: str(each.regularizer) for term in resolved.terms if (each := term.alone)}
        for weight in step.lowered.weights:
            paths = [module + step.path(Place(weight.module, parameter)) for parameter in weight.parameters]
            name, is_trained = f"{module}{step.name}.{weight.name}", weight.trainable and not weight.frozen
            told = [each for each in (regularizers.get(weight.name), coupled.get((path, weight.name))) if each]
            yield _Slot(name, paths, " + ".join(told) or None, is_trained)
