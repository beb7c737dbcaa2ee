"""Whatever is done to a spec: it is valid, and then compiles and runs, or a RegspecError says where it is wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import regspec
from regspec.graph.loading import graph_of
from regspec.layers import KINDS
from regspec.targets.torch.program import program_of
from regspec.text import document
from regspec.views.schema import spec_schema
from tests.layers.rows import ROWS
from tests.layers.specs import document_of, outputs_of

EXAMPLES = [
    path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parent.parent / "examples").glob("*.yaml"))
]
WORDS = sorted({word for text in EXAMPLES for word in text.replace("{", " ").replace("}", " ").split()})
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 2**31 - 1, 2**31, 2**63, 0.0, 0.5, -0.5, 1e-30, 1e300),
    *(
        "",
        "same",
        "valid",
        "relu",
        "softmax",
        "input",
        "x",
        "l2",
        "$width",
        "$width // 2",
        "$",
        "$$",
        "a b",
        "import",
        "forward",
    ),
    *("channels_first", "channels_last", "é", "é" * 200, [], [1], [0], [3, 3], [1, 2, 3, 4], [None]),
    *({}, {"l2": 0.1}, {"a": 1}, {"l1": -1}, {"name": "x"}),
]
ROW_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 4, 5, 8, 0.5, -0.5, "same", "valid", "causal", "relu", "softmax", "int64"),
    *([1], [3, 3], [2, 1], [2, 2], [-1, 3], [3, 4, 5], [6, 5, 4], [8, 6, 7, 4], [5, 4, 3, 2], [[1, 2], [0, 1]], []),
    *("l2", {"orthogonal": 0.1}, {"spectral": 0.1}, {"kl_sparsity": {"strength": 0.1}}, {"LSTM": {"units": 3}}),
    {"group_lasso": {"strength": 0.1, "axis": "input"}},
]
SCHEMA = jsonschema.Draft202012Validator(spec_schema())
MARKS = "{}[]:,-#&*!|>'\"%@`\n\t "


def check_problems(problems: tuple[regspec.Problem, ...]) -> None:
    assert problems
    for problem in problems:
        assert problem.line is not None or problem.what == "the file is empty"
        assert problem.path == "model.yaml"
        assert "\n" not in problem.what


def check(text: str) -> None:
    try:
        spec = regspec.loads(text, "model.yaml")
        program_of(graph_of(spec))  # which finds what torch can't do
    except regspec.RegspecError as error:
        check_problems(error.problems)
        return
    refused = [error.message for error in SCHEMA.iter_errors(document.parse(text).data)]
    assert refused == [], "the schema refuses what the loader takes"
    graph = graph_of(spec)
    with torch.device("meta"):  # where tensors of any size cost nothing
        model = regspec.build(spec).eval()
        if any(None in x.shape[1:] for x in graph.inputs):  # sizes that may not fit together
            return
        outputs = model(*(torch.zeros(2, *x.shape[1:], dtype=getattr(torch, x.dtype)) for x in graph.inputs))
        assert regspec.regularization_loss(model).shape == ()
    for x, inferred in zip(outputs_of(outputs), graph.outputs, strict=True):
        assert x.ndim == inferred.rank
        assert all(wanted in (None, size) for size, wanted in zip(x.shape[1:], inferred.spec_shape[1:], strict=True))
        assert str(x.dtype) == f"torch.{inferred.dtype}"


@st.composite
def changed_texts(draw: st.DrawFn) -> str:
    """An example in whose text a few places are changed."""
    text = draw(st.sampled_from(EXAMPLES))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        piece = draw(
            st.one_of(
                st.just(""), st.text(max_size=3), st.sampled_from(WORDS), st.sampled_from("{}[]:,-#&*!|>'\"%@`\n\t ")
            )
        )
        text = text[:start] + piece + text[end:]
    return text


def places(data: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every part of a document."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [here, *(place for key, value in items for place in places(value, (*here, key)))]


def changed(draw: st.DrawFn, data: Any, values: list[Any], *, beside: tuple[str, ...] = ()) -> None:
    """Replaces, renames, repeats, moves or leaves out a part of a document, but for its sections ``beside``."""
    open_places = [place for place in places(data)[1:] if place[0] not in beside and len(place) > (2 if beside else 0)]
    if not open_places:
        return
    place = draw(st.sampled_from(open_places))
    parent = data
    for step in place[:-1]:
        parent = parent[step]
    last, value = place[-1], copy.deepcopy(parent[place[-1]])
    action = draw(st.sampled_from(["replace", "replace", "rename", "repeat", "move", "leave out"]))
    if action == "replace":
        parent[last] = copy.deepcopy(draw(st.sampled_from(values)))
    elif action == "rename" and isinstance(parent, dict):
        del parent[last]
        parent[draw(st.sampled_from([*KINDS, *WORDS]))] = value
    elif action == "repeat" and isinstance(parent, list):
        parent.insert(draw(st.integers(0, len(parent))), value)
    elif action == "move" and isinstance(parent, list):
        parent.insert(draw(st.integers(0, len(parent) - 1)), parent.pop(last))
    else:
        del parent[last]


@st.composite
def changed_documents(draw: st.DrawFn) -> str:
    """An example in whose data a few parts are changed."""
    data: Any = document.parse(draw(st.sampled_from(EXAMPLES))).data
    for _ in range(draw(st.integers(1, 3))):
        changed(draw, data, VALUES)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


@st.composite
def changed_rows(draw: st.DrawFn) -> str:
    """A row of the layer table, in either data format, with other fields or other inputs."""
    row = draw(st.sampled_from(ROWS))
    data = copy.deepcopy(document_of(row, row.fields))
    data["data_format"] = draw(st.sampled_from(["channels_first", "channels_last"]))
    for _ in range(draw(st.integers(0, 3))):
        changed(draw, data, ROW_VALUES, beside=("regspec", "name", "data_format"))
    return yaml.safe_dump(data, sort_keys=False)


@given(changed_texts())
def test_changed_texts(text: str) -> None:
    check(text)


@given(changed_documents())
def test_changed_documents(text: str) -> None:
    check(text)


@given(changed_rows())
def test_changed_rows(text: str) -> None:
    check(text)


@given(st.one_of(st.text(), st.text(MARKS + "ab1")))
def test_any_text(text: str) -> None:
    check(text)
