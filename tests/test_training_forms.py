"""Other forms of what a training file says: each is taken, on the command line too, and becomes the options."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import regspec
from regspec.cli.dotted import undotted
from regspec.graph.loading import graph_of
from regspec.text.document import parse
from regspec.training.data import load_data
from regspec.training.options.columns import columns_said
from regspec.training.options.file import read_training
from regspec.training.options.options import Options
from regspec.training.options.outputs import outputs_said
from regspec.training.options.schema import training_schema
from regspec.training.tuning.options import with_values

from .commands import command

ISSUE = """\
# yaml-language-server: $schema=…/training.schema.json
regspec: 1
training:
  outputs:
    price: {loss: huber, weight: 0.3, metrics: [mae, r2]}
    kind: {loss: cross_entropy, label_smoothing: 0.1, class_weights: balanced, metrics: [accuracy, f1]}
  optimizer: {adamw: {lr: 1e-3, weight_decay: 0.0}}
  schedule: {cosine: {warmup: 200}}
  clip_gradients: 1.0
  epochs: 30
  early_stopping: {monitor: kind.f1, patience: 5}
data:
  train: train.csv
  validation: {file: val.csv}
  columns: {price: target, kind: target, id: drop, age: {impute: median, scale: standard}, city: {one_hot: {}}}
"""
CITIES = ("Bern", "Lyon", "Oslo", "Turin", "Vaduz")
NET = """\
regspec: 1
name: houses
inputs: {house: {shape: [6]}}
layers:
  - Dense: {name: hidden, units: 12, activation: relu, kernel_regularizer: {l2: 1e-4}}
  - Dense: {name: price, units: 1, inputs: hidden}
  - Dense: {name: kind, units: 3, inputs: hidden}
