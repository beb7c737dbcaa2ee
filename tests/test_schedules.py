"""Strengths that follow schedules: their formulas, in the loss and on the other routes, compiled, and resumed."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F
from torch.optim import lr_scheduler

import regspec
from regspec import runtime
from regspec.language.schedules import SCHEDULES

SPEC = """
regspec: 1
name: net
inputs: {{x: {{shape: [7]}}}}
layers:
  - Dense:
      name: hidden
      units: 5
      kernel_regularizer: {{l1: 0.1, l2: 0.2, schedule: {schedule}}}
      activity_regularizer: [{{l1: 0.3, schedule: {schedule}}}, {{l2: 0.4}}]
  - Dense: {{name: logits, units: 3, kernel_regularizer: {{group_lasso: 0.5, schedule: {schedule}}}}}
"""
WARMUP = "{warmup: 4}"


def make(schedule: str = WARMUP) -> runtime.Regularized:
    return regspec.build(regspec.loads(SPEC.format(schedule=schedule)), seed=1)


def closed_form(model: Any, x: Tensor, factor: float) -> Tensor:
    """The regularization loss where the schedule's factor is this one."""
    hidden = model.hidden(x)
    kernel, logits = model.hidden.weight, model.logits.weight
    return (
        factor * (0.1 * kernel.abs().sum() + 0.2 * kernel.square().sum())
        + (factor * 0.3 * hidden.abs().sum() + 0.4 * hidden.square().sum()) / len(x)
        + factor * 0.5 * math.sqrt(5) * logits.norm(dim=1).sum()
    )


# -- formulas ----------------------------------------------------------------------------------------------------------

FACTORS = [
    ("{constant: {value: 0.5, over: 3}}", [0.5, 0.5, 0.5, 1, 1]),
    ("{linear: {start: 0.2, end: 1, over: 4}}", [0.2, 0.4, 0.6, 0.8, 1, 1]),
    ("{linear: {start: 1, end: 0, over: 2}}", [1, 0.5, 0, 0]),
    ("{cosine: 4}", [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0, 0]),
    ("{cosine: {over: 2, start: 0, end: 3}}", [0, 1.5, 3, 3]),
    ("{exponential: 0.5}", [1, 0.5, 0.25, 0.125]),
    ("{exponential: {rate: 4, over: 2}}", [1, 2, 4, 8]),
    (WARMUP, [0, 0.25, 0.5, 0.75, 1, 1]),
    ("{steps: {at: [1, 3], rate: 0.1}}", [1, 0.1, 0.1, 0.01, 0.01]),
    ("[{warmup: 2}, {steps: {at: [3], rate: 0.5}}]", [0, 0.5, 1, 0.5, 0.5]),
    ("{linear: {start: 0, end: 1, over: 2, unit: epoch}}", [0, 0, 0.5, 0.5, 1, 1]),
]


def test_every_schedule_has_a_row() -> None:
    assert all(any(name in text for text, _ in FACTORS) for name in SCHEDULES.members)


