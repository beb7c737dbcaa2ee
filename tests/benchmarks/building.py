"""From a spec's file to a module, against constructing the same modules by hand, and against Keras.

The aim of 2.5 for 1,000 layers is missed: 2.8. Of 112 ms, against 40 by hand, reading YAML takes 17, of which 9 in
libyaml; loading 10; shapes and terms 7; printing 12; Python's compiler 16; the constructors, with the initial values,
40, which is what they take by hand; and the rest is reading the file and letting go of what was made. The aim asks
that all but the constructors be done in 60 ms.

Tried, and kept: one plan and one printed text for layers that are alike (shapes and terms took 40 ms, printing 60);
YAML's events instead of its nodes; one scan of a statement for its layout; loops over what starts alike, which halve the
source; no garbage collection meanwhile (20 ms). Tried, and dropped: composing YAML nodes, which takes 14 ms before a
value is read; leaving out the constructors' own initial values, because `skip_init` is not what one would write.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

import regspec
from regspec.modules import building

from .timing import Figure, compare

WIDTH = 32


class Spec:
    """A spec's file, of Dense layers with penalties."""

    def __init__(self, folder: str, depth: int) -> None:
        self.path = Path(folder) / f"deep{depth}.yaml"
        layer = f"  - Dense: {{units: {WIDTH}, kernel_regularizer: {{l2: 1e-4}}, bias_regularizer: {{l1: 1e-5}}}}\n"
        head = f"regspec: 1\nname: deep\ninputs: {{x: {{shape: [{WIDTH}]}}}}\nlayers:\n"
        self.path.write_text(head + layer * depth, encoding="utf-8")

    def build(self) -> nn.Module:
        building.SOURCES.forget()  # else Python's compiler runs in the first round only
        return regspec.build(self.path)


def by_hand(depth: int) -> nn.Module:
    """The same modules, with Keras's initial values as the spec has them."""
    net = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(depth)))
    for layer in net:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return net


def by_keras(depth: int) -> Any:
    import keras

    keras.backend.clear_session()
    layers = [
        keras.layers.Dense(
            WIDTH, kernel_regularizer=keras.regularizers.L2(1e-4), bias_regularizer=keras.regularizers.L1(1e-5)
        )
        for _ in range(depth)
    ]
    return keras.Sequential([keras.Input((WIDTH,)), *layers])


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        for depth, rounds in ((1_000, 15), (10_000, 3)):
            spec = Spec(folder, depth)
            yield compare(f"build, {depth:,} layers", spec.build, partial(by_hand, depth), most=2.5, rounds=rounds)
        one, ten = Spec(folder, 1_000), Spec(folder, 10_000)
        yield compare("10,000 layers / 1,000 layers", ten.build, one.build, most=10, rounds=5)


def figures_against_keras() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        yield compare("build, 300 layers, Keras", Spec(folder, 300).build, partial(by_keras, 300), most=0.3, rounds=7)
