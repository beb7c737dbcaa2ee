"""Training in half precision and under autocast: statistics are those of single precision, types are kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import regspec
from regspec.layers.kinds import OPERATIONS

from .layers import reference
from .layers.rows import ROWS, Row
from .layers.specs import built, outputs_of, spec_of

HALF = [torch.float16, torch.bfloat16]
STEPS = "Masking, {BatchNormalization: {name: bn, momentum: 0.8%s}}"
# Layers after an input (batch, 7, 5), and the axes over which a normalization's statistics go.
MASKED = {
    "features": (STEPS, (0, 1)),
    "steps": (STEPS.replace("momentum", "axis: 1, momentum"), (0, 2)),
}
FIELDS = ["", ", moving_variance: biased", ", scale: false", ", center: false", ", scale: false, center: false"]


def of(layers: str, dtype: torch.dtype = torch.float32, shape: str = "[7, 5]") -> Any:
    spec = regspec.loads(f"{{regspec: 1, inputs: {{x: {{shape: {shape}}}}}, layers: [{layers}]}}")
    return regspec.build(spec, seed=0, dtype=dtype)


def sequences(dtype: torch.dtype) -> Tensor:
    """Whose squares are beyond float16, and of which some have fewer steps."""
    x = (torch.randn(4, 7, 5) * 250 + 100).to(dtype)
    x[0, 5:] = x[2, 1:] = 0
    return x


def unmasked(x: Tensor, axes: tuple[int, int], *, is_biased: bool) -> tuple[Tensor, Tensor, Tensor]:
    """By the formulas, in double precision: the normalized input, and the moved mean and variance."""
    x, kept = x.double(), x.any(-1, keepdim=True).expand_as(x)
    number = kept.sum(axes, keepdim=True)
    mean = (x * kept).sum(axes, keepdim=True) / number
    squares = ((x - mean).square() * kept).sum(axes, keepdim=True)
    output = (x - mean) / (squares / number + 1e-3).sqrt()
    moved = squares / (number if is_biased else number - 1)
    return output, 0.2 * mean.flatten(), 0.8 + 0.2 * moved.flatten()


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("fields", FIELDS)
@pytest.mark.parametrize("name", MASKED)
def test_normalization_of_unmasked_steps(name: str, fields: str, dtype: torch.dtype) -> None:
    layers, axes = MASKED[name]
    model, x = of(layers % fields, dtype), sequences(dtype).requires_grad_()
    y = model(x)
    output, mean, variance = unmasked(x.detach(), axes, is_biased="biased" in fields)
    assert y.dtype is model.bn.running_mean.dtype is dtype
    torch.testing.assert_close(y, output.to(dtype))
    torch.testing.assert_close(model.bn.running_mean, mean.to(dtype))
    torch.testing.assert_close(model.bn.running_var, variance.to(dtype))
    y.sum().backward()
    assert x.grad is not None
    assert all(each.grad.isfinite().all() for each in (x, *model.parameters()))


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_normalization_of_each_step(dtype: torch.dtype) -> None:
    """As Keras does it, one call after the other."""
    model = of("Masking, {TimeDistributed: {name: bn, layer: {BatchNormalization: {momentum: 0.8}}}}", dtype)
    x = sequences(dtype) / 250
    y, moving = model(x), torch.zeros(5, dtype=torch.float64)
    for step in range(7):
        output, mean, _ = unmasked(x[:, step : step + 1], (0, 1), is_biased=False)
        torch.testing.assert_close(y[:, step : step + 1], output.to(dtype))
        moving = 0.8 * moving + mean
    torch.testing.assert_close(model.bn.running_mean, moving.to(dtype), rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_layer_s_own_type(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    model, x = of(STEPS % f", dtype: {name}"), sequences(dtype).float()
    y = model(x)
    assert y.dtype is dtype
    torch.testing.assert_close(y, unmasked(x, (0, 1), is_biased=False)[0].to(dtype))


def test_double_precision() -> None:
    """How many steps there are is counted in double, too: with the 1e-7 that Keras adds."""
    model, x = of(STEPS % "", torch.float64), sequences(torch.float64)
    model(x)
    kept = x[x.any(-1)]
    mean = 0.2 * kept.sum(0) / (len(kept) + 1e-7)
    torch.testing.assert_close(model.bn.running_mean, mean, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("mask", "fields"), [("", ""), ("Masking, ", ""), ("", ", renorm: true")])
def test_normalization_under_autocast(mask: str, fields: str) -> None:
    """The statistics are float32, the input bfloat16, and so is the output, as of torch's own."""
    layers = f"{mask}{{Dense: {{name: dense, units: 6}}}}, {{BatchNormalization: {{name: bn, momentum: 0.8{fields}}}}}"
    model, x = of(layers), sequences(torch.float32) / 250
    with torch.autocast("cpu", torch.bfloat16):
        h, y = model.dense(x), model(x)
    assert h.dtype is y.dtype is torch.bfloat16
    assert model.bn.running_mean.dtype is torch.float32
    kept = h.double()[x.any(-1)] if mask else h.double().flatten(0, 1)
    torch.testing.assert_close(model.bn.running_mean, 0.2 * kept.mean(0).float())
    y.sum().backward()
    assert all(each.grad.isfinite().all() for each in model.parameters())


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_renorm(dtype: torch.dtype) -> None:
    """At the start the corrections undo the batch's normalization: the moving mean is 0, the deviation 1."""
    model = of("{BatchNormalization: {name: bn, renorm: true, momentum: 0.8, renorm_momentum: 0.6}}", dtype)
    for name, value in (("moving_stddev", 1.0), ("renorm_mean", 0.0), ("renorm_stddev", 1.0)):
        getattr(model.bn, name).fill_(value)
    x = (torch.randn(4, 7, 5) * 3 + 2).to(dtype)
    y = model(x)
    assert y.dtype is dtype
    torch.testing.assert_close(y, x, rtol=1e-2, atol=1e-2)
    flat = x.double().flatten(0, 1)
    deviation = (flat.var(0, correction=0) + 1e-3).sqrt()
    torch.testing.assert_close(model.bn.renorm_mean, (0.4 * flat.mean(0)).to(dtype))
    torch.testing.assert_close(model.bn.renorm_stddev, (0.6 + 0.4 * deviation).to(dtype))
    torch.testing.assert_close(model.bn.running_mean, (0.2 * flat.mean(0)).to(dtype))
    stddev = 0.8 + 0.2 * deviation
    torch.testing.assert_close(model.bn.moving_stddev, stddev.to(dtype))
    torch.testing.assert_close(model.bn.running_var, (stddev.square() - 1e-3).to(dtype), rtol=1e-2, atol=1e-3)


