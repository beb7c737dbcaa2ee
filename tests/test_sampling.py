"""Sampling: the reparametrization, and the divergence of its Gaussians from N(0, 1) as a term."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regspec

from .alone import alone

HEAD = "regspec: 1\nname: vae\n"
LAYERS = """
layers:
  - Dense: {name: mean, units: 3, inputs: x}
  - Dense: {name: log_var, units: 3, inputs: x}
  - Sampling: {name: z, inputs: [mean, log_var], kl_regularizer: %s}
"""
SPEC = HEAD + "inputs: {x: {shape: [4]}}" + LAYERS
PLAIN = SPEC % "{gaussian_kl: 0.7}"
IMAGES = """
data_format: channels_first
inputs: {x: {shape: [3, 4, 5]}}
layers:
  - Conv2D: {name: mean, filters: 2, kernel_size: 2, inputs: x}
  - Conv2D: {name: log_var, filters: 2, kernel_size: 2, inputs: x}
  - Sampling: {name: z, inputs: [mean, log_var], kl_regularizer: %s}
"""


def divergence(mean: Tensor, log_var: Tensor) -> Tensor:
    """Kingma and Welling (2014), appendix B; of one sample of the batch on average."""
    return -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum() / len(mean)


def parts(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    return model.mean(x), model.log_var(x)


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("way", ["built", "standalone", "compiled", "blocks"])
def test_values(way: str, is_training: bool) -> None:
    """The sample, the penalty and its gradient; in evaluation it gives the means."""
    text = PLAIN
    if way == "blocks":
        text = (
            HEAD
            + "inputs: {x: {shape: [4]}}\nblocks:\n  encoder:"
            + LAYERS.replace("\n", "\n    ") % "{gaussian_kl: 0.7}"
        )
        text = text.replace("inputs: x", "inputs: input") + "\nlayers:\n  - encoder: {name: encoder}\n"
    torch.manual_seed(0)
    model = alone(text, "Vae") if way == "standalone" else regspec.build(text, seed=0)
    model.train(is_training)
    own = model.encoder if way == "blocks" else model
    called = torch.compile(model, backend="eager", fullgraph=True) if way == "compiled" else model
    x = torch.randn(5, 4)
    torch.manual_seed(1)
    z = called(x)
    mean, log_var = parts(own, x)
    torch.manual_seed(1)
    wanted = mean + (log_var / 2).exp() * torch.randn(5, 3) if is_training else mean
    torch.testing.assert_close(z, wanted)
    (name, penalty), *others = model.regularization_terms().items()
    assert (name, others) == ("encoder.z.kl" if way == "blocks" else "z.kl", [])
    torch.testing.assert_close(penalty, 0.7 * divergence(mean, log_var))
    weights = [own.mean.weight, own.log_var.weight]
    gradients = torch.autograd.grad(model.regularization_loss(), weights)
    torch.testing.assert_close(gradients, torch.autograd.grad(0.7 * divergence(*parts(own, x)), weights))


@pytest.mark.parametrize("regularizer", ["{gaussian_kl: 0.7}", "[{gaussian_kl: 0.7}, {l2: 0.1}]"])
def test_of_images(regularizer: str) -> None:
    """Means and logs of variances lie along the channels, which come first."""
    model = regspec.build(HEAD + IMAGES.lstrip() % regularizer, seed=0)
    x = torch.randn(3, 3, 4, 5)
    model(x)
    mean, log_var = parts(model, x)
    wanted = 0.7 * divergence(mean, log_var)
    if "l2" in regularizer:
        wanted = wanted + 0.1 * (mean.square().sum() + log_var.square().sum()) / 3
    torch.testing.assert_close(model.regularization_terms()["z.kl"], wanted)


def test_half_of_the_units() -> None:
    """As an activity regularizer, of a layer whose first units are the means; of channels, too."""
    for layer, shape, dim in (
        ("Dense: {name: y, units: 6, activity_regularizer: {gaussian_kl: 0.7}}", [4], 1),
        ("Conv2D: {name: y, filters: 6, kernel_size: 2, activity_regularizer: {gaussian_kl: 0.7}}", [3, 4, 5], 1),
    ):
        text = f"{HEAD}data_format: channels_first\ninputs: {{x: {{shape: {shape}}}}}\nlayers:\n  - {layer}\n"
        model = regspec.build(text, seed=0)
        y = model(torch.randn(5, *shape))
        torch.testing.assert_close(model.regularization_loss(), 0.7 * divergence(*y.chunk(2, dim)))


def test_scheduled() -> None:
    model = regspec.build(SPEC % "{gaussian_kl: 0.7, schedule: {warmup: 10}}", seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    regspec.bind(model, optimizer)
    x = torch.randn(5, 4)
    for step in range(3):
        model(x)
        loss = model.regularization_loss()
        torch.testing.assert_close(loss, 0.7 * step / 10 * divergence(*parts(model, x)))
        loss.backward()
        optimizer.step()


def test_on_the_gradient_route() -> None:
    """The gradient of the penalty is taken along by what becomes of the sample."""
    gradients = []
    for route in ("loss", "gradient"):
        model = regspec.build(PLAIN, seed=0)
        regspec.bind(model, torch.optim.SGD(model.parameters(), lr=0.1), activity=route)
        torch.manual_seed(1)
        loss = model(torch.ones(5, 4)).square().sum()
        (loss + model.regularization_loss()).backward()
        gradients.append(torch.cat([each.grad.flatten() for each in model.parameters()]))
    torch.testing.assert_close(*gradients)


def test_exported() -> None:
    model = regspec.build(PLAIN, seed=0).eval()
    x = torch.randn(5, 4)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model.mean(x))


def test_samples_are_of_the_gaussians() -> None:
    layer = regspec.build(
        regspec.loads(
            "{regspec: 1, inputs: {mean: {shape: [2]}, log_var: {shape: [2]}}, "
            "layers: [Sampling: {name: z, inputs: [mean, log_var]}]}"
        )
    )
    torch.manual_seed(0)
    mean, log_var = torch.tensor([0.5, -2.0]), torch.tensor([0.0, 1.5])
    z = layer(mean.expand(40_000, 2), log_var.expand(40_000, 2))
    torch.testing.assert_close(z.mean(0), mean, rtol=0, atol=0.05)
    torch.testing.assert_close(z.var(0).log(), log_var, rtol=0, atol=0.05)


FAULTS = {
    "shapes": (
        SPEC.replace("name: log_var, units: 3", "name: log_var, units: 2") % "l2",
        "z takes means and logs of variances of one shape, but 'mean' (batch, 3) and 'log_var' (batch, 2) differ",
    ),
    "one input": (
        SPEC.replace("[mean, log_var]", "log_var").replace(
            "name: log_var, units: 3, inputs: x", "name: log_var, units: 3"
        )
        % "l2",
        "z takes 2 inputs, but is given 1",
    ),
    "halves": (
        f"{HEAD}inputs: {{x: {{shape: [4]}}}}\nlayers: [Dense: {{units: 3, activity_regularizer: {{gaussian_kl: 1}}}}]",
        "dense has gaussian_kl, of as many means as logs of variances, but gives (batch, 3)",
    ),
    "a weight": (
        f"{HEAD}inputs: {{x: {{shape: [4]}}}}\nlayers: [Dense: {{units: 4, kernel_regularizer: {{gaussian_kl: 1}}}}]",
        "dense has gaussian_kl on its kernel, but that is a regularizer of activities",
    ),
}

# Layers with a {gaussian_kl} on an output inside them, and what their faults say; and how many axes
# their inputs have.
ODD_INSIDE = {
    "each step": ("TimeDistributed: {layer: {Dense: {units: 5, activity_regularizer: {KL}}}}", 2, "layer gives 5"),
    "each step's image": (
        "TimeDistributed: {layer: {Conv2D: {filters: 5, kernel_size: 2, activity_regularizer: {KL}}}}",
        4,
        "layer gives 5",
    ),
    "each step's projections": (
        "TimeDistributed: {layer: {Bidirectional: {layer: {GRU: {units: 5, activity_regularizer: {KL}}}}}}",
        3,
        "forward gives 5",
    ),
    "forwards": ("Bidirectional: {layer: {LSTM: {units: 5, activity_regularizer: {KL}}}}", 2, "forward gives 5"),
    "backwards": (
        "Bidirectional: {layer: {LSTM: {units: 4}}, "
        "backward_layer: {LSTM: {units: 5, go_backwards: true, activity_regularizer: {KL}}}}",
        2,
        "backward gives 5",
    ),
    "images, backwards": (
        "Bidirectional: {layer: {ConvLSTM1D: {filters: 5, kernel_size: 2, activity_regularizer: {KL}}}}",
        3,
        "forward gives 5",
    ),
    "a state": (
        "Bidirectional: {layer: {RNN: {cell: [{GRUCell: {units: 5}}, {GRUCell: {units: 4}}], return_state: true, "
        "activity_regularizer: {KL}}}}",
        2,
        "forward gives 5",
    ),
    "normalized": (
        "SpectralNormalization: {layer: {Conv2D: {filters: 5, kernel_size: 2, activity_regularizer: {KL}}}}",
        3,
        "layer gives 5",
    ),
    "queries": (
        "MultiHeadAttention: {inputs: [x, x], num_heads: 3, key_dim: 3, projection_activity: {KL}}",
        2,
        "query gives 9",
    ),
    "values": (
        "MultiHeadAttention: {inputs: [x, x], num_heads: 3, key_dim: 2, value_dim: 1, projection_activity: {KL}}",
        2,
        "value gives 3",
    ),
    "gates": (
        "MultiHeadAttention: {inputs: [x, x], num_heads: 3, key_dim: 2, value_dim: 1, use_gate: true, "
        "projection_activity: {KL}}",
        2,
        "gating gives 3",
    ),
    "attention's output": (
        "MultiHeadAttention: {inputs: [x, x], num_heads: 2, key_dim: 3, projection_activity: {KL}}",
        2,
        "output gives 7",
    ),
    "shared keys": (
        "GroupQueryAttention: {inputs: [x, x], num_query_heads: 2, num_key_value_heads: 1, head_dim: 3, "
        "projection_activity: {KL}}",
        2,
        "key gives 3",
    ),
}


@pytest.mark.parametrize("name", ODD_INSIDE)
def test_odd_units_inside_a_layer(name: str) -> None:
    """A fault at the layer."""
    layer, rank, fault = ODD_INSIDE[name]
    head = f"{HEAD}data_format: channels_last\ninputs: {{x: {{shape: {[2, 6, 5, 7][-rank:]}}}}}\nlayers:\n  - "
    written = layer.replace("{KL}", "{gaussian_kl: 1}")
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.build(head + written)
    (problem,) = raised.value.problems
    assert problem.what.endswith(f"has gaussian_kl, of as many means as logs of variances, but its {fault}")
    assert problem.line == head.count("\n") + 1


EVEN_INSIDE: dict[str, tuple[str, Callable[[Tensor], list[Tensor]]]] = {
    "each step": ("TimeDistributed: {layer: {Dense: {units: 6, activity_regularizer: {KL}}}}", lambda y: [y]),
    "both directions": (
        "Bidirectional: {layer: {LSTM: {units: 4, activity_regularizer: {KL}}}}",
        lambda y: [*y.chunk(2, -1)],
    ),
    "normalized": ("SpectralNormalization: {layer: {Dense: {units: 6, activity_regularizer: {KL}}}}", lambda y: [y]),
}


@pytest.mark.parametrize("name", EVEN_INSIDE)
def test_even_units_inside_a_layer(name: str) -> None:
    layer, heard = EVEN_INSIDE[name]
    written = layer.replace("{KL}", "{gaussian_kl: 1, reduction: sum}")
    model = regspec.build(f"{HEAD}inputs: {{x: {{shape: [6, 7]}}}}\nlayers:\n  - {written}", seed=0)
    y = model(torch.randn(3, 6, 7))
    wanted = [divergence(*each.chunk(2, -1)) * len(each) for each in heard(y)]
    torch.testing.assert_close(model.regularization_loss(), torch.stack(wanted).sum())


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str) -> None:
    text, problem = FAULTS[name]
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.build(text)
    assert [each.what for each in raised.value.problems] == [problem]


def test_keras_has_none() -> None:
    with pytest.raises(regspec.RegspecError, match="z is of kind Sampling, and Keras 3 has no such layer"):
        regspec.source(PLAIN, target="keras")


def test_of_a_module_that_was_not_compiled() -> None:
    model = regspec.regularize(nn.Linear(4, 6), [{"types": ["Linear"], "activity_regularizer": {"gaussian_kl": 0.7}}])
    y = model(torch.randn(5, 4))
    torch.testing.assert_close(regspec.regularization_loss(model), 0.7 * divergence(*y.chunk(2, 1)))


@pytest.mark.parametrize("given", [{}, {"channel_axis": 1}], ids=str)
def test_odd_units_of_a_module_that_was_not_compiled(given: dict[str, int]) -> None:
    rule = {"types": ["Linear"], "activity_regularizer": {"gaussian_kl": 0.7}, **given}
    model = regspec.regularize(nn.Linear(4, 5), [rule])
    model(torch.randn(3, 4))
    with pytest.raises(ValueError, match=r"takes as many means as logs of variances, but is given \(3, 5\)"):
        regspec.regularization_loss(model)
