"""A ported model beside Keras's: outputs, penalties, and gradients number by number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from torch import Tensor

import regspec

from .layers import reference
from .layers.operating import is_operation, operated
from .layers.rows import ROWS, Row
from .layers.specs import with_penalties

RANDOM = "what layers such as dropout do in training, which is random: there they did nothing"  # as a verification says
UNSAVED = ("ELU", "Identity")  # with a penalty: Keras 3.15 has no get_config for them


def is_saved(row: Row) -> bool:
    """Whether Keras can save a row: not an activation function with arguments, which is a partial."""
    if row.kind == "Equalization":  # Keras 3.15 makes no graph with it: its output is its input
        return False
    return not any(isinstance(row.fields.get(field), dict) for field in ("activation", "recurrent_activation"))


def of_row(index: int, symbolic: list[Any], given: list[Any]) -> Any:
    """A model of a row's layer, with penalties, in Keras: from its inputs, by what the layer is given of them."""
    row = ROWS[index]
    if is_operation(row.kind, row.fields):
        model = keras.Model(symbolic, operated(row.kind, row.fields, given, row.data_format))
    else:
        fields = row.fields if row.kind in UNSAVED else with_penalties(row)
        layer = reference.keras_layer(row.kind, fields, row.data_format, len(row.shapes[0]) + 1)
        model = keras.Model(symbolic, reference.call(layer, row, given, False))
    reference.fill(model, index)
    return model


def flat(output: Any) -> list[Tensor]:
    return list(keras.tree.flatten(output))


def order_of_output(port: regspec.Port, number: int) -> tuple[int, ...] | None:
    outputs = port.spec.body.outputs
    names = [outputs] if isinstance(outputs, str) else [*(outputs or ())]
    return port.output_orders.get(names[number])


def agrees(
    model: Any,
    *sources: regspec.Port | Path,
    inputs: list[Tensor],
    given: Any = None,
    has_gradient: bool = True,
    tolerance: float = 2e-4,
) -> None:
    """Outputs, penalties and gradients of ports, or of what files are ported to, are Keras's, in evaluation.

    What a port with channels first takes and gives is transposed. ``given`` is the structure in which Keras takes the
    inputs, if that is no list.
    """
    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in inputs]
    outputs = flat(model(given or (inputs if len(inputs) > 1 else inputs[0]), training=False))
    weights = [each.value for each in model.trainable_variables] if has_gradient else []
    wanted = Outcome.of(outputs, sum(model.losses, torch.zeros(())), weights, inputs if has_gradient else [])
    for source in sources:
        port = source if isinstance(source, regspec.Port) else regspec.port(source)
        ported = port.build()
        orders = [port.input_orders.get(name) for name in port.spec.inputs]
        ours = [x if order is None else x.permute(order) for x, order in zip(inputs, orders, strict=True)]
        outputs = flat(ported(*ours))
        trained = {name: each for name, each in ported.named_parameters() if each.requires_grad and has_gradient}
        loss = regspec.regularization_loss(ported)
        got = Outcome.of(outputs, loss, [*trained.values()], inputs if has_gradient else [])
        for number, (a, b) in enumerate(zip(got.outputs, wanted.outputs, strict=True)):
            order = order_of_output(port, number)
            b = b if order is None else b.permute(order)
            assert a.shape == b.shape
            torch.testing.assert_close(a, b.to(a.dtype), rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(got.penalty, wanted.penalty, rtol=tolerance, atol=1e-6)
        for a, b in zip(got.of_inputs, wanted.of_inputs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * max(1.0, b.abs().max().item()))
        check_gradients(trained, got.of_weights, weights, wanted.of_weights)


@dataclass(frozen=True)
class Outcome:
    """What a model gives, its penalty, and the gradients of the penalty plus the mean squares of the outputs."""

    outputs: list[Tensor]
    penalty: Tensor
    of_weights: list[Tensor]
    of_inputs: list[Tensor]

    @classmethod
    def of(cls, outputs: list[Tensor], penalty: Tensor, weights: list[Tensor], inputs: list[Tensor]) -> Outcome:
        objective = penalty + sum(x.square().mean() for x in outputs if x.is_floating_point())
        # by the inputs too: without them torch 2.13 crashes in the backward of a GroupNorm in channels_last
        asked = [*weights, *(x for x in inputs if x.requires_grad)]
        gradients = [torch.zeros_like(x) for x in asked]
        if asked and objective.requires_grad:
            gradients = [*torch.autograd.grad(objective, asked, allow_unused=True, materialize_grads=True)]
        return cls(outputs, penalty, gradients[: len(weights)], gradients[len(weights) :])


def check_gradients(
    trained: dict[str, Tensor], gradients: list[Tensor], weights: list[Tensor], wanted: list[Tensor]
) -> None:
    """The gradients by a port's parameters, number by number.

    A number of the port is found among Keras's by its value, of which no two are the same: so nothing is asked of the
    port's own knowledge of what lies where.
    """
    assert bool(trained) == bool(weights), "the port trains what Keras does not, or the other way round"
    if not trained:
        return
    numbers, places, counts = np.unique(_joined(weights), return_index=True, return_counts=True)
    is_one = counts == 1
    assert is_one.mean() > 0.9, "numbers that occur twice say nothing: fill the model's weights"
    expected = _joined(wanted)[places]
    found = 0
    for (name, parameter), gradient in zip(trained.items(), gradients, strict=True):
        values = _joined([parameter])
        place = np.searchsorted(numbers, values).clip(max=len(numbers) - 1)
        assert (numbers[place] == values).all(), f"{name} has numbers that no trained weight of Keras's has"
        own = is_one[place]
        found += own.sum()
        a, b = _joined([gradient])[own], expected[place[own]]
        smallest = 1e-4 * np.abs(b).max(initial=0) + 1e-7
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=smallest, err_msg=f"the gradient of {name}")
    assert found == is_one.sum(), "the port does not train all weights that Keras trains"


def _joined(tensors: list[Tensor]) -> np.ndarray:
    return np.concatenate([x.detach().double().numpy().ravel() for x in tensors])
