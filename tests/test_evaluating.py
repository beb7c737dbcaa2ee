"""How well a trained model does: figures by torch, scikit-learn and closed forms; and the commands that use a run."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from sklearn import metrics
from torch.nn import functional as F

import regspec
from regspec.training.runs.evaluating import Evaluation

from .commands import command

GENERATOR = np.random.default_rng(1)
X = GENERATOR.standard_normal((60, 3)).astype(np.float32)
WORDS = np.where(X[:, 0] + 0.3 * X[:, 1] > 0.5, "high", np.where(X[:, 1] > 0, "low", "middle"))
DENSE = """\
regspec: 1
inputs: {x: {shape: [3]}}
layers: [{Dense: {name: out, units: %d, kernel_regularizer: {l2: 1e-2}}}]
"""
TAGGER = """\
regspec: 1
inputs: {word: {shape: [5], dtype: int64}}
layers: [{Embedding: {input_dim: 7, output_dim: 4}}, {Dense: {name: out, units: 3}}]
"""
TAGGED = GENERATOR.integers(0, 7, (60, 5))
TAGS = np.where(TAGGED == 0, -1, TAGGED % 3)


def trained(folder: Path, spec: str, data: Any, name: str = "run", **more: Any) -> regspec.Run:
    options = {"epochs": 6, "lr": 0.05, "batch_size": 16, **more}
    return regspec.train(spec, data, folder=folder / name, quiet=True, **options)


def outputs(run: regspec.Run, x: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return run.model(torch.tensor(x))


# -- figures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"outputs": {"out": {"class_weights": "balanced", "weight": 2.0}}}])
def test_what_the_run_held_out(options: dict[str, Any], tmp_path: Path) -> None:
    """The losses and the accuracy are those that the best epoch had in training, whatever the weights of classes."""
    run = trained(tmp_path, DENSE.replace("[3]", "[13]") % 3, "wine", **options)
    for each in (run, regspec.load_run(run.folder)):
        found = each.evaluate()
        assert found.examples == 36
        assert found.outputs["out"].loss == pytest.approx(run.metrics["held_out_loss"], rel=1e-5)
        assert found.loss == pytest.approx(run.metrics["held_out_loss"] * (2 if options else 1), rel=1e-5)
        assert found.outputs["out"].metrics["accuracy"] == pytest.approx(run.metrics["held_out_accuracy"])


def test_classes(tmp_path: Path) -> None:
    run = trained(tmp_path, DENSE % 3, (X, WORDS))
    figures = run.evaluate((X, WORDS)).outputs["out"]
    scores = outputs(run, X)
    names = ["high", "low", "middle"]
    numbers = np.searchsorted(names, WORDS)
    said = scores.argmax(1).numpy()
    assert figures.loss == pytest.approx(F.cross_entropy(scores, torch.tensor(numbers)).item(), rel=1e-5)
    assert figures.metrics == {"accuracy": pytest.approx(np.mean(said == numbers))}
    counts = np.bincount(numbers)
    assert figures.baseline == {"accuracy": counts.max() / 60}
    assert figures.constant == names[counts.argmax()]
    for number, each in enumerate(figures.classes):
        hits = np.sum((said == number) & (numbers == number))
        assert (each.name, each.count) == (names[number], counts[number])
        assert each.recall == pytest.approx(hits / counts[number])
        assert each.precision == pytest.approx(hits / max(1, np.sum(said == number)))
    assert figures.confusion == tuple(
        tuple(int(np.sum((numbers == a) & (said == b))) for b in range(3)) for a in range(3)
    )
    assert figures.is_better == (figures.metrics["accuracy"] > figures.baseline["accuracy"])


def test_classes_of_places_that_count(tmp_path: Path) -> None:
    outputs_said = {"out": {"ignore_index": -1}}
    run = trained(tmp_path, TAGGER, (TAGGED, TAGS), outputs=outputs_said)
    figures = run.evaluate((TAGGED, TAGS)).outputs["out"]
    scores, counts = outputs(run, TAGGED), TAGS != -1
    assert figures.loss == pytest.approx(
        F.cross_entropy(scores.movedim(-1, 1), torch.tensor(TAGS), ignore_index=-1).item(), rel=1e-5
    )
    assert figures.metrics["accuracy"] == pytest.approx((scores.argmax(-1).numpy() == TAGS)[counts].mean())
    assert sum(each.count for each in figures.classes) == counts.sum()
    assert figures.baseline["accuracy"] == pytest.approx(np.bincount(TAGS[counts]).max() / counts.sum())


def test_no_place_counts(tmp_path: Path) -> None:
    run = trained(tmp_path, TAGGER, (TAGGED, TAGS), outputs={"out": {"ignore_index": -1}})
    with pytest.raises(regspec.RegspecError, match="the target of 'out' is -1 everywhere, which stands for no class"):
        run.evaluate((TAGGED, np.full_like(TAGS, -1)))


@pytest.mark.parametrize(
    ("loss", "part", "is_streamed"),
    [
        ("cross_entropy", "trained on", False),  # of a stream the first batch is refused
        ("cross_entropy", "held out", False),
        ("cross_entropy", "held out", True),
        ("dice", "held out", False),
    ],
)
def test_no_place_of_a_part_counts(loss: str, part: str, is_streamed: bool, tmp_path: Path) -> None:
    """Which is no matter of the learning rate."""
    none = np.full_like(TAGS, -1)
    given: Any = (TAGGED, none, TAGGED, TAGS) if part == "trained on" else (TAGGED, TAGS, TAGGED, none)
    if is_streamed:
        given = tuple(partial(iter, [pair]) for pair in (given[:2], given[2:]))
    with pytest.raises(regspec.RegspecError, match=f"the target of 'out' is -1 everywhere in what is {part}") as raised:
        trained(tmp_path, TAGGER, given, outputs={"out": {"ignore_index": -1, "loss": loss}})
    assert "--lr" not in str(raised.value)


def test_labels(tmp_path: Path) -> None:
    labels = (X > [0.0, 1.0, -1.0]).astype(int)
    run = trained(tmp_path, DENSE % 3, (X, labels))
    figures = run.evaluate((X, labels)).outputs["out"]
    said = outputs(run, X).numpy() > 0
    assert figures.metrics == {"accuracy": pytest.approx((said == labels).mean())}
    shares = labels.mean(0)
    assert figures.baseline == {"accuracy": pytest.approx(np.maximum(shares, 1 - shares).mean())}
    for place, each in enumerate(figures.classes):
        assert (each.name, each.count) == (str(place), labels[:, place].sum())
        assert each.recall == pytest.approx(metrics.recall_score(labels[:, place], said[:, place]))
        assert each.precision == pytest.approx(metrics.precision_score(labels[:, place], said[:, place]))


@pytest.mark.parametrize("units", [1, 3])
def test_quantities(units: int, tmp_path: Path) -> None:
    y = (X[:, :units] * 2 + 1).astype(np.float32)
    run = trained(tmp_path, DENSE % units, (X, y), outputs={"out": {"loss": "l1"}})
    figures = run.evaluate((X, y)).outputs["out"]
    errors, spread = outputs(run, X).numpy() - y, y.mean(0) - y
    assert figures.loss == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    expected = {"mae": np.abs(errors).mean(), "rmse": np.sqrt((errors**2).mean())}
    assert figures.metrics == pytest.approx({**expected, "r2": 1 - (errors**2).sum() / (spread**2).sum()}, rel=1e-4)
    expected = {"mae": np.abs(spread).mean(), "rmse": np.sqrt((spread**2).mean()), "r2": 0.0}
    assert figures.baseline == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert figures.constant == (pytest.approx(y.mean(), rel=1e-5) if units == 1 else None)


def test_a_word_is_the_class_that_it_was_in_training(tmp_path: Path) -> None:
    """Also where some classes are missing, come in another order, or are numbers that are words elsewhere."""
    run = trained(tmp_path, DENSE % 3, (X, WORDS))
    whole = {each.name: each for each in run.evaluate((X, WORDS)).outputs["out"].classes}
    for name in whole:
        rows = name == WORDS
        found = run.evaluate((X[rows], WORDS[rows])).outputs["out"]
        assert found.metrics["accuracy"] == pytest.approx(whole[name].recall)
    numbers = np.where(WORDS == "high", "10", np.where(WORDS == "low", "9", "x"))  # as words 10 comes before 9
    frame = pl.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "what": numbers})
    frame.write_csv(tmp_path / "train.csv")
    frame.filter(pl.col("what") != "x").write_csv(tmp_path / "test.csv")  # in which all are numbers
    run = trained(tmp_path, DENSE % 3, str(tmp_path / "train.csv"), "table")
    rows = numbers != "x"
    said = np.array(["10", "9", "x"])[outputs(run, X[rows]).argmax(1)]
    found = run.evaluate(tmp_path / "test.csv").outputs["out"]
    assert found.metrics["accuracy"] == pytest.approx((said == numbers[rows]).mean())


IRIS = DENSE.replace("[3]", "[4]") % 3
ROWS = np.ones((4, 4), np.float32)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            (ROWS, ["setosa", "rose", "setosa", "setosa"]),
            "has the class 'rose' for 'out', which was not there in training",
        ),
        ((ROWS, ["setosa", "versicolour", "setosa", "setosa"]), "did you mean 'versicolor'"),
        ((ROWS, [0, 1, 2, 0]), "has the class '0' .*\n.*it knows setosa, versicolor, virginica"),
        ((ROWS, [0.5, 1, 2, 0]), "has quantities for 'out', which has learned classes"),
        ((ROWS, np.zeros((4, 2), int)), "the model gives .*, but the target of 'data' is"),
        ((ROWS[:, :3], ["setosa"] * 4), r"gives \(batch, 3\) for 'x'"),
        ((ROWS[:0], np.zeros(0, "U3")), "has 0 examples"),
        ("nowhere.npz", "can't be read"),
    ],
)
def test_targets_that_training_did_not_have(data: Any, message: str, tmp_path: Path) -> None:
    run = trained(tmp_path, IRIS, "iris", epochs=1)
    with pytest.raises(regspec.RegspecError, match=message):
        run.evaluate(data)


@pytest.mark.parametrize(
    ("spec", "learned", "given", "message"),
    [
        (DENSE % 1, X[:, 0], np.full(60, "low"), "has 'low' for 'out', which has quantities"),
        (DENSE % 3, (X > 0).astype(int), np.full((60, 3), 2), "it has learned labels, 0 or 1"),
        (DENSE % 1, X[:, 0], 2 * X, r"the model gives \(batch, 1\), but the target of 'data' is \(batch, 3\)"),
        (DENSE % 3, np.arange(60) % 3, np.arange(60) % 4, "has the class '3' for 'out'"),
    ],
)
def test_targets_of_another_kind(spec: str, learned: Any, given: Any, message: str, tmp_path: Path) -> None:
    run = trained(tmp_path, spec, (X, learned), epochs=1)
    with pytest.raises(regspec.RegspecError, match=message):
        run.evaluate((X, given))


def test_whole_numbers_are_quantities_where_these_were_learned(tmp_path: Path) -> None:
    run = trained(tmp_path, DENSE % 1, (X, X[:, 0]), epochs=1)
    found = run.evaluate((X, np.arange(60))).outputs["out"]
    assert found.metrics["mae"] == pytest.approx(np.abs(outputs(run, X)[:, 0].numpy() - np.arange(60)).mean(), rel=1e-5)


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of two classes, most of which are one, and a run on it by the command."""
    folder = tmp_path_factory.mktemp("table")
    (folder / "net.yaml").write_text(f"name: net\n{DENSE % 2}")
    answers = np.where(np.arange(60) % 12 == 0, "yes", "no")  # 5 of 60
    frame = pl.DataFrame({"b": X[:, 0], "answer": answers, "a": X[:, 1], "c": X[:, 2]})
    frame.write_csv(folder / "data.csv")
    frame.select("c", pl.Series("id", [f"{row:03}" for row in range(60)]), "a", "b").write_csv(folder / "new.csv")
    done = command(
        "train", "net.yaml", "--data", "data.csv", "--target", "answer", "--epochs", "2", "-o", "run", cwd=folder
    )
    assert done.code == 0, done.output
    return folder


