"""What was trained is used from Python: `regspec.train` on data of any form, `regspec.load_run`, and predictions."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file
from torch.nn import functional as F

import regspec
from regspec.training.loop import run as running
from regspec.training.options.options import Options
from regspec.training.runs.predicting import MOST

GENERATOR = np.random.default_rng(0)
X = GENERATOR.standard_normal((40, 3)).astype(np.float32)
PRICE = (X @ GENERATOR.standard_normal(3)).astype(np.float32)
WORDS = np.where(X[:, 0] > 0.5, "high", np.where(X[:, 1] > 0, "low", "middle"))
KINDS = np.unique(WORDS, return_inverse=True)[1]
NET = """\
regspec: 1
name: net
parameters: {width: 5}
inputs: {x: {shape: [3]}}
layers:
  - Dense: {name: hidden, units: $width, activation: tanh, kernel_regularizer: {l2: 1e-2}}
  - Dropout: 0.5
  - Dense: {name: kind, units: 3}
"""
TWO = NET + "  - Dense: {name: price, units: 1, inputs: hidden}\noutputs: [kind, price]\n"
OPTIONS: dict[str, Any] = {"epochs": 2, "lr": 0.05, "batch_size": 8}


class Frame:
    """Stands in for a frame of pandas: columns by name, words as objects."""

    def __init__(self, **columns: Any) -> None:
        self.own = {
            name: np.asarray(each, object if each.dtype.kind == "U" else None) for name, each in columns.items()
        }

    columns = property(lambda self: [*self.own])
    __getitem__ = lambda self, name: self.own[name]  # noqa: E731
    __dataframe__ = None


def quiet() -> Console:
    return Console(file=io.StringIO())


def columns() -> dict[str, Any]:
    return {"b": X[:, 0], "a": X[:, 1], "kind": WORDS, "c": X[:, 2]}


def trained(folder: Path, spec: Any = NET, data: Any = (X, WORDS), name: str = "run", **more: Any) -> regspec.Run:
    return regspec.train(spec, data, folder=folder / name, quiet=True, **{**OPTIONS, **more})


def weights(run: regspec.Run) -> dict[str, torch.Tensor]:
    return load_file(run.folder / "weights.safetensors")


# -- training ----------------------------------------------------------------------------------------------------------

DATA: dict[str, Callable[[], Any]] = {
    "a list": lambda: [X.tolist(), WORDS.tolist()],
    "numbers of classes": lambda: (X, KINDS),
    "tensors": lambda: (torch.tensor(X), torch.tensor(KINDS)),
    "inputs and targets by name": lambda: ({"x": X}, {"kind": WORDS}),
    "a mapping": lambda: {"x": X, "kind": WORDS},
    "x and y": lambda: {"x": X, "y": WORDS},
    "a frame": lambda: pl.DataFrame(columns()),
    "a frame and a series": lambda: (pl.DataFrame(columns()).drop("kind"), pl.Series(WORDS)),
    "two frames": lambda: (pl.DataFrame(columns()).drop("kind"), pl.DataFrame({"what": WORDS})),
    "another library's frame": lambda: Frame(**columns()),
    "another library's and its series": lambda: (Frame(b=X[:, 0], a=X[:, 1], c=X[:, 2]), WORDS.astype(object)),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of a run of the command's, on a file."""
    folder = tmp_path_factory.mktemp("expected")
    (folder / "net.yaml").write_text(NET)
    np.savez(folder / "data.npz", x=X, y=WORDS)
    options = Options(data=str(folder / "data.npz"), **OPTIONS)
    return weights(running.train(folder / "net.yaml", options, folder / "run", console=quiet()))


@pytest.mark.parametrize("form", DATA)
def test_data_of_every_form(form: str, expected: dict[str, torch.Tensor], tmp_path: Path) -> None:
    run = trained(tmp_path, data=DATA[form]())
    torch.testing.assert_close(weights(run), expected, rtol=0, atol=0)


