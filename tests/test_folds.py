"""Folds: which examples are in each, by scikit-learn; a run of its own for each; what they come to; groups."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn import metrics
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
)
from torch.utils.data import TensorDataset

import regspec
from regspec.graph.loading import graph_of
from regspec.report.page import page
from regspec.report.plots import percent
from regspec.training.data import load_data
from regspec.training.data.division import Fold
from regspec.training.options.columns import ColumnSection

from .commands import command
from .test_using import KINDS, NET, PRICE, WORDS, X, trained, weights

NUMBERED = "regspec: 1\ninputs: {x: {shape: [1]}}\nlayers: [{Dense: {name: out, units: %d}}]"
ROWS = np.arange(40)
GROUPS = np.array([f"p{each}" for each in ROWS // 3])
SPLITS: dict[str, tuple[Any, np.ndarray, np.ndarray | None]] = {
    "classes": (StratifiedKFold(4, shuffle=True, random_state=3), KINDS, None),
    "quantities": (KFold(4, shuffle=True, random_state=3), PRICE, None),
    "a class of too few": (KFold(4, shuffle=True, random_state=3), np.where(ROWS < 2, 2, ROWS % 2), None),
    "classes in groups": (StratifiedGroupKFold(4, shuffle=True, random_state=3), KINDS, GROUPS),
    "quantities in groups": (GroupKFold(4, shuffle=True, random_state=3), PRICE, GROUPS),
}


def rows_of(examples: Any) -> list[int]:
    return [int(each) for each in examples[range(len(examples))][0].flatten()]


def data_of(target: np.ndarray, groups: np.ndarray | None) -> tuple[Any, dict[str, ColumnSection]]:
    """Examples whose input is their number."""
    if groups is None:
        return (ROWS[:, None], target), {}
    return pl.DataFrame({"row": ROWS, "who": groups, "y": target}), {"who": ColumnSection(group=True)}


@pytest.mark.parametrize("split", SPLITS)
def test_which_examples_are_held_out(split: str) -> None:
    splitter, target, groups = SPLITS[split]
    data, columns = data_of(target, groups)
    graph = graph_of(NUMBERED % (1 if target.dtype.kind == "f" else 3))
    for number, (train, held_out) in enumerate(splitter.split(ROWS, target, groups), 1):
        loaded = load_data(data, graph, seed=3, fold=Fold(number, 4), columns=columns)
        assert rows_of(loaded.train) == train.tolist()
        assert rows_of(loaded.held_out) == held_out.tolist()


@pytest.mark.parametrize("is_pair", [False, True])
def test_groups_are_held_out_whole(is_pair: bool) -> None:
    """Also where there are no folds, and where the targets are no column."""
    data, columns = data_of(PRICE, GROUPS)
    data = (data.drop("y"), PRICE) if is_pair else data
    loaded = load_data(data, graph_of(NUMBERED % 1), seed=3, columns=columns)
    ((train, held_out),) = GroupShuffleSplit(1, test_size=0.2, random_state=3).split(ROWS, None, GROUPS)
    assert (rows_of(loaded.train), rows_of(loaded.held_out)) == (train.tolist(), held_out.tolist())
    assert not {*GROUPS[train]} & {*GROUPS[held_out]}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[regspec.Run]:
    """A run for each fold, of its parts."""
    folder, splitter = tmp_path_factory.mktemp("alone"), SPLITS["classes"][0]
    parts = [(X[train], KINDS[train], X[held_out], KINDS[held_out]) for train, held_out in splitter.split(X, KINDS)]
    return [trained(folder, data=each, name=f"alone_{number}", seed=3) for number, each in enumerate(parts)]


@pytest.mark.parametrize("form", ["arrays", "a dataset"])
def test_each_fold_is_a_run_of_its_own(form: str, alone: list[regspec.Run], tmp_path: Path) -> None:
    """As if its parts were given; the figures are their means and standard deviations."""
    data: Any = (X, KINDS) if form == "arrays" else TensorDataset(torch.tensor(X), torch.tensor(KINDS))
    folds: Any = trained(tmp_path, data=data, name="folds", folds=4, seed=3)
    for number, (run, own) in enumerate(zip(folds.runs, alone, strict=True), 1):
        assert run.folder == tmp_path / "folds" / f"fold_{number}"
        torch.testing.assert_close(weights(run), weights(own), rtol=0, atol=0)
    losses = [each.metrics["held_out_loss"] for each in alone]
    figure = folds.figures["held_out_loss"]
    assert figure.folds == pytest.approx(losses)
    assert (figure.mean, figure.deviation) == pytest.approx((np.mean(losses), np.std(losses, ddof=1)))
    assert {*folds.figures} == {"held_out_loss", "held_out_accuracy"}
    kept = json.loads((tmp_path / "folds" / "folds.json").read_text())
    assert kept["done"] == 4
    wanted = {"mean": figure.mean, "deviation": figure.deviation, "folds": [*figure.folds]}
    assert kept["figures"]["held_out_loss"] == wanted


def table(folder: Path) -> Path:
    frame = pl.DataFrame({"a": X[:, 0], "b": X[:, 1] * 10, "c": X[:, 2], "kind": WORDS})
    frame.write_csv(folder / "d.csv")
    (folder / "net.yaml").write_text(NET)
    return folder


def test_from_the_command_line(tmp_path: Path) -> None:
    """Columns are fitted on each fold's training part; a fold alone is the same; each is evaluated as any run is."""
    table(tmp_path)
    (tmp_path / "training.yaml").write_text(
        "regspec: 1\ntraining: {epochs: 1}\ndata: {train: d.csv, folds: 3, columns: {b: {scale: standard}}}\n"
    )
    done = command("train", "net.yaml", "--with", "training.yaml", "-o", "folds", cwd=tmp_path)
    assert done.code == 0, done.output
    figures = json.loads((tmp_path / "folds" / "folds.json").read_text())["figures"]
    each = figures["held_out_loss"]
    told = "  ".join(f"{value:.4f}" for value in each["folds"])
    assert f"3 folds: folds\nheld-out loss {each['mean']:.4f} ± {each['deviation']:.4f}  ({told})\n" in done.stdout
    splitter = StratifiedKFold(3, shuffle=True, random_state=0)
    for number, (train, held_out) in enumerate(splitter.split(X, KINDS), 1):
        run = tmp_path / "folds" / f"fold_{number}"
        (fitted,) = json.loads((run / "run.json").read_text())["columns"]["fitted"]
        assert fitted["center"] == pytest.approx([X[train, 1].astype(float).mean() * 10], rel=1e-4)
        found = regspec.load_run(run).evaluate  # of data relative to where it was trained
        assert found((pl.DataFrame({"a": X[held_out, 0], "b": X[held_out, 1] * 10, "c": X[held_out, 2]}),
                      WORDS[held_out])).loss == pytest.approx(each["folds"][number - 1], rel=1e-4)  # fmt: skip
    done = command("evaluate", "folds/fold_2", cwd=tmp_path)
    assert "13 examples held out of d.csv" in done.stdout
    assert f"{each['folds'][1]:.4g}" in done.stdout
    alone = ["train", "net.yaml", "--with", "training.yaml", "--fold", "2", "-o", "alone"]
    assert command(*alone, cwd=tmp_path).code == 0
    states = [weights(regspec.load_run(tmp_path / name)) for name in ("folds/fold_2", "alone")]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert "folds: 3\n  fold: 2\n" in (tmp_path / "alone" / "training.yaml").read_text()


