"""The changes to a layer whose inputs have another order of axes than in Keras, in a model made channels first.

The table at the end has a function for each kind or family (see `configs.kinds`). For most layers two things
change, the field for the channels and the axis of the activation function, so they share one function. Other kinds have
their own, which may call that of their family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from regspec.code import axes
from regspec.code.axes import Order
from regspec.keras.configs.kinds import nearest
from regspec.keras.conversion.needed import keeps_places, step_of
from regspec.keras.conversion.reordered import MAX_PARTS, Change, Reordered, Units
from regspec.language.activations import ActivationFunction
from regspec.layers.activation import Activation
from regspec.layers.dense import Dense
from regspec.layers.dropout import Shaped
from regspec.layers.families import Elementwise, Spatial
from regspec.layers.following import order_after
from regspec.layers.layer import Layer
from regspec.layers.merging import Concatenate, Operator
from regspec.layers.normalization import (
    BatchNormalization,
    FeatureNormalization,
)
from regspec.layers.operations.along import Normalize
from regspec.layers.operations.operands import Array, Numbers, Operands, shape_of
from regspec.layers.operations.products import Matmul
from regspec.layers.operations.reductions import Reduction
from regspec.layers.preprocessing import Normalization, Rescaling
from regspec.layers.reshaping import Flatten, Permute, Reshape
from regspec.layers.spectral import SpectralNormalization
from regspec.layers.wrappers import TimeDistributed


def change_of(layer: Layer, *xs: Reordered, wanted: Order | None = None) -> Change | None:
    """The changes to a layer that takes these inputs in a model with channels first.

    None where it can't compute the same as in Keras then. ``wanted`` is the preferred order of its output.
    """
    return nearest(CHANGES, type(layer))(layer, *xs, wanted=wanted)


# -- families ----------------------------------------------------------------------------------------------------------


def _by_its_parts(layer: Layer, *xs: Reordered, wanted: Order | None = None) -> Change | None:
    """The change to most layers: the axes that their fields name, and that of the activation function."""
    if any(x.units is not None for x in xs):
        return None
    if isinstance(layer, Spatial) and layer.data_format == "channels_first":
        return Change({"data_format": None, **_activation_axis(layer, xs[0], is_turned=True)})
    return Change({**_said_axes(layer, xs[0]), **_activation_axis(layer, xs[0])})


def _said_axes(layer: Layer, x: Reordered) -> dict[str, Any]:
    """The fields that name axes, as the converted spec counts them."""
    fields: dict[str, Any] = {}
    for name in layer.axis_fields:
        value = getattr(layer, name) if name in layer.model_fields_set else None
        axes_said = value if isinstance(value, tuple) else (value,)
        has_default = not type(layer).model_fields[name].is_required()
        if name == "axis" and has_default and not x.has_keras_order and axes_said in ((-1,), (x.rank - 1,)):
            fields[name] = None  # the features, wherever they are
        elif value is not None:
            fields |= x.axes_field(axes_said, name)
    return fields


def _activation_axis(layer: Layer, x: Reordered, *, is_turned: bool = False) -> dict[str, Any]:
    """The activation function of a layer, where its axis is to be said."""
    function: ActivationFunction | None = getattr(layer, "activation", None)
    if not isinstance(function, ActivationFunction) or function.along is None:
        return {}
    if not is_turned and (x.has_keras_order or function.said_axis is None):
        return {}
    return {"activation": {function.name: {"axis": x.dimension(function.along)}}}


def _elementwise(layer: Layer, *xs: Reordered, wanted: Order | None = None) -> Change | None:
    are_shared, units = Units.shared(xs)
    return Change(_said_axes(layer, xs[0]), units=units) if are_shared else None


def _along_axes(layer: Any, x: Reordered, wanted: Order | None = None) -> Change:
    """The axes are renumbered; the order of other axes, and of units, does not matter."""
    return Change(_said_axes(layer, x), units=x.units)


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


def _dense(layer: Dense, *xs: Reordered, wanted: Order | None = None) -> Change:
    return Change()  # the rows of its kernel follow the order of its input's units


def _concatenate(layer: Concatenate, *xs: Reordered, wanted: Order | None = None) -> Change | None:
    x = xs[0]
    if all(each.units is None for each in xs):
        return Change(_said_axes(layer, x))
    are_known = all(each.rank == 2 and each.shape[1] is not None for each in xs)
    is_short = sum(1 if each.units is None else len(each.units.parts) for each in xs) <= MAX_PARTS
    return Change(units=Units.joined(xs)) if are_known and is_short and layer.dimension(x) == 1 else None


# -- normalizations, and numbers for each channel ----------------------------------------------------------------------


def _batch_normalization(layer: BatchNormalization, x: Reordered, wanted: Order | None = None) -> Change | None:
    """It normalizes each unit by itself, so its weights follow the order of the units."""
    return Change(_said_axes(layer, x), units=x.units)


def _rescaling(layer: Rescaling, x: Reordered, wanted: Order | None = None) -> Change | None:
    return None if layer.is_per_channel and x.units is not None else _elementwise(layer, x)


def _normalization(layer: Normalization, x: Reordered, wanted: Order | None = None) -> Change | None:
    if x.units is not None and (isinstance(layer.mean, tuple) or isinstance(layer.variance, tuple)):
        return None
    return Change(_said_axes(layer, x), units=x.units)


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
        is_told = len(shape) < 3 or (wanted is None and len(shape) == 3)
        return Change({} if is_told else _axes_said(plain), plain)
    fields = {"target_shape": [layer.target_shape[axis - 1] for axis in wanted[1:]]}
    return Change(
        {**fields, **({} if len(shape) > 3 and wanted == axes.channels_first(len(shape)) else _axes_said(wanted))},
        wanted,
    )


def _axes_said(order: Order) -> dict[str, Any]:
    """The field by which a layer says what the axes of its output, in this order, mean."""
    return {"axes": Reordered((None,) * len(order), "", order=order).meanings}


def _permute(layer: Permute, x: Reordered, wanted: Order | None = None) -> Change:
    order = axes.identity(x.rank) if wanted is None else wanted
    taken = (0, *layer.dims)
    dims = tuple(x.dimension(taken[axis]) for axis in order)
    is_told = x.rank < 3 or order_after(x, dims) == order
    return Change({"dims": [*dims[1:]], **({} if is_told else _axes_said(order))}, order, x.units)


# -- wrappers ----------------------------------------------------------------------------------------------------------


def _wrapped(layer: SpectralNormalization, *xs: Reordered, wanted: Order | None = None) -> Change | None:
    made = change_of(layer.layer, *xs, wanted=wanted)
    return made and Change(order=made.order, units=made.units, nested={"layer": made})


def _each_step(layer: TimeDistributed, x: Reordered, wanted: Order | None = None) -> Change | None:
    made = change_of(layer.layer, step_of(x))
    if made is None or made.units is not None:  # the units of each step
        return None
    return Change(nested={"layer": made})


# -- the answers by kinds and families ---------------------------------------------------------------------------------

CHANGES: dict[type[Layer], Callable[..., Change | None]] = {
    Layer: _by_its_parts,
    Activation: _activation,
    BatchNormalization: _batch_normalization,
    Concatenate: _concatenate,
    Dense: _dense,
    Elementwise: _elementwise,
    FeatureNormalization: _along_axes,
    Flatten: _flatten,
    Matmul: _by_its_parts,
    Normalization: _normalization,
    Normalize: _along_axes,
    Operands: _operands,
    Operator: _operands,  # which is elementwise too
    Permute: _permute,
    Reduction: _reduction,
    Rescaling: _rescaling,
    Reshape: _reshape,
    Shaped: _noise,
    SpectralNormalization: _wrapped,
    TimeDistributed: _each_step,
}