@pytest.mark.parametrize("form", ["path", "path as text", "text", "mapping", "spec"])
def test_specs_of_every_form(form: str, expected: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """The run's folder has the spec, with the values that its parameters had."""
    path = tmp_path / "net.yaml"
    path.write_text(NET)
    forms = {"path": path, "path as text": str(path), "text": NET, "mapping": yaml.safe_load(NET)}
    given: Any = forms.get(form, regspec.loads(NET))
    torch.testing.assert_close(weights(trained(tmp_path, given)), expected, rtol=0, atol=0)
    wide = trained(tmp_path, given, name="wide", parameters={"width": 7})
    assert regspec.load(wide.folder / "spec.yaml").parameters == {"width": 7}
    assert regspec.load_run(wide.folder).model.hidden.weight.shape == (7, 3)


def test_a_spec_with_a_block_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is copied into the run's folder, also where the spec has been loaded before."""
    head, layers = "regspec: 1\ninputs: {x: {shape: [3]}}\n", "layers: [tower, {Dense: {units: 3}}]\n"
    (tmp_path / "tower.yaml").write_text(f"{head}layers: [{{Dense: {{units: 4}}}}]\n")
    (tmp_path / "net.yaml").write_text(f"{head}blocks: {{tower: {{file: tower.yaml}}}}\n{layers}")
    monkeypatch.chdir("/")
    run = trained(tmp_path, regspec.load(tmp_path / "net.yaml"))
    assert (run.folder / "tower.yaml").exists()
    assert len(regspec.load_run(run.folder).predict(X)) == 40


def test_held_out_data_and_what_outputs_learn(tmp_path: Path) -> None:
    """As the command line says it; the held-out pair is evaluated."""
    (tmp_path / "net.yaml").write_text(TWO)
    np.savez(tmp_path / "data.npz", x=X, kind=KINDS, price=PRICE)
    texts = ("price.loss=huber", "price.delta=0.5", "price.weight=0.3", "kind.class_weights=balanced")
    options = Options(data=str(tmp_path / "data.npz"), outputs=texts, **OPTIONS)
    command = running.train(tmp_path / "net.yaml", options, tmp_path / "command", console=quiet())
    outputs = {"price": {"loss": "huber", "delta": 0.5, "weight": 0.3}, "kind": {"class_weights": "balanced"}}
    run = trained(tmp_path, TWO, {"x": X, "kind": KINDS, "price": PRICE}, outputs=outputs)
    torch.testing.assert_close(weights(run), weights(command), rtol=0, atol=0)
    pair = trained(tmp_path, TWO, (X, [KINDS, PRICE], X[:9], [KINDS[:9], PRICE[:9]]), "pair", outputs=outputs)
    losses = pair.evaluate((X[:9], [KINDS[:9], PRICE[:9]]))
    assert losses.loss == pytest.approx(pair.metrics["held_out_loss"], rel=1e-5)
    assert losses.outputs["kind"].loss == pytest.approx(pair.metrics["held_out_loss/kind"], rel=1e-5)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((X, WORDS), {"epoch": 3}, "did you mean 'epochs'"),
        ((X, WORDS), {"lr": "fast"}, "must be a number, but is 'fast'"),
        ((X, WORDS), {"epochs": 0}, "must be at least 1, but is 0"),
        ((X, WORDS), {"outputs": {"kind": {"loss": "hinje"}}}, "'hinje' is no loss"),
        ((X, WORDS), {"outputs": {"kin": {}}}, "did you mean 'kind'"),
        ((X, WORDS), {"parameters": {"widht": 3}}, "did you mean 'width'"),
        ((X[:, :2], WORDS), {}, r"'data' gives \(batch, 2\) for 'x', but the spec takes \(batch, 3\)"),
        ((X, WORDS[:9]), {}, "unequal numbers of examples: 40 for x, 9 for the target"),
        ((X, WORDS, X, WORDS, X), {}, "'data' is tuple, and no data to train on"),
        (7, {}, "'data' is int, and no data to train on"),
        ({"x": X}, {}, "'data' has no array 'y'"),
        (
            pl.DataFrame({"a": [1.0, None], "b": [1, 2], "c": [3, 4], "k": ["u", "v"]}),
            {},
            "column 'a' has no value in row 2",
        ),
        ("nowhere.csv", {}, "can't be read"),
        ("dgits", {}, "did you mean 'digits'"),
    ],
)
def test_faults_of_a_training(data: Any, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        trained(tmp_path, data=data, **options)
    assert not (tmp_path / "run").exists()


def test_a_run_on_data_in_memory_is_not_resumed(tmp_path: Path) -> None:
    run = trained(tmp_path)
    loaded = regspec.load_run(run.folder)
    for use in (lambda: running.resume(run.folder, {"epochs": 9}), loaded.evaluate):
        with pytest.raises(regspec.RegspecError, match="trained on data in memory, which its folder does not keep"):
            use()
    with pytest.raises(regspec.RegspecError, match=r"say what to evaluate: run\.evaluate\(\(x, y\)\)"):
        loaded.evaluate()


@pytest.mark.parametrize("form", ["arrays", "a frame", "a dataset", "a loader", "weighted", "held out", "folds"])
def test_what_a_run_in_memory_held_out(form: str, tmp_path: Path) -> None:
    """The run that has just been trained has it still: its figures are those of the best epoch, and of plain torch."""
    data: Any = (X, KINDS)
    more: dict[str, Any] = {}
    if form == "a frame":
        data = pl.DataFrame({**{name: X[:, place] for place, name in enumerate("abc")}, "kind": KINDS})
    elif form == "a dataset":
        data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(KINDS))
    elif form == "a loader":
        whole = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(KINDS))
        data = (torch.utils.data.DataLoader(whole, batch_size=8), torch.utils.data.DataLoader(whole, batch_size=8))
    elif form == "weighted":
        more = {"sample_weight": np.linspace(1, 2, 40, dtype=np.float32)}
    elif form == "held out":
        data = (X[:30], KINDS[:30], X[30:], KINDS[30:])
    elif form == "folds":
        more = {"folds": 2}
    made: Any = trained(tmp_path, data=data, **more)
    for run in made.runs if form == "folds" else [made]:
        found = run.evaluate()
        assert found.examples == {"a loader": 40, "held out": 10, "folds": 20}.get(form, 8)
        assert found.loss == pytest.approx(run.metrics["held_out_loss"], rel=1e-5)
        assert found.outputs["kind"].metrics["accuracy"] == pytest.approx(run.metrics["held_out_accuracy"])
        assert list(run.folder.glob("*.np*")) == []
    if form == "held out":
        with torch.no_grad():
            loss = F.cross_entropy(made.model(torch.tensor(X[30:])), torch.tensor(KINDS[30:]))
        assert found.loss == pytest.approx(loss.item(), rel=1e-5)


