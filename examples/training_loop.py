"""A training loop in plain PyTorch: a sparse autoencoder on scikit-learn's handwritten digits.

The one line that regspec adds to the loop is ``model.regularization_loss()``. Run it from anywhere:
``python examples/training_loop.py``.
"""

from pathlib import Path

import regspec
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

SPEC = Path(__file__).with_name("sparse_autoencoder.yaml")


def main(epochs: int = 60) -> tuple[float, float]:
    """The mean square error of the reconstruction, and the mean activity of the code's units."""
    torch.manual_seed(0)
    pixels = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    model = regspec.build(SPEC)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    for epoch in range(1, epochs + 1):
        data_loss = penalty = torch.zeros(())
        for batch in DataLoader(pixels, batch_size=64, shuffle=True):
            data_loss = F.mse_loss(model(batch)["reconstruction"], batch)
            penalty = model.regularization_loss()
            optimizer.zero_grad()
            (data_loss + penalty).backward()
            optimizer.step()
        if epoch % 10 == 0:
            print(f"epoch {epoch:3}: data loss {data_loss.item():.4f}, penalty {penalty.item():.4f}")

    return report(model, pixels)


@torch.no_grad()
def report(model: torch.nn.Module, pixels: Tensor) -> tuple[float, float]:
    output = model(pixels)
    error = F.mse_loss(output["reconstruction"], pixels).item()
    activity = output["code"].mean().item()
    print(f"\nreconstruction error {error:.4f}, mean activity of the code {activity:.3f}")
    for name, term in model.regularization_terms().items():
        print(f"{name:24} {term.item():.5f}")
    return error, activity


if __name__ == "__main__":
    main()
