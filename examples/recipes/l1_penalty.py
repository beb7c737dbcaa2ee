"""What became of nn.L1Penalty, the module that penalized the activations of the layer before it?

Lua torch had it, and so had torch.legacy.nn. Its forward gave its input back. Its backward gave the gradient that came
in, plus weight * sign(input); with sizeAverage the weight was divided by the number of elements. So the penalty was in
no loss, and ``module.loss`` alone said how large it was.

In those libraries a module wrote its backward pass by itself, so it could add what it liked. With autograd a penalty is
a tensor, and a term of the loss: that is shown, scaled and differentiated with the rest, and needs no module. torch.nn
never had an L1Penalty. PyTorch removed torch.legacy before 1.0 (https://github.com/pytorch/pytorch/pull/11823).

By hand: an autograd.Function, as below. With regspec: an ``activity_regularizer``, by default in the loss; with
``bind(model, optimizer, activity="gradient")`` it does what L1Penalty did. regspec divides by the batch size, so that
a strength of weight / units is L1Penalty with sizeAverage.

Two things to know of a penalty that is not in the loss: the loss's own factor (GradScaler's, or that of accumulated
batches) does not reach it, and each backward pass adds it once more. regspec refuses GradScaler and create_graph there.
Run it from anywhere: ``python examples/recipes/l1_penalty.py``.
"""

import copy
from functools import partial
from typing import Any

import regspec
import torch
from comparing import compare
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

WEIGHT, UNITS = 0.5, 61
RULES = [{"modules": "1", "activity_regularizer": {"l1": WEIGHT / UNITS}}]


class Penalized(torch.autograd.Function):
    """The input as it is; in the backward pass m * sign(input) is added to its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, m: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.m = m
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient + ctx.m * x.sign(), None


class L1Penalty(nn.Module):
    """The legacy module with sizeAverage."""

    def forward(self, x: Tensor) -> Tensor:
        penalized: Tensor = Penalized.apply(x, WEIGHT / x.numel())
        return penalized


def network() -> nn.Sequential:
    """Features (batch, 53) -> logits (batch, 7)."""
    return nn.Sequential(nn.Linear(53, UNITS), nn.Tanh(), L1Penalty(), nn.Linear(UNITS, 7))


def step(optimizer: Optimizer, model: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    """Of both: the loss has no penalty."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(features), labels)
    loss.backward()
    optimizer.step()
    return loss


def in_closed_form() -> float:
    """How far the gradient of a layer y = Wx, whose outputs are summed, is from (1 + m * sign(y))' x."""
    rule = {"modules": "", "activity_regularizer": {"l1": WEIGHT / 3}}
    layer = regspec.regularize(nn.Linear(5, 3, bias=False), [rule])
    regspec.bind(layer, SGD(layer.parameters(), lr=0.1), activity="gradient")
    x = torch.randn(4, 5)
    output = layer(x)
    output.sum().backward()
    expected = (1 + WEIGHT / output.numel() * output.detach().sign()).T @ x
    gradient = layer.weight.grad
    assert isinstance(gradient, Tensor)
    return ((gradient - expected).norm() / expected.norm()).item()


def main() -> tuple[float, float]:
    """The largest relative difference from the legacy module after 100 steps, and from the closed form."""
    torch.manual_seed(0)
    data = torch.randn(33, 53).double(), torch.randint(0, 7, (33,))
    legacy = network().double()
    first, activation, _, last = copy.deepcopy(legacy)
    bound = regspec.regularize(nn.Sequential(first, activation, last), RULES)
    optimizers = [SGD(each.parameters(), lr=0.05, momentum=0.9) for each in (legacy, bound)]
    regspec.bind(bound, optimizers[1], activity="gradient")
    ways = (partial(step, optimizers[0]), legacy), (partial(step, optimizers[1]), bound)
    difference = compare("nn.L1Penalty", *ways, *data)
    closed = in_closed_form()
    print(f"relative difference from the closed form {closed:.1e}")
    return difference, closed


if __name__ == "__main__":
    main()
