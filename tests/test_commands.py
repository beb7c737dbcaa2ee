"""Every command that the help, a page or an example shows does what it should: it is run, with its files beside it.

A training takes one epoch in one process, and a search two trials, whatever is shown.
"""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import regspec
from regspec.cli import app
from regspec.language.registration import load_module

from .commands import ROOT, command
from .markdown import PAGES, Page
from .runs import write_run
from .saved_models.writing import write as write_saved_model

COMMANDS: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # of a group

DIGITS = """\
regspec: 1
name: net
inputs: {image: {shape: [64]}}
layers:
  - Dense: {name: hidden, units: 5, activation: relu, kernel_regularizer: {l1: 1e-4}}
  - Dense: {name: logits, units: 10}
"""
PRICES = DIGITS.replace("image: {shape: [64]}", "x: {shape: [2]}").replace("units: 10", "units: 1")
TABLE = "rooms,area,price\n" + "".join(f"{i % 4},{i % 7}.5,{3 * i % 11}.25\n" for i in range(40))
HOUSES = """\
regspec: 1
name: net
inputs: {x: {shape: [2]}}
layers:
  - Dense: {name: trunk, units: 5, activation: relu, kernel_regularizer: {l2: 1e-4}}
  - Dense: {name: price, units: 1}
  - Dense: {name: kind, units: 3, inputs: trunk}
outputs: [price, kind]
"""
KINDS = "rooms,area,price,kind\n" + "".join(f"{i % 4},{i % 7}.5,{3 * i % 11}.25,{'abc'[i % 3]}\n" for i in range(40))
TRAINING = "{regspec: 1, training: {optimizer: {sgd: {momentum: 0.9}}}, data: {train: digits}}"
RESNET = "examples.recipes.any_module:ResNet"
PLACEHOLDERS = {  # what may stand where a command says of what sort it is
    "FILES…": "examples/mlp.yaml",
    "[NAME]": "Dense",
    "FOLDER": "ported",
    "RUN": "runs/digits_cnn",
    "RUN…": "runs/digits_cnn",
    "module:callable": RESNET,
    "package.module:callable": RESNET,
}
OF_COMMAND = {
    ("rules", "FILE"): "examples/recipes/rules.yaml",
    ("port", "FILE"): "examples/keras_mlp.keras",
    ("tune", "SPEC"): "examples/digits_search.yaml",
    ("predict", "FILE"): "digits",
    ("check", "…"): "own.yaml",
}
SHORT = {
    "train": ["--epochs", "1", "--devices", "1", "--strategy", "auto"],
    "tune": ["--epochs", "1", "--trials", "2"],
}
SHORT_PATH = ["--epochs", "1", "--steps", "2", "--check", "1"]

SLOW = (  # and like another that the gate runs
    ["tune", "SPEC"],
    ["tune", "examples/digits_search.yaml", "--sampler", "grid", "--trials", "12"],
    ["tune", "examples/digits_search.yaml", "--data", "examples.pages.choosing_a_strength:noisy"],
    ["--import", "mine", "schema"],
)


def shown_in_help() -> Iterator[tuple[str, list[str]]]:
    """Where a command is shown, and its words after ``regspec``."""
    for name, each in COMMANDS.items():
        texts = [each.help, each.epilog, *(getattr(option, "help", "") or "" for option in each.params)]
        for text in re.findall(r"`([^`]*regspec [^`]*)`", " ".join(texts)):
            yield f"{name} --help", shlex.split(text.partition("regspec ")[2])


def shown_in_examples() -> Iterator[tuple[str, list[str]]]:
    for path in sorted((ROOT / "examples").rglob("*.*")):
        if path.suffix in (".py", ".yaml"):
            for text in re.findall(r"(?:^# +|``|`)regspec ([^`\n]+)", path.read_text(), re.MULTILINE):
                if text.split()[0] in COMMANDS:
                    yield str(path.relative_to(ROOT)), shlex.split(text)


def shown_anywhere() -> list[tuple[str, list[str]]]:
    """Where commands are shown, with their words after ``regspec``."""
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which tells of commands as they were
    return [*shown_in_help(), *((page.name, words) for page in pages for words in page.commands), *shown_in_examples()]


def shown() -> list[Any]:
    """Each command once, for the files that it is shown with."""
    found, own = shown_anywhere(), {}
    for where, words in found:
        if len(words) > 1 or words == ["schema"]:  # of others that stand alone the text speaks, and shows no use
            files = files_of(where, words)
            own.setdefault((*shortened(written_out(words)), *(files.get(word) for word in words)), (where, words))
    return [
        pytest.param(*each, id=f"{each[0]}: {' '.join(each[1])}", marks=[pytest.mark.everything] * (each[1] in SLOW))
        for each in own.values()
    ]


def shortened(words: list[str]) -> list[str]:
    """The words with options that make it short, in place of its own."""
    short = SHORT_PATH if "--path" in words else SHORT.get(next(word for word in words if word in COMMANDS), [])
    if {"--help", "--resume", "--draft"} & {*words}:
        return words
    pairs = zip(["", *words], words, strict=False)
    return [word for before, word in pairs if word not in short[::2] and before not in short[::2]] + short


