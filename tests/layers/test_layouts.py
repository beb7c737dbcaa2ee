"""A spec that says no data_format means what the same spec means with channels last, whichever way axes are counted.

Each row is written twice: with ``data_format: channels_last``, as Keras has it, and without one, its inputs and its
numbered axes in the order in which a spec counts them then. Both models get the same weights, and give the same.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import regspec
from regspec.code import axes
from regspec.graph.loading import graph_of
from regspec.layers import KINDS

from . import reference
from .rows import ROWS, Row
from .specs import document_of, outputs_of

# Kinds whose weights lie by places, and one for vectors.
BY_PLACE = ("LocallyConnected1D", "LocallyConnected2D", "CategoryEncoding")


def is_same(row: Row) -> bool:
    """Whether a row has no field that counts by place, but for its axes."""
    kind = KINDS[row.kind]
    return (
        row.data_format == "channels_last"
        and not row.is_random
        and not kind.is_counted_by_spec
        and row.kind not in BY_PLACE
        and "layer" not in row.fields
        and "noise_shape" not in row.fields
        and not isinstance(row.fields.get("activation"), dict)
        and row.fields.get("mean") != "loaded"
        and any(len(shape) > 1 for shape in row.shapes)
    )


def numbered(row: Row, order: axes.Order) -> dict[str, Any]:
    """The fields, with the axes that they name in another order."""
    fields = dict(row.fields)
    for name in KINDS[row.kind].axis_fields:
        value = fields.get(name)
        if isinstance(value, int):
            fields[name] = order.index(value % len(order))
        elif value is not None:
            fields[name] = [order.index(axis % len(order)) for axis in value]
    return fields


@pytest.mark.parametrize("index", [pytest.param(i, id=row.id) for i, row in enumerate(ROWS) if is_same(row)])
def test_means_the_same(index: int) -> None:
    row = ROWS[index]
    kept = document_of(row, row.fields)
    (node,) = graph_of(regspec.loads(json.dumps(kept))).layers()
    orders = [node.resolved.layer.input_spec_order(len(shape) + 1) for shape in row.shapes]
    said = {
        name: {**each, "shape": [*axes.permute((None, *each["shape"]), order)[1:]]}
        for (name, each), order in zip(kept["inputs"].items(), orders, strict=True)
    }
    fields = numbered(row, orders[0])
    open_ = {**document_of(row, fields), "inputs": said}
    del open_["data_format"]
    for declared, order in zip(said.values(), orders, strict=True):
        if order == axes.channels_first(4):  # whose sizes may look as if channels were last
            declared["axes"] = ["channels", "height", "width"]
    models = [regspec.build(regspec.loads(json.dumps(each)), seed=0).eval() for each in (kept, open_)]
    shapes = {name: value.shape for name, value in models[1].state_dict().items()}
    models[1].load_state_dict({name: value.reshape(shapes[name]) for name, value in models[0].state_dict().items()})
    inputs = [torch.as_tensor(x) for x in reference.inputs_of(row, index)]
    wanted = outputs_of(models[0](*inputs))
    got = outputs_of(models[1](*(x.permute(order) for x, order in zip(inputs, orders, strict=True))))
    graph = graph_of(regspec.loads(json.dumps(open_)))
    for a, b, x in zip(got, wanted, graph.outputs, strict=True):
        torch.testing.assert_close(a, b.permute(x.spec_order), rtol=1e-4, atol=1e-5, equal_nan=True)


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
