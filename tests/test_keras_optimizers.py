"""Optimizers that step as Keras's do: twelve steps of Keras's own, on the same gradients."""

from __future__ import annotations

import copy
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import optimizers
from keras.optimizers.schedules import ExponentialDecay

import regspec
from regspec.training.options.keras_optimizers import KERAS_OPTIMIZERS
from regspec.training.options.optimizers import optimizer_of

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of Keras, in a step

STEPS = 12
START = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
# Some are as small as an epsilon, and one is always 0.
GRADIENTS = np.random.default_rng(0).standard_normal((STEPS, 4, 3)).astype(np.float32)
GRADIENTS *= np.float32([1, 1e-2, 1e-4])
GRADIENTS[:, 0, 0] = 0

# What is said of an optimizer, and Keras's.
ROWS: dict[str, Any] = {
    "keras_sgd": optimizers.SGD(0.1),
    "keras_sgd momentum=0.9": optimizers.SGD(0.1, momentum=0.9),
    "keras_sgd momentum=0.9 nesterov=true": optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "keras_sgd momentum=0.9 weight_decay=0.2": optimizers.SGD(0.1, momentum=0.9, weight_decay=0.2),
    "keras_adam": optimizers.Adam(0.1),
    "keras_adam eps=0.1 betas=(0.8,0.9)": optimizers.Adam(0.1, epsilon=0.1, beta_1=0.8, beta_2=0.9),
    "keras_adam amsgrad=true eps=1e-3": optimizers.Adam(0.1, amsgrad=True, epsilon=1e-3),
    "keras_adam weight_decay=0.2": optimizers.AdamW(0.1, weight_decay=0.2),
    "keras_adamax": optimizers.Adamax(0.1),
    "keras_adamax eps=0.1 betas=(0.8,0.9) weight_decay=0.2": optimizers.Adamax(
        0.1, epsilon=0.1, beta_1=0.8, beta_2=0.9, weight_decay=0.2
    ),
    "keras_rmsprop": optimizers.RMSprop(0.1),
    "keras_rmsprop alpha=0.8 eps=0.1": optimizers.RMSprop(0.1, rho=0.8, epsilon=0.1),
    "keras_rmsprop momentum=0.9 centered=true weight_decay=0.2": optimizers.RMSprop(
        0.1, momentum=0.9, centered=True, weight_decay=0.2
    ),
    "keras_adagrad": optimizers.Adagrad(0.1),
    "keras_adagrad eps=0.1 initial_accumulator_value=0.0 weight_decay=0.2": optimizers.Adagrad(
        0.1, epsilon=0.1, initial_accumulator_value=0.0, weight_decay=0.2
    ),
    "keras_adadelta": optimizers.Adadelta(0.1),
    "keras_adadelta rho=0.8 eps=0.1 weight_decay=0.2": optimizers.Adadelta(0.1, rho=0.8, epsilon=0.1, weight_decay=0.2),
    "keras_lion": optimizers.Lion(0.1),
    "keras_lion betas=(0.8,0.9) weight_decay=0.2": optimizers.Lion(0.1, beta_1=0.8, beta_2=0.9, weight_decay=0.2),
}


def of_keras(stored: Any, rate: Any) -> list[Any]:
    """The weights after each step of Keras's optimizer."""
    optimizer = type(stored).from_config({**stored.get_config(), "learning_rate": rate})
    variable = keras.Variable(START)
    steps = []
    for each in GRADIENTS:
        optimizer.apply([torch.tensor(each)], [variable])
        steps.append(np.array(variable.value.detach()))
    return steps


def ours(text: str) -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
    cls, arguments = optimizer_of(text)
    parameter = torch.nn.Parameter(torch.tensor(START))
    return parameter, cls([parameter], lr=0.1, **arguments)


def step(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer, gradient: Any) -> Any:
    parameter.grad = torch.tensor(gradient)
    optimizer.step()
    return parameter.detach().numpy().copy()


@pytest.mark.parametrize("rate", ["constant", "falling"])
@pytest.mark.parametrize("text", ROWS)
def test_steps(text: str, rate: str) -> None:
    """At each step; where the rate falls, momentum goes on as it was. Keras has powers of betas in single precision."""
    parameter, optimizer = ours(text)
    gamma = 1.0 if rate == "constant" else 0.7
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
    wanted = of_keras(ROWS[text], 0.1 if rate == "constant" else ExponentialDecay(0.1, 1, gamma))
    for gradient, expected in zip(GRADIENTS, wanted, strict=True):
        np.testing.assert_allclose(step(parameter, optimizer, gradient), expected, rtol=1e-5, atol=1e-5)
        scheduler.step()


def test_every_one_has_a_row() -> None:
    assert {text.split()[0] for text in ROWS} == {*KERAS_OPTIMIZERS}


@pytest.mark.parametrize("text", ROWS)
def test_it_goes_on(text: str) -> None:
    """From the state of another, and from a copy."""
    parameter, optimizer = ours(text)
    for gradient in GRADIENTS[:5]:
        step(parameter, optimizer, gradient)
    copied = copy.deepcopy((parameter, optimizer))
    loaded = ours(text)
    loaded[0].data.copy_(parameter.data)
    loaded[1].load_state_dict(copy.deepcopy(optimizer.state_dict()))  # which would be shared
    for gradient in GRADIENTS[5:]:
        expected = step(parameter, optimizer, gradient)
        assert all(np.array_equal(step(*each, gradient), expected) for each in (copied, loaded))


@pytest.mark.parametrize("arguments", [{"eps": -1.0}, {"betas": (0.9, 1.0)}, {"weight_decay": -1.0}, {"lr": -1.0}])
def test_what_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Invalid"):
        KERAS_OPTIMIZERS["keras_adam"]([torch.nn.Parameter(torch.ones(3))], **{"lr": 0.1, **arguments})


def test_a_decay_route_is_refused() -> None:
    """Because the weight decay is no gradient of an L2."""
    spec = {"inputs": {"x": {"shape": [3]}}, "layers": [{"Dense": {"units": 2, "kernel_regularizer": "l2"}}]}
    model: Any = regspec.build(spec, seed=0)
    for cls in KERAS_OPTIMIZERS.values():
        with pytest.raises(regspec.RegspecError, match="is decoupled, and no gradient of an L2"):
            regspec.bind(model, cls(model.parameters(), lr=0.1), l2="decay")
