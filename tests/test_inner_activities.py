"""Penalties on outputs inside wrappers that tell axes apart: they see them as Keras counts them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import regspec

from . import own

TARGET = 0.2
FIELDS = "filters: 4, kernel_size: 2, activation: sigmoid"
ACTIVITIES = {
    "by units": "{kl_sparsity: {strength: 0.3, target: 0.2}}",
    "by axes": "{by_places: {strength: 0.1}}",
    "both": "[{kl_sparsity: {strength: 0.3, target: 0.2}}, {by_places: {strength: 0.1}}]",
}


def kl(x: Tensor) -> Tensor:
    """0.3 times the sum over units, the last axis, of KL(target || mean activity)."""
    rate = x.detach().double().flatten(0, -2).mean(0)
    return 0.3 * (TARGET * (TARGET / rate).log() + (1 - TARGET) * ((1 - TARGET) / (1 - rate)).log()).sum()


def places(x: Tensor) -> Tensor:
    """Of each unit, its place times its sum; divided by the number of samples."""
    return 0.1 * (x.detach().double() * torch.arange(x.shape[-1])).sum() / len(x)


CLOSED: dict[str, Callable[[Tensor], Tensor]] = {
    "by units": kl,
    "by axes": places,
    "both": lambda x: kl(x) + places(x),
}
# A layer with {activity}, its input's shape as Keras counts it, and the outputs that are heard, of the model's own.
LAYERS: dict[str, tuple[str, tuple[int, ...], Callable[[Tensor], list[Tensor]]]] = {
    "alone": (f"Conv2D: {{{FIELDS}, activity_regularizer: {{activity}}}}", (5, 6, 3), lambda y: [y]),
    "normalized": (
        f"SpectralNormalization: {{layer: {{Conv2D: {{{FIELDS}, activity_regularizer: {{activity}}}}}}}}",
        (5, 6, 3),
        lambda y: [y],
    ),
    "normalized, of signals": (
        f"SpectralNormalization: {{layer: {{Conv1D: {{{FIELDS}, activity_regularizer: {{activity}}}}}}}}",
        (5, 3),
        lambda y: [y],
    ),
    "both directions": (
        f"Bidirectional: {{layer: {{ConvLSTM1D: {{{FIELDS}, activity_regularizer: {{activity}}}}}}}}",
        (4, 6, 3),
        lambda y: [*y.chunk(2, dim=-1)],
    ),
    "both directions of sequences": (
        "Bidirectional: {layer: {ConvLSTM2D: "
        f"{{{FIELDS}, return_sequences: true, activity_regularizer: {{activity}}}}}}}}",
        (4, 6, 5, 3),
        lambda y: [*y.chunk(2, dim=-1)],
    ),
    "each step": (
        f"TimeDistributed: {{layer: {{Conv2D: {{{FIELDS}, activity_regularizer: {{activity}}}}}}}}",
        (2, 5, 6, 3),
        lambda y: [y.flatten(0, 1)],
    ),
    "each step, normalized": (
        "TimeDistributed: {layer: {SpectralNormalization: {layer: {Conv2D: "
        f"{{{FIELDS}, activity_regularizer: {{activity}}}}}}}}}}}}",
        (2, 5, 6, 3),
        lambda y: [*y.unbind(1)],
    ),
    "each step, in both directions": (
        "TimeDistributed: {layer: {Bidirectional: {layer: {ConvLSTM1D: "
        f"{{{FIELDS}, activity_regularizer: {{activity}}}}}}}}}}}}",
        (2, 4, 6, 3),
        lambda y: [half for step in y.unbind(1) for half in step.chunk(2, dim=-1)],
    ),
}
FEATURES_FIRST = ("alone", "normalized", "normalized, of signals")  # of layers whose input's channels a spec has first


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize("activity", ACTIVITIES)
@pytest.mark.parametrize(
    ("name", "layout"),
    [*((name, "channels_last") for name in LAYERS), *((name, "channels_first") for name in FEATURES_FIRST)],
)
def test_axes(name: str, layout: str, activity: str) -> None:
    regspec.register_regularizer(own.by_places)
    layer, shape, heard = LAYERS[name]
    if layout == "channels_first":
        shape = (shape[-1], *shape[:-1])
    text = f"""
regspec: 1
data_format: {layout}
inputs: {{x: {{shape: {list(shape)}}}}}
layers: [{{{layer.replace("{activity}", ACTIVITIES[activity])}}}]
"""
    model = regspec.build(regspec.loads(text), seed=0)
    y = model(torch.randn(3, *shape))
    outputs = heard(y if layout == "channels_last" else y.movedim(1, -1))
    wanted = sum((CLOSED[activity](each) for each in outputs), torch.zeros((), dtype=torch.double))
    torch.testing.assert_close(model.regularization_loss().double(), wanted, rtol=1e-5, atol=1e-7)


def test_two_of_one_name() -> None:
    """A wrapper at each step, with a penalty on its own output, and one on the output inside it."""
    inner = "{layer: {Dense: {units: 2, activity_regularizer: l2}}, activity_regularizer: l1}"
    layer = f"TimeDistributed: {{layer: {{SpectralNormalization: {inner}}}}}"
    text = f"regspec: 1\ninputs: {{x: {{shape: [4, 3]}}}}\nlayers: [{{{layer}}}]"
    with pytest.raises(regspec.RegspecError, match="an activity_regularizer of its own, and one inside it"):
        regspec.loads(text)
