"""The order in which a layer must have the axes of its inputs in a model with channels first.

A spec with channels last has the axes of an image as Keras does: height, width, channels. The same model with channels
first has them as they lie in torch. The tables at the end say what a layer needs then, by its kind or its family (see
`regspec.keras.kinds`); `conversion.changes` says what changes in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.shapes import Symbol
from regspec.keras.conversion.reordered import Reordered
from regspec.keras.kinds import nearest
from regspec.layers.convolutional_recurrent import ConvLSTM
from regspec.layers.dropout import Shaped
from regspec.layers.layer import Elementwise, Layer, Spatial
from regspec.layers.normalization import ChannelNormalization, FeatureNormalization, SpectralNormalization
from regspec.layers.operations.along import Along, Normalize
from regspec.layers.operations.operands import Operands
from regspec.layers.operations.reductions import Reduction
from regspec.layers.pooling import GlobalPooling
from regspec.layers.preprocessing import Normalization, Rescaling
from regspec.layers.reshaping import Flatten, Permute, Reshape, Sequential, keeps_places
from regspec.layers.wrappers import TimeDistributed


def needed_order(layer: Layer, x: Symbol) -> Order | None:
    """The order in which a layer must have the axes of an input; None for any."""
    return nearest(NEEDED, type(layer))(layer, x)


def chooses_order(layer: Layer) -> bool:
    """Whether a layer can give its output in the order that is wanted, whatever that of its input is."""
    return nearest(CHOOSES, type(layer))


def _keras_order(layer: Layer, x: Symbol) -> Order | None:
    return axes.identity(x.rank)


def _any_order(layer: Layer, x: Symbol) -> Order | None:
    return None


def _order_in_torch(layer: Layer, x: Symbol) -> Order | None:
    """The order in which the layer computes on a tensor of a model with channels last."""
    return layer.order(Symbol(x.logical, x.source))


def _order_of_plain(layer: Layer, x: Symbol) -> Order | None:
    """The order in which the layer computes on a tensor in Keras's order."""
    return layer.order(Symbol(x.logical, x.source, x.dtype))


def _order_of_own(layer: Normalization, x: Symbol) -> Order | None:
    return layer.order(x)


def _order_of_channels(layer: Rescaling, x: Symbol) -> Order | None:
    return axes.channels_first(x.rank) if layer.is_per_channel and x.rank > 2 else None


def _order_of_flatten(layer: Flatten, x: Symbol) -> Order | None:
    return None if layer.data_format != "channels_first" else axes.identity(x.rank)


def _order_of_reshape(layer: Reshape, x: Symbol) -> Order | None:
    return None if keeps_places(x.logical, x.order) else axes.identity(x.rank)


def _order_of_pooling(layer: GlobalPooling, x: Symbol) -> Order | None:
    if layer.channels(x) in (1, x.rank - 1):
        return None
    return axes.identity(x.rank) if layer.data_format == "channels_first" else axes.channels_first(x.rank)


def has_axes(layer: ConvLSTM) -> bool:
    """Whether its activation functions work along Keras's last axis."""
    return any(each is not None and each.along is not None for each in (layer.activation, layer.recurrent_activation))


def _order_of_states(layer: ConvLSTM, x: Symbol) -> Order | None:
    return axes.identity(x.rank) if has_axes(layer) else _order_in_torch(layer, x)


def _order_of_wrapped(layer: SpectralNormalization, x: Symbol) -> Order | None:
    return needed_order(layer.layer, x)


def _order_of_each_step(layer: TimeDistributed, x: Symbol) -> Order | None:
    order = needed_order(layer.layer, step_of(x))
    if order is None:
        return None if x.order[:2] == (0, 1) else axes.identity(x.rank)
    return (0, 1, *(axis + 1 for axis in order[1:]))


def step_of(x: Symbol) -> Reordered:
    """A tensor like each step of ``x``, in the same order where the steps are the second axis."""
    order = (0, *(axis - 1 for axis in x.order[2:])) if x.order[:2] == (0, 1) else ()
    shape = x.shape if order else x.logical
    return Reordered((None, *shape[2:]), x.source, x.dtype, order)


NEEDED: Mapping[type[Layer], Callable[[Any, Symbol], Order | None]] = {
    Layer: _keras_order,
    Along: _any_order,
    ChannelNormalization: _any_order,
    ConvLSTM: _order_of_states,
    Elementwise: _any_order,
    FeatureNormalization: _any_order,
    Flatten: _order_of_flatten,
    GlobalPooling: _order_of_pooling,
    Normalization: _order_of_own,
    Normalize: _any_order,
    Operands: _order_of_plain,
    Permute: _any_order,
    Reduction: _order_of_plain,
    Rescaling: _order_of_channels,
    Reshape: _order_of_reshape,
    Sequential: _any_order,
    Shaped: _any_order,
    Spatial: _order_in_torch,
    SpectralNormalization: _order_of_wrapped,
    TimeDistributed: _order_of_each_step,
}

CHOOSES: Mapping[type[Layer], bool] = {Layer: False, Permute: True, Reshape: True}
