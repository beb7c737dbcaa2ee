"""Penalties by the inputs and outputs of a weight: where these lie in each kind's kernel, by closed forms."""

from __future__ import annotations

import json
from typing import Any

import keras
import pytest
import torch
from torch import Tensor

import regspec
from regspec.layers import KINDS
from tests.layers.rows import ROWS, Row
from tests.layers.specs import document_of


def lasso(groups: Tensor) -> Tensor:
    """The sum over rows of the root of their size times their norm."""
    return groups.shape[1] ** 0.5 * groups.norm(dim=1).sum()


# By kind: its fields and its slot, the shape of its input, the parameter, and how torch has it: as outputs and inputs.
GROUPS: dict[str, tuple[dict[str, object], str, list[int], str, str]] = {
    "Dense": ({"units": 5}, "kernel", [4], "weight", "oi"),
    "Conv2D": ({"filters": 5, "kernel_size": [3, 2]}, "kernel", [4, 6, 7], "weight", "oihw"),
    "Conv2DTranspose": ({"filters": 5, "kernel_size": [3, 2]}, "kernel", [4, 6, 7], "weight", "iohw"),
    "SeparableConv2D": ({"filters": 5, "kernel_size": [3, 2]}, "pointwise", [4, 6, 7], "pointwise.weight", "oihw"),
    "LSTM": ({"units": 5}, "recurrent", [6, 4], "weight_hh_l0", "oi"),
}


@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("kind", GROUPS)
def test_groups_of_weights(kind: str, axis: str) -> None:
    """A group holds the weights of one output, or of one input, wherever torch has them."""
    fields, slot, shape, path, axes = GROUPS[kind]
    regularizer = {f"{slot}_regularizer": {"group_lasso": {"strength": 0.1, "axis": axis}}}
    layers = [{kind: {"name": "layer", **fields, **regularizer}}]
    model = regspec.build({"inputs": {"x": {"shape": shape}}, "layers": layers}, seed=1)
    name, _, last = f"layer.{path}".replace("layer.pointwise", "layer_pointwise").rpartition(".")
    weight = getattr(model.get_submodule(name), last).detach()
    groups = weight.movedim(axes.index(axis[0]), 0).flatten(1)
    torch.testing.assert_close(model.regularization_terms()[f"layer.{slot}"], 0.1 * lasso(groups))


def test_groups_of_a_table_and_of_depthwise_filters() -> None:
    """A table's outputs are its columns; a channel's filters lie in one dimension of torch's, with the channel."""
    spec = {
        "inputs": {"tokens": {"shape": [3], "dtype": "int64"}, "image": {"shape": [4, 6, 7]}},
        "layers": [
            {"Embedding": {"input_dim": 7, "output_dim": 5, "inputs": "tokens", "embeddings_regularizer": LASSO}},
            {"DepthwiseConv2D": {"kernel_size": [3, 2], "inputs": "image", "depthwise_regularizer": LASSO}},
        ],
        "outputs": ["embedding", "depthwise_conv2d"],
    }
    model = regspec.build(spec, seed=1)
    terms = model.regularization_terms()
    table, filters = model.embedding.weight.detach(), model.depthwise_conv2d.weight.detach()
    torch.testing.assert_close(terms["embedding.embeddings"], 0.1 * lasso(table))
    torch.testing.assert_close(terms["depthwise_conv2d.depthwise"], 0.1 * lasso(filters.flatten(1)))


LASSO = {"group_lasso": {"strength": 0.1, "axis": "input"}}

# Equations of EinsumDense, with the shape of the input, that of the output, and where the kernel's inputs and outputs
# lie, if along one axis.
EQUATIONS: dict[str, tuple[list[int], Any, dict[str, int | None]]] = {
    "ab,bc->ac": ([5], 3, {"input": 0, "output": 1}),
    "ab,cb->ac": ([5], 3, {"input": 1, "output": 0}),
    "abc,dc->abd": ([7, 5], [None, 4], {"input": 1, "output": 0}),
    "...x,yx->...y": ([7, 5], 4, {"input": 1, "output": 0}),
    "abc,bcd->abd": ([7, 5], [None, 4], {"input": 1, "output": 2}),
    "abc,cde->abde": ([7, 5], [None, 2, 3], {"input": 0, "output": None}),
    "abc,dec->abde": ([7, 5], [None, 2, 3], {"input": 2, "output": None}),
    "abc,dbc->ad": ([7, 5], 4, {"input": None, "output": 0}),
    "abc,cb->ac": ([7, 5], 5, {"input": 1, "output": 0}),
    "ab,bc->abc": ([5], [5, 3], {"input": 0, "output": 1}),
    "abc,bc->a": ([7, 5], [], {"input": None, "output": None}),
}


