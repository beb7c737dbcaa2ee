"""Routes: each against the loss route, or against its closed form."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

import regspec

SPEC = """
regspec: 1
name: net
inputs: {x: {shape: [7]}}
layers:
  - Dense: {name: hidden, units: 6, kernel_regularizer: {l1: 1e-2, l2: 2e-2}, activity_regularizer: {l1: 1e-3}}
  - ReLU
  - Dense: {name: middle, units: 5, kernel_regularizer: [{l2: 1e-2}, {group_lasso: 1e-2}], bias_regularizer: {l2: 1e-2}}
  - Dense: {name: logits, units: 3, kernel_regularizer: {norm: 1e-2}}
"""


def make() -> regspec.runtime.Regularized:
    return regspec.build(regspec.loads(SPEC), seed=1)


def trained(
    optimizer: Callable[..., torch.optim.Optimizer], steps: int = 5, **routes: Any
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model after some steps of the same data, by these routes."""
    torch.manual_seed(0)
    model = make()
    made = optimizer(model.parameters())
    if routes:
        regspec.bind(model, made, **routes)
    for _ in range(steps):
        made.zero_grad()
        x, y = torch.randn(8, 7), torch.randint(0, 3, (8,))
        (F.cross_entropy(model(x), y) + model.regularization_loss()).backward()
        made.step()
    return model, made


OPTIMIZERS = {
    "SGD": partial(torch.optim.SGD, lr=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "Nesterov": partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    "with decay": partial(torch.optim.SGD, lr=0.1, weight_decay=0.01),
    "foreach": partial(torch.optim.Adam, lr=0.01, foreach=True),
    "fused": partial(torch.optim.Adam, lr=0.01, fused=True),
    "Adam": partial(torch.optim.Adam, lr=0.01),
    "NAdam": partial(torch.optim.NAdam, lr=0.01),
    "RAdam": partial(torch.optim.RAdam, lr=0.01),
    "Adagrad": partial(torch.optim.Adagrad, lr=0.01),
    "RMSprop": partial(torch.optim.RMSprop, lr=0.01),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize(
    "routes",
    [{"l2": "decay"}, {"l2": "gradient"}, {"l1": "gradient", "l2": "decay"}, {"group_lasso": "gradient"}],
    ids=str,
)
def test_equals_the_loss_route(optimizer: Any, routes: dict[str, str]) -> None:
    """Where the optimizer's decay is added to the gradient, and wherever a gradient is added before the step."""
    by_loss, _ = trained(optimizer)
    by_route, _ = trained(optimizer, **routes)
    torch.testing.assert_close(by_route.state_dict(), by_loss.state_dict(), rtol=1e-4, atol=1e-6)


def test_terms_by_name() -> None:
    routes = {"hidden.kernel": "gradient", "logits.kernel": "gradient", "middle.bias": "decay"}
    by_loss, _ = trained(OPTIMIZERS["SGD"])
    by_route, _ = trained(OPTIMIZERS["SGD"], terms=routes)
    torch.testing.assert_close(by_route.state_dict(), by_loss.state_dict(), rtol=1e-4, atol=1e-6)


def test_what_left_the_loss_is_reported_and_not_in_it() -> None:
    model, x = make(), torch.randn(4, 7)
    model(x)
    before = model.regularization_terms()
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    binding = regspec.bind(model, optimizer, l1="proximal", l2="decay", group_lasso="gradient")
    model(x)
    torch.testing.assert_close(model.regularization_terms(), before)
    on_loss = before["hidden.activity"] + before["logits.kernel"]
    torch.testing.assert_close(model.regularization_loss(), on_loss)
    decays = {group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {0, 0.04, 0.02}
    binding.remove()
    model(x)
    torch.testing.assert_close(model.regularization_loss(), sum(before.values()))
    assert len(optimizer.param_groups) == 1
    assert [id(each) for each in optimizer.param_groups[0]["params"]] == [id(each) for each in model.parameters()]
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_a_proximal_step() -> None:
    """A soft threshold of lr * strength; for a group lasso, of its norm."""
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    regspec.bind(model, optimizer, l1="proximal", group_lasso="proximal")
    x, y = torch.randn(8, 7), torch.randint(0, 3, (8,))
    (F.cross_entropy(model(x), y) + model.regularization_loss()).backward()
    hidden = model.hidden.weight - 0.5 * model.hidden.weight.grad
    middle = model.middle.weight - 0.5 * model.middle.weight.grad
    optimizer.step()
    torch.testing.assert_close(model.hidden.weight, hidden.sign() * (hidden.abs() - 0.5 * 1e-2).clamp_min(0))
    norms = middle.norm(dim=1, keepdim=True)
    torch.testing.assert_close(model.middle.weight, middle * (1 - 0.5 * 1e-2 * 6**0.5 / norms).clamp_min(0))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"momentum": 0.5},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.8, "dampening": 0.5},
    ],
    ids=str,
)
def test_a_strength_is_the_same_with_momentum(settings: dict[str, float]) -> None:
    """A sum of squares with L1 is least at the soft threshold of where it was least without, in closed form."""
    start = torch.tensor([[0.5, 0.05, -0.3, 0.005]])
    layer = nn.Linear(4, 1, bias=False)
    model = regspec.regularize(nn.Sequential(layer), [{"types": ["Linear"], "kernel_regularizer": {"l1": 0.1}}])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **settings)
    regspec.bind(model, optimizer, l1="proximal")
    for _ in range(500):
        optimizer.zero_grad()
        (0.5 * (layer.weight - start).square().sum() + model.regularization_loss()).backward()
        optimizer.step()
    least = start.sign() * (start.abs() - 0.1).clamp_min(0)
    torch.testing.assert_close(layer.weight.detach(), least, rtol=1e-5, atol=1e-6)


