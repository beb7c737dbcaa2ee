"""What wrappers hand on of their layer: what it does with axes and says of them, in torch; types; what is frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import regspec
from tests import own

from .test_axes import LAST, check_by_hand, on, one

VIDEO = ([4, 3, 6, 7], ["steps", "channels", "height", "width"])
INNER: dict[str, tuple[dict[str, Any], Callable[[Tensor], Tensor]]] = {
    "permute": (one("Permute", dims=[2, 3, 1]), lambda a: a.permute(0, 1, 3, 4, 2)),
    "permute that keeps the channels": (one("Permute", dims=[1, 3, 2]), lambda a: a.mT),
    "swapaxes": (one("Swapaxes", axis1=1, axis2=2), lambda a: a.transpose(2, 3)),
    "moveaxis": (one("Moveaxis", source=1, destination=3), lambda a: a.movedim(2, 4)),
    "einsum": (one("Einsum", subscripts="bchw->bwch"), lambda a: a.permute(0, 1, 4, 2, 3)),
    "take": (one("Take", axis=3, indices=2), lambda a: a[..., 2]),
    "argmax": (one("Argmax", axis=2), lambda a: a.argmax(3).int()),
    "flip": (one("Flip", axis=1), lambda a: a.flip(2)),
    "mean": (one("Mean", axis=2), lambda a: a.mean(3)),
    "get item": (one("GetItem", key=[":", ":", 0]), lambda a: a[:, :, :, 0]),
    "reshape": (one("Reshape", target_shape=[6, 3, 7]), lambda a: a.reshape(*a.shape[:2], 6, 3, 7)),
    # Keras's axis of steps is the height, and is put first
    "permute of each row": (
        one("TimeDistributed", layer=one("Permute", dims=[2, 1])),
        lambda a: a.permute(0, 1, 3, 4, 2),
    ),
}
ROWS: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {
    f"{title} of each step": (on([VIDEO], one("TimeDistributed", layer=layer)), function)
    for title, (layer, function) in INNER.items()
}
# The same where the spec counts as Keras does, and the input says that it does not: the axes are those that are named.
SAID_IMAGE = ([3, 6, 7], ["channels", "height", "width"])
for title, (layer, function) in INNER.items():
    ROWS[f"{title} of each step, said"] = (on([VIDEO], one("TimeDistributed", layer=layer), **LAST), function)
    ROWS[f"{title}, said"] = (
        on([SAID_IMAGE], layer, **LAST),
        lambda a, function=function: function(a.unsqueeze(1)).squeeze(1),
    )

MOVES = one("EinsumDense", equation="bchw,cd->bhdw", output_shape=[6, 4, 7])


def saying(kind: str, data_format: str) -> dict[str, Any]:
    return one(kind, filters=5, kernel_size=2, data_format=data_format)


def normalized(kind: str, data_format: str) -> dict[str, Any]:
    return one("SpectralNormalization", name="one", layer=saying(kind, data_format))


def of_each_step(a: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([function(step) for step in a.unbind(1)], 1)


def both_ways(a: Tensor) -> Callable[[Any], Tensor]:
    """The last steps of a convolutional LSTM in both directions, of (batch, steps, channels, height, width)."""
    return lambda model: torch.cat([model.one_forward(a)[0][:, -1], model.one_backward(a.flip(1))[0][:, -1]], 1)


ROWS |= {
    "normalized, dense by an equation of each step": (
        on(
            [VIDEO],
            one(
                "TimeDistributed",
                name="one",
                layer=one("SpectralNormalization", layer=MOVES),
            ),
            "Softmax",
        ),
        lambda a: lambda model: torch.einsum("bschw,cd->bshdw", a, model.one.layer.weight).softmax(3),
    ),
    "normalized, dense by an equation, said": (
        on([SAID_IMAGE], one("SpectralNormalization", name="one", layer=MOVES), **LAST),
        lambda a: lambda model: torch.einsum("bchw,cd->bhdw", a, model.one.layer.weight),
    ),
    "reshape that says channels first where they are last": (
        on([[126]], one("Reshape", target_shape=[3, 6, 7], axes=SAID_IMAGE[1]), **LAST),
        lambda a: a.view(-1, 3, 6, 7),
    ),
    "reshape, normalized conv that says channels first": (
        on([[126]], one("Reshape", target_shape=[3, 6, 7]), normalized("Conv2D", "channels_first")),
        lambda a: lambda model: model.one.layer(a.view(-1, 3, 6, 7)),
    ),
    "reshape, normalized conv that says channels last": (
        on([[126]], one("Reshape", target_shape=[6, 7, 3]), normalized("Conv2D", "channels_last")),
        lambda a: lambda model: model.one.layer(a.view(-1, 6, 7, 3).movedim(-1, 1)).movedim(1, -1),
    ),
    "reshape, conv of each step that says channels first": (
        on(
            [[504]],
            one("Reshape", target_shape=[4, 3, 6, 7]),
            one("TimeDistributed", name="one", layer=saying("Conv2D", "channels_first")),
        ),
        lambda a: lambda model: of_each_step(a.view(-1, 4, 3, 6, 7), model.one),
    ),
    "reshape, conv of each step that says channels last": (
        on(
            [[504]],
            one("Reshape", target_shape=[4, 6, 7, 3]),
            one("TimeDistributed", name="one", layer=saying("Conv2D", "channels_last")),
        ),
        lambda a: lambda model: of_each_step(a.view(-1, 4, 6, 7, 3).movedim(-1, 2), model.one).movedim(2, -1),
    ),
    "reshape, both ways that say channels first": (
        on(
            [[504]],
            one("Reshape", target_shape=[4, 3, 6, 7]),
            one("Bidirectional", name="one", layer=saying("ConvLSTM2D", "channels_first")),
        ),
        lambda a: both_ways(a.view(-1, 4, 3, 6, 7)),
    ),
    "reshape, both ways that say channels last": (
        on(
            [[504]],
            one("Reshape", target_shape=[4, 6, 7, 3]),
            one("Bidirectional", name="one", layer=saying("ConvLSTM2D", "channels_last")),
        ),
        lambda a: lambda model: both_ways(a.view(-1, 4, 6, 7, 3).movedim(-1, 2))(model).movedim(1, -1),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_by_hand(name: str) -> None:
    check_by_hand(*ROWS[name])


HOT = {
    "CategoryEncoding": {"num_tokens": 4, "output_mode": "multi_hot"},
    "Discretization": {"bin_boundaries": [1.0, 2.0], "output_mode": "one_hot"},
}


@pytest.mark.parametrize("kind", HOT)
def test_a_type_that_is_fixed(kind: str) -> None:
    """The module inside gives float32, and the wrapper what it says."""
    layers = [{"TimeDistributed": {"layer": {kind: HOT[kind]}, "dtype": "float16"}}]
    spec = {"inputs": {"x": {"shape": [4, 6], "dtype": "int64"}}, "layers": layers}
    assert regspec.build(spec)(torch.randint(0, 4, (2, 4, 6))).dtype is torch.float16


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(("outer", "inner"), [(True, True), (False, True), (True, False)])
def test_weights_that_only_a_module_knows(outer: bool, inner: bool) -> None:
    regspec.register_layer(own.GatedDense)
    layer = {"GatedDense": {"units": 3, "trainable": inner}}
    layers = [{"TimeDistributed": {"layer": layer, "trainable": outer}}]
    model = regspec.build({"inputs": {"x": {"shape": [5, 4]}}, "layers": layers})
    assert [each.requires_grad for each in model.parameters()] == [outer and inner] * 3
