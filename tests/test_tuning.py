"""Searching parameters: what a search finds, and studies that are stopped, shared and continued."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import typer
from rich.console import Console

import regspec
from regspec.cli.application import app, parameters
from regspec.specs.rewriting import with_defaults, with_name
from regspec.specs.searches import Choices, Range
from regspec.text import document
from regspec.text.problems import Problem, RegspecError
from regspec.training.loop.epochs import DivergedError
from regspec.training.loop.run import train
from regspec.training.options.options import Options
from regspec.training.tuning import search as searching
from regspec.training.tuning import study as studies
from regspec.training.tuning.figure import draw
from regspec.training.tuning.plan import Plan
from regspec.training.tuning.scores import Scores, Trial
from regspec.training.tuning.search import Tuned, tune
from regspec.training.tuning.spaces import grid
from regspec.training.tuning.study import database

from .commands import ROOT, command, started

SPEC = """# how much
regspec: 1
name: net
parameters:
  strength: {default: 1e-4, search: {low: 1e-5, high: 1e-1, log: true}}  # λ
inputs: {x: {shape: [13]}}
layers:
  - Dense: {name: scores, units: 3, kernel_regularizer: {l2: $strength}}
"""
STRENGTHS = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]


def accuracy(strength: float) -> float:
    """A score whose best strength is known: 0.01."""
    return float(0.9 - 0.01 * (np.log10(strength) + 2) ** 2)


def trainer(score: Callable[..., float] = accuracy, epochs: int = 1) -> Any:
    """Stands in for the training, and keeps the values that it was given."""
    tried: list[Mapping[str, Any]] = []

    def train(*_: Any, parameters: Mapping[str, Any], on_epoch: Any, **__: Any) -> Any:
        tried.append(dict(parameters))
        value = score(**parameters)
        for epoch in range(1, epochs + 1):
            metrics = {"data_loss": 1.0, "held_out_loss": 1.0 - value, "held_out_accuracy": value}
            on_epoch(epoch, metrics)
        return SimpleNamespace(metrics=metrics)

    return SimpleNamespace(train=train, tried=tried)


class Searching:
    """Searches in a folder, and what they print."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.console = Console(file=io.StringIO(), width=200)

    def __call__(self, train: Any = None, text: str = SPEC, data: str = "wine", seed: int = 0, **plan: Any) -> Tuned:
        path = self.folder / "net.yaml"
        path.write_text(text, encoding="utf-8")
        plan = {"trials": 5, "sampler": "grid", **plan}
        stand_in = {} if train is None else {"train": train.train}
        return tune(path, Options(data=data, seed=seed), Plan(**plan), self.study, console=self.console, **stand_in)

    @property
    def study(self) -> Path:
        return self.folder / "study"

    @property
    def printed(self) -> str:
        return str(self.console.file.getvalue())  # type: ignore[attr-defined]  # a StringIO

    @property
    def rows(self) -> list[dict[str, str]]:
        return list(csv.DictReader((self.study / "trials.csv").read_text(encoding="utf-8").splitlines()))


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Searching:
    monkeypatch.setattr(searching, "png_and_svg", lambda *_: (b"", b""))  # which takes most of the time
    return Searching(tmp_path)


def log(low: float, high: float) -> Range:
    return Range(low=low, high=high, log=True)


@pytest.mark.parametrize(
    ("searches", "trials", "expected"),
    [
        ({"a": log(1e-4, 1e-2)}, 3, [(1e-4,), (1e-3,), (1e-2,)]),
        ({"a": Range(low=0.0, high=1.0)}, 5, [(0.0,), (0.25,), (0.5,), (0.75,), (1.0,)]),
        ({"a": Range(low=1, high=4)}, 30, [(1,), (2,), (3,), (4,)]),
        ({"a": Range(low=32, high=130, step=32)}, 30, [(32,), (64,), (96,), (128,)]),
        ({"a": Range(low=0.0, high=0.3, step=0.1)}, 30, [(0.0,), (0.1,), (0.2,), (0.3,)]),
        ({"a": Range(low=1, high=64, log=True)}, 7, [(1,), (2,), (4,), (8,), (16,), (32,), (64,)]),
        ({"a": Choices(choices=("x", None))}, 1, [("x",), (None,)]),
        ({"a": log(1e-2, 1.0), "b": Choices(choices=(3, 4))}, 7, [(i, j) for i in (0.01, 0.1, 1.0) for j in (3, 4)]),
        (
            {"a": Range(low=0.0, high=2.0), "b": Range(low=1, high=2)},
            6,
            [(i, j) for i in (0.0, 1.0, 2.0) for j in (1, 2)],
        ),
    ],
)
def test_grid(searches: dict[str, Any], trials: int, expected: list[tuple[Any, ...]]) -> None:
    made = [tuple(each.values()) for each in grid(searches, trials)]
    assert made == expected
    assert [tuple(map(type, each)) for each in made] == [tuple(map(type, each)) for each in expected]


