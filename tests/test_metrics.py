"""Metrics of outputs against scikit-learn's, over several batches, by every name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as theirs
from torch import Tensor

import regspec
from regspec.training.measures.losses import Kind
from regspec.training.measures.metrics import FIGURES, HELD_OUT, OutputMetrics, metrics_for

from .test_objective import loss_of

DRAWN = torch.Generator().manual_seed(0)
TARGET = torch.randint(0, 6, (60,), generator=DRAWN)
SCORES = torch.randn(60, 6, generator=DRAWN) + 1.5 * torch.nn.functional.one_hot(TARGET, 6)
YES = torch.randint(0, 2, (60,), generator=DRAWN)
SCORE = torch.randn(60, 1, generator=DRAWN) + YES[:, None]
LABELS = torch.randint(0, 2, (60, 4), generator=DRAWN)
LABEL_SCORES = torch.randn(60, 4, generator=DRAWN) + LABELS
QUANTITY, GUESS = torch.rand(60, 3, generator=DRAWN) * 0.9 + 0.05, torch.rand(60, 3, generator=DRAWN) * 0.9 + 0.05


def computed(kind: Kind, output: Tensor, target: Tensor, *names: str, **said: Any) -> dict[str, float]:
    """The metrics over batches of 7."""
    loss = {"classes": "cross_entropy", "labels": "binary_cross_entropy", "quantities": "mse"}[kind]
    made = OutputMetrics(loss_of(loss, kind, output, metrics=[*names], **said))
    for start in range(0, len(target), 7):
        made.update(output[start : start + 7], target[start : start + 7])
    return made.computed()


def macro(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda y, guess: function(y, guess, average="macro")


CHANCES = SCORES.softmax(1)
CLASSES: dict[str, Any] = {
    "accuracy": theirs.accuracy_score(TARGET, SCORES.argmax(1)),
    "balanced_accuracy": theirs.balanced_accuracy_score(TARGET, SCORES.argmax(1)),
    "precision": macro(theirs.precision_score)(TARGET, SCORES.argmax(1)),
    "recall": macro(theirs.recall_score)(TARGET, SCORES.argmax(1)),
    "f1": macro(theirs.f1_score)(TARGET, SCORES.argmax(1)),
    "iou": macro(theirs.jaccard_score)(TARGET, SCORES.argmax(1)),
    "auroc": theirs.roc_auc_score(TARGET, CHANCES, multi_class="ovr"),
    "average_precision": theirs.average_precision_score(torch.nn.functional.one_hot(TARGET), CHANCES),
    "matthews": theirs.matthews_corrcoef(TARGET, SCORES.argmax(1)),
    "cohen_kappa": theirs.cohen_kappa_score(TARGET, SCORES.argmax(1)),
    "top_5": theirs.top_k_accuracy_score(TARGET, SCORES, k=5),
}
SAID = (SCORE[:, 0] > 0).long()
TWO: dict[str, Any] = {
    "accuracy": theirs.accuracy_score(YES, SAID),
    "precision": theirs.precision_score(YES, SAID),
    "recall": theirs.recall_score(YES, SAID),
    "f1": theirs.f1_score(YES, SAID),
    "iou": theirs.jaccard_score(YES, SAID),
    "auroc": theirs.roc_auc_score(YES, SCORE[:, 0]),
    "average_precision": theirs.average_precision_score(YES, SCORE[:, 0]),
    "matthews": theirs.matthews_corrcoef(YES, SAID),
    "cohen_kappa": theirs.cohen_kappa_score(YES, SAID),
}
GUESSED = (LABEL_SCORES > 0).long()
OF_LABELS: dict[str, Any] = {
    "accuracy": (GUESSED == LABELS).double().mean().item(),
    "precision": macro(theirs.precision_score)(LABELS, GUESSED),
    "recall": macro(theirs.recall_score)(LABELS, GUESSED),
    "f1": macro(theirs.f1_score)(LABELS, GUESSED),
    "iou": macro(theirs.jaccard_score)(LABELS, GUESSED),
    "auroc": theirs.roc_auc_score(LABELS, LABEL_SCORES),
    "average_precision": theirs.average_precision_score(LABELS, LABEL_SCORES),
    "exact_match": theirs.accuracy_score(LABELS, GUESSED),
}
QUANTITIES: dict[str, Any] = {
    "mse": theirs.mean_squared_error(QUANTITY, GUESS),
    "rmse": theirs.mean_squared_error(QUANTITY, GUESS) ** 0.5,
    "mae": theirs.mean_absolute_error(QUANTITY, GUESS),
    "mape": theirs.mean_absolute_percentage_error(QUANTITY, GUESS),
    "smape": (2 * (QUANTITY - GUESS).abs() / (QUANTITY + GUESS)).mean().item(),
    "r2": theirs.r2_score(QUANTITY, GUESS, multioutput="variance_weighted"),
    "explained_variance": theirs.explained_variance_score(QUANTITY, GUESS, multioutput="variance_weighted"),
}
TABLES: dict[str, tuple[Kind, Tensor, Tensor, dict[str, Any]]] = {
    "several classes": ("classes", SCORES, TARGET, CLASSES),
    "two classes": ("classes", SCORE, YES, TWO),
    "labels": ("labels", LABEL_SCORES, LABELS.float(), OF_LABELS),
    "a label": ("labels", SCORE, YES[:, None].float(), TWO),
    "quantities": ("quantities", GUESS, QUANTITY, QUANTITIES),
}


@pytest.mark.parametrize("table", TABLES)
def test_metrics(table: str) -> None:
    kind, output, target, wanted = TABLES[table]
    found = computed(kind, output, target, *wanted)
    assert found == pytest.approx({name: float(value) for name, value in wanted.items()}, rel=1e-4)


def test_every_metric_has_a_row() -> None:
    """But for the calibration error, which scikit-learn lacks, and matthews of labels, which it has for one label."""
    for kind, output, _, table in TABLES.values():
        names = {*metrics_for(kind, output.shape[1])} - {"calibration_error"}
        assert names == table.keys() | ({"matthews"} if kind == "labels" and output.shape[1] > 1 else set())


def test_the_calibration_error() -> None:
    """The mean distance of chances from shares over 15 bins of equal width, by how many examples each has."""
    chances, guesses = CHANCES.max(1)
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (chances > low) & (chances <= low + 1 / 15)
        if inside.any():
            error += (guesses[inside] == TARGET[inside]).float().sum().sub(chances[inside].sum()).abs().item() / 60
    assert computed("classes", SCORES, TARGET, "ece") == pytest.approx({"calibration_error": error}, rel=1e-4)


def test_places_that_do_not_count() -> None:
    target = TARGET.clone()
    target[::3] = -1
    counts = target >= 0
    wanted = theirs.f1_score(target[counts], SCORES.argmax(1)[counts], average="macro")
    assert computed("classes", SCORES, target, "f1", ignore_index=-1) == pytest.approx({"f1": wanted})


@pytest.mark.parametrize(
    ("loss", "output", "meant"),
    [
        ("poisson_nll", GUESS.log(), GUESS),
        ("binary_cross_entropy", GUESS.logit(), GUESS),
        ("cross_entropy", GUESS, GUESS.softmax(1)),
        ("cross_entropy", GUESS[:, :1].logit(), GUESS[:, :1]),
    ],
)
def test_quantities_in_the_units_of_their_target(loss: str, output: Tensor, meant: Tensor) -> None:
    """Not what the model gives, where its loss reads that as a logarithm or a score."""
    target = QUANTITY[:, : output.shape[1]]
    made = OutputMetrics(loss_of(loss, "quantities", output, metrics=["mae", "rmse"]))
    made.update(output, target)
    wanted = {"mae": theirs.mean_absolute_error(target, meant), "rmse": theirs.mean_squared_error(target, meant) ** 0.5}
    assert made.computed() == pytest.approx(wanted, rel=1e-5)


def test_of_places() -> None:
    """A class for each pixel: all pixels count alike."""
    output = SCORES.reshape(10, 3, 2, 6).movedim(-1, 1)
    found = computed("classes", output, TARGET.reshape(10, 3, 2), "accuracy", "f1")
    assert found == pytest.approx({name: CLASSES[name] for name in ("accuracy", "f1")})


@pytest.mark.parametrize(
    ("kind", "name", "known"),
    [
        ("classes", "acc", "accuracy"), ("classes", "SparseCategoricalAccuracy", "accuracy"),
        ("classes", "AUC", "auroc"), ("classes", "F1Score", "f1"), ("classes", "MeanIoU", "iou"),
        ("classes", "Precision", "precision"), ("labels", "BinaryAccuracy", "accuracy"),
        ("quantities", "R2Score", "r2"), ("quantities", "RootMeanSquaredError", "rmse"),
        ("quantities", "mean_absolute_error", "mae"),
    ],
)  # fmt: skip
def test_names_of_others(kind: Kind, name: str, known: str) -> None:
    (output, target, wanted) = next((row[1:]) for row in TABLES.values() if row[0] == kind)
    assert computed(kind, output, target, name) == pytest.approx({known: float(wanted[known])}, rel=1e-4)


def test_one_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of the outputs, as probabilities, and the targets; its values are averaged over examples."""
    module: Any = ModuleType("own_metrics")
    module.sure = module.forward = lambda output, target: output.max(1)[0].mean()
    monkeypatch.setitem(sys.modules, "own_metrics", module)
    found = computed("classes", SCORES, TARGET, "own_metrics:sure", "own_metrics:forward")
    assert found == pytest.approx(dict.fromkeys(("sure", "forward"), CHANCES.max(1)[0].mean().item()))