def files_of(where: str, words: list[str]) -> dict[str, str]:
    """The files that are the reader's own, by their names, with what a page says is in them."""
    net = PRICES if "prices.csv" in words else DIGITS
    files = {"net.yaml": net, "spec.yaml": net, "model.yaml": DIGITS, "prices.csv": TABLE, "training.yaml": TRAINING}
    if "--draft" in words:
        del files["training.yaml"]  # which it writes
    if "houses.csv" in words:
        files |= {"net.yaml": HOUSES, "houses.csv": KINDS}
    if where.endswith(".md"):
        blocks = [code for language, code in Page(where).blocks if language == "yaml"]
        files["classifier.yaml"] = next((code for code in blocks if code.startswith("# classifier.yaml")), DIGITS)
    return files


def written_out(words: list[str]) -> list[str]:
    """The words with something in place of what stands for it."""
    name = next(word for word in words if word in COMMANDS)
    places = {**PLACEHOLDERS, "FILE": "", "SPEC": "net.yaml", "…": "net.yaml"}
    out = [OF_COMMAND.get((name, word), places.get(word, word)) for word in words]
    is_for_a_spec = name in ("train", "compile") and not {"--resume", "--help", "--draft"} & {*out}
    if is_for_a_spec and not any(word.endswith(".yaml") for word in out):  # which a text may leave out
        out.append("net.yaml")
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder."""
    return write_run(tmp_path_factory.mktemp("runs") / "run", epochs=1)


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(("where", "words"), shown())
def test_a_command_that_is_shown(
    where: str, words: list[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for name, text in files_of(where, words).items():
        (tmp_path / name).write_text(text)
    arguments = shortened(written_out(words))
    name = next(word for word in arguments if word in COMMANDS)
    for word in arguments:
        if re.fullmatch(r"runs/[\w/]+", word) and name in ("report", "plot", "shrink", "sparsity"):
            shutil.copytree(run, tmp_path / word)
        if re.fullmatch(r"runs/\w+", word) and name in ("evaluate", "predict", "export"):
            training = ["train", "net.yaml"] + (["--data", "prices.csv"] if "prices" in word else [])
            assert command(*training, "--epochs", "1", "-o", word, cwd=tmp_path).code == 0
    if "smaller/spec.yaml" in arguments:
        assert command("shrink", str(run), "-o", str(tmp_path / "smaller")).code == 0
    if "ported/spec.yaml" in arguments:
        regspec.port(ROOT / "examples" / "keras_mlp.keras").save(tmp_path / "ported")
    for found in {"runs/strength/best.yaml", "runs/path/best/spec.yaml"} & {*arguments}:
        (tmp_path / found).parent.mkdir(parents=True)
        shutil.copy(ROOT / "examples" / "digits_search.yaml", tmp_path / found)
    shutil.copy(ROOT / "examples" / "recipes" / "rules.yaml", tmp_path / "rules.yaml")
    if "model.keras" in arguments and name == "port":
        shutil.copy(ROOT / "examples" / "keras_mlp.keras", tmp_path / "model.keras")
    if "saved/" in arguments:
        write_saved_model(tmp_path / "saved")
    if "folder/" in arguments:
        shutil.copytree(ROOT / "tests" / "tfjs" / "uint8", tmp_path / "folder")
    if "--resume" in arguments:
        started = [*written_out(["train", "net.yaml"]), "-o", "runs/net", *SHORT["train"]]
        assert command(*started, cwd=tmp_path).code == 0
        arguments[arguments.index("--epochs") + 1] = "2"
    if "--import" in arguments:
        (tmp_path / "mine.py").write_text(Page("examples/extending.md").block("python", "class Scale"))
        (tmp_path / "own.yaml").write_text(DIGITS + "  - Scale: {start: 0.5}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "mine", raising=False)
    expanded = [str(path) for word in arguments for path in (sorted(ROOT.glob(word)) if "*" in word else [word])]
    done = command(*expanded, cwd=tmp_path)
    assert done.code == 0, done.output
    for option, value in itertools.pairwise(arguments):
        if option in ("-o", "--output"):
            assert (tmp_path / value).exists()


def test_what_is_called_slow_is_shown() -> None:
    assert all(words in [each for _, each in shown_anywhere()] for words in SLOW)


def test_every_command_has_an_example() -> None:
    assert {words[0] for _, words in shown_in_help()} >= COMMANDS.keys()
    assert all("Example: `regspec" in each.epilog for each in COMMANDS.values())


PYTHON = [
    pytest.param(page.name, line, id=f"{page.name}: {line}")
    for page in PAGES
    for language, code in page.blocks
    if language == "sh"
    for line in code.splitlines()
    if re.match(r"(python3?|pytest|bash|\.ci/run)\b", line)
]


@pytest.mark.parametrize(("where", "line"), PYTHON)
def test_scripts_and_tests_that_a_page_names_are_there(where: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    for before, word in zip(["", *words], words, strict=False):
        if before == "-m" and word.startswith(("tests", "regspec")):
            load_module(word)
        elif "/" in word and before in ("pytest", "python", "python3"):
            assert (ROOT / word).exists(), f"{where} shows {line}"
