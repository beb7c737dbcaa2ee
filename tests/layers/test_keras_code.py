"""Each row as Keras code: it makes the row's own Keras layer, or is refused with a reason."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import keras
import pytest
import torch

import regspec
from regspec.layers import KINDS
from regspec.layers.kinds import OPERATIONS

from . import reference
from .operating import is_operation, operated
from .row import Row
from .rows import ROWS
from .specs import spec_of, with_penalties

pytestmark = [
    pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`:UserWarning"),  # on purpose
    pytest.mark.filterwarnings("ignore:NotImplemented should not be used:DeprecationWarning"),  # of Keras, in Tensordot
]

NOT_IN_FUNCTIONAL_MODELS = {"Equalization"}  # which gives the symbol of its input there
ONLY_CHANNELS_LAST = {"AutoContrast"}  # which takes the wrong axes of other images, so that these are turned for it
# Which on torch take the last axis of the input for the one that they are told, so that this is put last for them.
ONLY_LAST_AXES = {"LayerNormalization", "RMSNormalization"}
# Fields that may be one number in Keras, and what it stands for, in multiples of it.
FACTORS = {"height_factor": (-1, 1), "brightness_factor": (-1, 1), "contrast_factor": (0, 1)}
NOT_IN_KERAS = {"hard_sigmoid", "rrelu", "softmin", "top_k"}  # functions, of the first its slope


# Operations with fields that no model of Keras can have, or that it forgets.
NOT_IN_OPERATIONS = {"BroadcastTo": ("shape",), "Take": ("batch_dims",), "Quantile": ("method",), "Argmax": ("dtype",),
                     "Argmin": ("dtype",), "Nanquantile": ("method",), "CountNonzero": ("keepdims",)}  # fmt: skip


def is_refused(row: Row) -> bool:
    activation = row.fields.get("activation")
    if is_operation(row.kind, row.fields):
        has_list = isinstance(row.fields.get("repeats"), list) and row.kind == "Repeat"
        return has_list or not row.fields.keys().isdisjoint(NOT_IN_OPERATIONS.get(row.kind, ()))
    return (
        row.kind in NOT_IN_FUNCTIONAL_MODELS
        or not hasattr(keras.layers, row.kind)
        or (row.fields.get("trainable") is False and not KINDS[row.kind].is_frozen_in_keras)
        or "rope_max_wavelength" in row.fields
        or "Embedding" in row.fields.get("layer", {})  # by SpectralNormalization, whose numbers Keras cuts there
        or (isinstance(activation, dict) and not NOT_IN_KERAS.isdisjoint(activation))
        or activation == "softmin"
    )


@pytest.mark.parametrize("kind", sorted({row.kind for row in ROWS}))
def test_a_kind_says_whether_keras_has_it(kind: str) -> None:
    has_layer = kind not in OPERATIONS and hasattr(keras.layers, kind)
    assert KINDS[kind].is_in_keras == has_layer, f"set is_in_keras = {has_layer} in the class {kind}"


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_rows(row: Row) -> None:
    fields = row.fields if is_operation(row.kind, row.fields) else with_penalties(row)
    spec = spec_of(row, fields)
    if is_refused(row):
        with pytest.raises(regspec.RegspecError, match="Keras"):
            regspec.source(spec, target="keras")
        return
    model = made(regspec.source(spec, target="keras"))
    if is_operation(row.kind, fields):
        inputs = [torch.as_tensor(x) for x in reference.inputs_of(row, 0)]
        wanted = keras.tree.flatten(operated(row.kind, fields, inputs, row.data_format)) if row.has_reference else []
        got = keras.tree.flatten(model(inputs if len(inputs) > 1 else inputs[0])) if row.has_reference else []
        torch.testing.assert_close(got, wanted[: len(got)], equal_nan=True, check_dtype=False)
        return
    printed = model.get_layer("layer")
    data_format = "channels_last" if row.kind in ONLY_CHANNELS_LAST else row.data_format
    if row.kind in ONLY_LAST_AXES and fields.get("axis") in (1, 2):
        fields["axis"] = -1
    wanted = reference.keras_layer(row.kind, fields, data_format, len(row.shapes[0]) + 1)
    inputs = [keras.Input(shape, dtype=dtype) for shape, dtype in zip(row.shapes, row.types, strict=True)]
    reference.call(wanted, row, inputs, training=False)
    assert config_of(printed, row) == config_of(wanted, row)


def made(source: str) -> keras.Model:
    """The model that the last function of a source makes."""
    names: dict[str, Any] = {}
    exec(source, names)
    model: keras.Model = [value for name, value in names.items() if name.startswith("make_")][-1]()
    return model


def config_of(layer: keras.layers.Layer, row: Row) -> Any:
    """What makes a layer again, as plain data; with its function's arguments, which Keras can't write."""
    function = getattr(layer, "activation", None)
    arguments = None
    if isinstance(function, partial):
        layer.activation = function.func
    if callable(function) and not isinstance(function, keras.layers.Layer):
        bound = inspect.signature(function).bind(None)
        bound.apply_defaults()
        arguments = bound.arguments
    try:
        config = keras.saving.serialize_keras_object(layer)
    except NotImplementedError:  # Keras writes no config of ELU and Identity with a regularizer
        penalty = layer.activity_regularizer.get_config()
        config = {"kind": type(layer).__name__, "alpha": getattr(layer, "alpha", None), "penalty": penalty}
    return plain(config, len(row.shapes[0]) + 1), arguments


def plain(value: Any, rank: int) -> Any:
    """A config without names and seeds, and with numbers and axes said in one way."""
    if not isinstance(value, dict):
        return [plain(each, rank) for each in value] if isinstance(value, (list, tuple)) else value
    found = {key: plain(each, rank) for key, each in value.items() if key not in ("name", "build_config", "seed")}
    for name, factors in FACTORS.items():
        if isinstance(found.get(name), float):
            found[name] = [found[name] * factor for factor in factors]
    for name in found.keys() & {"axis", "axes"}:
        axes = found[name] if isinstance(found[name], list) else [found[name]]
        found[name] = axes if None in axes else sorted({axis % rank for axis in axes})
    return found