@pytest.mark.parametrize("goal", ["classes", "scaled quantities"])
def test_folds_as_one(goal: str, tmp_path: Path) -> None:
    """Each example is told by the model that did not see it: by scikit-learn, of these answers together and apart."""
    is_price = goal != "classes"
    spec = NET.replace("units: 3}", "units: 1}").replace("name: kind", "name: price") if is_price else NET
    output = "price" if is_price else "kind"
    said: dict[str, Any] = {"metrics": ["r2", "mape"], "scale": "standard"} if is_price else {"metrics": ["f1"]}
    target = PRICE * 50 + 300 if is_price else WORDS
    made: Any = trained(tmp_path, spec, (X, target), "folds", folds=3, outputs={output: said})
    answers, by_fold = np.empty_like(target), []
    splitter = KFold if is_price else StratifiedKFold
    for run, (_, rows) in zip(made.runs, splitter(3, shuffle=True, random_state=0).split(X, target), strict=True):
        answers[rows] = run.predict(X[rows]).values
        by_fold.append((target[rows], answers[rows]))
    made.runs[0].model.train()
    found = made.evaluate()
    assert [run.model.training for run in made.runs] == [True, False, False]
    pooled = found.pooled.outputs[output]
    assert found.pooled.examples == 40
    wanted: dict[str, Callable[..., Any]] = {
        "r2": metrics.r2_score, "mape": metrics.mean_absolute_percentage_error,
        "mae": metrics.mean_absolute_error, "rmse": metrics.root_mean_squared_error,
    } if is_price else {
        "accuracy": metrics.accuracy_score, "f1": partial(metrics.f1_score, average="macro"),
    }  # fmt: skip
    assert pooled.metrics.keys() == wanted.keys()
    for name, function in wanted.items():
        each = [function(*pair) for pair in by_fold]
        assert pooled.metrics[name] == pytest.approx(function(target, answers), rel=1e-4)
        figure = found.figures[output][name]
        assert figure.folds == pytest.approx(each, rel=1e-4)
        assert (figure.mean, figure.deviation) == pytest.approx((np.mean(each), np.std(each, ddof=1)), rel=1e-3)
    if not is_price:
        assert np.array_equal(pooled.confusion, metrics.confusion_matrix(target, answers))
    kept = json.loads((tmp_path / "folds" / "folds.json").read_text())["out_of_fold"]
    assert kept == json.loads(json.dumps(found.as_dict()))


