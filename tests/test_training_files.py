"""Training files: they say what the command line says, faults stand at their lines, and a run's folder has its own."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console
from safetensors.torch import load_file

import regspec
from regspec.cli.dotted import undotted
from regspec.text.document import document_of, parse, read
from regspec.training.loop.checking import checked_outputs
from regspec.training.loop.rates import schedule_of
from regspec.training.loop.run import train
from regspec.training.options.columns import columns_said
from regspec.training.options.file import read_training, training_text
from regspec.training.options.optimizers import optimizer_of
from regspec.training.options.options import Option, Options
from regspec.training.options.outputs import outputs_said
from regspec.training.options.said import parted
from regspec.training.options.schema import training_schema

from .commands import command
from .markdown import PAGES

NET = """\
regspec: 1
inputs: {x: {shape: [13]}}
layers:
  - BatchNormalization
  - Dense: {name: hidden, units: 6, activation: relu, kernel_regularizer: {l2: 1e-2}}
  - Dense: {name: scores, units: 3}
"""
OPTIONS = Option.all_of(Options)
# Of each option: how a training file says it, what the command line takes for the same.
WAYS: dict[str, list[tuple[str, list[str]]]] = {
    "data": [("wine", ["wine"]), ("module:function", ["module:function"])],
    "validation": [("iris", ["iris"]), ("null", [])],
    "target": [("price", ["price"]), ("3", ["3"]), ("null", [])],
    "outputs": [
        ("{price: {loss: huber, delta: 0.5}, kind: {class_weights: balanced}}",
         ["price.loss=huber", "price.delta=0.5", "kind.class_weights=balanced"]),
        ("{a: {}}", ["a.weight=1.0"]),
        ("{a: {metrics: [mae, r2], ignore_index: -1}}", ["a.metrics=[mae, r2]", "a.ignore_index=-1"]),
        ("{a: {metrics: mae}}", ["a.metrics=[mae]"]),
    ],
    "columns": [
        ("{city: one_hot, age: {impute: median, scale: standard}}",
         ["city={one_hot: true}", "age={impute: median, scale: standard}"]),
        ("{born: {date: year}}", ["born.date=[year]"]),
        ("{review: {text: {vocabulary: 20, length: 5}}}", ["review.text={vocabulary: 20, length: 5}"]),
        ("{w: weight, who: group}", ["w=weight", "who=group"]),
    ],
    "folds": [("5", ["5"]), ("null", [])],
    "fold": [("2", ["2"]), ("null", [])],
    "epochs": [("3", ["3"])],
    "batch_size": [("16", ["16"])],
    "optimizer": [
        ("sgd", ["sgd"]),
        ("'sgd momentum=0.9 nesterov=true'", ["sgd momentum=0.9 nesterov=true"]),
        ("{sgd: {momentum: 0.9, nesterov: true}}", ["sgd momentum=0.9 nesterov=true"]),
        ("{adam: {betas: [0.9, 0.99], eps: 1e-7, foreach: null}}", ["adam betas=(0.9,0.99) eps=1e-7 foreach=none"]),
        ("{adam: null}", ["adam"]),
        ("{adam: {}}", ["adam"]),
    ],
    "schedule": [
        ("{cosine: {warmup: 20, end: 0.1}}", ["cosine warmup=20 end=0.1"]),
        ("{multi_step: {milestones: [2, 4], by: steps}}", ["multi_step milestones=(2,4) by=steps"]),
        ("cosine", ["cosine"]),
        ("null", []),
    ],
    "clip_gradients": [("0.5", ["0.5"]), ("null", [])],
    "clip_by": [("value", ["value"])],
    "accumulate": [("4", ["4"])],
    "lr": [("1e-2", ["0.01"]), ("1", ["1"])],
    "ema": [("0.99", ["0.99"]), ("null", [])],
    "seed": [("7", ["7"])],
    "rules": [
        ("[{layers: 'hid.*', lr: 1e-4}, {slots: [bias, gamma], weight_decay: 0}, {kinds: Dense, trainable: false}]",
         ["layers=hid.* lr=0.0001", 'slots=["bias", "gamma"] weight_decay=0.0', 'kinds=["Dense"] trainable=false']),
        ("[{except: '[ab].*', lr: 1}]", ["except=[ab].* lr=1.0"]),
    ],
    "route": [("{l1: proximal, hidden.kernel: decay}", ["l1=proximal", "hidden.kernel=decay"])],
    "weights": [("pretrained", ["pretrained"]), ("null", [])],
    "weights_skip": [("'head.*'", ["head.*"])],
    "class_weights": [("balanced", ["balanced"]), ("null", [])],
    "monitor": [("f1", ["f1"]), ("min kind.own", ["min kind.own"]), ("null", [])],
    "patience": [("4", ["4"]), ("null", [])],
    "baseline": [("true", [""])],
    "precision": [("bf16-mixed", ["bf16-mixed"])],
    "accelerator": [("cpu", ["cpu"])],
    "devices": [("2", ["2"]), ("auto", ["auto"])],
    "strategy": [("ddp", ["ddp"])],
    "logger": [("tensorboard", ["tensorboard"])],
    "compile": [("true", [""])],
}  # fmt: skip
# What the loader refuses: a text, and the place and words of its fault.
FAULTY = [
    ("[1]", "1:1: error: a training file is a mapping, but this is a list"),
    ("{regspec: 2}", "1:11: error: 'regspec' of the training file must be 1, but is 2"),
    ("{training: {epochs: 3}}", "1:1: error: the training file needs 'regspec'"),
    ("{regspec: 1, optimizer: adam}", "1:14: error: the training file has no field 'optimizer'"),
    ("{regspec: 1, training: 3}", "1:24: error: 'training' of the training file must be a mapping, but is 3"),
    ("{regspec: 1, training: {epoch: 3}}", "1:25: error: .* has no field 'epoch'\n.*\n.*\n   = did you mean 'epochs'"),
    ("{regspec: 1, training: {learning_rate: 3}}", "has no field 'learning_rate'\n.*\n.*\n   = did you mean 'lr'"),
    ("{regspec: 1, training: {epochs: 0}}", "1:33: error: .* must be at least 1, but is 0"),
    ("{regspec: 1, training: {epochs: 2.5}}", "must be a whole number, but is 2.5"),
    ("{regspec: 1, training: {epochs: null}}", "must be a whole number, but is null"),
    ("{regspec: 1, training: {lr: fast}}", "must be a number, but is 'fast'"),
    ("{regspec: 1, training: {lr: -1}}", "must be at least 0, but is -1"),
    ("{regspec: 1, training: {seed: 4294967296}}", "must be at most 4.29497e"),
    ("{regspec: 1, training: {compile: 1}}", "must be true or false, but is 1"),
    ("{regspec: 1, training: {strategy: dp}}", "must be 'auto', 'ddp' or 'fsdp', but is 'dp'"),
    ("{regspec: 1, training: {optimizer: 3}}", "must be a name, or a mapping of one name to its arguments, but is 3"),
    ("{regspec: 1, training: {optimizer: {a: {}, b: {}}}}", "must be a name, or a mapping of one name"),
    ("{regspec: 1, training: {optimizer: {}}}", "must be a name, or a mapping of one name"),
    ("{regspec: 1, training: {optimizer: {sgd: 3}}}", "1:42: error: .* must be a mapping of arguments, but is 3"),
    ("{regspec: 1, training: {optimizer: {sgd: {momentum: {a: 1}}}}}", "1:53: error: .* must be a number, a text"),
    ("{regspec: 1, training: {schedule: {cosine: 3}}}", "1:44: error: .* must be a mapping of arguments, but is 3"),
    ("{regspec: 1, training: {route: [l1=proximal]}}", "must be a mapping, but is a list"),
    ("{regspec: 1, training: {route: {l1: 3}}}", "must be a text, but is 3"),
    ("{regspec: 1, training: {outputs: [a]}}", "must be a mapping, but is a list"),
    ("{regspec: 1, training: {outputs: {a: huber}}}", "must be a mapping, but is 'huber'"),
    ("{regspec: 1, training: {outputs: {a: {weight: -1}}}}", "1:47: error: .* must be at least 0, but is -1"),
    ("{regspec: 1, training: {outputs: {a: {loss: 3}}}}", "must be a text, but is 3"),
    ("{regspec: 1, training: {rules: {lr: 1}}}", "must be a list, but is a mapping"),
    ("{regspec: 1, training: {rules: [{layer: a, lr: 1}]}}", "1:34: error: (.|\n)* no field 'layer'(.|\n)*'layers'"),
    ("{regspec: 1, training: {rules: [{lr: -1}]}}", "1:38: error: .* must be at least 0, but is -1"),
    ("{regspec: 1, data: wine}", "must be a mapping, but is 'wine'"),
    ("{regspec: 1, data: {train: [a]}}", "must be a text, but is a list"),
    ("{regspec: 1, data: {trian: a}}", "has no field 'trian'\n.*\n.*\n   = did you mean 'train'"),
]  # fmt: skip


def written(name: str, value: str) -> str:
    return f"{{regspec: 1, {OPTIONS[name].section}: {{{OPTIONS[name].key or name}: {value}}}}}"


def test_every_option_is_in_the_table() -> None:
    assert WAYS.keys() == OPTIONS.keys()


@pytest.mark.parametrize(
    ("name", "value", "texts"),
    [pytest.param(name, value, texts, id=f"{name} {value}") for name, ways in WAYS.items() for value, texts in ways],
)
def test_a_key_is_its_option(
    name: str, value: str, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file makes the options that the command line makes; and so does the file of the run that comes of it."""
    flag = f"--{name.replace('_', '-')}"
    taken: list[Any] = []
    for place in ("run", "folding"):
        trained = f"regspec.training.loop.{place}.train"
        monkeypatch.setattr(trained, lambda spec, options, *_, **__: taken.append(options))
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "t.yaml").write_text(written(name, value))
    said = [each for text in texts for each in ((flag, text) if text else (flag,))]
    for arguments in (said, ["--with", "t.yaml"]):
        done = command("train", "net.yaml", *arguments, cwd=tmp_path)
        assert done.code == 0, done.output
    by_line, by_file = taken
    if texts and name not in ("outputs", "columns", "optimizer", "schedule"):
        assert getattr(by_line, name) == getattr(by_file, name)
        assert replace(by_file, **{name: getattr(Options, name)}) == Options()
    outputs = [outputs_said(each.outputs) for each in taken]
    assert outputs[0] == outputs[1]
    if name == "optimizer":
        assert optimizer_of(by_line.optimizer) == optimizer_of(by_file.optimizer)
    if name == "schedule" and texts:
        assert schedule_of(by_line.schedule).arguments == schedule_of(by_file.schedule).arguments
    sections = {output: section.model_dump(exclude_unset=True) for output, section in outputs[0].items()}
    own = parse(training_text(by_file, sections, Path()))
    again, _ = read_training(own).under(Options(), ())
    assert replace(again, outputs=()) == replace(by_file, outputs=())
    assert outputs_said(again.outputs) == outputs[0]
    for document in (own, read(tmp_path / "t.yaml")):
        assert jsonschema.Draft202012Validator(training_schema()).is_valid(document.data)


