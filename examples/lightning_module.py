"""A model from a spec inside a LightningModule of one's own: the digits CNN.

``regspec train`` does this without code; write it yourself when you want another loss, optimizer or logger. Run it from
anywhere: ``python examples/lightning_module.py``.
"""

from pathlib import Path

import lightning
import regspec
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

SPEC = Path(__file__).with_name("digits_cnn.yaml")


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = regspec.build(SPEC)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        images, classes = batch
        data_loss = F.cross_entropy(self.model(images), classes)
        terms = self.model.regularization_terms()
        penalty = torch.stack(list(terms.values())).sum()  # or self.model.regularization_loss(), the same
        self.log_dict({f"penalty/{name}": term for name, term in terms.items()})
        return data_loss + penalty

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        images, classes = batch
        accuracy = (self.model(images).argmax(dim=1) == classes).float().mean()
        self.log("accuracy", accuracy, prog_bar=True, batch_size=len(classes))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(epochs: int = 10) -> float:
    """The accuracy on the held-out fifth."""
    lightning.seed_everything(0)
    images, classes = load_digits(return_X_y=True)
    images = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    data = train_test_split(images, torch.tensor(classes), test_size=0.2, stratify=classes, random_state=0)
    train_images, held_out_images, train_classes, held_out_classes = data

    trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(
        Classifier(),
        DataLoader(TensorDataset(train_images, train_classes), batch_size=64, shuffle=True),
        DataLoader(TensorDataset(held_out_images, held_out_classes), batch_size=512),
    )
    accuracy = trainer.callback_metrics["accuracy"].item()
    print(f"accuracy on held-out digits: {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
