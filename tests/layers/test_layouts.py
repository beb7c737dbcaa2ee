"""A spec that says no data_format means what the same spec means with channels last, whichever way axes are counted.

Each row is written twice: with ``data_format: channels_last``, as Keras has it, and without one, its inputs and its
numbered axes in the order in which a spec counts them then. Both models get the same weights, and give the same.
"""

from __future__ import annotations

import json
from typing import Any, get_args, get_type_hints

import pytest
import torch

import regspec
from regspec.graph.loading import graph_of
from regspec.language.fields import Axis
from regspec.layers import KINDS

from . import reference
from .layout_pairs import PAIRS
from .layouts import MEANINGS, open_document, order_beside, orders_of
from .operating import is_operation
from .rows import ROWS, Row
from .specs import document_of, outputs_of

# Kinds whose weights lie by places, and one for vectors.
BY_PLACE = ("LocallyConnected1D", "LocallyConnected2D", "CategoryEncoding")
# Operations on axes of a meaning: of images, and along the features where they name no axis.
BY_MEANING = (
    "DepthToSpace", "SpaceToDepth", "ExtractPatches", "ExtractSequences", "FFT", "RFFT", "IRFFT", "MultiHot", "TopK",
)  # fmt: skip
HEADS = ("DotProductAttention",)  # of (steps, heads, features), which are no image
MORE = [
    Row("Activation", {"activation": {"softmax": {"axis": 1}}}, ((4, 7, 5),)),
    Row("Activation", {"activation": {"glu": {"axis": 2}}}, ((4, 6, 5),)),
    Row("Conv2D", {"filters": 4, "kernel_size": 2, "activation": {"softmax": {"axis": 1}}}, ((4, 7, 5),)),
    Row("Dense", {"units": 3, "activation": {"softmax": {"axis": 2}}}, ((4, 7, 5),)),
    Row("SpectralNormalization", {"layer": {"Conv1D": {"filters": 4, "kernel_size": 2}}}, ((7, 5),)),
    Row("SpectralNormalization", {"layer": {"Dense": {"units": 4, "activation": "softmax"}}}, ((4, 7, 5),)),
    Row("TimeDistributed", {"layer": {"Conv1D": {"filters": 4, "kernel_size": 2}}}, ((4, 7, 5),)),
    Row("TimeDistributed", {"layer": {"Conv3D": {"filters": 4, "kernel_size": 2}}}, ((4, 2, 3, 5, 7),)),
    Row("TimeDistributed", {"layer": {"Softmax": {"axis": 1}}}, ((4, 6, 7, 2),)),
    Row("TimeDistributed", {"layer": {"LayerNormalization": {"axis": [1, 2]}}}, ((4, 6, 7, 2),)),
    Row("TimeDistributed", {"layer": {"GlobalMaxPooling3D": {}}}, ((4, 2, 3, 5, 7),)),
]
EVERY = [*ROWS, *MORE]


def is_same(row: Row) -> bool:
    """Whether a row has no field that counts by place, but for its axes."""
    kind = KINDS[row.kind]
    return (
        row.data_format == "channels_last"
        and not row.is_random
        and not kind.is_counted_by_spec
        and row.kind not in (*BY_PLACE, *HEADS)
        and row.fields.get("mean") != "loaded"
        and "TimeDistributed" not in row.fields.get("layer", {})  # steps of steps, whose axes have no names
        and any(len(shape) > 1 for shape in row.shapes)
    )


def is_by_number(row: Row) -> bool:
    """Whether a row is an operation on signals, images or volumes that says which axes it works on."""
    return (
        is_operation(row.kind, row.fields)
        and row.kind not in (*BY_MEANING, *HEADS)
        and not (row.kind == "Normalize" and not row.fields)
        and row.has_reference
        and row.data_format == "channels_last"
        and any(1 < len(shape) < 5 for shape in row.shapes)
    )


def alike(documents: tuple[dict[str, Any], dict[str, Any]]) -> list[Any]:
    """The models of two specs in evaluation, with the same weights."""
    models = [regspec.build(regspec.loads(json.dumps(each)), seed=0).eval() for each in documents]
    for parameter in models[0].parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    shapes = {name: value.shape for name, value in models[1].state_dict().items()}
    models[1].load_state_dict({name: value.reshape(shapes[name]) for name, value in models[0].state_dict().items()})
    return models


