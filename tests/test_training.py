"""Training from a spec: real data, every kind of source, what the run's folder holds, and what does not fit."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner

import regspec
from regspec.cli import app
from regspec.graph.loading import graph_of
from regspec.targets.torch.program import program_of
from regspec.training.loop.activities import activities
from regspec.training.loop.batches import Batches
from regspec.training.loop.progress import Bar
from regspec.training.loop.run import Run, resume, train
from regspec.training.options.options import Options

from .commands import run_command, started

ROOT = Path(__file__).parent.parent
HEADER = "regspec: 1\nname: net\n"


def run(folder: Path, text: str, console: Console | None = None, **options: object) -> Run:
    """A run of a spec's text, in a folder of its own below ``folder``."""
    path = folder / "net.yaml"
    path.write_text(HEADER + text)
    console = console or Console(file=io.StringIO(), width=100)
    return train(
        path, Options(**{"epochs": 2, **options}), folder / f"run{len(list(folder.iterdir()))}", console=console
    )


WINE = """
inputs: {x: {shape: [13]}}
layers:
  - BatchNormalization
  - Dense: {name: hidden, units: 16, activation: relu, kernel_regularizer: {l2: 1e-3}, activity_regularizer: l1}
  - Dense: {name: scores, units: 3}
"""


def test_digits(tmp_path: Path) -> None:
    """The example reaches its accuracy, and the folder holds what was trained."""
    console = Console(file=io.StringIO(), width=100)
    made = train(ROOT / "examples" / "digits_cnn.yaml", Options(epochs=10), tmp_path / "run", console=console)
    assert made.metrics["held_out_accuracy"] >= 0.97
    assert "digits_cnn on digits, pixels divided by 16: 1437 examples, 360 held out" in console.file.getvalue()
    folder = made.folder
    written = {"spec.yaml", "model.py", "run.json", "initial.safetensors", "weights.safetensors", "metrics.csv"}
    later = {"activities.json", "held_out.json", "checkpoint.ckpt", "training.yaml"}
    assert {path.name for path in folder.iterdir()} == written | later
    assert (folder / "spec.yaml").read_bytes() == (ROOT / "examples" / "digits_cnn.yaml").read_bytes()
    assert (folder / "model.py").read_text() == regspec.source(folder / "spec.yaml")
    model = regspec.build(folder / "spec.yaml")
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    for name, value in made.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert "<svg" in made._repr_html_()
    assert float(rows[-1]["held_out_accuracy"]) == made.metrics["held_out_accuracy"]
    assert float(rows[-1]["data_loss"]) < float(rows[0]["data_loss"])
    assert {"epoch", "data_loss", "penalty", "held_out_loss"} <= rows[0].keys()
    printed = console.file.getvalue()
    assert "1437 examples, 360 held out" in printed
    assert all(f"epoch {number:>2}/10  loss " in printed for number in range(1, 11))
    for name, penalty in made.model.regularization_terms().items():
        assert f"{penalty.item():.6g}" in next(line for line in printed.splitlines() if name in line)


def test_each_epoch_has_an_order_of_its_own() -> None:
    """In which each example stands once; the seed and the epoch say which it is."""
    orders = {}
    for seed in (1, 2):
        batches = Batches(20, 6, seed=seed)
        for epoch in (0, 1, 2):
            batches.set_epoch(epoch)
            orders[seed, epoch] = tuple(row for rows in batches for row in rows)
            assert orders[seed, epoch] == tuple(row for rows in batches for row in rows)
    assert all(sorted(order) == [*range(20)] for order in orders.values())
    assert len({*orders.values()}) == len(orders)


def test_same_seed_same_run(tmp_path: Path) -> None:
    first, second = (run(tmp_path, WINE, data="wine", seed=3) for _ in range(2))
    other = run(tmp_path, WINE, data="wine", seed=4)
    numbers = [{**each.metrics, "seconds": 0} for each in (first, second, other)]
    assert numbers[0] == numbers[1] != numbers[2]


def test_penalties_are_trained(tmp_path: Path) -> None:
    """A strong penalty leaves small weights."""
    options = {"data": "wine", "epochs": 20, "lr": 0.03}
    weak = run(tmp_path, WINE, **options).model.hidden.weight.abs().mean()
    strong = run(tmp_path, WINE.replace("1e-3", "10.0"), **options).model.hidden.weight.abs().mean()
    assert strong < 0.1 * weak