def test_folds_as_one_by_the_command_line(tmp_path: Path) -> None:
    """Of a table that is read again; in the report, too."""
    table(tmp_path)
    done = command("train", "net.yaml", "--data", "d.csv", "--folds", "3", "--epochs", "1", "-o", "folds", cwd=tmp_path)
    assert done.code == 0, done.output
    kept = json.loads((tmp_path / "folds" / "folds.json").read_text())["out_of_fold"]
    done = command("evaluate", "folds", "--format", "json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert (found["folds"], found["pooled"]["examples"]) == (3, 40)
    assert {name: found[name] for name in kept} == kept
    assert np.sum(found["pooled"]["outputs"]["kind"]["confusion"]) == 40
    done = command("evaluate", "folds", cwd=tmp_path)
    figure = kept["figures"]["kind"]["accuracy"]
    values = "  ".join(f"{each:.4f}" for each in figure["folds"])
    assert "folds, 3 folds: 40 examples of d.csv, each told by the model that did not see it\n" in done.stdout
    assert f"kind accuracy: {figure['mean']:.4f} ± {figure['deviation']:.4f}  ({values})\n" in done.stdout
    done = command("evaluate", "folds", "--data", "d.csv", cwd=tmp_path)
    assert (done.code, "regspec evaluate folds/fold_1 --data d.csv" in done.stderr) == (1, True)
    for each in ("activities.json", "weights.safetensors"):  # whose pictures take time
        for number in (1, 2, 3):
            (tmp_path / "folds" / f"fold_{number}" / each).unlink()
    text = page([tmp_path / "folds"])
    right = kept["pooled"]["outputs"]["kind"]["metrics"]["accuracy"]
    assert f"net gets {percent(right)} right of 40 examples, each told by the model that did not see it" in text
    picture = re.search('data-name="confusion".*?</figure>', text, re.DOTALL)
    assert picture
    assert f"{round(right * 40)} of 40 are right" in picture[0]
    row = [percent(each) for each in (right, figure["mean"], figure["deviation"], *figure["folds"])]
    assert f"accuracy</th>{''.join(f'<td>{each}</td>' for each in row)}" in text
    (tmp_path / "folds" / "folds.json").write_text('{"out_of_fold": {"pooled": 3, "figures": {"a": 4}}}')
    with pytest.raises(regspec.RegspecError, match="does not say what came of the folds"):
        page([tmp_path / "folds"])
    shutil.rmtree(tmp_path / "folds" / "fold_3")
    (tmp_path / "folds" / "folds.json").write_text('{"options": {"folds": 3}, "done": 2}')
    with pytest.raises(regspec.RegspecError, match="has done 2 of its 3 folds"):
        regspec.load_folds(tmp_path / "folds")
    assert "net in 2 folds" in page([tmp_path / "folds"])


def test_stopped_folds_go_on(tmp_path: Path) -> None:
    """Those that are done are left, one that is not is gone on with, and the others are begun."""
    table(tmp_path)
    said = ["train", "net.yaml", "--data", "d.csv", "--folds", "3", "--epochs", "2"]
    assert command(*said, "-o", "whole", cwd=tmp_path).code == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    shutil.rmtree(tmp_path / "stopped" / "fold_3")
    facts = json.loads((tmp_path / "stopped" / "fold_2" / "run.json").read_text())
    facts |= {"finished": False}
    (tmp_path / "stopped" / "fold_2" / "run.json").write_text(json.dumps(facts))
    before = (tmp_path / "stopped" / "fold_1" / "run.json").stat().st_mtime_ns
    done = command("train", "--resume", "stopped", cwd=tmp_path)
    assert done.code == 0, done.output
    assert (tmp_path / "stopped" / "fold_1" / "run.json").stat().st_mtime_ns == before
    kept = [json.loads((tmp_path / name / "folds.json").read_text())["figures"] for name in ("whole", "stopped")]
    assert kept[0] == kept[1]
    done = command("train", "--resume", "stopped", cwd=tmp_path)
    assert (done.code, "has done its 3 folds" in done.stderr) == (1, True)
    assert command("train", "--resume", "stopped", "--epochs", "3", cwd=tmp_path).code == 0
    assert regspec.load_run(tmp_path / "stopped" / "fold_3").history["epoch"] == [1, 2, 3]


def test_an_interrupt_says_how_all_folds_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise SystemExit(130)

    table(tmp_path)
    monkeypatch.setattr("regspec.training.loop.run.train", interrupted)
    done = command("train", "net.yaml", "--data", "d.csv", "--folds", "3", "-o", "my folds", cwd=tmp_path)
    assert done.code == 130
    assert "regspec train --resume 'my folds' goes on with all folds" in done.stdout


FAULTS: dict[str, tuple[Callable[[], Any], dict[str, Any], list[str]]] = {
    "a held-out set": (
        lambda: (X, KINDS), {"folds": 3, "validation": "other.npz"}, ["--validation holds out 'other.npz'"],
    ),
    "a held-out part": (lambda: (X, KINDS, X, KINDS), {"folds": 3}, ["'data' has a part that is held out already"]),
    "a stream": (
        lambda: (lambda: iter([(X, KINDS)]), (lambda: iter([(X, KINDS)]))), {"folds": 3},
        ["'data' gives batch after batch, which can't be divided into folds", "a torch Dataset"],
    ),
    "too few": (lambda: (X[:3], PRICE[:3, None]), {"folds": 4}, ["'data' has 3 examples, too few for 4 folds"]),
    "too few groups": (
        lambda: pl.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "g": ROWS % 2, "y": KINDS}),
        {"folds": 3, "columns": {"g": "group"}}, ["'data' has 2 groups, too few for 3 folds"],
    ),
    "one group": (
        lambda: pl.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "g": ROWS * 0, "y": KINDS}),
        {"columns": {"g": "group"}}, ["'data' has 1 group, too few to hold some out"],
    ),
    "a gap in groups": (
        lambda: pl.DataFrame({"a": X[:, 0], "g": [None, *ROWS[1:]], "b": X[:, 1], "c": X[:, 2], "y": KINDS}),
        {"columns": {"g": "group"}}, ["column 'g' has no value in row 1"],
    ),
    "one": (lambda: (X, KINDS), {"folds": 1}, ["folds", "2"]),
    "a fold of none": (lambda: (X, KINDS), {"fold": 1}, ["fold 1 is one of --folds, which are not given"]),
    "another": (lambda: (X, KINDS), {"folds": 3, "fold": 4}, ["there is no fold 4 of 3"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves nothing."""
    monkeypatch.chdir(tmp_path)
    np.savez("other.npz", x=X, y=KINDS)
    make, more, words = FAULTS[fault]
    net = NET if fault != "too few" else NET.replace("units: 3", "units: 1")
    with pytest.raises(regspec.RegspecError) as raised:
        trained(tmp_path, net, make(), "run", **more)
    for each in words:
        assert each in str(raised.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("is_in_file", [True, False])
def test_a_search_over_folds(is_in_file: bool, tmp_path: Path) -> None:
    """The score of a trial is the mean over its folds, and the best one keeps the runs of all of them."""
    table(tmp_path)
    choices = [2, 3] if is_in_file else [4]
    search = f"{{width: {{default: {choices[0]}, search: {{choices: {choices}}}}}}}"
    (tmp_path / "net.yaml").write_text(NET.replace("{width: 5}", search))
    folds = ", folds: 3" if is_in_file else ""
    (tmp_path / "training.yaml").write_text(f"regspec: 1\ntraining: {{epochs: 1}}\ndata: {{train: d.csv{folds}}}\n")
    said = ["--with", "training.yaml", *([] if is_in_file else ["--folds", "2"])]
    how = ["--sampler", "grid", "--trials", "2", "--metric", "held_out_loss", "-o", "study"]
    done = command("tune", "net.yaml", *said, *how, cwd=tmp_path)
    assert done.code == 0, done.output
    count = 3 if is_in_file else 2
    assert f"the score is held-out loss, the mean over {count} folds" in done.stdout
    rows = pl.read_csv(tmp_path / "study" / "trials.csv")
    scores = {}
    for width in choices:
        spec = regspec.load(NET, parameters={"width": width})
        made = regspec.train(spec, str(tmp_path / "d.csv"), folds=count, epochs=1, quiet=True,
                             folder=tmp_path / f"w{width}")  # fmt: skip
        scores[width] = made.figures["held_out_loss"].mean
        told = f"held-out loss {scores[width]:.4f} ± {made.figures['held_out_loss'].deviation:.4f}"
        assert told in done.stdout
    assert dict(zip(rows["width"], rows["score"], strict=True)) == pytest.approx(scores)
    best = regspec.load_folds(tmp_path / "study" / "best")
    assert [len(best.runs), best.figures["held_out_loss"].mean] == [count, pytest.approx(min(scores.values()))]
    found = command("evaluate", "study/best", cwd=tmp_path)
    assert f"study/best, {count} folds: 40 examples of d.csv" in found.stdout, found.output
    done = command("tune", "net.yaml", *said[:2], "--fold", "1", *how, cwd=tmp_path)
    assert (done.code, "--fold" in done.stderr) == (2, True)