outputs: {price: price, kind: kind}
"""


def houses(path: Path, count: int, seed: int) -> None:
    """Houses whose kind follows from the city, and whose price follows from age and city; some ages are missing."""
    draws = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "age", "city", "price", "kind"])
        for row in range(count):
            age, city = draws.integers(1, 80), int(draws.integers(5))
            price = 3.0 + city - age / 40 + 0.1 * draws.standard_normal()
            kind = ("flat", "house", "villa")[city % 3]
            writer.writerow([f"h{row}", "" if row % 9 == 4 else age, CITIES[city], f"{price:.4f}", kind])


def test_the_training_file_of_the_issue(tmp_path: Path) -> None:
    """Word for word: trained to its end, and as options in the run's own file."""
    houses(tmp_path / "train.csv", 470, 0)
    houses(tmp_path / "val.csv", 60, 1)
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "training.yaml").write_text(ISSUE, encoding="utf-8")
    assert jsonschema.Draft202012Validator(training_schema()).is_valid(parse(ISSUE).data)
    done = command("check", "training.yaml", cwd=tmp_path)
    assert done.stdout == "training.yaml: a training, 11 options\n", done.output
    done = command("train", "net.yaml", "--with", "training.yaml", "-o", "run", cwd=tmp_path)
    assert done.code == 0, done.output
    assert "470 examples, 60 held out" in done.stdout
    lines = [
        each for each in done.stdout.splitlines() if re.match(r"epoch +\d+/30 .*price mae .*price r2 .*kind f1 ", each)
    ]
    with (tmp_path / "run/metrics.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert 5 < len(rows) == len(lines) <= 30
    figures = ("mae/price", "r2/price", "accuracy/kind", "f1/kind")
    wanted = {"held_out_loss/price", "held_out_loss/kind", *figures, *(f"held_out_{each}" for each in figures)}
    assert wanted <= rows[-1].keys()
    f1 = [float(row["held_out_f1/kind"]) for row in rows]
    assert f"kept: epoch {1 + f1.index(max(f1))} of {len(rows)}, held-out kind f1 {max(f1):.4f}" in done.stdout
    assert len(rows) in (30, 1 + f1.index(max(f1)) + 5)
    own = parse((tmp_path / "run/training.yaml").read_text()).data
    said = own["training"]
    assert (said["optimizer"], said["lr"], said["monitor"], said["patience"]) == (
        "adamw weight_decay=0.0", 0.001, "kind.f1", 5,
    )  # fmt: skip
    assert "early_stopping" not in said
    assert own["data"]["validation"] == "../val.csv"
    assert own["data"]["columns"]["city"] == {"one_hot": True}
    done = command("evaluate", "run", cwd=tmp_path)
    assert "60 examples of val.csv, which are held out" in done.stdout, done.output


# Another form, as a training file and as a command line have it, and the options that it is.
FORMS: list[tuple[str, list[str], dict[str, Any]]] = [
    ("training: {early_stopping: 5}", ["--early-stopping", "5"], {"patience": 5}),
    ("training: {early_stopping: {patience: 5}}", ["--early-stopping.patience", "5"], {"patience": 5}),
    ("training: {early_stopping: {monitor: a.f1, patience: 5}}",
     ["--early-stopping.patience=5", "--early-stopping.monitor", "a.f1"], {"patience": 5, "monitor": "a.f1"}),
    ("training: {early_stopping: {patience: 5}, patience: 5}", ["--early-stopping=5"], {"patience": 5}),
    ("training: {early_stopping: null}", [], {}),
    ("training: {optimizer: {adamw: {lr: 1e-2}}}",
     ["--optimizer.adamw.lr", "1e-2"], {"optimizer": "adamw", "lr": 0.01}),
    ("training: {optimizer: adamw lr=1e-2}", ["--optimizer", "adamw lr=1e-2"], {"optimizer": "adamw", "lr": 0.01}),
    ("training: {optimizer: {sgd: {lr: 1, momentum: 0.9}}, lr: 1.0}",
     ["--optimizer.sgd.lr", "1", "--optimizer.sgd.momentum", "0.9"], {"optimizer": "sgd momentum=0.9", "lr": 1.0}),
    ("training: {optimizer: {adam: {betas: [0.9, 0.99]}}}",
     ["--optimizer", "adam", "--optimizer.adam.betas=[0.9, 0.99]"], {"optimizer": "adam betas=[0.9, 0.99]"}),
    ("training: {schedule: {cosine: {warmup: 20, end: 0.1}}}",
     ["--schedule.cosine.warmup", "20", "--schedule.cosine.end", "0.1"], {"schedule": "cosine warmup=20 end=0.1"}),
    ("training: {route: {l1: decay}}", ["--route.l1", "decay"], {"route": ("l1=decay",)}),
    ("data: {validation: {file: iris}}", ["--validation.file", "iris"], {"validation": "iris"}),
    ("data: {train: {file: wine}}", ["--train", "wine"], {"data": "wine"}),
    ("data: {train: wine}", ["--train.file=wine"], {"data": "wine"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "expected"), FORMS, ids=[text for text, _, _ in FORMS])
def test_each_form_is_the_options(
    text: str, line: list[str], expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr("regspec.training.loop.run.train", lambda spec, options, *_, **__: taken.append(options))
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "t.yaml").write_text(f"{{regspec: 1, {text}}}")
    for said in (["--with", "t.yaml"], line):
        done = command("train", "net.yaml", *said, cwd=tmp_path)
        assert done.code == 0, done.output
    assert taken == [Options(**expected)] * 2
    assert jsonschema.Draft202012Validator(training_schema()).is_valid(parse((tmp_path / "t.yaml").read_text()).data)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("  lr: 0.1\n  optimizer:\n    adamw: {lr: 0.2}",
         ["3:7: error: 'lr' is 0.1 here, and 0.2 in line 5", "5:17: error: 'lr' is 0.2 here, and 0.1 in line 3"]),
        ("  lr: 0.1\n  optimizer: adamw lr=0.2",
         ["3:7: error: 'lr' is 0.1 here, and 0.2 in line 4", "4:14: error: 'lr' is 0.2 here, and 0.1 in line 3"]),
        ("  patience: 4\n  early_stopping: 5",
         ["3:13: error: 'patience' is 4 here, and 5 in line 4", "4:19: error: 'patience' is 5 here, and 4 in line 3"]),
        ("  early_stopping: {patience: 5, monitor: f1}\n  monitor: a.f1",
         ["4:12: error: 'monitor' is 'a.f1' here, and 'f1' in line 3", "3:42: error: 'monitor' is 'f1' here"]),
        ("  optimizer: {adamw: {lr: fast}}", ["3:27: error: 'lr' of adamw must be a number of at least 0, but is 'fa"]),
        ("  optimizer: {adamw: {lr: -1}}", ["3:27: error: 'lr' of adamw must be a number of at least 0, but is -1"]),
        ("  optimizer: adamw lr=true", ["3:14: error: 'lr' of adamw must be a number of at least 0, but is true"]),
        ("  early_stopping: {patience: 0}", ["3:30: error: .* must be at least 1, but is 0"]),
        ("  early_stopping: {monitor: f1}", ["needs 'patience'"]),
        ("  early_stopping: {patiens: 1}", ["^t.yaml:3:20: error: .* no field 'patiens'(.|\n)*'patience'"]),
        ("  early_stopping: soon", ["3:19: error: .* must be a number of epochs, or a mapping of patience"]),
        ("  early_stopping: true", ["3:19: error: .* must be a number of epochs"]),
        ("data: {train: {path: a}}", ["3:15: error: .* must be a text, or a mapping of file to one, but is a mapping"]),
        ("data: {validation: {file: 3}}", ["must be a text, but is 3"]),
        ("data: {columns: {a: {target: 3}}}", ["'data.columns.a.target' of the training file must be True, but is 3"]),
        ("data: {columns: {a: {target: true, scale: standard}}}", ["is target and scale, which don't go together"]),
    ],
)  # fmt: skip
def test_what_is_faulty(text: str, places: list[str]) -> None:
    """Both lines, where two things are said; the schema refuses what is faulty for itself."""
    whole = f"regspec: 1\ntraining:\n{text}\n" if text.startswith(" ") else f"regspec: 1\n\n{text}\n"
    with pytest.raises(regspec.RegspecError) as caught:
        read_training(parse(whole, "t.yaml"))
    for each in places:
        assert re.search(each, str(caught.value)), str(caught.value)


