"""How the penalty of one output is reduced over the batch: it says so itself, or the model does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regspec

from . import own
from .alone import alone

HEAD = "regspec: 1\nname: net\nactivity_reduction: {model}\ninputs: {{x: {{shape: [4]}}}}\n"
REDUCTIONS = [("mean", None), ("sum", None), ("mean", "sum"), ("sum", "mean"), ("mean", "mean"), ("sum", "sum")]
# Where an output has a penalty, its term, and of the model and its input the output that is penalized.
PLACES: dict[str, tuple[str, str, Any]] = {
    "layer": ("Dense: {name: y, units: 3, activity_regularizer: R}", "y.activity", lambda m, x: m.y(x)),
    "penalty": ("ActivityRegularization: {name: y, activity_regularizer: R}", "y.activity", lambda m, x: x),
    "inside": (
        "MultiHeadAttention: {name: y, num_heads: 2, key_dim: 3, inputs: [s, s], projection_activity: R}",
        "y.key.activity",
        lambda m, x: m.y.key(x.unflatten(1, (2, 2))),
    ),
    "kl": ("Sampling: {name: y, inputs: [x, x], kl_regularizer: R}", "y.kl", lambda m, x: torch.cat([x, x], 1)),
}


def said(own: str | None, strength: str = "l2: 0.3") -> str:
    return f"{{{strength}}}" if own is None else f"{{{strength}, reduction: {own}}}"


def wanted(model: str, own: str | None, output: Tensor) -> Tensor:
    return 0.3 * output.square().sum() / (1 if (own or model) == "sum" else 5)


@pytest.mark.parametrize("is_alone", [False, True])
@pytest.mark.parametrize(("model", "own"), REDUCTIONS)
@pytest.mark.parametrize("place", PLACES)
def test_values(place: str, model: str, own: str | None, is_alone: bool) -> None:
    layer, term, output = PLACES[place]
    if place == "inside":
        layer = "Reshape: {name: s, target_shape: [2, 2]}\n  - " + layer
    text = HEAD.format(model=model) + "layers:\n  - " + layer.replace("R}", said(own) + "}") + "\n"
    net = alone(text, "Net") if is_alone else regspec.build(text, seed=0)
    x = torch.randn(5, 4)
    net(x)
    torch.testing.assert_close(net.regularization_terms()[term], wanted(model, own, output(net, x)))


def test_each_term_has_its_own() -> None:
    """Two layers with one regularizer, of which one is summed: each has its statement."""
    text = HEAD.format(model="mean") + (
        "layers:\n"
        "  - Dense: {name: a, units: 3, activity_regularizer: {l2: 0.3}}\n"
        "  - Dense: {name: b, units: 2, activity_regularizer: {l2: 0.3, reduction: sum}}\n"
    )
    assert 'self.add_activity_terms(L2(0.3), {"b.activity": "b"}, reduction="sum")' in regspec.source(text)
    net = regspec.build(text, seed=0)
    y = net.a(x := torch.randn(5, 4))
    net(x)
    terms = net.regularization_terms()
    torch.testing.assert_close(terms["a.activity"], wanted("mean", None, y))
    torch.testing.assert_close(terms["b.activity"], wanted("sum", None, net.b(y)))


@pytest.mark.parametrize(("model", "own"), REDUCTIONS)
def test_by_a_rule(model: str, own: str | None) -> None:
    text = (
        HEAD.format(model=model)
        + f"layers:\n  - Dense: {{name: y, units: 3}}\nregularizers: [{{layers: y, activity: {said(own)}}}]\n"
    )
    net = regspec.build(text, seed=0)
    y = net(torch.randn(5, 4))
    torch.testing.assert_close(net.regularization_loss(), wanted(model, own, y))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_of_a_module_that_was_not_compiled(reduction: str) -> None:
    rule = {"types": ["Linear"], "activity_regularizer": {"l2": 0.3, "reduction": reduction}}
    net = regspec.regularize(nn.Linear(4, 3), [rule])
    y = net(torch.randn(5, 4))
    torch.testing.assert_close(regspec.regularization_loss(net), wanted(reduction, None, y))


@pytest.mark.usefixtures("_registry")
def test_of_one_of_your_own_with_a_schedule() -> None:
    """A regularizer of the user's own may have both beside it."""
    regspec.register_regularizer(own.by_places)
    text = HEAD.format(model="mean") + (
        "layers:\n  - Dense: {name: y, units: 3, activity_regularizer: "
        "{by_places: {strength: 0.3}, schedule: {constant: {value: 0.5, over: 1}}, reduction: sum}}\n"
    )
    net = regspec.build(text, seed=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    regspec.bind(net, optimizer)
    for factor in (0.5, 1.0, 1.0):
        y = net(torch.randn(5, 4))
        loss = net.regularization_loss()
        torch.testing.assert_close(loss, 0.3 * factor * (y * torch.arange(3)).sum())
        loss.backward()
        optimizer.step()


FAULTS = {
    "kernel_regularizer: {l2: 0.1, reduction: sum}": (
        "y has a reduction over the batch on its kernel, but that is for activities"
    ),
    "activity_regularizer: {l2: 0.1, reduction: total}": (
        "'activity_regularizer' of Dense has a reduction that must be mean or sum, but is 'total'"
    ),
    "activity_regularizer: {l2: 0.1, reduction: [sum]}": (
        "'activity_regularizer' of Dense has a reduction that must be mean or sum, but is a list"
    ),
    "activity_regularizer: {reduction: sum}": (
        "'activity_regularizer' of Dense has a reduction, but nothing that follows it"
    ),
    "activity_regularizer: [{l1: 0.1, reduction: sum}, {l2: 0.1}]": (
        "'activity_regularizer' of Dense must have the reduction of the others in the list"
    ),
    "activity_regularizer: {kl_sparsity: 0.1, reduction: sum}": (
        "y has the reduction sum, but kl_sparsity is a mean over the batch by itself"
    ),
}


@pytest.mark.parametrize("field", FAULTS)
def test_faults(field: str) -> None:
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.loads(HEAD.format(model="mean") + f"layers:\n  - Dense: {{name: y, units: 3, {field}}}\n")
    assert [each.what for each in raised.value.problems] == [FAULTS[field]]


def test_no_regularizer_has_its_name() -> None:
    with pytest.raises(regspec.RegspecError, match="'reduction' can't be registered"):
        regspec.register_regularizer(own.by_places, name="reduction")