@pytest.mark.parametrize(("schedule", "factors"), FACTORS, ids=[text for text, _ in FACTORS])
def test_the_strength_of_each_step(schedule: str, factors: list[float]) -> None:
    """In value and gradient, when the optimizer has done 0, 1, 2, … steps; an epoch is two."""
    model = make(schedule)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    regspec.bind(model, optimizer, steps_per_epoch=2)
    for factor in factors:
        x = torch.randn(4, 7)
        model(x)
        loss, wanted = model.regularization_loss(), closed_form(model, x, factor)
        torch.testing.assert_close(loss, wanted)
        torch.testing.assert_close(sum(model.regularization_terms().values()), wanted)
        optimizer.zero_grad()
        loss.backward()
        expected = torch.autograd.grad(wanted, [model.hidden.weight, model.hidden.bias])
        torch.testing.assert_close([model.hidden.weight.grad, model.hidden.bias.grad], [*expected])
        optimizer.step()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (runtime.ConstantSchedule(value=0.3, over=4), lambda o: lr_scheduler.ConstantLR(o, 0.3, 4)),
        (runtime.LinearSchedule(start=0.3, end=0.9, over=4), lambda o: lr_scheduler.LinearLR(o, 0.3, 0.9, 4)),
        (runtime.CosineSchedule(over=6), lambda o: lr_scheduler.CosineAnnealingLR(o, 6)),
        (runtime.ExponentialSchedule(rate=0.7), lambda o: lr_scheduler.ExponentialLR(o, 0.7)),
        (runtime.StepsSchedule(at=(2, 5), rate=0.1), lambda o: lr_scheduler.MultiStepLR(o, [2, 5], 0.1)),
    ],
    ids=["constant", "linear", "cosine", "exponential", "steps"],
)
def test_as_torch_schedules_learning_rates(ours: runtime.Schedule, theirs: Any) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = theirs(optimizer)
    for step in range(7):
        assert ours.factor(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()


# -- who sets the strengths --------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    model, x = make("{linear: {start: 0, end: 1, over: 4, unit: epoch}}"), torch.randn(4, 7)
    model(x)
    with pytest.raises(RuntimeError, match=r"strengths follow a schedule, but nothing sets them(.|\n)*bind"):
        model.regularization_loss()
    with pytest.raises(ValueError, match="counts epochs"):
        model.set_schedules(3)
    model.set_schedules(30, epoch=3)
    torch.testing.assert_close(model.regularization_loss(), closed_form(model, x, 0.75))


def test_evaluation_needs_nobody_to_set_them() -> None:
    model, x = make().eval(), torch.randn(4, 7)
    with torch.no_grad():
        model(x)
        torch.testing.assert_close(model.regularization_loss(), closed_form(model, x, 0.0))


def test_epochs_need_their_length() -> None:
    model = make("{warmup: {over: 3, unit: epoch}}")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with pytest.raises(regspec.RegspecError, match=r"counts epochs(.|\n)*steps_per_epoch=len\(loader\)"):
        regspec.bind(model, optimizer)
    regspec.bind(model, optimizer, steps_per_epoch=10)


def test_any_module() -> None:
    rules = {"regspec": 1, "rules": [{"types": ["Linear"], "kernel_regularizer": {"l2": 0.1, "schedule": "nothing"}}]}
    module = torch.nn.Sequential(torch.nn.Linear(3, 2))
    with pytest.raises(regspec.RegspecError, match="names no schedule: 'nothing'"):
        regspec.regularize(module, rules)
    rules["rules"][0]["kernel_regularizer"]["schedule"] = {"warmup": 2}
    model = regspec.regularize(module, rules)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    regspec.bind(model, optimizer)
    optimizer.step()
    torch.testing.assert_close(model.regularization_loss(), 0.05 * module[0].weight.square().sum())


# -- routes ------------------------------------------------------------------------------------------------------------


def trained(model: runtime.Regularized, optimizer: torch.optim.Optimizer, steps: range) -> dict[str, Tensor]:
    for step in steps:
        torch.manual_seed(step)
        x, y = torch.randn(8, 7), torch.randint(0, 3, (8,))
        optimizer.zero_grad()
        (F.cross_entropy(model(x), y) + model.regularization_loss()).backward()
        optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize("routes", [{"l1": "gradient", "l2": "gradient", "group_lasso": "gradient"}, {"l2": "decay"}])
def test_routes_follow_schedules(routes: dict[str, Any]) -> None:
    models = [make(), make()]
    states = []
    for model, own in zip(models, ({}, routes), strict=True):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        regspec.bind(model, optimizer, **own)
        states.append(trained(model, optimizer, range(7)))
    torch.testing.assert_close(states[0], states[1], rtol=1e-4, atol=1e-6)


def test_a_proximal_step_follows_its_schedule() -> None:
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    regspec.bind(model, optimizer, l1="proximal")
    for factor in (0, 0.25, 0.5):
        model.zero_grad()
        model.hidden.weight.grad = torch.zeros_like(model.hidden.weight)
        before = model.hidden.weight.detach().clone()
        optimizer.step()
        wanted = before.sign() * (before.abs() - 0.1 * factor).clamp_min(0)
        torch.testing.assert_close(model.hidden.weight.detach(), wanted)


@pytest.mark.parametrize("routes", [{}, {"l1": "proximal", "l2": "decay"}], ids=str)
def test_a_resumed_run_goes_on_exactly(routes: dict[str, Any]) -> None:
    """From the state of the model and of the optimizer, bit for bit; in the midst of a warm-up."""

    def bound() -> tuple[runtime.Regularized, torch.optim.Optimizer]:
        model = make("{warmup: {over: 4, unit: epoch}}")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        regspec.bind(model, optimizer, steps_per_epoch=3, **routes)
        return model, optimizer

    model, optimizer = bound()
    trained(model, optimizer, range(7))
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    assert list(saved[0]) == ["hidden.weight", "hidden.bias", "logits.weight", "logits.bias"]
    wanted = trained(model, optimizer, range(7, 14))
    model, optimizer = bound()
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    got = trained(model, optimizer, range(7, 14))
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


def test_unbound_the_optimizer_is_as_it_was() -> None:
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = copy.deepcopy(optimizer.state_dict())
    binding = regspec.bind(model, optimizer, l2="decay")
    trained(model, optimizer, range(2))
    binding.remove()
    assert optimizer.state_dict() == before


# -- other settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_nothing_is_compiled_again(backend: str) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend(backend)
    model, x = make(), torch.randn(4, 7)
    model.set_schedules(0)

    @torch.compile(fullgraph=True, backend=counter)
    def step(x: Tensor) -> Tensor:
        return model(x).square().sum() + model.regularization_loss()

    compiled = []
    for count in range(5):
        model.set_schedules(count)
        wanted = model(x).square().sum() + closed_form(model, x, count / 4)
        torch.testing.assert_close(step(x), wanted)
        compiled.append(counter.frame_count)
    assert len(set(compiled)) == 1


def test_half_precision_does_not_round_strengths() -> None:
    model = make("{constant: {value: 0.3, over: 9}}").half()
    model.set_schedules(1)
    kernel = model.hidden.weight.double()
    wanted = 0.3 * (0.1 * kernel.abs().sum() + 0.2 * kernel.square().sum())
    torch.testing.assert_close(model.regularization_terms()["hidden.kernel"].double(), wanted, rtol=1e-5, atol=0)


def test_copies_have_strengths_of_their_own() -> None:
    model = make()
    model.set_schedules(2)
    copied = copy.deepcopy(model)
    copied.set_schedules(4)
    for each, factor in ((model, 0.5), (copied, 1.0)):
        x = torch.randn(4, 7)
        each(x)
        torch.testing.assert_close(each.regularization_loss(), closed_form(each, x, factor))
