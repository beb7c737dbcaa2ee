"""Keras's arrays of weights, and the parameters of torch that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from regspec.layers.layer import Weight

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def to_parameters(weight: Weight, array: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
    """The parameters of a weight by their names in its module, from Keras's array.

    Raises:
        ValueError: where the array has another shape than the weight.
    """
    if array.shape != weight.shape:
        raise ValueError(f"{weight.name} has the shape {weight.shape}, but the array {array.shape}")
    if weight.chunks is not None:
        gates = array.reshape(*array.shape[:-1], len(weight.chunks), -1)
        array = gates[..., list(weight.chunks), :].reshape(array.shape)
    moved = weight.pattern.to_torch(array)
    if len(weight.parameters) == 1:
        return {weight.parameters[0]: moved}
    return dict(zip(weight.parameters, moved, strict=True))


def to_array(weight: Weight, parameters: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    """Keras's array of a weight, from its parameters in its module: `to_parameters` undone."""
    import numpy as np

    assert weight.shape is not None  # only the user's own modules have such weights
    array = weight.pattern.to_keras(parameters[0] if len(parameters) == 1 else np.stack(parameters), weight.shape)
    if weight.chunks is not None:
        gates = array.reshape(*array.shape[:-1], len(weight.chunks), -1)
        array = gates[..., np.argsort(weight.chunks), :].reshape(array.shape)
    return array
