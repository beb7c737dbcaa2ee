"""Faults where nothing tells what the axes of a tensor mean, or where they do not fit: what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

import regspec

from .test_axes import CONV, CONV1D, CONV_OF_A, FIRST, ab, on, one, signal

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a sequence with a new axis": (
        on([[6, 7]], one("ExpandDims", axis=1), CONV),
        r"may be \(channels, height, width\) or \(height, width, channels\)",
    ),
    "a vector with a new axis": (on([[7]], one("ExpandDims", axis=1), CONV1D), r"may be \(channels, length\)"),
    "stacked": (on([[6, 7]] * 2, ab("Stack", axis=1), CONV), r"may be \(channels, height, width\)"),
    "hot": (on([[5, 6]], one("OneHot", num_classes=4, axis=1), CONV), r"may be \(channels, height, width\)"),
    "a part with a new axis": (
        on([[3, 6, 7]], one("GetItem", key=[":", 0, ":", ":", None]), CONV),
        r"may be \(channels, height, width\)",
    ),
    "channels summed, and two axes more": (
        on(
            [[3, 6, 7]],
            one("Einsum", subscripts="bchw,cdek->bhdek", operands=[None, [[[[1.0] * 2] * 3] * 2] * 3]),
            "Softmax",
        ),
        r"may be \(channels, depth, height, width\)",
    ),
    **{
        f"a sequence that is turned by {layer}": (
            on([[6, 7]], "ReLU", layer, CONV1D),
            r"may be \(channels, length\) or \(steps, features\)",
        )
        for layer in (
            one("Permute", dims=[2, 1]),
            one("Swapaxes", axis1=1, axis2=2),
            one("Moveaxis", source=1, destination=2),
            one("Einsum", subscripts="abc->acb"),
            one("EinsumDense", equation="abc,b->acb", output_shape=[7, 6]),
            one("Einsum", subscripts="abc,de->acb", operands=[None, [[1.0, 2.0]]]),
        )
    },
    "attention of images": (
        on([[3, 6, 7]], {**CONV}, {"DotProductAttention": {"inputs": ["conv", "conv", "conv"]}}),
        r"takes \(batch, steps, heads, features\), but 'conv', which gives \(batch, 2, 6, 7\), has channels",
    ),
    "a quotient of an open tensor and an image": (
        on(
            [[3, 6, 7], [84]],
            CONV_OF_A,
            one("Reshape", target_shape=[2, 6, 7], inputs="b"),
            {"Divide": {"inputs": ["conv", "reshape"]}},
        ),
        r"takes 'reshape', which gives \(batch, 2, 6, 7\), which may be",
    ),
    "a penalty by units": (
        on(
            [[60]],
            one("Reshape", target_shape=[3, 4, 5]),
            one("ReLU", activity_regularizer={"kl_sparsity": {"strength": 0.1}}),
            "Flatten",
        ),
        r"has a penalty by the units of its output \(batch, 3, 4, 5\), which may be \(channels, height, width\)",
    ),
    "said already": (
        on(
            [[24], signal(4, 6)],
            one("Reshape", target_shape=[4, 6], inputs="a"),
            {"Add": {"inputs": ["b", "reshape"]}},
            **FIRST,
        ),
        r"say axes: \[channels, length\] or \[steps, features\] at a Reshape or Permute before it$",
    ),
    "two names for the channels": (
        on([([3, 6, 7], ["features", "channels", "width"])], CONV),
        "one of them channels or",
    ),
    "steps and a width": (on([([3, 6, 7], ["channels", "steps", "width"])], CONV), "both height and width of images"),
    "cross along the batch": (on([[3, 6, 7]] * 2, ab("Cross", axis=0)), "has axis 0, which is the batch"),
    "integral along the batch": (on([[3, 6, 7]], one("Trapezoid", axis=-4)), "has axis 0, which is the batch"),
    "dot": (
        on([[3, 6, 7], [4, 6, 7]], ab("Dot", axes=1)),
        r"can't multiply \(batch, 3, 6, 7\) and \(batch, 4, 6, 7\) along axes 1 and 1",
    ),
}

BLOCK: dict[str, Any] = {"blocks": {"block": {"layers": [{"Dense": {"units": 4}}]}}}
FAULTS["a block on tensors that are counted otherwise"] = (
    on(
        [signal(4, 4), [4, 4]],
        {"block": {"name": "one", "inputs": "a"}},
        {"call": {"layer": "one", "name": "two", "inputs": "b"}},
        outputs=["one", "two"],
        **BLOCK,
    ),
    r"made for 'a', which gives \(batch, 4, 4\) with its channels or features at axis 1, on 'b', which gives "
    r"\(batch, 4, 4\) with its channels or features at axis 2",
)
FAULTS["a layer on tensors that are counted otherwise"] = (
    on(
        [signal(4, 5), [4, 5]],
        {"Dense": {"name": "one", "units": 4, "inputs": "a"}},
        {"call": {"layer": "one", "name": "two", "inputs": "b"}},
        outputs=["one", "two"],
    ),
    r"made for 'a', which gives \(batch, 4, 5\) with its channels or features at axis 1, on 'b', which gives "
    r"\(batch, 4, 5\) with its channels or features at axis 2",
)
FAULTS["attention over channels"] = (
    on(
        [[3, 6, 7]], {"MultiHeadAttention": {"num_heads": 1, "key_dim": 2, "attention_axes": [1], "inputs": ["a", "a"]}}
    ),
    r"has attention_axes \[1\], which are out of range for 'a', which gives \(batch, 3, 6, 7\)",
)


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str) -> None:
    spec, message = FAULTS[name]
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.build(spec)
