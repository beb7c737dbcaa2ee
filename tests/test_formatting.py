"""The formatter: what it writes, that it changes no meaning and no comment, and that twice is once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from typer.testing import CliRunner

import regspec
from regspec.cli import app
from regspec.cli.checking import meaning
from regspec.text.document import parse
from regspec.views.formatting import formatted

from .layers.rows import ROWS
from .layers.specs import document_of

TESTS = Path(__file__).parent
CASES = sorted((TESTS / "formatting").glob("*.txt"))
MARKER = "----\n"

SPECS = {  # by their folder, too: some architectures are called as examples are
    f"{path.parent.name}/{path.stem}": path.read_text(encoding="utf-8")
    for folder in (TESTS.parent / "examples", TESTS / "architectures")
    for path in sorted(folder.rglob("*.yaml"))
}
GOLDEN = {
    path.stem: path.read_text(encoding="utf-8").rpartition(MARKER)[0]
    for path in sorted((TESTS / "language").glob("*.txt"))
}


def comments_of(text: str) -> list[str]:
    """The comments of a text whose scalars have no '#' after a space."""
    return sorted(match[1].rstrip() for match in re.finditer(r"(?:^|(?<=\s))(#[^\n]*)", text))


@pytest.mark.parametrize("path", CASES, ids=[path.stem for path in CASES])
def test_is_written_as(path: Path) -> None:
    text, _, wanted = path.read_text(encoding="utf-8").partition(MARKER)
    assert formatted(parse(text)) == wanted
    assert formatted(parse(wanted)) == wanted


@pytest.mark.parametrize("name", ["anchors", "comments_of_what_goes", "brought_forms"])
def test_what_is_rewritten_means_the_same(name: str) -> None:
    text, _, wanted = (TESTS / "formatting" / f"{name}.txt").read_text(encoding="utf-8").partition(MARKER)
    assert meaning(parse(wanted)) == meaning(parse(text))


def check(text: str, path: str) -> str:
    """The formatted text, after what holds for every one."""
    made = formatted(parse(text, path))
    assert formatted(parse(made, path)) == made, "formatted twice it is another"
    assert comments_of(made) == comments_of(text)
    assert all(len(line) <= 120 for line in made.splitlines() if "{" in line or "[" in line)
    return made


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_means_the_same(name: str) -> None:
    text = SPECS[name]
    made = check(text, f"{name}.yaml")
    if "rules" not in parse(text).data:
        assert meaning(parse(made, f"{name}.yaml")) == meaning(parse(text, f"{name}.yaml"))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_case_means_the_same(name: str) -> None:
    path = str(TESTS / "language" / f"{name}.yaml")
    assert meaning(parse(check(GOLDEN[name], path), path)) == meaning(parse(GOLDEN[name], path))


ROWS_OF_KINDS = {row.kind: row for row in ROWS}


@pytest.mark.parametrize("kind", ROWS_OF_KINDS)
def test_a_kind_means_the_same(kind: str) -> None:
    """A spec of every kind, from plain data, whose flow style is PyYAML's."""
    row = ROWS_OF_KINDS[kind]
    text = yaml.safe_dump(document_of(row, row.fields), default_flow_style=None, width=60)
    assert meaning(parse(check(text, "x.yaml"), "x.yaml")) == meaning(parse(text, "x.yaml"))


# -- any style ---------------------------------------------------------------------------------------------------------

SPELLINGS = {
    "relu": ["relu", "ReLU", {"relu": None}, {"Relu": {}}, "relu()", {"class_name": "ReLU", "config": {"name": "r"}}],
    "l2": ["l2", "L2", {"l2": {}}, {"L2": 0.01}, {"l2": {"strength": 0.01}}, "l2(0.01)", {"class_name": "L2"}],
    "he_normal": ["HeNormal", {"he_normal": {}}, {"class_name": "HeNormal", "config": {"seed": None}}],
    "gelu": ["GELU", {"gelu": {"approximate": False}}],
}


def restyled(value: Any, draw: Any) -> Any:
    """The data with names in other spellings, and keys in another order."""
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value))) if len(value) < 9 else list(value)
        return {key: restyled(value[key], draw) for key in keys}
    if isinstance(value, list):
        return [restyled(each, draw) for each in value]
    return draw(st.sampled_from(SPELLINGS[value])) if value in SPELLINGS and isinstance(value, str) else value


