"""What a run keeps of its held-out examples: calibration by scikit-learn and a formula, the worst examples by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix
from torch.nn import functional as F

import regspec
from regspec.training.data.examples import Data, InMemory
from regspec.training.runs.confusing import confusion_of, pairs_of
from regspec.training.runs.judging import digest

Array = NDArray[Any]
draws = np.random.default_rng(0)
X, LATER = draws.standard_normal((80, 4)).astype(np.float32), draws.standard_normal((60, 4)).astype(np.float32)


def classes(x: Array) -> Array:
    noise = np.random.default_rng(1).standard_normal((len(x), 3))
    found: Array = (x[:, :3] + noise).argmax(1)
    return found


def net(layers: str, shape: str = "[4]") -> str:
    return f"regspec: 1\nname: net\ninputs: {{x: {{shape: {shape}}}}}\nlayers: [{layers}]\n"


def trained(spec: str, data: Any, folder: Path, **options: Any) -> tuple[regspec.Run, dict[str, Any]]:
    run = regspec.train(spec, data, folder=folder / "run", quiet=True, **{"epochs": 3, "lr": 0.05, **options})
    kept = json.loads((run.folder / "held_out.json").read_text())
    (output,) = kept["outputs"].values()
    return run, {**kept, **output}


def error_of(said: Array, right: Array) -> float:
    """The mean distance of what is said from what is so, over ten bins, by how much is in them."""
    bins = np.minimum((said * 10).astype(int), 9)
    parts = [(said[bins == each], right[bins == each]) for each in range(10)]
    return sum(abs(a.mean() - b.mean()) * len(a) for a, b in parts if len(a)) / len(said)


def assert_calibrated(kept: dict[str, Any], said: Array, right: Array) -> None:
    shares, means = calibration_curve(right, said, n_bins=10)
    known = kept["calibration"]
    np.testing.assert_allclose(known["right"], shares, rtol=1e-5)
    np.testing.assert_allclose(known["said"], means, rtol=1e-5)
    assert known["counts"] == [each for each in np.histogram(said, np.linspace(0, 1, 11))[0] if each]
    assert known["error"] == pytest.approx(error_of(said, right), abs=1e-5)


def assert_worst(kept: dict[str, Any], losses: Array) -> None:
    order = np.argsort(-losses, kind="stable")[:12]
    assert [each["name"] for each in kept["worst"]] == [f"item {row}" for row in order]
    np.testing.assert_allclose([each["loss"] for each in kept["worst"]], losses[order], rtol=1e-4)


@pytest.mark.parametrize("last", ["Dense: 3", "Dense: {units: 3, activation: softmax}"])
def test_classes(last: str, tmp_path: Path) -> None:
    y, later = classes(X), classes(LATER)
    run, kept = trained(net(f"{{{last}}}"), (X, y, LATER, later), tmp_path)
    said = run.predict(LATER)
    assert said.probabilities is not None
    guess = said.probabilities.argmax(1)
    assert kept["examples"] == 60
    assert_calibrated(kept, said.probabilities.max(1), guess == later)
    assert_worst(kept, -np.log(said.probabilities[np.arange(60), later]))
    matrix = confusion_matrix(later, guess, labels=range(3)).tolist()
    assert kept["confusion"] == {"classes": ["0", "1", "2"], "counts": matrix, "mistakes": []}
    first = int(kept["worst"][0]["name"].removeprefix("item "))
    assert kept["worst"][0]["is"] == str(later[first])
    assert kept["worst"][0]["said"] == str(guess[first])
    assert kept["worst"][0]["probability"] == pytest.approx(said.probabilities[first].max(), rel=1e-5)


def test_one_unit_for_two_classes(tmp_path: Path) -> None:
    y, later = (np.where(classes(x) > 0, "yes", "no") for x in (X, LATER))
    run, kept = trained(net("Dense: 1"), (X, y, LATER, later), tmp_path)
    shares = run.predict(LATER).probabilities
    assert shares is not None
    assert_calibrated(kept, shares.max(1), np.array(["no", "yes"])[shares.argmax(1)] == later)
    assert {each["is"] for each in kept["worst"]} <= {"yes", "no"}
    guess = np.array(["no", "yes"])[shares.argmax(1)]
    assert kept["confusion"]["counts"] == confusion_matrix(later, guess, labels=["no", "yes"]).tolist()


def test_of_many_classes_the_most_frequent_mistakes_are_kept() -> None:
    """Over batches, of which each has pairs of its own; however many classes there are."""
    truth, said = draws.integers(0, 30, 900), draws.integers(0, 30, 900)
    said[:300], truth[:40], said[:40] = truth[:300], 7, 21
    parts = [pairs_of(torch.tensor(truth[rows]), torch.tensor(said[rows])) for rows in np.split(np.arange(900), 9)]
    found = confusion_of([f"c{each}" for each in range(30)], parts)
    matrix = confusion_matrix(truth, said)
    of, wrong = matrix.sum(1), matrix * (1 - np.eye(30, dtype=int))
    assert found is not None
    assert (found["classes"], found["counts"], len(found["mistakes"])) == ([], [], 12)
    assert found["mistakes"][0] == ["c7", "c21", wrong[7, 21], of[7]]
    assert [each[2] for each in found["mistakes"]] == sorted(wrong.flatten().tolist())[:-13:-1]
    for is_, taken, count, whole in found["mistakes"]:
        row, column = int(is_[1:]), int(taken[1:])
        assert (count, whole) == (wrong[row, column], of[row])


def test_labels(tmp_path: Path) -> None:
    """Each label of each example counts."""
    y, later = ((x[:, :3] > 0).astype(int) for x in (X, LATER))
    run, kept = trained(net("Dense: {units: 3, name: out}"), (X, y, LATER, later), tmp_path,
                        outputs={"out": {"loss": "binary_cross_entropy"}})  # fmt: skip
    shares = run.predict(LATER).probabilities
    assert shares is not None
    assert_calibrated(kept, shares.ravel(), later.ravel() > 0)
    losses = F.binary_cross_entropy(torch.from_numpy(shares), torch.from_numpy(later).float(), reduction="none").mean(1)
    assert_worst(kept, losses.numpy())
    row = int(kept["worst"][0]["name"].removeprefix("item "))
    assert kept["worst"][0]["is"] == (", ".join(map(str, np.flatnonzero(later[row]))) or "none")


def test_labels_by_the_names_of_their_columns(tmp_path: Path) -> None:
    names = ["red", "green", "blue"]
    lines = [",".join(f"{each:.6f}" for each in x) + "," + ",".join(str(int(each > 0)) for each in x[:3]) for x in X]
    (tmp_path / "table.csv").write_text("\n".join([f"a,b,c,d,{','.join(names)}", *lines]))
    said = {"target": ",".join(names), "lr": 1e-9}
    run, kept = trained(net("Dense: 3"), str(tmp_path / "table.csv"), tmp_path, **said)
    for each in kept["worst"]:
        row = X[int(each["name"].removeprefix("line ")) - 2]
        holds = run.predict(row[None]).values[0]
        told = [", ".join(np.array(names)[rows]) or "none" for rows in (row[:3] > 0, holds)]
        assert [each["is"], each["said"]] == told


def test_one_label(tmp_path: Path) -> None:
    y, later = ((x[:, 0] > 0).astype(int) for x in (X, LATER))
    said = {"outputs": {"out": {"loss": "binary_cross_entropy"}}}
    run, kept = trained(net("Dense: {units: 1, name: out}"), (X, y, LATER, later), tmp_path, **said)
    holds, words = run.predict(LATER).values, ("false", "true")
    for each in kept["worst"]:
        row = int(each["name"].removeprefix("item "))
        assert (each["is"], each["said"]) == (words[later[row]], words[int(holds[row])])


def test_labels_of_steps(tmp_path: Path) -> None:
    x, more = (draws.standard_normal((count, 3, 4)).astype(np.float32) for count in (40, 30))
    y, later = ((each[:, :, :2] > 0).astype(int) for each in (x, more))
    said = {"outputs": {"out": {"loss": "binary_cross_entropy"}}}
    run, kept = trained(net("Dense: {units: 2, name: out}", "[3, 4]"), (x, y, more, later), tmp_path, **said)
    row = int(kept["worst"][0]["name"].removeprefix("item "))
    wrong = int((run.predict(more).values[row] != later[row]).sum())
    assert (kept["worst"][0]["is"], kept["worst"][0]["said"]) == ("6 labels", f"{wrong} wrong")


def test_steps_that_do_not_count(tmp_path: Path) -> None:
    x, more = (draws.standard_normal((count, 5, 4)).astype(np.float32) for count in (40, 30))
    y, later = ((each[:, :, 0] > 0).astype(int) for each in (x, more))
    y[:, 4] = later[:, 4] = -1
    later[3, 1:] = -1
    spec = net("Dense: {units: 2, name: out}", "[5, 4]")
    run, kept = trained(spec, (x, y, more, later), tmp_path, outputs={"out": {"ignore_index": -1}})
    shares = run.predict(more).probabilities
    assert shares is not None
    counts = later >= 0
    assert_calibrated(kept, shares.max(-1)[counts], (shares.argmax(-1) == later)[counts])
    assert kept["confusion"]["counts"] == confusion_matrix(later[counts], shares.argmax(-1)[counts]).tolist()
    own = np.take_along_axis(shares, np.maximum(later, 0)[..., None], -1)[..., 0]
    losses = (-np.log(own) * counts).sum(1) / counts.sum(1)
    assert_worst(kept, losses)
    row = int(kept["worst"][0]["name"].removeprefix("item "))
    wrong = int(((shares.argmax(-1) != later) & counts)[row].sum())
    assert (kept["worst"][0]["is"], kept["worst"][0]["said"]) == (f"{counts[row].sum()} places", f"{wrong} wrong")


@pytest.mark.parametrize("units", [1, 2])
def test_quantities(units: int, tmp_path: Path) -> None:
    """They have no calibration; the loss of each is the mean over its numbers."""
    y, later = (x[:, :units] * 2 for x in (X, LATER))
    run, kept = trained(net(f"Dense: {units}"), (X, y, LATER, later), tmp_path)
    assert kept["calibration"] is None
    said = run.predict(LATER).values.reshape(60, units)
    losses = ((said - later) ** 2).mean(1)
    assert_worst(kept, losses)
    row = int(kept["worst"][0]["name"].removeprefix("item "))
    told = (f"{later[row, 0]:.4g}", f"{said[row, 0]:.4g}") if units == 1 else (
        "2 numbers", f"off by {np.sqrt(losses[row]):.4g}"
    )  # fmt: skip
    assert (kept["worst"][0]["is"], kept["worst"][0]["said"]) == told


def own_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output - target.reshape(output.shape)).square().mean()


def test_a_loss_that_does_not_tell_examples_apart_names_none(tmp_path: Path) -> None:
    outputs = {"out": {"loss": f"{__name__}:own_loss"}}
    _, kept = trained(net("Dense: {units: 1, name: out}"), (X, X[:, 0], LATER, LATER[:, 0]), tmp_path, outputs=outputs)
    assert kept["worst"] == []


# -- names -------------------------------------------------------------------------------------------------------------


def test_examples_that_weigh_nothing_are_not_the_worst(tmp_path: Path) -> None:
    """They count for nothing, however large their loss is."""
    weights = np.where(np.arange(60) % 2, 0.0, 0.5).astype(np.float32)
    goals = LATER[:, :1] + np.where(weights[:, None], 0, 100).astype(np.float32)
    run, kept = trained(net("Dense: 1"), (X, X[:, :1], np.ones(80), LATER, goals, weights), tmp_path)
    losses = np.square(run.predict(LATER).values - goals[:, 0])
    rows = np.flatnonzero(weights)
    order = rows[np.argsort(-losses[rows], kind="stable")[:12]]
    assert [each["name"] for each in kept["worst"]] == [f"item {row}" for row in order]


def test_lines_of_a_table(tmp_path: Path) -> None:
    """The number of the line in the file, under its head; also of a fifth that is held out."""
    y = np.arange(80)
    rows = "".join(f"{','.join(f'{each:.6f}' for each in x)},{goal}.5\n" for x, goal in zip(X, y, strict=True))
    (tmp_path / "table.csv").write_text(f"a,b,c,d,y\n{rows}")
    _, kept = trained(net("Dense: 1"), str(tmp_path / "table.csv"), tmp_path, lr=1e-9, epochs=1)
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert len(kept["worst"]) == 12
    for each in kept["worst"]:
        number = int(each["name"].removeprefix("line "))
        assert float(lines[number - 1].rpartition(",")[2]) == pytest.approx(float(each["is"]))


def test_files_of_images(tmp_path: Path) -> None:
    from PIL import Image

    for name, colour in (("dark", 20), ("light", 230)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (4, 4), colour + number).save(tmp_path / "images" / name / f"{number}.png")
    spec = net("Flatten, {Dense: 2}", "[1, 4, 4]")
    _, kept = trained(spec, str(tmp_path / "images"), tmp_path)
    assert len(kept["worst"]) == 4
    for each in kept["worst"]:
        assert (tmp_path / "images" / each["name"]).exists()
        assert each["name"].startswith(f"{each['is']}/")


def test_items_of_a_dataset_and_of_a_stream(tmp_path: Path) -> None:
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(LATER), torch.from_numpy(classes(LATER)))
    _, kept = trained(net("Dense: 3"), dataset, tmp_path)
    for each in kept["worst"]:
        assert str(int(dataset[int(each["name"].removeprefix("item "))][1])) == each["is"]
    assert kept["data"] is None
    loader = torch.utils.data.DataLoader(dataset, batch_size=20)
    _, kept = trained(net("Dense: 3"), (loader, loader), tmp_path / "stream")
    assert kept["worst"] == []
    assert sum(kept["calibration"]["counts"]) == 60


def test_data_are_told_apart_however_they_are_divided(tmp_path: Path) -> None:
    digests = []
    for number, (x, seed) in enumerate(((X, 0), (X, 1), (LATER, 0))):
        _, kept = trained(net("Dense: 3"), (x, classes(x)), tmp_path / str(number), seed=seed, epochs=1)
        digests.append(kept["data"])
    assert digests[0] == digests[1] != digests[2]
    halves = [InMemory((), (torch.tensor(each),)) for each in ([1.0, 3.0], [2.0])]
    assert digest(Data(*halves, ())) == digest(Data(*halves[::-1], ()))
