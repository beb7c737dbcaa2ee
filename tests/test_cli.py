"""The command line: what it prints, what it exits with, and that a fault of the input gives no traceback."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import regspec
from regspec.__main__ import main

from .commands import ROOT, Done, command, command_apart
from .runs import write_run

GOOD = "regspec: 1\nname: good\ninputs: {x: {shape: [4]}}\nlayers:\n  - Dense: {units: 3, kernel_regularizer: l2}\n"
BAD = GOOD.replace("kernel_regularizer", "kernel_regulariser")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    (tmp_path / "rules.yaml").write_text("regspec: 1\nrules:\n  - {types: [Linear], kernel_regularizer: l2}\n")
    (tmp_path / "latin.yaml").write_bytes("name: caf\u00e9".encode("latin-1"))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("check good.yaml rules.yaml", 0),
        ("check good.yaml bad.yaml", 1),
        ("check latin.yaml", 1),
        ("check absent.yaml", 1),
        ("check .", 1),
        ("check", 2),
        ("check good.yaml --format xml", 2),
        ("show good.yaml", 0),
        ("show bad.yaml", 1),
        ("show rules.yaml", 1),
        ("show good.yaml bad.yaml", 2),
        ("compile good.yaml", 0),
        ("compile bad.yaml -o out.py", 1),
        ("compile good.yaml -o absent/out.py", 1),
        ("train bad.yaml", 1),
        ("train good.yaml --data nothing", 1),
        ("train good.yaml --data absent.npz", 1),
        ("train good.yaml --data absent:function", 1),
        ("train good.yaml", 1),
        ("train good.yaml --epochs 0", 2),
        ("schema absent", 2),
        ("--import absent check good.yaml", 1),
        ("absent", 2),
        ("--version", 0),
    ],
)
def test_exit_codes(folder: Path, arguments: str, code: int) -> None:
    result = command(*arguments.split(), cwd=folder)
    assert result.code == code, result.output
    assert result.output.strip()
    assert not (folder / "out.py").exists()
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(("name", "code"), [("good.yaml", 0), ("bad.yaml", 1)])
def test_a_process_of_its_own(folder: Path, name: str, code: int) -> None:
    """Is what a command is in this one; a fault of the input is printed, without a traceback."""
    run = [sys.executable, "-m", "regspec", "check", name]
    result = subprocess.run(run, capture_output=True, text=True, cwd=folder)
    wanted = command("check", name, cwd=folder)
    assert (result.returncode, result.stdout, result.stderr) == (code, wanted.stdout, wanted.stderr)
    assert "Traceback" not in result.stdout + result.stderr


def test_an_interrupt_while_modules_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "regspec.cli", Interrupted("regspec.cli"))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130


def test_check_prints_a_line_for_each_file(folder: Path) -> None:
    assert command("check", "good.yaml", "rules.yaml", cwd=folder).stdout == (
        "good.yaml: good, 1 layer, 15 parameters, 1 penalty\nrules.yaml: 1 rule\n"
    )


def test_check_prints_every_fault(folder: Path) -> None:
    result = command("check", "bad.yaml", "absent.yaml", cwd=folder)
    assert result.stdout == (
        "bad.yaml:5:23: error: Dense has no field 'kernel_regulariser'\n"
        "    5 |   - Dense: {units: 3, kernel_regulariser: l2}\n"
        "      |                       ^^^^^^^^^^^^^^^^^^\n"
        "   = did you mean 'kernel_regularizer'?\n"
        "absent.yaml: error: can't be read: No such file or directory\n"
    )


def test_many_files_are_told_in_their_order(folder: Path) -> None:
    """Whatever processes they are shared out to, and with what is registered in the first."""
    (folder / "mine.py").write_text("import regspec, torch\n@regspec.register_layer\nclass Own(torch.nn.Tanh): pass\n")
    texts = [(folder / name).read_text() for name in ("good.yaml", "bad.yaml", "rules.yaml")]
    texts.append(
        "regspec: 1\ninputs: {x: {shape: [4]}}\nlayers: [Dense: {units: 3, kernel_initializer: xavier_uniform_}, Own]\n"
    )
    names = [f"{index}.yaml" for index in range(40)]
    for index, name in enumerate(names):
        (folder / name).write_text(texts[index % 4])
    imported = ["--import", "mine", "check"]
    run = [sys.executable, "-m", "regspec", *imported, *names]
    together = subprocess.run(run, capture_output=True, text=True, cwd=folder)
    apart = [command_apart(*imported, *some, cwd=folder) for some in (names[:20], names[20:])]
    assert (together.returncode, together.stdout) == (1, "".join(each.stdout for each in apart))
    assert together.stdout.count("did you mean 'kernel_regularizer'?") == 10
    assert together.stdout.count("note: 'xavier_uniform_' is read") == 10


def test_faults_as_json(folder: Path) -> None:
    result = command("check", "good.yaml", "bad.yaml", "--format", "json", cwd=folder)
    assert json.loads(result.stdout) == [
        {
            "path": "bad.yaml",
            "line": 5,
            "column": 23,
            "message": "Dense has no field 'kernel_regulariser'",
            "hint": "did you mean 'kernel_regularizer'?",
            "severity": "error",
        }
    ]
    assert json.loads(command("check", "good.yaml", "--format", "json", cwd=folder).stdout) == []


def test_notes(tmp_path: Path) -> None:
    """What is read otherwise than it is written is said, and is no fault."""
    (tmp_path / "noted.yaml").write_text("regspec: 1\ninputs: {x: {shape: [4]}}\nlayers:\n  - Linear: {units: 3}\n")
    assert command("check", "noted.yaml", cwd=tmp_path).stdout.splitlines() == [
        "noted.yaml: noted, 1 layer, 15 parameters, 0 penalties",
        "noted.yaml:4:5: note: 'Linear' is read as Dense, with Keras's defaults",
        "    4 |   - Linear: {units: 3}",
        "      |     ^^^^^^",
    ]
    (note,) = json.loads(command("check", "noted.yaml", "--format", "json", cwd=tmp_path).stdout)
    assert (note["severity"], note["line"], note["message"]) == (
        "note",
        4,
        "'Linear' is read as Dense, with Keras's defaults",
    )


def test_show_as_table() -> None:
    lines = command("show", "examples/siamese.yaml").stdout.splitlines()
    assert ["tower.conv1", "Conv2D", "(batch, 16, 12, 12)", "416", "kernel l2 0.0001"] in [
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines
    ]
    assert any("tower_right" in line and "(again)" in line for line in lines)
    assert lines[-1] == "6 layers, 56,320 parameters, 4 penalties"


def test_show_as_json() -> None:
    shown = json.loads(command("show", "examples/mlp.yaml", "--format", "json").stdout)
    assert shown["inputs"] == {"features": "(batch, 13)"}
    hidden = next(layer for layer in shown["layers"] if layer["name"] == "hidden1")
    assert hidden == {
        "name": "hidden1",
        "kind": "Dense",
        "is_call": False,
        "output_shapes": ["(batch, 32)"],
        "parameters": 13 * 32 + 32,
        "trainable": 13 * 32 + 32,
        "penalties": {"kernel": "l1 1e-05 + l2 0.001", "activity": "l1 0.0001"},
    }
    model = regspec.build(ROOT / "examples" / "mlp.yaml")
    assert shown["trainable"] == sum(parameter.numel() for parameter in model.parameters())


def test_show_counts_what_is_trained(tmp_path: Path) -> None:
    layers = "[Dense: {units: 5, trainable: false}, BatchNormalization: {name: norm}, Dense: {units: 3, name: last}]"
    (tmp_path / "net.yaml").write_text(f"regspec: 1\ninputs: {{x: {{shape: [4]}}}}\nlayers: {layers}\n")
    shown = json.loads(command("show", "net.yaml", "--format", "json", cwd=tmp_path).stdout)
    assert {each["name"]: (each["parameters"], each["trainable"]) for each in shown["layers"]} == {
        "dense": (4 * 5 + 5, 0),
        "norm": (4 * 5, 2 * 5),
        "last": (5 * 3 + 3, 5 * 3 + 3),
    }
    assert (shown["parameters"], shown["trainable"]) == (63, 28)


def test_show_draws_masks_that_are_named(tmp_path: Path) -> None:
    layers = "[LSTM: {units: 3, inputs: x, mask: counts, name: lstm}]"
    inputs = "{x: {shape: [6, 4]}, counts: {shape: [6], dtype: bool}}"
    (tmp_path / "net.yaml").write_text(f"regspec: 1\ninputs: {inputs}\nlayers: {layers}\n")
    lines = command("show", "net.yaml", "--graph", cwd=tmp_path).stdout.splitlines()
    assert [line.strip() for line in lines if "-->" in line] == [
        "x --> lstm",
        "counts --> lstm",
        "lstm --> output_0_out",
    ]


def test_show_as_graph() -> None:
    lines = command("show", "examples/siamese.yaml", "--graph").stdout.splitlines()
    assert lines[0] == "flowchart TD"
    assert '    subgraph tower["tower: tower"]' in lines
    assert "        left --> tower__conv1" in lines
    assert "    tower_right__embedding --> similarity" in lines


def test_compile_writes_what_source_gives(folder: Path) -> None:
    for standalone in (False, True):
        options = ["--standalone"] if standalone else []
        assert command("compile", "good.yaml", "-o", "out.py", *options, cwd=folder).stdout == ""
        source = regspec.source(folder / "good.yaml", standalone=standalone)
        assert (folder / "out.py").read_text() == source == command("compile", "good.yaml", *options, cwd=folder).stdout


# -- files that are there ---------------------------------------------------------------------------------------------

WRITING = {
    "compile good.yaml -o out": "out",
    "compile good.yaml -o out --standalone": "out",
    "compile good.yaml -o out --target keras": "out",
    "schema -o out": "out",
    "schema rules -o out": "out",
    "kinds Dense -o out": "out",
    "kinds Dense --format json -o out": "out",
    "kinds Dense --format markdown -o out": "out",
    "report run -o out": "out",
    "plot run curves -o out.png": "out.png",
    "plot run curves -o out.svg": "out.svg",
    "plot run curves -o out.pdf": "out.pdf",
    "plot run -o out": "out/terms.png",
    "predict run --data digits -o out.csv": "out.csv",
    "predict run --data digits -o out.parquet": "out.parquet",
    "predict run --data digits -o out.npz": "out.npz",
    "port model.keras -o out": "out/model.py",
    "port model.keras -o out ": "out/spec.yaml",
    "port model.keras -o out  ": "out/weights.safetensors",
    "port model.keras -o out   ": "out/report.md",
}
FOREIGN = {  # of other programs, or people
    ".html": b'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>My garden</title>\n',
    ".png": b"\x89PNG\r\n\x1a\n of a cat",
    ".svg": b'<?xml version="1.0" encoding="utf-8" standalone="no"?>\n<svg/>\n',
    ".pdf": b"%PDF-1.4\n% a letter\n",
    ".json": b'{\n "$schema": "https://json-schema.org/draft/2020-12/schema",\n "title": "mine"\n}\n',
    "": b"# Mine\n",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", epochs=1)


@pytest.mark.parametrize(
    "text", [pytest.param(each, marks=[pytest.mark.everything] * (each == "plot run -o out")) for each in WRITING]
)
def test_a_file_that_was_edited_is_kept(text: str, folder: Path, run: Path) -> None:
    """By every command that writes files, until --force is given."""
    path = folder / WRITING[text]
    (folder / "run").symlink_to(run)
    (folder / "model.keras").symlink_to(ROOT / "examples" / "keras_mlp.keras")
    assert command(*text.split(), cwd=folder).code == 0
    made = path.read_bytes()
    assert command(*text.split(), cwd=folder).code == 0  # the same again is no loss
    half = len(made) // 2
    for edited in (b"# mine\n" + made, made + b"# mine\n", made[:half] + b"# mine\n" + made[half:], made[:-1]):
        path.write_bytes(edited)
        result = command(*text.split(), cwd=folder)
        assert result.code == 1
        by_hand = "" if text.startswith("predict") else ", which may have been edited by hand"
        assert result.stderr == (
            f"{WRITING[text]}: error: is there already, and holds something else{by_hand}\n"
            "   = --force writes over it; -o names another\n"
        )
        assert path.read_bytes() == edited
    assert command(*text.split(), "--force", cwd=folder).code == 0
    assert path.read_bytes() == made


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("report run -o out.html", "out.html"),
        ("plot run curves -o out.png", "out.png"),
        ("plot run curves -o out.svg", "out.svg"),
        ("plot run curves -o out.pdf", "out.pdf"),
        ("plot run -o out", "out/curves.png"),
        ("schema -o out.json", "out.json"),
        ("kinds Dense --format json -o out.json", "out.json"),
        ("kinds Dense --format markdown -o out", "out"),
        ("port model.keras -o out", "out/report.md"),
        ("port model.keras -o out", "out/weights.safetensors"),
    ],
)
def test_a_file_of_another_program_is_kept(text: str, path: str, folder: Path, run: Path) -> None:
    """Even if it is of the same form."""
    (folder / "run").symlink_to(run)
    (folder / "model.keras").symlink_to(ROOT / "examples" / "keras_mlp.keras")
    there = folder / path
    there.parent.mkdir(exist_ok=True)
    there.write_bytes(FOREIGN.get(there.suffix, FOREIGN[""]))
    result = command(*text.split(), cwd=folder)
    assert (result.code, there.read_bytes()) == (1, FOREIGN.get(there.suffix, FOREIGN[""]))
    assert result.stderr.startswith(f"{path}: error: is there already, and holds something else")


@pytest.mark.parametrize(
    ("first", "second", "path"),
    [
        ("report run -o out", "report run run -o out", "out"),
        ("plot run curves -o out.png", "plot run terms -o out.png", "out.png"),
        ("plot run curves -o out.svg", "plot run terms -o out.svg", "out.svg"),
        ("plot run curves -o out.pdf", "plot run terms -o out.pdf", "out.pdf"),
        ("port model.keras -o out", "port model.keras -o out --verify", "out/report.md"),
        ("schema -o out", "schema rules -o out", "out"),
        ("kinds Dense --format markdown -o out", "kinds regularizers --format markdown -o out", "out"),
    ],
)
def test_what_is_made_from_something_else_may_go(first: str, second: str, path: str, folder: Path, run: Path) -> None:
    """A page, a figure, a report and a schema can be made again, and are written over when there is something new."""
    (folder / "run").symlink_to(run)
    (folder / "model.keras").symlink_to(ROOT / "examples" / "keras_mlp.keras")
    assert command(*first.split(), cwd=folder).code == 0
    made = (folder / path).read_bytes()
    assert command(*second.split(), cwd=folder).code == 0
    assert (folder / path).read_bytes() != made


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(("compile good.yaml -o", name) for name in (".", "/", "", "inside")),
        *((f"{other} -o", "inside") for other in ("schema", "kinds Dense", "report run")),
    ],
)
def test_a_folder_where_a_file_is_to_be(text: str, name: str, folder: Path, run: Path) -> None:
    (folder / "run").symlink_to(run)
    (folder / "inside").mkdir()
    result = command(*text.split(), name, cwd=folder)
    assert (result.code, result.stdout) == (1, "")
    assert result.stderr == f"{Path(name)}: error: is a folder, where a file is to be written\n"


def test_a_source_that_was_edited_anywhere(folder: Path) -> None:
    """One character is enough; a source of a spec that has changed since can't be told from it, and is kept too."""
    assert command("compile", "good.yaml", "-o", "out.py", cwd=folder).code == 0
    made = (folder / "out.py").read_text()
    (folder / "out.py").write_text(made.replace("nn.Linear(4, 3)", "nn.Linear(4, 3).double()"))
    assert command("compile", "good.yaml", "-o", "out.py", "--standalone", cwd=folder).code == 1
    assert ".double()" in (folder / "out.py").read_text()
    (folder / "out.py").write_text(made)
    (folder / "good.yaml").write_text(GOOD.replace("units: 3", "units: 5"))
    assert command("compile", "good.yaml", "-o", "out.py", cwd=folder).code == 1
    assert command("compile", "good.yaml", "-o", "out.py", "--force", cwd=folder).code == 0
    assert "nn.Linear(4, 5)" in (folder / "out.py").read_text()


