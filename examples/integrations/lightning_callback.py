"""Lightning: a LightningModule of your own, penalties off the loss route, and a callback that logs them.

``regspec.bind`` stands in ``configure_optimizers``, where the optimizer is made. Here L1 is a proximal step, which
makes weights exactly zero, and L2 the optimizer's weight decay; what is left on the loss route is in
``regularization_loss()``. `PenaltyLogger` logs each term's penalty, its strength and its share of exact zeros to
whatever logger the trainer has. Run it from anywhere: ``python examples/integrations/lightning_callback.py``.
"""

import tempfile
from pathlib import Path

import lightning
import regspec
import torch
from lightning.pytorch.loggers import CSVLogger
from regspec.runtime import Regularized
from regspec.training.logging import PenaltyLogger
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
      kernel_regularizer: {l1: 5e-3}
      activity_regularizer: {l1: 1e-4}
  - Dense: {name: logits, units: 10, kernel_regularizer: {l2: 1e-3}}
"""


class Classifier(lightning.LightningModule):
    def __init__(self, model: Regularized) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        pixels, labels = batch
        return F.cross_entropy(self.model(pixels), labels) + self.model.regularization_loss()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        regspec.bind(self.model, optimizer, l1="proximal", l2="decay")
        return optimizer


def train(model: Regularized, batches: DataLoader, *, epochs: int, folder: Path) -> None:
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=CSVLogger(folder, name="", version=""),
        callbacks=[PenaltyLogger(every=10)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(model), batches)


def main(epochs: int = 15) -> tuple[float, float]:
    """The accuracy on the training data, and the share of exact zeros in the hidden layer's kernel."""
    lightning.seed_everything(0)
    digits = load_digits()
    pixels, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    model = regspec.build(regspec.loads(SPEC))
    with tempfile.TemporaryDirectory() as folder:
        batches = DataLoader(TensorDataset(pixels, labels), batch_size=64, shuffle=True)
        train(model, batches, epochs=epochs, folder=Path(folder))
        logged = (Path(folder) / "metrics.csv").read_text().splitlines()
    with torch.no_grad():
        accuracy = (model(pixels).argmax(1) == labels).float().mean().item()
    zeros = regspec.sparsity(model)["hidden.kernel"].item()
    print(f"accuracy {accuracy:.3f}, zeros in the hidden kernel {zeros:.2f}; logged:")
    print(*logged[0].split(","), sep="\n")
    return accuracy, zeros


if __name__ == "__main__":
    main()
