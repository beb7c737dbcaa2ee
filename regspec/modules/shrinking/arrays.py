"""The weights of a live model as Keras has their axes, by the layers of its graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regspec.graph.units import Units
from regspec.layers.arrays import to_array, to_parameters
from regspec.layers.layer import Weight
from regspec.targets.torch.program import Program, layers_in

Array = NDArray[np.generic]
Key = tuple[str, str]  # the path of a layer, and the name of its weight


@dataclass(frozen=True, eq=False)
class Held:
    """A weight of a model, and where its parameters are in the state_dict."""

    weight: Weight
    names: tuple[str, ...]

    def array(self, state: Mapping[str, Tensor]) -> Array:
        """Keras's array."""
        return to_array(self.weight, [as_numpy(state[name]) for name in self.names])

    def parameters(self, array: Array) -> dict[str, Array]:
        """The parameters of Keras's array, by their names in the state_dict."""
        found = to_parameters(self.weight, array)
        return {name: found[parameter] for name, parameter in zip(self.names, self.weight.parameters, strict=True)}


def held_in(program: Program) -> dict[Key, Held]:
    """The weights of a program's layers."""
    found = {}
    for step, path, prefix in layers_in(program):
        for weight in step.lowered.weights:
            module = f"{prefix}{step.attributes[weight.module]}"
            names = (f"{module}.{each}" if each else module for each in weight.parameters)
            found[path, weight.name] = Held(weight, tuple(names))
    return found


def as_numpy(tensor: Tensor) -> Array:
    """A tensor's numbers; those that NumPy has no type for, such as bfloat16, in one that holds them all."""
    plain = tensor.detach().cpu()
    found: Array = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    return found


def dense(array: Array, groups: int) -> Array:
    """The kernel of groups as one of all channels, with zeros where a group does not see a channel."""
    if groups == 1:
        return array
    *space, inputs, outputs = array.shape
    whole = np.zeros((*space, inputs * groups, outputs), array.dtype)
    width = outputs // groups
    for group in range(groups):
        own = slice(group * width, (group + 1) * width)
        whole[..., group * inputs : (group + 1) * inputs, own] = array[..., own]
    return whole


def grouped(whole: Array, groups: int) -> Array:
    """`dense` undone, for so many groups."""
    if groups == 1:
        return whole
    inputs, outputs = whole.shape[-2:]
    depth, width = inputs // groups, outputs // groups
    parts = [
        whole[..., group * depth : (group + 1) * depth, group * width : (group + 1) * width] for group in range(groups)
    ]
    return np.concatenate(parts, -1)


def groups_in(units: Units) -> dict[Key, int]:
    """How many groups the kernels have that have several."""
    return {(call.path, name): count for call in units.calls for name, count in call.ties.grouped.items()}
