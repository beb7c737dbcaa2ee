"""A forward of the compiled module against the same network written by hand, and in evaluation one with activity
penalties that nobody reads against one without: what is not asked for costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

import regspec

from .timing import Figure, compare

SIZES = [(64, 8, 1.10), (256, 20, 1.05), (1024, 6, 1.03)]  # width, layers, what is aimed at with activity penalties
BATCH = 32
KERNEL = ", kernel_regularizer: {l2: 1e-4}"
ACTIVITY = ", activity_regularizer: {l1: 1e-6}"


def compiled(width: int, depth: int, fields: str = "") -> nn.Module:
    layer = f"  - Dense: {{units: {width}, activation: relu{fields}}}\n"
    spec = regspec.loads(f"regspec: 1\ninputs: {{x: {{shape: [{width}]}}}}\nlayers:\n{layer * depth}")
    return regspec.build(spec)


def by_hand(width: int, depth: int) -> nn.Module:
    """The network as a class whose every line is written out, which is a little faster than `nn.Sequential`."""
    modules = "".join(f"        self.dense{i} = nn.Linear({width}, {width})\n" for i in range(depth))
    activations = "".join(f"        self.activation{i} = nn.ReLU()\n" for i in range(depth))
    steps = "".join(f"        x = self.activation{i}(self.dense{i}(x))\n" for i in range(depth))
    names: dict[str, Any] = {"nn": nn}
    exec(
        f"class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n{modules}{activations}"
        f"    def forward(self, x):\n{steps}        return x\n",
        names,
    )
    net: nn.Module = names["Net"]()
    return net


def figures() -> Iterator[Figure]:
    for width, depth, most in SIZES:
        x, name = torch.randn(BATCH, width), f"{depth} layers of {width}"
        hand, calls = partial(by_hand(width, depth), x), 20 if width < 1000 else 4
        for kind, fields, aim in (("without penalties", "", 1.02), ("with L2 of kernels", KERNEL, 1.03)):
            ours = partial(compiled(width, depth, fields).eval(), x)
            yield compare(f"evaluation, {name}, {kind} / by hand", ours, hand, most=aim, rounds=101, calls=calls)
        plain = partial(compiled(width, depth).eval(), x)
        ours = partial(compiled(width, depth, ACTIVITY).eval(), x)
        for kind, mode in (("with gradients", torch.enable_grad), ("no_grad", torch.no_grad)):
            with mode():
                what = f"evaluation, {name}, {kind}: activity penalties that nobody reads / without"
                yield compare(what, ours, plain, most=most, rounds=101, calls=calls)