def test_a_grid_has_about_as_many_as_are_asked_for() -> None:
    assert len(grid({name: log(1e-6, 1e-1) for name in "abc"}, 64)) == 64


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_finds_the_best_of_what_is_tried(search: Searching, sampler: str) -> None:
    stand_in = trainer()
    found = search(stand_in, sampler=sampler, trials=9)
    tried = [each["strength"] for each in stand_in.tried]
    assert len(set(tried)) == 9
    assert all(1e-5 <= each <= 1e-1 for each in tried)
    best = min(tried, key=lambda each: abs(np.log10(each) + 2))
    assert found == Tuned(search.study, {"strength": best}, accuracy(best))
    assert [float(row["strength"]) for row in search.rows] == tried
    assert (sampler == "grid") or tried[0] == 1e-4  # the spec's default comes first
    text = (search.study / "best.yaml").read_text(encoding="utf-8")
    assert text == SPEC.replace("1e-4", repr(best))
    assert regspec.load(search.study / "best.yaml").parameters == {"strength": best}
    assert f"L2({best!r})" in regspec.source(search.study / "best.yaml")


def test_several_parameters(search: Searching) -> None:
    text = SPEC.replace("inputs:", "  width: {default: 3, search: {choices: [3, 5]}}\ninputs:")
    text = text.replace("  - Dense", "  - Dense: {units: $width}\n  - Dense")
    stand_in = trainer(lambda strength, width: accuracy(strength) - 0.1 * (width == 3))
    found = search(stand_in, text, trials=10)
    assert sorted((each["strength"], each["width"]) for each in stand_in.tried) == [
        (strength, width) for strength in STRENGTHS for width in (3, 5)
    ]
    assert found.values == {"strength": 1e-2, "width": 5}


def test_files_of_blocks_come_with_the_best_spec(search: Searching) -> None:
    """And the parameter of a block's file is not searched: it is given where the block is used."""
    (search.folder / "parts").mkdir()
    (search.folder / "parts" / "tower.yaml").write_text(
        "regspec: 1\nparameters: {strength: {default: 1e-3, search: {low: 0.0, high: 1.0}}}\n"
        "inputs: {x: {shape: [13]}}\nlayers: [{Dense: {units: 4, kernel_regularizer: {l2: $strength}}}]\n"
    )
    used = "blocks: {tower: {file: parts/tower.yaml}}\nlayers:\n  - tower: {strength: $strength}\n"
    search(trainer(), SPEC.replace("layers:\n", used))
    assert regspec.source(search.study / "best.yaml").count("L2(0.01)") == 2


def test_among_equal_scores_the_least_loss_is_best(search: Searching) -> None:
    def train(*_: Any, parameters: Mapping[str, Any], on_epoch: Any, **__: Any) -> Any:
        metrics = {"held_out_accuracy": 0.5, "held_out_loss": abs(np.log10(parameters["strength"]) + 3)}
        on_epoch(1, metrics)
        return SimpleNamespace(metrics=metrics)

    assert search(SimpleNamespace(train=train)).values == {"strength": 1e-3}


