"""The changes to a layer whose inputs have another order of axes than in Keras, in a model made channels first.

The table at the end has a function for each kind or family (see `regspec.keras.kinds`). For most layers two things
change, the field for the channels and the axis of the activation function, so they share one function. Other kinds have
their own, which may call that of their family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.shapes import Symbol
from regspec.keras.conversion.needed import has_axes, step_of
from regspec.keras.conversion.reordered import MAX_PARTS, Change, Reordered, Units
from regspec.keras.kinds import nearest
from regspec.layers.activation import Activation, PReLU
from regspec.layers.convolutional_recurrent import ConvLSTM
from regspec.layers.dense import Dense
from regspec.layers.dropout import Shaped
from regspec.layers.layer import Activated, Elementwise, Layer, Spatial, channel_axis
from regspec.layers.merging import Concatenate, Operator
from regspec.layers.normalization import (
    BatchNormalization,
    ChannelNormalization,
    FeatureNormalization,
    SpectralNormalization,
)
from regspec.layers.operations.along import Along, Normalize
from regspec.layers.operations.operands import Array, Numbers, Operands, shape_of
from regspec.layers.operations.reductions import Reduction
from regspec.layers.pooling import GlobalPooling
from regspec.layers.preprocessing import Normalization, Rescaling
from regspec.layers.reshaping import Flatten, Permute, Reshape, Sequential, keeps_places
from regspec.layers.spectrograms import STFTSpectrogram
from regspec.layers.wrappers import TimeDistributed


def change_of(layer: Layer, *xs: Reordered, wanted: Order | None = None) -> Change | None:
    """The changes to a layer that takes these inputs in a model with channels first.

    None where it can't compute the same as in Keras then. ``wanted`` is the preferred order of its output.
    """
    return nearest(CHANGES, type(layer))(layer, *xs, wanted=wanted)


# -- families ----------------------------------------------------------------------------------------------------------


def _by_its_parts(layer: Layer, *xs: Reordered, wanted: Order | None = None) -> Change | None:
    """The change to most layers: of the field for the channels, and of the activation's axis, if they have these."""
    if any(x.units is not None for x in xs):
        return None
    made = _as_in_keras(layer)
    return replace(made, fields={**made.fields, **_channels(layer), **_activation_axis(layer, xs[0])})


def _as_in_keras(layer: Layer) -> Change:
    """The change to a layer, and to those inside it, that still gets tensors with channels last."""
    nested = {name: _as_in_keras(inner) for name, inner in layer if isinstance(inner, Layer)}
    return Change({"data_format": "channels_last"} if getattr(layer, "data_format", "") is None else {}, nested=nested)


def _channels(layer: Layer) -> dict[str, Any]:
    """The field of a layer over space or time, whose channels are now where the model's data_format has them."""
    return {"data_format": None} if isinstance(layer, Spatial) else {}


def _activation_axis(layer: Layer, x: Reordered) -> dict[str, Any]:
    """The activation function of a layer along the same axis as in Keras."""
    function = layer.activation if isinstance(layer, Activated) else None
    if function is None or function.along is None or x.has_keras_order:
        return {}
    return {"activation": {function.name: {"axis": x.dimension(function.along)}}}


def _elementwise(layer: Layer, *xs: Reordered, wanted: Order | None = None) -> Change | None:
    are_shared, units = Units.shared(xs)
    axis = getattr(layer, "axis", None)
    chosen = axis if isinstance(axis, tuple) else () if axis is None else (axis,)
    return Change(xs[0].axes_field(chosen), units=units) if are_shared else None


def _along_axes(layer: Any, x: Reordered, wanted: Order | None = None) -> Change:
    """The axes are renumbered; the order of other axes, and of units, does not matter."""
    return Change(x.axes_field(layer.axis), units=x.units)


def _along_an_axis(layer: Along, x: Reordered, wanted: Order | None = None) -> Change | None:
    return None if x.units is not None else Change(x.axes_field((layer.axis,)))


def _sequential(layer: Sequential, x: Reordered, wanted: Order | None = None) -> Change:
    return Change({} if x.has_keras_order else {"data_format": "channels_first"})


