"""How do I penalize activations?

By hand: forward hooks note the outputs in a list; sum their absolute values, and divide by the batch size. It is easy
to get wrong:

- The list must be cleared before each forward, or the penalty grows and the next backward fails.
- An operation in place behind a hooked layer changes the output that was noted: hook a Linear that is followed by a
  ``ReLU(inplace=True)``, and what is penalized is the ReLU's output.
- With re-entrant checkpointing the penalty's value is right, and its gradient does not reach the layers inside. With
  the other kind it does, but the recomputed forward notes outputs a second time.
- ``copy.deepcopy`` of the model copies the hooks, but not the list, to which the copy's outputs then go, too. Where the
  list is an attribute of the model, it can't be copied after a forward.

With regspec: a rule names the modules, and the loss is read after the forward. Nothing has to be cleared, outputs that
are changed in place are copied first, a re-entrant checkpoint is refused, and a copy of the model has penalties of its
own.
Run it from anywhere: ``python examples/recipes/activations.py``.
"""

import copy
from typing import Any

import regspec
import torch
from comparing import compare
from regspec.runtime import Regularized
from torch import Tensor, nn
from torch.nn import functional as F


def network() -> nn.Sequential:
    """Images (batch, 3, 15, 13) -> logits (batch, 7)."""
    return nn.Sequential(
        nn.Conv2d(3, 11, 3), nn.ReLU(), nn.Conv2d(11, 17, 3), nn.ReLU(), nn.Flatten(), nn.Linear(17 * 11 * 9, 7)
    )


outputs: list[Tensor] = []


def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
    outputs.append(output)


def by_hand(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    model.zero_grad()
    outputs.clear()
    logits = model(images)
    penalty = 1e-3 * torch.stack([output.abs().sum() for output in outputs]).sum() / len(images)
    loss = F.cross_entropy(logits, labels) + penalty
    loss.backward()
    return penalty


RULES = [{"types": ["ReLU"], "activity_regularizer": {"l1": 1e-3}}]


def with_regspec(model: Regularized, images: Tensor, labels: Tensor) -> Tensor:
    model.zero_grad()
    logits = model(images)
    penalty = model.regularization_loss()
    loss = F.cross_entropy(logits, labels) + penalty
    loss.backward()
    return penalty


def main() -> float:
    """The largest relative difference."""
    torch.manual_seed(0)
    data = torch.randn(33, 3, 15, 13), torch.randint(0, 7, (33,))
    model = network()
    regularized = regspec.regularize(copy.deepcopy(model), RULES)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(note)
    return compare("L1 on activations", (by_hand, model), (with_regspec, regularized), *data)


if __name__ == "__main__":
    main()
