"""Keras's arrays as torch's parameters, by the axes that the kinds declare."""

from __future__ import annotations

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