@pytest.mark.parametrize("name", ["loss", "data_loss", "penalty", "epoch", "held_out_loss", "accuracy", "rmse", "f1"])
def test_the_name_of_another_figure(name: str) -> None:
    """Whose column it would take, and with it the choice of the best epoch."""
    with pytest.raises(regspec.RegspecError, match=f"'own:{name}' has the name of another figure, '{name}'"):
        computed("classes", SCORES, TARGET, f"own:{name}")


def test_two_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("own_a", "own_b"):
        module: Any = ModuleType(each)
        module.sure = lambda output, target: output.max(1)[0].mean()
        monkeypatch.setitem(sys.modules, each, module)
    assert computed("classes", SCORES, TARGET, "own_a:sure", "own_a:sure").keys() == {"sure"}
    with pytest.raises(regspec.RegspecError, match="'own_b:sure' has the name of another figure, 'sure'"):
        computed("classes", SCORES, TARGET, "own_a:sure", "own_b:sure")


def test_every_figure_of_a_run_is_known(tmp_path: Path) -> None:
    spec = {"inputs": {"x": {"shape": [6]}}, "layers": [{"Dense": {"units": 6, "kernel_regularizer": "l2"}}]}
    run = regspec.train(spec, (SCORES, TARGET), epochs=1, folder=tmp_path / "run", quiet=True)
    heads = {name.partition("/")[0] for name in run.history}
    assert {each for each in heads if not each.startswith(HELD_OUT)} == {*FIGURES} - {"loss"}


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("classes", "recal", "'recal' is no metric of classes, which 'out' learns\n   = did you mean 'recall'"),
        ("classes", "r2", "'r2' is no metric of classes.*\n   = it may be accuracy, "),
        ("quantities", "accuracy", "'accuracy' is no metric of quantities.*\n   = it may be mse, "),
        ("labels", "nowhere:f", "'nowhere' can't be imported"),
        ("quantities", "top_5", "'top_5' is no metric of quantities"),
    ],
)
def test_what_is_no_metric(kind: Kind, name: str, message: str) -> None:
    output, target, _ = next(row[1:] for row in TABLES.values() if row[0] == kind)
    with pytest.raises(regspec.RegspecError, match=message):
        computed(kind, output, target, name)


def test_five_of_fewer_classes() -> None:
    with pytest.raises(
        regspec.RegspecError, match=r"'top_5' is no metric of the 3 classes of 'out': .*top_k.* 5 and 3"
    ):
        computed("classes", SCORES[:, :3], TARGET % 3, "top_5")


@pytest.mark.parametrize("name", CLASSES)
def test_classes_whose_probabilities_are_the_target(name: str) -> None:
    """One-hot vectors, or others: the class is the most probable one."""
    for target in (
        torch.nn.functional.one_hot(TARGET, 6).float(),
        (3.0 * torch.nn.functional.one_hot(TARGET, 6)).softmax(1),
    ):
        made = OutputMetrics(loss_of("cross_entropy", "quantities", SCORES, metrics=[name, "mae"]))
        for start in range(0, len(target), 7):
            made.update(SCORES[start : start + 7], target[start : start + 7])
        got = made.computed()
        assert got[name] == pytest.approx(CLASSES[name], rel=1e-5)
        assert got["mae"] == pytest.approx((CHANCES - target).abs().mean().item(), rel=1e-5)
