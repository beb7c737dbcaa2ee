"""Which figure tells what epoch is the best: what is kept, and when patience ends a training."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import regspec
from regspec.training.measures.monitor import Monitor

from .commands import command

SPEC = """\
regspec: 1
inputs: {x: {shape: [5]}}
layers:
  - Dense: {name: trunk, units: 8, activation: relu}
  - Dense: {name: price, units: 1}
  - Dense: {name: kind, units: 3, inputs: trunk}
outputs: [price, kind]
"""
DRAWN = np.random.default_rng(0)
X = DRAWN.standard_normal((60, 5)).astype(np.float32)
TARGETS = {"price": DRAWN.standard_normal(60).astype(np.float32), "kind": DRAWN.integers(0, 3, 60)}
OUTPUTS = {"price": {"metrics": ["mae", "r2"]}, "kind": {"metrics": ["f1", "ece", "own_figure:sure"]}}


@pytest.fixture(autouse=True)
def _own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    module: Any = ModuleType("own_figure")
    module.sure = lambda output, target: output.max(1)[0].mean()
    monkeypatch.setitem(sys.modules, "own_figure", module)


@pytest.mark.parametrize(
    ("monitor", "column", "is_least"),
    [
        (None, "held_out_loss", True),
        ("loss", "held_out_loss", True),
        ("kind.loss", "held_out_loss/kind", True),
        ("price.mae", "held_out_mae/price", True),
        ("price.r2", "held_out_r2/price", False),
        ("kind.f1", "held_out_f1/kind", False),
        ("kind.accuracy", "held_out_accuracy/kind", False),
        ("kind.calibration_error", "held_out_calibration_error/kind", True),
        ("max kind.loss", "held_out_loss/kind", False),
        ("min kind.sure", "held_out_sure/kind", True),
        ("max kind.sure", "held_out_sure/kind", False),
    ],
)
def test_what_is_kept(monitor: str | None, column: str, is_least: bool) -> None:
    """The first epoch of the least, or of the most; the folder has its weights, and the run its metrics."""
    run = regspec.train(SPEC, (X, TARGETS), outputs=OUTPUTS, epochs=12, lr=0.1, monitor=monitor, quiet=True)
    values = run.history[column]
    best = (min if is_least else max)(values)
    assert run.metrics[column] == best
    assert run.metrics["epoch"] == 1 + values.index(best)
    assert regspec.load_run(run.folder).metrics == run.metrics
    figure = run.evaluate((X, TARGETS))
    assert figure.examples == 60


def test_patience() -> None:
    """The training ends when the figure was not better for so many epochs, though the loss may be."""
    options: Any = {"outputs": OUTPUTS, "epochs": 60, "lr": 0.05, "quiet": True, "patience": 4}
    run = regspec.train(SPEC, (X, TARGETS), monitor="max kind.sure", **options)
    sure = run.history["held_out_sure/kind"]
    other = regspec.train(SPEC, (X, TARGETS), **options)
    assert len(sure) != len(other.history["held_out_loss"])
    losses = other.history["held_out_loss"]
    assert len(losses) - (1 + losses.index(min(losses))) == 4


def test_it_is_said(tmp_path: Path) -> None:
    """By the line at the end; the folder's own training file has it; a resumed run goes by it."""
    np.savez("given.npz", x=X, **TARGETS)
    Path("net.yaml").write_text(SPEC)
    words = ["train", "net.yaml", "--data", "given.npz", "--outputs.kind.metrics", "f1", "--outputs.price.loss", "l1"]
    done = command(*words, "--monitor", "kind.f1", "--epochs", "2", "-o", "run", cwd=tmp_path)
    assert done.code == 0, done.output
    assert re.search(r"\nkept: epoch \d of 2, held-out kind f1 0\.\d+\n", done.stdout)
    assert "monitor: kind.f1" in Path("run/training.yaml").read_text()
    done = command("train", "--resume", "run", "--epochs", "4", cwd=tmp_path)
    assert re.search(r"\nkept: epoch \d of 4, held-out kind f1 0\.\d+\n", done.stdout)


def test_what_is_no_number_is_the_worst() -> None:
    rows = [{"held_out_f1": value} for value in (math.nan, 0.2, 0.5, math.nan, 0.5)]
    assert Monitor("held_out_f1", is_least=False).best(rows) == 3
    assert Monitor("held_out_f1").best(rows) == 2
    assert Monitor().best([]) == 0


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        (
            "f1",
            "'f1' is no figure of what is held out\n   = it may be loss, price.loss, price.mae, price.r2, kind.loss",
        ),
        ("kind.f2", "'kind.f2' is no figure .*\n   = did you mean 'kind.f1'"),
        ("price.accuracy", "'price.accuracy' is no figure"),
        (
            "kind.sure",
            "'kind.sure' may be better where it is more, or less\n   = write 'max kind.sure', or 'min kind.sure'",
        ),
        ("least kind.f1", "'least kind.f1' is no figure"),
    ],
)
def test_what_is_no_figure(monitor: str, message: str) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.train(SPEC, (X, TARGETS), outputs=OUTPUTS, monitor=monitor, quiet=True)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert not Path("runs").exists()


def test_of_one_output() -> None:
    spec = {"inputs": {"x": {"shape": [5]}}, "layers": [{"Dense": {"units": 3}}]}
    run = regspec.train(spec, (X, TARGETS["kind"]), epochs=6, lr=0.1, monitor="accuracy", quiet=True)
    assert run.metrics["held_out_accuracy"] == max(run.history["held_out_accuracy"])
    assert isinstance(run.model, torch.nn.Module)
