"""Properties that hold for every row of the layer table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import regspec
from regspec.layers import KINDS
from regspec.layers.arrays import to_parameters
from regspec.layers.families import Elementwise
from regspec.layers.kinds import OPERATIONS
from regspec.layers.registration import Registered
from regspec.targets.torch.steps import Step

from . import reference
from .rows import ROWS, Row
from .specs import outputs_of, spec_of, step_of, with_penalties

pytestmark = pytest.mark.filterwarnings("ignore:Tensor.T is deprecated")  # of Keras, in Equalization

# A row of each elementwise kind, with a reference if it has one; without operations, which have no masks in Keras.
ELEMENTWISE = {
    row.kind: row
    for row in sorted(ROWS, key=lambda row: row.has_reference)
    if issubclass(KINDS[row.kind], Elementwise) and row.kind not in OPERATIONS
}


def load_keras_weights(model: torch.nn.Module, step: Step, layer: Any) -> dict[str, tuple[Any, Any]]:
    """Moves Keras's weights to the model; gives Keras's variable and the weight by parameter path."""
    unused = list(layer.weights)
    state = model.state_dict()
    moved = {}
    for weight in step.lowered.weights:
        called = [each for each in unused if _is_called(each, weight.name, step.lowered.kind)]
        variable = next(each for each in called if tuple(each.shape) == weight.shape)
        unused = [each for each in unused if each is not variable]
        place = step.attributes[weight.module]
        for parameter, array in to_parameters(weight, variable.value.detach().numpy()).items():
            state[f"{place}.{parameter}"] = torch.as_tensor(np.array(array))
            moved[f"{place}.{parameter}"] = (variable, weight)
    assert all("seed" in variable.path or variable.name == "count" for variable in unused)
    model.load_state_dict(state)
    return moved


def _is_called(variable: Any, name: str, kind: str) -> bool:
    """Whether Keras's variable is the weight of this name: ``forward.kernel`` is ``…/forward_lstm/…/kernel``."""
    *owner, slot = name.split(".")
    last = variable.path.split("/")[-1]
    names = (slot, f"{slot}_kernel", "kernel" if kind.startswith("DepthwiseConv") and slot == "depthwise" else slot)
    if kind == "LayerScale":  # its weight has no name of its own
        return last.startswith("variable")
    # an own backward_layer keeps its own name
    is_owned = all(part in variable.path or (part == "backward" and "forward" not in variable.path) for part in owner)
    return last in names and is_owned


@pytest.mark.parametrize("index", [pytest.param(i, id=row.id) for i, row in enumerate(ROWS) if row.has_reference])
def test_agrees_with_keras(index: int) -> None:
    """Outputs, penalties, gradients of weights and inputs, in evaluation and, if deterministic, in training.

    With a penalty on every slot; without them the outputs are the same.
    """
    row = ROWS[index]
    fields = with_penalties(row)
    spec = spec_of(row, fields)
    step = step_of(spec)
    model = regspec.build(spec, seed=0)
    others = [] if fields == row.fields else [regspec.build(spec_of(row, row.fields))]
    layer = reference.keras_layer(row.kind, fields, row.data_format, len(row.shapes[0]) + 1)
    inputs = reference.inputs_of(row, index)
    reference.call(layer, row, [torch.as_tensor(x) for x in inputs], False)
    reference.fill(layer, index)
    moved = load_keras_weights(model, step, layer)
    for plain in others:
        plain.load_state_dict(model.state_dict())
    for training in (False, True):
        if training and row.is_random:
            continue
        for each in (model, *others):
            each.train(training)
        ours = [torch.tensor(x, requires_grad=row.has_gradient and x.dtype == "float32") for x in inputs]
        theirs = [torch.tensor(x, requires_grad=row.has_gradient and x.dtype == "float32") for x in inputs]
        got = outputs_of(model(*ours))
        wanted = reference.call(layer, row, theirs, training)
        with torch.no_grad():
            without = [outputs_of(plain(*ours)) for plain in others]
        for outputs in (got, *without):
            assert [tuple(x.shape) for x in outputs] == [tuple(x.shape) for x in wanted]
            for a, b in zip(outputs, wanted, strict=True):
                torch.testing.assert_close(a, b.to(a.dtype), rtol=row.tolerance, atol=row.tolerance)
        penalty = sum(layer.losses, torch.zeros(()))
        torch.testing.assert_close(regspec.regularization_loss(model), penalty, rtol=1e-4, atol=1e-6)
        terms = regspec.regularization_terms(model)
        torch.testing.assert_close(regspec.regularization_loss(model), sum(terms.values(), torch.zeros(())))
        check_gradients(model, layer, moved, (got, wanted), (ours, theirs), penalty)
        check_statistics(model, moved)


def check_statistics(model: Any, moved: Any) -> None:
    """What is not trained is moved by training as in Keras."""
    for path, buffer in model.named_buffers():
        if path in moved:
            variable, weight = moved[path]
            expected = to_parameters(weight, variable.value.detach().numpy())[path.partition(".")[2]]
            torch.testing.assert_close(buffer, torch.as_tensor(np.array(expected)), rtol=1e-4, atol=1e-5)


def check_gradients(model: Any, layer: Any, moved: Any, outputs: Any, inputs: Any, penalty: torch.Tensor) -> None:
    """The gradients of the outputs in a random direction, plus the penalties."""
    got, wanted = ([x for x in own if x.is_floating_point()] for own in outputs)
    if not any(x.requires_grad for x in got):
        assert not any(x.requires_grad for x in wanted)
        return
    directions = [torch.randn_like(x) for x in got]
    model.zero_grad()
    for variable in layer.weights:
        variable.value.grad = None
    (sum((x * d).sum() for x, d in zip(got, directions, strict=True)) + regspec.regularization_loss(model)).backward()
    (sum((x * d).sum() for x, d in zip(wanted, directions, strict=True)) + penalty).backward()
    for a, b in zip(*inputs, strict=True):
        if a.requires_grad:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)
    parameters = dict(model.named_parameters())
    for path, (variable, weight) in moved.items():
        if path not in parameters:
            continue
        parameter, expected = parameters[path], variable.value.grad
        assert parameter.requires_grad == variable.trainable
        if expected is None:
            assert parameter.grad is None or not parameter.grad.any()
            continue
        expected = torch.as_tensor(np.array(to_parameters(weight, expected.numpy())[path.partition(".")[2]]))
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-4)


def test_every_kind_has_a_row() -> None:
    kinds = {name for name, kind in KINDS.items() if not issubclass(kind, Registered)}
    missing = sorted(kinds - {row.kind for row in ROWS})
    assert not missing, f"add rows for {', '.join(missing)} to tests/layers/rows.py"


@pytest.mark.parametrize("row", [pytest.param(row, id=kind) for kind, row in ELEMENTWISE.items()])
def test_an_elementwise_layer_keeps_the_mask(row: Row) -> None:
    """Unless Keras's layer of the same name drops it."""
    drops_mask = False
    if row.has_reference:
        rank = len(row.shapes[0]) + 1
        drops_mask = not reference.keras_layer(row.kind, row.fields, row.data_format, rank).supports_masking
    assert KINDS[row.kind].supports_masking or drops_mask, f"set supports_masking = True in the class {row.kind}"
