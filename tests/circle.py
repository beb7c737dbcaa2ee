"""keras.applications there and back: ``python -m tests.circle``, or with the names of some of them.

Each is made of small images and few classes, with random weights and statistics of its own activations, with an L2 on
every third kernel, and without the last softmax, which would hide what is wrong before it. Keras saves it; the file is
ported, the port written as a file of Keras, and that ported again. Both files are loaded by Keras, which compares them:
outputs, penalties, and the size of the gradients of both. The port of the second file must be the text of the first's.
Each runs in a process of its own, one after the other; the largest takes some 8 GB of memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from keras.src.applications import nasnet

import regspec

from .benchmarks.applications import MOBILE, NAMES, average_pool, error, randomize

CLASSES = 7
SHAPE = (96, 98, 3)  # of an image: of smaller ones the last maps have one pixel, whose deviation is none
HEAD = ("model", "port", "circle", "penalty", "gradients", "again")
SAME = "the same"
MOST = 1e-4  # of the port's outputs and gradients; what Keras computes of both files is the same, to the last digits


def main(names: list[str]) -> None:
    """Prints a table of the models of these names, or of all; ends with 1 where one does not return."""
    if unknown := set(names) - set(NAMES):
        sys.exit(f"keras.applications has no {', '.join(sorted(unknown))}")
    print(f"| {' | '.join(HEAD)} |\n| {' | '.join('---' for _ in HEAD)} |")
    failed = False
    for name in names or NAMES:
        command = [sys.executable, "-W", "ignore", "-m", "tests.circle", "--alone", name]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            row = [name, (result.stderr.splitlines() or [f"ended with {result.returncode}"])[-1][:300]]
        else:
            row = json.loads(result.stdout.splitlines()[-1])
        failed |= row[-1] != SAME
        print(f"| {' | '.join(row)} |", flush=True)
    sys.exit(failed)


def compared(name: str, folder: Path) -> list[str]:
    """The row of a model: largest relative errors, and what became of the text."""
    keras.utils.set_random_seed(0)
    keras.src.backend.nn.average_pool = average_pool  # Keras's own on torch is wrong, as it says itself
    images = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    model = constructed(name)
    scales = any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in model.layers)
    images = images * 255 if scales else images * 2 - 1
    randomize(model, images)
    regularize(model)
    model.save(folder / "there.keras")
    port = regspec.port(folder / "there.keras")
    regspec.to_keras(port, folder / "back.keras")
    again = regspec.port(folder / "back.keras")
    wanted = computed(folder / "there.keras", images)
    got = computed(folder / "back.keras", images)
    ported = port.build().eval()
    with torch.inference_mode():
        errors = [error([ported(images).numpy()], [wanted[0]])]
    errors += [error([mine], [theirs]) for mine, theirs in zip(got, wanted, strict=True)]
    faults = ["the text"] * (again.text != port.text) + ["numbers"] * (max(errors) >= MOST or not wanted[1] > 0)
    return [name, *(f"{each:.1e}" for each in errors), f"differs: {', '.join(faults)}" if faults else SAME]


def constructed(name: str) -> keras.Model:
    """A model of such images with few classes and logits as its output."""
    given: dict[str, Any] = {"weights": None, "classes": CLASSES, "classifier_activation": None, "input_shape": SHAPE}
    if name == "NASNetMobile":  # which Keras refuses to make on torch
        return nasnet.NASNet(**{**MOBILE, **given})
    return getattr(keras.applications, name)(**given)


def regularize(model: keras.Model) -> None:
    """Gives every third kernel an L2."""
    fields = ("kernel_regularizer", "depthwise_regularizer")
    places = [(layer, field) for layer in model._flatten_layers() for field in fields if hasattr(layer, field)]
    for layer, field in places[::3]:
        setattr(layer, field, keras.regularizers.L2(1e-3))


def computed(path: Path, images: torch.Tensor) -> tuple[Any, Any, Any]:
    """Of a file in Keras: outputs, penalties, and the size of the gradients of their mean squares and the penalties."""
    model = keras.saving.load_model(path, compile=False)
    outputs = model(images, training=False)
    penalty = sum(model.losses)
    weights = [each.value for each in model.trainable_variables]
    found = torch.autograd.grad(outputs.square().mean() + penalty, weights, allow_unused=True)
    size = sum(float(each.square().sum()) for each in found if each is not None)
    return outputs.detach().numpy(), np.array(float(penalty)), np.array(size)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        with tempfile.TemporaryDirectory() as directory:
            print(json.dumps(compared(sys.argv[2], Path(directory))))
    else:
        main(sys.argv[1:])