def test_ctrl_c_is_what_python_has_it_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise SystemExit(130)

    monkeypatch.setattr(running, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path)


# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_run_is_loaded_as_it_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = trained(tmp_path, epochs=4)
    run = regspec.load_run(str(made.folder))
    assert capsys.readouterr().out == ""
    torch.testing.assert_close(run.model.state_dict(), made.model.state_dict(), rtol=0, atol=0)
    assert not run.model.training
    assert run.metrics == made.metrics
    assert run.spec.name == "net"
    losses = run.history["held_out_loss"]
    assert len(losses) == 4
    assert min(losses) == run.metrics["held_out_loss"]
    assert pl.DataFrame(run.history)["epoch"].to_list() == [1, 2, 3, 4]
    np.testing.assert_array_equal(run.predict(X).probabilities, made.predict(X).probabilities)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", None, "is no run's folder"),
        ("run.json", b"[]", "is damaged"),
        ("weights.safetensors", None, "no epoch of this run is done yet"),
        ("weights.safetensors", b"PK", "can't be read"),
        ("spec.yaml", NET.replace("units: 3", "units: 4").encode(), "are not those of the spec: .* size mismatch"),
        ("spec.yaml", None, "can't be read"),
        ("metrics.csv", b"epoch,held_out_loss\n9,1.0\n", "has no epoch"),
    ],
)
def test_folders_that_are_broken(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    run = trained(tmp_path)
    (run.folder / name).unlink()
    if content is not None:
        (run.folder / name).write_bytes(content)
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.load_run(run.folder)


# -- predictions -------------------------------------------------------------------------------------------------------

DENSE = "regspec: 1\ninputs: {x: {shape: [3]}}\nlayers:\n  - Dense: {name: out, units: %d, activation: %s}\n"
LABELS = (X > 0).astype(np.int64)
SHARES = np.exp(X) / np.exp(X).sum(1, keepdims=True)
COUNTS = np.abs(PRICE).round()
IMAGES = GENERATOR.random((40, 2, 4, 5)).astype(np.float32)
PIXELS = (IMAGES[:, 0] > IMAGES[:, 1]).astype(np.int64) + (IMAGES[:, 0] > 0.7)
SEGMENTING = (
    "regspec: 1\ninputs: {x: {shape: [2, 4, 5]}}\nlayers:\n  - Conv2D: {name: out, filters: 3, kernel_size: 1}\n"
)


def both(share: torch.Tensor) -> torch.Tensor:
    return torch.cat([1 - share, share], 1)


SAID: dict[str, tuple[str, Any, Any, str | None, Callable[[torch.Tensor], torch.Tensor]]] = {
    "classes by scores": (DENSE % (3, "linear"), X, WORDS, None, lambda out: out.softmax(1)),
    "classes by probabilities": (DENSE % (3, "softmax"), X, WORDS, None, lambda out: out),
    "classes by logarithms": (DENSE % (3, "log_softmax"), X, WORDS, "nll", torch.exp),
    "two classes by a score": (DENSE % (1, "linear"), X, X[:, 0] > 0, None, lambda out: both(out.sigmoid())),
    "two classes by a probability": (DENSE % (1, "sigmoid"), X, X[:, 0] > 0, None, both),
    "a class of each pixel": (SEGMENTING, IMAGES, PIXELS, None, lambda out: out.softmax(1).movedim(1, -1)),
    "labels by scores": (DENSE % (3, "linear"), X, LABELS, None, torch.sigmoid),
    "labels by probabilities": (DENSE % (3, "sigmoid"), X, LABELS, None, lambda out: out),
    "labels by hinge": (DENSE % (3, "linear"), X, LABELS, "hinge", lambda out: out),
    "a quantity": (DENSE % (1, "linear"), X, PRICE, None, lambda out: out[:, 0]),
    "quantities": (DENSE % (3, "linear"), X, X, "l1", lambda out: out),
    "shares of classes": (DENSE % (3, "linear"), X, SHARES, "cross_entropy", lambda out: out.softmax(1)),
    "probabilities": (DENSE % (3, "linear"), X, SHARES, "binary_cross_entropy", torch.sigmoid),
    "counts by their logarithm": (DENSE % (1, "linear"), X, COUNTS, "poisson_nll", lambda out: out[:, 0].exp()),
    "counts": (DENSE % (1, "softplus"), X, COUNTS, "poisson", lambda out: out[:, 0]),
}


@pytest.mark.parametrize("case", SAID)
def test_predictions_are_those_of_the_model(case: str, tmp_path: Path) -> None:
    spec, x, y, loss, wanted = SAID[case]
    run = trained(tmp_path, spec, (x, y), outputs={"out": {"loss": loss}} if loss else None)
    said = run.predict(x)
    assert isinstance(said, regspec.Prediction)
    with torch.no_grad():
        right = wanted(run.model(torch.tensor(x))).numpy()
    if said.kind == "classes":
        names = np.array(said.classes)
        assert said.classes == tuple(np.unique(y).tolist())
        assert said.values.dtype.kind == y.dtype.kind
        np.testing.assert_array_equal(said.values, names[right.argmax(-1)])
    elif said.kind == "labels":
        np.testing.assert_array_equal(said.values, right > (0 if loss == "hinge" else 0.5))
    else:
        np.testing.assert_allclose(said.values, right, rtol=1e-5)
    if said.kind == "quantities" or loss == "hinge":
        assert said.probabilities is None
    else:
        np.testing.assert_allclose(said.probabilities, right, rtol=1e-5)


@pytest.mark.parametrize(
    ("activation", "from_logits", "wanted"),
    [("linear", False, lambda out: out), ("softmax", True, lambda out: out.softmax(1))],
)
def test_what_is_said_of_an_output_is_what_it_gives(
    activation: str, from_logits: bool, wanted: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    """A score or a probability, whatever the last layer is; the loss reads it so, too."""
    run = trained(tmp_path, DENSE % (3, activation), (X, WORDS), outputs={"out": {"from_logits": from_logits}})
    said = run.predict(X)
    assert isinstance(said, regspec.Prediction)
    with torch.no_grad():
        out = run.model(torch.tensor(X))
    np.testing.assert_allclose(said.probabilities, wanted(out).numpy(), rtol=1e-5)
    scores = out if from_logits else out.clamp_min(1e-7).log()
    target = torch.tensor(np.unique(WORDS, return_inverse=True)[1])
    figure = run.evaluate((X, WORDS)).outputs["out"].loss
    assert figure == pytest.approx(F.cross_entropy(scores, target).item(), rel=1e-5)


def test_many_examples_keep_their_order(tmp_path: Path) -> None:
    """In batches, without gradients, and in evaluation mode whatever the model's is."""
    run = trained(tmp_path)
    x = GENERATOR.standard_normal((2 * MOST + 3, 3)).astype(np.float32)
    with torch.no_grad():
        expected = F.softmax(run.model(torch.tensor(x)), 1).numpy()
    run.model.train()
    said = run.predict(x)
    assert run.model.training
    np.testing.assert_allclose(said.probabilities, expected, rtol=1e-5, atol=1e-7)
    assert len(said) == len(x)
    with pytest.raises(regspec.RegspecError, match="there are no examples"):
        run.predict(x[:0])


def test_several_outputs_by_their_names(tmp_path: Path) -> None:
    run = trained(tmp_path, TWO, {"x": X, "kind": KINDS, "price": PRICE})
    said = run.predict({"x": X})
    assert isinstance(said, dict)
    assert {name: each.values.shape for name, each in said.items()} == {"kind": (40,), "price": (40,)}
    only = trained(tmp_path, TWO, {"x": X, "cost": PRICE}, "only", outputs={"price": {"target": "cost"}})
    assert isinstance(only.predict(X), regspec.Prediction)  # of the one that has learned


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    """Whatever their order is, and whatever stands beside them; targets may be there or not."""
    frame = pl.DataFrame(columns())
    run = trained(tmp_path, data=frame, target="kind")
    expected = run.predict(X).probabilities
    others: list[Any] = [frame, frame.select("c", "kind", "b", "a"), frame.drop("kind"), Frame(**columns()), X.tolist()]
    frame.select("c", pl.lit("mine").alias("id"), "b", "a").write_csv(tmp_path / "new.csv")
    for given in (*others, tmp_path / "new.csv", str(tmp_path / "new.csv")):
        np.testing.assert_allclose(run.predict(given).probabilities, expected, rtol=1e-5)
    shuffled = frame.select("c", "kind", "b", "a")
    assert run.evaluate(shuffled).loss == pytest.approx(run.evaluate((X, WORDS)).loss, rel=1e-5)
    with pytest.raises(regspec.RegspecError, match="has no column 'a', which the data to train on have") as error:
        run.predict(frame.drop("a", "b"))
    assert len(error.value.problems) == 2
