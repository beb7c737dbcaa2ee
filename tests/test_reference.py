"""The reference of kinds and names: all are in it, their examples run, and the command shows them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import regspec
from regspec.cli import app, main
from regspec.language.regularizers import REGULARIZERS
from regspec.layers import KINDS
from regspec.layers.cells import CELLS
from regspec.text import document
from regspec.views.reference import SORTS, Kind, Name, reference

from .layers.rows import ROWS, Row

WHOLE = reference()
LAYERS = [kind for kind in WHOLE.kinds if kind.group != "registered" and not kind.is_cell]
CELLS_SHOWN = [kind for kind in WHOLE.kinds if kind.is_cell]
COLUMN = {"COLUMNS": "200"}


def test_every_kind_and_name_is_there() -> None:
    assert {kind.name for kind in WHOLE.kinds} == {*KINDS, *CELLS}
    for sort, family in SORTS.items():
        assert {name.name for name in WHOLE.names if name.sort == sort} == {*family.members}


def test_every_type_has_words() -> None:
    fields = [field for kind in LAYERS for field in kind.fields]
    fields += [argument for name in WHOLE.names for argument in name.arguments]
    assert [field for field in fields if not field.type or "anything" in field.type] == []


def spec_of(kind: Kind, row: Row) -> dict[str, Any]:
    """A spec whose layer is a kind's example, with inputs of a row's shapes."""
    (layer,) = document.parse(f"layers:\n  {kind.example}\n").data["layers"]
    fields = next(iter(layer.values())) if isinstance(layer, dict) else {}
    names = fields.get("inputs", ["x"])
    inputs = {
        name: {"shape": [*shape], "dtype": dtype}
        for name, shape, dtype in zip(names, row.shapes, row.types, strict=False)
    }
    return {"regspec": 1, "data_format": row.data_format, "inputs": inputs, "layers": [layer]}


@pytest.mark.parametrize("kind", LAYERS, ids=[kind.name for kind in LAYERS])
def test_an_example_runs(kind: Kind) -> None:
    """On an input of one of the kind's rows in the layer table: the first that it fits."""
    problems = []
    for row in (row for row in ROWS if row.kind == kind.name):
        spec = spec_of(kind, row)
        try:
            model = regspec.build(regspec.loads(json.dumps(spec)))
        except regspec.RegspecError as error:
            problems.append(str(error))
            continue
        model(*(torch.rand(3, *each["shape"]).to(getattr(torch, each["dtype"])) for each in spec["inputs"].values()))
        has_penalty = "_regularizer" in kind.example or kind.name == "ActivityRegularization"
        assert bool(regspec.regularization_terms(model)) == has_penalty
        return
    pytest.fail(f"{kind.example} fits no row of the layer table: {problems[:1]}")


@pytest.mark.parametrize("kind", CELLS_SHOWN, ids=[kind.name for kind in CELLS_SHOWN])
def test_an_example_of_a_cell_runs(kind: Kind) -> None:
    row = next(row for row in ROWS if row.kind == "RNN")
    model = regspec.build(regspec.loads(json.dumps(spec_of(kind, row))))
    assert model(torch.ones(3, *row.shapes[0])).shape[0] == 3


@pytest.mark.parametrize("name", WHOLE.names, ids=[f"{name.sort}-{name.name}" for name in WHOLE.names])
def test_the_forms_of_a_name_are_taken(name: Name) -> None:
    for form in name.forms:
        assert SORTS[name.sort].parse(document.parse(f"form: {form}").data["form"]).name == name.name


# -- the command -------------------------------------------------------------------------------------------------------


