"""The threshold of each step: for every form of an optimizer, in every way to make a step, beside steps by hand.

By hand, the same optimizer one parameter after the other, and then a soft threshold by the formula of its class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR

import regspec
from tests.net import agree

STRENGTH, STEPS = 0.3, 5
TARGETS = {
    "a": torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(4, 3),
    "b": torch.linspace(1, -1, 10, dtype=torch.float64).reshape(2, 5),
}

Make = Callable[[Any], Optimizer]


def of_sgd(group: Any, state: Any) -> Any:
    return group["lr"] / (1 - group["momentum"])


def of_adam(group: Any, state: Any) -> Any:
    squares = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
    return group["lr"] / ((squares / (1 - group["betas"][1] ** state["step"].item())).sqrt() + group["eps"])


def of_rmsprop(group: Any, state: Any) -> Any:
    return group["lr"] / (1 - group["momentum"]) / (state["square_avg"].sqrt() + group["eps"])


def of_adagrad(group: Any, state: Any) -> Any:
    return group["lr"] / (state["sum"].sqrt() + group["eps"])


BY_HAND = {"foreach": False}


@dataclass(frozen=True)
class Form:
    """How an optimizer is made, what of it is otherwise by hand, and the sizes of its steps by the formula."""

    make: Callable[..., Optimizer]
    own: dict[str, Any]
    size: Callable[[Any, Any], Any]


def with_a_tensor(parameters: Any, foreach: bool) -> Optimizer:
    """Schedulers write to the tensor."""
    return optim.Adam(parameters, lr=torch.tensor(0.1, dtype=torch.float64), foreach=foreach)


MOMENTUM = partial(optim.SGD, lr=0.05, momentum=0.8, nesterov=True)
ADAM, AMSGRAD = partial(optim.Adam, lr=0.1), partial(optim.Adam, lr=0.1, amsgrad=True)
ADAMW, RMSPROP = partial(optim.AdamW, lr=0.1), partial(optim.RMSprop, lr=0.05, momentum=0.5)
ADAGRAD = partial(optim.Adagrad, lr=0.3)
FORMS = {
    "SGD": Form(MOMENTUM, {}, of_sgd),
    "SGD, foreach": Form(MOMENTUM, {"foreach": True}, of_sgd),
    "SGD, fused": Form(MOMENTUM, {"fused": True}, of_sgd),
    "Adam": Form(ADAM, {}, of_adam),
    "Adam, foreach": Form(ADAM, {"foreach": True}, of_adam),
    "Adam, fused": Form(ADAM, {"fused": True}, of_adam),
    "Adam, rate in a tensor": Form(with_a_tensor, BY_HAND, of_adam),
    "AMSGrad, fused": Form(AMSGRAD, {"fused": True}, of_adam),
    "AdamW, fused": Form(ADAMW, {"fused": True}, of_adam),
    "RMSprop, foreach": Form(RMSPROP, {"foreach": True}, of_rmsprop),
    "Adagrad, foreach": Form(ADAGRAD, {"foreach": True}, of_adagrad),
    "Adagrad, fused": Form(ADAGRAD, {"fused": True}, of_adagrad),
}


def weights() -> nn.ParameterDict:
    generator = torch.Generator().manual_seed(3)
    return nn.ParameterDict(
        {name: 0.2 * torch.randn(x.shape, generator=generator).double() for name, x in TARGETS.items()}
    )


def loss_of(model: Any, part: float) -> Tensor:
    """The least at the targets; the two parts of a batch, 0.5 and 1.5, are on average the whole."""
    return part * sum((0.5 * (model[name] - x).square()).sum() for name, x in TARGETS.items())


# -- ways to make a step -----------------------------------------------------------------------------------------------

Step = Callable[[], Any]


def plainly(model: Any, optimizer: Optimizer, stepped: Step) -> None:
    loss_of(model, 1.0).backward()
    stepped()


def with_a_closure(model: Any, optimizer: Optimizer, stepped: Step) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, 1.0)
        loss.backward()
        return loss

    optimizer.step(closure)


def accumulated(model: Any, optimizer: Optimizer, stepped: Step) -> None:
    for part in (0.5, 1.5):
        (loss_of(model, part) / 2).backward()
    stepped()


def scaled(model: Any, optimizer: Optimizer, stepped: Step) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for part in (0.5, 1.5):
        scaler.scale(loss_of(model, part) / 2).backward()
    scaler.step(optimizer)
    scaler.update()


def clipped(model: Any, optimizer: Optimizer, stepped: Step) -> None:
    loss_of(model, 1.0).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.7)
    stepped()


WAYS = {each.__name__: each for each in (plainly, with_a_closure, accumulated, scaled, clipped)}
SCHEDULES = {"": (1.0, {}), ", rate and strength scheduled": (0.8, {"schedule": {"warmup": 3}})}


def check(
    form: Form,
    way: Callable[[Any, Optimizer, Step], None],
    falls: float,
    schedule: dict[str, Any],
    wrap: Callable[[Step], Step] = lambda step: step,
    tolerance: float = 1e-9,
) -> None:
    """Beside steps by hand, while the rate falls by a factor, and the strength rises by a schedule."""
    plain = weights()
    model = regspec.regularize(weights(), [{"parameters": "a|b", "regularizer": {"l1": STRENGTH, **schedule}}])
    optimizer, hand = (form.make(each.parameters(), **own) for each, own in ((model, form.own), (plain, BY_HAND)))
    regspec.bind(model, optimizer, l1="proximal")
    rates = [ExponentialLR(each, falls) for each in (optimizer, hand)]
    stepped = wrap(optimizer.step)
    zeros = 0
    for index in range(STEPS):
        optimizer.zero_grad()
        hand.zero_grad()
        way(model, optimizer, stepped)
        (clipped if way is clipped else plainly)(plain, hand, hand.step)
        strength = STRENGTH * (min(1.0, index / 3) if schedule else 1.0)
        with torch.no_grad():
            for x in plain.parameters():
                threshold = strength * form.size(hand.param_groups[0], hand.state[x])
                x.copy_(x.sign() * (x.abs() - threshold).clamp_min(0))
        for x, wanted in zip(model.parameters(), plain.parameters(), strict=True):
            agree(x.detach(), wanted.detach(), tolerance)
            zeros += int((x == 0).sum())
        for each in rates:
            each.step()
    assert zeros > 3


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", FORMS)
def test_thresholds(form: str, way: str, schedule: str) -> None:
    check(FORMS[form], WAYS[way], *SCHEDULES[schedule])


COMPILED = {
    "SGD, foreach": FORMS["SGD, foreach"],
    "Adam": FORMS["Adam"],
    "Adam, capturable": Form(ADAM, {"capturable": True}, of_adam),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")  # torch's own, when it is imported
@pytest.mark.parametrize("form", COMPILED)
def test_compiled_steps(form: str) -> None:
    """The step is compiled, where torch counts in float32, and what is done around it is not."""
    compiled = partial(torch.compile, backend="eager")
    check(COMPILED[form], plainly, *SCHEDULES[""], wrap=compiled, tolerance=1e-5)
