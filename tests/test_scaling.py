"""Targets that are scaled for the loss: by scikit-learn's scalers, and figures and predictions in their own units."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console
from sklearn import metrics, preprocessing

import regspec
from regspec.graph.loading import graph_of, load
from regspec.report import findings
from regspec.report.runs import read_runs
from regspec.training.data import load_data
from regspec.training.loop.run import train as train_run
from regspec.training.options.options import Options
from regspec.training.options.outputs import OutputSection

from .commands import command

SCALERS: dict[str, Any] = {
    "standard": preprocessing.StandardScaler,
    "min_max": preprocessing.MinMaxScaler,
    "robust": preprocessing.RobustScaler,
}
GENERATOR = np.random.default_rng(3)
X = GENERATOR.standard_normal((60, 3)).astype(np.float32)
NET = "regspec: 1\ninputs: {x: {shape: [3]}}\nlayers: [{Dense: {name: price, units: %d}}]\n"
FIRST = """\
regspec: 1
inputs: {x: {shape: [3, 4]}}
data_format: channels_first
layers: [{Conv1D: {name: price, filters: 2, kernel_size: 1}}]
"""
STEPS = "regspec: 1\ninputs: {x: {shape: [4, 3]}}\nlayers: [{Dense: {name: price, units: 2}}]\n"
WIDE = np.array([300_000.0, 2000.0])


def prices(*shape: int) -> np.ndarray:
    """Numbers far from 0, each unit's in units of its own."""
    made = GENERATOR.standard_normal((60, *shape))
    return (946_000 + made * (WIDE if shape[-1:] == (2,) else 300_000)).astype(np.float32)


ONE = (946_000 + 300_000 * (X @ np.array([1.0, -0.5, 0.2]))).astype(np.float32)


