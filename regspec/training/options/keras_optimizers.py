"""Optimizers whose steps are Keras's, where torch's of the same name take others: what a ported model is trained on by.

Two ways were weighed: torch's own with other numbers, which come near where epsilons are small and rates constant; or,
as here, Keras's formulas, from keras/src/optimizers of Keras 3.15. What differs:

- The weight decay shrinks the weights by themselves, as AdamW's does, in all of them.
- Momentum keeps steps, with the learning rate that each had, and not gradients: it goes on as the rate falls.
- Adam's epsilon is the "epsilon hat" of Kingma and Ba (2015), outside of the correction of the bias.
- The epsilons of RMSprop, Adagrad and Adadelta are under the root.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from regspec.modules.step_sizes import Sized
from regspec.runtime.kernels.thresholds import StepSize

State = dict[str, Any]  # tensors, but for the rate
Group = dict[str, Any]


class _Stepped(Sized, Optimizer):
    """Steps each parameter by itself; what is said of it is checked as torch does.

    A class says its settings with their defaults, what it keeps, and how it moves a parameter. Of each parameter the
    state has the number of steps, and the rate by which a constant gradient moves it: the sum of the learning rates
    that momentum has kept.
    """

    kept: tuple[str, ...] = ()  # of each parameter, in its shape, beside the number of steps
    __signature__: Signature  # which training files and the command line read

    def __init_subclass__(cls, *, lr: float = 0.001, **settings: Any) -> None:
        super().__init_subclass__()
        defaults = {"params": Parameter.empty, "lr": lr, **settings, "weight_decay": 0.0}
        kind = Parameter.POSITIONAL_OR_KEYWORD
        cls.__signature__ = Signature([Parameter(name, kind, default=each) for name, each in defaults.items()])

    def __init__(self, *values: Any, **named: Any) -> None:
        bound = self.__signature__.bind(*values, **named)
        bound.apply_defaults()
        params, settings = bound.arguments.pop("params"), bound.arguments
        for name, value in settings.items():
            for each in value if isinstance(value, tuple) else (value,):
                if not each >= 0 or (name == "betas" and each >= 1):
                    raise ValueError(f"Invalid {name}: {value}")
        # as torch's NAdam says it, for whoever asks what the decay is
        super().__init__(params, {**settings, "decoupled_weight_decay": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"], state["rate"] = (
                        torch.tensor(0.0),
                        0.0,
                    )  # no tensor: that would be loaded as a weight's type
                    state.update({name: self.start(parameter, group) for name in self.kept_in(group)})
                state["step"] += 1
                state["rate"] = state["rate"] * group.get("momentum", 0.0) + float(group["lr"])
                if group["weight_decay"]:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                self.move(parameter, parameter.grad, state, group)
        return loss

    def kept_in(self, group: Group) -> tuple[str, ...]:
        """What is kept of the parameters of a group: less, where a setting needs less."""
        return self.kept

    def start(self, parameter: Tensor, group: Group) -> Tensor:
        """What is kept of a parameter before the first step."""
        return torch.zeros_like(parameter)

    def move(self, parameter: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        """Moves a parameter by its gradient."""
        raise NotImplementedError


class KerasSGD(_Stepped, lr=0.01, momentum=0.0, nesterov=False):
    """Stochastic gradient descent, whose momentum keeps steps."""

    kept = ("momentum",)

    def move(self, parameter: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        step = state["momentum"].mul_(group["momentum"]).sub_(gradient, alpha=group["lr"])
        if group["nesterov"]:
            parameter.add_(step, alpha=group["momentum"]).sub_(gradient, alpha=group["lr"])
        else:
            parameter.add_(step)

    def step_size(self, group: Group, state: State) -> StepSize:
        rate = state["rate"]
        return StepSize(rate * group["momentum"] + group["lr"] if group["nesterov"] else rate)


class KerasAdam(_Stepped, betas=(0.9, 0.999), eps=1e-7, amsgrad=False):
    """Adam, and with a weight decay AdamW."""

    kept = ("mean", "square", "largest")

    def kept_in(self, group: Group) -> tuple[str, ...]:
        return self.kept if group["amsgrad"] else ("mean", "square")

    def move(self, parameter: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        (first, second), steps = group["betas"], state["step"].item()
        mean = state["mean"].lerp_(gradient, 1 - first)
        square = state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        if group["amsgrad"]:
            square = state["largest"].copy_(torch.maximum(state["largest"], square))
        size = group["lr"] * math.sqrt(1 - second**steps) / (1 - first**steps)
        parameter.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-size)

    def step_size(self, group: Group, state: State) -> StepSize:
        rate = group["lr"] * math.sqrt(1 - group["betas"][1] ** state["step"].item())
        return StepSize(rate, (state["largest" if group["amsgrad"] else "square"],), eps=group["eps"])


class KerasAdamax(_Stepped, betas=(0.9, 0.999), eps=1e-7):
    """Adam with the largest gradient so far, which fades, in place of the root of the squares."""

    kept = ("mean", "largest")

    def move(self, parameter: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        first, second = group["betas"]
        mean = state["mean"].lerp_(gradient, 1 - first)
        largest = state["largest"].copy_(torch.maximum(state["largest"] * second, gradient.abs()))
        size = group["lr"] / (1 - first ** state["step"].item())
        parameter.addcdiv_(mean, largest + group["eps"], value=-size)

    def step_size(self, group: Group, state: State) -> StepSize:
        return StepSize(group["lr"], (state["largest"],), torch.square, eps=group["eps"])


class KerasRMSprop(_Stepped, alpha=0.9, eps=1e-7, momentum=0.0, centered=False):
    """RMSprop; ``alpha`` is what Keras calls rho."""

    kept = ("square", "momentum", "mean")

    def kept_in(self, group: Group) -> tuple[str, ...]:
        return ("square", *(["momentum"] if group["momentum"] else []), *(["mean"] if group["centered"] else []))

    def move(self, parameter: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        alpha = group["alpha"]
        square = state["square"].mul_(alpha).addcmul_(gradient, gradient, value=1 - alpha)
        if group["centered"]:
            mean = state["mean"].lerp_(gradient, 1 - alpha)
            square = square.addcmul(mean, mean, value=-1)
        step = gradient / (square + group["eps"]).sqrt_()
        if group["momentum"]:
            step = state["momentum"].mul_(group["momentum"]).add_(step, alpha=group["lr"])
            parameter.sub_(step)
        else:
            parameter.sub_(step, alpha=group["lr"])

    def step_size(self, group: Group, state: State) -> StepSize:
        eps = group["eps"]
        if not group["centered"]:
            return StepSize(state["rate"], (state["square"],), lambda square: square + eps)
        kept = state["square"], state["mean"]
        return StepSize(state["rate"], kept, lambda square, mean: (square + eps).addcmul_(mean, mean, value=-1))


class KerasAdagrad(_Stepped, initial_accumulator_value=0.1, eps=1e-7):
    """Adagrad."""

    kept = ("square",)

    def start(self, parameter: Tensor, group: Group) -> Tensor:
        return torch.full_like(parameter, group["initial_accumulator_value"])

    def move(self, parameter: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        square = state["square"].addcmul_(gradient, gradient)
        parameter.addcdiv_(gradient, (square + group["eps"]).sqrt_(), value=-group["lr"])

    def step_size(self, group: Group, state: State) -> StepSize:
        eps = group["eps"]
        return StepSize(group["lr"], (state["square"],), lambda square: square + eps)


class KerasAdadelta(_Stepped, rho=0.95, eps=1e-7):
    """Adadelta."""

    kept = ("square", "moved")

    def move(self, parameter: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        rho, eps = group["rho"], group["eps"]
        square = state["square"].mul_(rho).addcmul_(gradient, gradient, value=1 - rho)
        step = (state["moved"] + eps).sqrt_().div_((square + eps).sqrt_()).mul_(gradient)
        state["moved"].mul_(rho).addcmul_(step, step, value=1 - rho)
        parameter.sub_(step, alpha=group["lr"])

    def step_size(self, group: Group, state: State) -> StepSize:
        eps = group["eps"]
        kept = state["square"], state["moved"]
        return StepSize(group["lr"], kept, lambda square, moved: (square + eps).div_(moved + eps))


class KerasLion(_Stepped, betas=(0.9, 0.99)):
    """Lion of Chen et al. (2023), which torch does not have."""

    kept = ("momentum",)

    def move(self, parameter: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        first, second = group["betas"]
        parameter.sub_(state["momentum"].lerp(gradient, 1 - first).sign_(), alpha=group["lr"])
        state["momentum"].lerp_(gradient, 1 - second)


KERAS_OPTIMIZERS: dict[str, type[Optimizer]] = {
    f"keras_{cls.__name__.removeprefix('Keras').lower()}": cls
    for cls in (KerasSGD, KerasAdam, KerasAdamax, KerasRMSprop, KerasAdagrad, KerasAdadelta, KerasLion)
}