def test_constraints_hold_after_training(tmp_path: Path) -> None:
    text = WINE.replace("units: 16,", "units: 16, kernel_constraint: {max_norm: 0.5},")
    model = run(tmp_path, text, data="wine", lr=0.1).model
    assert model.hidden.weight.norm(dim=1).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("diabetes", "inputs: {x: {shape: [10]}}\nlayers: [{Dense: {units: 1}}]"),
        ("iris", "inputs: {x: {shape: [4]}}\nlayers: [{Dense: {units: 3, activation: softmax}}]"),
        ("breast_cancer", "inputs: {x: {shape: [30]}}\nlayers: [BatchNormalization, {Dense: {units: 1}}]"),
        (
            "breast_cancer",
            "inputs: {x: {shape: [30]}}\nlayers: [BatchNormalization, {Dense: {units: 1, activation: sigmoid}}]",
        ),
        ("digits", "inputs: {x: {shape: [8, 8]}}\nlayers: [{LSTM: {units: 16}}, {Dense: {units: 10}}]"),
    ],
)
def test_bundled_sets(tmp_path: Path, data: str, text: str) -> None:
    metrics = run(tmp_path, text, data=data, epochs=3).metrics
    assert all(np.isfinite(value) for value in metrics.values())
    assert ("held_out_accuracy" in metrics) is (data != "diabetes")


def test_data_that_does_not_fit_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(regspec.RegspecError, match=r"'wine' gives \(batch, 13\) for 'x'"):
        run(tmp_path, WINE.replace("[13]", "[14]"), data="wine")
    assert [each.name for each in tmp_path.iterdir()] == ["net.yaml"]


