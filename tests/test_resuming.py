"""Runs that are stopped, killed or refused: what is left, and that they go on as if nothing had been."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner

import regspec
from regspec.cli import app
from regspec.training.loop.run import Run, resume, train
from regspec.training.options.options import Options

from .commands import run_command, started

# dropout, a schedule, momentum, moving statistics and the order of examples must all go on
NET = """
regspec: 1
name: net
inputs: {x: {shape: [13]}}
layers:
  - BatchNormalization
  - Dense:
      name: hidden
      units: 16
      activation: relu
      kernel_regularizer: {l1: 1e-2, schedule: {linear: {start: 1, end: 0.1, over: 25}}}
      activity_regularizer: l1
  - Dropout: {rate: 0.3}
  - Dense: {name: scores, units: 3, kernel_constraint: {max_norm: 1.0}}
"""
OPTIONS = {"data": "wine", "epochs": 5, "batch_size": 20, "optimizer": "sgd momentum=0.9", "lr": 0.05}
ARGUMENTS = ["--data", "wine", "--batch-size", "20", "--optimizer", "sgd momentum=0.9", "--lr", "0.05"]


class StopError(Exception):
    """Raised by a test in the midst of a run."""


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "net.yaml").write_text(NET)
    return tmp_path / "net.yaml"


def stopped(spec: Path, options: Options, folder: Path, epoch: int) -> None:
    """A run that ends by an exception after an epoch, before its checkpoint."""

    def stop(number: int, metrics: object) -> None:
        if number == epoch:
            raise StopError

    with pytest.raises(StopError):
        train(spec, options, folder, console=quiet(), on_epoch=stop)


def rows(folder: Path) -> list[dict[str, str]]:
    """The metrics of a run, but for the times."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def same(a: Run | Path, b: Run | Path) -> bool:
    folders = [each.folder if isinstance(each, Run) else each for each in (a, b)]
    first, second = (load_file(folder / "weights.safetensors") for folder in folders)
    assert first.keys() == second.keys()
    return rows(folders[0]) == rows(folders[1]) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"route": ("l1=proximal",)},
        {"optimizer": "adamw", "class_weights": "balanced", "patience": 40},
        {"precision": "bf16-mixed", "logger": "tensorboard"},
    ],
    ids=["loss", "proximal", "adamw", "bf16"],
)
def test_a_resumed_run_is_the_uninterrupted_one(more: dict[str, object], spec: Path, tmp_path: Path) -> None:
    options = Options(**{**OPTIONS, **more})
    whole = train(spec, options, tmp_path / "whole", console=quiet())
    stopped(spec, options, tmp_path / "stopped", 3)
    assert same(resume(tmp_path / "stopped", {}, console=quiet()), whole)


def test_more_epochs(spec: Path, tmp_path: Path) -> None:
    """Fewer epochs, and then the rest, are all of them."""
    whole = train(spec, Options(**OPTIONS), tmp_path / "whole", console=quiet())
    train(spec, Options(**{**OPTIONS, "epochs": 2}), tmp_path / "run", console=quiet())
    assert same(resume(tmp_path / "run", {"epochs": 5}, console=quiet()), whole)
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert facts["finished"]
    assert facts["epochs"] == 5


def test_a_baseline_is_resumed_too(spec: Path, tmp_path: Path) -> None:
    options = Options(**OPTIONS, baseline=True)
    train(spec, options, tmp_path / "whole", console=quiet())
    train(spec, Options(**OPTIONS), tmp_path / "run", console=quiet())
    facts = json.loads((tmp_path / "run/run.json").read_text())
    facts["options"]["baseline"] = True  # as if it had been killed before the twin began
    (tmp_path / "run/run.json").write_text(json.dumps(facts))
    resume(tmp_path / "run", {}, console=quiet())
    assert same(tmp_path / "run/baseline", tmp_path / "whole/baseline")


class StopsInTwin(Console):
    """A console at whose line on a twin's third epoch the training ends."""

    def print(self, *lines: object, **arguments: object) -> None:
        line = " ".join(map(str, lines))
        self.is_twin = getattr(self, "is_twin", False) or line.startswith("the same without")
        if self.is_twin and line.startswith("epoch 3/"):
            raise StopError


