"""Runs on several processes: the weights are those of one process."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

# 142 examples in batches of 32: with three processes the parts of a batch differ in size, and so do those of the last
NET = """
regspec: 1
name: net
inputs: {x: {shape: [13]}}
layers:
  - Dense: {name: hidden, units: 17, activation: tanh, kernel_regularizer: {l2: 1e-2}, activity_regularizer: l1}
  - Dense: {name: scores, units: 3, kernel_regularizer: {l1: 1e-2}, bias_regularizer: l2}
"""
ARGUMENTS = ["--data", "wine", "--epochs", "3", "--batch-size", "32", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    trained(folder, [sys.executable, "-m", "regspec"])
    return folder / "run"


def trained(folder: Path, start: list[str], *more: str) -> None:
    (folder / "net.yaml").write_text(NET)
    command = [*start, "train", "net.yaml", *ARGUMENTS, *more, "-o", "run"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("epoch 3/3") == 1  # one of the processes prints


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


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("processes", ["2", "3"])
def test_several_processes(strategy: str, processes: str, alone: Path, tmp_path: Path) -> None:
    start = [sys.executable, "-m", "regspec"]
    trained(tmp_path, start, "--devices", processes, "--strategy", strategy)
    check(tmp_path / "run", alone)


def test_torchrun(alone: Path, tmp_path: Path) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "regspec"]
    trained(tmp_path, start)
    check(tmp_path / "run", alone)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_resumed_by_other_processes(strategy: str, alone: Path, tmp_path: Path) -> None:
    """Two epochs on two processes, the third on one."""
    start = [sys.executable, "-m", "regspec"]
    (tmp_path / "net.yaml").write_text(NET)
    begin = [
        *start,
        "train",
        "net.yaml",
        *ARGUMENTS,
        "--epochs",
        "2",
        "--devices",
        "2",
        "--strategy",
        strategy,
        "-o",
        "run",
    ]
    subprocess.run(begin, cwd=tmp_path, check=True, capture_output=True, timeout=240)
    go_on = [*start, "train", "--resume", "run", "--epochs", "3", "--devices", "1", "--strategy", "auto"]
    subprocess.run(go_on, cwd=tmp_path, check=True, capture_output=True, timeout=240)
    check(tmp_path / "run", alone)