def test_ridge_regression_has_the_scores_of_the_closed_form(search: Searching, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean square error plus an L2 penalty goes from w₀ to w = (X'X/n + λ)⁻¹ X'y/n; of X'X/n = 1 the best epoch counts.

    A step of size η leaves the part 1 - 2η(1 + λ) of the way.
    """
    rng = np.random.default_rng(5)
    x, weights = np.linalg.qr(rng.standard_normal((24, 8)))[0] * np.sqrt(24), rng.standard_normal(8)
    y = x @ weights + 3 * rng.standard_normal(24)
    other = rng.standard_normal((500, 8))
    np.savez(search.folder / "four.npz", x=x, y=y[:, None], other=other, goal=(other @ weights)[:, None])
    (search.folder / "ridge_data.py").write_text(
        "import numpy\nfrom pathlib import Path\n"
        "def four():\n    file = numpy.load(Path(__file__).with_name('four.npz'))\n"
        "    return file['x'], file['y'], file['other'], file['goal']\n"
    )
    monkeypatch.syspath_prepend(str(search.folder))
    text = """
regspec: 1
parameters: {strength: {default: 0.1, search: {low: 0.01, high: 1.0, log: true}}}
inputs: {x: {shape: [8]}}
layers: [{Dense: {units: 1, use_bias: false, kernel_regularizer: {l2: $strength}}}]
"""
    path = search.folder / "ridge.yaml"
    path.write_text(text)
    options = Options(data="ridge_data:four", epochs=15, batch_size=24, optimizer="sgd", lr=0.25)
    found = tune(path, options, Plan(trials=5, sampler="grid"), search.study, console=search.console)

    def error(strength: float) -> float:
        fitted = np.linalg.solve(x.T @ x / 24 + strength * np.eye(8), x.T @ y / 24)
        left = (1 - 2 * 0.25 * (1 + strength)) ** np.arange(1, 16)[:, None]
        epochs = fitted + left * (begun - fitted)
        return float(np.square((epochs - weights) @ other.T).mean(1).min())

    begun = regspec.build(path, seed=0).dense.weight[0].detach().numpy()
    expected = {strength: error(strength) for strength in np.geomspace(0.01, 1.0, 5)}
    best = min(expected, key=expected.__getitem__)
    assert 0.02 < best < 0.9  # in the midst: both ends are worse
    np.testing.assert_allclose([float(row["score"]) for row in search.rows], [*expected.values()], rtol=1e-3)
    assert 1 < float(search.rows[0]["epoch"]) < 15  # of weak penalties an epoch before the last
    assert found.values["strength"] == pytest.approx(best, rel=1e-3)
    assert found.score == pytest.approx(expected[best], rel=1e-3)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit(130)])
def test_stopped_it_goes_on(search: Searching, stop: Any) -> None:
    first, second = trainer(), trainer()

    def stopping(strength: float) -> float:
        if len(first.tried) == 3:
            raise stop
        return accuracy(strength)

    first = trainer(stopping)
    with pytest.raises(SystemExit) as caught:
        search(first)
    assert caught.value.code == 130
    assert f"stopped after 2 of 5 trials; the same command with --output {search.study} goes on" in search.printed
    assert len(search.rows) == 2
    assert search(second).values == {"strength": 1e-2}
    assert "2 trials are done already" in search.printed
    assert sorted(each["strength"] for each in first.tried[:2] + second.tried) == STRENGTHS
    assert [row["trial"] for row in search.rows] == ["1", "2", "3", "4", "5"]
    third = trainer()
    assert search(third).values == {"strength": 1e-2}
    assert third.tried == []


def test_more_trials_go_on(search: Searching) -> None:
    first, second = trainer(), trainer()
    search(first, sampler="random", trials=3)
    search(second, sampler="random", trials=5)
    assert len(second.tried) == 2
    assert len({each["strength"] for each in first.tried + second.tried}) == 5


def tried_in(folder: Path, *, kills: bool = False, trials: int = 5) -> None:
    """A search in a process of its own, which prints what it tried."""

    def score(strength: float) -> float:
        if kills and strength == 1e-4:
            os.kill(os.getpid(), signal.SIGKILL)
        return accuracy(strength)

    stand_in = trainer(score)
    Searching(folder)(stand_in, trials=trials)
    print(*[each["strength"] for each in stand_in.tried])


def test_killed_it_goes_on(search: Searching) -> None:
    """The trial that ran is run again, under its number."""
    with started(partial(tried_in, kills=True), search.folder) as killed:
        assert killed.ended().code == -signal.SIGKILL
    stand_in = trainer()
    assert search(stand_in).values == {"strength": 1e-2}
    assert sorted(each["strength"] for each in stand_in.tried) == STRENGTHS[1:]
    assert [int(row["trial"]) for row in search.rows] == [1, 2, 3, 4, 5]
    assert [float(row["strength"]) for row in search.rows].count(1e-4) == 1
    assert not list(search.study.glob(".process-*"))


def test_processes_share_a_study(search: Searching) -> None:
    searching = partial(tried_in, trials=12)
    with started(searching, search.folder) as first, started(searching, search.folder) as second:
        done = [each.ended() for each in (first, second)]
    assert [each.code for each in done] == [0, 0], done
    tried = [float(each) for one in done for each in one.stdout.split()]
    np.testing.assert_allclose(sorted(tried), np.geomspace(1e-5, 1e-1, 12), rtol=1e-3)
    assert sorted(int(row["trial"]) for row in search.rows) == [*range(1, len(search.rows) + 1)]


def test_no_process_takes_the_trial_of_one_that_lives(tmp_path: Path) -> None:
    queue = [{"a": value} for value in (0.1, 0.2, 0.3)]

    def opened() -> Any:
        return studies.opened(tmp_path / "study", {"seed": 0}, direction="minimize", queue=queue)

    with opened() as second:
        with opened() as first:
            mine = first.next(3)
            yours = second.next(3)
            assert [mine.suggest_float("a", 0, 1), yours.suggest_float("a", 0, 1)] == [0.1, 0.2]
            second.trials.tell(yours, 1.0)
            last = second.next(3)
            assert last.suggest_float("a", 0, 1) == 0.3
            assert second.next(3) is None
        again = second.next(3)  # which the first has left behind
        assert again.suggest_float("a", 0, 1) == 0.1
        assert again.user_attrs["number"] == 1
        assert second.next(3) is None


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that has had all its trials."""
    search = Searching(tmp_path_factory.mktemp("done"))
    search(trainer())
    return search.study


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "holds a study with seed 0, and not 1"),
        ({"sampler": "tpe"}, "sampler grid, and not tpe"),
        ({"metric": "held_out_loss"}, "metric held_out_accuracy, and not held_out_loss"),
        ({"trials": 6}, "trials 5, and not 6"),
        ({"pruner": "median"}, "pruner none, and not median"),
        ({"text": SPEC.replace("l2", "l1")}, "holds a study with another spec\n"),
        ({"text": SPEC.replace("1e-1", "1.0")}, "holds a study with another search"),
    ],
)
def test_another_search_is_no_continuation(done: Path, search: Searching, change: dict[str, Any], message: str) -> None:
    shutil.copytree(done, search.study)
    with pytest.raises(RegspecError, match=message):
        search(trainer(), **change)


def test_another_default_or_comment_is_no_other_spec(search: Searching) -> None:
    search(trainer())
    stand_in = trainer()
    search(stand_in, SPEC.replace("1e-4", "1e-2").replace("how much", "what else"))
    assert stand_in.tried == []


def test_a_trial_that_diverges_is_no_end(search: Searching) -> None:
    def score(strength: float) -> float:
        if strength == 1e-3:
            raise DivergedError(Problem("the loss is not finite in epoch 1"))
        return float("nan") if strength == 1e-2 else accuracy(strength)

    assert search(trainer(score)).values == {"strength": 1e-1}
    assert [row["state"] for row in search.rows] == ["complete", "complete", "diverged", "diverged", "complete"]
    assert "strength 0.001  failed: the loss is not finite in epoch 1" in search.printed
    assert "strength 0.01  failed: the held-out accuracy is not finite in epoch 1" in search.printed
    stand_in = trainer()
    search(stand_in)
    assert stand_in.tried == []


