"""How do I add L1 through the gradient, and not through the loss?

By hand: add strength * sign(w) to ``.grad`` after the backward and before the optimizer's step. With regspec:
``bind(model, optimizer, l1="gradient")``, which does so before each step.

A recipe that goes round does it in ``register_full_backward_hook``: where ``.grad`` is None or zero, the hook sets it.
Of layers that are called once, that reaches only the first. The hook runs when the gradient of a layer's input is
known, and by then the layer's own are in ``.grad``. The first layer's input needs no gradient, so its hook runs before
its backward, which adds to what the hook has set (torch warns of it). Without the condition, strength * sign(w)
replaces the gradient of the data in every layer but the first. A hook that adds to ``.grad`` is right for one backward,
and adds once more for each backward that is accumulated and for each call of a shared layer. All seen on torch 2.13.
Run it from anywhere: ``python examples/recipes/l1_by_gradient.py``.
"""

import copy
import warnings
from functools import partial

import regspec
import torch
from comparing import compare
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

STRENGTH = 1e-3
RULES = [{"parameters": ".*", "regularizer": {"l1": STRENGTH}}]


def network() -> nn.Sequential:
    """Features (batch, 53) -> logits (batch, 7)."""
    return nn.Sequential(nn.Linear(53, 97), nn.ReLU(), nn.Linear(97, 61), nn.ReLU(), nn.Linear(61, 7))


def by_hand(optimizer: Optimizer, model: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(features), labels)
    loss.backward()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.grad is not None:
                weight.grad += STRENGTH * weight.sign()
    optimizer.step()
    return loss


def with_regspec(optimizer: Optimizer, model: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    """The loop as it is without a penalty: bind has seen to it."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(features), labels)
    loss.backward()
    optimizer.step()
    return loss


def penalize(layer: nn.Module, *_: object) -> None:
    """The hook of the recipe that goes round."""
    for weight in layer.parameters():
        if weight.grad is None or torch.all(weight.grad == 0.0):
            weight.grad = STRENGTH * weight.detach().sign()


def changed_by_hook(features: Tensor, labels: Tensor, *, set_to_none: bool) -> list[str]:
    """The parameters whose gradients that hook changes."""
    model = network()
    hooked = copy.deepcopy(model)
    for layer in hooked:
        layer.register_full_backward_hook(penalize)
    gradients = []
    for each in (model, hooked):
        for weight in each.parameters():
            weight.grad = None if set_to_none else torch.zeros_like(weight)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the first layer's input needs no gradient
            F.cross_entropy(each(features), labels).backward()
        gradients.append([weight.grad for weight in each.parameters() if weight.grad is not None])
    names = [name for name, _ in model.named_parameters()]
    return [name for name, a, b in zip(names, *gradients, strict=True) if (b - a).abs().max() > STRENGTH / 2]


def main() -> tuple[float, dict[str, list[str]]]:
    """The largest relative difference; and what that hook changes, where gradients are None and where they are zero."""
    torch.manual_seed(0)
    data = torch.randn(33, 53), torch.randint(0, 7, (33,))
    model = network()
    bound = regspec.regularize(copy.deepcopy(model), RULES)
    optimizer, bound_optimizer = (SGD(each.parameters(), lr=0.05, momentum=0.9) for each in (model, bound))
    regspec.bind(bound, bound_optimizer, l1="gradient")
    ways = (partial(by_hand, optimizer), model), (partial(with_regspec, bound_optimizer), bound)
    difference = compare("L1 by the gradient", *ways, *data)
    changed = {what: changed_by_hook(*data, set_to_none=what == "None") for what in ("None", "zero")}
    for what, names in changed.items():
        print(f"with gradients of {what}, the hook in the backward changes {', '.join(names)} and no other")
    return difference, changed


if __name__ == "__main__":
    main()
