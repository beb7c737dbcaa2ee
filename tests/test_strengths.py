"""Another strength for a regularizer of a live model: its penalty, its gradient, its schedule, its route."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import regspec
from regspec.runtime import (
    L1,
    L1L2,
    L2,
    Apart,
    GroupLasso,
    Hoyer,
    Norm,
    Regularized,
    Scheduled,
    Sum,
    WarmupSchedule,
    WithWeights,
)


def cubed(x: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    return strength * x.abs().pow(3).sum()


def times(x: torch.Tensor, strength: float, *, other: torch.Tensor) -> torch.Tensor:
    return strength * (x.sum() * other.sum()).square()


def net(regularizer: Any, *, of_output: bool = False) -> Any:
    class Net(Regularized):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 6)
            made = regularizer(self)
            if of_output:
                self.add_activity_terms(made, {"layer.activity": "layer"})
            else:
                self.add_weight_terms(made, {"layer.kernel": "layer.weight"})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    torch.manual_seed(0)
    return Net()


# by the kind whose strength is set: what makes a regularizer of a strength
MADE: dict[str, Any] = {
    "l1": lambda strength: lambda _: L1(strength),
    "l2": lambda strength: lambda _: L1L2(l1=0.3, l2=strength),
    "group_lasso": lambda strength: lambda _: Apart(GroupLasso(strength, dim=0), 2),
    "hoyer": lambda strength: lambda _: Hoyer(strength),
    "norm": lambda strength: lambda _: Scheduled(Norm(strength), WarmupSchedule(over=4)),
    "cubed": lambda strength: lambda _: partial(cubed, strength=strength),
    "times": lambda strength: lambda model: WithWeights(partial(times, strength=strength), model, other="layer.bias"),
}


@pytest.mark.parametrize("of_output", [False, True])
@pytest.mark.parametrize("kind", MADE)
def test_another_strength(kind: str, of_output: bool) -> None:
    """The model is then as if it had been made with that strength, in training and in evaluation, and so is a copy."""
    slot = "activity" if of_output else "kernel"
    model, wanted = (net(MADE[kind](strength), of_output=of_output) for strength in (0.1, 0.7))
    other = copy.deepcopy(model)
    for each in (model, wanted, other):
        each.set_schedules(2)
    model.set_strength(f"layer.{slot}.{kind}", 0.7)
    assert regspec.strengths(model) == regspec.strengths(wanted)
    assert regspec.strengths(other) != regspec.strengths(model)
    x = torch.randn(3, 4)
    for is_training in (True, False):
        losses = []
        for each in (model, wanted, copy.deepcopy(model)):
            each.train(is_training)
            each(x)
            loss = each.regularization_loss()
            losses.append((loss, *torch.autograd.grad(loss, [each.layer.weight])))
        torch.testing.assert_close(losses[0], losses[1])
        torch.testing.assert_close(losses[2], losses[1])


def test_several_of_one_name() -> None:
    """Each has a name and a strength of its own, and their sum is the penalty."""
    model = net(lambda _: Sum(L1L2(l1=0.1, l2=0.2), L2(0.3), Norm(0.4), Scheduled(L2(0.5), WarmupSchedule(over=4))))
    model.set_schedules(2)
    names = ("l1", "l2", "l2_1", "norm", "l2_2")
    assert regspec.strengths(model) == {
        f"layer.kernel.{name}": value for name, value in zip(names, (0.1, 0.2, 0.3, 0.4, 0.25), strict=True)
    }
    model.set_strength("layer.kernel.l2_1", 3.0)
    model.set_strength("layer.kernel.l2_2", 5.0)
    weight = model.layer.weight
    wanted = 0.1 * weight.abs().sum() + (0.2 + 3.0 + 2.5) * weight.square().sum() + 0.4 * weight.norm()
    torch.testing.assert_close(model.regularization_loss(), wanted)


def test_in_compiled_code() -> None:
    model = net(lambda _: L2(0.1), of_output=True)
    step = torch.compile(model, backend="eager", fullgraph=True)
    x = torch.randn(3, 4)
    for strength in (0.1, 0.7):
        model.set_strength("layer.activity.l2", strength)
        output = step(x)
        torch.testing.assert_close(model.regularization_loss(), strength * output.square().sum() / 3)


def test_on_its_route() -> None:
    """The gradient that is added before the step has the strength of now."""
    models = [net(MADE["l2"](strength)) for strength in (0.1, 0.7)]
    for model in models:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        regspec.bind(model, optimizer, l1="gradient", l2="gradient")
        model.set_strength("layer.kernel.l2", 0.7)
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict())


@pytest.mark.parametrize(
    ("name", "strength", "message"),
    [
        ("layer.kernel.l1", 0.1, r"there is no 'layer.kernel.l1': the regularizers are layer.kernel.l2$"),
        ("layer.kern.l2", 0.1, "there is no 'layer.kern.l2'"),
        ("l2", 0.1, "there is no 'l2'"),
        ("layer.kernel.l2", -0.1, "a strength is at least 0 and finite, but is -0.1"),
        ("layer.kernel.l2", float("nan"), "a strength is at least 0 and finite, but is nan"),
    ],
)
def test_what_is_wrong(name: str, strength: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(lambda _: L2(0.1)).set_strength(name, strength)


def test_what_has_no_strength_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"'layer.kernel.linalg_vector_norm' can't .*: it has no strength of its own"):
        net(lambda _: torch.linalg.vector_norm).set_strength("layer.kernel.linalg_vector_norm", 0.2)
    model = net(lambda _: L2(0.1))
    regspec.bind(model, torch.optim.SGD(model.parameters(), lr=0.1), l2="decay")
    with pytest.raises(ValueError, match=r"it is the optimizer's weight_decay"):
        model.set_strength("layer.kernel.l2", 0.2)