@pytest.mark.parametrize("index", [pytest.param(i, id=row.id) for i, row in enumerate(EVERY) if is_same(row)])
def test_means_the_same(index: int) -> None:
    row = EVERY[index]
    documents = (document_of(row, row.fields), open_document(row, row.fields))
    models = alike(documents)
    inputs, orders = [torch.as_tensor(x) for x in reference.inputs_of(row, index)], orders_of(row)
    wanted = outputs_of(models[0](*inputs))
    got = outputs_of(models[1](*(x.permute(order) for x, order in zip(inputs, orders, strict=True))))
    for a, b in zip(got, wanted, strict=True):
        order = order_beside(row.kind, row.fields, orders[0], b.ndim)
        torch.testing.assert_close(a, b.permute(order), rtol=1e-4, atol=1e-5, equal_nan=True)


def names_axes(hint: Any) -> bool:
    """Whether a field of this type has axes."""
    return hint == Axis or any(map(names_axes, get_args(hint)))


def test_every_field_with_axes_is_counted() -> None:
    """`layouts.counted` asks the kinds for these fields, so that one that a kind forgets would go unseen."""
    kinds = {name: kind for name, kind in KINDS.items() if not kind.is_counted_by_spec}
    hints = {name: get_type_hints(kind, include_extras=True) for name, kind in kinds.items()}
    found = {name: [field for field in kinds[name].model_fields if names_axes(hints[name][field])] for name in kinds}
    assert found["LayerNormalization"] == ["axis"]
    assert found["MultiHeadAttention"] == ["attention_axes"]
    assert {name: sorted(fields) for name, fields in found.items()} == {
        name: sorted(kind.axis_fields) for name, kind in kinds.items()
    }


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name: str) -> None:
    pair = PAIRS[name]
    last, first = alike(pair.documents())
    inputs = [(order, torch.randn(2, *sizes)) for order, sizes in pair.inputs.values()]
    got = outputs_of(first(*(x.permute(order) for order, x in inputs)))
    for a, b, order in zip(got, outputs_of(last(*(x for _, x in inputs))), pair.outputs, strict=True):
        torch.testing.assert_close(a, b.permute(order), rtol=1e-4, atol=1e-5)


def test_an_axis_is_counted_once() -> None:
    """Of a layer that is called again."""
    layers = [
        {"LayerNormalization": {"name": "norm", "axis": 1, "inputs": "image"}},
        {"call": {"layer": "norm", "name": "again", "inputs": "norm"}},
    ]
    spec = {"inputs": {"image": {"shape": [3, 5, 7]}}, "layers": layers}
    model, x = regspec.build(spec), torch.randn(2, 3, 5, 7)
    wanted = torch.layer_norm(x.movedim(1, -1), (3,), eps=1e-3)
    torch.testing.assert_close(model(x), torch.layer_norm(wanted, (3,), eps=1e-3).movedim(-1, 1))


def test_equal_layers_on_a_signal_and_beside_it_on_a_sequence() -> None:
    """Both have as many steps and features; what each gives is counted as what it takes."""
    layers = [
        {"Conv1D": {"name": "conv", "filters": 4, "kernel_size": 1, "inputs": "signal"}},
        {"Softmax": {"name": "one", "inputs": "conv"}},
        {"Dense": {"name": "dense", "units": 4, "inputs": "steps"}},
        {"Softmax": {"name": "other", "inputs": "dense"}},
    ]
    inputs = {"signal": {"shape": [3, 7]}, "steps": {"shape": [7, 5]}}
    model = regspec.build({"inputs": inputs, "layers": layers, "outputs": ["one", "other"]})
    one, other = model(torch.randn(2, 3, 7), torch.randn(2, 7, 5))
    assert (one.shape, other.shape) == ((2, 4, 7), (2, 7, 4))
    torch.testing.assert_close((one.sum(1), other.sum(2)), (torch.ones(2, 7), torch.ones(2, 7)))


@pytest.mark.parametrize("index", [pytest.param(i, id=row.id) for i, row in enumerate(ROWS) if is_by_number(row)])
def test_an_operation_takes_the_axes_that_it_names(index: int) -> None:
    """Of signals, images and volumes: what it computes by their numbers is what Keras's operation does of the array."""
    row = ROWS[index]
    document = document_of(row, row.fields)
    del document["data_format"]
    for declared in document["inputs"].values():
        if len(declared["shape"]) > 1:
            declared["axes"] = MEANINGS[len(declared["shape"]) + 1]
    outputs = len(graph_of(regspec.loads(json.dumps(document))).nodes[0].outputs)
    if outputs > 1:
        document["outputs"] = [f"layer.{number}" for number in range(outputs)]
    model = regspec.build(regspec.loads(json.dumps(document)))
    inputs = [torch.as_tensor(x) for x in reference.inputs_of(row, index)]
    wanted = reference.call(reference.keras_layer(row.kind, row.fields, "channels_last"), row, inputs, False)
    for a, b in zip(outputs_of(model(*inputs)), wanted, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=1e-4, atol=1e-5, equal_nan=True)
