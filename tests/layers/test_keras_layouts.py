"""A spec that counts channels first as Keras code: Keras computes of it what torch does.

What torch computes of such a spec is held against the same spec with channels last in `test_layouts.py`, and that
against Keras in `test_layers.py`.
"""

from __future__ import annotations

import json
from typing import Any

import keras
import pytest
import torch

import regspec
from regspec.graph.loading import graph_of
from regspec.layers import KINDS
from regspec.layers.families import Spatial
from regspec.targets.torch.program import program_of

from . import reference
from .layout_pairs import PAIRS
from .layouts import FIRST, FIRST_IN_STEPS, open_document, orders_of
from .specs import document_of, outputs_of
from .test_keras_code import is_refused, made
from .test_layers import load_keras_weights
from .test_layouts import EVERY, Row, is_same

pytestmark = pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`:UserWarning")  # on purpose

# Kinds that Keras's torch backend computes wrongly where certain axes are named, which the code then does not name.
WELL_NAMED = ("LayerNormalization", "RMSNormalization", "AutoContrast")


def is_compared(row: Row) -> bool:
    has_reference = row.has_reference or row.kind in WELL_NAMED
    return is_same(row) and not is_refused(row) and has_reference and row.kind != "Masking"  # see `test_a_moved_mask`


def filled(spec: regspec.ModelSpec) -> tuple[Any, keras.Model]:
    """The model in torch and that which Keras's code makes, with the same random weights."""
    model, printed = regspec.build(spec, seed=0).eval(), made(regspec.source(spec, target="keras"))
    for index, step in enumerate(
        each for each in program_of(graph_of(spec)).steps if each.declares and each.lowered.weights
    ):
        layer = printed.get_layer(step.name)
        reference.fill(layer, index)
        if step.lowered.kind == "PReLU" and layer.alpha.ndim == 3:  # whose channels are first in Keras
            model.layer.weight.data = layer.alpha.value.detach().movedim(0, -1).reshape(model.layer.weight.shape)
        else:
            load_keras_weights(model, step, layer)
    return model, printed


@pytest.mark.parametrize("index", [pytest.param(i, id=row.id) for i, row in enumerate(EVERY) if is_compared(row)])
def test_rows(index: int) -> None:
    row = EVERY[index]
    model, printed = filled(regspec.loads(json.dumps(open_document(row, row.fields))))
    inputs = [torch.as_tensor(x) for x in reference.inputs_of(row, index)]
    inputs = [x.permute(order) for x, order in zip(inputs, orders_of(row), strict=True)]
    wanted = keras.tree.flatten(printed(inputs if len(inputs) > 1 else inputs[0], training=False))
    for a, b in zip(outputs_of(model(*inputs)), wanted, strict=False):  # torch's model has the first output alone
        torch.testing.assert_close(b.to(a.dtype), a, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name: str) -> None:
    pair = PAIRS[name]
    model, printed = filled(regspec.loads(json.dumps(pair.documents()[1])))
    inputs = [torch.randn(2, *sizes).permute(order) for order, sizes in pair.inputs.values()]
    wanted = keras.tree.flatten(printed(inputs if len(inputs) > 1 else inputs[0], training=False))
    for a, b in zip(outputs_of(model(*inputs)), wanted, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)


def says_channels_first(row: Row) -> bool:
    """Whether a row can say that its channels are first, without a field that counts axes."""
    has_axes = "softmax" in str(row.fields.get("activation")) or isinstance(row.fields.get("activation"), dict)
    return is_compared(row) and issubclass(KINDS[row.kind], Spatial) and not has_axes and len(row.shapes) == 1


@pytest.mark.parametrize(
    "index", [pytest.param(i, id=row.id) for i, row in enumerate(EVERY) if says_channels_first(row)]
)
def test_a_layer_that_counts_otherwise_than_its_spec(index: int) -> None:
    """Its data_format is channels_first, in a spec with channels last; what torch does of it `test_layers` proves."""
    row = EVERY[index]
    order = FIRST_IN_STEPS[len(row.shapes[0]) - 2] if "LSTM" in row.kind else FIRST[len(row.shapes[0]) + 1]
    document = document_of(row, {**row.fields, "data_format": "channels_first"})
    document["inputs"]["input_0"]["shape"] = [(None, *row.shapes[0])[axis] for axis in order[1:]]
    model, printed = filled(regspec.loads(json.dumps(document)))
    x = torch.as_tensor(reference.inputs_of(row, index)[0]).permute(order)
    wanted = keras.tree.flatten(printed(x, training=False))
    for a, b in zip(outputs_of(model(x)), wanted, strict=False):
        torch.testing.assert_close(b.to(a.dtype), a, rtol=1e-4, atol=1e-5, equal_nan=True)


SAID: dict[str, Any] = {
    "permute": {"Permute": {"dims": [2, 1, 3]}},
    "equation": {"EinsumDense": {"equation": "bchw,cd->bdhw", "output_shape": [4, 6, 7], "activation": "softmax"}},
    "equation that turns": {"EinsumDense": {"equation": "bchw,wd->bdhc", "output_shape": [4, 6, 3]}},
    "dot": {"Dot": {"axes": [3, 1], "inputs": ["x", "y"]}},
    "steps": {"TimeDistributed": {"layer": {"Permute": {"dims": [2, 1]}}}},
    "softmax": {"Softmax": {"axis": 2}},
}


@pytest.mark.parametrize("name", SAID)
def test_an_input_that_is_said_to_be_otherwise(name: str) -> None:
    """In a spec with channels last; the torch model's axes are those of `test_axes` and `test_wrappers`."""
    inputs = {"x": {"shape": [3, 6, 7], "axes": ["channels", "height", "width"]}, "y": {"shape": [7]}}
    ((kind, fields),) = SAID[name].items()
    layers = [{kind: {"inputs": "x", **fields, "name": "layer"}}, {"Dense": {"units": 2, "inputs": "y", "name": "y2"}}]
    spec = {"regspec": 1, "name": "said", "data_format": "channels_last", "inputs": inputs, "layers": layers}
    spec["outputs"] = ["layer", "y2"]
    model, printed = filled(regspec.loads(json.dumps(spec)))
    xs = [torch.randn(2, 3, 6, 7), torch.randn(2, 7)]
    torch.testing.assert_close(printed(xs, training=False)[0], model(*xs)[0], rtol=1e-4, atol=1e-5)


def test_a_moved_mask() -> None:
    """Keras's Permute drops it, and what comes after would count every step."""
    spec = {
        "inputs": {"x": {"shape": [3, 7], "axes": ["channels", "length"]}},
        "layers": ["Masking", {"LSTM": {"units": 2}}],
    }
    with pytest.raises(regspec.RegspecError, match="whose Permute drops the mask of 'masking'"):
        regspec.source(spec, target="keras")
