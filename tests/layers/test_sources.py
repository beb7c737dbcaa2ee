"""The compiled source of every row: what runs is what is written, and it reads as ruff wants it."""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest
import torch

import regspec
from regspec.graph.loading import graph_of
from regspec.graph.network import Graph
from regspec.views.schema import spec_schema

from . import reference
from .rows import ROWS, Row
from .specs import document_of, outputs_of, spec_of, with_penalties

IDS = [row.id for row in ROWS]
RUFF = """
line-length = 120
target-version = "py310"
[lint]
select = ["B", "C4", "E", "F", "I", "N", "PIE", "RET", "RUF", "SIM", "UP", "W"]
ignore = ["N812"]  # torch's own idiom: functional as F
"""


@cache
def penalized(index: int) -> regspec.ModelSpec:
    return spec_of(ROWS[index], with_penalties(ROWS[index]))


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[path.stem]
    return module


@pytest.mark.parametrize("index", range(len(ROWS)), ids=IDS)
def test_what_is_written_is_what_runs(index: int, tmp_path: Path) -> None:
    """build() and the written files, with the runtime and standing alone: equal outputs, terms and state_dict keys."""
    spec = penalized(index)
    model = regspec.build(spec, seed=0).eval()
    inputs = [torch.as_tensor(x) for x in reference.inputs_of(ROWS[index], index)]
    wanted = outputs_of(model(*inputs))
    terms = model.regularization_terms()
    for standalone in (False, True):
        path = tmp_path / f"written_{standalone}.py"
        path.write_text(regspec.source(spec, standalone=standalone))
        twin = imported(path).Row().eval()
        assert list(twin.state_dict()) == list(model.state_dict())
        twin.load_state_dict(model.state_dict())
        got = outputs_of(twin(*inputs))
        assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
        assert {name: value.item() for name, value in twin.regularization_terms().items()} == {
            name: value.item() for name, value in terms.items()
        }


@pytest.mark.parametrize("index", range(len(ROWS)), ids=IDS)
def test_copies_are_equal(index: int) -> None:
    model = regspec.build(penalized(index), seed=0).eval()
    inputs = [torch.as_tensor(x) for x in reference.inputs_of(ROWS[index], index)]
    wanted = outputs_of(model(*inputs))
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        got = outputs_of(copied(*inputs))
        assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
        assert copied.regularization_terms().keys() == model.regularization_terms().keys()


@pytest.mark.parametrize("index", range(len(ROWS)), ids=IDS)
def test_shapes_are_inferred_as_torch_gives_them(index: int) -> None:
    spec = penalized(index)
    graph: Graph = graph_of(spec)
    model = regspec.build(spec, seed=0).eval()
    inputs = [torch.as_tensor(x) for x in reference.inputs_of(ROWS[index], index, batch=2)]
    for x, tensor in zip(outputs_of(model(*inputs)), graph.outputs, strict=True):
        assert tuple(x.shape)[1:] == tensor.logical[1:]
        assert str(x.dtype) == f"torch.{tensor.dtype}"


@pytest.mark.parametrize("index", range(len(ROWS)), ids=IDS)
def test_state_dict_keys_are_plain(index: int) -> None:
    keys = regspec.build(penalized(index)).state_dict()
    assert all(re.fullmatch(r"layer[a-z0-9_]*(\.[a-z][a-z0-9_]*)+", key) for key in keys), list(keys)


@cache
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(spec_schema())


@pytest.mark.parametrize("index", range(len(ROWS)), ids=IDS)
def test_the_schema_accepts_it(index: int) -> None:
    document = document_of(ROWS[index], with_penalties(ROWS[index]))
    assert [error.message for error in validator().iter_errors(document)] == []


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every row's source in a folder."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "ruff.toml").write_text(RUFF)
    for index in range(len(ROWS)):
        for standalone in (False, True):
            path = folder / f"row_{index}_{standalone}.py"
            path.write_text(regspec.source(penalized(index), standalone=standalone))
    return folder


@pytest.mark.parametrize("command", ["check", "format --check"])
def test_ruff_finds_nothing(sources: Path, command: str) -> None:
    arguments = [*command.split(), "--no-cache", str(sources)]
    result = subprocess.run([sys.executable, "-m", "ruff", *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]


def test_no_line_is_too_long(sources: Path) -> None:
    for path in sources.glob("*.py"):
        assert max(map(len, path.read_text().splitlines())) <= 120, path


def test_rows_are_documents() -> None:
    """The table is plain data: what a user could have written."""
    for row in ROWS:
        assert json.loads(json.dumps(row.fields)) == row.fields


def test_a_row_names_itself() -> None:
    assert Row("Dense", {"units": 3}, ((5,),)).id == "Dense(units=3)-(5,)-channels_last"
