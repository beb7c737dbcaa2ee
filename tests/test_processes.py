"""Runs on several processes: the weights are those of one process."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from .commands import as_torchrun, command, command_apart, run_module, run_rank, started

# 142 examples in batches of 32: with three processes the parts of a batch differ in size, and so do those of the last
NET = """
regspec: 1
name: net
inputs: {x: {shape: [13]}}
layers:
  - Dense: {name: hidden, units: 17, activation: tanh, kernel_regularizer: {l2: 1e-2}, activity_regularizer: l1}
  - Dense: {name: scores, units: 3, kernel_regularizer: {l1: 1e-2}, bias_regularizer: l2}
"""
ARGUMENTS = ["train", "net.yaml", "--data", "wine", "--batch-size", "32", "--accelerator", "cpu", "-o", "run"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "net.yaml").write_text(NET)
    assert command(*ARGUMENTS, "--epochs", "3", cwd=folder).code == 0
    return folder / "run"


def check(run: Path, alone: Path) -> None:
    got, wanted = load_file(run / "weights.safetensors"), load_file(alone / "weights.safetensors")
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=1e-5, atol=1e-6)
    texts = [(folder / "metrics.csv").read_text().splitlines() for folder in (run, alone)]
    ours, theirs = (list(csv.DictReader(lines)) for lines in texts)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        for name in a.keys() - {"seconds"}:
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize(
    ("strategy", "size"),
    [
        pytest.param("ddp", 2, marks=pytest.mark.everything),
        ("ddp", 3),
        pytest.param("fsdp", 2, marks=pytest.mark.everything),
        ("fsdp", 3),
    ],
)
def test_several_processes(strategy: str, size: int, alone: Path, tmp_path: Path) -> None:
    """As torchrun starts them."""
    (tmp_path / "net.yaml").write_text(NET)
    arguments = [*ARGUMENTS, "--epochs", "3", "--strategy", strategy]
    done = as_torchrun(size, run_rank, tmp_path, arguments)
    assert [each.code for each in done] == [0] * size, done
    assert [each.output.count("epoch 3/3") for each in done] == [1, *[0] * (size - 1)]  # the first one prints
    check(tmp_path / "run", alone)


@pytest.mark.parametrize("strategy", [pytest.param("ddp", marks=pytest.mark.everything), "fsdp"])
def test_resumed_by_other_processes(strategy: str, tmp_path: Path) -> None:
    """Two epochs on two processes, which Lightning starts, the third on three, which torchrun does, the fourth on one.

    The weights are averaged, too: of halves of each, of thirds, and of all.
    """
    (tmp_path / "net.yaml").write_text(NET)
    more = ["--optimizer", "adam", "--lr", "0.05", "--ema", "0.8"]
    begin = [*ARGUMENTS, *more, "--epochs", "2", "--devices", "2", "--strategy", strategy]
    with started(run_module, tmp_path, begin) as process:
        first = process.ended()
    assert (first.code, first.output.count("epoch 2/")) == (0, 1), first  # one of the processes prints
    assert command(*ARGUMENTS[:-1], "alone", *more, "--epochs", "4", cwd=tmp_path).code == 0
    done = as_torchrun(3, run_rank, tmp_path, ["train", "--resume", "run", "--epochs", "3"])
    assert [each.code for each in done] == [0, 0, 0], done
    go_on = ["train", "--resume", "run", "--epochs", "4", "--devices", "1", "--strategy", "auto"]
    assert command(*go_on, cwd=tmp_path).code == 0
    check(tmp_path / "run", tmp_path / "alone")


@pytest.mark.everything
def test_torchrun(alone: Path, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(NET)
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "regspec"]
    run = [sys.executable, "-m", *torchrun, *ARGUMENTS, "--epochs", "3"]
    result = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("epoch 2/") == 1  # one of the processes prints
    check(tmp_path / "run", alone)


# Labels of steps, of which one process has many that count and another few; and a quantity.
TWO = """
regspec: 1
name: net
inputs: {x: {shape: [6], dtype: int64}}
layers:
  - Embedding: {name: words, input_dim: 9, output_dim: 5, embeddings_regularizer: {l2: 1e-2}}
  - Dense: {name: tags, units: 3, activity_regularizer: {l1: 1e-2}}
  - Flatten: {inputs: words}
  - Dense: {name: price, units: 1}
