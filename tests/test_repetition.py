"""Layers that repeat, written as blocks: what is found, what is left, and that nothing is computed otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from keras import layers
from torch import Tensor
from typer.testing import CliRunner

import regspec
from regspec.cli import app
from regspec.specs.model import BlockUse

from .ported import agrees, flat
from .test_layout import converted
from .test_layout_models import CONVERTED
from .test_port import MODELS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves


def residual(x: Any, filters: int, strides: int = 1, name: str | None = None, slope: float = 0.1) -> Any:
    """A residual block, whose layers have names of their own or Keras's."""

    def named(own: str) -> dict[str, str]:
        return {} if name is None else {"name": f"{name}_{own}"}

    y = layers.Conv2D(filters, 3, strides=strides, padding="same", kernel_regularizer="l2", **named("1_conv"))(x)
    y = layers.BatchNormalization(**named("1_bn"))(y)
    y = layers.LeakyReLU(slope, **named("1_relu"))(y)
    y = layers.Conv2D(filters, 3, padding="same", **named("2_conv"))(y)
    if strides > 1 or x.shape[-1] != filters:
        x = layers.Conv2D(filters, 1, strides=strides, **named("0_conv"))(x)
    return layers.ReLU(**named("out"))(layers.Add(**named("add"))([x, y]))


def network(names: bool) -> Any:
    """Two stages of a residual network."""
    image = keras.Input((9, 8, 3))
    x = layers.Conv2D(4, 3, name="stem_conv")(image)
    for number, (filters, strides) in enumerate(((4, 1), (6, 2), (6, 1), (6, 1), (8, 2), (8, 1)), 1):
        x = residual(x, filters, strides, f"stage{filters // 2}_block{number}" if names else None)
    return keras.Model(image, layers.Dense(5, name="scores")(layers.GlobalAveragePooling2D(name="pool")(x)))


def dense() -> Any:
    """Layers that are concatenated to what they take: every block is alike."""
    x = image = keras.Input((6, 5, 3))
    for number in range(5):
        y = layers.BatchNormalization(name=f"block{number}_bn")(x)
        y = layers.Conv2D(2, 3, padding="same", name=f"block{number}_conv", kernel_regularizer="l1")(y)
        x = layers.Concatenate(name=f"block{number}_concat")([x, layers.ReLU(name=f"block{number}_relu")(y)])
    return keras.Model(image, layers.Flatten(name="flatten")(x))


def transfer() -> Any:
    """A network inside another model, as one that was trained before is."""
    image = keras.Input((9, 8, 3))
    inner = network(names=True)
    return keras.Model(image, layers.Dense(2)(layers.ReLU()(inner(layers.Rescaling(0.5)(image)))))


def sums() -> Any:
    """What repeats, but has two outputs, shares layers, or is an output."""
    x = image = keras.Input((6, 5, 4))
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    given = []
    for number in range(4):
        y = layers.Conv2D(4, 1, name=f"one{number}_conv")(x)
        y = layers.ReLU(name=f"one{number}_relu")(y)
        z = layers.Activation("tanh", name=f"one{number}_tanh")(y)
        x = layers.Add(name=f"one{number}_add")([layers.BatchNormalization(name=f"one{number}_bn")(z), y])
        given.append(z)
    for number in range(4):
        y = layers.ReLU(name=f"two{number}_relu")(shared(x))
        x = layers.Add(name=f"two{number}_add")([x, layers.ReLU(name=f"two{number}_again")(y)])
    return keras.Model(image, [layers.Dense(2)(x), *given])


def given() -> Any:
    """A model that gives its input too."""
    x = image = keras.Input((6, 5, 3))
    for number in range(3):
        y = layers.Conv2D(3, 3, padding="same", name=f"part{number}_conv")(x)
        y = layers.ReLU(name=f"part{number}_relu")(layers.BatchNormalization(name=f"part{number}_bn")(y))
        x = layers.Add(name=f"part{number}_add")([x, y])
    return keras.Model(image, [layers.Dense(2)(x), image])


