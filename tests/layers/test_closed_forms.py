"""Rows for which Keras's torch backend is no reference: computed here by hand, or by another part of Keras."""

from __future__ import annotations

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
        centred = x - x.mean(axis, keepdim=True)
        scaled = centred / (centred.square().mean(axis, keepdim=True) + 1e-3).sqrt()
        return scaled * weight + model.layer.bias.reshape(shape)
    if row.kind in ("UpSampling2D", "Resizing"):
        return resized(row, x)
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
        x, shape, scale, shift, (1, 2), row.fields["interpolation"], antialias=False
    )


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
