"""A plain loop with torch.compile: the forward and the penalties are one graph, without a break.

What is compiled is the function that gives the loss, and not the model alone: so the penalties are compiled with it.
``fullgraph=True`` makes a break of the graph an error. When a schedule changes a strength, nothing is compiled again.
Run it from anywhere:
``python examples/integrations/compiled_loop.py``.
"""

from collections.abc import Iterable

import regspec
import torch
from regspec.runtime import Regularized
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

SPEC = """
regspec: 1
name: classifier
inputs: {pixels: {shape: [64]}}
layers:
  - Dense:
      name: hidden
      units: 48
      activation: relu
      kernel_regularizer: {l2: 1e-3, schedule: {warmup: 20}}
      activity_regularizer: {l1: 1e-4}
  - Dense: {name: logits, units: 10, kernel_regularizer: {l1: 1e-4}}
"""


def train(
    model: Regularized, batches: Iterable[list[Tensor]], *, epochs: int, rate: float = 0.1, backend: str = "inductor"
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    regspec.bind(model, optimizer)  # for the schedule

    @torch.compile(backend=backend, fullgraph=True, dynamic=True)  # dynamic: the last batch is smaller
    def loss_of(pixels: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(pixels), labels) + model.regularization_loss()

    for _ in range(epochs):
        for pixels, labels in batches:
            optimizer.zero_grad()
            loss_of(pixels, labels).backward()
            optimizer.step()


def main(epochs: int = 20, backend: str = "inductor") -> float:
    """The accuracy on the training data."""
    torch.manual_seed(0)
    digits = load_digits()
    pixels, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    model = regspec.build(regspec.loads(SPEC))
    train(model, DataLoader(TensorDataset(pixels, labels), batch_size=64, shuffle=True), epochs=epochs, backend=backend)
    with torch.no_grad():
        accuracy = (model(pixels).argmax(1) == labels).float().mean().item()
    print(f"accuracy {accuracy:.3f}")
    for name, term in model.regularization_terms(detach=True).items():
        print(f"{name:16} {term.item():.5f}")
    return accuracy


if __name__ == "__main__":
    main()