def test_the_command_line_is_over_the_file_argument_by_argument(tmp_path: Path) -> None:
    file = read_training(parse("{regspec: 1, training: {optimizer: {sgd: {lr: 0.1, momentum: 0.9}}}}", "t.yaml"))
    for said, optimizer, lr in [
        ({"optimizer": "sgd.nesterov=true sgd.lr=0.5"}, "sgd momentum=0.9 nesterov=true", 0.5),
        ({"optimizer": "sgd.momentum=0.5"}, "sgd momentum=0.5", 0.1),
        ({"optimizer": "adamw.weight_decay=0.5"}, "adamw weight_decay=0.5", 0.1),
        ({"optimizer": "sgd"}, "sgd", 0.1),
        ({"lr": 0.3}, "sgd momentum=0.9", 0.3),
    ]:  # fmt: skip
        options, places = file.under(Options(**said), said)  # type: ignore[arg-type]
        assert (options.optimizer, options.lr) == (optimizer, lr)
        assert ("lr" in places.origins) == (lr == 0.1)
    with pytest.raises(regspec.RegspecError, match=r"the learning rate is 0\.3 by --lr, and 0\.5 by the optimizer"):
        file.under(Options(optimizer="sgd.lr=0.5", lr=0.3), ["optimizer", "lr"])
    with pytest.raises(regspec.RegspecError, match="arguments are said of sgd and adam"):
        file.under(Options(optimizer="sgd.lr=0.5 adam.eps=0.3"), ["optimizer"])
    assert [*undotted(["--optimizer.sgd.lr", "1", "--", "--optimizer.x.y"])] == [
        "--optimizer", "sgd.lr=1", "--", "--optimizer.x.y",
    ]  # fmt: skip


@pytest.mark.parametrize("option", ["--optimizer.sgd", "--optimizer.sgd=3", "--schedule."])
def test_an_argument_without_a_name(option: str) -> None:
    done = command("train", "net.yaml", option, "3")
    assert (done.code, f"{option.partition('.')[0]}.NAME.ARGUMENT VALUE" in done.stderr) == (2, True)


def test_a_searched_optimizer_may_have_its_rate() -> None:
    made = with_values(Options(), {"optimizer": {"sgd": {"lr": 0.1, "momentum": 0.9}}})
    assert (made.optimizer, made.lr) == ("sgd momentum=0.9", 0.1)
    assert with_values(Options(lr=0.5), {"optimizer": "sgd"}).lr == 0.5


ONE = "regspec: 1\ninputs: {x: {shape: [2]}}\nlayers: [{Dense: {name: out, units: %d}}]"


@pytest.mark.parametrize(
    ("columns", "outputs", "units", "goal"),
    [
        ([], [], 1, "c"),
        (["a=target"], [], 1, "a"),
        (["b={target: {}}"], [], 1, "b"),
        (["b=target"], ["out.target=b"], 1, "b"),
    ],
)
def test_a_column_that_is_a_target(
    columns: list[str], outputs: list[str], units: int, goal: str, tmp_path: Path
) -> None:
    """Of an only output, in place of the last column; the others are inputs, in their order."""
    values = {"a": 0.5, "b": 2.5, "c": 7.5}
    rows = ["a,b,c", *(",".join(str(value + row) for value in values.values()) for row in range(10))]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    loaded = load_data(str(tmp_path / "t.csv"), graph_of(ONE % units), columns=columns_said(columns),
                       outputs=outputs_said(outputs))  # fmt: skip
    x, y = loaded.train[range(8)]
    inputs = [value for name, value in values.items() if name != goal]
    first = y.flatten() - values[goal]
    np.testing.assert_allclose(x.numpy() - first.numpy()[:, None], [inputs] * 8, rtol=1e-6)
    assert {*first.tolist()} < {*range(10)}


def test_a_target_that_nothing_learns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\n1.5,2.5,3.5\n2.5,3.5,4.5\n")
    said: dict[str, Any] = {"columns": columns_said(["a=target"]), "outputs": outputs_said(["out.target=b"])}
    with pytest.raises(
        regspec.RegspecError, match=r"t\.csv: error: column 'a' is said to be a target, but no output"
    ) as e:
        load_data(str(tmp_path / "t.csv"), graph_of(ONE % 1), **said)
    assert "those that learn: out; --outputs.OUTPUT.target a" in str(e.value)
