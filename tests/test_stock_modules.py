"""What tools for torch's own modules do with a compiled model: they find them, trace, convert, fuse and cut it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from keras import layers
from torch import Tensor, nn

import regspec
from regspec.runtime import BatchNorm1d

NETWORK = """
regspec: 1
inputs: {image: {shape: [3, 11, 9]}}
blocks:
  residual:
    layers:
      - Conv2D: {name: conv, filters: 4, kernel_size: 3, padding: same, use_bias: false}
      - BatchNormalization: {name: bn}
      - ReLU: {name: relu}
      - Add: {name: sum, inputs: [relu, input]}
layers:
  - Conv2D: {name: stem, filters: 4, kernel_size: 3, strides: 2, padding: same%s}
  - BatchNormalization: {name: bn, momentum: 0.9}
  - ReLU: {name: relu}
  - residual: {name: first}
  - residual: {name: second}
  - GlobalAveragePooling2D: {name: pooled}
  - Dense: {name: logits, units: 5}
"""
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras

PENALIZED = ", kernel_regularizer: l2, activity_regularizer: l1"
KINDS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def of_one(fields: str = "", shape: str = "[3, 5, 4]") -> Any:
    text = f"{{regspec: 1, inputs: {{x: {{shape: {shape}}}}}, layers: [{{BatchNormalization: {{name: bn{fields}}}}}]}}"
    return regspec.build(regspec.loads(text))


def moved(model: nn.Module) -> nn.Module:
    """The model in evaluation, with moving averages that are not 0 and 1."""
    for _ in range(3):
        model(torch.randn(4, 3, 11, 9) * 2 + 1)
    return model.eval()


@pytest.mark.parametrize("penalties", ["", PENALIZED])
@pytest.mark.parametrize("training", [True, False])
def test_it_can_be_traced(penalties: str, training: bool) -> None:
    """By fx, outputs and gradients; and every normalization is a node, as feature extraction and fusion want it."""
    model = moved(regspec.build(regspec.loads(NETWORK % penalties), seed=0)).train(training)
    traced = torch.fx.symbolic_trace(model)
    called = {node.target for node in traced.graph.nodes if node.op == "call_module"}
    assert {name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)} <= called
    x = torch.randn(4, 3, 11, 9)
    outputs = model(x), traced(x)
    torch.testing.assert_close(*outputs, rtol=0, atol=0)
    gradients = [torch.autograd.grad(output.square().sum(), [*model.parameters()]) for output in outputs]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_features_can_be_taken_out() -> None:
    """As torchvision's create_feature_extractor does: a graph that ends where a node is."""
    model = moved(regspec.build(regspec.loads(NETWORK % ""), seed=0))
    traced = torch.fx.symbolic_trace(model)
    wanted = next(node for node in traced.graph.nodes if node.target == "second.relu")
    (end,) = (node for node in traced.graph.nodes if node.op == "output")
    end.args = (wanted,)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    seen: list[Tensor] = []
    model.get_submodule("second.relu").register_forward_hook(lambda _, inputs, output: seen.append(output))
    x = torch.randn(2, 3, 11, 9)
    model(x)
    torch.testing.assert_close(traced(x), seen[0], rtol=0, atol=0)


def test_convolutions_and_normalizations_fuse() -> None:
    """In evaluation the fused model is the model; its normalizations are gone."""
    model = moved(regspec.build(regspec.loads(NETWORK % ""), seed=0))
    x = torch.randn(2, 3, 11, 9)
    wanted = model(x)
    pairs = [("stem", "bn"), ("first.conv", "first.bn"), ("second.conv", "second.bn")]
    for conv, norm in pairs:
        fused = nn.utils.fuse_conv_bn_eval(model.get_submodule(conv), model.get_submodule(norm))
        model.set_submodule(conv, fused)
        model.set_submodule(norm, nn.Identity())
    torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-5)


def test_torch_ao_fuses() -> None:
    """It asks for the very class of a module."""
    from torch.ao.quantization import fuse_modules

    model = moved(regspec.build(regspec.loads(NETWORK % ""), seed=0))
    x = torch.randn(2, 3, 11, 9)
    fused = fuse_modules(model, [["stem", "bn", "relu"], ["first.conv", "first.bn", "first.relu"]])
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fused.first.modules())
    torch.testing.assert_close(fused(x), model(x), rtol=1e-4, atol=1e-5)


def test_normalizations_are_converted_for_several_processes() -> None:
    """With their weights, moving averages and settings; in evaluation they are the same."""
    model = moved(regspec.build(regspec.loads(NETWORK % PENALIZED), seed=0))
    x = torch.randn(2, 3, 11, 9)
    wanted = model(x)
    before = [(norm.eps, norm.momentum) for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)]
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    norms = [norm for norm in converted.modules() if isinstance(norm, nn.SyncBatchNorm)]
    assert [(norm.eps, norm.momentum) for norm in norms] == before == [(1e-3, 0.1), (1e-3, 0.01), (1e-3, 0.01)]
    torch.testing.assert_close(converted(x), wanted, rtol=0, atol=0)