def test_no_better_than_the_most_frequent_class_is_said(table: Path) -> None:
    always = table / "always"
    run = regspec.load_run(table / "run")
    model: Any = run.model
    with torch.no_grad():
        model.out.weight.zero_()
        model.out.bias.copy_(torch.tensor([9.0, 0.0]))
    always.mkdir(exist_ok=True)
    for name in ("spec.yaml", "run.json", "metrics.csv"):
        (always / name).write_bytes((table / "run" / name).read_bytes())
    from regspec.training.runs.folder import Folder

    Folder(always).write_weights(model.state_dict(), epoch=1, steps=1)
    done = command("evaluate", "always", "--data", "data.csv", cwd=table)
    assert done.code == 0, done.output
    assert "91.7 % right, but always guessing 'no' gives 91.7 %" in done.stdout
    assert "60 examples of data.csv\n48 of them were trained on" in done.stdout
    matrix = [[cell.strip() for cell in line.strip("│").split("│")] for line in done.stdout.splitlines() if "│" in line]
    assert matrix == [["no", "91.7 %", "100 %", "55"], ["yes", "0 %", "0 %", "5"], ["no", "55", "·"], ["yes", "5", "·"]]


def test_evaluate_as_json(table: Path) -> None:
    run = regspec.load_run(table / "run")
    for arguments, data in ([["--data", "data.csv"], table / "data.csv"], [[], None]):
        done = command("evaluate", "run", "--format", "json", *arguments, cwd=table)
        told = json.loads(done.stdout)
        about = {name: told.pop(name) for name in ("run", "epoch", "data", "is_held_out")}
        assert about == {"run": "run", "epoch": run.metrics["epoch"], "data": "data.csv", "is_held_out": data is None}
        if data is not None:
            assert told == json.loads(json.dumps(run.evaluate(data).as_dict()))
        else:
            assert told["loss"] == pytest.approx(run.metrics["held_out_loss"])


