"""A forward of the compiled module against the same network written by hand: what is compiled costs nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

import regspec

from .timing import Figure, compare

SIZES = [(64, 8), (256, 20), (1024, 6)]  # width, layers
BATCH = 32


def compiled(width: int, depth: int) -> nn.Module:
    layer = f"  - Dense: {{units: {width}, activation: relu, kernel_regularizer: {{l2: 1e-4}}}}\n"
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
    for width, depth in SIZES:
        x = torch.randn(BATCH, width)
        ours, theirs = partial(compiled(width, depth), x), partial(by_hand(width, depth), x)
        yield compare(f"forward, {depth} layers of {width}", ours, theirs, most=1.03, rounds=101, calls=20)
