"""The command line: what it prints, what it exits with, and that a fault of the input gives no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import regspec
from regspec.cli import app

from .commands import ROOT, command, command_apart

GOOD = "regspec: 1\nname: good\ninputs: {x: {shape: [4]}}\nlayers:\n  - Dense: {units: 3, kernel_regularizer: l2}\n"
BAD = GOOD.replace("kernel_regularizer", "kernel_regulariser")
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]


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


def test_faults_as_json(folder: Path) -> None:
    result = command("check", "good.yaml", "bad.yaml", "--format", "json", cwd=folder)
    assert json.loads(result.stdout) == [
        {
            "path": "bad.yaml",
            "line": 5,
            "column": 23,
            "message": "Dense has no field 'kernel_regulariser'",
            "hint": "did you mean 'kernel_regularizer'?",
        }
    ]
    assert json.loads(command("check", "good.yaml", "--format", "json", cwd=folder).stdout) == []


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


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_runs(name: str, tmp_path: Path) -> None:
    text = " ".join(command(name.strip("_"), "--help").stdout.split())
    example = text.partition("Example: regspec ")[2]
    assert example, text
    if name not in ("train", "tune", "report", "plot"):  # which have tests of their own
        arguments = [
            str(tmp_path / "out") if ("." in each or "/" in each) and "examples" not in each else each
            for each in example.split()
        ]
        expanded = [str(path) for each in arguments for path in (sorted(ROOT.glob(each)) if "*" in each else [each])]
        assert command(*expanded).code == 0


def test_colours_are_for_terminals(folder: Path) -> None:
    assert "\x1b" not in command("check", "bad.yaml", cwd=folder).stdout
