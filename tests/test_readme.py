"""The README, and what holds for every page: links lead somewhere, commands and specs are those that there are."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import typer
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import regspec
from regspec.cli import app
from regspec.specs import loading
from regspec.text import document
from regspec.training.options.schema import training_schema
from regspec.views.schema import spec_schema

from .markdown import PAGES, ROOT, Page

README = Page("README.md")
INDEX = Page("examples/README.md")
CLASSIFIER = README.block("yaml", "# classifier.yaml")
COMMAND: Any = typer.main.get_command(app)
USAGE_ERROR: Any = typer.BadParameter.__base__

of_every_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


@pytest.fixture
def classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("classifier.yaml").write_text(CLASSIFIER, encoding="utf-8")
    return Path("classifier.yaml")


# -- CONTRIBUTING ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("diff", [code for language, code in Page("CONTRIBUTING.md").blocks if language == "diff"])
def test_its_diffs_are_of_this_repository(diff: str) -> None:
    """What each adds, and the lines around, stand in the file, one after the other."""
    for file in re.split(r"^--- a/.*\n", diff, flags=re.MULTILINE)[1:]:
        head, _, lines = file.partition("\n")
        text = (ROOT / head.removeprefix("+++ b/")).read_text(encoding="utf-8")
        assert "".join(f"{line[1:]}\n" for line in lines.splitlines()) in text


# -- the README --------------------------------------------------------------------------------------------------------


def test_it_is_short() -> None:
    assert len(README.text.splitlines()) <= 200


def test_it_says_how_to_install_and_test() -> None:
    """Word for word: the first is what the gate runs."""
    assert "pip install -e '.[test]' && pytest" in README.text
    assert "pip install -e '.[train]' && regspec train examples/digits_cnn.yaml" in README.text


def test_compiled_source(classifier: Path) -> None:
    assert regspec.source(classifier) == README.block("python", "compiled by regspec")


@pytest.mark.usefixtures("classifier")
def test_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule for a module first, then the spec."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    weight = model[1].weight
    names: dict[str, Any] = {"regspec": regspec, "F": F, "model": model}
    names |= {"images": torch.randn(8, 1, 28, 28), "labels": torch.randint(0, 10, (8,))}
    rule, spec, source, training = (code for language, code in README.blocks if language == "python")
    exec(rule, names)
    assert names["model"] is model
    torch.testing.assert_close(names["model"].regularization_loss(), 1e-4 * weight.square().sum())
    exec(spec, names)
    assert set(names["model"].regularization_terms()) == {"conv.kernel", "hidden.kernel", "hidden.activity"}
    names["loss"].backward()
    assert {name: tuple(x.shape) for name, x in names["inside"].items()} == {"conv": (8, 16, 26, 26), "hidden": (8, 64)}
    exec(source, names)
    assert names["Classifier"]()(names["images"]).shape == (8, 10)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names["images"] = load_digits().images / 16
    exec(training.replace("epochs=5", "epochs=1"), names)
    assert names["run"].predict(names["images"]).values.shape == (1797,)


def test_every_command_is_in_the_table() -> None:
    rows = [line for line in README.text.splitlines() if line.startswith("| `regspec ")]
    named = {name for row in rows for name in re.findall(r"`regspec (\w+)", row.split(" | ")[0])}
    assert named == set(COMMAND.commands)


# -- every page --------------------------------------------------------------------------------------------------------


@of_every_page
def test_links_lead_somewhere(page: Page) -> None:
    for link in page.links:
        path, _, anchor = link.partition("#")
        if re.match(r"\w+:", path):
            continue  # elsewhere on the web
        target = (page.folder / path).resolve() if path else ROOT / page.name
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            (linked,) = (each for each in PAGES if ROOT / each.name == target)
            assert anchor in linked.anchors, f"{page.name} links to {link}"


@of_every_page
def test_commands_are_those_that_there_are(page: Page) -> None:
    """With options that they have. Nothing is run; in the text an argument may be left out."""
    for words in page.commands:
        first = next((place for place, word in enumerate(words) if word in COMMAND.commands), None)
        assert first is not None, f"{page.name} shows regspec {' '.join(words)}"
        name, *rest = words[first:]
        try:
            COMMAND.commands[name].make_context(name, [word for word in rest if word != "--help"])
        except USAGE_ERROR as error:
            if type(error).__name__ != "MissingParameter":
                pytest.fail(f"{page.name} shows regspec {' '.join(words)}: {error.format_message()}")


@of_every_page
def test_extras_are_those_that_there_are(page: Page) -> None:
    known = importlib.metadata.metadata("regspec").get_all("Provides-Extra") or []
    assert {name for names in re.findall(r"'\.\[([\w,]+)\]'", page.text) for name in names.split(",")} <= {*known}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(spec_schema())


YAML = [
    pytest.param(page, code, id=f"{page.name}-{number}")
    for page in PAGES
    if page.folder.name != "schemas"  # whose examples are run elsewhere
    for number, (language, code) in enumerate(page.blocks)
    if language == "yaml"
]


@pytest.mark.parametrize(("page", "code"), YAML)
def test_yaml_is_as_the_language_has_it(page: Page, code: str, validator: jsonschema.Draft202012Validator) -> None:
    """Whole specs and rules are loaded; parts of a spec are valid as such."""
    if code.startswith("# yaml-language-server") or page.name == "examples/extending.md":
        return  # compared with the examples; and with what is the reader's own, which `test_pages` runs
    read = document.parse(code)
    data = read.data
    if "repos" in data:  # the configuration of pre-commit
        hooks, offered = data["repos"][0]["hooks"], document.read(ROOT / ".pre-commit-hooks.yaml").data
        said = [[[hook[name] for name in ("entry", "language", "files")] for hook in each] for each in (hooks, offered)]
        assert said[0] == said[1]
        return
    if "training" in data:
        jsonschema.validate(data, training_schema())
        return
    if "rules" in data:
        assert loading.rules_from(read)[0] is not None
        return
    if isinstance(data, dict) and {"regspec", "inputs", "layers"} <= data.keys():
        regspec.loads(code, page.name)
        return
    part = {"layers": data} if isinstance(data, list) else data
    whole = {"regspec": 1, "inputs": {"x": {"shape": [5]}}, "layers": ["Flatten"], **part}
    assert [error.message for error in validator.iter_errors(whole)] == []


def test_every_page_and_example_is_in_the_index() -> None:
    linked = {(INDEX.folder / link.partition("#")[0]).resolve() for link in INDEX.links}
    files = [path for pattern in ("*.*", "recipes/*.*", "integrations/*.*") for path in INDEX.folder.glob(pattern)]
    missing = {path for path in files if not path.name.startswith(".")} - linked - {INDEX.folder / "README.md"}
    assert missing == set()


def test_editors_are_told_the_schema_as_in_the_examples() -> None:
    line = Page("examples/language.md").block("yaml", "yaml-language-server")
    assert (ROOT / "examples" / "mlp.yaml").read_text(encoding="utf-8").startswith(line)
