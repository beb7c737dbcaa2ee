"""Zeros before a convolution or a maximum are its own padding where it can do them, and it computes the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import regspec

CONV = "Conv2D: {name: conv, filters: 4, kernel_size: [5, 3], strides: 2%s}"
MAXIMUM = "MaxPooling2D: {name: pool, pool_size: 3, strides: 2%s}"


def conv(cells: tuple[int, ...], **fields: Any) -> Callable[[nn.Module, Tensor], Tensor]:
    """Zeros, and then a convolution that adds none, written out."""
    return lambda model, x: F.conv2d(F.pad(x, cells), model.conv.weight, model.conv.bias, **{"stride": 2, **fields})


def relu_and_maximum(cells: tuple[int, ...]) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda model, x: F.max_pool2d(F.pad(x.relu(), cells), 3, 2)


# layers, what stands in the source, and the same in torch
OWN = {
    "one number": (["ZeroPadding2D: {padding: 3}", CONV % ""], "stride=2, padding=3)", conv((3,) * 4)),
    "one for each axis": (["ZeroPadding2D: {padding: [1, 2]}", CONV % ""], "padding=(1, 2))", conv((2, 2, 1, 1))),
    "one for each side": (
        ["ZeroPadding2D: {padding: [[1, 1], [0, 0]]}", CONV % ""],
        "padding=(1, 0))",
        conv((0, 0, 1, 1)),
    ),
    "and the convolution's": (
        ["ZeroPadding2D: {padding: 1}", CONV.replace("strides: 2", "padding: same") % ""],
        "padding=(3, 2))",
        conv((2, 2, 3, 3), stride=1),
    ),
    "twice": (
        ["ZeroPadding2D: {padding: 1}", "ZeroPadding2D: {padding: 2}", CONV % ""],
        "padding=2)",
        conv((3,) * 4),
    ),
    "dilated, with an activation": (
        [
            "ZeroPadding2D: {padding: 2}",
            CONV.replace("strides: 2", "dilation_rate: 2") % ", activation: relu, activity_regularizer: l2",
        ],
        "padding=2, dilation=2)",
        lambda model, x: conv((2,) * 4, stride=1, dilation=2)(model, x).relu(),
    ),
    "depthwise": (
        ["ZeroPadding2D: {padding: 1}", "DepthwiseConv2D: {name: conv, kernel_size: 3, strides: 2}"],
        "padding=1, groups=3)",
        conv((1,) * 4, groups=3),
    ),
    "the maximum of what is not negative": (
        ["ReLU", "ZeroPadding2D: {padding: 1}", MAXIMUM % ""],
        "nn.MaxPool2d(3, stride=2, padding=1)",
        relu_and_maximum((1,) * 4),
    ),
}
APART = {
    "unequal sides": (["ZeroPadding2D: {padding: [[0, 1], [0, 1]]}", CONV % ""], conv((0, 1, 0, 1))),
    "a penalty on the padded": (["ZeroPadding2D: {padding: 1, activity_regularizer: l2}", CONV % ""], conv((1,) * 4)),
    "the maximum of anything": (
        ["ZeroPadding2D: {padding: 1}", MAXIMUM % ""],
        lambda model, x: F.max_pool2d(F.pad(x, (1,) * 4), 3, 2),
    ),
    "a window that is too small": (["ReLU", "ZeroPadding2D: {padding: 2}", MAXIMUM % ""], relu_and_maximum((2,) * 4)),
    "a maximum with padding of its own": (
        ["ReLU", "ZeroPadding2D: {padding: 1}", MAXIMUM % ", padding: same"],
        lambda model, x: F.max_pool2d(F.pad(x.relu(), (2, 2, 1, 2)), 3, 2),
    ),
    "a mean": (
        ["ZeroPadding2D: {padding: 1}", "AveragePooling2D: {pool_size: 3, strides: 2}"],
        lambda model, x: F.avg_pool2d(F.pad(x, (1,) * 4), 3, 2),
    ),
    "what another layer takes too": (
        [
            "ZeroPadding2D: {name: padded, padding: 1}",
            CONV % "",
            "Flatten: {name: one}",
            "Flatten: {name: other, inputs: padded}",
            "Concatenate: {inputs: [one, other]}",
        ],
        lambda model, x: torch.cat((conv((1,) * 4)(model, x).flatten(1), F.pad(x, (1,) * 4).flatten(1)), 1),
    ),
    "a transposed convolution": (
        ["ZeroPadding2D: {padding: 1}", "Conv2DTranspose: {name: conv, filters: 2, kernel_size: 3}"],
        lambda model, x: F.conv_transpose2d(F.pad(x, (1,) * 4), model.conv.weight, model.conv.bias),
    ),
}


def built(layers: list[str]) -> tuple[Any, str]:
    listed = "\n".join(f"  - {layer}" for layer in layers)
    spec = regspec.loads(f"regspec: 1\ninputs: {{x: {{shape: [3, 12, 11]}}}}\nlayers:\n{listed}")
    return regspec.build(spec, seed=0), regspec.source(spec)


def check_same(model: Any, reference: Callable[[nn.Module, Tensor], Tensor]) -> None:
    """Outputs, and the gradients of inputs and weights."""
    x = torch.randn(2, 3, 12, 11, requires_grad=True)
    got = model(x)
    regspec.regularization_loss(model)  # read, so that the gradients without it give no warning
    wanted = reference(model, x)
    torch.testing.assert_close(got, wanted)
    sources = [x, *model.parameters()]
    direction = torch.randn_like(wanted)
    gradients = [torch.autograd.grad(output, sources, direction) for output in (got, wanted)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", OWN)
def test_zeros_are_the_padding_of_the_window(name: str) -> None:
    layers, written, reference = OWN[name]
    model, source = built(layers)
    assert written in source
    assert ("F.pad" in source) == (name == "twice")
    check_same(model, reference)


@pytest.mark.parametrize("name", APART)
def test_zeros_stay_apart(name: str) -> None:
    layers, reference = APART[name]
    model, source = built(layers)
    assert "F.pad" in source
    check_same(model, reference)


def test_a_convolution_that_is_called_again_has_the_padding_of_both_calls() -> None:
    text = """
regspec: 1
inputs: {a: {shape: [3, 9, 9]}, b: {shape: [3, 11, 11]}}
layers:
  - ZeroPadding2D: {name: padded, inputs: a, padding: 1}
  - Conv2D: {name: conv, filters: 2, kernel_size: 3}
  - call: {layer: conv, inputs: b, name: again}
  - Add: {inputs: [conv, again]}
"""
    model = regspec.build(regspec.loads(text))
    a, b = torch.randn(2, 3, 9, 9), torch.randn(2, 3, 11, 11)
    weights = model.conv.weight, model.conv.bias
    torch.testing.assert_close(model(a, b), F.conv2d(F.pad(a, (1,) * 4), *weights) + F.conv2d(b, *weights))
