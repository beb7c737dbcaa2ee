"""How do I decay the weights of some layers, and is weight decay L2?

By hand: parameter groups of the optimizer, each with a ``weight_decay`` of its own. An optimizer that adds its decay to
the gradient, as SGD with or without momentum and Adam do, makes with ``weight_decay=2 * c`` the steps that it makes
with c * sum(w**2) in the loss. AdamW shrinks the weights beside its step instead, and ends elsewhere.

With regspec: ``bind(model, optimizer, l2="decay")`` makes those groups from the rules, with the factor 2. It refuses
AdamW, unless ``decoupled=True`` says that this other thing is meant. Bind before you make a learning-rate scheduler.
Run it from anywhere: ``python examples/recipes/weight_decay.py``.
"""

import copy
from collections.abc import Callable
from functools import partial

import regspec
import torch
from comparing import compare
from regspec.runtime import Regularized
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "SGD with momentum": partial(SGD, lr=0.05, momentum=0.9),
    "Adam": partial(Adam, lr=1e-3),
    "AdamW": partial(AdamW, lr=1e-3, weight_decay=0.0),
}
STRENGTH = 1e-2
RULES = [{"modules": "0|2", "kernel_regularizer": {"l2": STRENGTH}}]


def network() -> nn.Sequential:
    """Features (batch, 53) -> logits (batch, 7)."""
    return nn.Sequential(nn.Linear(53, 97), nn.Tanh(), nn.Linear(97, 61), nn.Tanh(), nn.Linear(61, 7))


def groups(model: nn.Sequential) -> list[dict[str, object]]:
    """The groups as people write them: decay for the weights of two layers, and none for biases and the last layer."""
    decayed = [model[0].weight, model[2].weight]
    others = [model[0].bias, model[2].bias, *model[4].parameters()]
    return [{"params": decayed, "weight_decay": 2 * STRENGTH}, {"params": others, "weight_decay": 0.0}]


def step(optimizer: Optimizer, model: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    """A step in which the optimizer decays weights; the loss."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(features), labels)
    loss.backward()
    optimizer.step()
    return loss


def step_with_l2(optimizer: Optimizer, model: Regularized, features: Tensor, labels: Tensor) -> None:
    """A step with L2 in the loss."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(features), labels) + model.regularization_loss()
    loss.backward()
    optimizer.step()


def main(steps: int = 100) -> tuple[dict[str, float], dict[str, float]]:
    """The largest relative differences from groups by hand, by optimizer: of bind, and of L2 in the loss."""
    torch.manual_seed(0)
    data = torch.randn(33, 53), torch.randint(0, 7, (33,))
    start = network()
    of_bind, of_loss = {}, {}
    for name, optimizer_of in OPTIMIZERS.items():
        by_hand = copy.deepcopy(start)
        bound, penalized = (regspec.regularize(copy.deepcopy(start), RULES) for _ in range(2))
        optimizer = optimizer_of(bound.parameters())
        regspec.bind(bound, optimizer, l2="decay", decoupled=name == "AdamW")
        ways = (partial(step, optimizer_of(groups(by_hand))), by_hand), (partial(step, optimizer), bound)
        of_bind[name] = compare(name, *ways, *data, steps=steps)

        optimizer = optimizer_of(penalized.parameters())
        for _ in range(steps):
            step_with_l2(optimizer, penalized, *data)
        pairs = zip(penalized.parameters(), by_hand.parameters(), strict=True)
        of_loss[name] = max(((weight - other).norm() / other.norm()).item() for weight, other in pairs)
        print(f"{'':32} weights with L2 in the loss differ by {of_loss[name]:.1e}")
    return of_bind, of_loss


if __name__ == "__main__":
    main()