@pytest.mark.parametrize("patience", [None, 1])
def test_stopped_in_the_twin(patience: int | None, spec: Path, tmp_path: Path) -> None:
    """What has ended stays as it is, and its twin goes on; by itself it does not, because it would be penalized."""
    rate = 1.0 if patience else 0.05
    options = Options(**{**OPTIONS, "epochs": 9, "lr": rate}, patience=patience, baseline=True)
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(spec, options, whole, console=quiet())
    assert (len(rows(whole)) < 9) == (patience is not None)
    with pytest.raises(StopError):
        train(spec, options, run, console=StopsInTwin(file=io.StringIO()))
    assert len(rows(run / "baseline")) == 3
    assert (run / "activities.json").exists()
    with pytest.raises(regspec.RegspecError, match="is the twin of another run"):
        resume(run / "baseline", {"epochs": 20}, console=quiet())
    resume(run, {}, console=quiet())
    assert same(run, whole)
    assert same(run / "baseline", whole / "baseline")
    with pytest.raises(regspec.RegspecError, match=r"has (done its 9|ended after \d) epochs"):
        resume(run, {}, console=quiet())


def test_patience_that_is_another_now(spec: Path, tmp_path: Path) -> None:
    """A run that ended early goes on only where it may be more patient; it is told that it ended early."""
    told = io.StringIO()
    options = Options(**{**OPTIONS, "epochs": 12, "lr": 1.0}, patience=1)
    train(spec, options, tmp_path / "run", console=Console(file=told))
    done = len(rows(tmp_path / "run"))
    assert f"ended after {done} of 12 epochs: the held-out loss was not better for 1" in told.getvalue()
    with pytest.raises(regspec.RegspecError, match=f"has ended after {done} epochs") as error:
        resume(tmp_path / "run", {"epochs": 20}, console=quiet())
    assert "--patience 2 goes on" in str(error.value)
    resume(tmp_path / "run", {"patience": 50}, console=quiet())
    assert len(rows(tmp_path / "run")) == 12


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("spec.yaml", NET.replace("units: 16", "units: 17").encode(), "is not the spec that the run began with"),
        ("spec.yaml", NET.replace("activity_regularizer: l1", "").encode(), "is not the spec that the run began with"),
        ("data.csv", b"a,b,y\n1,2,0\n2,2,1\n3,1,0\n4,4,1\n", "examples to train on, and not"),
        ("data.csv", None, "can't be read"),
        ("checkpoint.ckpt", None, "is gone"),
        ("checkpoint.ckpt", b"", "is damaged"),
        ("checkpoint.ckpt", bytes(100), "is damaged"),
        ("checkpoint.ckpt", b"PK\x03\x04" + bytes(100), "is damaged"),
    ],
)
def test_what_has_changed_since_a_run_began(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(NET.replace("[13]", "[2]"))
    data, run = tmp_path / "data.csv", tmp_path / "run"
    data.write_text("a,b,y\n" + "".join(f"{row}.5,{row % 5},{row % 3}\n" for row in range(30)))
    train(tmp_path / "net.yaml", Options(data=str(data), epochs=2), run, console=quiet())
    before = (run / "weights.safetensors").read_bytes()
    path = data if name == "data.csv" else run / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.replace(b"[13]", b"[2]"))
    with pytest.raises(regspec.RegspecError, match=message):
        resume(run, {"epochs": 3}, console=quiet())
    assert (run / "weights.safetensors").read_bytes() == before


def test_killed_at_each_epoch(spec: Path, tmp_path: Path) -> None:
    """Killed between the files of an epoch and its checkpoint, it loses that epoch at most, and ends the same."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(spec, Options(**OPTIONS), whole, console=quiet())
    arguments = ["train", str(spec), *ARGUMENTS, "--epochs", "5", "-o", str(run)]
    for epoch in (1, 2, 4):
        with started(run_command, tmp_path, arguments) as training:
            for line in training.lines:
                if line.startswith(f"epoch {epoch}/5"):
                    training.process.kill()
            assert training.ended().code == -signal.SIGKILL
        assert len(rows(run)) >= epoch
        load_file(run / "weights.safetensors")
        arguments = ["train", "--resume", str(run)]
    resume(run, {}, console=quiet())
    assert same(run, whole)


def with_small_files(size: int, cwd: Path, arguments: list[str]) -> None:
    """A command that can write no file larger than a size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    run_command(cwd, arguments)


def test_a_full_disk(spec: Path, tmp_path: Path) -> None:
    """No file may grow beyond a size that the first weights have, and the checkpoint has not."""
    size = (len(regspec.source(spec)) + 4000) // 1000 * 1000
    run = tmp_path / "run"
    arguments = ["train", str(spec), *ARGUMENTS, "--epochs", "3", "-o", str(run)]
    with started(with_small_files, size, tmp_path, arguments) as training:
        result = training.ended()
    assert result.code == 1, result.output
    assert "checkpoint.ckpt: error: can't be written: File too large" in result.output
    assert "Traceback" not in result.output
    assert len(rows(run)) == 1
    load_file(run / "weights.safetensors")
    assert not (run / "checkpoint.ckpt").exists()
    resume(run, {}, console=quiet())
    assert len(rows(run)) == 3


