"""Weights of examples: from every source, in every loss as Keras has them, in steps, figures and estimators."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_iris
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import regspec
from regspec.graph.loading import graph_of
from regspec.sklearn import Classifier, Regressor
from regspec.training.data import load_data
from regspec.training.loop.batches import Batches
from regspec.training.loop.run import resume

from .commands import command
from .test_datasets import Items, Table
from .test_objective import CLASSES, LABELS, NUMBERS, SCORES, loss_of
from .test_sklearn import CLASSES as SPEC
from .test_sklearn import QUANTITIES
from .test_using import KINDS, NET, PRICE, TWO, WORDS, X, trained, weights

PLAIN = NET.replace("  - Dropout: 0.5\n", "")
WEIGHTS = np.random.default_rng(5).uniform(0, 3, len(X)).round(2)
WEIGHTS[3] = 0
OPTIONS: dict[str, Any] = {"epochs": 3, "optimizer": "sgd", "lr": 0.3, "batch_size": 9}


def frame(**more: Any) -> pl.DataFrame:
    return pl.DataFrame({"a": X[:, 0], "w": WEIGHTS, "b": X[:, 1], "c": X[:, 2], "kind": WORDS, **more})


def in_files(folder: Path) -> str:
    for name, array in {"x": X, "kind": KINDS, "sample_weight": WEIGHTS}.items():
        np.save(folder / f"{name}.npy", array)
    return str(folder)


def in_npz(folder: Path) -> str:
    np.savez(folder / "d.npz", x=X, y=KINDS, sample_weight=WEIGHTS)
    return str(folder / "d.npz")


def in_csv(folder: Path) -> str:
    frame().write_csv(folder / "d.csv")
    return str(folder / "d.csv")


COLUMN = {"columns": {"w": "weight"}, "target": "kind"}
SOURCES: dict[str, tuple[Callable[[Path], Any], dict[str, Any]]] = {
    "three": (lambda _: (X, KINDS, WEIGHTS), {}),
    "a column of numbers": (lambda _: (X, KINDS, WEIGHTS[:, None].tolist()), {}),
    "a mapping": (lambda _: {"x": X, "kind": KINDS, "sample_weight": WEIGHTS}, {}),
    "an argument": (lambda _: (X, KINDS), {"sample_weight": WEIGHTS}),
    "an argument of a frame": (lambda _: frame().drop("w"), {"sample_weight": pl.Series(WEIGHTS), "target": "kind"}),
    "a column of a frame": (lambda _: frame(), COLUMN),
    "a column beside the targets": (lambda _: (frame().drop("kind"), KINDS), {"columns": {"w": "weight"}}),
    "a column beside another": (
        lambda _: frame(),
        {**COLUMN, "columns": {"w": {"weight": True}, "a": {"scale": "standard"}}},
    ),
    "the last column": (lambda _: frame().select("a", "b", "c", "kind", "w"), {"columns": {"w": "weight"}}),
    "a csv": (in_csv, COLUMN),
    "an npz": (in_npz, {}),
    "files": (in_files, {}),
    "items": (lambda _: Items(lambda row: (X[row], int(KINDS[row]), WEIGHTS[row]), targets=KINDS), {}),
    "named items": (
        lambda _: Items(lambda row: {"x": X[row], "y": int(KINDS[row]), "sample_weight": WEIGHTS[row]}, targets=KINDS),
        {},
    ),
    "columns of items": (lambda _: Table(x=X.tolist(), kind=KINDS.tolist(), sample_weight=WEIGHTS.tolist()), {}),
}


def by_hand(x: Tensor, y: Tensor, w: Tensor, epochs: int) -> dict[str, Tensor]:
    """Weights after epochs of steps: the sum of weight times loss, over the number of examples."""
    model = regspec.build(PLAIN, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    order = Batches(len(x), 9, seed=0)
    for epoch in range(epochs):
        order.set_epoch(epoch)
        for rows in order:
            optimizer.zero_grad()
            losses = F.cross_entropy(model(x[rows]), y[rows], reduction="none")
            ((losses * w[rows]).sum() / len(rows) + model.regularization_loss()).backward()
            optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_with_weights(source: str, tmp_path: Path) -> None:
    make, more = SOURCES[source]
    data = make(tmp_path)
    run = trained(tmp_path, PLAIN, data, **OPTIONS, **more)
    facts = json.loads((run.folder / "run.json").read_text())
    assert facts["is_weighted"]
    assert (facts["examples"], facts["held_out"]) == (32, 8)
    part = load_data((X, KINDS, WEIGHTS), graph_of(PLAIN))  # which is divided alike
    x, y, w = part.train[range(32)]
    if source == "a column beside another":
        x = x - torch.tensor([1.0, 0, 0]) * x[:, 0].mean()
        x = x / torch.stack([x[:, 0].std(correction=0), torch.ones(()), torch.ones(())])
    state = torch.load(run.folder / "checkpoint.ckpt", weights_only=False)["state_dict"]
    state = {name.removeprefix("model."): each for name, each in state.items()}
    torch.testing.assert_close(state, by_hand(x, y, w, 3), rtol=1e-4, atol=1e-5)
    if source == "a column beside another":
        return
    x, y, w = part.held_out[range(8)]
    with torch.no_grad():
        losses = F.cross_entropy(run.model(x), y, reduction="none")
    assert run.metrics["held_out_loss"] == pytest.approx((losses * w).mean().item(), rel=1e-4)
    assert run.metrics["held_out_accuracy"] == pytest.approx((run.model(x).argmax(1) == y).float().mean().item())


def test_predict_and_evaluate(tmp_path: Path) -> None:
    """Inputs need no weights; data to evaluate may have them, and figures but the loss count each example once."""
    run = trained(tmp_path, PLAIN, frame(), **OPTIONS, **COLUMN)
    assert run.predict(frame().drop("w", "kind")).values.tolist() == run.predict(frame()).values.tolist()
    with torch.no_grad():
        losses = F.cross_entropy(run.model(torch.tensor(X)), torch.tensor(KINDS), reduction="none")
    found = {each: run.evaluate(data) for each, data in {True: frame(), False: frame().drop("w")}.items()}
    assert found[True].loss == pytest.approx((losses * torch.tensor(WEIGHTS)).mean().item(), rel=1e-5)
    assert found[False].loss == pytest.approx(losses.mean().item(), rel=1e-5)
    assert found[True].outputs["kind"].metrics == found[False].outputs["kind"].metrics
    triple = run.evaluate((X, WORDS, WEIGHTS))
    assert triple.loss == pytest.approx(found[True].loss)


def test_from_the_command_line(tmp_path: Path) -> None:
    """By an option and by a training file, resumed, with a held-out set that has the column, and one that has not."""
    (tmp_path / "net.yaml").write_text(PLAIN)
    frame()[:30].write_csv(tmp_path / "d.csv")
    frame()[30:].write_csv(tmp_path / "other.csv")
    frame()[30:].drop("w").write_csv(tmp_path / "bare.csv")
    (tmp_path / "training.yaml").write_text(
        "regspec: 1\ntraining: {epochs: 2}\ndata: {train: d.csv, target: kind, columns: {w: weight}}\n"
    )
    said = ["--data", "d.csv", "--target", "kind", "--columns.w", "weight", "--epochs", "2"]
    done = command("train", "net.yaml", *said, "--validation", "other.csv", "-o", "run", cwd=tmp_path)
    assert "30 weighted examples, 10 held out" in done.stdout, done.output
    by_file = ["--with", "training.yaml", "--validation", "other.csv", "-o", "by_file"]
    assert command("train", "net.yaml", *by_file, cwd=tmp_path).code == 0
    states = [load_file(tmp_path / name / "weights.safetensors") for name in ("run", "by_file")]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert "w: {weight: true}" in (tmp_path / "run" / "training.yaml").read_text()
    done = command("train", "net.yaml", *said, "--validation", "bare.csv", "-o", "bare", cwd=tmp_path)
    assert done.code == 0, done.output
    losses = [regspec.load_run(tmp_path / name).history["held_out_loss"] for name in ("run", "bare")]
    assert losses[0] != losses[1]
    done = command("evaluate", "run", "--data", "other.csv", cwd=tmp_path)
    assert f"{losses[0][-1]:.4g}" in done.stdout
    assert command("train", "--resume", "run", "--epochs", "3", cwd=tmp_path).code == 0


def test_a_run_goes_on(tmp_path: Path) -> None:
    whole = trained(tmp_path, PLAIN, in_npz(tmp_path), "whole", **OPTIONS)
    trained(tmp_path, PLAIN, in_npz(tmp_path), "part", **{**OPTIONS, "epochs": 1})
    torch.testing.assert_close(weights(resume(tmp_path / "part", {"epochs": 3})), weights(whole), rtol=0, atol=0)
    np.savez(tmp_path / "d.npz", x=X, y=KINDS)
    with pytest.raises(regspec.RegspecError, match="the examples have no weights any more"):
        resume(tmp_path / "part", {"epochs": 4})


def test_accumulated_batches_are_one(tmp_path: Path) -> None:
    """Four batches in a step have the gradient of one that holds them, also where weights lie unevenly."""
    data = (X[:36], KINDS[:36], np.linspace(0, 5, 36), X[36:], KINDS[36:], None)
    several = trained(tmp_path, PLAIN, data, "several", **{**OPTIONS, "accumulate": 4, "batch_size": 9})
    one = trained(tmp_path, PLAIN, data, "one", **{**OPTIONS, "batch_size": 36})
    torch.testing.assert_close(weights(several), weights(one), rtol=1e-4, atol=1e-6)


def test_several_outputs(tmp_path: Path) -> None:
    """An example weighs the same in each of them; by position too."""
    run = trained(tmp_path, TWO, ({"x": X}, {"kind": KINDS, "price": PRICE}, WEIGHTS), **OPTIONS)
    for name, item in {
        "flat": lambda row: (X[row], int(KINDS[row]), PRICE[row], WEIGHTS[row]),
        "nested": lambda row: (X[row], (int(KINDS[row]), PRICE[row]), WEIGHTS[row]),
    }.items():
        again = trained(tmp_path, TWO, Items(item), name, **OPTIONS)
        torch.testing.assert_close(weights(again), weights(run), rtol=1e-5, atol=1e-6)
    x, kind, price, w = load_data(({"x": X}, {"kind": KINDS, "price": PRICE}, WEIGHTS), graph_of(TWO)).held_out[
        range(8)
    ]
    with torch.no_grad():
        outputs = run.model(x)
    wanted = [
        (F.cross_entropy(outputs[0], kind, reduction="none") * w).mean().item(),
        (F.mse_loss(outputs[1][:, 0], price.flatten(), reduction="none") * w).mean().item(),
    ]
    assert [run.metrics[f"held_out_loss/{name}"] for name in ("kind", "price")] == pytest.approx(wanted, rel=1e-4)


def test_batches_of_a_loader(tmp_path: Path) -> None:
    tensors = TensorDataset(torch.tensor(X), torch.tensor(KINDS), torch.tensor(WEIGHTS))
    run = trained(tmp_path, PLAIN, (DataLoader(tensors, batch_size=40), (X[:0], KINDS[:0]))[:1] * 2, **OPTIONS)
    model = regspec.build(PLAIN, seed=0)
    losses = F.cross_entropy(model(torch.tensor(X)), torch.tensor(KINDS), reduction="none")
    wanted = (losses * torch.tensor(WEIGHTS)).mean().item()
    assert run.history["data_loss"][0] == pytest.approx(wanted, rel=1e-5)


# -- losses ------------------------------------------------------------------------------------------------------------

OWN = torch.tensor([0.0, 2.5, 1.0, 0.25, 3.0])
OF_KERAS: dict[str, tuple[str, Any, Tensor, Any]] = {
    "mse of pixels": ("mse", "quantities", NUMBERS, keras.losses.MeanSquaredError()),
    "l1": ("l1", "quantities", NUMBERS, keras.losses.MeanAbsoluteError()),
    "huber": ("huber", "quantities", NUMBERS, keras.losses.Huber()),
    "classes of pixels": (
        "cross_entropy", "classes", CLASSES, keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    ),
    "labels of pixels": ("binary_cross_entropy", "labels", LABELS, keras.losses.BinaryCrossentropy(from_logits=True)),
}  # fmt: skip


@pytest.mark.parametrize("row", OF_KERAS)
def test_a_loss_is_weighted_as_keras_does(row: str) -> None:
    """Places of an example weigh as it does; Keras, too, divides by their number, and not by the sum of weights."""
    name, kind, target, theirs = OF_KERAS[row]
    y = target if target.ndim < SCORES.ndim else target.movedim(1, -1)
    by_place = OWN[:, None, None].expand(5, 3, 2)
    wanted = theirs(y.numpy(), SCORES.movedim(1, -1).numpy(), sample_weight=by_place.numpy())
    got = loss_of(name, kind, SCORES).of(SCORES, target, OWN).mean
    assert got.item() == pytest.approx(float(wanted), rel=1e-5)


def test_with_weights_of_classes_and_places_that_do_not_count() -> None:
    """All three at once: the mean is over the places that count, whatever they weigh."""
    by_class = torch.tensor([1.0, 0.5, 2.0, 3.0])
    target = CLASSES.where(torch.arange(2) > 0, 9)
    loss = loss_of("cross_entropy", "classes", SCORES, weights=by_class, ignore_index=9)
    losses = F.cross_entropy(SCORES, target, ignore_index=9, weight=by_class, reduction="none")
    wanted = (losses * OWN[:, None, None]).sum() / 15
    torch.testing.assert_close(loss.of(SCORES, target, OWN).mean, wanted)


def test_areas() -> None:
    loss = loss_of("dice", "classes", SCORES)
    each = torch.stack([loss.of(SCORES[[row]], CLASSES[[row]]).mean for row in range(5)])
    torch.testing.assert_close(loss.of(SCORES, CLASSES, OWN).mean, (each * OWN).mean())


def whole(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).abs().mean()


def test_a_loss_of_ones_own_that_gives_one_number() -> None:
    loss = loss_of(f"{__name__}:whole", "quantities", SCORES)
    with pytest.raises(regspec.RegspecError, match="has to give a number for each example, because examples have"):
        loss.of(SCORES, NUMBERS, OWN)


# -- estimators --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Classifier, Regressor])
def test_a_weight_is_how_often_a_row_is_there(kind: Any) -> None:
    """In batches of all rows: as scikit-learn's check of it has it, to a float32's accuracy."""
    x, y = load_iris(return_X_y=True)
    x, y = x[::7], y[::7]
    times = np.random.default_rng(0).integers(0, 4, len(x))
    more = {"epochs": 20, "lr": 0.05, "batch_size": 200}
    spec = SPEC if kind is Classifier else QUANTITIES
    once = kind(spec, **more).fit(x, y, sample_weight=times * 2.5)
    often = kind(spec, **more).fit(x.repeat(times, 0), y.repeat(times))
    ask = "predict_proba" if kind is Classifier else "predict"
    np.testing.assert_allclose(getattr(once, ask)(x), getattr(often, ask)(x), rtol=1e-3, atol=1e-5)


def test_an_estimator_that_holds_out() -> None:
    x, y = load_iris(return_X_y=True)
    times = np.where(y == 2, 0.0, 1.0)
    fitted = Classifier(SPEC, epochs=40, lr=0.1, validation_fraction=0.3).fit(x, y, sample_weight=times)
    assert not (fitted.predict(x) == 2).any()


# -- faults ------------------------------------------------------------------------------------------------------------

BAD = WEIGHTS.copy()
FAULTS: dict[str, tuple[Callable[[Path], Any], dict[str, Any], list[str]]] = {
    "negative": (lambda _: (X, KINDS, WEIGHTS - 1), {}, ["'sample_weight' of 'data' is -", "example", "at least 0"]),
    "no number": (
        lambda _: (X, KINDS, np.where(np.arange(40) == 7, np.nan, WEIGHTS)), {},
        ["'sample_weight' of 'data' are not finite everywhere", "example 7"],
    ),
    "words": (lambda _: (X, KINDS, WORDS), {}, ["are no numbers"]),
    "too few": (lambda _: (X, KINDS, WEIGHTS[:39]), {}, ["is (39,), but there are 40 examples"]),
    "of places": (lambda _: (X, KINDS, np.ones((40, 3))), {}, ["is (40, 3)", "one number for each example"]),
    "all 0": (lambda _: (X, KINDS, WEIGHTS * 0), {}, ["is 0 everywhere: nothing would be learned"]),
    "twice": (lambda _: frame(), {**COLUMN, "sample_weight": WEIGHTS}, ["has weights of its own"]),
    "of a file": (in_npz, {"sample_weight": WEIGHTS}, ["sample_weight is for data in memory", "d.npz"]),
    "of a dataset": (
        lambda _: Items(lambda row: (X[row], int(KINDS[row]))), {"sample_weight": WEIGHTS},
        ["gives items or batches", "(input, target, weight)"],
    ),
    "of an item": (
        lambda _: Items(lambda row: (X[row], int(KINDS[row]), -1.0), targets=KINDS), {},
        ["'sample_weight' of 'data' is -1.0 in example"],
    ),
    "a column with a gap": (
        lambda _: frame(w=[None, *WEIGHTS[1:]]), COLUMN, ["column 'w' has no value in row 1"],
    ),
    "a negative column": (lambda _: frame(w=WEIGHTS - 0.1), COLUMN, ["column 'w' has a weight below 0 in row 4"]),
    "a column of words": (lambda _: frame(w=WORDS), COLUMN, ["column 'w' has '", "which is no number"]),
    "no column": (lambda _: frame().drop("w"), COLUMN, ["has no column 'w'"]),
    "two columns": (
        lambda _: frame(), {"columns": {"w": "weight", "a": "weight"}, "target": "kind"},
        ["the columns w and a are both weights"],
    ),
    "a target": (lambda _: frame(), {"columns": {"kind": "weight"}, "target": "kind"}, ["'kind' is a target"]),
    "a scaled one": (
        lambda _: frame(), {"columns": {"w": {"weight": True, "scale": "standard"}}},
        ["weight and scale, which don't go together"],
    ),
    "a filled one": (
        lambda _: frame(), {"columns": {"w": {"weight": True, "impute": 1}}},
        ["weight and impute, which don't go together"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong(fault: str, tmp_path: Path) -> None:
    make, more, words = FAULTS[fault]
    with pytest.raises(regspec.RegspecError) as raised:
        trained(tmp_path, PLAIN, make(tmp_path), **OPTIONS, **more)
    for each in words:
        assert each in str(raised.value)
    assert "--columns.w" not in str(raised.value)  # a weight is not prepared
    assert not (tmp_path / "run").exists() or fault == "of an item"