outputs: [tags, price]
"""


@pytest.mark.parametrize(
    ("strategy", "is_weighted", "more"),
    [
        ("ddp", False, []),
        ("ddp", True, ["--accumulate", "3"]),
        ("fsdp", True, ["--accumulate", "2", "--ema", "0.7"]),  # of a weight of one row, too
    ],
)
def test_several_outputs_and_places_that_do_not_count(
    strategy: str, is_weighted: bool, more: list[str], tmp_path: Path
) -> None:
    """Also where examples weigh unevenly on the processes, and a step has several batches, or fewer at the end."""
    drawn = np.random.default_rng(0)
    x = drawn.integers(0, 9, (53, 6))
    lengths = np.where(np.arange(53) % 3, 1, 6)
    tags = np.where(np.arange(6) < lengths[:, None], x % 3, -1)
    weights = {"sample_weight": np.where(np.arange(53) % 3, 0.2, 4.0)} if is_weighted else {}
    np.savez(tmp_path / "given.npz", x=x, tags=tags, price=x.sum(1, dtype=np.float32), **weights)
    (tmp_path / "net.yaml").write_text(TWO)
    said = [
        "--outputs.tags.ignore_index",
        "-1",
        "--outputs.tags.metrics",
        "f1",
        "--outputs.tags.class_weights",
        "balanced",
    ]
    said += ["--outputs.price.loss", "huber", "--outputs.price.metrics", "[r2, mae]", "--outputs.price.weight", "0.3"]
    arguments = ["train", "net.yaml", "--data", "given.npz", *said, "--batch-size", "16", "--accelerator", "cpu"]
    arguments += ["--epochs", "2", *more]
    assert command(*arguments, "-o", "alone", cwd=tmp_path).code == 0
    done = as_torchrun(3, run_rank, tmp_path, [*arguments, "-o", "run", "--strategy", strategy])
    assert [each.code for each in done] == [0, 0, 0], done
    check(tmp_path / "run", tmp_path / "alone")


STREAM = """
import numpy as np, torch
from sklearn.datasets import load_wine
from torch.utils.data import DataLoader, TensorDataset

x, y = map(torch.tensor, load_wine(return_X_y=True))
weights = torch.linspace(0, 2, 178)

def loaders(rows=range(0, 140)):
    train = TensorDataset(x[rows], y[rows], weights[rows])
    return DataLoader(train, batch_size=32, shuffle=True), DataLoader(TensorDataset(x[140:], y[140:]), batch_size=16)

def cut():
    return loaders(range(0, 130))

def drawn():
    def batches():
        rows = np.random.default_rng().integers(0, 140, 32)
        yield x[rows], y[rows]
    return batches, TensorDataset(x[140:], y[140:])
"""


STREAMED = ["train", "net.yaml", "--data", "given_stream:loaders", "--accelerator", "cpu", "--epochs", "2"]


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one process, on batches one after the other."""
    folder = tmp_path_factory.mktemp("streamed")
    (folder / "net.yaml").write_text(NET)
    (folder / "given_stream.py").write_text(STREAM)
    alone = command_apart(*STREAMED, "-o", "alone", cwd=folder)
    assert alone.code == 0, alone
    return folder


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_batches_one_after_the_other(strategy: str, streamed: Path) -> None:
    """Each process goes through the stream and takes its part of each batch, of an uneven last one too."""
    done = as_torchrun(3, run_rank, streamed, [*STREAMED, "-o", strategy, "--strategy", strategy])
    assert [each.code for each in done] == [0, 0, 0], done
    check(streamed / strategy, streamed / "alone")


@pytest.mark.parametrize(
    ("data", "told"),
    [("cut", "gives a batch of 2, which 3 processes can't share"), ("drawn", "does not give the same batches on each")],
)
def test_batches_that_can_not_be_shared(data: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "given_stream.py").write_text(STREAM)
    arguments = ["train", "net.yaml", "--data", f"given_stream:{data}", "--accelerator", "cpu", "--strategy", "ddp"]
    done = as_torchrun(3, run_rank, tmp_path, [*arguments, "-o", "run"])
    assert [each.code for each in done] == [1, 1, 1], done
    assert any(told in each.output for each in done)


STEPS = ["--clip-gradients", "0.3", "--accumulate", "2", "--schedule", "cosine warmup=3", "--weights", "run"]
STEPS += ["--epochs", "3", "--optimizer", "sgd momentum=0.9", "--lr", "0.3", "--ema", "0.8"]


@pytest.fixture(scope="module")
def stepped(alone: Path) -> Path:
    """A run of one process."""
    folder = alone.parent
    assert command(*ARGUMENTS[:-1], "stepped", *STEPS, cwd=folder).code == 0
    return folder / "stepped"


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_steps(strategy: str, stepped: Path) -> None:
    """Clipped, of several batches, by a schedule, from weights of another run, and averaged."""
    arguments = [*ARGUMENTS[:-1], f"stepped_{strategy}", *STEPS, "--strategy", strategy]
    done = as_torchrun(3, run_rank, stepped.parent, arguments)
    assert [each.code for each in done] == [0, 0, 0], done
    check(stepped.parent / f"stepped_{strategy}", stepped)
