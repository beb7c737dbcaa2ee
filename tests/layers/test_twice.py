"""Two forwards in training and then one backward, as ``(D(real) + D(fake)).backward()`` in a GAN."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import regspec

from . import reference
from .rows import ROWS
from .specs import built, outputs_of, spec_of

FIRST = {row.kind: index for index, row in reversed([*enumerate(ROWS)])}
CASES = [
    pytest.param(
        index, id=row.id, marks=[] if index == FIRST[row.kind] or "Norm" in row.kind else pytest.mark.everything
    )
    for index, row in enumerate(ROWS)
    if not row.is_random
]
CRITIC = (
    "regspec: 1\nname: net\ninputs: {{x: {{shape: {}}}}}\nlayers:\n  - SpectralNormalization: {{name: critic, {}}}\n"
)


def loss_of(model: Any, inputs: list[Tensor]) -> Tensor:
    """A number that every output has a share in."""
    outputs = [x for x in outputs_of(model(*inputs)) if x.is_floating_point() or x.is_complex()]
    regspec.regularization_loss(model)  # which it would warn of where nobody reads it
    return sum((x.abs().square() * torch.linspace(0.5, 1, x.numel()).view(x.shape)).sum() for x in outputs)


@pytest.mark.parametrize("index", CASES)
def test_every_kind(index: int) -> None:
    """The gradients are those of a backward after each forward, and so is what a training keeps."""
    row = ROWS[index]
    model = built(spec_of(row, row.fields)).train()
    together = copy.deepcopy(model)
    batches = [[torch.as_tensor(x) for x in reference.inputs_of(row, seed)] for seed in (index, index + 1)]
    for x in (x for inputs in batches for x in inputs if x.is_floating_point()):
        x.requires_grad_()  # without it torch 2.13 crashes in the backward of a group normalization of a permuted view
    for inputs in batches:
        loss = loss_of(model, inputs)
        if not getattr(loss, "requires_grad", False):
            return
        loss.backward()
    both = loss_of(together, batches[0]) + loss_of(together, batches[1])
    both.backward()
    for (name, one), two in zip(model.named_parameters(), together.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(two.grad, one.grad, msg=lambda text, name=name: f"{name}: {text}")
    torch.testing.assert_close(together.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [("Dense: {units: 4, use_bias: false}", [5]), ("Conv2D: {filters: 4, kernel_size: 1, use_bias: false}", [5, 1, 1])],
)
def test_a_critic_with_spectral_normalization(layer: str, shape: list[int]) -> None:
    """Each output is that of the weight that it was computed with, W / s, and then W / s / s'; so is its gradient."""
    model = regspec.build(CRITIC.format(shape, f"layer: {{{layer}}}"), seed=0).train()
    weight = model.critic.layer.weight
    first_weight = weight.detach().clone()
    real, fake = torch.randn(3, *shape), torch.randn(2, *shape)
    outputs, weights = [], []
    for x in (real, fake):
        outputs.append(model(x).flatten(1))
        weights.append(weight.detach().flatten(1).clone().requires_grad_())
    for made, before in zip(weights, (first_weight.flatten(1), weights[0].detach()), strict=True):
        ratio = before / made.detach()
        torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio))
        assert abs(ratio[0, 0] - 1) > 1e-3
    wanted = [x.flatten(1) @ made.T for x, made in zip((real, fake), weights, strict=True)]
    torch.testing.assert_close(outputs, wanted)
    sum((x.square().mean() for x in outputs), torch.zeros(())).backward()
    sum((x.square().mean() for x in wanted), torch.zeros(())).backward()
    torch.testing.assert_close(weight.grad.flatten(1), weights[0].grad + weights[1].grad)


def test_as_torch_s_own_parametrization() -> None:
    """Where the singular value is known exactly: torch keeps the weight and divides anew, with the same outputs."""
    theirs = spectral_norm(nn.Linear(5, 4, bias=False), n_power_iterations=200)
    layer = "layer: {Dense: {units: 4, use_bias: false}}, power_iterations: 200"
    model = regspec.build(CRITIC.format([5], layer)).train()
    model.critic.layer.weight.data.copy_(theirs.parametrizations.weight.original)
    real, fake = torch.randn(3, 5), torch.randn(2, 5)
    ours = model(real), model(fake)
    wanted = theirs(real), theirs(fake)
    torch.testing.assert_close(ours, wanted)
    for each in (ours, wanted):
        (each[0].square().mean() + each[1].square().mean()).backward()
