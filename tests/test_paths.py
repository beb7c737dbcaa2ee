"""Paths of strengths: what they come to, what they choose and write, and what is refused."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.linear_model import lasso_path

import regspec
from regspec.text.problems import RegspecError
from regspec.training.tuning.path_figure import draw
from regspec.training.tuning.points import Point, Points
from regspec.training.tuning.strengths import followed, own_strengths

from .commands import command

SPEC = """\
regspec: 1  # λ is searched
name: net
parameters: {strength: 1e-3, rate: 0.25, width: 5}
inputs: {x: {shape: [13]}}
layers:
  - Dense: {name: a, units: $width, activation: relu, kernel_regularizer: l1, activity_regularizer: {l2: 1e-3}}
  - Dropout: $rate
  - Dense: {name: b, units: 4, kernel_regularizer: {l1: $strength, l2: 3e-4}}  # two
  - Dense:
      name: c
      units: 4
      kernel_regularizer: [{group_lasso: {strength: 1e-3, axis: output}}, {l1_l2: {l1: 0.3, l2: 0.2}}]
  - tower: {name: t, repeat: 2}
  - Dense: {name: d, units: 4, bias_regularizer: l2(0.1)}
  - Dense: {name: e, units: 3}
blocks:
  tower:
    layers:
      - Dense: {name: inner, units: 4, kernel_regularizer: {L1: {strength: 0.2}}}
regularizers:
  - {layers: '[de]', kernel: {l1: 1e-3, schedule: {warmup: 5}}}
"""
TERMS = ("a.kernel.l1", "b.kernel.l1", "c.kernel.l1", "t.0.inner.kernel.l1", "t.1.inner.kernel.l1")


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("kernel.l1", (*TERMS, "d.kernel.l1", "e.kernel.l1")),
        ("inner.kernel.l1", TERMS[3:]),
        ("a.kernel.l1", ("a.kernel.l1",)),
        ("kernel.l2", ("b.kernel.l2", "c.kernel.l2")),
        ("c.kernel.group_lasso", ("c.kernel.group_lasso",)),
        ("activity.l2", ("a.activity.l2",)),
        ("strength", ("b.kernel.l1",)),
        ("$strength", ("b.kernel.l1",)),
    ],
)
def test_what_a_path_changes(name: str, terms: tuple[str, ...]) -> None:
    """Those terms have the strength, in the text too, and no other has another than it had."""
    spec = regspec.loads(SPEC)
    before = own_strengths(regspec.build(spec))
    assert set(terms) <= set(before)
    path = followed(spec, name)
    changed = own_strengths(regspec.build(path.spec(0.0625)))
    assert {*path.terms} == {*terms}
    assert changed == {each: 0.0625 if each in terms else value for each, value in before.items()}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kernal.l1", "no strength is called 'kernal.l1'\n.*did you mean 'kernel.l1'"),
        ("bias.l1", "no strength is called 'bias.l1'"),
        ("l1", "no strength is called 'l1'\n.*it may be strength, rate, width, kernel.l1"),
        ("d.kernel.l1", "the strength of 'd.kernel.l1' stands where that of 'e.kernel.l1' does, too\n.*a parameter"),
        ("d.bias.l2", "the strength of 'd.bias.l2' does not stand where another may be written\n.*--path strength"),
        ("rate", "'rate' is 0.25, and no strength of a penalty"),
        ("width", "'width' is 5, and no strength of a penalty"),
    ],
)
def test_what_a_path_can_not_change(name: str, message: str) -> None:
    with pytest.raises(RegspecError, match=f"(?s){message}"):
        followed(regspec.loads(SPEC), name)


LINEAR = """\
regspec: 1
name: lasso
inputs: {x: {shape: [9]}}
layers:
  - Dense: {name: fit, units: 1, use_bias: false, kernel_regularizer: {l1: 0.5}}
"""


def quantities() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of a design that is orthogonal, so that one step of half the inverse curvature solves the problem."""
    rng = np.random.default_rng(3)
    x = np.linalg.qr(rng.standard_normal((40, 9)))[0] * math.sqrt(40)
    return x, x @ np.array([3.0, -2, 0, 0, 1, 0, 0, 0.5, 0]) + rng.standard_normal(40)