def _operands(layer: Operands, *xs: Reordered, wanted: Order | None = None) -> Change | None:
    are_shared, units = Units.shared(xs)
    stored = [each for each in layer.numbers.values() if isinstance(each, Array)]
    plain = {name: each for name, each in layer.numbers.items() if not isinstance(each, Array)}
    arrays = {name: each for name, each in plain.items() if any(size > 1 for size in shape_of(each))}
    if not are_shared or (units is not None and (arrays or stored)):
        return None
    if xs[0].has_keras_order:
        return Change(units=units)
    return Change({name: _permuted(each, xs[0].order) for name, each in arrays.items()}, units=units)


def _permuted(numbers: Numbers, order: Order) -> Any:
    """Nested lists, aligned with a tensor's last axes, where the tensor has its axes in this order."""
    shape = shape_of(numbers)
    whole = (1,) * (len(order) - len(shape)) + shape

    def part(order: Order, place: dict[int, int]) -> Any:
        if order:
            sizes = range(whole[order[0]])
            return [part(order[1:], {**place, order[0]: index}) for index in sizes]
        value: Any = numbers
        for axis in range(len(whole) - len(shape), len(whole)):
            value = value[place[axis]]
        return value

    made = part(order, {})
    for axis in order[:-1]:  # leading axes of size one are left out
        if whole[axis] > 1:
            break
        made = made[0]
    return made


def _reduction(layer: Reduction, x: Reordered, wanted: Order | None = None) -> Change:
    field = type(layer).model_fields["axis"].alias or "axis"
    reduced = {axis % x.rank for axis in layer.axis}
    kept = [axis for axis in x.order if axis not in reduced]
    order = x.order if layer.keepdims else tuple(sorted(kept).index(axis) for axis in kept)
    return Change(x.axes_field(layer.axis, field), order)


def _noise(layer: Shaped, *xs: Reordered, wanted: Order | None = None) -> Change | None:
    are_shared, units = Units.shared(xs)
    is_moved = layer.noise_shape and not xs[0].has_keras_order
    fields = {"noise_shape": [*(layer.noise(xs[0]) or ())]} if is_moved else {}
    return Change(fields, units=units) if are_shared else None


# -- activation functions, products, sums ------------------------------------------------------------------------------


def _activation(layer: Activation, *xs: Reordered, wanted: Order | None = None) -> Change | None:
    (x,), along = xs, layer.activation.along
    made = _elementwise(layer, x)
    if made is None or along is None:
        return made
    if x.units is not None and layer.output_shape(x) != x.shape:  # it splits the units into halves
        return None
    function = {layer.activation.name: {"axis": x.dimension(along)}}
    return replace(made, fields={} if x.has_keras_order else {"activation": function})


def _prelu(layer: PReLU, x: Reordered, wanted: Order | None = None) -> Change | None:
    made = _elementwise(layer, x)
    return made and replace(made, fields=x.axes_field(layer.shared_axes or (), "shared_axes"))


def _dense(layer: Dense, *xs: Reordered, wanted: Order | None = None) -> Change:
    return Change()  # the rows of its kernel follow the order of its input's units


def _concatenate(layer: Concatenate, *xs: Reordered, wanted: Order | None = None) -> Change | None:
    x = xs[0]
    dimension = layer.dimension(x)
    default = x.dimension(-1)
    if all(each.units is None for each in xs):
        is_said = x.has_keras_order and layer.axis is not None
        return Change({} if is_said else {"axis": None if dimension == default else dimension})
    are_known = all(each.rank == 2 and each.shape[1] is not None for each in xs)
    is_short = sum(1 if each.units is None else len(each.units.parts) for each in xs) <= MAX_PARTS
    return Change(units=Units.joined(xs)) if are_known and is_short and dimension == 1 else None


# -- normalizations, and numbers for each channel ----------------------------------------------------------------------


def _channel_normalization(layer: ChannelNormalization, x: Reordered, wanted: Order | None = None) -> Change | None:
    dimension = x.dimension(channel_axis(layer.axis, x))
    default = x.dimension(-1)
    fields = {"axis": None if dimension == default else dimension}
    fields = {} if x.has_keras_order and layer.axis is not None and dimension != default else fields
    return Change(fields) if x.units is None else None


def _batch_normalization(layer: BatchNormalization, x: Reordered, wanted: Order | None = None) -> Change | None:
    """It normalizes each unit by itself, so its weights follow the order of the units."""
    made = _channel_normalization(layer, replace(x, units=None))
    return made and replace(made, units=x.units)