SHAPES = {"[5]": 1, "[7, 5]": 1, "[3, 5, 4]": 2, "[3, 4, 5, 2]": 3}
STOCK = ["", ", center: false, scale: false", ", epsilon: 1e-5", ", gamma_regularizer: l2", ", trainable: beta"]
OWN = [", moving_variance: biased", ", center: false", ", scale: false", ", trainable: false"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fields", [*STOCK, *OWN])
def test_which_class(fields: str, shape: str) -> None:
    """Torch's own, or one that derives from it where it has none that does it."""
    norm = of_one(fields, shape).bn
    torch_s = KINDS[SHAPES[shape]]
    assert isinstance(norm, torch_s)
    assert (type(norm) is torch_s) == (fields in STOCK)


@pytest.mark.parametrize("fields", ["", ", center: false", ", scale: false", ", center: false, scale: false"])
def test_the_moving_variance_is_torch_s(fields: str) -> None:
    """By its formula: the unbiased variance of the batch, and as that of `nn.BatchNorm2d`."""
    model, x = of_one(f"{fields}, momentum: 0.8"), torch.randn(4, 3, 5, 4)
    model(x)
    unbiased = (x - x.mean((0, 2, 3), keepdim=True)).square().sum((0, 2, 3)) / (4 * 5 * 4 - 1)
    torch.testing.assert_close(model.bn.running_var, 0.8 + 0.2 * unbiased)
    torch.testing.assert_close(model.bn.running_mean, 0.2 * x.mean((0, 2, 3)))


@pytest.mark.parametrize("is_biased", [True, False])
def test_the_moving_variance_of_unmasked_steps(is_biased: bool) -> None:
    fields = ", moving_variance: biased" if is_biased else ""
    text = f"""
regspec: 1
inputs: {{x: {{shape: [7, 5]}}}}
layers: [Masking, {{BatchNormalization: {{name: bn, momentum: 0.8{fields}}}}}]
"""
    model, x = regspec.build(regspec.loads(text)), torch.randn(4, 7, 5)
    x[0, 5:] = 0
    model(x)
    kept = x[x.any(-1)]
    torch.testing.assert_close(model.bn.running_var, 0.8 + 0.2 * kept.var(0, correction=0 if is_biased else 1))


def ported(shape: tuple[int, ...], fields: dict[str, Any], folder: Path) -> regspec.Port:
    x = keras.Input(shape)
    keras.Model(x, layers.BatchNormalization(**fields)(x)).save(folder / "model.keras")
    return regspec.port(folder / "model.keras")


@pytest.mark.parametrize("training", [True, False])
def test_a_port_keeps_keras_s_variance_and_can_be_traced(training: bool, tmp_path: Path) -> None:
    port = ported((6, 5, 3), {}, tmp_path)
    assert "moving_variance: biased" in port.text
    model = port.build().train(training)
    traced, data = torch.fx.symbolic_trace(model), torch.randn(2, 6, 5, 3)
    torch.testing.assert_close(traced(data), model(data), rtol=0, atol=0)


@pytest.mark.parametrize("fields", [*STOCK, *OWN, ", renorm: true", ", renorm: true, trainable: false"])
@pytest.mark.parametrize("training", [True, False])
def test_each_normalization_can_be_traced(training: bool, fields: str) -> None:
    """Outputs, gradients and what they move."""
    model, x = of_one(fields).train(training), torch.randn(4, 3, 5, 4)
    traced, found = torch.fx.symbolic_trace(copy.deepcopy(model)), []
    used = traced.state_dict().keys()  # the graph has no count of batches
    for each in (model, traced):
        inputs = x.clone().requires_grad_()
        y = each(inputs)
        moved = {name: each.state_dict()[name] for name in used}
        found.append((y, torch.autograd.grad(y.pow(3).sum(), inputs), moved))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("fields", [{"trainable": False}, {"renorm": True}])
def test_a_port_says_nothing_of_a_variance_that_is_no_other(fields: dict[str, Any], tmp_path: Path) -> None:
    assert "moving_variance" not in ported((3,), fields, tmp_path).text


def test_one_value_a_channel() -> None:
    """Torch refuses it, where the moving variance is its own; with Keras's the variance is 0."""
    x = torch.randn(1, 5)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        of_one("", "[5]")(x)
    norm = BatchNorm1d(5, biased=True)
    torch.testing.assert_close(norm(x), torch.zeros(1, 5), rtol=0, atol=1e-4)


def test_the_variance_of_many_pixels() -> None:
    """To the last digits in either order in memory, of which torch's own kernel loses some."""
    spec = (
        "{regspec: 1, data_format: channels_last, inputs: {x: {shape: [90, 110, 2]}}, "
        "layers: [{BatchNormalization: {name: b, momentum: 0.0, moving_variance: biased}}]}"
    )
    model = regspec.build(regspec.loads(spec)).train()
    x = torch.randn(7, 90, 110, 2, generator=torch.Generator().manual_seed(0)) + 3
    model(x)
    variance = x.double().var((0, 1, 2), correction=0).float()
    torch.testing.assert_close(model.get_buffer("b.running_var"), variance, rtol=1e-6, atol=0)
