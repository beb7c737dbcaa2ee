"""How far a step of an optimizer moves a weight whose gradient is always 1, once momentum has built up.

That is the size of a proximal step. With it a weight rests where the loss's gradient and the penalty's balance, as it
does with the penalty in the loss; with another size they would balance at another strength. For an optimizer that
divides each number of a gradient by a size of its own, a proximal step is one in the metric of these sizes (Duchi,
Hazan and Singer (2011), Adaptive subgradient methods, section 4; Melchior, Joseph and Moolekamp (2019), Proximal Adam,
https://arxiv.org/abs/1910.10094). They are read after the step, when the state is what the step divided by; but for
Adadelta, whose numerator has moved on by one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, NAdam, Optimizer, RAdam, RMSprop

from regspec.runtime.kernels.thresholds import StepSize, number

Group = Mapping[str, Any]
State = Mapping[str, Any]


class Sized:
    """An optimizer that says the sizes of its steps by itself; others may have something else of the name."""

    def step_size(self, group: Any, state: Any) -> StepSize:
        """The size of the step that was just done, of a parameter with this state."""
        raise NotImplementedError


def has_step_sizes(optimizer: Optimizer) -> bool:
    """Whether they are known of the optimizer's class, or of one that it is derived from."""
    return _of_class(optimizer) is not None


def sizes_of(optimizer: Optimizer) -> Callable[[Group, State], StepSize]:
    """What gives the size of the step that was just done, of a parameter that it moved, by its group and state."""
    of_class = _of_class(optimizer)
    assert of_class is not None
    return of_class


def _of_class(optimizer: Optimizer) -> Callable[[Group, State], StepSize] | None:
    """What the optimizer says by itself, or what is known of a class of torch's."""
    if isinstance(optimizer, Sized) and type(optimizer).step_size is not Sized.step_size:
        return optimizer.step_size
    return next((SIZES[cls] for cls in type(optimizer).__mro__ if cls in SIZES), None)


def _sgd(group: Group, state: State) -> StepSize:
    """With momentum m the steps along a gradient are 1 / (1 - m) times as long."""
    share = 1 - group["dampening"] if group["momentum"] else 1.0
    return StepSize(group["lr"] * share * _longer(group))


def _adam(group: Group, state: State) -> StepSize:
    squares = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
    return StepSize(group["lr"], (squares,), scale=_debiased(group, state), eps=group["eps"])


def _nadam(group: Group, state: State) -> StepSize:
    """Of the gradient and of the momentum, each by its share, as in Dozat (2016), algorithm 8."""
    first, step, decay = group["betas"][0], number(state["step"]), group["momentum_decay"]
    now, after = (first * (1 - 0.5 * 0.96 ** (each * decay)) for each in (step, step + 1))
    product = number(state["mu_product"])
    share = (1 - now) / (1 - product) + after * (1 - first**step) / (1 - product * after)
    scale = _debiased(group, state)
    return StepSize(group["lr"] * share, (state["exp_avg_sq"],), scale=scale, eps=group["eps"])


def _radam(group: Group, state: State) -> StepSize:
    """As in SGD, as long as the variance is not known: Liu et al. (2020), algorithm 2."""
    step, second = number(state["step"]), group["betas"][1]
    longest = 2 / (1 - second) - 1
    length = longest - 2 * step * second**step / (1 - second**step)
    if length <= 5:
        return StepSize(group["lr"])
    rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    return StepSize(group["lr"] * (rectified * (1 - second**step)) ** 0.5, (state["exp_avg_sq"],), eps=group["eps"])


def _rmsprop(group: Group, state: State) -> StepSize:
    rate, squares = group["lr"] * _longer(group), state["square_avg"]
    if not group["centered"]:
        return StepSize(rate, (squares,), eps=group["eps"])
    return StepSize(rate, (squares, state["grad_avg"]), _variance, eps=group["eps"])


def _variance(squares: Tensor, mean: Tensor) -> Tensor:
    return squares.addcmul(mean, mean, value=-1).clamp_min_(0)


def _adagrad(group: Group, state: State) -> StepSize:
    lr = group["lr"] / (1 + (number(state["step"]) - 1) * group["lr_decay"])
    return StepSize(lr, (state["sum"],), eps=group["eps"])


def _adadelta(group: Group, state: State) -> StepSize:
    eps = group["eps"]
    kept = state["square_avg"], state["acc_delta"]
    return StepSize(group["lr"], kept, lambda squares, moved: (squares + eps).div_(moved + eps))


def _adamax(group: Group, state: State) -> StepSize:
    return StepSize(group["lr"], (state["exp_inf"],), torch.square)


def _longer(group: Group) -> float:
    """How many times as long momentum makes the steps along a gradient, once it has built up."""
    momentum: float = group["momentum"]
    return 1 / (1 - momentum) if momentum < 1 else 1.0


def _debiased(group: Group, state: State) -> Any:
    """What the root of Adam's squares is multiplied by, so that those of the first steps are not too small."""
    return (1 - group["betas"][1] ** number(state["step"])) ** -0.5


# AdamW is an Adam: what it adds is no step along the gradient.
SIZES: Mapping[type[Optimizer], Callable[[Group, State], StepSize]] = {
    SGD: _sgd,
    Adam: _adam,
    NAdam: _nadam,
    RAdam: _radam,
    RMSprop: _rmsprop,
    Adagrad: _adagrad,
    Adadelta: _adadelta,
    Adamax: _adamax,
}

# What optimizers do, by the names of their classes in whatever library, for which a step has no size that is known.
# Muon's proximal step would be one in the metric of the root of `G @ G.T`, which has no closed form. A soft threshold
# of its rate rests elsewhere: on a lasso of four outputs the KKT residual came out as large as the strength.
UNSIZED: Mapping[str, str] = {
    "ASGD": "steps by a rate that it sets one step before, and averages weights, so that no zeros are left",
    "Adafactor": "scales each step by the norms of the whole weight and of its whole update",
    "LBFGS": "goes where all numbers of all weights together say",
    "Lion": "moves each number by a sign, as far where its gradient is small as where it is large",
    "Muon": "moves a matrix as a whole, along its singular vectors",
    "Rprop": "lets its steps grow while the signs of a gradient stay, as they do where a penalty holds a weight",
    "SparseAdam": "moves the rows alone that a batch has, and a penalty holds for all rows at each step",
}


def why_unsized(optimizer: Optimizer) -> str:
    """What an optimizer does that leaves no sizes of its steps; empty where it is just not known."""
    names = [cls.__name__.removeprefix("Keras") for cls in type(optimizer).__mro__]
    return next((UNSIZED[name] for name in names if name in UNSIZED), "")