# -- the standard input -----------------------------------------------------------------------------------------------


def command_on(text: str, *arguments: str, cwd: Path) -> Done:
    """A command with a text on its standard input."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))
        return command(*arguments, cwd=cwd)


RULES = "regspec: 1\nrules: [{types: [Linear], kernel_regularizer: l2}]\n"
RESNET = "examples.recipes.any_module:ResNet"


@pytest.mark.parametrize(
    ("arguments", "text", "file"),
    [
        (["check"], GOOD, "good.yaml"),
        (["check"], BAD, "bad.yaml"),
        (["check"], RULES, "rules.yaml"),
        (["check", "--format", "json"], BAD, "bad.yaml"),
        (["show"], GOOD, "good.yaml"),
        (["show", "--graph"], GOOD, "good.yaml"),
        (["show", "--format", "json"], GOOD, "good.yaml"),
        (["show"], BAD, "bad.yaml"),
        (["compile"], GOOD, "good.yaml"),
        (["compile", "--standalone"], GOOD, "good.yaml"),
        (["compile", "--target", "keras"], GOOD, "good.yaml"),
        (["compile"], BAD, "bad.yaml"),
    ],
)
def test_the_standard_input_is_a_file(arguments: list[str], text: str, file: str, folder: Path) -> None:
    (folder / "rules.yaml").write_text(RULES)
    name, *options = arguments
    got = command_on(text, name, "-", *options, cwd=folder)
    wanted = command(name, file, *options, cwd=folder)
    assert got.code == wanted.code
    assert got.stdout.replace("<stdin>", file) == wanted.stdout
    assert got.stderr.replace("<stdin>", file) == wanted.stderr


def test_rules_on_the_standard_input() -> None:
    text = (ROOT / "examples" / "recipes" / "rules.yaml").read_text()
    got = command_on(text, "rules", "-", RESNET, cwd=ROOT)
    assert got == command("rules", "examples/recipes/rules.yaml", RESNET)
    assert got.code == 0


@pytest.mark.parametrize("name", ["train", "tune"])
def test_help_has_options_under_headings(name: str) -> None:
    lines = command(name, "--help").stdout.splitlines()
    headings = {each.strip("╭─╮ "): number for number, each in enumerate(lines) if each.startswith("╭")}
    where = {each.split()[1]: number for number, each in enumerate(lines) if each.startswith("│ --")}
    found = {}
    for option, row in where.items():
        found[option] = max((heading for heading in headings if headings[heading] < row), key=headings.__getitem__)
    own = {
        "train": {"--resume": "Options", "--folds": "Data", "--devices": "Machine"},
        "tune": {"--trials": "The search", "--from": "A path"},
    }
    rows = {"--with": "Options", "--columns": "Data", "--route": "The loss", "--lr": "Steps", **own[name]}
    rows |= {"--patience": "Beginning and end", "--compile": "Machine"}
    assert {option: found[option] for option in rows} == rows


def test_the_standard_input_beside_files(folder: Path) -> None:
    result = command_on(GOOD, "check", "bad.yaml", "-", "rules.yaml", cwd=folder)
    assert result.code == 1
    assert "<stdin>: good, 1 layer" in result.stdout
    assert "the standard input can be read once" in command_on(GOOD, "check", "-", "-", cwd=folder).stderr
    block = "regspec: 1\ninputs: {x: {shape: [4]}}\nblocks: {own: {file: good.yaml}}\nlayers: [own]\n"
    assert "a block's file is found from the folder of the spec" in command_on(block, "check", "-", cwd=folder).stdout
    assert command_on("", "check", "-", cwd=folder).code == 1


@pytest.mark.parametrize("name", ["train", "tune"])
def test_a_run_keeps_the_file_of_its_spec(name: str, folder: Path) -> None:
    result = command_on(GOOD, name, "-", cwd=folder)
    assert result.code == 2
    assert "standard input" in result.stderr


# -- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "layer"),
    [
        ([2147483647], "Dense: {units: 2147483647}"),
        ([5], "Embedding: {input_dim: 2000000000, output_dim: 2000000}"),
        ([7, 2000000000], "LSTM: {units: 2000000000}"),
        ([2000000000, 5, 5], "Conv2D: {filters: 2000000000, kernel_size: 3}"),
        ([2000000, 2000000], "PReLU"),
        ([2000000, 2000000], "LayerNormalization: {axis: [1, 2]}"),
    ],
)
def test_more_than_there_is_memory_for(shape: list[int], layer: str, tmp_path: Path) -> None:
    """Is checked and compiled, which need none, and is a fault of the layer where it is to be built."""
    text = f"regspec: 1\nname: net\ninputs: {{x: {{shape: {shape}}}}}\nlayers:\n  - {layer}\n"
    with pytest.raises(regspec.RegspecError, match=r"parameters.*: there is not the memory for them") as caught:
        regspec.build(text)
    assert (caught.value.problems[0].line, caught.value.problems[0].column) == (5, 5)
    (tmp_path / "net.yaml").write_text(text)
    assert command("check", "net.yaml", cwd=tmp_path).code == 0


def test_a_training_without_the_memory(folder: Path) -> None:
    (folder / "more.yaml").write_text(
        GOOD.replace("shape: [4]", "shape: [13]") + "  - RepeatVector: {n: 2000000000}\n  - Flatten\n"
    )
    result = command("train", "more.yaml", "--data", "wine", cwd=folder)
    assert (result.code, "Traceback" in result.stderr) == (1, False), result.output


def test_standalone_source_needs_torch_alone(folder: Path) -> None:
    command("compile", "good.yaml", "--standalone", "-o", "model.py", cwd=folder)
    code = (
        "import sys; sys.modules['regspec'] = None; import torch, model; net = model.Good(); net(torch.ones(2, 4));"
        "assert net.regularization_terms().keys() == {'dense.kernel'}"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_imports_what_registers_layers(folder: Path) -> None:
    """The current folder's modules are found, as the user of a script expects."""
    (folder / "mine.py").write_text(
        "import regspec, torch\n@regspec.register_layer\nclass Twice(torch.nn.Module):\n"
        "    def forward(self, x):\n        return 2 * x\n"
    )
    (folder / "own.yaml").write_text(GOOD + "  - Twice\n")
    assert command("check", "own.yaml", cwd=folder).code == 1
    result = command_apart("--import", "mine", "check", "own.yaml", cwd=folder)
    assert result.code == 0, result.output


def test_colours_are_for_terminals(folder: Path) -> None:
    assert "\x1b" not in command("check", "bad.yaml", cwd=folder).stdout
