"""From a spec's file to a module, against constructing the same modules by hand, and against Keras.

The aims of 1.8 for 100 layers and of 1.6 for 1,000 are missed: 3.5 and 2.9, where it was 4.2 and 3.6 before equal
layers were read and printed once. Of 196 ms of CPU, against 69 by hand, reading YAML takes 25, of which 18 in libyaml;
loading, shapes and terms 27; lowering 14; printing 31; Python's compiler 26; the constructors, with initial values and
terms, 79. The aim asks that all but these be done in 31 ms, and libyaml and Python's compiler alone take 44. It can be
met only by not compiling: by a cache on disk, which was weighed. It would keep code that is run later, by a key of the
text, of each file of a block, of regspec's own sources, and of what is registered; a model would need its graph made
when it is asked for. That is neither simple nor safe.

Tried, and kept: entries that say the same are read once (load took 76 ms); one plan and one printed text for layers
that are alike, and what is found in the expressions of a layer is found once for all of them (printing took 46); a
tensor that lies in torch as the graph has it is the same symbol (lowering took 18); YAML's events instead of its nodes;
one scan of a statement for its layout; loops over what starts alike, which halve the source; statements are judged
before they are put together, and an expression is then made once and not twice. Tried, and dropped: composing YAML
nodes, which takes 14 ms before a value is read; leaving out the constructors' own initial values, because `skip_init`
is not what one would write; turning off the garbage collector, which is the user's (7 ms); a shorter
`dataclasses.replace`, which saves half of its time for symbols alone, where it is written out. Not tried: the names of
many layers in one tuple for all loops over them, which would take 9 of the compiler's 35 ms of a busy machine.
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

from . import densenet
from .timing import Figure, compare

WIDTH = 32


def build(path: Path) -> nn.Module:
    building.SOURCES.forget()  # else Python's compiler runs in the first round only
    return regspec.build(path)


def spec(folder: str, depth: int) -> Path:
    """A spec's file, of Dense layers with penalties."""
    path = Path(folder) / f"deep{depth}.yaml"
    layer = f"  - Dense: {{units: {WIDTH}, kernel_regularizer: {{l2: 1e-4}}, bias_regularizer: {{l1: 1e-5}}}}\n"
    head = f"regspec: 1\nname: deep\ninputs: {{x: {{shape: [{WIDTH}]}}}}\nlayers:\n"
    path.write_text(head + layer * depth, encoding="utf-8")
    return path


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
        for depth, most, rounds in ((100, 1.8, 41), (1_000, 1.6, 15), (10_000, 1.6, 3)):
            ours, theirs = partial(build, spec(folder, depth)), partial(by_hand, depth)
            yield compare(f"build, {depth:,} layers / by hand", ours, theirs, most=most, rounds=rounds)
        one, ten = (partial(build, spec(folder, depth)) for depth in (1_000, 10_000))
        yield compare("10,000 layers / 1,000 layers", ten, one, most=10, rounds=5)
        ported = partial(build, densenet.ported(Path(folder)))
        yield compare("build, a ported DenseNet121 / by hand", ported, densenet.ByHand, most=2.5, rounds=15)


def figures_against_keras() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = partial(build, spec(folder, 300)), partial(by_keras, 300)
        yield compare("build, 300 layers, Keras", ours, theirs, most=0.3, rounds=7)
