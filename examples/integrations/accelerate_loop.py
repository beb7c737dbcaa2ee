"""Hugging Face Accelerate: the loop of its documentation, and one term more in the loss.

``prepare`` may wrap the model, so ask ``regspec.regularization_loss(model)``, which looks into wrappers, and not the
model's own method. Bind before ``prepare``, while the optimizer is torch's. With accumulated gradients `backward`
divides each loss by their number, penalties included, so that they count once a step. Run it from
anywhere: ``python examples/integrations/accelerate_loop.py``, or on two processes:
``torchrun --nproc-per-node 2 examples/integrations/accelerate_loop.py``.
"""

import regspec
import torch
from accelerate import Accelerator
from regspec.runtime import Regularized
from sklearn.datasets import load_digits
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
      kernel_regularizer: {l2: 1e-3}
      activity_regularizer: {l1: 1e-4}
  - Dense: {name: logits, units: 10, kernel_regularizer: {l1: 1e-3}}
"""


def train(model: Regularized, batches: DataLoader, accelerator: Accelerator, *, epochs: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    regspec.bind(model, optimizer, l1="proximal")
    prepared, optimizer, batches = accelerator.prepare(model, optimizer, batches)
    for _ in range(epochs):
        for pixels, labels in batches:
            with accelerator.accumulate(prepared):
                loss = F.cross_entropy(prepared(pixels), labels) + regspec.regularization_loss(prepared)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()


def main(epochs: int = 15) -> float:
    """The accuracy on the training data."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    torch.manual_seed(0)
    digits = load_digits()
    pixels, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    model = regspec.build(regspec.loads(SPEC))
    train(model, DataLoader(TensorDataset(pixels, labels), batch_size=32, shuffle=True), accelerator, epochs=epochs)
    with torch.no_grad():
        accuracy = (model(pixels).argmax(1) == labels).float().mean().item()
    accelerator.print(f"accuracy {accuracy:.3f}")
    for name, term in model.regularization_terms(detach=True).items():
        accelerator.print(f"{name:16} {term.item():.5f}")
    return accuracy


if __name__ == "__main__":
    main()