def _rescaling(layer: Rescaling, x: Reordered, wanted: Order | None = None) -> Change | None:
    return None if layer.is_per_channel and x.units is not None else _elementwise(layer, x)


def _normalization(layer: Normalization, x: Reordered, wanted: Order | None = None) -> Change | None:
    if x.units is not None and (isinstance(layer.mean, tuple) or isinstance(layer.variance, tuple)):
        return None
    return Change(x.axes_field(layer.axis or ()), units=x.units)


# -- shapes ------------------------------------------------------------------------------------------------------------


def _flatten(layer: Flatten, x: Reordered, wanted: Order | None = None) -> Change | None:
    if x.rank == 2 or x.has_keras_order:
        return Change(units=x.units)
    return None if None in x.shape[1:] else Change(units=Units.flattened(x))


def _reshape(layer: Reshape, x: Reordered, wanted: Order | None = None) -> Change | None:
    if x.units is not None:
        return None
    shape = layer.output_shape(x)
    plain = axes.identity(len(shape))
    if wanted is None or wanted == plain or len(wanted) != len(shape) or not keeps_places(shape, wanted):
        return Change(order=plain)
    return Change({"target_shape": [layer.target_shape[axis - 1] for axis in wanted[1:]]}, wanted)


def _permute(layer: Permute, x: Reordered, wanted: Order | None = None) -> Change:
    order = axes.identity(x.rank) if wanted is None else wanted
    taken = (0, *layer.dims)
    return Change({"dims": [x.dimension(taken[axis]) for axis in order[1:]]}, order, x.units)


# -- pooling, spectrograms, recurrent layers ---------------------------------------------------------------------------


def _global_pooling(layer: GlobalPooling, x: Reordered, wanted: Order | None = None) -> Change:
    return Change({"data_format": None if layer.channels(x) == 1 else "channels_last"})


def _spectrogram(layer: STFTSpectrogram, x: Reordered, wanted: Order | None = None) -> Change | None:
    made = _by_its_parts(layer, x)
    is_moved = layer.expand_dims and not x.has_keras_order
    return made and replace(made, order=axes.channels_first(4) if is_moved else None)


def _convolutional_lstm(layer: ConvLSTM, *xs: Reordered, wanted: Order | None = None) -> Change | None:
    return _as_in_keras(layer) if has_axes(layer) else _by_its_parts(layer, *xs)


# -- wrappers ----------------------------------------------------------------------------------------------------------


def _wrapped(layer: SpectralNormalization, *xs: Reordered, wanted: Order | None = None) -> Change | None:
    made = change_of(layer.layer, *xs, wanted=wanted)
    return made and Change(order=made.order, units=made.units, nested={"layer": made})


def _each_step(layer: TimeDistributed, x: Reordered, wanted: Order | None = None) -> Change | None:
    step = step_of(x)
    made = change_of(layer.layer, step)
    if made is None or made.units is not None:  # the units of a step can't be reordered
        return None
    rank = len(layer.output_shape(Symbol(x.logical, x.source, x.dtype))) - 1
    like = axes.identity(rank) if step.has_keras_order else layer.layer.output_order(rank, step)
    order = (0, 1, *(axis + 1 for axis in (made.order or like)[1:]))
    return Change(order=order, nested={"layer": made})


# -- the answers by kinds and families ---------------------------------------------------------------------------------

CHANGES: dict[type[Layer], Callable[..., Change | None]] = {
    Layer: _by_its_parts,
    Activation: _activation,
    Along: _along_an_axis,
    BatchNormalization: _batch_normalization,
    ChannelNormalization: _channel_normalization,
    Concatenate: _concatenate,
    ConvLSTM: _convolutional_lstm,
    Dense: _dense,
    Elementwise: _elementwise,
    FeatureNormalization: _along_axes,
    Flatten: _flatten,
    GlobalPooling: _global_pooling,
    Normalization: _normalization,
    Normalize: _along_axes,
    Operands: _operands,
    Operator: _operands,  # which is elementwise too
    Permute: _permute,
    PReLU: _prelu,
    Reduction: _reduction,
    Rescaling: _rescaling,
    Reshape: _reshape,
    Sequential: _sequential,
    Shaped: _noise,
    SpectralNormalization: _wrapped,
    STFTSpectrogram: _spectrogram,
    TimeDistributed: _each_step,
}
