"""Models of several outputs, of outputs with places, and of outputs that learn their input, from each source."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch.nn import functional as F

import regspec
from regspec.graph.loading import graph_of
from regspec.training.data import load_data
from regspec.training.loop.batches import Batches
from regspec.training.loop.run import Run, resume, train
from regspec.training.options.options import Options
from regspec.training.options.outputs import outputs_said

TWO = """\
regspec: 1
inputs: {x: {shape: [6]}}
layers:
  - Dense: {name: trunk, units: 5, activation: relu, kernel_regularizer: {l2: 1e-2}, activity_regularizer: {l1: 1e-2}}
  - Dense: {name: price, units: 1}
  - Dense: {name: kind, units: 3, inputs: trunk}
"""
GENERATOR = np.random.default_rng(0)
X = GENERATOR.standard_normal((40, 6)).astype(np.float32)
PRICE = (X @ GENERATOR.standard_normal(6)).astype(np.float32)
KIND = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
FORMS = {"a list": "[price, kind]", "a mapping": "{price: price, kind: kind}"}


def trained(folder: Path, spec: str, **options: Any) -> Run:
    """A run of a spec, which is in a file without a name of its own."""
    path = folder / "net.yaml"
    path.write_text(spec)
    return train(path, Options(**{"epochs": 1, **options}), folder / "run", console=Console(file=io.StringIO()))


# -- several outputs ---------------------------------------------------------------------------------------------------


def written(folder: Path, source: str) -> str:
    """The data, written in one way or another."""
    code = "import numpy as np\nx, price, kind = np.load('given.npz').values()\n"
    given = {
        "by name": "{'price': price, 'kind': kind}",
        "in order": "(price, kind)",
        "held out": "{'price': price, 'kind': kind}",
    }
    np.savez(folder / "given.npz", x=X, price=PRICE, kind=KIND)
    if source == "npz":
        return "given.npz"
    if source in given:
        more = f", x, {given[source]}" if source == "held out" else ""
        name = f"given_{source.replace(' ', '_')}"
        (folder / f"{name}.py").write_text(f"{code}def f():\n    return x, {given[source]}{more}\n")
        return f"{name}:f"
    columns = [*(f"c{index}" for index in range(6)), "price", "kind"]
    rows = np.column_stack([X, PRICE, KIND])
    words = [[*(repr(float(each)) for each in row[:-1]), "uvw"[int(row[-1])]] for row in rows]
    (folder / "given.csv").write_text("\n".join(map(",".join, [columns, *words])))
    return "given.csv"


@pytest.mark.parametrize("source", ["npz", "by name", "in order", "held out", "csv"])
@pytest.mark.parametrize("form", FORMS)
def test_two_outputs(form: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step gives the weights that a loop of one's own gives, and the figures are those of its losses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    said = ("price.loss=huber", "price.delta=0.5", "price.weight=0.3", "kind.class_weights=balanced")
    spec = f"{TWO}outputs: {FORMS[form]}\n"
    data = written(tmp_path, source)
    run = trained(tmp_path, spec, data=data, outputs=said, optimizer="sgd", lr=0.1, batch_size=64)

    graph = graph_of(regspec.load(tmp_path / "net.yaml"))
    loaded = load_data(data, graph, outputs=outputs_said(said))
    x, price, kind = loaded.train[range(len(loaded.train))]
    model: Any = regspec.build(tmp_path / "net.yaml", seed=0)
    counts = kind.bincount(minlength=3)
    weights = len(kind) / (3 * counts)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    given = model(x)
    outputs = [*given.values()] if isinstance(given, Mapping) else given
    losses = [
        F.huber_loss(outputs[0][:, 0], price, delta=0.5),
        (F.cross_entropy(outputs[1], kind, reduction="none") * weights[kind]).mean(),
    ]
    (0.3 * losses[0] + losses[1] + model.regularization_loss()).backward()
    optimizer.step()
    torch.testing.assert_close(load_file(run.folder / "weights.safetensors"), model.state_dict())
    metrics = [run.metrics[f"data_loss{each}"] for each in ("/price", "/kind", "")]
    torch.testing.assert_close(metrics, [losses[0].item(), losses[1].item(), (0.3 * losses[0] + losses[1]).item()])
    held_out = [run.metrics[f"held_out_loss{each}"] for each in ("/price", "/kind", "")]
    assert held_out[2] == pytest.approx(0.3 * held_out[0] + held_out[1])
    assert 0 <= run.metrics["held_out_accuracy/kind"] <= 1
    assert "held_out_accuracy/price" not in run.metrics


def test_some_of_the_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something is said of one output, the others do not learn, and need no target."""
    monkeypatch.chdir(tmp_path)
    np.savez("given.npz", x=X, cost=PRICE)
    run = trained(tmp_path, f"{TWO}outputs: [price, kind]\n", data="given.npz", outputs=("price.target=cost",))
    before, after = (load_file(run.folder / f"{name}.safetensors") for name in ("initial", "weights"))
    assert torch.equal(before["kind.weight"], after["kind.weight"])
    assert not torch.equal(before["price.weight"], after["price.weight"])
    assert "data_loss" in run.metrics