@st.composite
def texts(draw: Any) -> str:
    """A spec in some style, with comments and blank lines wherever they may stand."""
    name = draw(st.sampled_from(sorted(SPECS)))
    data = parse(SPECS[name]).data
    order = [*data]
    data = {
        key: restyled(data[key], draw) if key in ("layers", "blocks") else data[key]
        for key in draw(st.permutations(order))
    }
    style = draw(st.sampled_from([True, False, None]))
    width, indent = draw(st.sampled_from([30, 80, 10**6])), draw(st.sampled_from([2, 4]))
    text: str = yaml.safe_dump(data, default_flow_style=style, width=width, indent=indent, sort_keys=False)
    lines = text.split("\n")
    for number in draw(st.lists(st.integers(0, len(lines) - 1), max_size=6)):
        comment = f"# {draw(st.sampled_from(['one', 'two: 2', '- three', '{four}', '# five']))}"
        way = draw(st.sampled_from(["beside", "above", "blank"]))
        space = " " * draw(st.integers(0, 9))
        changed = [*lines]
        if way == "beside":
            changed[number] += f"  {comment}"
        else:
            changed.insert(number, f"{space}{comment}" if way == "above" else "")
        try:
            if parse("\n".join(changed)).data == data:
                lines = changed
        except regspec.RegspecError:
            pass
    return "\n".join(lines)


@given(texts())
def test_any_style(text: str) -> None:
    assume("'#" not in text)
    try:
        known = meaning(parse(text, "x.yaml"))
    except regspec.RegspecError:  # a file of rules, or keys that have an order
        assume(False)
        return
    assert meaning(parse(check(text, "x.yaml"), "x.yaml")) == known


# -- the command -------------------------------------------------------------------------------------------------------

LONG = "layers: [{Flatten: }]   # all\nregspec: 1\nname: net\ninputs: {x: {shape: [3, 4]}}\n"
SHORT = "regspec: 1\nname: net\ninputs: {x: {shape: [3, 4]}}\nlayers: [Flatten]  # all\n"


def run(*arguments: str, given: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["format", *arguments], input=given, catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_a_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(LONG, encoding="utf-8")
    assert run(str(path), "--check") == (1, "", f"{path}: would be formatted\n")
    code, shown, _ = run(str(path), "--diff")
    assert code == 1
    assert "-layers: [{Flatten: }]   # all\n" in shown
    assert "+layers: [Flatten]  # all\n" in shown
    assert path.read_text(encoding="utf-8") == LONG
    assert run(str(path)) == (0, "", f"{path}: formatted\n")
    assert path.read_text(encoding="utf-8") == SHORT
    assert run(str(path)) == (0, "", "")
    assert run("--check", "--diff", str(path)) == (0, "", "")


def test_the_standard_input() -> None:
    assert run("-", given=LONG) == (0, SHORT, "")
    assert run("-", "--check", given=LONG) == (1, "", "<stdin>: would be formatted\n")
    assert run("-", "--check", given=SHORT) == (0, "", "")
    assert run("-", "-", given=SHORT)[0] == 2


def test_a_file_with_faults_is_left(tmp_path: Path) -> None:
    """Its faults are those that ``check`` prints, and other files are formatted all the same."""
    faulty, other = tmp_path / "faulty.yaml", tmp_path / "other.yaml"
    faulty.write_text(LONG.replace("Flatten", "Flaten"), encoding="utf-8")
    other.write_text(LONG, encoding="utf-8")
    code, _, said = run(str(faulty), str(other))
    checked = CliRunner().invoke(app, ["check", str(faulty)]).stdout
    assert (code, said) == (1, f"{checked}{other}: formatted\n")
    assert "Flaten" in faulty.read_text(encoding="utf-8")
    assert other.read_text(encoding="utf-8") == SHORT


def test_what_would_mean_something_else_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A formatter that writes another layer is caught before it writes."""
    path = tmp_path / "net.yaml"
    path.write_text(LONG, encoding="utf-8")
    other = SHORT.replace("Flatten", "Reshape: {target_shape: [-1]}")
    assert other != SHORT
    monkeypatch.setattr("regspec.views.formatting.formatted", lambda document: other)
    code, _, said = run(str(path))
    assert (code, said) == (1, f"{path}: error: can't be formatted without changing what it means: report it\n")
    assert path.read_text(encoding="utf-8") == LONG


def test_a_text_is_no_number_in_a_call_either(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    for regularizer in ("l2($c)", "{l2: $c}"):
        dense = f"[Dense: {{units: 3, kernel_regularizer: {regularizer}}}]"
        path.write_text(SHORT.replace("[Flatten]", dense) + "parameters: {c: '0.5'}\n", encoding="utf-8")
        code, _, said = run(str(path))
        assert (code, "must be a number, but is '0.5'" in said) == (1, True)


def test_examples_are_formatted() -> None:
    paths = [str(path) for path in sorted((TESTS.parent / "examples").glob("*.yaml"))]
    assert run("--check", *paths) == (0, "", "")