# Kinds, and what they give in single precision under autocast, as torch's own do.
SINGLE = {
    **dict.fromkeys(("Embedding", "ReversibleEmbedding", "Parameter"), "learned numbers, of the type of their table"),
    **dict.fromkeys(("CategoryEncoding", "Discretization"), "counts of whole numbers"),
    **dict.fromkeys(("Rescaling", "Normalization"), "numbers as they are given, which are not under autocast yet"),
}
KEPT: dict[str, list[tuple[int, Row]]] = {}
for _index, _row in enumerate(ROWS):
    # in single precision are on the CPU poolings over three axes and products over one, and sums with another type
    by_torch = _row.kind.endswith("Pooling3D") or _row.fields.get("merge_mode") == "mul"
    of_table = _row.kind == "SpectralNormalization" and "Embedding" in _row.fields["layer"]
    is_mixed = bool({"x1", "x2"} & {*_row.fields} or _row.dtypes)
    if _row.kind not in {*SINGLE, *OPERATIONS} and not (by_torch or of_table or is_mixed):
        KEPT.setdefault(_row.kind, []).append((_index, _row))


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch's RMSNorm is slower
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KEPT)
def test_types_under_autocast(kind: str, training: bool) -> None:
    """What is learned is float32, the input bfloat16, and so is the output, as of a Linear."""
    for index, row in KEPT[kind]:
        model = built(spec_of(row, row.fields)).train(training)
        xs = [torch.as_tensor(x) for x in reference.inputs_of(row, index)]
        half = [x.bfloat16() if x.is_floating_point() else x for x in xs]
        with torch.autocast("cpu", torch.bfloat16):
            found = outputs_of(model(*half))
        for y, wanted in zip(found, outputs_of(model(*xs)), strict=True):
            assert y.dtype is (torch.bfloat16 if wanted.is_floating_point() else wanted.dtype), row


LEARNED = {
    "JumpReLU": "{JumpReLU: {bandwidth: 2.0, threshold_initializer: {constant: 0.5}}}",
    "PReLU": "{PReLU: {alpha_initializer: {constant: 0.25}}}",
    "LayerScale": "{LayerScale: {init_values: 0.5, projection_dim: 5}}",
    "ClassToken": "ClassToken",
    "PositionEmbedding": "{PositionEmbedding: {sequence_length: 9}}",
    "EinsumDense": "{EinsumDense: {equation: 'abc,cd->abd', output_shape: [null, 3], bias_axes: d}}",
    "LocallyConnected1D": "{LocallyConnected1D: {filters: 4, kernel_size: 3}}",
    "LayerNormalization": "{LayerNormalization: {rms_scaling: true}}",
    "GroupNormalization, a scale": "{GroupNormalization: {groups: 5, center: false}}",
    "GroupNormalization, a shift": "{GroupNormalization: {groups: 5, scale: false}}",
}


@pytest.mark.parametrize("name", LEARNED)
def test_gradients_under_autocast(name: str) -> None:
    """Those of single precision, to the precision of bfloat16: outputs, and the gradients of what is learned."""
    model, x = of(LEARNED[name]), torch.randn(64, 7, 5).bfloat16().float()
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = model(x.bfloat16() if enabled else x)
        factors = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).bfloat16()
        found.append((y.detach().float(), *torch.autograd.grad((y.float() * factors).sum(), [*model.parameters()])))
    assert y.dtype is torch.bfloat16
    for wanted, got in zip(*found, strict=True):
        assert got.dtype is torch.float32
        torch.testing.assert_close(got, wanted, rtol=2e-2, atol=2e-2 * float(wanted.abs().max()))
