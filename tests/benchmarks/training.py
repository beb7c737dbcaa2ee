"""``regspec train`` on digits against a plain loop: an epoch in one process, and the start as a process.

Lightning's own share of an epoch is a figure too: a bare module of it that logs two losses. And what `predict` takes
beside the forwards of the same model.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

import regspec

from .checking import run_in
from .timing import Figure, compare

SPEC = Path(__file__).parents[2] / "examples" / "digits_cnn.yaml"
EPOCHS = 31
# to the first step, and no further
START = f"""
import os, sys, tempfile
from regspec.training.loop import module
module.Training.training_step = lambda *_: os._exit(0)
sys.argv = ["regspec", "train", {str(SPEC)!r}, "-o", tempfile.mkdtemp()]
from regspec.cli import main
main()
"""


class ByHand(nn.Module):
    """The network of the example, with its penalties as people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32, eps=1e-3)
        self.conv2, self.norm2 = nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64, eps=1e-3)
        self.pool, self.dropout = nn.MaxPool2d(2), nn.Dropout(0.25)
        self.hidden, self.logits = nn.Linear(1024, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x)).relu()
        x = self.dropout(self.pool(self.norm2(self.conv2(x)).relu()))
        self.activity = self.hidden(x.flatten(1)).relu()
        return self.logits(self.activity)

    def penalty(self) -> Tensor:
        total = torch.zeros(())
        for layer in (self.conv1, self.conv2, self.hidden):
            total = total + 1e-4 * layer.weight.square().sum()
        total = total + 1e-5 * self.hidden.weight.abs().sum() + 0.01 * self.logits.bias.square().sum()
        return total + 1e-6 * self.activity.abs().sum() / len(self.activity)


class Loop:
    """An epoch after the other: training, and the loss and accuracy on what is held out."""

    def __init__(self) -> None:
        digits = load_digits()
        x, y = digits.images[:, None].astype("float32") / 16, digits.target
        parts = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
        self.x, self.held_out_x, self.y, self.held_out_y = map(torch.as_tensor, parts)
        self.model = ByHand()
        self.optimizer = torch.optim.Adam(self.model.parameters())

    def epoch(self) -> None:
        self.model.train()
        total = penalties = 0.0
        for rows in torch.randperm(len(self.x)).split(64):
            output = self.model(self.x[rows])
            loss, penalty = F.cross_entropy(output, self.y[rows]), self.model.penalty()
            self.optimizer.zero_grad()
            (loss + penalty).backward()
            self.optimizer.step()
            total += loss.item() * len(rows)
            penalties += penalty.item() * len(rows)
        self.model.eval()
        with torch.no_grad():
            for x, y in zip(self.held_out_x.split(64), self.held_out_y.split(64), strict=True):
                output = self.model(x)
                total += F.cross_entropy(output, y).item()
                total += (output.argmax(1) == y).float().mean().item()


class InTurns:
    """An epoch of the loop after each of a run, whose time goes to the one and not to the other."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.begun = 0.0

    def __call__(self, *_: Any) -> None:
        now = time.perf_counter()
        if self.theirs:  # the first epoch warms up
            self.ours.append(now - self.begun)
        self.loop.epoch()
        self.begun = time.perf_counter()
        self.theirs.append(self.begun - now)

    def figure(self, name: str, most: float) -> Figure:
        return Figure(f"{name} / a plain loop", statistics.median(self.ours), statistics.median(self.theirs[1:]), most)


def figures() -> Iterator[Figure]:
    from regspec.training.loop.run import train
    from regspec.training.options.options import Options

    in_turns = InTurns()
    with tempfile.TemporaryDirectory() as folder:
        options = Options(epochs=EPOCHS)
        train(SPEC, options, Path(folder) / "run", console=Console(file=io.StringIO()), on_epoch=in_turns)
    yield in_turns.figure("train, an epoch on digits, files written", 1.15)
    yield by_lightning()
    yield predicted()
    with tempfile.TemporaryDirectory() as folder:
        start, bare = run_in(folder, "-c", START), run_in(folder, "-c", "import lightning")
        yield compare("train, to the first step / import lightning", start, bare, most=0.95, rounds=7)


def by_lightning() -> Figure:
    """An epoch of a bare module of Lightning, which writes nothing and logs two losses."""
    import lightning
    from torch.utils.data import DataLoader, TensorDataset

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = ByHand()

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            loss, penalty = F.cross_entropy(self.model(batch[0]), batch[1]), self.model.penalty()
            self.log_dict({"loss": loss, "penalty": penalty}, on_step=False, on_epoch=True)
            return loss + penalty

        def validation_step(self, batch: list[Tensor], _: int) -> None:
            output = self.model(batch[0])
            right = (output.argmax(1) == batch[1]).float().mean()
            self.log_dict({"held_out_loss": F.cross_entropy(output, batch[1]), "accuracy": right})

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters())

        def on_train_epoch_end(self) -> None:
            in_turns()

    in_turns = InTurns()
    own = in_turns.loop
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(max_epochs=EPOCHS, accelerator="cpu", **quiet)
    loaders = (
        DataLoader(TensorDataset(own.x, own.y), 64, shuffle=True),
        DataLoader(TensorDataset(own.held_out_x, own.held_out_y), 64),
    )
    trainer.fit(Module(), *loaders)
    return in_turns.figure("Lightning alone, an epoch on digits", 1.15)


def predicted() -> Figure:
    """The predictions of a small network of tables, of a million rows, against its forwards alone."""
    spec = {
        "inputs": {"x": {"shape": [8]}},
        "layers": [*[{"Dense": {"units": 256, "activation": "relu"}}] * 2, {"Dense": {"units": 5}}],
    }
    x, size = torch.randn(1_000_000, 8), 1024
    few = x[:2000].numpy()
    with tempfile.TemporaryDirectory() as folder:
        data = few, few[:, :5].argmax(1)
        run = regspec.train(spec, data, folder=Path(folder) / "run", epochs=1, batch_size=size, quiet=True)

        def forwards() -> list[Tensor]:
            with torch.inference_mode():
                return [run.model(rows) for rows in x.split(size)]

        return compare("predict, 1,000,000 rows / the forwards", lambda: run.predict(x), forwards, most=1.3, rounds=5)