def test_the_page_is_wide_enough_for_a_matrix_of_twenty_classes(tmp_path: Path) -> None:
    y = np.arange(200) % 20
    trained(tmp_path, DENSE % 20, (np.tile(X, (4, 1))[:200], y), epochs=1)
    np.savez(tmp_path / "data.npz", x=np.tile(X, (4, 1))[:200], y=y)
    done = command("evaluate", "run", "--data", "data.npz", cwd=tmp_path)
    assert done.code == 0, done.output
    assert "…" not in done.stdout
    (head,) = (line for line in done.stdout.splitlines() if "is / taken for" in line)
    assert [cell.strip() for cell in head.strip("┃").split("┃")[1:]] == [str(each) for each in range(20)]


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz"])
def test_predictions_beside_the_columns(ending: str, table: Path, tmp_path: Path) -> None:
    run = regspec.load_run(table / "run")
    path = tmp_path / f"out.{ending}"
    done = command("predict", "run", "--data", "new.csv", "-o", str(path), cwd=table)
    assert (done.code, done.stdout) == (0, f"{path}: 60 examples\n")
    said: Any = run.predict(X[:, [0, 1, 2]])
    if ending == "npz":
        with np.load(path) as file:
            assert file["out"].tolist() == said.values.tolist()
            assert file["out_classes"].tolist() == ["no", "yes"]
            np.testing.assert_allclose(file["out_probabilities"], said.probabilities, rtol=1e-5)
        return
    frame = pl.read_csv(path, infer_schema_length=None) if ending == "csv" else pl.read_parquet(path)
    assert frame.columns == ["c", "id", "a", "b", "prediction", "probability_no", "probability_yes"]
    np.testing.assert_allclose(frame["c"], X[:, 2], rtol=1e-5)
    assert frame["prediction"].to_list() == said.values.tolist()
    np.testing.assert_allclose(frame["probability_yes"], said.probabilities[:, 1], rtol=1e-5)
    assert frame["a"].dtype == pl.Float64
    if ending == "csv":
        assert path.read_text().splitlines()[1].split(",")[1] == "000"  # as it was written


