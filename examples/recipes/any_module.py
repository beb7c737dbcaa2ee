"""Penalties for a module that somebody else wrote, and a proximal step that makes weights exactly zero.

The rules stand in rules.yaml, and this shows what they select:
``regspec rules examples/recipes/rules.yaml examples.recipes.any_module:ResNet``. Run this file from anywhere:
``python examples/recipes/any_module.py``.
"""

from pathlib import Path

import regspec
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Block(nn.Module):
    """A residual block, with operations in place as people write them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.relu(self.conv1(x)))
        out += x
        return self.relu(out)


class ResNet(nn.Module):
    """Handwritten digits (batch, 1, 8, 8) -> logits (batch, 10)."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.block1 = Block(channels)
        self.block2 = Block(channels)
        self.head = nn.Linear(channels * 64, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.block2(self.block1(self.stem(image))).flatten(1))


def main(epochs: int = 15) -> tuple[float, float]:
    """The accuracy on the training data, and the share of the head's weights that are exactly zero."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    model = regspec.regularize(ResNet(), Path(__file__).with_name("rules.yaml"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    regspec.bind(model, optimizer, l1="proximal", l2="decay")
    for _ in range(epochs):
        for image, label in DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True):
            optimizer.zero_grad()
            (F.cross_entropy(model(image), label) + model.regularization_loss()).backward()
            optimizer.step()
    return report(model, images, labels)


@torch.no_grad()
def report(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    accuracy = (model.eval()(images).argmax(1) == labels).float().mean().item()
    zeros = (model.head.weight == 0).float().mean().item()
    print(f"accuracy {accuracy:.3f}, zeros among the head's weights {zeros:.2f}\n")
    for name, term in model.regularization_terms().items():
        print(f"{name:24} {term.item():.5f}")
    return accuracy, zeros


if __name__ == "__main__":
    main()