@pytest.mark.parametrize(("text", "message"), FAULTY, ids=[text for text, _ in FAULTY])
def test_what_is_faulty(text: str, message: str) -> None:
    """The loader says where, and the schema refuses it too."""
    with pytest.raises(regspec.RegspecError) as caught:
        read_training(parse(text, "t.yaml"))
    assert re.search(message, str(caught.value)), str(caught.value)
    assert not jsonschema.Draft202012Validator(training_schema()).is_valid(parse(text).data)


NAMES = """\
regspec: 1
training:
  outputs:
    scores:
      loss: {loss}
      {argument}: 0.1
  optimizer:
    {optimizer}:
      {weight}: 0.1
  route: {route}
data: {data}
"""
FITS = {
    "loss": "cross_entropy", "argument": "label_smoothing", "optimizer": "adamw", "weight": "weight_decay",
    "route": "{l2: gradient}", "data": "{train: wine}",
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "line", "message"),
    [
        ({"loss": "crossentropi"}, "5:13", "'crossentropi' is no loss"),
        ({"argument": "label_smooth"}, "6:7", "cross_entropy does not take 'label_smooth'"),
        ({"optimizer": "adamx"}, "8:5", "'adamx' is no optimizer"),
        ({"weight": "weight_decai"}, "9:7", "adamw does not take 'weight_decai=0.1'"),
        ({"argument": "label_smooth", "loss": "null"}, "6:7", "mse does not take 'label_smooth'"),
        (
            {"weight": "learning_rate"},
            "9:7",
            "adamw does not take 'learning_rate=0.1'\n.*\n.*\n   = the learning rate is lr",
        ),
        ({"route": "{l2: gradint}"}, "10:15", "no route is called 'gradint'"),
        ({"data": "{train: digits}"}, "11:15", r"the model gives \(batch, 3\), but 'digits' has the classes 0, 1"),
        ({"data": "{train: winee}"}, "11:15", "'winee' is no data"),
    ],
)
def test_names_that_there_are_not(more: dict[str, str], line: str, message: str, tmp_path: Path) -> None:
    """By `train`, and, without data, by `check`."""
    text = NAMES
    for name, value in {**FITS, **more}.items():
        text = text.replace(f"{{{name}}}", value)
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "t.yaml").write_text(text)
    done = command("train", "net.yaml", "--with", "t.yaml", cwd=tmp_path)
    assert (done.code, done.stdout) == (1, "")
    assert re.match(rf"t\.yaml:{line}: error: ({message})", done.stderr), done.stderr
    done = command("check", "t.yaml", cwd=tmp_path)
    if "data" in more:
        assert (done.code, done.stdout) == (0, "t.yaml: a training, 4 options\n")
    else:
        assert done.code == 1
        assert re.match(rf"t\.yaml:{line}: error: {message}", done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("section", "place", "message"),
    [
        ("schedule: {cosin: {warmup: 3}}", "3:14", "'cosin' is no schedule of the learning rate"),
        ("schedule: {cosine: {warm: 3}}", "3:23", "cosine does not take 'warm=3'"),
        ("schedule: {step: {gamma: 0.5}}", "3:13", "step needs 'step_size'"),
        ("schedule: cosine warmup=999", "3:13", "'cosine warmup=999' is no schedule of the learning rate here: warmup"),
        ("clip_gradients: 0", "3:19", "clip_gradients must be greater than 0"),
        ("ema: 1", "3:8", "ema must be less than 1"),
        ("weights_skip: a", "3:17", "weights_skip is for --weights"),
        ("class_weights: balanced", "3:18", "class_weights are for classes"),
        ("outputs: {scores: {class_weights: balanced}}", "3:37", "class_weights are for classes"),
        ("outputs: {scores: {metrics: [mae, f2]}}", "3:31", "'f2' is no metric"),
    ],
)
def test_faults_that_training_finds(section: str, place: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(NET.replace("units: 3", "units: 1").replace("13", "10"))
    (tmp_path / "t.yaml").write_text(f"regspec: 1\ntraining:\n  {section}\ndata: {{train: diabetes}}\n")
    done = command("train", "net.yaml", "--with", "t.yaml", cwd=tmp_path)
    assert done.code == 1
    assert re.match(rf"t\.yaml:{place}: error: {message}", done.stderr), done.stderr
    assert [*tmp_path.glob("runs/*")] == []


def test_the_command_line_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of options that are repeatable, key by key; and a fault of it stands in no file."""
    taken: list[Any] = []
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "t.yaml").write_text(
        "{regspec: 1, training: {epochs: 7, lr: 0.5, route: {l1: decay, l2: decay}, "
        "outputs: {a: {loss: l1, weight: 2}}}}"
    )
    arguments = ["net.yaml", "--with", "t.yaml", "--epochs", "30", "--outputs.a.loss=mse", "--route", "l1=proximal"]
    with monkeypatch.context() as patch:
        patch.setattr("regspec.training.loop.run.train", lambda spec, options, *_, **__: taken.append(options))
        assert command("train", *arguments, cwd=tmp_path).code == 0
    (made,) = taken
    assert (made.epochs, made.lr) == (30, 0.5)
    assert {*made.outputs} == {"a.loss=mse", "a.weight=2.0"}
    assert {*made.route} == {"l1=proximal", "l2=decay"}
    done = command("train", "net.yaml", "--with", "t.yaml", "--optimizer", "adamx", "--route", "l1=no", cwd=tmp_path)
    assert "\nerror: no route is called 'no'" in done.stderr
    assert done.stderr.startswith("error: 'adamx' is no optimizer")


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the command is, and where the run lies, are other folders."""
    monkeypatch.chdir(tmp_path)
    Path("conf").mkdir()
    rows = [",".join(f"{(row * column) % 7}.5" for column in range(13)) + f",{'uvw'[row % 3]}" for row in range(30)]
    Path("conf/table.csv").write_text("\n".join([",".join(f"c{each}" for each in range(14)), *rows]))
    Path("conf/other.csv").write_text(Path("conf/table.csv").read_text())
    Path("conf/t.yaml").write_text(
        "{regspec: 1, training: {epochs: 1}, data: {train: table.csv, validation: other.csv, target: c13}}"
    )
    Path("net.yaml").write_text(NET)
    assert command("train", "net.yaml", "--with", "conf/t.yaml", "-o", "runs/a", cwd=tmp_path).code == 0
    assert parse(Path("runs/a/training.yaml").read_text()).data["data"] == {
        "train": "../../conf/table.csv",
        "validation": "../../conf/other.csv",
        "target": "c13",
    }
    done = command("train", "spec.yaml", "--with", "training.yaml", "-o", "again", cwd=tmp_path / "runs/a")
    assert done.code == 0, done.output
    weights = [Path(each, "weights.safetensors").read_bytes() for each in ("runs/a", "runs/a/again")]
    assert weights[0] == weights[1]


def test_a_runs_own_file_is_the_same_training(tmp_path: Path) -> None:
    """With the losses that were inferred, and what else was said; of a twin there is none."""
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "t.yaml").write_text(
        "{regspec: 1, training: {optimizer: {sgd: {momentum: 0.9}}, lr: 0.05, epochs: 2, batch_size: 32, "
        "outputs: {scores: {label_smoothing: 0.1, class_weights: balanced}}, "
        "baseline: true, route: {l2: gradient}}, data: {train: wine}}"
    )
    options, places = read_training(read(tmp_path / "t.yaml")).under(Options(), ())
    quiet = Console(file=io.StringIO())
    first = train(tmp_path / "net.yaml", options, tmp_path / "run", places=places, console=quiet)
    own = parse((first.folder / "training.yaml").read_text())
    said = {"loss": "cross_entropy", "label_smoothing": 0.1, "class_weights": "balanced"}
    assert own.data["training"]["outputs"] == {"scores": said}
    assert own.data["training"]["devices"] == 1
    assert not (first.folder / "baseline/training.yaml").exists()
    again, _ = read_training(own).under(Options(), ())
    second = train(first.folder / "spec.yaml", again, tmp_path / "again", console=quiet)
    states = [load_file(each.folder / "weights.safetensors") for each in (first, second)]
    assert all(states[0][name].equal(states[1][name]) for name in states[0])
    facts = [json.loads((each.folder / "run.json").read_text()) for each in (first, second)]
    assert facts[0]["outputs"] == facts[1]["outputs"]
    # as people would write it, without the file
    third = train(tmp_path / "net.yaml", replace(options, outputs=()), tmp_path / "third", console=quiet)
    assert parse((third.folder / "training.yaml").read_text()).data["training"]["outputs"] == {
        "scores": {"loss": "cross_entropy"}
    }


