"""What a run keeps: the weights of its best epoch, whatever happened in between."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import regspec
from regspec.graph.loading import graph_of
from regspec.report.findings import account, headline
from regspec.report.runs import read_runs
from regspec.training.data import load_data
from regspec.training.loop.run import Run, resume, train
from regspec.training.options.options import Options
from regspec.training.runs.folder import Folder

NET = """\
regspec: 1
inputs: {x: {shape: [13]}}
layers:
  - BatchNormalization: {name: norm}
  - Dense:
      name: hidden
      units: 16
      activation: relu
      kernel_regularizer: {l2: 0.5, schedule: {linear: {start: 0, end: 1, over: 100}}}
      bias_regularizer: {l1: 0.5, schedule: {linear: {start: 0, end: 1, over: 10, unit: epoch}}}
  - Dense: {name: scores, units: 3}
"""
STEPS = 8  # in an epoch, of 142 examples
OPTIONS = {"data": "wine", "epochs": 9, "batch_size": 18, "lr": 0.02, "seed": 1}


def started(folder: Path, name: str = "run", console: Console | None = None, **more: Any) -> Run:
    path = folder / "net.yaml"
    path.write_text(NET)
    return train(path, Options(**{**OPTIONS, **more}), folder / name, console=console or Console(file=io.StringIO()))


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def last(folder: Path) -> dict[str, Tensor]:
    """The weights of the last epoch, which are in the checkpoint."""
    state = torch.load(folder / "checkpoint.ckpt", weights_only=False)["state_dict"]
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}


def best(folder: Path) -> int:
    losses = [row["held_out_loss"] for row in rows(folder)]
    return 1 + losses.index(min(losses))


def is_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Run]:
    """A run with its twin, whose best epoch is neither the first nor the last; and what it printed."""
    console = Console(file=io.StringIO(), width=200)
    folder = tmp_path_factory.mktemp("whole")
    run = started(folder, console=console, baseline=True)
    return run.folder, console.file.getvalue(), run  # type: ignore[attr-defined]  # a StringIO


@pytest.mark.parametrize("is_twin", [False, True])
def test_the_weights_are_those_of_the_best_epoch(is_twin: bool, whole: tuple[Path, str, Run], tmp_path: Path) -> None:
    """A run that ends with that epoch has the same ones as its last; the checkpoint has those of the last epoch."""
    folder, printed, _ = whole
    folder = folder / "baseline" if is_twin else folder
    epoch = best(folder)
    assert is_twin or 1 < epoch < 9
    shorter = started(tmp_path, epochs=epoch, baseline=True).folder
    kept = load_file(folder / "weights.safetensors")
    assert is_same(kept, last(shorter / "baseline" if is_twin else shorter))
    assert is_same(kept, last(folder)) == (epoch == 9)
    facts = json.loads((folder / "run.json").read_text())
    assert (facts["best_epoch"], facts["epochs"]) == (epoch, 9)
    assert f"kept: epoch {epoch} of 9, held-out loss {rows(folder)[epoch - 1]['held_out_loss']:.4f}\n" in printed


def test_the_model_and_the_metrics_are_those_of_the_best_epoch(whole: tuple[Path, str, Run]) -> None:
    folder, _, run = whole
    row = rows(folder)[best(folder) - 1]
    assert dict(run.metrics) == row
    x, target = load_data("wine", graph_of(NET), seed=1).held_out[range(36)]
    assert F.cross_entropy(run.model(x), target).item() == pytest.approx(row["held_out_loss"], rel=1e-5)
    epoch = int(row["epoch"])
    strengths: dict[str, float] = regspec.strengths(run.model)
    assert strengths == pytest.approx({"hidden.kernel.l2": 0.005 * STEPS * epoch, "hidden.bias.l1": 0.05 * epoch})


def test_the_first_of_equals(tmp_path: Path) -> None:
    (tmp_path / "equal.yaml").write_text("regspec: 1\ninputs: {x: {shape: [13]}}\nlayers: [{Dense: {units: 3}}]\n")
    options = Options(data="wine", lr=0.0, epochs=3)
    run = train(tmp_path / "equal.yaml", options, tmp_path / "equal", console=Console(file=io.StringIO()))
    assert len({row["held_out_loss"] for row in rows(run.folder)}) == 1
    assert run.metrics["epoch"] == 1


class Killed(Exception):  # noqa: N818  # no fault, but a kill
    """Raised by a test where a kill is to be."""


@pytest.mark.parametrize("name", ["write_weights", "write_facts", "write_metrics"])
@pytest.mark.parametrize("count", range(1, 10))
def test_killed_before_a_file(
    count: int, name: str, whole: tuple[Path, str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file comes last, the weights are those of the epoch that they say, and the run ends as if nothing was.

    So it is also where the epochs after it are others than they would have been.
    """
    folder, _, _ = whole
    original, left = getattr(Folder, name), [count]

    def killed(*arguments: Any, **keywords: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        original(*arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, name, killed)
        try:
            started(tmp_path)
        except Killed:
            pass
        else:  # with fewer such files than that
            assert is_same(load_file(tmp_path / "run/weights.safetensors"), load_file(folder / "weights.safetensors"))
            return
    place = Folder(tmp_path / "run")
    epoch = place.weights().epoch if (place.path / "weights.safetensors").exists() else 0
    if epoch:
        done = rows(folder)[: len(rows(place.path)) if (place.path / "metrics.csv").exists() else 1]
        losses = [row["held_out_loss"] for row in done]
        assert losses[epoch - 1] in (min(losses), min(losses[:-1], default=0.0))
    resume(place.path, {}, console=Console(file=io.StringIO()))
    assert is_same(load_file(place.path / "weights.safetensors"), load_file(folder / "weights.safetensors"))
    assert json.loads((place.path / "run.json").read_text())["best_epoch"] == place.weights().epoch == best(folder)


def test_a_resumed_run_keeps_the_best_of_all_its_epochs(whole: tuple[Path, str, Run], tmp_path: Path) -> None:
    """Where the best epoch was before, and where it is after, the run has stopped."""
    folder, _, _ = whole
    for name, epochs in (("before", best(folder) - 1), ("after", best(folder) + 1)):
        started(tmp_path, name, epochs=epochs)
        made = resume(tmp_path / name, {"epochs": 9}, console=Console(file=io.StringIO()))
        assert is_same(load_file(made.folder / "weights.safetensors"), load_file(folder / "weights.safetensors"))
        assert made.metrics["epoch"] == best(folder)


def test_a_report_tells_of_the_best_epoch(whole: tuple[Path, str, Run]) -> None:
    folder, _, _ = whole
    (recorded,) = read_runs([folder])
    row, twin = (rows(each)[best(each) - 1] for each in (folder, folder / "baseline"))
    accuracy, other = (f"{100 * each['held_out_accuracy']:.1f} %".replace("100.0", "100") for each in (row, twin))
    assert f"gets {accuracy} of 36 held-out examples right" in headline(recorded)
    said = account(recorded)
    assert f"The weights are those of epoch {best(folder)}, the best on held-out data." in said
    assert f"without regularization comes to {other}" in said
    share = 100 * row["penalty"] / (row["penalty"] + row["data_loss"])
    assert f"Penalties make up {share:.1f} % of what it minimized in epoch {best(folder)}." in said


def test_weights_without_an_epoch_are_told(whole: tuple[Path, str, Run], tmp_path: Path) -> None:
    for content, message in ((None, "no epoch of this run is done yet"), (b"x", "can't be read")):
        if content is not None:
            (tmp_path / "weights.safetensors").write_bytes(content)
        with pytest.raises(regspec.RegspecError, match=message):
            Folder(tmp_path).weights()


def test_killed_before_an_average_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint has the trained weights, and the average, which is kept, beside them."""
    original, writes = Folder.write_weights, [0, 0]

    def counted(*arguments: Any, **keywords: Any) -> None:
        writes[0] += 1
        if writes[0] == writes[1]:
            raise Killed
        original(*arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "write_weights", counted)
        whole = started(tmp_path, "whole", ema=0.9)
        writes[:] = 0, writes[0]  # the best epoch's are the last
        with pytest.raises(Killed):
            started(tmp_path, ema=0.9)
    resume(tmp_path / "run", {}, console=Console(file=io.StringIO()))
    assert is_same(*(load_file(folder / "weights.safetensors") for folder in (whole.folder, tmp_path / "run")))