@pytest.mark.parametrize(("first", "last"), [(8.0, 0.02), (0.02, 8.0)])
def test_a_lasso_has_the_path_of_scikit_learn(first: float, last: float, tmp_path: Path) -> None:
    """Weights and zeros at each strength: MSE + λ|w| is twice scikit-learn's objective of λ / 2."""
    x, y = quantities()
    found = regspec.strength_path(
        LINEAR, (x, y, x, y), "kernel.l1", from_=first, to=last, steps=9, folder=tmp_path / "path", quiet=True,
        epochs=8, batch_size=40, optimizer="sgd", lr=0.5, route={"l1": "proximal"},
    )  # fmt: skip
    strengths = np.array([each.strength for each in found.points])
    np.testing.assert_allclose(strengths, np.geomspace(first, last, 9), rtol=1e-3)
    _, weights, _ = lasso_path(x, y, alphas=strengths / 2, tol=1e-12, max_iter=100_000)
    weights = weights.T if first > last else weights.T[::-1]  # which has the strongest first
    for point, wanted in zip(found.points, weights, strict=True):
        run = regspec.load_run(tmp_path / "path" / point.run)
        np.testing.assert_allclose(run.model.fit.weight[0].detach().numpy(), wanted, atol=1e-5)
        assert regspec.strengths(run.model) == {"fit.kernel.l1": point.strength}
        assert point.zeros == ((wanted == 0).sum(), 9)
        assert point.units == {"fit": (int(wanted.any()), 1)}
        residuals = np.square(y - x @ wanted)
        assert point.score == pytest.approx(residuals.mean(), rel=1e-4)
        assert point.error == pytest.approx(residuals.std() / math.sqrt(40), rel=1e-4)
        assert point.metrics["penalty/fit.kernel"] == pytest.approx(point.strength * np.abs(wanted).sum(), abs=1e-4)
    assert {each.zeros[0] for each in found.points} >= {9}
    assert found.best.strength == min(first, last)


SMALL = """\
regspec: 1
name: small
inputs: {x: {shape: [13]}}
layers:
  - Dense: {name: hidden, units: 6, activation: relu, kernel_regularizer: {l1: 1e-3}}  # to be found
  - Dense: {name: scores, units: 3}
"""
HOW = ("--data", "wine", "--epochs", "2", "--lr", "0.02", "--route", "l1=proximal", "--accelerator", "cpu")
ALONG = ("--path", "kernel.l1", "--from", "1e-3", "--to", "10", "--steps", "3")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.yaml").write_text(SMALL, encoding="utf-8")
    return tmp_path


