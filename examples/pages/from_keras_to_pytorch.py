"""The tables of from_keras_to_pytorch.md: a model of Keras, trained, ported, and trained on by both.

Run it from anywhere, with Keras installed: ``python examples/pages/from_keras_to_pytorch.py``. It prints the tables'
rows, and with ``--save digits_resnet.keras`` it keeps the model that was trained in Keras.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import regspec
import torch
from keras import layers
from keras.regularizers import L1, L1L2, L2
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn

HELD_OUT, BATCH = 397, 100  # the last digits are held out; 14 batches are left
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "`--blocks`": {"blocks": True},
    "`--data-format channels_first`": {"data_format": "channels_first"},
    "`--fold`": {"fold": True},
    "all three": {"blocks": True, "data_format": "channels_first", "fold": True},
}


def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    pixels, labels = load_digits(return_X_y=True)
    return (pixels / 16).astype("float32").reshape(-1, 8, 8, 1), labels.astype("int64")


def residual_network() -> keras.Model:
    """A small residual network with penalties, as it is written for Keras."""

    def convolved(x: Any, name: str) -> Any:
        x = layers.Conv2D(8, 3, padding="same", use_bias=False, kernel_regularizer=L2(1e-4), name=f"{name}_conv")(x)
        return layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)

    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="stem")(image)
    for block in ("block1", "block2", "block3", "block4"):
        y = layers.ReLU(name=f"{block}_1_relu")(convolved(x, f"{block}_1"))
        x = layers.Add(name=f"{block}_sum")([x, convolved(y, f"{block}_2")])
        x = layers.ReLU(name=f"{block}_relu")(x)
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(name="pool")(x))
    x = layers.Dense(
        32, "relu", kernel_regularizer=L1L2(l1=1e-5, l2=1e-4), activity_regularizer=L1(1e-5), name="hidden"
    )(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="digits_resnet")


def compiled(model: keras.Model) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9), loss)
    return model


def train_in_keras(model: keras.Model, epochs: int) -> None:
    """With an optimizer that begins anew, as that of a port does."""
    images, labels = (each[:-HELD_OUT] for each in digits())
    compiled(model).fit(images, labels, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0)


def train_in_torch(model: nn.Module, epochs: int) -> None:
    """In a plain loop, with the optimizer of the port's training file."""
    images, labels = (torch.from_numpy(each[:-HELD_OUT]) for each in digits())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    model.train()
    for _ in range(epochs):
        for inputs, targets in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            outputs = model(inputs)
            loss = criterion(outputs, targets) + model.regularization_loss()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def outputs_of(model: nn.Module, *, data_format: str | None = None) -> NDArray[np.float32]:
    """What a port gives for the held-out digits."""
    images = torch.from_numpy(digits()[0][-HELD_OUT:])
    return model.eval()(images.movedim(-1, 1) if data_format == "channels_first" else images).numpy()


def accuracy(outputs: NDArray[np.float32]) -> float:
    return float((outputs.argmax(1) == digits()[1][-HELD_OUT:]).mean())


def difference(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """The largest, relative to the largest number."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def port_row(name: str, options: dict[str, Any], file: Path, outputs: NDArray[np.float32]) -> str:
    """A way to port: the lines of the spec, its penalties, and how far its outputs are from those of Keras."""
    port = regspec.port(file, **options)
    port.save(file.parent / "ported")
    lines = (file.parent / "ported" / "spec.yaml").read_text(encoding="utf-8").splitlines()
    model = port.build()
    apart = difference(outputs_of(model, data_format=options.get("data_format")), outputs)
    return f"| {name} | {len(lines)} | {len(model.regularization_terms())} | {apart:.0e} |"


def trained_row(epochs: int, model: keras.Model, ported: nn.Module) -> str:
    """Both trained for so many epochs more: the accuracies, and how far the outputs are apart."""
    train_in_keras(model, epochs)
    train_in_torch(ported, epochs)
    theirs, ours = model.predict(digits()[0][-HELD_OUT:], verbose=0), outputs_of(ported)
    scores = " | ".join(f"{100 * accuracy(each):.1f}" for each in (theirs, ours))
    return f"| {epochs} | {scores} | {difference(ours, theirs):.0e} |"


def rows(epochs: tuple[int, ...], file: Path) -> Iterator[str]:
    """The tables' rows, one by one; the model that was trained in Keras is saved in between."""
    keras.utils.set_random_seed(0)
    model = residual_network()
    train_in_keras(model, 5)
    model.save(file)
    outputs = model.predict(digits()[0][-HELD_OUT:], verbose=0)
    for name, options in OPTIONS.items():
        yield port_row(name, options, file, outputs)
    ported = regspec.port(file).build()
    for each in epochs:
        yield trained_row(each, model, ported)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save", type=Path, help="where the model of Keras is kept")
    path = parser.parse_args().save
    with tempfile.TemporaryDirectory() as folder:
        for row in rows((0, 1, 10), Path(folder) / "digits_resnet.keras"):
            print(row, flush=True)
        if path is not None:
            shutil.copy(Path(folder) / "digits_resnet.keras", path)


if __name__ == "__main__":
    main()