def test_csv(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{a:.3f},{'yes' if a > b else 'no'},{b:.3f}" for a, b in rng.standard_normal((60, 2))]
    (tmp_path / "data.csv").write_text("\n".join(["a,answer,b", *lines]) + "\n")
    text = "inputs: {x: {shape: [2]}}\nlayers: [{Dense: {units: 2}}]"
    made = run(tmp_path, text, data=str(tmp_path / "data.csv"), target="answer", epochs=60, lr=0.1)
    assert made.metrics["held_out_accuracy"] > 0.9


def test_images(tmp_path: Path) -> None:
    """A folder of images is trained on: the left half is bright, or the right one."""
    for name, half in (("left", 0), ("right", 4)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.random.default_rng(number).integers(0, 100, (8, 8), dtype=np.uint8)
            pixels[:, half : half + 4] += 100
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    text = "inputs: {x: {shape: [1, 4, 4]}}\nlayers: [Flatten, {Dense: {units: 1}}]"
    made = run(tmp_path, text, data=str(tmp_path / "images"), epochs=20, batch_size=8, lr=0.1)
    assert made.metrics["held_out_accuracy"] == 1


def test_interrupted_it_leaves_what_was_trained(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(HEADER + WINE)
    arguments = ["train", "net.yaml", "--data", "wine", "--epochs", "100000", "-o", "run"]
    printed = ""
    with started(run_command, tmp_path, arguments) as training:
        assert training.process.pid is not None
        for line in training.lines:
            printed += line
            if "epoch      3/100000" in line:
                os.kill(training.process.pid, signal.SIGINT)
        assert training.ended().code == 130
    assert "Traceback" not in printed
    assert "stopped after" in printed
    model = regspec.build(tmp_path / "run" / "spec.yaml")
    model.load_state_dict(load_file(tmp_path / "run" / "weights.safetensors"))
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) >= 3


def test_runs_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(HEADER + WINE)
    console = Console(file=io.StringIO())
    folders = [train(Path("net.yaml"), Options(data="wine", epochs=1), None, console=console).folder for _ in range(2)]
    assert folders == [Path("runs/net"), Path("runs/net_2")]


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(HEADER + WINE)
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(regspec.RegspecError, match="run: error: can't be written"):
        train(tmp_path / "net.yaml", Options(data="wine"), tmp_path / "run")
    assert (tmp_path / "run").read_text() == "in the way"
    with pytest.raises(regspec.RegspecError, match="is a folder that is not empty"):
        train(tmp_path / "net.yaml", Options(data="wine"), tmp_path)


def test_the_terms_of_a_trained_model_have_their_last_strengths(tmp_path: Path) -> None:
    """A schedule that counts epochs, and one that counts steps, are at their ends, and not where they began."""
    schedules = "{linear: {start: 0, end: 1, over: 2, unit: epoch}}", "{linear: {start: 0, end: 1, over: 6}}"
    text = "\ninputs: {x: {shape: [13]}}\nlayers:\n"
    for name, schedule in zip(("first", "scores"), schedules, strict=True):
        text += f"  - Dense: {{name: {name}, units: 3, kernel_regularizer: {{l2: 0.5, schedule: {schedule}}}}}\n"
    console = Console(file=io.StringIO(), width=100)
    made = run(tmp_path, text, console, data="wine", epochs=2, batch_size=50)  # 3 steps an epoch
    terms = made.model.regularization_terms()
    for name in ("first", "scores"):
        expected = 0.5 * made.model.get_parameter(f"{name}.weight").square().sum()
        torch.testing.assert_close(terms[f"{name}.kernel"], expected)
        assert f"{expected.item():.6g}" in console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO


PLAIN = "\ninputs: {x: {shape: [1]}}\nlayers: [{Dense: {name: out, units: 1}}]\n"


@pytest.mark.parametrize(("size", "printed"), [(1e9, "loss 1.000e+18  held-out loss 1.000e+18"), (2.0, "loss 4.0000")])
def test_a_model_without_terms(size: float, printed: str, tmp_path: Path) -> None:
    """Nothing is said of penalties, and losses of any size fit in a line."""
    np.savez(tmp_path / "data.npz", x=np.zeros((20, 1)), y=np.full((20, 1), size))
    console = Console(file=io.StringIO(), width=100)
    run(tmp_path, PLAIN, console, data=str(tmp_path / "data.npz"), lr=0.0, epochs=1)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert f"epoch 1/1  {printed}" in text
    assert "penalt" not in text


def test_a_held_out_loss_that_is_not_finite(tmp_path: Path) -> None:
    """The last step of an epoch broke the weights, which only the held-out examples show."""
    np.savez(tmp_path / "data.npz", x=np.ones((20, 1)), y=np.ones((20, 1)))
    with pytest.raises(regspec.RegspecError, match=r"data loss \d.*, held-out loss inf") as error:
        run(tmp_path, PLAIN, data=str(tmp_path / "data.npz"), lr=float("inf"), epochs=3)
    assert "or smaller numbers in the data" in str(error.value)
    (made,) = (each for each in tmp_path.iterdir() if each.is_dir())
    assert not (made / "weights.safetensors").exists()


BLOCK = "regspec: 1\nparameters: {n: 3}\ninputs: {x: {shape: [13]}}\n"


@pytest.mark.parametrize("file", ["../shared/outer.yaml", "below/outer.yaml"])
def test_a_run_has_the_files_of_its_blocks(file: str, tmp_path: Path) -> None:
    """Wherever they lie, and those that they use; the run is whole when they are gone."""
    (tmp_path / "specs").mkdir()
    outer = (tmp_path / "specs" / file).resolve()
    outer.parent.mkdir()
    outer.write_text(BLOCK + "blocks: {in: {file: ../inner.yaml}}\nlayers: [in: {name: inner, n: $n}]\n")
    inner = outer.parent.parent / "inner.yaml"
    inner.write_text(BLOCK + "layers: [Dense: {name: dense, units: $n, kernel_regularizer: l2}]\n")
    text = f"parameters: {{n: 4}}\ninputs: {{x: {{shape: [13]}}}}\nblocks: {{out: {{file: {file}}}}}  # mine\n"
    spec = tmp_path / "specs" / "net.yaml"
    spec.write_text(HEADER + text + "layers:\n  - out: {name: outer, n: $n}\n  - Dense: {units: 3}\n")
    console = Console(file=io.StringIO())
    made = train(spec, Options(data="wine", epochs=1), tmp_path / "run", console=console, parameters={"n": 5})
    outer.unlink()
    inner.unlink()
    assert "# mine" in (tmp_path / "run/spec.yaml").read_text()
    assert regspec.source(tmp_path / "run/spec.yaml") == (tmp_path / "run/model.py").read_text()
    assert "nn.Linear(13, 5)" in (tmp_path / "run/model.py").read_text()
    assert resume(tmp_path / "run", {"epochs": 2}, console=console).model.regularization_terms().keys() == {
        *made.model.regularization_terms()
    }


def test_a_value_beyond_its_search(tmp_path: Path) -> None:
    """The run's spec has it, and can be read again; one within keeps its search."""
    text = "\nparameters:\n  n:\n    default: 2\n    search: {low: 1, high: 3}\n  m: 1\n"
    text += "inputs: {x: {shape: [13]}}\nlayers: [{Dense: {units: $n}}, {Dense: {units: 3}}]\n"
    (tmp_path / "net.yaml").write_text(HEADER + text)
    for value in (3, 8):
        folder, console = tmp_path / str(value), Console(file=io.StringIO())
        train(tmp_path / "net.yaml", Options(data="wine", epochs=1), folder, console=console, parameters={"n": value})
        spec = regspec.load(folder / "spec.yaml")
        assert spec.parameters["n"] == value
        assert ("n" in spec.search) == (value == 3)


def test_a_layer_without_a_finite_activity(tmp_path: Path) -> None:
    """It has no histogram, and the others keep theirs."""
    text = "inputs: {x: {shape: [2]}}\nlayers: [{ReLU: {name: a}}, {Dense: {name: b, units: 3}}]\n"
    spec = regspec.loads(HEADER + text)
    model = regspec.build(spec)
    torch.nn.init.constant_(model.get_parameter("b.bias"), torch.inf)
    assert [*activities(model, program_of(graph_of(spec)), [torch.zeros(3, 2)])] == ["a"]


def test_activities_of_copies() -> None:
    """Each copy of a block has its own, by its name in the spec; a penalty of a copy is told apart in the same run."""
    spec = regspec.loads(
        "regspec: 1\ninputs: {x: {shape: [4]}}\n"
        "blocks: {wide: {layers: [{Dense: {name: d, units: 4, activation: relu, kernel_regularizer: l2}}]}}\n"
        "layers: [{wide: {name: w, repeat: 3}}, {Dense: {name: last, units: 2}}]\n"
    )
    model = regspec.build(spec, seed=0)
    found = activities(model, program_of(graph_of(spec)), [torch.randn(5, 4)])
    assert [*found] == ["w_1", "w_2", "w_3", "last"]
    assert [*model.regularization_terms()] == ["w.0.d.kernel", "w.1.d.kernel", "w.2.d.kernel"]


def test_an_error_of_the_callback_comes_out(tmp_path: Path) -> None:
    """And is not taken for a fault of a device."""
    (tmp_path / "net.yaml").write_text(HEADER + WINE)

    def fail(epoch: int, metrics: object) -> None:
        raise ValueError("mine")

    console = Console(file=io.StringIO())
    with pytest.raises(ValueError, match=r"^mine$"):
        train(tmp_path / "net.yaml", Options(data="wine"), tmp_path / "run", console=console, on_epoch=fail)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", str(2**32)], "4294967295"),
        (["--set", "a=1", "--set", "a=2"], "'a' is given twice"),
        (["--set", "a"], "'a' is not NAME=VALUE"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["train", "net.yaml", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert message in result.output


def test_the_bar_says_what_the_line_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal: the epoch as its line counts it, the losses so far, and from the second on what was held out."""
    seen: list[tuple[str, dict[str, str]]] = []

    class Watched(Bar):
        def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
            self._looked = 0.0  # at each batch
            seen.append((self._get_train_description(trainer.current_epoch), super().get_metrics(trainer, pl_module)))
            return seen[-1][1]

    monkeypatch.setattr("regspec.training.loop.run.Bar", Watched)
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    run(tmp_path, WINE, console, data="wine")
    (first, second) = re.findall(
        r"epoch [12]/2  loss (\S+)  penalty (\S+)  held-out loss (\S+)  accuracy (\S+)",
        console.file.getvalue(),  # type: ignore[attr-defined]  # a StringIO
    )
    labels = ("loss", "penalty", "held-out loss", "accuracy")
    of_first = [figures for epoch, figures in seen if epoch == "epoch 1/2"]
    assert dict(zip(labels, first, strict=True)) == of_first[-1]  # once the epoch is done
    assert dict(zip(labels[:2], first[:2], strict=True)) in of_first  # after the last batch
    of_second = [figures for epoch, figures in seen if epoch == "epoch 2/2"]
    assert dict(zip(labels, (*second[:2], *first[2:]), strict=True)) in of_second
