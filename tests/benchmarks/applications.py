"""keras.applications, ported: ``python -m tests.benchmarks applications``, or with the names of some of its models.

Each is made at its default size, with random weights and statistics that come from its own activations, so that none
of its layers is without effect on the output; and without the last softmax, which would hide what is wrong before it.
It is saved by Keras, loaded by Keras and by regspec, and their outputs are compared, with each other and with what the
port computes in float64: what single precision alone makes of them is in the last two columns. Each runs in a process
of its own, one after the other; the largest takes some 10 GB of memory.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from keras.src.applications import nasnet
from torch import Tensor
from torch.nn import functional as F

import regspec

NAMES = sorted(name for name in dir(keras.applications) if name[0].isupper())
# Keras refuses it on torch, for a fault of its average pooling, which is mended here.
MOBILE = {
    "input_shape": (224, 224, 3), "penultimate_filters": 1056, "num_blocks": 4, "stem_block_filters": 32,
    "skip_reduction": False, "filter_multiplier": 2, "include_top": True, "default_size": 224,
    "name": "nasnet_mobile",
}  # fmt: skip


HEAD = (
    "model", "parameters", "Keras loads, s", "port and build, s",
    "largest relative error", "port to float64", "Keras to float64",
)  # fmt: skip


def main(names: list[str]) -> None:
    """Prints a table of the models of these names, or of all."""
    if unknown := set(names) - set(NAMES):
        sys.exit(f"keras.applications has no {', '.join(sorted(unknown))}")
    for row in (HEAD, tuple("---" for _ in HEAD)):
        print(f"| {' | '.join(row)} |")
    for name in names or NAMES:
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.applications", name]
        result = subprocess.run(command, capture_output=True, text=True)
        failed = [name, _reason(result), *[""] * (len(HEAD) - 2)]
        row = failed if result.returncode else json.loads(result.stdout.splitlines()[-1])
        print(f"| {' | '.join(row)} |", flush=True)


def _reason(result: subprocess.CompletedProcess[str]) -> str:
    """Why a process failed: its last error, or the signal that ended it."""
    return next((line[:200] for line in reversed(result.stderr.splitlines()) if "rror" in line), f"{result.returncode}")


def measured(name: str, folder: Path) -> list[str]:
    """The row of a model."""
    warm(folder)
    keras.utils.set_random_seed(0)
    keras.src.backend.nn.average_pool = average_pool
    model = constructed(name)
    count = model.count_params()
    x, *others = images(model)
    randomize(model, x)
    path = folder / "model.keras"
    model.save(path)
    with torch.inference_mode():
        wanted = [model(each, training=False).numpy() for each in (x, *others)]
    del model
    gc.collect()
    start = time.perf_counter()
    loaded = keras.saving.load_model(path, compile=False)
    theirs = time.perf_counter() - start
    del loaded
    gc.collect()
    start = time.perf_counter()
    ported = regspec.port(path).build()
    ours = time.perf_counter() - start
    with torch.inference_mode():
        got = [ported(each).numpy() for each in (x, *others)]
        ported.double()
        exact = [ported(each.double()).numpy() for each in (x, *others)]
    errors = [error(got, wanted), error(got, exact), error(wanted, exact)]
    return [name, f"{count:,}", f"{theirs:.2f}", f"{ours:.2f}", *(f"{each:.1e}" for each in errors)]


def error(got: list[Any], wanted: list[Any]) -> float:
    """The largest difference of outputs, by the largest number in each."""
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(got, wanted, strict=True))


def warm(folder: Path) -> None:
    """Has both import what they need."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.save(folder / "small.keras")
    keras.saving.load_model(folder / "small.keras", compile=False)
    regspec.port(folder / "small.keras").build()


def constructed(name: str) -> keras.Model:
    """A model with weights that Keras has drawn, and logits as its output."""
    if name == "NASNetMobile":
        return nasnet.NASNet(**MOBILE, weights=None, classifier_activation=None)
    return getattr(keras.applications, name)(weights=None, classifier_activation=None)


def average_pool(
    inputs: Tensor, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: str | None = None
) -> Tensor:
    """The mean of windows of images with channels last, where padded cells do not count, as on TensorFlow.

    Keras's own on torch counts some of them where the padding is uneven.
    """
    assert data_format == "channels_last"
    x = torch.as_tensor(inputs).permute(0, 3, 1, 2)
    if padding == "valid":
        return F.avg_pool2d(x, pool_size, strides).permute(0, 2, 3, 1)
    sides: list[int] = []
    for size, window, stride in zip(reversed(x.shape[2:]), reversed(pool_size), reversed(strides), strict=True):
        cells = max((-(-size // stride) - 1) * stride + window - size, 0)
        sides += [cells // 2, cells - cells // 2]
    total, share = (F.avg_pool2d(F.pad(each, sides), pool_size, strides) for each in (x, torch.ones_like(x)))
    return (total / share).permute(0, 2, 3, 1)


def images(model: keras.Model) -> list[Tensor]:
    """Pixels, up to 255 where the model scales them itself; and of other sizes, where it takes any."""
    shape = model.input_shape[1:3]
    sizes = [(224, 224), (161, 190)] if None in shape else [shape]
    scales = any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in model.layers)
    drawn = torch.Generator().manual_seed(0)
    both = [torch.rand(1 if size[0] > 400 else 2, *size, 3, generator=drawn) for size in sizes]
    return [x * 255 if scales else x * 2 - 1 for x in both]


def randomize(model: keras.Model, x: Tensor) -> None:
    """Gives vectors random numbers, and batch normalizations the statistics of what they see, but for some noise."""
    rng = np.random.default_rng(0)
    layers = [layer for layer in model._flatten_layers() if hasattr(layer, "moving_variance")]
    for variable in model.weights:
        if len(variable.shape) == 1:
            noise = rng.standard_normal(variable.shape) * 0.2
            variable.assign(1 + noise if variable.name in ("gamma", "variance") else noise)
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    with torch.no_grad():
        model(x, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        variance = layer.moving_variance.numpy()
        layer.moving_variance.assign((variance + 1e-3) * rng.uniform(0.8, 1.25, variance.shape))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(measured(sys.argv[1], Path(directory))))