def test_rows_on_the_screen(table: Path) -> None:
    done = command("predict", "run", "--data", "new.csv", cwd=table)
    assert done.code == 0, done.output
    assert all(f" 00{row} " in done.stdout for row in range(10))
    assert " 010 " not in done.stdout
    assert "the first 10 of 60; -o predictions.csv writes all" in done.stdout


def test_images(tmp_path: Path) -> None:
    """Of a folder with classes, or of one without; each stands beside its file."""
    for name, shade in (("dark", 20), ("light", 220)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            Image.fromarray(np.full((4, 4), shade + number, np.uint8)).save(tmp_path / f"images/{name}/{number}.png")
    (tmp_path / "new").mkdir()
    (tmp_path / "images/light/3.png").rename(tmp_path / "new/b.png")
    (tmp_path / "images/dark/3.png").rename(tmp_path / "new/a.png")
    spec = "regspec: 1\ninputs: {x: {shape: [1, 4, 4]}}\nlayers: [Flatten, {Dense: {name: out, units: 2}}]\n"
    run = trained(tmp_path, spec, str(tmp_path / "images"), epochs=40)
    assert command("predict", "run", "--data", "new", "-o", "out.csv", cwd=tmp_path).code == 0
    frame = pl.read_csv(tmp_path / "out.csv")
    assert dict(zip(frame["file"], frame["prediction"], strict=True)) == {"new/a.png": "dark", "new/b.png": "light"}
    assert run.evaluate(tmp_path / "images").outputs["out"].metrics == {"accuracy": 1.0}
    (tmp_path / "images/dark").rename(tmp_path / "images/gloomy")
    with pytest.raises(regspec.RegspecError, match="has the class 'gloomy'"):
        run.evaluate(tmp_path / "images")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("predict run --data new.csv -o out.xlsx", "out.xlsx: error: is no .csv, .parquet or .npz file"),
        ("predict run --data new.csv -o new.csv", "new.csv: error: is there already, and holds something else"),
        ("predict run --data clash.csv -o out.csv", "clash.csv: error: has a column 'prediction' already"),
        ("predict run --data short.csv", "short.csv: error: has no column 'b', which the data to train on have"),
        ("predict run --data words.csv", "has 'many', which is no number, in line 2"),
        ("predict run --data nowhere.csv", "nowhere.csv: error: can't be read"),
        ("predict nothing --data new.csv", "nothing: error: is no run's folder"),
        (
            "predict run --data flat/a.png",
            "'flat/a.png' is no data\n   = images are taken from a folder: --data flat",
        ),
        (
            "predict folds --data new.csv",
            "folds: error: is a folder of folds, each of which is a run of its own\n   = one of them",
        ),
        ("evaluate folds", "folds.json: error: is damaged: it says nothing of folds"),
        ("evaluate nothing", "nothing: error: is no run's folder"),
        ("evaluate run --data new.csv", "new.csv: error: has no column 'answer', which the data to train on have"),
        ("evaluate run --data other.csv", "has the class 'maybe' for 'out', which was not there in training"),
    ],
)
def test_faults_of_the_commands(arguments: str, message: str, table: Path) -> None:
    (table / "clash.csv").write_text("prediction,a,b,c\n1,2,3,4\n")
    (table / "short.csv").write_text("a,c\n2,4\n")
    (table / "words.csv").write_text("a,b,c\nmany,2,4\n")
    (table / "other.csv").write_text("a,b,c,answer\n1,2,4,maybe\n")
    for name in ("flat/a.png", "folds/folds.json"):
        (table / name).parent.mkdir(exist_ok=True)
        (table / name).write_text("{}")
    before = (table / "new.csv").read_bytes()
    done = command(*arguments.split(), cwd=table)
    assert done.code == 1
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert (table / "new.csv").read_bytes() == before
    assert not (table / "out.csv").exists()