def test_exact_zeros() -> None:
    """The proximal route makes them; L1 by its gradient never does."""

    def zeros(route: str) -> float:
        torch.manual_seed(0)
        text = "regspec: 1\ninputs: {x: {shape: [20]}}\nlayers:\n  - Dense: {units: 1, kernel_regularizer: {l1: 0.1}}\n"
        model = regspec.build(regspec.loads(text), seed=0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        regspec.bind(model, optimizer, l1=route)
        x = torch.randn(200, 20)
        y = x[:, :3].sum(1, keepdim=True)
        for _ in range(200):
            optimizer.zero_grad()
            (F.mse_loss(model(x), y) + model.regularization_loss()).backward()
            optimizer.step()
        assert model.dense.weight[0, :3].abs().min() > 0.5
        return (model.dense.weight[0, 3:] == 0).float().mean().item()

    assert zeros("proximal") > 0.9
    assert zeros("loss") == zeros("gradient") == 0


@pytest.mark.parametrize(
    ("optimizer", "routes", "message"),
    [
        (torch.optim.AdamW, {"l2": "decay"}, r"weight decay of AdamW is decoupled(.*\n)*.*decoupled=True"),
        (torch.optim.Adadelta, {"l2": "decay"}, "not known what the weight decay of Adadelta is"),
        (torch.optim.SGD, {"l1": "decay"}, r"'hidden\.kernel' can't be on the decay route"),
        (torch.optim.SGD, {"l2": "proximal"}, "can't be on the proximal route"),
        (torch.optim.SGD, {"l2": "decya"}, "did you mean 'decay'"),
        (torch.optim.SGD, {"terms": {"hidden.kernal": "decay"}}, r"did you mean 'hidden\.kernel'"),
        (torch.optim.SGD, {"terms": {"hidden.activity": "decay"}}, "is of an output"),
        (torch.optim.SGD, {"activity": "proximal"}, "of outputs have the loss and the gradient route only"),
    ],
)
def test_refused(optimizer: Any, routes: dict[str, Any], message: str) -> None:
    """And nothing is changed."""
    model = make()
    made = optimizer(model.parameters(), lr=0.1)
    before = copy.deepcopy(made.state_dict())
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.bind(model, made, **routes)
    assert made.state_dict() == before
    regspec.bind(model, made)


CROSSING = """\
regspec: 1
inputs: {x: {shape: [6]}}
layers:
  - Dense: {name: one, units: 4, kernel_regularizer: ONE}
  - Dense: {name: two, units: 3}
regularizers: [{layers: two, kernel: TWO}, {layers: one, units: {group_lasso: UNITS}}]
"""


@pytest.mark.parametrize(
    ("one", "two", "units", "message"),
    [
        ("l2", "[{group_lasso: 1e-3}, {group_lasso: 2e-3}, l1]", "1e-3", None),
        ("{group_lasso: 1e-3}", "l2", "1e-3", None),  # groups in groups
        ("l2", "[{group_lasso: 1e-3}, {group_lasso: {strength: 1e-3, axis: input}}]", "1e-3", "of 'two.kernel' cross"),
        ("{group_lasso: {strength: 1e-3, axis: input}}", "l2", "1e-3", "of 'one.kernel' and 'one.units' cross"),
    ],
)
def test_groups_that_cross(one: str, two: str, units: str, message: str | None) -> None:
    """On the proximal route, whose steps one by one would not be that of the sum; the gradient's may be any."""
    text = CROSSING.replace("ONE", one).replace("TWO", two).replace("UNITS", units)
    model = regspec.build(regspec.loads(text), seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    regspec.bind(model, optimizer, group_lasso="gradient").remove()
    if message is None:
        regspec.bind(model, optimizer, group_lasso="proximal")
        return
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.bind(model, optimizer, group_lasso="proximal")


def test_bound_once() -> None:
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    binding = regspec.bind(model, optimizer)
    with pytest.raises(regspec.RegspecError, match="bound already"):
        regspec.bind(model, optimizer)
    binding.remove()
    regspec.bind(model, optimizer)


def test_parameters_of_another_optimizer() -> None:
    model = make()
    optimizer = torch.optim.SGD(model.logits.parameters(), lr=0.1)
    with pytest.raises(regspec.RegspecError, match=r"'hidden\.kernel' is none of the optimizer's parameters"):
        regspec.bind(model, optimizer, l1="gradient")


def test_decoupled_decay_is_allowed_where_it_is_meant() -> None:
    model = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    regspec.bind(model, optimizer, l2="decay", decoupled=True)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.04, 0.02}


def test_constraints_are_applied() -> None:
    text = "regspec: 1\ninputs: {x: {shape: [5]}}\nlayers:\n  - Dense: {units: 3, kernel_constraint: non_neg}\n"
    model = regspec.build(regspec.loads(text), seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    regspec.bind(model, optimizer)
    model(torch.randn(4, 5)).sum().backward()
    optimizer.step()
    assert model.dense.weight.min() == 0


def test_clipping_comes_before_the_gradient_route() -> None:
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    regspec.bind(model, optimizer, l2="gradient")
    before = model.middle.bias.detach().clone().add_(1)
    with torch.no_grad():
        model.middle.bias.copy_(before)
    (model(torch.randn(4, 7)).sum() + model.regularization_loss()).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-9)
    optimizer.step()
    torch.testing.assert_close(model.middle.bias, before - 2 * 1e-2 * before)


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaled_loss(fused: bool) -> None:
    """GradScaler takes its scale out of the gradients before the step, or has a fused optimizer take it out."""

    def step(route: str) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = make()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
        regspec.bind(model, optimizer, l1=route, l2=route)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        x, y = torch.randn(8, 7), torch.randint(0, 3, (8,))
        scaler.scale(F.cross_entropy(model(x), y) + model.regularization_loss()).backward()
        scaler.step(optimizer)
        return model.state_dict()

    torch.testing.assert_close(step("gradient"), step("loss"), rtol=1e-4, atol=1e-6)


def test_any_module() -> None:
    rules = {"regspec": 1, "rules": [{"types": ["Linear"], "kernel_regularizer": {"l2": 0.1}}]}
    model = regspec.regularize(nn.Sequential(nn.Linear(3, 2)), rules)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    regspec.bind(nn.Sequential(model), optimizer, l2="decay")
    assert model.regularization_loss() == 0
    assert optimizer.param_groups[1]["weight_decay"] == 0.2


def test_accelerate() -> None:
    """Its accumulation and clipping, against the same by hand: the proximal step, the decay and the schedule follow."""
    spec = SPEC.replace("kernel_regularizer: {l1: 1e-2,", "kernel_regularizer: {schedule: {warmup: 3}, l1: 1e-2,")
    batches = [(torch.randn(4, 7), torch.randint(0, 3, (4,))) for _ in range(8)]
    states = []
    for is_accelerated in (True, False):
        model = regspec.build(regspec.loads(spec), seed=1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        regspec.bind(model, optimizer, l1="proximal", l2="decay")
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        prepared, stepper = accelerator.prepare(model, optimizer) if is_accelerated else (model, optimizer)
        for index, (x, y) in enumerate(batches):
            is_last = index % 2 == 1
            with accelerator.accumulate(prepared) if is_accelerated else nullcontext():
                loss = F.cross_entropy(prepared(x), y) + regspec.regularization_loss(prepared)
                if is_accelerated:
                    accelerator.backward(loss)
                else:
                    (loss / 2).backward()
                if is_last:
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                if is_accelerated or is_last:
                    stepper.step()
                    stepper.zero_grad()
        states.append(model.state_dict())
    torch.testing.assert_close(states[0], states[1])
