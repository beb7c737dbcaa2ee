"""The compiled source of every row: what runs is what is written, and it reads as ruff wants it."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import torch
from torch import Tensor, nn

import regspec
from regspec.graph.loading import graph_of
from regspec.graph.network import Graph
from regspec.views.schema import spec_schema

from . import reference
from .rows import ROWS, Row
from .specs import built, document_of, outputs_of, spec_of, with_penalties

RUFF = """
line-length = 120
target-version = "py310"
[lint]
select = ["B", "C4", "E", "F", "I", "N", "PIE", "RET", "RUF", "SIM", "UP", "W"]
ignore = ["N812"]  # torch's own idiom: functional as F
"""
KEY = r"layer[a-z0-9_]*(\.[a-z][a-z0-9_]*)+"  # of a state_dict


@pytest.mark.parametrize("index", range(len(ROWS)), ids=[row.id for row in ROWS])
def test_every_row(index: int) -> None:
    """With penalties, from the schema to copies of what runs."""
    row = ROWS[index]
    fields = with_penalties(row)
    assert [error.message for error in validator().iter_errors(document_of(row, fields))] == [], "the schema"
    spec = spec_of(row, fields)
    model = built(spec)
    assert all(re.fullmatch(KEY, key) for key in model.state_dict()), [*model.state_dict()]
    inputs = [torch.as_tensor(x) for x in reference.inputs_of(row, index)]
    outputs = outputs_of(model(*inputs))
    check_shapes(graph_of(spec), outputs)
    terms = terms_of(model)
    for standalone in (False, True):
        twin = written(regspec.source(spec, standalone=standalone))
        assert list(twin.state_dict()) == list(model.state_dict())
        twin.load_state_dict(model.state_dict())
        check_same(twin, inputs, outputs, terms, f"what is written, standalone={standalone}")
    check_same(copy.deepcopy(model), inputs, outputs, terms, "a deep copy")
    check_same(pickle.loads(pickle.dumps(model)), inputs, outputs, terms, "a pickled copy")


def terms_of(model: Any) -> dict[str, float]:
    """The penalties by name; none of a plain module, as which a network without penalties is written."""
    if not hasattr(model, "regularization_terms"):
        assert model.__class__.__bases__ == (nn.Module,)
        return {}
    return {name: value.item() for name, value in model.regularization_terms().items()}


@cache
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(spec_schema())


def check_shapes(graph: Graph, outputs: list[Tensor]) -> None:
    """They are inferred as torch gives them, and so are the types."""
    for x, tensor in zip(outputs, graph.outputs, strict=True):
        assert tuple(x.shape)[1:] == tensor.spec_shape[1:], "an inferred shape"
        assert str(x.dtype) == f"torch.{tensor.dtype}", "an inferred type"


def written(text: str) -> nn.Module:
    """The module that a file of source defines."""
    before, last = parts(text)
    names = {**defined(before)}
    exec(compile(last, "written.py", "exec"), names)
    model: nn.Module = names["Row"]().eval()
    return model


def parts(text: str) -> tuple[str, str]:
    """What comes before the class of a row, which most rows share, and the class."""
    before, start, last = text.partition("class Row(")
    return before, start + last


@cache
def defined(text: str) -> dict[str, Any]:
    """The names that a text defines."""
    module = ModuleType("written")
    sys.modules["written"] = module  # dataclasses look their module up
    try:
        exec(compile(text, "written.py", "exec"), module.__dict__)
    finally:
        del sys.modules["written"]
    return module.__dict__


def check_same(model: Any, inputs: list[Tensor], outputs: list[Tensor], terms: dict[str, float], what: str) -> None:
    """To the last bit."""
    got = outputs_of(model(*inputs))
    assert all(torch.equal(a, b) for a, b in zip(got, outputs, strict=True)), f"{what} gives other outputs"
    assert terms_of(model) == terms, what


# -- how it reads ------------------------------------------------------------------------------------------------------


def test_ruff_finds_nothing(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """In any row's source; of those that stand alone the gate takes one for each set of definitions before a class."""
    (tmp_path / "ruff.toml").write_text(RUFF)
    known = set()
    for index, row in enumerate(ROWS):
        spec = spec_of(row, with_penalties(row))
        for standalone in (False, True):
            text = regspec.source(spec, standalone=standalone)
            before, last = parts(text)
            assert max(map(len, last.splitlines())) <= 120, row.id
            if not standalone or before not in known or pytestconfig.getoption("--everything"):
                (tmp_path / f"row_{index}_{standalone}.py").write_text(text)
            known.add(before)
    for command in ("check", "format --check"):
        run = [sys.executable, "-m", "ruff", *command.split(), "--no-cache", str(tmp_path)]
        result = subprocess.run(run, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout[-3000:]


def test_rows_are_documents() -> None:
    """The table is plain data: what a user could have written."""
    for row in ROWS:
        assert json.loads(json.dumps(row.fields)) == row.fields


def test_a_row_names_itself() -> None:
    assert Row("Dense", {"units": 3}, ((5,),)).id == "Dense(units=3)-(5,)-channels_last"