def test_outputs_with_places_have_no_columns(tmp_path: Path) -> None:
    trained(tmp_path, TAGGER, (TAGGED, TAGS), outputs={"out": {"ignore_index": -1}})
    np.savez(tmp_path / "new.npz", word=TAGGED)
    done = command("predict", "run", "--data", "new.npz", cwd=tmp_path)
    assert (done.code, "'out' gives 5 values an example, and no columns" in done.stderr) == (1, True)
    assert command("predict", "run", "--data", "new.npz", "-o", "out.npz", cwd=tmp_path).code == 0
    with np.load(tmp_path / "out.npz") as file:
        assert file["out"].shape == (60, 5)


def test_an_evaluation_is_plain_data(tmp_path: Path) -> None:
    found = trained(tmp_path, DENSE % 3, (X, X), epochs=1).evaluate((X, X))
    assert isinstance(found, Evaluation)
    assert json.loads(json.dumps(found.as_dict()))["outputs"]["out"]["kind"] == "quantities"


def test_one_example_has_no_variance(tmp_path: Path) -> None:
    """A metric that is of one is told of no number in the epochs, and left out of an evaluation."""
    y = X[:, :1]
    options: dict[str, Any] = {"outputs": {"out": {"metrics": ["r2", "mae"]}}}
    run = trained(tmp_path, DENSE % 1, (X, y, X[:1], y[:1]), **options)
    assert np.isnan(run.history["held_out_r2"]).all()
    assert np.isfinite(run.history["held_out_mae"]).all()
    assert run.evaluate((X[:1], y[:1])).outputs["out"].metrics.keys() == {"mae", "rmse"}