@pytest.mark.parametrize("axis", ["input", "output"])
@pytest.mark.parametrize("equation", EQUATIONS)
def test_groups_of_an_equation(equation: str, axis: str) -> None:
    """What is summed over are inputs, and what is new in the output are outputs."""
    shape, output, places = EQUATIONS[equation]
    regularizer = {"group_lasso": {"strength": 0.1, "axis": axis}}
    fields = {"name": "e", "equation": equation, "output_shape": output, "kernel_regularizer": regularizer}
    spec = {"inputs": {"x": {"shape": shape}}, "layers": [{"EinsumDense": fields}]}
    if places[axis] is None:
        with pytest.raises(regspec.RegspecError, match=f"a penalty by {axis}s, but its kernel has no single axis of"):
            regspec.build(spec)
        return
    model = regspec.build(spec, seed=0)
    groups = model.e.weight.detach().movedim(places[axis], 0)
    torch.testing.assert_close(model.regularization_loss(), 0.1 * lasso(groups.flatten(1)))


# Kernels that are matrices, with the shapes of the input and the output.
MATRICES: dict[str, tuple[list[int], Any]] = {
    "abc,dc->abd": ([7, 5], [None, 4]),
    "abc,cd->abd": ([7, 5], [None, 4]),
    "abc,bc->abc": ([7, 5], [7, 5]),
    "ab,cd->acd": ([5], [3, 4]),
    "abc,bc->a": ([7, 5], []),
}


def with_kernel_regularizer(equation: str, shape: list[int], output: Any, regularizer: dict[str, Any]) -> Any:
    """A model of one EinsumDense, which is called e."""
    fields = {"name": "e", "equation": equation, "output_shape": output, "kernel_regularizer": regularizer}
    return regspec.build({"inputs": {"x": {"shape": shape}}, "layers": [{"EinsumDense": fields}]}, seed=0)


@pytest.mark.parametrize("equation", MATRICES)
def test_matrices_of_an_equation(equation: str) -> None:
    """Rows and columns are those of the kernel as Keras has it, whichever of them are inputs or outputs."""
    model = with_kernel_regularizer(equation, *MATRICES[equation], {"orthogonal": {"factor": 0.1}})
    wanted = keras.regularizers.OrthogonalRegularizer(0.1)(model.e.weight.detach())
    torch.testing.assert_close(model.regularization_loss(), wanted)
    model = with_kernel_regularizer(equation, *MATRICES[equation], {"spectral": {"strength": 0.1}})
    torch.testing.assert_close(model.regularization_loss(), 0.1 * torch.linalg.matrix_norm(model.e.weight.detach(), 2))


@pytest.mark.parametrize("regularizer", [{"orthogonal": {"factor": 0.1}}, {"spectral": {"strength": 0.1}}], ids=str)
def test_no_matrix_of_several_outputs(regularizer: dict[str, Any]) -> None:
    with pytest.raises(regspec.RegspecError, match="a penalty by outputs, but its kernel has no single axis of these"):
        with_kernel_regularizer("abc,cde->abde", [7, 5], [None, 2, 3], regularizer)


KERNELS = ("kernel", "recurrent", "depthwise", "pointwise", "embeddings")
SLOTS = {kind: [slot for slot in KERNELS if f"{slot}_regularizer" in KINDS[kind].model_fields] for kind in KINDS}


@pytest.mark.parametrize("axis", ["input", "output"])
@pytest.mark.parametrize(
    "row", {row.kind: row for row in reversed(ROWS) if SLOTS[row.kind]}.values(), ids=lambda row: row.kind
)
def test_each_kernel_has_inputs_and_outputs(row: Row, axis: str) -> None:
    """Of the first row of each kind."""
    group = {"group_lasso": {"strength": 0.1, "axis": axis}}
    regularizers = {f"{slot}_regularizer": group for slot in SLOTS[row.kind]}
    spec = regspec.loads(json.dumps(document_of(row, {**row.fields, **regularizers})))
    assert {term.rpartition(".")[2] for term in regspec.build(spec).regularization_terms()} == {*SLOTS[row.kind]}


@pytest.mark.parametrize("axis", ["input", "output"])
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}),
        ("GroupQueryAttention", {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}),
    ],
)
def test_groups_of_attention(kind: str, fields: dict[str, Any], axis: str) -> None:
    """Outputs of a projection are the numbers of all its heads, and inputs of the last one are these."""
    group = {"group_lasso": {"strength": 0.1, "axis": axis}}
    layer = {kind: {"name": "layer", "inputs": ["x", "x"], **fields, "kernel_regularizer": group}}
    model = regspec.build({"inputs": {"x": {"shape": [7, 5]}}, "layers": [layer]}, seed=1)
    terms = model.regularization_terms()
    for name in ("query", "key", "value", "attention_output"):
        weight = model.layer.get_submodule(name.removeprefix("attention_")).weight.detach()  # (outputs, inputs)
        wanted = 0.1 * lasso(weight if axis == "output" else weight.T)
        torch.testing.assert_close(terms[f"layer.{name}.kernel"], wanted)