def test_where_all_diverge_there_is_no_best(search: Searching) -> None:
    with pytest.raises(RegspecError, match="none of 5 trials has a score"):
        search(trainer(lambda strength: float("inf")))
    assert not (search.study / "best.yaml").exists()
    assert len(search.rows) == 5


def test_a_training_that_diverges_indeed(search: Searching) -> None:
    """The real one: a step of the optimizer that grows without bound."""
    path = search.folder / "net.yaml"
    path.write_text(SPEC.replace("high: 1e-1", "high: 1e30"))
    options = Options(data="wine", optimizer="sgd", lr=1e-6, epochs=2)
    found = tune(path, options, Plan(trials=2, sampler="grid"), search.study, console=search.console)
    assert found.values == {"strength": 1e-5}
    assert [row["state"] for row in search.rows] == ["complete", "diverged"]


def test_options_that_do_not_fit_begin_no_study(search: Searching) -> None:
    (search.folder / "net.yaml").write_text(SPEC)
    options = Options(data="wine", route=("l2=proximal",))
    with pytest.raises(RegspecError, match="can't be on the proximal route"):
        tune(search.folder / "net.yaml", options, Plan(5, "grid"), search.study, console=search.console)
    assert not search.study.exists()


def test_a_fault_ends_the_search_and_keeps_the_trial(search: Searching) -> None:
    def score(strength: float) -> float:
        if strength == 1e-3:
            raise RegspecError(Problem("the data is gone"))
        return accuracy(strength)

    with pytest.raises(RegspecError, match=r"error: with strength 0\.001: the data is gone"):
        search(trainer(score))
    stand_in = trainer()
    search(stand_in)
    assert sorted(each["strength"] for each in stand_in.tried) == STRENGTHS[2:]


def test_no_trial_is_pruned_at_its_end(search: Searching) -> None:
    """There it has its score, and pruning would save nothing."""

    def train(*_: Any, parameters: Mapping[str, Any], on_epoch: Any, **__: Any) -> Any:
        for value in (*[0.5] * 29, 0.5 - 0.01 * np.log10(parameters["strength"])):
            metrics = {"data_loss": 1.0, "held_out_loss": 1.0, "held_out_accuracy": value}
            on_epoch(next(epochs), metrics)
        return SimpleNamespace(metrics=metrics)

    epochs = itertools.cycle(range(1, 31))
    search(SimpleNamespace(train=train), trials=9, pruner="median")
    assert {row["state"] for row in search.rows} == {"complete"}


def test_median_pruner(search: Searching) -> None:
    """Trials that are worse than the median of those before end early, and are never the best."""
    stand_in = trainer(lambda strength: 0.5 - 0.01 * np.log10(strength), epochs=8)
    found = search(stand_in, trials=9, pruner="median")
    # the first five are those that others are compared with, after a quarter of 30 epochs
    assert [row["state"] for row in search.rows] == ["complete"] * 5 + ["pruned"] * 4
    assert "pruned after 7 epochs, at 0.5" in search.printed
    assert found.values == {"strength": 1e-5}


def test_after_the_timeout_no_trial_begins(search: Searching) -> None:
    with pytest.raises(RegspecError, match="no trial has been done"):
        search(trainer(), timeout=0)
    search(trainer())
    stand_in = trainer()
    assert search(stand_in, timeout=0).values == {"strength": 1e-2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": SPEC.replace("{default: 1e-4, search: {low: 1e-5, high: 1e-1, log: true}}", "3")}, "no parameter to"),
        ({"data": "diabetes", "text": SPEC.replace("13", "10").replace("units: 3", "units: 1"),
          "metric": "held_out_accuracy"}, "is a quantity, and has no accuracy"),
        ({"data": "wines"}, "did you mean 'wine'"),
        ({"text": SPEC.replace("l2", "l3")}, "l3"),
        ({"text": SPEC.replace("low: 1e-5", "low: 1e-5, stpe: 3")}, "did you mean 'step'"),
        ({"text": SPEC.replace("{low: 1e-5, high: 1e-1, log: true}", "{choices: [1e-4, few]}")},
         "with strength few, which may be tried: 'l2' of 'l2' must be a number|with strength few"),
        ({"text": SPEC.replace("default: 1e-4", "default: &s 1e-4").replace("$strength", "*s")}, "without an anchor"),
    ],
)  # fmt: skip
def test_faults_before_the_first_trial(search: Searching, change: dict[str, Any], message: str) -> None:
    stand_in = trainer()
    with pytest.raises(RegspecError, match=message):
        search(stand_in, **change)
    assert stand_in.tried == []
    assert not search.study.exists()


def test_a_folder_of_something_else(search: Searching) -> None:
    search.study.mkdir()
    (search.study / "notes.txt").write_text("mine")
    with pytest.raises(RegspecError, match="is a folder without a study"):
        search(trainer())
    assert [each.name for each in search.study.iterdir() if each.name != ".lock"] == ["notes.txt"]


# Optuna leaves the connection to a file open that proves to be no database; its collection warns.
@pytest.mark.filterwarnings(r"ignore:Exception ignored.*<sqlite3\.Connection:pytest.PytestUnraisableExceptionWarning")
def test_a_file_that_is_no_database(search: Searching) -> None:
    search.study.mkdir()
    (search.study / "study.db").write_text("no database")
    with pytest.raises(RegspecError, match=r"study\.db: error: can't be used: file is not a database"):
        search(trainer())
    assert [each.name for each in search.study.iterdir() if each.name != ".lock"] == ["study.db"]


