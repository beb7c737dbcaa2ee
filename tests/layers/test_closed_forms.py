"""Rows for which Keras's torch backend is no reference: computed here by hand, or by another part of Keras."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import keras
import numpy as np
import pytest
import torch
from torch import Tensor

import regspec

from . import reference
from .operating import is_operation
from .rows import ROWS, Row
from .specs import document_of, spec_of

Formula = Callable[..., Tensor]  # of a row, its model and its inputs, with channels last; it changes none in place
FORMULAS: dict[str, Formula] = {}  # what a row of each kind should give


def formula(*kinds: str) -> Callable[[Formula], Formula]:
    """Adds a function to the formulas, for these kinds; a decorator."""

    def add(function: Formula) -> Formula:
        FORMULAS.update(dict.fromkeys(kinds, function))
        return function

    return add


@formula("LayerScale")
def layer_scale(row: Row, model: Any, x: Tensor) -> Tensor:
    return x * along(row.fields["axis"], model.layer.weight, x)


@formula("Parameter")
def parameter(row: Row, model: Any, x: Tensor) -> Tensor:
    return torch.stack([model.layer.weight] * len(x))


@formula("ClassToken")
def class_token(row: Row, model: Any, x: Tensor) -> Tensor:
    return torch.stack([torch.stack([model.layer.weight, *steps]) for steps in x])


@formula("PositionEmbedding")
def position_embedding(row: Row, model: Any, x: Tensor) -> Tensor:
    return torch.stack([x[:, step] + model.layer.weight[step] for step in range(x.shape[1])], dim=1)


@formula("SinePositionEncoding")
def sine_position_encoding(row: Row, model: Any, x: Tensor) -> Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos(pos / 10000^(2i/d))."""
    waves = torch.empty(x.shape[1:])
    for step, feature in np.ndindex(*waves.shape):
        angle = step / row.fields.get("max_wavelength", 10000) ** (feature // 2 * 2 / x.shape[2])
        waves[step, feature] = math.cos(angle) if feature % 2 else math.sin(angle)
    return x + waves


@formula("MultiHeadAttention", "GroupQueryAttention")
def rotated_attention(row: Row, model: Any, query: Tensor, value: Tensor) -> Tensor:
    """Of complex numbers: feature i of a head and feature i + size / 2 are one, times e^(i * step * angle)."""
    layer, fields = model.layer, row.fields
    size = fields.get("key_dim") or fields["head_dim"]
    angles = fields["rope_max_wavelength"] ** (-2 * torch.arange(size // 2) / size)

    def rotated(x: Tensor, projection: Any) -> Tensor:
        halves = projection(x).unflatten(-1, (-1, 2, size // 2))  # (batch, steps, heads, 2, pairs)
        turns = torch.arange(x.shape[1])[:, None, None] * angles
        return torch.complex(halves[..., 0, :], halves[..., 1, :]) * torch.polar(torch.ones_like(turns), turns)

    queries, keys = rotated(query, layer.query), rotated(value, layer.key)
    values = layer.value(value).unflatten(-1, (keys.shape[2], -1))
    heads = []
    for head in range(queries.shape[2]):
        own = head * keys.shape[2] // queries.shape[2]
        scores = (queries[:, :, None, head] * keys[:, None, :, own].conj()).real.sum(-1) / size**0.5
        if fields.get("use_causal_mask"):
            scores = scores + torch.full_like(scores, -torch.inf).triu(1)
        heads.append(scores.softmax(-1) @ values[:, :, own])
    output: Tensor = layer.output(torch.cat(heads, dim=-1))
    return output


@formula("Sampling")
def sampling(row: Row, model: Any, mean: Tensor, log_var: Tensor) -> Tensor:
    """In evaluation; the samples, and the penalty of both inputs, are in `test_sampling`."""
    return mean + 0 * log_var


@formula("LayerNormalization")
def layer_normalization(row: Row, model: Any, x: Tensor) -> Tensor:
    axis = row.fields["axis"]
    if row.fields.get("rms_scaling"):
        return x / (x.var(axis, correction=0, keepdim=True) + 1e-3).sqrt() * along(axis, model.layer.weight, x)
    centred = x - x.mean(axis, keepdim=True)
    scaled = centred / (centred.square().mean(axis, keepdim=True) + 1e-3).sqrt()
    return scaled * along(axis, model.layer.weight, x) + along(axis, model.layer.bias, x)


@formula("BatchNormalization")
def batch_normalization(row: Row, model: Any, x: Tensor) -> Tensor:
    """In evaluation, of moving averages that are as they began: 0 and 1."""
    layer, axis = model.layer, row.fields.get("axis", -1) % x.ndim
    output = x / (1 + row.fields.get("epsilon", 1e-3)) ** 0.5
    output = output if layer.weight is None else output * along(axis, layer.weight, x)
    return output if layer.bias is None else output + along(axis, layer.bias, x)


@formula("RMSNormalization")
def rms_normalization(row: Row, model: Any, x: Tensor) -> Tensor:
    axis = row.fields["axis"]
    return x / (x.square().mean(axis, keepdim=True) + 1e-6).sqrt() * along(axis, model.layer.weight, x)


def along(axis: int, weight: Tensor, x: Tensor) -> Tensor:
    """A weight with a number for each place along an axis, so that it can be multiplied with ``x``."""
    return weight.reshape([-1 if each == axis else 1 for each in range(x.ndim)])


@formula("Activation")
def activation(row: Row, model: Any, x: Tensor) -> Tensor:
    function = row.fields["activation"]
    name, argument = (function, None) if isinstance(function, str) else next(iter(function.items()))
    return ACTIVATIONS[name](x, argument["axis"] if name == "softmin" and argument else argument)


def top_k(x: Tensor, argument: Any) -> Tensor:
    k, axis = (argument["k"], argument["axis"]) if isinstance(argument, dict) else (argument, -1)
    rank = x.argsort(axis, descending=True).argsort(axis)
    return x * (rank < k)


def softmin(x: Tensor, axis: int | None) -> Tensor:
    powers = torch.exp(-x)
    return powers / powers.sum(-1 if axis is None else axis, keepdim=True)


ACTIVATIONS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "hard_sigmoid": lambda x, slope: torch.minimum(torch.maximum(slope * x + 0.5, 0 * x), 0 * x + 1),
    "rrelu": lambda x, slopes: torch.where(x > 0, x, (1 / 8 + slopes["upper"]) / 2 * x),
    "softmin": softmin,
    "top_k": top_k,
}


class Jump(torch.autograd.Function):
    """Equations 3 and 11 of Rajamanoharan et al. (2024), https://arxiv.org/abs/2407.14435."""

    # mypy is told to pass over both signatures: torch's own take anything

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, threshold)
        ctx.bandwidth = bandwidth
        return x * (x > threshold)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:  # type: ignore[override]
        x, threshold = ctx.saved_tensors
        kernel = ((x - threshold) / ctx.bandwidth).abs() < 0.5
        of_threshold = (-threshold / ctx.bandwidth * kernel * slope).sum(tuple(range(x.ndim - 1)))
        return slope * (x > threshold), of_threshold, None


@formula("JumpReLU")
def jump_relu(row: Row, model: Any, x: Tensor) -> Tensor:
    output: Tensor = Jump.apply(x, model.layer.threshold, row.fields["bandwidth"])
    return output


def in_order(row: Row, weight: Tensor) -> Tensor:
    """A weight of the shape of an example, some of whose axes are one, with channels last."""
    sizes = [1 if axis in row.fields.get("shared_axes", ()) else size for axis, size in enumerate(row.shapes[0], 1)]
    return weight if [*weight.shape] == sizes else weight.movedim(0, -1)


@formula("SReLU")
def s_relu(row: Row, model: Any, x: Tensor) -> Tensor:
    """By cases, of the layer's docstring in Keras 1.2."""
    names = ("t_left", "a_left", "t_right", "a_right")
    left, below, width, above = (in_order(row, getattr(model.layer, name)) for name in names)
    right = left + width.abs()
    upper = torch.where(x >= right, right + above * (x - right), x)
    return torch.where(x <= left, left + below * (x - left), upper)


@formula("ParametricSoftplus")
def parametric_softplus(row: Row, model: Any, x: Tensor) -> Tensor:
    alpha, beta = in_order(row, model.layer.alpha), in_order(row, model.layer.beta)
    return alpha * torch.log(1 + torch.exp(beta * x))


@formula("AutoContrast")
def auto_contrast(row: Row, model: Any, x: Tensor) -> Tensor:
    """Keras's own layer, which takes the wrong axes of images with channels first alone."""
    output: Tensor = keras.layers.AutoContrast(**row.fields)(x)
    return output


@formula("SpectralNormalization")
def embedding_in_evaluation(row: Row, model: Any, x: Tensor) -> Tensor:
    table: Tensor = model.layer.layer.weight
    return table[x]


@formula("AveragePooling1D", "AveragePooling2D", "AveragePooling3D")
def average_pooling(row: Row, model: Any, x: Tensor) -> Tensor:
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


@formula("LocallyConnected1D", "LocallyConnected2D")
def locally_connected(row: Row, model: Any, x: Tensor) -> Tensor:
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


@formula("UpSampling2D", "Resizing")
def resized(row: Row, model: Any, x: Tensor) -> Tensor:
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


@formula("ContrastLimitedAdaptiveHistogramEqualization")
def equalized(row: Row, model: Any, x: Tensor) -> Tensor:
    """Keras's own layer, with floating-point counts and symmetric padding, as its other backends have them."""
    layer = keras.layers.ContrastLimitedAdaptiveHistogramEqualization(**row.fields)
    nn, numpy, counts = layer.backend.nn, layer.backend.numpy, layer.backend.nn.one_hot
    with (
        mock.patch.object(nn, "one_hot", lambda *arguments: counts(*arguments).float()),
        mock.patch.object(numpy, "pad", padded),
    ):
        output: Tensor = layer(x)
        return output


def padded(x: Tensor, width: Any, mode: Any) -> Tensor:
    """As NumPy pads, with a gradient: the places are padded, and then read."""
    places = np.pad(np.arange(x.numel()).reshape(x.shape), width, mode)
    return x.flatten()[torch.as_tensor(places)]


WITHOUT = [row for row in ROWS if not row.has_reference and not is_operation(row.kind, row.fields)]


def is_permutable(row: Row) -> bool:
    """Whether its inputs may come in another order of axes: those of images or sequences with channels last."""
    is_plain = row.data_format == "channels_last" and {*row.types} == {"float32"}
    return is_plain and all(1 < len(shape) < 5 for shape in row.shapes)


CASES = [
    *(pytest.param(row, False, id=row.id) for row in WITHOUT),
    *(pytest.param(row, True, id=f"{row.id}-behind-poolings") for row in WITHOUT if is_permutable(row)),
]


@pytest.mark.parametrize(("row", "is_behind"), CASES)
def test_closed_form(row: Row, is_behind: bool) -> None:
    """The output, a penalty on it, and the gradients of both; also behind poolings, which give channels first.

    Poolings over one cell change nothing but the order of axes. A layer finds Keras's axis by ``x.dimension(axis)``.
    """
    assert row.kind in FORMULAS, f"add the formula of {row.kind} to FORMULAS in tests/layers/test_closed_forms.py"
    fields = {**row.fields, "activity_regularizer": {"l1": 0.3, "l2": 0.2}}
    model = regspec.build((behind_poolings if is_behind else document_of)(row, fields), seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    is_first = row.data_format == "channels_first"
    xs = [torch.as_tensor(x) for x in reference.inputs_of(row, seed=0)]
    for x in xs:
        x.requires_grad_(row.has_gradient and x.is_floating_point())
    output = model(*xs)
    output = output.movedim(1, -1) if is_first else output
    wanted = FORMULAS[row.kind](row, model, *(x.movedim(1, -1) if is_first else x for x in xs))
    torch.testing.assert_close(output, wanted, rtol=1e-4, atol=1e-4)
    penalty = (0.3 * wanted.abs().sum() + 0.2 * wanted.square().sum()) / 3
    torch.testing.assert_close(model.regularization_loss(), penalty, rtol=1e-4, atol=1e-4)
    sources = [x for x in (*xs, *model.parameters()) if x.requires_grad]
    assert output.requires_grad == wanted.requires_grad
    if wanted.requires_grad:
        direction = torch.randn_like(wanted)
        got = torch.autograd.grad((output * direction).sum() + model.regularization_loss(), sources)
        gradients = torch.autograd.grad((wanted * direction).sum() + penalty, sources)
        torch.testing.assert_close(got, gradients, rtol=1e-3, atol=1e-3)


def behind_poolings(row: Row, fields: dict[str, Any]) -> dict[str, Any]:
    """The spec of a row, with a pooling over one cell behind each of its inputs."""
    document = document_of(row, fields)
    poolings = [
        {f"MaxPooling{len(shape) - 1}D": {"name": f"pooled_{place}", "inputs": name, "pool_size": 1}}
        for place, (name, shape) in enumerate(zip(document["inputs"], row.shapes, strict=True))
    ]
    layer = {**fields, "name": "layer", "inputs": [f"pooled_{place}" for place in range(len(poolings))]}
    return {**document, "layers": [*poolings, {row.kind: layer}]}


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
    fields = "{momentum: 0.8, moving_variance: biased}"
    spec = regspec.loads(f"{{regspec: 1, inputs: {{x: {{shape: [4]}}}}, layers: [{{BatchNormalization: {fields}}}]}}")
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
        inputs: {{x: {{shape: [7, 3, 4, 5], axes: [steps, height, width, channels]}}}}
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
