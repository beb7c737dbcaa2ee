"""``regspec train`` on digits against a plain loop: an epoch in one process, and the start as a process."""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

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


def figures() -> Iterator[Figure]:
    from regspec.training.loop.run import train
    from regspec.training.options.options import Options

    loop = Loop()
    ours: list[float] = []
    theirs: list[float] = []
    begun = 0.0

    def in_turns(epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch of the loop after each of the run, whose time goes to the one and not to the other."""
        nonlocal begun
        now = time.perf_counter()
        if epoch > 1:
            ours.append(now - begun)
        loop.epoch()
        begun = time.perf_counter()
        theirs.append(begun - now)

    with tempfile.TemporaryDirectory() as folder:
        options = Options(epochs=EPOCHS)
        train(SPEC, options, Path(folder) / "run", console=Console(file=io.StringIO()), on_epoch=in_turns)
    name = "train, an epoch on digits, files written / a plain loop"
    yield Figure(name, statistics.median(ours), statistics.median(theirs[1:]), 1.3)
    commands = [sys.executable, "-c", START], [sys.executable, "-c", "import lightning"]
    start, bare = (partial(subprocess.run, each, check=True, capture_output=True) for each in commands)
    yield compare("train, to the first step / import lightning", start, bare, most=1.5, rounds=7)