def test_a_study_of_another_program(search: Searching) -> None:
    search.study.mkdir()
    with database(search.study / "study.db") as storage:
        optuna.create_study(study_name="another", storage=storage)
    with pytest.raises(RegspecError, match="holds no study of regspec's"):
        search(trainer())


def test_a_quantity_is_scored_by_its_loss(search: Searching) -> None:
    text = SPEC.replace("13", "10").replace("units: 3", "units: 1")
    found = search(trainer(), text, data="diabetes")
    assert found.score == pytest.approx(1 - accuracy(1e-2))
    assert found.values == {"strength": 1e-2}


BLOCK = "regspec: 1\r\nparameters:\r\n  strength:\r\n    default: 1e-4 # λ\r\n    search: {low: 0.0, high: 1.0}\r\n"


@pytest.mark.parametrize(
    ("text", "values", "old", "new"),
    [
        (SPEC, {"strength": 0.025}, "1e-4", "0.025"),
        (BLOCK, {"strength": 3e-4}, "1e-4", "0.0003"),
        ("parameters: {a: 3, b: [1, 2] , c: x} # end", {"a": 4, "b": [5], "c": "$"}, "3, b: [1, 2] , c: x",
         '4, b: [5] , c: "$"'),
        ("parameters:\n  a:\n    l2: 1  # one\n\n  # two\n  b: 1", {"a": {"l1": 2}}, "l2: 1", '{"l1": 2}'),
        ("parameters: {a: word, b: 'no', c: 1}", {"a": "null", "b": "other", "c": None}, "word, b: 'no', c: 1",
         '"null", b: other, c: null'),
        ("parameters:\n  a:\n  b: é", {"a": 1, "b": "ä"}, "a:\n  b: é", 'a: 1\n  b: "ä"'),
        ("parameters: {a: &one 1, b: 2}", {"a": 3}, "1,", "3,"),
    ],
)  # fmt: skip
def test_other_defaults_leave_all_else(text: str, values: dict[str, Any], old: str, new: str) -> None:
    made = with_defaults(document.parse(text), values)
    assert made == text.replace(old, new, 1)
    parameters = document.parse(made).data["parameters"]
    assert {name: parameters[name] for name in values if "search" not in str(parameters[name])} == {
        name: value for name, value in values.items() if "search" not in str(parameters[name])
    }


@pytest.mark.parametrize("text", ["parameters: {a: &x 1, b: *x}", "parameters: {b: &x 1, a: *x}"])
def test_a_default_that_another_value_shares_is_not_changed(text: str) -> None:
    with pytest.raises(RegspecError, match="can't be written anew"):
        with_defaults(document.parse(text), {"a": 2})


def test_values_in_place_of_defaults() -> None:
    spec = regspec.loads(SPEC, parameters={"strength": 0.5})
    assert spec.parameters == {"strength": 0.5}
    assert spec.search == {"strength": Range(low=1e-5, high=1e-1, log=True)}
    assert "L2(0.5)" in regspec.source(spec)
    assert regspec.loads(SPEC).parameters == {"strength": 1e-4}
    with pytest.raises(RegspecError, match="the spec has no parameter 'strenght'\n   = did you mean 'strength'"):
        regspec.loads(SPEC, parameters={"strenght": 1})
    with pytest.raises(RegspecError, match="'l2' must be a number, but is 'strong'"):
        regspec.loads(SPEC, parameters={"strength": "strong"})


@pytest.mark.parametrize(
    ("arguments", "code", "printed"),
    [
        (["compile", "net.yaml", "--set", "strength=0.5"], 0, "L2(0.5)"),
        (["show", "net.yaml", "--set", "strength=0.5"], 0, "kernel l2 0.5"),
        (["show", "net.yaml", "--set", "strenght=0.5"], 1, "did you mean 'strength'"),
        (["compile", "net.yaml", "--set", "strength"], 2, "is not NAME=VALUE"),
    ],
)
def test_set(tmp_path: Path, arguments: list[str], code: int, printed: str) -> None:
    (tmp_path / "net.yaml").write_text(SPEC, encoding="utf-8")
    result = command(*arguments, cwd=tmp_path)
    assert result.code == code, result.output
    assert printed in result.output