@pytest.mark.filterwarnings("ignore:the regularization loss is nan:RuntimeWarning")  # which is the cause
def test_a_loss_that_is_not_finite(spec: Path, tmp_path: Path) -> None:
    """What the epochs before have left is not touched."""
    run = tmp_path / "run"
    train(spec, Options(**{**OPTIONS, "epochs": 2}), run, console=quiet())
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    facts = json.loads((run / "run.json").read_text())
    checkpoint = torch.load(run / "checkpoint.ckpt", weights_only=False)
    checkpoint["state_dict"]["model.scores.bias"][0] = float("nan")
    torch.save(checkpoint, run / "checkpoint.ckpt")
    with pytest.raises(regspec.RegspecError, match=r"the loss is not finite in epoch 3: data loss nan"):
        resume(run, {"epochs": 4}, console=quiet())
    assert facts["epochs"] == 2
    for name in ("weights.safetensors", "metrics.csv", "run.json"):
        assert (run / name).read_bytes() == before[name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--accelerator", "gpu"], "No supported gpu backend found"),
        (["--precision", "9"], "Precision '9' is invalid"),
        (["--optimizer", "adm"], "'adm' is no optimizer"),
        (["--optimizer", "sgd momentun=0.9"], "sgd does not take 'momentun=0.9'"),
        (["--optimizer", "sgd momentum=-1"], "Invalid momentum value"),
        (["--route", "l1"], "'l1' is no route"),
        (["--route", "l2=gradient"], "no weight has the l2"),
        (["--route", "l1=gradient", "--route", "l1=loss"], "two routes of 'l1'"),
        (["--optimizer", ""], "'' is no optimizer"),
        (["--optimizer", "sparseadam"], "'sparseadam' is no optimizer"),
        (["--optimizer", "adam capturable=true"], "does not take 'capturable=true'"),
        (["--optimizer", "sgd momentum=lots"], "does not take 'momentum=lots'"),
        (["--accelerator", "cpu", "--devices", "-1"], "should be an int > 0"),
        (["--accelerator", "cpu", "--devices", "many"], "should be an int > 0"),
        (["--route", "l1=proximal", "--optimizer", "rprop"], "Rprop lets its steps grow"),
        (["--route", "l3=decay"], "l3"),
        (["--class-weights", "balanced", "--data", "diabetes"], "classes"),
        (["--set", "width=3"], "width"),
        (["-o", "/proc/nowhere/run"], "can't be written"),
        (["-o", "."], "is a folder that is not empty"),
        (["--resume", "."], "is no run's folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_can_not_be_had(
    arguments: list[str], message: str, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {**os.environ, "COLUMNS": "200"})
    if "--resume" not in arguments:
        arguments = ["net.yaml", *ARGUMENTS[:2], *arguments] if "--data" not in arguments else ["net.yaml", *arguments]
    if "-o" not in arguments and "--resume" not in arguments:
        arguments += ["-o", "run"]
    result = CliRunner().invoke(app, ["train", *arguments])
    assert isinstance(result.exception, regspec.RegspecError)
    assert message in str(result.exception)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments", [["--lr", "0.1"], ["--data", "digits"], ["other.yaml"], ["-o", "x"], ["--set", "a=1"]]
)
def test_what_a_resumed_run_can_not_change(arguments: list[str], spec: Path, tmp_path: Path) -> None:
    train(spec, Options(**{**OPTIONS, "epochs": 1}), tmp_path / "run", console=quiet())
    result = CliRunner().invoke(app, ["train", *arguments, "--resume", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "a resumed run goes on as it began" in result.output


def test_fewer_epochs_than_are_done(spec: Path, tmp_path: Path) -> None:
    """What was to be done is not forgotten: the run goes on to its end afterwards."""
    stopped(spec, Options(**OPTIONS), tmp_path / "run", 3)
    before = (tmp_path / "run/run.json").read_text()
    with pytest.raises(regspec.RegspecError, match="has done 3 epochs, and can't be one of 2") as caught:
        resume(tmp_path / "run", {"epochs": 2}, console=quiet())
    assert caught.value.problems[0].hint == "without --epochs it goes on to 5"
    assert (tmp_path / "run/run.json").read_text() == before
    resume(tmp_path / "run", {}, console=quiet())
    assert json.loads((tmp_path / "run/run.json").read_text())["epochs"] == 5


def test_a_run_that_is_done(spec: Path, tmp_path: Path) -> None:
    train(spec, Options(**{**OPTIONS, "epochs": 1}), tmp_path / "run", console=quiet())
    with pytest.raises(regspec.RegspecError, match="has done its 1 epochs"):
        resume(tmp_path / "run", {}, console=quiet())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"options": 3}', "{"])
def test_a_run_that_is_damaged(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(regspec.RegspecError, match="is damaged"):
        resume(tmp_path, {}, console=quiet())