@pytest.mark.parametrize("name", ["file", "allow_pickle", "args"])
def test_arrays_of_an_output_that_is_called_as_an_argument_of_numpys(name: str, tmp_path: Path) -> None:
    run = trained(tmp_path, DENSE.replace("out", name) % 3, (X, WORDS), epochs=1)
    np.savez(tmp_path / "new.npz", x=X)
    assert command("predict", "run", "--data", "new.npz", "-o", "out.npz", cwd=tmp_path).code == 0
    with np.load(tmp_path / "out.npz") as file:
        found = dict(file)
    assert found.keys() == {name, f"{name}_probabilities", f"{name}_classes"}
    assert (found[name] == run.predict(X).values).all()


SORTS: dict[str, tuple[Any, np.ndarray, Any]] = {
    "words": (pl.String, np.array(["high", "low", "middle"]), WORDS),
    "whole numbers": (pl.Int64, np.arange(3), np.arange(60) % 3),
    "small whole numbers": (pl.Int64, np.arange(3), (np.arange(60) % 3).astype(np.uint8)),
    "booleans": (pl.Boolean, np.array([False, True]), X[:, 0] > 0),
}


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npz"])
@pytest.mark.parametrize("sort", SORTS)
def test_classes_come_back_as_the_target_had_them(sort: str, ending: str, tmp_path: Path) -> None:
    """From a run that is loaded again, in memory and in files."""
    dtype, classes, y = SORTS[sort]
    regspec.train(DENSE % len(classes), (X, y), folder=tmp_path / "run", epochs=1, quiet=True)
    run = regspec.load_run(tmp_path / "run")
    said: Any = run.predict(X)
    assert (said.values.dtype, said.classes) == (classes.dtype, tuple(classes.tolist()))
    with torch.no_grad():
        right = classes[run.model(torch.tensor(X)).argmax(1).numpy()]
    assert (said.values == right).all()
    np.savez(tmp_path / "new.npz", x=X)
    path = tmp_path / f"out{ending}"
    assert command("predict", "run", "--data", "new.npz", "-o", str(path), cwd=tmp_path).code == 0
    if ending == ".npz":
        with np.load(path) as file:
            assert (file["out"].dtype, file["out_classes"].dtype) == (classes.dtype, classes.dtype)
            assert (file["out"] == right).all()
            assert (file["out_classes"] == classes).all()
        return
    frame = pl.read_csv(path) if ending == ".csv" else pl.read_parquet(path)
    assert frame["prediction"].dtype == dtype
    assert frame["prediction"].to_list() == right.tolist()
    assert frame.columns[1:] == [f"probability_{str(each).lower()}" for each in classes]
    assert run.evaluate((X, y)).outputs["out"].metrics["accuracy"] == pytest.approx((right == y).mean())


def test_a_bundled_set_of_numbers_and_runs_of_older_versions(tmp_path: Path) -> None:
    """An older run does not say what its classes were: they are the words that it gave."""
    spec = "regspec: 1\ninputs: {x: {shape: [64]}}\nlayers: [{Dense: {name: out, units: 10}}]\n"
    run = trained(tmp_path, spec, "digits", epochs=1)
    x = np.random.default_rng(0).random((5, 64)).astype(np.float32)
    said: Any = run.predict(x)
    assert said.values.dtype == np.int64
    facts = json.loads((run.folder / "run.json").read_text())
    assert facts["outputs"]["out"].pop("sort") == "numbers"
    (run.folder / "run.json").write_text(json.dumps(facts))
    old = regspec.load_run(run.folder)
    before: Any = old.predict(x)
    assert before.values.tolist() == [str(each) for each in said.values]
    assert old.evaluate().loss == pytest.approx(run.evaluate().loss)
    with pytest.raises(regspec.RegspecError, match="the last layer needs 10 units"):
        trained(tmp_path, spec.replace("units: 10", "units: 12"), "digits", "wide")