def outputs(run: regspec.Run, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return run.model(torch.tensor(x)).double().numpy()


def train(folder: Path, spec: str, data: Any, **said: Any) -> regspec.Run:
    options = {"epochs": 3, "lr": 0.05, "batch_size": 16, "metrics": ["mae", "r2"], **said}
    section = {"metrics": options.pop("metrics"), "scale": options.pop("scale"), "loss": options.pop("loss", "mse")}
    return regspec.train(spec, data, folder=folder / "run", quiet=True, outputs={"price": section}, **options)


@pytest.mark.parametrize("scale", SCALERS)
@pytest.mark.parametrize("form", ["one", "column", "units", "steps", "channels first"])
def test_own_units(form: str, scale: str, tmp_path: Path) -> None:
    """The loss is of scaled targets; predictions and figures are scikit-learn's of what is scaled back."""
    x, y, spec = X, ONE, NET % 1
    if form == "column":
        y = ONE[:, None]
    elif form == "units":
        y, spec = prices(2), NET % 2
    elif form == "steps":
        x, y, spec = GENERATOR.standard_normal((60, 4, 3)).astype(np.float32), prices(4, 2), STEPS
    elif form == "channels first":
        x, spec = GENERATOR.standard_normal((60, 3, 4)).astype(np.float32), FIRST
        y = np.ascontiguousarray(prices(4, 2).transpose(0, 2, 1))
    run = train(tmp_path, spec, (x[:40], y[:40], x[40:], y[40:]), scale=scale)

    def rows(values: np.ndarray) -> np.ndarray:
        last = values.transpose(0, 2, 1) if form == "channels first" else values
        return last.reshape(-1, 1 if form in ("one", "column") else 2).astype(np.float64)

    scaler = SCALERS[scale]().fit(rows(y[:40]))
    given = rows(outputs(run, x[40:]))
    loss = metrics.mean_squared_error(scaler.transform(rows(y[40:])), given)
    assert run.metrics["held_out_loss"] == pytest.approx(loss, rel=1e-4)
    wanted = scaler.inverse_transform(given)
    for each in (run, regspec.load_run(run.folder)):
        assert np.allclose(rows(np.asarray(each.predict(x[40:]).values)), wanted, rtol=1e-6)
        found = each.evaluate((x[40:], y[40:])).outputs["price"]
        assert found.loss == pytest.approx(loss, rel=1e-4)
        flat = [rows(y[40:]), wanted]
        assert found.metrics["mae"] == pytest.approx(metrics.mean_absolute_error(*flat), rel=1e-4)
        assert found.metrics["rmse"] == pytest.approx(np.sqrt(metrics.mean_squared_error(*flat)), rel=1e-4)
    assert run.metrics["held_out_mae"] == pytest.approx(metrics.mean_absolute_error(*flat), rel=1e-4)
    if form in ("one", "column"):
        assert found.metrics["r2"] == pytest.approx(metrics.r2_score(*flat), rel=1e-3)
        worst = json.loads((run.folder / "held_out.json").read_text())["outputs"]["price"]["worst"][0]
        place = int(np.abs(flat[0] - flat[1]).argmax())
        assert (worst["is"], worst["said"]) == tuple(f"{each[place, 0]:.4g}" for each in flat)
    kept = json.loads((run.folder / "run.json").read_text())["outputs"]["price"]["scaling"]
    center = {"standard": "mean_", "min_max": "data_min_", "robust": "center_"}[scale]
    assert kept["center"] == pytest.approx(getattr(scaler, center).tolist())
    exported = run.export(tmp_path / "net.safetensors").about["outputs"]["price"]
    assert (exported["center"], exported["spread"]) == (kept["center"], kept["spread"])


def test_a_table_is_learned_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command line, with the fifth that is held out; and what the folder keeps is trained again."""
    frame = pl.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "price": ONE})
    frame.write_csv(tmp_path / "houses.csv")
    (tmp_path / "net.yaml").write_text(NET % 1)
    said = ["--outputs.price.scale", "standard", "--epochs", "60", "--lr", "0.05", "--batch-size", "16"]
    data = ["--data", "houses.csv"]
    made = command("train", "net.yaml", *data, *said, "-o", "run", cwd=tmp_path)
    assert "quantities by mse, scale standard" in made.stdout
    again = command("train", "spec.yaml", "--with", "training.yaml", "-o", "again", cwd=tmp_path / "run")
    assert again.code == 0, again.stderr
    runs = [regspec.load_run(tmp_path / each) for each in ("run", "run/again")]
    assert runs[0].metrics["held_out_loss"] == runs[1].metrics["held_out_loss"]
    monkeypatch.chdir(tmp_path)
    found = runs[0].evaluate().outputs["price"]
    assert found.metrics["r2"] > 0.99
    assert found.baseline["rmse"] > 1e5
    told = command("evaluate", "run", cwd=tmp_path).stdout
    assert f"price: mse {found.loss:.4g} of scaled numbers; rmse {found.metrics['rmse']:.4g}" in told
    assert f"; always giving the mean, {found.constant:.6g}, has rmse" in told


def test_a_report_ranks_none_above_one_whose_targets_are_not_scaled(tmp_path: Path) -> None:
    """A loss of scaled targets is small, however bad the model is."""
    said: dict[str, Any] = {"first": "standard", "second": None, "third": "min_max", "fourth": "standard"}
    for name, scale in said.items():
        train(tmp_path / name, NET % 1, (X[:40], ONE[:40], X[40:], ONE[40:]), scale=scale)
    first, *others = read_runs([tmp_path / name / "run" for name in said])
    assert "a mean square error of scaled targets of " in findings.headline(first)
    assert "scaled" not in findings.headline(others[0])
    for other in others[:2]:
        assert "losses of different kinds, so none is ranked" in findings.best([first, other])
    assert " is the best: " in findings.best([first, others[2]])


@pytest.mark.parametrize(
    ("y", "more", "line"),
    [
        (
            ONE,
            {},
            r"price: no better than always answering {mean:.6g}: rmse .*, and that has {rmse:.4g}; --outputs.price",
        ),
        (ONE, {"scale": "standard"}, None),
        (np.abs(ONE), {"loss": "cosine_similarity"}, None),
        (np.abs(ONE), {"loss": "mape"}, r"no better than always answering {mean:.6g}: rmse [^;]*$"),
        (np.arange(60) % 10 < 7, {}, "price: no better than always answering 'true', which is right for 70.0%"),
        (X[:, 0] > 0, {}, None),
    ],
)
def test_no_better_than_a_constant(y: np.ndarray, more: Any, line: str | None, tmp_path: Path) -> None:
    """Of the weights that are kept, at the end of the training: of large targets, and of noise."""
    out, held_out = io.StringIO(), (X[40:], y[40:])
    x = X if line is None or "true" not in line else np.zeros_like(X)
    options = Options.of(
        {"data": "<memory>", "epochs": 40, "lr": 0.1, "outputs": [f"price.{k}={v}" for k, v in more.items()]}
    )
    given = (x[:40], y[:40], x[40:], y[40:])
    train_run(load(NET % 1), options, tmp_path / "run", console=Console(file=out, width=200), given=given)
    found = [each for each in out.getvalue().splitlines() if "no better" in each]
    assert len(found) == (line is not None)
    if line is not None:
        told = line.format(mean=float(held_out[1].mean()), rmse=float(held_out[1].astype(np.float64).std()))
        assert re.search(told.replace("+", r"\+"), found[0]), found


def test_batches_and_arrays_on_disk(tmp_path: Path) -> None:
    """A dataset is scaled by the targets that are trained on, and none of those held out."""
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "x.npy", X)
    np.save(tmp_path / "folder" / "y.npy", ONE)
    graph, said = graph_of(load(NET % 1)), {"price": OutputSection(scale="standard")}
    dataset = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(ONE))
    loader = torch.utils.data.DataLoader(dataset, batch_size=16)
    for source in ((X, ONE), dataset, str(tmp_path / "folder"), (loader, dataset)):
        data = load_data(source, graph, outputs=said)
        goals = torch.cat([each[1] for each in data.train]) if source[0] is loader else data.train.targets[0]
        scaling = data.targets[0].scaling
        assert scaling is not None
        assert scaling.center == pytest.approx((goals.double().mean().item(),))
        assert scaling.spread == pytest.approx((goals.double().std(correction=0).item(),))
        assert (len(data.train) < 60) == (source[0] is not loader)


@pytest.mark.parametrize(
    ("y", "said", "what"),
    [
        ((X[:, 0] > 0).astype(np.int64), {}, "scale is for quantities, but 'data' has classes for 'price'"),
        ((X[:, 0] > 0).astype(np.int64), {"loss": "binary_cross_entropy"}, "but 'data' has labels for 'price'"),
        (ONE, {"loss": "poisson"}, "poisson reads the quantities of 'price' as they are"),
        (ONE, {"loss": "mape"}, "mape reads the quantities of 'price' as they are"),
        (ONE, {"scale": "minmax"}, "must be 'standard', 'min_max' or 'robust'"),
    ],
)
def test_what_can_not_be_scaled(y: np.ndarray, said: Any, what: str, tmp_path: Path) -> None:
    section = {"scale": "standard", **said}
    with pytest.raises(regspec.RegspecError, match=what):
        regspec.train(NET % 1, (X, np.abs(y)), outputs={"price": section}, folder=tmp_path / "run", quiet=True)


@pytest.mark.parametrize("scale", ["standard", None])
@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_targets_of_a_half_model_are_not_rounded(precision: str, scale: str | None, tmp_path: Path) -> None:
    """Half precision has no 10,001, and is what the model computes with; what it learns is what it was."""
    y = (10_000 + 6 * X @ np.array([1.0, -0.5, 0.2])).astype(np.float32)
    options: dict[str, Any] = {"precision": precision, "optimizer": "sgd", "lr": 0.01}
    run = train(tmp_path, NET % 1, (X[:40], y[:40], X[40:], y[40:]), scale=scale, **options)
    scaler = preprocessing.StandardScaler().fit(y[:40, None])
    given, goal = outputs(run, X[40:]), y[40:, None].astype(np.float64)
    loss = metrics.mean_squared_error(scaler.transform(goal) if scale else goal, given)
    assert run.metrics["held_out_loss"] == pytest.approx(loss, rel=0.02)
    own = scaler.inverse_transform(given) if scale else given
    assert run.metrics["held_out_mae"] == pytest.approx(metrics.mean_absolute_error(goal, own), rel=0.02)
