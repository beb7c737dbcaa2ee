"""My model has a method ``l1_regularization()``, which the training loop adds to the loss. What would regspec do?

By hand: a loop over ``self.parameters()``. It takes biases and the scales of normalizations too, because they are
parameters; pulled to zero, such a scale switches its channel off. With regspec: the model is a spec, whose rules say
which weights are meant, and ``regularization_terms()`` shows what each adds. Here the rule names them all, to give the
same numbers; for the usual penalty, leave out all but ``kernel``.
Run it from anywhere: ``python examples/recipes/l1_regularization_method.py``.
"""

import regspec
import torch
from comparing import compare
from regspec.runtime import Regularized
from torch import Tensor, nn
from torch.nn import functional as F


class Classifier(nn.Module):
    """Images (batch, 3, 15, 13) -> logits (batch, 7)."""

    def __init__(self, strength: float = 1e-3) -> None:
        super().__init__()
        self.strength = strength
        self.conv = nn.Conv2d(3, 11, 3)
        self.norm = nn.BatchNorm2d(11)
        self.hidden = nn.Linear(11 * 13 * 11, 61)
        self.logits = nn.Linear(61, 7)

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.conv(image)).relu().flatten(1)
        return self.logits(self.hidden(x).relu())

    def l1_regularization(self) -> Tensor:
        penalty = torch.zeros(())
        for parameter in self.parameters():
            penalty = penalty + parameter.abs().sum()
        return self.strength * penalty


SPEC = """
regspec: 1
name: classifier
inputs:
  image: {shape: [3, 15, 13]}
layers:
  - Conv2D: {name: conv, filters: 11, kernel_size: 3}
  - BatchNormalization: {name: norm, epsilon: 1e-5, momentum: 0.9}
  - ReLU
  - Flatten
  - Dense: {name: hidden, units: 61, activation: relu}
  - Dense: {name: logits, units: 7}
regularizers:
  - {kernel: {l1: 1e-3}, bias: {l1: 1e-3}, gamma: {l1: 1e-3}, beta: {l1: 1e-3}}
"""


def by_hand(model: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    model.zero_grad()
    penalty = model.l1_regularization()
    loss = F.cross_entropy(model(images), labels) + penalty
    loss.backward()
    return penalty


def with_regspec(model: Regularized, images: Tensor, labels: Tensor) -> Tensor:
    model.zero_grad()
    penalty = model.regularization_loss()
    loss = F.cross_entropy(model(images), labels) + penalty
    loss.backward()
    return penalty


def main() -> tuple[float, dict[str, float]]:
    """The largest relative difference, and the penalties by name."""
    torch.manual_seed(0)
    data = torch.randn(33, 3, 15, 13), torch.randint(0, 7, (33,))
    model = Classifier()
    nn.init.normal_(model.norm.bias, std=0.1)  # as after some training; it begins at zero, where L1 has no gradient
    built = regspec.build(regspec.loads(SPEC))
    built.load_state_dict(model.state_dict())
    difference = compare("the method l1_regularization", (by_hand, model), (with_regspec, built), *data)
    terms = {name: term.item() for name, term in built.regularization_terms(detach=True).items()}
    for name, penalty in terms.items():
        print(f"{name:16} {penalty:.5f}")
    return difference, terms


if __name__ == "__main__":
    main()
