"""`frozen_penalties: counted`: a frozen weight's penalty counts in the sum, and has no gradient."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD

import regspec

SPEC = """
regspec: 1
name: counted
frozen_penalties: {frozen}
inputs: {{x: {{shape: [6, 4]}}}}
blocks:
  inner:
    layers:
      - Dense:
          {{name: hidden, units: 3, trainable: false, kernel_regularizer: {{l1: 0.1, l2: 0.2}}, bias_regularizer: l2}}
layers:
  - inner: {{name: block}}
  - GRU: {{name: gru, units: 3, trainable: false, bias_regularizer: {{orthogonal: 0.3}}}}  # of two parameters, stacked
  - Dense: {{name: logits, units: 2, kernel_regularizer: {{l2: 0.5}}, activity_regularizer: l1}}
"""


def made(frozen: str = "counted") -> torch.nn.Module:
    model = regspec.build(regspec.loads(SPEC.format(frozen=frozen)), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def by_hand(model: torch.nn.Module) -> torch.Tensor:
    """The penalty of the frozen weights."""
    kernel, bias = model.block.hidden.weight, model.block.hidden.bias
    rows = torch.nn.functional.normalize(torch.stack([model.gru.bias_ih_l0, model.gru.bias_hh_l0]), dim=1)
    return (
        0.1 * kernel.abs().sum()
        + 0.2 * kernel.square().sum()
        + 0.01 * bias.square().sum()
        + 0.15 * (rows @ rows.T).fill_diagonal_(0).abs().sum()
    )


def test_counted_and_omitted() -> None:
    counted, omitted, x = made(), made("omitted"), torch.randn(5, 6, 4)
    omitted.load_state_dict(counted.state_dict())
    losses = []
    for model in (counted, omitted):
        model(x)
        losses.append(model.regularization_loss())
        losses[-1].backward()
        assert model.block.hidden.weight.grad is None
    torch.testing.assert_close(losses[0], losses[1] + by_hand(counted))
    torch.testing.assert_close(counted.logits.weight.grad, omitted.logits.weight.grad)
    terms = counted.regularization_terms()
    torch.testing.assert_close(sum(terms.values()), losses[0])
    assert terms.keys() - omitted.regularization_terms().keys() == {
        "block.hidden.kernel",
        "block.hidden.bias",
        "gru.bias",
    }


@pytest.mark.parametrize("change", [copy.deepcopy, lambda model: model.eval(), lambda model: model.double()])
def test_in_other_settings(change: Callable[[Any], Any]) -> None:
    model = change(made())
    with torch.no_grad():
        model(torch.randn(5, 6, 4, dtype=model.logits.weight.dtype))
        rest = model.regularization_terms()
        wanted = by_hand(model) + rest["logits.kernel"] + rest["logits.activity"]
        torch.testing.assert_close(model.regularization_loss(), wanted.to(model.regularization_loss().dtype))


def test_a_weight_that_thaws_has_a_gradient() -> None:
    model = made()
    model.block.hidden.requires_grad_(True)
    model(torch.randn(5, 6, 4))
    model.regularization_terms()["block.hidden.bias"].backward()
    torch.testing.assert_close(model.block.hidden.bias.grad, 0.02 * model.block.hidden.bias.detach())


def test_other_routes_leave_it_alone() -> None:
    """A gradient, a decay or a proximal step of a frozen weight would move it."""
    model = made()
    optimizer = SGD(model.parameters(), lr=0.1)
    regspec.bind(model, optimizer, l1="proximal", l2="gradient")
    before = {name: parameter.clone() for name, parameter in model.named_parameters() if not parameter.requires_grad}
    (model(torch.randn(5, 6, 4)).sum() + model.regularization_loss()).backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        if name in before:
            torch.testing.assert_close(parameter, before[name], rtol=0, atol=0)