FOUND: dict[str, tuple[Callable[[], Any], Tensor, dict[str, list[str]]]] = {
    "names": (
        lambda: network(names=True),
        torch.randn(3, 9, 8, 3),
        {
            "stage_block": ["stage2_block1", "stage3_block3", "stage3_block4", "stage4_block6"],
            "stage_block_2": ["stage3_block2", "stage4_block5"],
        },
    ),
    "no names": (
        lambda: network(names=False),
        torch.randn(3, 9, 8, 3),
        {"block": ["block_1", "block_2", "block_3", "block_4"], "block_2": ["block_2_1", "block_2_2"]},
    ),
    "dense": (dense, torch.randn(3, 6, 5, 3), {"block": ["block0", "block1", "block2", "block3", "block4"]}),
    "given": (given, torch.randn(3, 6, 5, 3), {}),
    "sums": (sums, torch.randn(3, 6, 5, 4), {}),
}


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("data_format", [None, "channels_first"], ids=["kept", "converted"])
def test_what_is_found(name: str, data_format: Any, tmp_path: Path) -> None:
    make, x, wanted = FOUND[name]
    keras.backend.clear_session()
    model = make()
    plain = converted(model, tmp_path, data_format=data_format)
    port = regspec.port(tmp_path / "model.keras", data_format=data_format, blocks=True)
    found: dict[str, list[str]] = {}
    for entry in port.spec.layers:
        if isinstance(entry, BlockUse):
            found.setdefault(entry.block, []).append(entry.name)
    assert found == wanted
    assert len(port.text.splitlines()) < len(plain.text.splitlines()) or not wanted
    agrees(model, port, inputs=[x])


def test_what_differs_is_a_parameter(tmp_path: Path) -> None:
    port = converted(network(names=True), tmp_path)
    port = regspec.port(tmp_path / "model.keras", data_format="channels_first", blocks=True)
    lines = [line.strip() for line in port.text.splitlines()]
    assert "parameters: {filters: null}" in lines
    fields = "name: conv_1, filters: $filters, kernel_size: 3, padding: same, kernel_regularizer: {l2: 0.01}"
    assert f"- Conv2D: {{{fields}}}" in lines
    assert "- stage_block: {name: stage3_block3, filters: 6}" in lines
    source = regspec.source(port.spec)
    assert "self.stage3_block3 = StageBlock(" in source
    assert "stage3_block3.conv_1.weight" in port.weights
    port.build()(torch.randn(1, 3, 9, 8))
    assert "stage3_block3.conv_1.kernel" in port.build().regularization_terms()
    assert "'stage_block' is a block of layers that stood 4 times" in port.notes


@pytest.mark.parametrize("fold", [False, True])
def test_in_a_model_inside(fold: bool, tmp_path: Path) -> None:
    model = transfer()
    converted(model, tmp_path)
    port = regspec.port(tmp_path / "model.keras", data_format="channels_first", blocks=True, fold=fold)
    assert "class StageBlock(" in regspec.source(port.spec)
    x = torch.randn(3, 9, 8, 3)
    torch.testing.assert_close(port.build()(x.permute(0, 3, 1, 2)), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*CONVERTED, *MODELS])
@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")  # Keras's own, of a key too many
def test_models_compute_the_same(name: str, tmp_path: Path) -> None:
    make, inputs = (CONVERTED.get(name) or MODELS[name])[:2]
    plain = converted(make(), tmp_path, data_format=None)
    port = regspec.port(tmp_path / "model.keras", blocks=True)
    for a, b in zip(flat(port.build()(*inputs)), flat(plain.build()(*inputs)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert len(port.text.splitlines()) <= len(plain.text.splitlines())


def test_a_small_model_stays_as_it_is(tmp_path: Path) -> None:
    """Two blocks of three layers would be no gain in reading."""
    x = image = keras.Input((4,))
    for number in range(2):
        y = layers.Dense(4, name=f"block{number}_dense")(x)
        x = layers.Add(name=f"block{number}_add")([x, layers.ReLU(name=f"block{number}_relu")(y)])
    plain = converted(keras.Model(image, layers.Dense(2)(x)), tmp_path, data_format=None)
    assert regspec.port(tmp_path / "model.keras", blocks=True).text == plain.text


def test_the_command(tmp_path: Path) -> None:
    network(names=True).save(tmp_path / "model.keras")
    arguments = ["port", str(tmp_path / "model.keras"), "-o", str(tmp_path / "ported"), "--blocks"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "class StageBlock(" in (tmp_path / "ported" / "model.py").read_text()


def test_wrappers_that_are_called_with_masks(tmp_path: Path) -> None:
    """Which keep a layer where a further call has the name of one."""
    x = keras.Input((5, 4))
    mask = keras.ops.greater(x[:, :, 0], 0.0)
    y = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x, mask=mask)
    model = keras.Model(x, layers.TimeDistributed(layers.Dense(4))(y, mask=mask))
    plain = converted(model, tmp_path, data_format=None)
    assert "mask: [greater]" in plain.text
    assert regspec.port(tmp_path / "model.keras", blocks=True).text == plain.text
