"""Rows for which Keras's torch backend is no reference: computed here by hand, or by another part of Keras."""

from __future__ import annotations

from unittest import mock

import keras
import numpy as np
import pytest
import torch

import regspec

from .operating import is_operation
from .rows import ROWS, Row
from .specs import spec_of


def by_hand(row: Row, x: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    """What a row should give for an input that lies as Keras's does."""
    if row.kind.startswith("AveragePooling"):
        return average_pooling(row, x)
    if row.kind in ("LayerNormalization", "RMSNormalization"):
        axis = row.fields["axis"]
        shape = [x.shape[axis] if each == axis else 1 for each in range(x.ndim)]
        weight = model.layer.weight.reshape(shape)
        if row.kind == "RMSNormalization":
            return x / (x.square().mean(axis, keepdim=True) + 1e-6).sqrt() * weight
        if row.fields.get("rms_scaling"):
            return x / (x.var(axis, correction=0, keepdim=True) + 1e-3).sqrt() * weight
        centred = x - x.mean(axis, keepdim=True)
        scaled = centred / (centred.square().mean(axis, keepdim=True) + 1e-3).sqrt()
        return scaled * weight + model.layer.bias.reshape(shape)
    if row.kind in ("UpSampling2D", "Resizing"):
        return resized(row, x)
    if row.kind.startswith("LocallyConnected"):
        return locally_connected(row, x, model)
    if row.kind == "Activation":
        return torch.minimum(torch.maximum(row.fields["activation"]["hard_sigmoid"] * x + 0.5, 0 * x), 0 * x + 1)
    if row.kind == "AutoContrast":
        return keras.layers.AutoContrast(**row.fields)(x)
    if row.kind == "ContrastLimitedAdaptiveHistogramEqualization":
        return equalized(row, x)
    assert row.kind == "SpectralNormalization"
    return model.layer.layer.weight[x]


def average_pooling(row: Row, x: torch.Tensor) -> torch.Tensor:
    """The mean of the cells that lie in each window, as TensorFlow's, with uneven padding."""
    sizes = x.shape[1:-1]
    window = row.fields["pool_size"]
    window = window if isinstance(window, list) else [window] * len(sizes)
    stride = row.fields["strides"]
    counts = [-(-size // stride) for size in sizes]
    befores = [
        max((count - 1) * stride + span - size, 0) // 2 for size, span, count in zip(sizes, window, counts, strict=True)
    ]
    output = x.new_empty(len(x), *counts, x.shape[-1])
    for place in np.ndindex(*counts):
        starts = [index * stride - before for index, before in zip(place, befores, strict=True)]
        cells = tuple(slice(max(start, 0), start + span) for start, span in zip(starts, window, strict=True))
        output[(slice(None), *place)] = x[(slice(None), *cells)].flatten(1, -2).mean(1)
    return output


def locally_connected(row: Row, x: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    """Window by window; the cells of a window are counted along its axes, and the channels before them or after."""
    rank = x.ndim - 2
    window, strides = (row.fields.get(field, 1) for field in ("kernel_size", "strides"))
    window, strides = ([each] * rank if isinstance(each, int) else each for each in (window, strides))
    moves = zip(x.shape[1:-1], window, strides, strict=True)
    counts = [(size - span) // step + 1 for size, span, step in moves]
    output = x.new_empty(len(x), *counts, row.fields["filters"])
    layer = model.layer
    for number, place in enumerate(np.ndindex(*counts)):
        cells = tuple(slice(i * step, i * step + span) for i, step, span in zip(place, strides, window, strict=True))
        patch = x[(slice(None), *cells)]
        patch = patch.movedim(-1, 1) if row.data_format == "channels_first" else patch
        bias = 0.0 if layer.bias is None else layer.bias[(slice(None), *place)]
        output[(slice(None), *place)] = patch.flatten(1) @ layer.weight[number] + bias
    return output.relu() if "activation" in row.fields else output


def resized(row: Row, x: torch.Tensor) -> torch.Tensor:
    """Keras's own scale_and_translate has TensorFlow's kernels, unlike its resize on torch."""
    height, width = x.shape[1:3]
    if row.kind == "Resizing":
        size = (row.fields["height"], row.fields["width"])
    else:
        factor = row.fields.get("size", 2)
        factor = factor if isinstance(factor, list) else [factor, factor]
        size = (height * factor[0], width * factor[1])
    scale = keras.ops.convert_to_tensor([size[0] / height, size[1] / width])
    shift = keras.ops.convert_to_tensor([0.0, 0.0])
    shape = (len(x), *size, x.shape[-1])
    return keras.ops.image.scale_and_translate(
        x, shape, scale, shift, (1, 2), row.fields["interpolation"], antialias=row.fields.get("antialias", False)
    )


def equalized(row: Row, x: torch.Tensor) -> torch.Tensor:
    """Keras's own layer, with floating-point counts and symmetric padding, as its other backends have them."""
    layer = keras.layers.ContrastLimitedAdaptiveHistogramEqualization(**row.fields)
    nn, numpy, counts = layer.backend.nn, layer.backend.numpy, layer.backend.nn.one_hot
    with (
        mock.patch.object(nn, "one_hot", lambda *arguments: counts(*arguments).float()),
        mock.patch.object(numpy, "pad", lambda x, width, mode: torch.as_tensor(np.pad(x.numpy(), width, mode))),
    ):
        return layer(x)


WITHOUT = [row for row in ROWS if not row.has_reference and not is_operation(row.kind, row.fields)]


@pytest.mark.parametrize("row", WITHOUT, ids=[row.id for row in WITHOUT])
def test_closed_form(row: Row) -> None:
    model = regspec.build(spec_of(row, row.fields), seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    shape = row.shapes[0]
    is_first = row.data_format == "channels_first"
    last = (3, *shape[1:], shape[0]) if is_first else (3, *shape)
    x = torch.randint(0, row.high, last) if "int" in row.dtype else torch.randn(last)
    output = model(x.movedim(-1, 1) if is_first else x)
    output = output.movedim(1, -1) if is_first else output
    torch.testing.assert_close(output, by_hand(row, x, model), rtol=1e-4, atol=1e-4)


def test_spectral_normalization_of_an_embedding() -> None:
    """In training the table is divided by its estimated largest singular value, which many steps make exact."""
    (row,) = (row for row in WITHOUT if row.kind == "SpectralNormalization")
    model = regspec.build(spec_of(row, {**row.fields, "power_iterations": 100}), seed=0)
    table = model.layer.layer.weight.detach().clone()
    tokens = torch.randint(0, 5, (3, 6))
    output = model(tokens)
    torch.testing.assert_close(output, (table / torch.linalg.matrix_norm(table, 2))[tokens], rtol=1e-4, atol=1e-5)


def test_batch_normalization_keeps_the_biased_variance() -> None:
    """Keras's moving variance takes the batch's biased variance; torch's takes the unbiased one."""
    spec = regspec.loads("{regspec: 1, inputs: {x: {shape: [4]}}, layers: [{BatchNormalization: {momentum: 0.8}}]}")
    model = regspec.build(spec)
    layer = keras.layers.BatchNormalization(momentum=0.8)
    for _ in range(3):
        x = torch.randn(5, 4)
        model(x)
        layer(x, training=True)
    norm = model.batch_normalization
    torch.testing.assert_close(norm.running_var, layer.moving_variance.value.detach())
    torch.testing.assert_close(norm.running_mean, layer.moving_mean.value.detach())


def test_batch_renormalization_keeps_its_statistics() -> None:
    """Over several steps, in which each correction follows from the steps before."""
    fields = "{renorm: true, momentum: 0.8, renorm_momentum: 0.7, renorm_clipping: {rmax: 1.3, dmax: 0.5}}"
    spec = regspec.loads(f"{{regspec: 1, inputs: {{x: {{shape: [4]}}}}, layers: [{{BatchNormalization: {fields}}}]}}")
    model = regspec.build(spec)
    clipping = {"rmax": 1.3, "dmax": 0.5}
    layer = keras.layers.BatchNormalization(momentum=0.8, renorm=True, renorm_momentum=0.7, renorm_clipping=clipping)
    for step in range(4):
        x = torch.randn(5, 4) * (step + 1) + step
        torch.testing.assert_close(model(x), layer(x, training=True))
    norm = model.batch_normalization
    for name, variable in (
        ("running_mean", layer.moving_mean),
        ("running_var", layer.moving_variance),
        ("moving_stddev", layer.moving_stddev),
        ("renorm_mean", layer.renorm_mean),
        ("renorm_stddev", layer.renorm_stddev),
    ):
        torch.testing.assert_close(getattr(norm, name), variable.value.detach())
    torch.testing.assert_close(model.eval()(x), layer(x, training=False))


@pytest.mark.parametrize(
    "layer",
    ["Dense: {units: 4}", "Conv2D: {filters: 2, kernel_size: 2, data_format: channels_last}", "Activation: relu"],
)
def test_activity_inside_a_time_distributed_layer(layer: str) -> None:
    """The layer's batch is the steps of all sequences: its penalty is divided by their number, the wrapper's is not."""
    inner = layer.rstrip("}") + ", activity_regularizer: {l1: 0.5}}" if "{" in layer else None
    inner = inner or "Activation: {activation: relu, activity_regularizer: {l1: 0.5}}"
    spec = regspec.loads(
        f"""
        regspec: 1
        inputs: {{x: {{shape: [7, 3, 4, 5]}}}}
        layers:
          - TimeDistributed: {{name: steps, layer: {{{inner}}}, activity_regularizer: {{l2: 0.3}}}}
        """
    )
    model = regspec.build(spec, seed=0)
    output = model(torch.randn(3, 7, 3, 4, 5))
    terms = model.regularization_terms()
    torch.testing.assert_close(terms["steps.layer.activity"], 0.5 * output.abs().sum() / 21)
    torch.testing.assert_close(terms["steps.activity"], 0.3 * output.square().sum() / 3)


def test_recurrent_dropout_is_one_mask_a_sequence() -> None:
    """Of an input that is constant over time, all steps of a sequence are projected alike."""
    spec = regspec.loads(
        """
        regspec: 1
        inputs: {x: {shape: [6, 8]}}
        layers:
          - SimpleRNN:
              name: rnn
              units: 5
              dropout: 0.5
              activation: linear
              return_sequences: true
              recurrent_initializer: zeros
        """
    )
    output = regspec.build(spec, seed=0)(torch.ones(4, 6, 8))
    torch.testing.assert_close(output, output[:, :1].expand_as(output))
    assert not torch.allclose(output[0, 0], output[1, 0])