def test_tune_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    monkeypatch.setattr("regspec.training.tuning.search.tune", lambda spec, options, *_, **__: taken.append(options))
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "t.yaml").write_text("{regspec: 1, training: {epochs: 7}, data: {train: wine}}")
    assert command("tune", "net.yaml", "--with", "t.yaml", "--lr", "0.5", cwd=tmp_path).code == 0
    assert taken == [Options(epochs=7, data="wine", lr=0.5)]


def test_a_training_file_is_no_spec(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("{regspec: 1, training: {epochs: 7}}")
    done = command("show", "t.yaml", cwd=tmp_path)
    assert (done.code, "t.yaml:1:14: error: this is a training file, and no spec" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    "text", [code for page in PAGES for language, code in page.blocks if language == "yaml" and "\ntraining:" in code]
)
def test_files_on_pages(text: str) -> None:
    said = read_training(parse(text))
    checked_outputs(*said.under(Options(), ()))
    assert jsonschema.Draft202012Validator(training_schema()).is_valid(parse(text).data)


# -- columns -----------------------------------------------------------------------------------------------------------

ODD_NAMES = ["a=b", "a.date", "born.drop", 'say "x"', '"', "=", ".", "ä.=", " ", "v1.2"]


def test_names_with_dots_and_signs_in_a_training_file(tmp_path: Path) -> None:
    """What the file says comes to the same on the command line, and in the file of a run."""
    said = {name: {"impute": place} for place, name in enumerate(ODD_NAMES)}
    options = Options(**read_training(document_of({"regspec": 1, "data": {"columns": said}}, "t.yaml")).values)
    assert {name: each.plain for name, each in columns_said(options.columns).items()} == said
    again = parse(training_text(options, {}, tmp_path)).data
    assert again["data"]["columns"] == said
    line = [part for each in options.columns for part in (f"--columns.{parted(each)[0]}", each[-1])]
    given = [each for each in undotted(line) if each != "--columns"]
    assert {name: each.plain for name, each in columns_said(given).items()} == said


OVER = {"age": {"impute": "median", "scale": "robust"}, "city": {"one_hot": True}, "v1.2": {"impute": 0}}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("age.impute=mean", {"age": {"impute": "mean", "scale": "robust"}}),
        ("age=drop", {"age": {"drop": True}}),
        ("city=codes", {"city": {"codes": True}}),
        ("city={codes: true}", {"city": {"codes": True}}),
        ("cit=codes", {"cit": {"codes": True}}),
        ("v1.2=drop", {"v1.2": {"drop": True}}),
        ('"v1.2"=drop', {"v1.2": {"drop": True}}),
        ("v1.2.impute=1", {"v1.2": {"impute": 1}}),
        ('"v1.2".impute=1', {"v1.2": {"impute": 1}}),
        ('"age.impute"=drop', {"age.impute": {"drop": True}}),
        ("v1=drop", {"v1": {"drop": True}}),
    ],
)
def test_the_command_line_is_over_the_training_file(line: str, expected: Any) -> None:
    file = read_training(document_of({"regspec": 1, "data": {"columns": OVER}}, "t.yaml"))
    options, _ = file.under(Options(columns=(line,)), ["columns"])
    assert {name: each.plain for name, each in columns_said(options.columns).items()} == OVER | expected


@pytest.mark.parametrize("line", ["v1.2.loss=l1", '"v1.2".loss=l1'])
def test_what_the_command_line_says_of_an_output_stands_not_in_the_file(line: str) -> None:
    said = {"v1.2": {"loss": "mse", "weight": 2}}
    file = read_training(document_of({"regspec": 1, "training": {"outputs": said}}, "t.yaml"))
    options, places = file.under(Options(outputs=(line,)), ["outputs"])
    section = outputs_said(options.outputs)["v1.2"]
    assert (section.loss, section.weight) == ("l1", 2)
    assert [each for each in places.origins if each.startswith("outputs.v1.2.")] == ["outputs.v1.2.weight"]
