"""The order in which a layer must have the axes of its inputs in a model with channels first.

A spec with channels last has the axes of an image as Keras does: height, width, channels. The same model with channels
first has them as they lie in torch. The tables at the end say what a layer needs then, by its kind or its family (see
`regspec.keras.configs.kinds`); `conversion.changes` says what changes in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.shapes import Shape, Symbol
from regspec.keras.configs.kinds import nearest
from regspec.keras.conversion.reordered import Reordered
from regspec.layers.families import Spatial
from regspec.layers.layer import Layer
from regspec.layers.operations.along import Along
from regspec.layers.operations.operands import Array, Operands
from regspec.layers.operations.products import DotProductAttention, Matmul
from regspec.layers.operations.reductions import Reduction
from regspec.layers.reshaping import Flatten, Permute, Reshape
from regspec.layers.spectral import SpectralNormalization
from regspec.layers.wrappers import TimeDistributed


def needed_order(layer: Layer, x: Symbol) -> Order | None:
    """The order in which a layer must have the axes of an input; None for any."""
    return nearest(NEEDED, type(layer))(layer, x)


def preferred_order(layer: Layer, x: Symbol) -> Order | None:
    """The order in which a layer best has the axes of an input: as torch has them where it works along space."""
    order = needed_order(layer, x)
    if order is not None or x.rank < 3:
        return order
    is_spatial = isinstance(layer, Spatial)
    preferred = layer.input_spec_order(x.rank)
    return preferred if is_spatial or preferred != Layer.usual_spec_order(x.rank) else None


def chooses_order(layer: Layer) -> bool:
    """Whether a layer can give its output in the order that is wanted, whatever that of its input is."""
    return nearest(CHOOSES, type(layer))


def keeps_places(shape: Shape, order: Order) -> bool:
    """Whether this order of axes leaves a tensor's numbers in the same sequence: only axes of size one move."""
    kept = [axis for axis in order[1:] if shape[axis] != 1]
    return kept == sorted(kept)


def _order_as_counted(layer: Layer, x: Symbol) -> Order | None:
    """Keras's where the layer counts axes as the spec does; a layer that knows what they mean takes any."""
    is_first = isinstance(layer, Spatial) and layer.data_format == "channels_first"
    return axes.identity(x.rank) if layer.is_counted_by_spec or is_first else None


def _any_order(layer: Layer, x: Symbol) -> Order | None:
    return None


def _keras_order(layer: Layer, x: Symbol) -> Order | None:
    return axes.identity(x.rank)


def _order_of_stored(layer: Operands, x: Symbol) -> Order | None:
    is_stored = any(isinstance(each, Array) for each in layer.numbers.values())
    return axes.identity(x.rank) if is_stored else None


def _order_of_flatten(layer: Flatten, x: Symbol) -> Order | None:
    return None if layer.data_format != "channels_first" else axes.identity(x.rank)


def _order_of_reshape(layer: Reshape, x: Symbol) -> Order | None:
    return None if keeps_places(x.logical, x.order) else axes.identity(x.rank)


def _order_of_wrapped(layer: SpectralNormalization, x: Symbol) -> Order | None:
    return needed_order(layer.layer, x)


def _order_of_each_step(layer: TimeDistributed, x: Symbol) -> Order | None:
    order = needed_order(layer.layer, step_of(x))
    return None if order is None else (0, 1, *(axis + 1 for axis in order[1:]))


def step_of(x: Symbol) -> Reordered:
    """A tensor like each step of ``x``, in the same order of axes."""
    order = axes.without(x.order, {1})
    shape = axes.permute((None, *x.logical[2:]), order)
    return Reordered(shape, x.source, x.dtype, order, order)


NEEDED: Mapping[type[Layer], Callable[[Any, Symbol], Order | None]] = {
    Layer: _order_as_counted,
    Along: _any_order,
    DotProductAttention: _keras_order,
    Flatten: _order_of_flatten,
    Matmul: _keras_order,
    Operands: _order_of_stored,
    Permute: _any_order,
    Reduction: _any_order,
    Reshape: _order_of_reshape,
    SpectralNormalization: _order_of_wrapped,
    TimeDistributed: _order_of_each_step,
}

CHOOSES: Mapping[type[Layer], bool] = {Layer: False, Permute: True, Reshape: True}
