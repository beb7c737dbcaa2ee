"""The compiled source of every row: what runs is what is written, and it reads as ruff wants it."""

from __future__ import annotations

import ast
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
    twin = written(regspec.source(spec))
    assert list(twin.state_dict()) == list(model.state_dict())
    twin.load_state_dict(model.state_dict())
    check_same(twin, inputs, outputs, terms, "what is written")
    check_alone(regspec.source(spec, standalone=True), model, inputs, row.has_gradient)
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


def check_alone(text: str, model: Any, inputs: list[Tensor], has_gradient: bool) -> None:
    """A file that stands alone uses public names of torch; outputs, penalties and gradients are the model's.

    Penalties are summed in another order, so that they may differ in the last digits.
    """
    assert private_names(text) <= EXCEPTIONS, "a private name of torch"
    alone = written(text)
    assert list(alone.state_dict()) == list(model.state_dict())
    alone.load_state_dict(model.state_dict())
    for is_training in (False, True):
        own = [each.clone().requires_grad_(has_gradient and each.dtype is torch.float32) for each in inputs]
        got, wanted = (run(copy.deepcopy(each).train(is_training), own) for each in (alone, model))
        torch.testing.assert_close(got[0], wanted[0], rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(got[1:], wanted[1:], rtol=1e-5, atol=1e-7, equal_nan=True)


def run(model: Any, inputs: list[Tensor]) -> tuple[list[Tensor], dict[str, Tensor], Tensor, list[Tensor]]:
    """Outputs, penalties, their sum and its gradients by parameters and inputs, of a forward with the same noise."""
    torch.manual_seed(0)
    outputs = outputs_of(model(*inputs))
    terms, loss = {}, torch.zeros(())
    if hasattr(model, "regularization_loss"):
        terms, loss = model.regularization_terms(), model.regularization_loss()
    leaves = [each for each in (*model.parameters(), *inputs) if each.requires_grad]
    of_penalties = torch.autograd.grad(loss, leaves, materialize_grads=True) if loss.requires_grad else ()
    outputs = [each.detach() for each in outputs]
    return outputs, {name: each.detach() for name, each in terms.items()}, loss.detach(), [*of_penalties]


EXCEPTIONS = {
    "nn.modules.batchnorm._BatchNorm",  # which `convert_sync_batchnorm` looks for
    "torch._C",
    "torch._C._current_graph_task_id",  # nothing public tells a stateful layer that a checkpoint computes it again
}


def private_names(text: str) -> set[str]:
    """The private names of torch in a file, with their paths."""
    nodes = [*ast.walk(ast.parse(text))]
    found = [ast.unparse(each) for each in nodes if isinstance(each, ast.Attribute) and is_private(each.attr)]
    imported = [f"{each.module}.{one.name}" for each in nodes if isinstance(each, ast.ImportFrom) for one in each.names]
    found += [name for name in imported if any(map(is_private, name.split(".")))]
    return {name for name in found if name.startswith(("torch", "nn.", "F."))}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


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
