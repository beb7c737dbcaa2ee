"""Keras as the reference: a row as a Keras layer, and what it computes, on Keras's torch backend."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import keras
import numpy as np
import torch
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from regspec.language.fields import snake_case
from regspec.layers import KINDS
from regspec.layers.families import Spatial

from .operating import Operated, is_operation
from .rows import Row

OWN = {each.__name__: each for each in (LayerScale, StochasticDepth, CustomScaleLayer)}  # of keras.applications
OURS = ("as_on_torch", "moving_variance")  # fields that Keras does not have
CALL_FIELDS = ("reverse", "use_causal_mask", "return_attention_scores")
SEPARATE_INPUTS = ("MultiHeadAttention", "GroupQueryAttention")
RECURRENT = ("RNN", "SimpleRNN", "LSTM", "GRU", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")


def keras_layer(kind: str, fields: dict[str, Any], data_format: str, rank: int = 0) -> keras.layers.Layer:
    """Keras's layer of a kind with a spec's fields; ``rank`` is that of its input."""
    if is_operation(kind, fields):
        penalties = {name: _value(name, fields[name], data_format) for name in fields if name.endswith("_regularizer")}
        return Operated(
            kind, {name: value for name, value in fields.items() if name not in penalties}, data_format, **penalties
        )
    fields = {
        name: _value(name, value, data_format) for name, value in fields.items() if name not in CALL_FIELDS + OURS
    }
    if issubclass(KINDS[kind], Spatial) and kind not in ("Cropping1D", "UpSampling1D", "SpatialDropout1D"):
        fields.setdefault("data_format", data_format)
    if data_format == "channels_first" and kind in ("BatchNormalization", "GroupNormalization"):
        fields.setdefault("axis", 1)
    if data_format == "channels_first" and kind == "Concatenate" and rank > 3:
        fields.setdefault("axis", 1)
    cls = OWN.get(kind, getattr(keras.layers, kind, None))
    assert cls is not None, f"Keras has no {kind}: say has_reference=False in its rows"
    return _frozen_if_said(cls(**fields), fields)


def _frozen_if_said(layer: keras.layers.Layer, fields: dict[str, Any]) -> keras.layers.Layer:
    """The layer; Keras's constructor freezes a layer itself, and not those in it."""
    if fields.get("trainable") is False:
        layer.trainable = False
    return layer


def _value(name: str, value: Any, data_format: str) -> Any:
    if name.endswith("_regularizer") and value is not None:
        return keras.regularizers.L1L2(**value)
    if name in ("activation", "recurrent_activation") and isinstance(value, dict):
        ((function, arguments),) = value.items()
        main = {
            "leaky_relu": "negative_slope",
            "hard_shrink": "threshold",
            "soft_shrink": "threshold",
            "squareplus": "b",
        }
        if not isinstance(arguments, dict):
            arguments = {main.get(function, "axis" if function == "sparsemax" else "alpha"): arguments}
        return partial(getattr(keras.activations, function), **arguments)
    if name in ("activation", "recurrent_activation") and not hasattr(keras.activations, str(value)):
        return value and getattr(keras.ops, value)
    if name in ("layer", "backward_layer") and value is not None:
        ((kind, fields),) = value.items()
        return keras_layer(kind, fields, data_format)
    if name == "cell":
        return cells_of(value)
    if value == "loaded":  # of a Normalization, which has a file's then
        return None
    if isinstance(value, list):
        return tuple(tuple(each) if isinstance(each, list) else each for each in value)
    return value


def cells_of(value: Any) -> Any:
    """Keras's cell of a spec's, or a list of cells, which are called as Keras's files call them."""
    if not isinstance(value, list):
        return _cell(value)
    counts = Counter[str]()
    cells = []
    for each in value:
        name = snake_case(next(iter(each)))
        cells.append(_cell(each, f"{name}_{counts[name]}" if counts[name] else name))
        counts[name] += 1
    return cells


def _cell(value: dict[str, Any], name: str | None = None) -> Any:
    ((kind, fields),) = value.items()
    values = {
        field: cells_of(each) if field == "cells" else _value(field, each, "channels_last")
        for field, each in fields.items()
    }
    return _frozen_if_said(getattr(keras.layers, kind)(**values, name=name), fields)


def states_of(layer: keras.layers.Layer, states: list[torch.Tensor]) -> Any:
    """Initial states in the structure in which a Keras layer takes them."""
    cell = getattr(layer, "cell", None)
    if not isinstance(cell, keras.layers.StackedRNNCells):
        return states
    return keras.tree.pack_sequence_as(cell.get_initial_state(1), states)


def inputs_of(row: Row, seed: int, batch: int = 3) -> list[np.ndarray]:
    """Arrays for the inputs of a row."""
    rng = np.random.default_rng(seed)
    arrays = []
    for shape, dtype in zip(row.shapes, row.types, strict=True):
        if dtype == "bool" or "int" in dtype:
            arrays.append(rng.integers(0, 2 if dtype == "bool" else row.high, size=(batch, *shape)).astype(dtype))
            continue
        numbers = rng.standard_normal((batch, *shape)) if row.span is None else rng.uniform(*row.span, (batch, *shape))
        if row.has_nan:
            numbers[rng.uniform(size=numbers.shape) < 0.2] = np.nan
        arrays.append(numbers.astype("float32"))
    return arrays


def call(layer: keras.layers.Layer, row: Row, inputs: list[torch.Tensor], training: bool) -> list[torch.Tensor]:
    """The outputs of a layer, as a flat list."""
    arguments = {name: row.fields[name] for name in CALL_FIELDS if name in row.fields}
    if layer._call_has_training_arg:
        arguments["training"] = training
    if row.kind in SEPARATE_INPUTS:
        output = layer(*inputs, **arguments)
    elif row.kind in RECURRENT and len(inputs) > 1:
        output = layer(inputs[0], initial_state=states_of(layer, inputs[1:]), **arguments)
    else:
        output = layer(inputs if len(inputs) > 1 else inputs[0], **arguments)
    return list(keras.tree.flatten(output))


def fill(layer: keras.layers.Layer, seed: int) -> None:
    """Gives every weight numbers that no symmetry hides; variances are positive."""
    rng = np.random.default_rng(seed)
    for variable in layer.weights:
        if "count" in variable.name:
            continue
        values = rng.standard_normal(variable.shape) * 0.5
        if "variance" in variable.name:
            values = rng.uniform(0.5, 1.5, variable.shape)
        variable.assign(values.astype("float32"))