@pytest.mark.parametrize(
    ("said", "learned"),
    [
        ((), "price kind"),
        (("kind.metrics=[f1]",), "price kind"),
        (("kind.weight=2", "price.weight=3"), "price kind"),
        (("price.scale=standard",), "price kind"),
        (("kind.class_weights=balanced",), "price kind"),
        (("kind.loss=cross_entropy",), "kind"),
        (("price.target=price",), "price"),
        (("price.loss=huber", "price.delta=0.5"), "price"),
        (("price.loss=huber", "kind.metrics=[f1]"), "price kind"),
    ],
)
def test_which_outputs_learn(
    said: tuple[str, ...], learned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are said by a target or a loss, with what is said of others; else all. The first line says it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(f"{TWO}outputs: [price, kind]\n")
    out = io.StringIO()
    options = Options(data=written(tmp_path, "npz"), outputs=said, epochs=1)
    run = train(tmp_path / "net.yaml", options, tmp_path / "run", console=Console(file=out, width=200))
    before, after = (load_file(run.folder / f"{name}.safetensors") for name in ("initial", "weights"))
    names = [name for name in ("price", "kind") if not torch.equal(before[f"{name}.weight"], after[f"{name}.weight"])]
    assert names == learned.split()
    idle = {"price", "kind"} - {*names}
    assert (f"; {' '.join(idle)} does not learn" in out.getvalue().splitlines()[0]) == bool(idle)
    found = regspec.load_run(run.folder).predict(X)
    assert ([*found] if isinstance(found, dict) else names) == names


def test_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of a spec that has its file's name goes on; what is said of outputs is as it was."""
    monkeypatch.chdir(tmp_path)
    options = {"data": written(tmp_path, "npz"), "outputs": ("price.loss=l1",)}
    first = trained(tmp_path, f"{TWO}outputs: [price, kind]\n", **options)
    assert regspec.load(first.folder / "spec.yaml").name == "net"
    again = resume(first.folder, {"epochs": 3}, console=Console(file=io.StringIO()))
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    options = {"data": written(tmp_path / "whole", "npz"), "outputs": ("price.loss=l1",), "epochs": 3}
    whole = trained(tmp_path / "whole", f"{TWO}outputs: [price, kind]\n", **options)
    states = [load_file(each.folder / "weights.safetensors") for each in (again, whole)]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


# -- outputs with places, labels, and inputs as targets ----------------------------------------------------------------

TAGS = GENERATOR.integers(1, 9, (30, 7))
IMAGES = GENERATOR.random((30, 1, 5, 4)).astype(np.float32)
TAGGER = """\
regspec: 1
inputs: {x: {shape: [null], dtype: int64}}
layers:
  - Embedding: {input_dim: 9, output_dim: 4}
  - GRU: {units: 4, return_sequences: true}
  - Dense: {name: tag, units: 3}
"""
SEGMENTS = """\
regspec: 1
inputs: {x: {shape: [1, 5, 4]}}
layers:
  - Conv2D: {name: mask, filters: 3, kernel_size: 3, padding: same}
"""
LAST = """\
regspec: 1
data_format: channels_last
inputs: {x: {shape: [5, 4, 1]}}
layers:
  - Conv2D: {name: mask, filters: 3, kernel_size: 3, padding: same}
"""
LABELS = "regspec: 1\ninputs: {x: {shape: [6]}}\nlayers:\n  - Dense: {name: labels, units: 3, activation: sigmoid}\n"
CODER = """\
regspec: 1
inputs: {x: {shape: [1, 5, 4]}}
layers:
  - Flatten
  - Dense: {name: code, units: 3, activity_regularizer: {l1: 1e-3}}
  - Dense: {units: 20, activation: sigmoid}
  - Reshape: {name: again, target_shape: [1, 5, 4]}
"""
PLACES = (IMAGES[:, 0] * 3).astype(np.int64)
CASES: dict[str, tuple[str, dict[str, Any], tuple[str, ...], str, str]] = {
    "a class for each step": (TAGGER, {"x": TAGS, "y": TAGS % 3}, (), "classes", "cross_entropy"),
    "steps that do not count": (
        TAGGER, {"x": TAGS, "y": np.where(np.arange(7) < 5, TAGS % 3, -1)}, ("tag.ignore_index=-1",),
        "classes", "cross_entropy",
    ),
    "a class for each pixel": (SEGMENTS, {"x": IMAGES, "y": PLACES}, ("mask.loss=dice",), "classes", "dice"),
    "a class for each pixel, channels last": (
        LAST, {"x": IMAGES.transpose(0, 2, 3, 1), "y": PLACES}, (), "classes", "cross_entropy",
    ),
    "several labels": (LABELS, {"x": X, "y": X[:, :3] > 0}, (), "labels", "binary_cross_entropy"),
    "several labels as numbers": (LABELS, {"x": X, "y": (X[:, :3] > 0) * 1}, (), "labels", "binary_cross_entropy"),
    "several labels as 0.0 and 1.0": (
        LABELS, {"x": X, "y": (X[:, :3] > 0) * 1.0}, ("labels.loss=bce",), "labels", "binary_cross_entropy",
    ),
    "counts": (
        LABELS, {"x": X, "y": GENERATOR.integers(0, 9, (40, 3))}, ("labels.loss=poisson",), "quantities", "poisson",
    ),
    "the input": (CODER, {"x": IMAGES}, ("again.target=x",), "quantities", "mse"),
    "the input, as probabilities": (
        CODER, {"x": IMAGES}, ("again.target=x", "again.loss=bce"), "quantities", "binary_cross_entropy",
    ),
    "the input in a row": (CODER, {"x": IMAGES.reshape(30, 20)}, ("again.target=x",), "quantities", "mse"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_learns(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is lower after some epochs, and the run says what it took the target for."""
    monkeypatch.chdir(tmp_path)
    spec, arrays, said, kind, loss = CASES[case]
    np.savez("given.npz", **arrays)
    console = Console(file=io.StringIO(), width=200)
    (tmp_path / "net.yaml").write_text(spec)
    losses: list[float] = []
    options = Options(data="given.npz", outputs=said, epochs=12, lr=0.03, batch_size=8)
    train(
        tmp_path / "net.yaml", options, tmp_path / "run", console=console,
        on_epoch=lambda _, metrics: losses.append(metrics["data_loss"]),
    )  # fmt: skip
    assert losses[-1] < 0.97 * losses[0]
    assert f", {kind} by {loss}\n" in console.file.getvalue()  # type: ignore[attr-defined]  # a text in memory


def test_the_mean_is_over_the_places_that_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec, arrays, said, *_ = CASES["steps that do not count"]
    np.savez("given.npz", **arrays)
    run = trained(tmp_path, spec, data="given.npz", outputs=said, batch_size=7, lr=0.0)
    graph = graph_of(regspec.load(tmp_path / "net.yaml"))
    loaded = load_data("given.npz", graph, outputs=outputs_said(said))
    model = regspec.build(tmp_path / "net.yaml", seed=0)
    for name, part in (("data_loss", loaded.train), ("held_out_loss", loaded.held_out)):
        x, y = part[range(len(part))]
        wanted = F.cross_entropy(model(x).movedim(-1, 1), y, ignore_index=-1)
        assert run.metrics[name] == pytest.approx(wanted.item(), rel=1e-5)
    assert len(Batches(len(loaded.train), 7)) > 1


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (("prise.loss=mse",), "the model has no output 'prise'\n   = did you mean 'price'"),
        (("price.loss=hubre",), "'hubre' is no loss\n   = did you mean 'huber'"),
        (("price.los=huber",), "mse does not take 'los'\n   = did you mean 'loss'"),
        (("price.weight=-1",), "'weight' of the output 'price' must be at least 0, but is -1"),
        (("price.loss=mse", "price.loss=l1"), "'loss' of the output 'price' is given twice"),
        (("price=mse",), "'price=mse' says nothing of an output\n   = write --outputs.price.loss huber"),
        (("price.class_weights=balanced",), "class_weights are for classes, but"),
        (("price.target=cost",), "has no array 'cost'"),
        (("price.target=kind",), r"'given.npz' has the classes 0, 1, 2.*\n   = the last layer needs 3 units"),
        (("price.target=kind", "price.loss=hinge"), r"the model gives \(batch, 1\), .*\n   = labels are 0 or 1"),
        (("price.loss=poisson",), r"holds -.*, but poisson takes at least 0"),
        (("price.loss=bce",), r"but binary_cross_entropy takes 0 to 1"),
        (
            ("price.loss=dice",),
            "dice does not take the quantities .* for 'price'\n   = classes or labels are whole numbers",
        ),
    ],
)
def test_what_is_wrong(said: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(regspec.RegspecError) as caught:
        trained(tmp_path, f"{TWO}outputs: [price, kind]\n", data=written(tmp_path, "npz"), outputs=said)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_target_for_one_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        regspec.RegspecError, match=r"--target is for a model with one output, but this has price, kind"
    ):
        trained(tmp_path, f"{TWO}outputs: [price, kind]\n", data=written(tmp_path, "npz"), target="price")