def shown(*arguments: str) -> str:
    result = CliRunner(env=COLUMN).invoke(app, ["kinds", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_kinds_are_listed_by_family() -> None:
    lines = [line.split() for line in shown().splitlines()]
    families = [" ".join(line) for line in lines if line[:1] in (["layers:"], ["operations:"])]
    assert families == [*WHOLE.families]
    assert {line[0] for line in lines if line} >= {kind.name for kind in LAYERS}


def test_a_kind_is_shown_with_its_fields() -> None:
    lines = [" ".join(line.split()) for line in shown("Embedding").splitlines()]
    assert lines[0] == "Embedding The row of a table for each index"
    assert lines[1] == "- Embedding: {input_dim: 1000, output_dim: 64, embeddings_regularizer: {l2: 1e-6}}"
    assert "output_dim size required The size of each row." in lines
    assert any(line.startswith("mask_zero true or false false ") for line in lines)
    assert any(line.startswith("slots: embeddings (starts as random_uniform); each with ") for line in lines)


@pytest.mark.parametrize("sort", SORTS)
def test_names_are_listed_and_shown(sort: str) -> None:
    listed = shown(sort)
    for name, member in SORTS[sort].members.items():
        assert f"\n {name} " in listed
        assert all(re.search(rf"\b{alias}\b", listed) for alias in member.aliases)
        assert f"({sort.removesuffix('s')}" in shown(name)


def test_an_alias_is_the_name_that_it_stands_for() -> None:
    assert shown("swish").startswith("silu  (activation, also swish, SiLU)")


UNKNOWN = {
    "Linear": "Dense",
    "conv2d": "Conv2D",
    "Dens": "Dense",
    "BatchNorm": "BatchNormalization",
    "relu7": "ReLU",
    "clip": "Clip",
    "EXP": "Exp",
    "normalize": "Normalize",
    "prelu": "PReLU",
    "Cosine": "cosine",
    "layer_normalization": "LayerNormalization",
    "lstmcell": "LSTMCell",
    "simple_rnn_cell": "SimpleRNNCell",
    "l1-l2": "l1l2",
    "cosin": "cosine",
    "nonneg": "non_neg",
    "glorot": "glorot_uniform",
    "xavier": "glorot_uniform",
    "kaiming": "he_normal",
    "lasso": "l1",
    "ridge": "l2",
    "Ridge": "l2",
}


@pytest.mark.parametrize(("name", "hint"), UNKNOWN.items())
def test_an_unknown_name(
    name: str, hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["regspec", "kinds", name])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    assert capsys.readouterr().err == f"error: no kind and no name is called '{name}'\n   = did you mean '{hint}'?\n"


def test_as_json() -> None:
    (dense,) = json.loads(shown("Dense", "--format", "json"))["kinds"]
    assert (dense["family"], dense["slots"]) == ("dense", ["kernel", "bias"])
    assert dense["fields"][0] == {
        "name": "units",
        "type": "size",
        "default": None,
        "description": "The size of the output's last axis.",
    }
    assert {field["name"]: field["default"] for field in dense["fields"]}["kernel_initializer"] == "glorot_uniform"
    assert [each["name"] for each in json.loads(shown("linear", "--format", "json"))["names"]] == ["linear", "linear"]


@pytest.mark.parametrize("format_", ["text", "json", "markdown"])
def test_into_a_file(format_: str, tmp_path: Path) -> None:
    assert shown("pooling", "--format", format_, "-o", str(tmp_path / "out")) == ""
    assert "GlobalMaxPooling3D" in (tmp_path / "out").read_text(encoding="utf-8")


class Scaled(torch.nn.Module):
    def __init__(self, units: int, function: Callable[..., Any] = torch.relu, start: float = 1.0) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((units,), start))


def cubed(x: torch.Tensor, strength: float = 0.01) -> torch.Tensor:
    """strength * sum(abs(w)**3)."""
    return strength * x.abs().pow(3).sum()


@pytest.mark.usefixtures("_registry")
def test_what_is_registered_is_shown() -> None:
    """Types and defaults that no spec can write are told as well as can be."""
    regspec.register_layer(Scaled, weights={"scale": "scale"})
    regspec.register_regularizer(cubed)
    (kind,) = json.loads(shown("Scaled", "--format", "json"))["kinds"]
    assert (kind["family"], kind["summary"], kind["slots"]) == (__name__, "", ["scale"])
    fields = {field["name"]: (field["type"], field["default"]) for field in kind["fields"]}
    assert fields["units"] == ("whole number", None)
    assert fields["function"] == ("anything", "relu")
    assert fields["start"] == ("number", "1.0")
    assert kind["example"] == "- Scaled: {units: …}"
    assert "strength * sum(abs(w)**3)" in shown("cubed")
    assert f"registered: {__name__}" in shown()
    assert "cubed" in shown("regularizers")
    assert "cubed" in REGULARIZERS.members