def test_a_command_chooses_and_writes(net: Path) -> None:
    """And what it has chosen is a run like any other; stopped, it goes on with what was left."""
    done = command("tune", "net.yaml", *HOW, *ALONG, "--check", "2", "-o", "path", cwd=net)
    assert done.code == 0, done
    rows = list(csv.DictReader((net / "path" / "path.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["strength"]) for row in rows] == [1e-3, 0.1, 10]
    assert [bool(row["cold"]) for row in rows] == [False, True, True]
    for row in rows:
        weight = regspec.load_run(net / "path" / row["run"]).model.hidden.weight
        assert float(row["zeros"]) == pytest.approx((weight == 0).double().mean().item())
        assert int(row["units/hidden"]) == weight.any(1).sum()
    assert float(rows[2]["zeros"]) > 0.5
    for before, after in ("12", "23"):
        begun, first = (load_file(net / "path" / each / "initial.safetensors") for each in (after, "1"))
        ended = load_file(net / "path" / before / "weights.safetensors")
        torch.testing.assert_close(begun, {name: 0.7 * ended[name] + 0.3 * first[name] for name in first})
    assert done.stdout.count("from the beginning: ") == 2
    assert (net / "path" / "path.png").stat().st_size > 10_000
    held = json.loads((net / "path" / "path.json").read_text())
    for name in ("best", "simplest"):
        run = regspec.load_run(net / "path" / name)
        row = next(row for row in rows if name in row["chosen"])
        assert run.metrics["held_out_accuracy"] == float(row["score"])
        assert regspec.strengths(run.model) == {"hidden.kernel.l1": float(row["strength"])}
        assert "# to be found" in (net / "path" / name / "spec.yaml").read_text(encoding="utf-8")
        assert command("evaluate", f"path/{name}", cwd=net).code == 0
    first = net / "path" / "1" / "run.json"
    written = first.stat().st_mtime_ns
    held["points"] = held["points"][:2]  # as if it had been stopped in the third
    (net / "path" / "path.json").write_text(json.dumps(held))
    again = command("tune", "net.yaml", *HOW, *ALONG, "--check", "2", "-o", "path", cwd=net)
    assert again.code == 0, again
    assert "2 strengths done already" in again.stdout
    assert first.stat().st_mtime_ns == written
    assert list(csv.DictReader((net / "path" / "path.csv").read_text(encoding="utf-8").splitlines())) == rows
    other = command("tune", "net.yaml", *HOW, *ALONG, "--seed", "1", "-o", "path", cwd=net)
    assert (other.code, "holds a path with seed 0, and not 1" in other.stderr) == (1, True), other
    longer = command("tune", "net.yaml", *HOW, *ALONG, "--steps", "4", "-o", "path", cwd=net)
    assert "holds a path with steps 3, and not 4" in longer.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--path", "kernel.l2"], 1, "no strength is called 'kernel.l2'"),
        (["--path", "kernel.l1", "--from", "0"], 1, "--from must be greater than 0 and finite, but is 0"),
        (["--path", "kernel.l1", "--to", "-1"], 1, "--to must be greater than 0 and finite, but is -1"),
        (["--path", "kernel.l1", "--from", "1", "--to", "1"], 1, "--from and --to are both 1"),
        (["--path", "kernel.l1", "--steps", "1"], 1, "--steps must be at least 2, but is 1"),
        (["--path", "kernel.l1", "--check", "30"], 1, "--check must be 0 to 29, but is 30"),
        (["--path="], 1, "no strength is called ''"),
        (["--path", "kernel.l1", "--from", "1", "--to", "1.0001"], 1, "30 strengths from 1.0 to 1.0001 are not all"),
        (
            ["--path", "kernel.l1", "--with", "many.yaml"],
            1,
            "many.yaml:2:21: error: a search or a path trains on one device",
        ),
        (["--path", "kernel.l1", "--trials", "3"], 2, "a path tries the strengths from --from to --to"),
        (
            ["--search", "lr={low: 1e-4, high: 1e-1}", "--with", "many.yaml"],
            1,
            "many.yaml:2:21: error: a search or a path",
        ),
        (["--from", "1"], 2, "it is for a --path"),
    ],
)
def test_what_is_refused(arguments: list[str], code: int, message: str, net: Path) -> None:
    (net / "many.yaml").write_text("regspec: 1\ntraining: {devices: 2}\n", encoding="utf-8")
    done = command("tune", "net.yaml", *HOW, *arguments, "-o", "path", cwd=net)
    assert done.code == code, done
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert not (net / "path").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"warm_epochs": 0}, "--warm-epochs must be at least 1, but is 0"),
        ({"metric": "accuracy"}, "the metric is 'accuracy'\n.*held_out_accuracy or held_out_loss"),
        ({"devices": "2"}, "a search or a path trains on one device at a time, and not on 2"),
    ],
)
def test_what_is_refused_from_python(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    """What the command line refuses by the options' types."""
    with pytest.raises(RegspecError, match=message):
        regspec.strength_path(SMALL, "wine", "kernel.l1", folder=tmp_path / "path", quiet=True, **given)
    assert not (tmp_path / "path").exists()


@pytest.mark.parametrize(
    ("metric", "scores", "best", "simplest"),
    [
        ("held_out_accuracy", [0.5, 0.88, 0.9, 0.87], 1.0, 10.0),  # within 0.03: 0.87 at least
        ("held_out_accuracy", [0.9, 0.86, 0.9, 0.8], 100.0, 100.0),  # of equal scores the strongest
        ("held_out_loss", [0.9, 0.54, 0.5, 0.52], 1.0, 1.0),
        ("held_out_loss", [None, 0.53, 0.5, 0.52], 1.0, 10.0),  # the strongest has diverged
    ],
)
@pytest.mark.parametrize("is_back", [False, True])
def test_the_best_and_the_simplest(
    metric: str, scores: list[float | None], best: float, simplest: float, is_back: bool
) -> None:
    pairs = zip((100.0, 10.0, 1.0, 0.1), scores, strict=True)
    points = [Point(strength, "1", score, 0.0301) for strength, score in pairs]
    found = Points(tuple(points[::-1] if is_back else points), metric)
    assert found.best is not None
    assert found.simplest is not None
    assert (found.best.strength, found.simplest.strength) == (best, simplest)
    assert Point.of(json.loads(json.dumps(found.best.as_dict()))) == found.best


def test_the_picture_marks_both() -> None:
    """And what was trained from the beginning."""
    metrics = {"penalty/hidden.kernel": 0.5}
    points = [
        Point(strength, "1", score, 0.02, metrics, (zeros, 10), {"hidden": (5 - zeros // 2, 5)}, cold=cold)
        for strength, score, zeros, cold in ((0.01, 0.9, 2, None), (0.1, 0.89, 6, (0.8, 0.02)), (1.0, 0.5, 10, None))
    ]
    scores, shares, terms = draw(Points(tuple(points), "held_out_accuracy"), "kernel.l1", "net").axes
    labels = scores.get_legend_handles_labels()[1]
    assert {"best: 0.01  (0.9000)", "simplest within one error: 0.1  (0.8900)", "trained from the beginning"} < {
        *labels
    }
    drawn = {
        line.get_label(): line.get_ydata().tolist() for line in shares.lines if not line.get_label().startswith("_")
    }
    assert drawn == {"weights that are zero": [0.2, 0.6, 1.0], "units left": [0.8, 0.4, 0.0]}
    assert terms.get_legend_handles_labels()[1] == ["hidden.kernel"]
    assert [each.is_far for each in points] == [False, True, False]


@pytest.mark.parametrize(
    ("metric", "sides"), [("held_out_accuracy", ["better", "worse"]), ("held_out_loss", ["worse", "better"])]
)
def test_what_the_beginning_says(metric: str, sides: list[str]) -> None:
    """A path that does better than a training from the beginning is told from one that does worse."""
    points = Points(tuple(Point(1.0, "1", score, 0.01, cold=(0.5, 0.01)) for score in (0.6, 0.4)), metric)
    assert [points.side(each) for each in points.points] == sides


BATCHED = """\
regspec: 1
name: batched
inputs: {x: {shape: [13]}}
layers:
  - BatchNormalization: {name: norm}
  - Dense: {name: hidden, units: 6, activation: relu, kernel_regularizer: {l1: 1e-3}}
  - Dense: {name: fixed, units: 5, trainable: false}
  - Dense: {name: scores, units: 3}
"""


def test_a_path_of_folds(tmp_path: Path) -> None:
    """Each fold goes along by itself; a score is the mean of theirs, and its error that of the mean."""
    path = tmp_path / "path"
    found = regspec.strength_path(
        BATCHED, "wine", "kernel.l1", from_=1e-3, to=0.3, steps=2, folder=path, quiet=True, check=1,
        folds=3, epochs=2, lr=0.02, route={"l1": "proximal"},
    )  # fmt: skip
    for point in found.points:
        folds = regspec.load_folds(path / point.run)
        scores = [each.metrics["held_out_accuracy"] for each in folds.runs]
        assert len(set(scores)) > 1
        assert point.score == pytest.approx(np.mean(scores))
        assert point.error == pytest.approx(np.std(scores, ddof=1) / math.sqrt(3))
        weights = [each.model.hidden.weight for each in folds.runs]
        assert point.zeros == (sum(int((each == 0).sum()) for each in weights), 3 * 6 * 13)
        assert point.units == {"hidden": (round(np.mean([int(each.any(1).sum()) for each in weights])), 6)}
    assert found.points[1].cold is not None
    for number in range(1, 4):
        first, begun = (load_file(path / each / f"fold_{number}" / "initial.safetensors") for each in "12")
        ended = load_file(path / "1" / f"fold_{number}" / "weights.safetensors")
        buffers = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
        assert buffers < {*first}
        wanted = {name: ended[name] if name in buffers else 0.7 * ended[name] + 0.3 * first[name] for name in first}
        torch.testing.assert_close(begun, wanted)
        torch.testing.assert_close(begun["fixed.weight"], first["fixed.weight"])
    assert {each.name for each in (path / "best").iterdir()} >= {"fold_1", "fold_2", "fold_3"}
