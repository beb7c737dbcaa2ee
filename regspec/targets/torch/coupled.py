"""Where the units lie that are penalized together: the slices of torch's parameters, by those of Keras's weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regspec.code.expressions import Call, Omitted, Value, call, unless
from regspec.graph.coupled import blocks_of
from regspec.graph.network import Slices
from regspec.language.penalties import Dimensions
from regspec.layers.layer import Weight
from regspec.targets.torch.lowered import Place
from regspec.targets.torch.program import Program, layers_in
from regspec.targets.torch.steps import Step

Coupled = tuple[str, Call, tuple[Value, ...]]  # a term's name, its regularizer, and its slices


def coupled_terms(program: Program) -> Iterator[Coupled]:
    """The penalties of units of a whole network."""
    layers = {path: (step, prefix) for step, path, prefix in layers_in(program)}
    for each in program.graph.coupled:
        places = (place for slices in each.slices for place in _places(slices, *layers[slices.path]))
        yield each.name, each.regularizer.lower(Dimensions(0)), tuple(places)


def _places(slices: Slices, step: Step, prefix: str) -> Iterator[Value]:
    """The slices of a weight, in each of the parameters in which it lies: by the path alone where they are rows."""
    weight = next(each for each in step.lowered.weights if each.name == slices.weight)
    dimension, size, indices = _in_torch(weight, slices)
    for parameter in weight.parameters:
        path = prefix + step.path(Place(weight.module, parameter))
        for along in _runs(indices, size):
            given = {name: value for name, value in along.items() if not isinstance(value, Omitted)}
            yield call("Slices", path, dim=unless(0, dimension), **given) if given or dimension else path


def _in_torch(weight: Weight, slices: Slices) -> tuple[int, int, NDArray[np.int64]]:
    """The dimension of a weight's parameters along which units lie, its size, and for each unit the indices there."""
    assert weight.shape is not None
    letter = weight.pattern.keras[slices.axis]
    sizes = dict(zip(weight.pattern.keras, weight.shape, strict=True)) | {"1": 1}
    dimension = next(i for i, group in enumerate(weight.pattern.torch) if letter in group)
    group = weight.pattern.torch[dimension]
    places = np.arange(math.prod(sizes[each] for each in group)).reshape([sizes[each] for each in group])
    along = np.moveaxis(places, group.index(letter), 0)[np.array(slices.indices)]
    is_stacked = len(weight.parameters) > 1
    return dimension - is_stacked, places.size, along.reshape(len(slices.indices), -1)


def _runs(indices: NDArray[np.int64], size: int) -> Iterator[dict[str, Any]]:
    """How units lie along a dimension of a size: from a start to a stop, in parts, each as so many numbers in a row.

    Where the parts do not follow one another, they are several such runs.
    """
    units, first = len(indices), blocks_of(sorted(indices[0].tolist()))
    runs: list[tuple[int, int, int]] = []  # start, how many parts, how many numbers in a row
    for start, each in first:
        before, parts, length = runs[-1] if runs else (0, 0, 0)
        if length == each and start == before + parts * units * each:
            runs[-1] = (before, parts + 1, each)
        else:
            runs.append((start, 1, each))
    for start, parts, each in runs:
        stop = start + parts * units * each
        yield {
            "start": unless(0, start),
            "stop": unless(size, stop),
            "parts": unless(1, parts),
            "each": unless(1, each),
        }