def test_set_takes_yaml() -> None:
    assert parameters(["a=1e-3", "b=[1, x]", "c=no", "d=null", "e=a=b"]) == {
        "a": 1e-3, "b": [1, "x"], "c": "no", "d": None, "e": "a=b",
    }  # fmt: skip
    with pytest.raises(RegspecError, match="--set a:1:1: error: tags"):
        parameters(["a=!!int 3"])


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(SPEC, encoding="utf-8")
    arguments = ["tune", "net.yaml", "--data", "wine", "--epochs", "1", "--trials", "2", "--sampler", "grid"]
    result = command(*arguments, cwd=tmp_path)
    assert result.code == 0, result.output
    assert "trial 1/2  strength 1e-05  held-out accuracy 0." in result.stdout
    folder = tmp_path / "runs" / "net_search"
    assert {each.name for each in folder.iterdir() if each.name != ".lock"} == {
        "best", "best.yaml", "scores.png", "scores.svg", "spec.yaml", "study.db", "trials.csv",
    }  # fmt: skip
    assert (folder / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_folds_are_pruned_by_their_mean_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fold, by the median of what others had come to after as many; after the last one there is the score."""
    seen: list[int] = []

    def folded(spec: Any, options: Options, place: Path, *, parameters: Any, on_fold: Any, **_: Any) -> Any:
        scores = [accuracy(parameters["strength"]) + each for each in (0.02, -0.02, 0.0, 0.0)]
        runs = [SimpleNamespace(metrics={"held_out_accuracy": each, "held_out_loss": 1 - each}) for each in scores]
        for count in range(1, 5):
            seen.append(count)
            on_fold(runs[:count])
        return SimpleNamespace(figures={"held_out_accuracy": SimpleNamespace(deviation=np.std(scores, ddof=1))})

    monkeypatch.setattr(searching, "png_and_svg", lambda *_: (b"", b""))
    monkeypatch.setattr(searching.folding, "train", folded)
    choices = "choices: [1e-2, 1e-3, 1e-1, 1e-4, 1e0, 1e1, 1e2]"
    (tmp_path / "net.yaml").write_text(SPEC.replace("low: 1e-5, high: 1e-1, log: true", choices))
    console = Console(file=io.StringIO(), width=200)
    plan = Plan(trials=7, sampler="grid", pruner="median")
    found = tune(tmp_path / "net.yaml", Options(data="wine", folds=4), plan, tmp_path / "study", console=console)
    assert (found.values, found.score) == ({"strength": 1e-2}, pytest.approx(0.9))
    assert seen == [1, 2, 3, 4] * 5 + [1] * 2  # the first five are those that others are compared with
    printed = str(console.file.getvalue())  # type: ignore[attr-defined]  # a StringIO
    assert f"pruned after 1 fold, at {accuracy(1e1) + 0.02:.4f}" in printed
    assert "held-out accuracy 0.9000 ± 0.0163  best so far" in printed


# -- options -----------------------------------------------------------------------------------------------------------


def test_options_are_searched_with_parameters(search: Searching) -> None:
    """Every combination is tried, and the best is that with the best score, which is known."""
    tried: list[tuple[Any, ...]] = []

    def train(spec: Any, options: Options, *_: Any, parameters: Mapping[str, Any], on_epoch: Any, **__: Any) -> Any:
        given = parameters["strength"], options.lr, options.optimizer, options.batch_size
        tried.append(given)
        value = accuracy(given[0]) - abs(given[1] - 0.1) - 0.1 * (given[2] == "adam") - given[3] / 1000
        metrics = {"data_loss": 1.0, "held_out_loss": 1.0 - value, "held_out_accuracy": value}
        on_epoch(1, metrics)
        return SimpleNamespace(metrics=metrics)

    said = (
        "lr={choices: [1, 0.1]}",
        "optimizer={choices: [adam, {sgd: {momentum: 0.9}}]}",
        "batch-size={low: 16, high: 17}",
    )
    found = search(SimpleNamespace(train=train), search=said, trials=40)
    values = ([1e-5, 1e-4, 1e-3, 1e-2, 1e-1], [1.0, 0.1], ["adam", "sgd momentum=0.9"], [16, 17])
    assert {*tried} == {*itertools.product(*values)}
    best = {"strength": 1e-2, "lr": 0.1, "optimizer": {"sgd": {"momentum": 0.9}}, "batch_size": 16}
    assert found.values == best
    assert [*search.rows[0]][:6] == ["trial", "state", "strength", "lr", "optimizer", "batch_size"]


def test_a_spec_without_searches_may_have_options_that_are_searched(search: Searching) -> None:
    """The first trial of all is with the option's own value where that may be tried."""
    text = SPEC.replace("{default: 1e-4, search: {low: 1e-5, high: 1e-1, log: true}}", "1e-4")
    tried: list[float] = []

    def train(spec: Any, options: Options, *_: Any, on_epoch: Any, **__: Any) -> Any:
        tried.append(options.lr)
        metrics = {"data_loss": 1.0, "held_out_loss": 1.0, "held_out_accuracy": 0.5}
        on_epoch(1, metrics)
        return SimpleNamespace(metrics=metrics)

    search(SimpleNamespace(train=train), text, search=("lr={low: 1e-4, high: 1, log: true}",), trials=3, sampler="tpe")
    assert tried[0] == Options().lr
    assert all(1e-4 <= each <= 1 for each in tried)
    assert len({*tried}) == 3


def test_the_best_run_is_kept_whole(tmp_path: Path) -> None:
    """With the options and values of its trial; what it says of its data holds where it lies, and trains it again."""
    (tmp_path / "net.yaml").write_text(SPEC, encoding="utf-8")
    rows = np.random.default_rng(0).standard_normal((60, 13))
    lines = "".join(f"{','.join(map(str, row))},{'yes' if row[0] > 0 else 'no'}\n" for row in rows)
    (tmp_path / "data.csv").write_text(",".join("abcdefghijklm") + ",y\n" + lines)
    (tmp_path / "net.yaml").write_text(SPEC.replace("units: 3", "units: 2"), encoding="utf-8")
    arguments = ["tune", "net.yaml", "--data", "data.csv", "--epochs", "2", "--trials", "6", "--sampler", "random"]
    searched = ["--search", "lr={low: 1e-3, high: 1, log: true}", "--search", "optimizer={choices: [adam, sgd]}"]
    result = command(*arguments, *searched, "-o", "study", cwd=tmp_path)
    assert result.code == 0, result.output
    scores = list(csv.DictReader((tmp_path / "study" / "trials.csv").read_text().splitlines()))
    found = re.search(r"best: .*\(trial (\d)\)", result.stdout)
    assert found is not None
    best = scores[int(found[1]) - 1]
    run = regspec.load_run(tmp_path / "study" / "best")
    options = json.loads((run.folder / "run.json").read_text())["options"]
    assert (options["lr"], options["optimizer"]) == (pytest.approx(float(best["lr"])), best["optimizer"])
    strength = regspec.load(run.folder / "spec.yaml").parameters["strength"]
    assert strength == pytest.approx(float(best["strength"]))
    assert run.metrics["held_out_accuracy"] == pytest.approx(float(best["score"]))
    again = command("train", "spec.yaml", "--with", "training.yaml", "-o", "../again", cwd=tmp_path / "study" / "best")
    assert again.code == 0, again.output
    assert regspec.load_run(tmp_path / "study" / "again").metrics["held_out_loss"] == run.metrics["held_out_loss"]
    assert [each.name for each in (tmp_path / "study").glob(".trial*")] == []


OF_OPTIONS = [
    ("lr", "'lr' says of no option where it may lie"),
    ("epochs={low: 1, high: 3}", "'epochs' is no option that is searched"),
    ("batchsize={low: 1, high: 3}", "did you mean 'batch_size'"),
    ("lr={low: 1}", "needs 'high'"),
    ("lr={low: 2, high: 1}", "must have a 'low' less than its 'high'"),
    ("lr=3", "must be {low: …, high: …} or {choices: […]}"),
    ("lr={low: -1, high: 1}", "lr must be at least 0"),
    ("ema={low: 0.5, high: 2}", "with ema 2.0, which may be tried: ema must be 0 to 1, and not 2"),
    ("batch_size={low: 16.5, high: 64}", "batch_size must be a whole number, and not 16.5"),
    ("optimizer={choices: [adam, adamm]}", "with optimizer adamm, which may be tried: 'adamm' is no optimizer"),
    ("schedule={choices: [null, cosin]}", "'cosin' is no schedule"),
    ("schedule={choices: [null, cosine warmup=900]}", "warmup is 900, but the run has 90 steps"),
    ("strength={low: 1, high: 2}", "'strength' is no option that is searched"),
]


@pytest.mark.parametrize(("said", "message"), OF_OPTIONS, ids=[said for said, _ in OF_OPTIONS])
def test_options_that_can_t_be_searched(said: str, message: str, search: Searching) -> None:
    with pytest.raises(RegspecError, match=re.escape(message)):
        search(trainer(), search=(said,))
    assert not search.study.exists()


def test_an_optimizer_that_can_t_do_what_a_rule_says(search: Searching) -> None:
    path = search.folder / "net.yaml"
    path.write_text(SPEC)
    plan = Plan(search=("optimizer={choices: [adamw, rprop]}",))
    with pytest.raises(RegspecError, match="with optimizer rprop, which may be tried: a rule says weight_decay"):
        tune(path, Options(data="wine", rules=("slots=bias weight_decay=0",)), plan, search.study)
    assert not search.study.exists()


def test_picture() -> None:
    """Each trial's dot is where its value and its score say; the best has a star and its name."""
    spec = regspec.loads(SPEC.replace("inputs:", "  width: {default: 3, search: {choices: [3, 5]}}\ninputs:"))
    trials = tuple(
        Trial(number + 1, "complete", {"strength": strength, "width": 3 + 2 * (number % 2)}, accuracy(strength), {})
        for number, strength in enumerate(STRENGTHS)
    )
    ended = (
        Trial(6, "pruned", {"strength": 5e-3, "width": 3}, 0.85, {}),
        Trial(7, "diverged", {"strength": 5e-2, "width": 3}, None, {}),
    )
    figure = draw(Scores((*trials, *ended), spec.search, "held_out_accuracy", 1000), spec)
    first, second = figure.axes
    assert (first.get_xscale(), second.get_xscale()) == ("log", "linear")
    assert [each.get_text() for each in second.get_xticklabels()] == ["3", "5"]
    found = {
        each.get_label(): np.asarray(each.get_offsets()) for each in first.collections if each.get_label()[0] != "_"
    }
    np.testing.assert_allclose(found["a trial"], [(strength, accuracy(strength)) for strength in STRENGTHS])
    np.testing.assert_allclose(found["a trial, pruned early"], [(5e-3, 0.85)])
    np.testing.assert_allclose(found["the best"], [(1e-2, 0.9)])
    assert found["diverged"][:, 0] == [5e-2]
    assert [each.get_text() for each in first.texts] == ["strength = 0.01  (0.9000)"]
    assert [each.get_text() for each in second.texts] == ["width = 5  (0.9000)"]


def test_whole_numbers_have_whole_ticks() -> None:
    spec = regspec.loads(SPEC.replace("{low: 1e-5, high: 1e-1, log: true}", "{low: 1, high: 3}").replace("1e-4", "2"))
    trials = tuple(Trial(number, "complete", {"strength": number}, 0.5, {}) for number in (1, 2, 3))
    (panel,) = draw(Scores(trials, spec.search, "held_out_accuracy", 10), spec).axes
    low, high = panel.get_xlim()
    assert [tick for tick in panel.get_xticks() if low <= tick <= high] == [1, 2, 3]


def test_as_good_within_one_standard_error() -> None:
    """0.9 of 900 examples has the standard error √(0.9 · 0.1 / 900) = 0.01."""
    scores = [0.8899, 0.8901, 0.9]
    trials = tuple(
        Trial(i, "complete", {"strength": s}, each, {})
        for i, (s, each) in enumerate(zip(STRENGTHS, scores, strict=False))
    )
    made = Scores(trials, regspec.loads(SPEC).search, "held_out_accuracy", 900)
    assert made.error == pytest.approx(0.01)
    assert made.as_good() == {"strength": "from 0.0001 to 0.001"}


def test_studies_are_optunas(search: Searching) -> None:
    """Other tools of Optuna's can read them."""
    search(trainer())
    with database(search.study / "study.db") as storage:
        study = optuna.load_study(study_name="regspec", storage=storage)
        assert study.best_params == {"strength": 1e-2}
        assert study.best_value == accuracy(1e-2)


@pytest.mark.everything
def test_the_page_shows_what_happens(search: Searching) -> None:
    """Two rows of its table, and its parts of specs."""
    page = (ROOT / "examples" / "choosing_a_strength.md").read_text(encoding="utf-8")
    options = Options(data="examples.pages.choosing_a_strength:noisy", epochs=40, lr=3e-3, batch_size=32)
    for strength in ("1e-06", "0.009237"):
        shown = next(line.split("|")[2:4] for line in page.splitlines() if line.startswith(f"| {strength} |"))
        made = train(
            ROOT / "examples" / "digits_search.yaml",
            options,
            search.folder / strength,
            console=search.console,
            parameters={"strength": float(strength)},
        )
        metrics = [made.metrics["held_out_accuracy"], made.metrics["held_out_loss"]]
        assert metrics == pytest.approx([float(each) for each in shown], abs=0.06)  # other machines round otherwise
    first, second = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    rest = "regspec: 1\ninputs: {x: {shape: [3]}}\n"
    assert regspec.loads(rest + first).search.keys() == {"strength"}
    layers = "layers: [{Dense: {units: $width, kernel_regularizer: $penalty}}]\n"
    assert regspec.loads(rest + second + layers).search.keys() == {"penalty", "width"}


# -- options -----------------------------------------------------------------------------------------------------------


def options_of(command: str) -> set[str]:
    """The names of a command's options."""
    commands: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # of a group
    return {parameter.name for parameter in commands[command].params}


def test_tune_takes_what_train_takes() -> None:
    """But for what is about one run and its folder, or about a draft."""
    assert options_of("train") - options_of("tune") == {
        *("baseline", "devices", "strategy", "logger", "resume", "fold", "draft", "force"),
    }


WIDE = SPEC.replace("parameters:\n", "parameters:\n  width: 4\n").replace(
    "layers:\n", "layers:\n  - Dense: {name: hidden, units: $width, activation: relu}\n"
)


def test_values_of_the_other_parameters(search: Searching) -> None:
    """They are those of each trial, and of the best spec; a study of others is another."""
    (search.folder / "net.yaml").write_text(WIDE, encoding="utf-8")
    stand_in = trainer(lambda strength, width: accuracy(strength))

    def search_with(width: int) -> Tuned:
        path, plan = search.folder / "net.yaml", Plan(trials=5, sampler="grid")
        options, values = Options(data="wine"), {"width": width}
        return tune(path, options, plan, search.study, parameters=values, console=search.console, train=stand_in.train)

    assert search_with(7).values == {"strength": pytest.approx(0.01)}
    assert [each["width"] for each in stand_in.tried] == [7] * 5
    assert regspec.load(search.study / "best.yaml").parameters == {"width": 7, "strength": pytest.approx(0.01)}
    with pytest.raises(RegspecError, match="spec"):
        search_with(8)


def test_a_searched_parameter_is_not_given(search: Searching) -> None:
    path = search.folder / "net.yaml"
    path.write_text(SPEC, encoding="utf-8")
    with pytest.raises(RegspecError, match="'strength' is to be searched, and is given too"):
        tune(path, Options(data="wine"), Plan(), search.study, parameters={"strength": 0.1}, console=search.console)


def test_options_of_training_reach_each_trial(search: Searching) -> None:
    """A patience of one ends trials that get worse, as it ends a run."""
    path = search.folder / "net.yaml"
    path.write_text(SPEC, encoding="utf-8")
    epochs: list[int] = []

    def counted(*arguments: Any, on_epoch: Any, **more: Any) -> Any:
        def each(epoch: int, metrics: Any) -> None:
            epochs.append(epoch)
            on_epoch(epoch, metrics)

        return train(*arguments, on_epoch=each, **more)

    options = Options(data="wine", epochs=30, lr=3.0, patience=1)
    tune(path, options, Plan(1, "grid"), search.study, console=search.console, train=counted)
    assert len(epochs) < 30


@pytest.mark.parametrize("name", ["net", "null", "true", "model"])
@pytest.mark.parametrize(
    "text",
    [
        "regspec: 1\n",
        "# a note\nregspec: 1  # another\r\nlayers: []\n",
        "layers: []\nregspec: 1",
        "{regspec: 1, layers: []}",
        "# a note\n--- {regspec: 1,\n  layers: []}\n",
    ],
)
def test_a_spec_with_the_name_of_its_file(text: str, name: str) -> None:
    """Also where the name alone would be no text, and behind comments."""
    before = document.parse(text)
    made = document.parse(with_name(before, name))
    assert made.data == {**before.data, "name": name}
    assert [line for line in text.splitlines() if "#" in line] == [
        line for line in made.text.splitlines() if "#" in line
    ]
