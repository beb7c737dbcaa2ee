"""Layers that are linear in one of their weights, and layers that are a scale and a shift in evaluation.

The tables say which, by kinds and families (see `regspec.keras.configs.kinds`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from regspec.code.shapes import Symbol
from regspec.keras.configs.kinds import nearest
from regspec.layers.convolution import Convolution, DepthwiseConvolution, SeparableConvolution, Transposed
from regspec.layers.dense import Dense
from regspec.layers.families import Activated
from regspec.layers.layer import Layer
from regspec.layers.normalization import BatchNormalization


def linear_weight(layer: Layer, x: Symbol) -> tuple[str, int] | None:
    """The weight in which a layer's output is linear, besides a bias, and the axis of its units; None for others.

    ``x`` is its input, as it takes it.
    """
    found = nearest(LINEAR, type(layer))
    is_rounded = any(getattr(layer, name, False) for name in ("rounds_inputs", "rounds_kernel"))
    if found is None or is_rounded or (isinstance(layer, Activated) and _is_activated(layer)):
        return None
    weight, axis_of = found
    return weight, axis_of(x)


def affine_in_evaluation(layer: Layer, x: Symbol, arrays: Mapping[str, Any]) -> tuple[int, Any, Any] | None:
    """The axis along which a layer gives scale * x + shift in evaluation, the scale, the shift; None for other layers.

    ``arrays`` has its weights by name.
    """
    return nearest(AFFINE, type(layer))(layer, x, arrays)


def _is_activated(layer: Activated) -> bool:
    """Whether its activation function, if any, changes anything."""
    return layer.activation is not None and layer.activation.lower(-1) is not None


def _last_axis(x: Symbol) -> int:
    return x.rank - 1


def _channels(x: Symbol) -> int:
    return x.order[1]


def _not_affine(layer: Layer, x: Symbol, arrays: Mapping[str, Any]) -> None:
    return None


def _moving_averages(layer: BatchNormalization, x: Symbol, arrays: Mapping[str, Any]) -> tuple[int, Any, Any]:
    scale = arrays.get("gamma", 1.0) / (arrays["moving_variance"] + layer.epsilon) ** 0.5
    return _channels(x), scale, arrays.get("beta", 0.0) - arrays["moving_mean"] * scale


LINEAR: Mapping[type[Layer], tuple[str, Callable[[Symbol], int]] | None] = {
    Layer: None,
    Convolution: ("kernel", _channels),
    Dense: ("kernel", _last_axis),
    DepthwiseConvolution: ("depthwise", _channels),
    SeparableConvolution: ("pointwise", _channels),
    Transposed: ("kernel", _channels),
}

AFFINE: Mapping[type[Layer], Callable[[Any, Symbol, Mapping[str, Any]], tuple[int, Any, Any] | None]] = {
    Layer: _not_affine,
    BatchNormalization: _moving_averages,
}
