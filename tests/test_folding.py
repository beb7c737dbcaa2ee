"""Normalizations folded into the layers before them: the same outputs in evaluation, with fewer layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import Tensor
from typer.testing import CliRunner

import regspec
from regspec.cli import app

from .layers import reference
from .ported import flat, order_of_output

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves

BATCH = layers.BatchNormalization


def image(*made: Any) -> Callable[[], Any]:
    """A model of these layers one after the other, on images."""

    def make() -> Any:
        x = keras.Input((9, 8, 4))
        return keras.Model(x, _chained(x, made))

    return make


def _chained(x: Any, made: tuple[Any, ...]) -> Any:
    for layer in made:
        x = layer(x)
    return x


def signal() -> Any:
    x = keras.Input((9, 3))
    y = BATCH()(layers.Conv1D(4, 3, dilation_rate=2, padding="causal")(x))
    z = BATCH()(layers.SeparableConv1D(5, 3)(BATCH()(layers.Conv1DTranspose(3, 2, strides=2)(y))))
    return keras.Model(x, BATCH()(layers.Dense(4)(z)))


def volume() -> Any:
    x = keras.Input((5, 6, 7, 2))
    return keras.Model(x, BATCH()(layers.Conv3DTranspose(3, 2)(BATCH()(layers.Conv3D(4, 2)(x)))))


def vector() -> Any:
    """Into a Dense, and again into the same."""
    x = keras.Input((6,))
    return keras.Model(x, layers.ReLU()(BATCH(center=False)(BATCH(axis=1)(layers.Dense(5)(x)))))


def first() -> Any:
    x = keras.Input((4, 7, 6))
    y = layers.Conv2D(5, 3, data_format="channels_first")(x)
    y = BATCH(axis=1)(layers.DepthwiseConv2D(2, depth_multiplier=3, data_format="channels_first")(BATCH(axis=1)(y)))
    return keras.Model(x, y)


def twice() -> Any:
    """What is used twice, called twice, or given, stays; what follows an activation or another axis does too."""
    x = keras.Input((6, 6, 6))
    conv, batch = layers.Conv2D(6, 1), BATCH()
    y = layers.Conv2D(6, 1)(x)
    y = layers.Add()([y, BATCH()(y)])  # used twice
    y = BATCH()(conv(conv(y)))  # called twice
    y = batch(batch(layers.Conv2D(6, 1)(y)))  # called twice
    y = BATCH()(layers.Conv2D(6, 1, activation="relu")(y))
    y = BATCH()(layers.Conv2D(6, 1, activity_regularizer="l2")(y))
    y = BATCH(axis=1)(layers.Conv2D(6, 1)(y))
    y = layers.Conv2D(6, 3, padding="same")(BATCH()(layers.MaxPooling2D(1)(y)))  # before it: not exact in the padding
    given = layers.Conv2D(6, 1)(y)
    return keras.Model(x, [BATCH()(given), given])


def branched() -> Any:
    """What is folded is used twice then, so that what follows it is not."""
    x = keras.Input((9, 8, 4))
    y = BATCH()(layers.Conv2D(5, 3)(x))
    return keras.Model(x, layers.Add()([y, BATCH()(y)]))


def penalized() -> Any:
    """What is folded has a penalty, so that what follows it is not."""
    x = keras.Input((9, 8, 4))
    return keras.Model(x, BATCH()(BATCH(activity_regularizer="l2")(layers.Conv2D(5, 3)(x))))


def inside() -> Any:
    """In a model inside that is called twice; an output by name; a penalty on what the normalization gives."""
    x, y = keras.Input((6, 5, 2)), keras.Input((6, 5, 2))
    inner = keras.Sequential([keras.Input((6, 5, 2)), layers.Conv2D(3, 2), BATCH(), layers.Flatten(), layers.Dense(4)])
    after = BATCH(activity_regularizer="l2")(layers.Dense(3)(layers.Add()([inner(x), inner(y)])))
    return keras.Model([x, y], {"scores": BATCH()(after), "again": after})


CASES: dict[str, tuple[Callable[[], Any], int, list[Tensor]]] = {
    "conv": (image(layers.Conv2D(5, 3, strides=2, padding="same", use_bias=False), BATCH(epsilon=0.1)), 1, []),
    "groups": (image(layers.Conv2D(6, 3, groups=2), BATCH(scale=False), layers.ReLU()), 1, []),
    "depthwise": (image(layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), BATCH(center=False)), 1, []),
    "separable": (image(layers.SeparableConv2D(5, 3, depth_multiplier=2), BATCH(scale=False, center=False)), 1, []),
    "transposed": (image(layers.Conv2DTranspose(5, 3, strides=2, use_bias=False), BATCH()), 1, []),
    "dense": (image(layers.Dense(5), BATCH(axis=3)), 1, []),
    "flattened": (image(layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(5), BATCH()), 1, []),
    "frozen": (image(layers.Conv2D(2, 3, trainable=False), BATCH(trainable=False)), 1, []),
    "signal": (signal, 4, [torch.randn(3, 9, 3)]),
    "volume": (volume, 2, [torch.randn(3, 5, 6, 7, 2)]),
    "vector": (vector, 2, [torch.randn(3, 6)]),
    "first": (first, 2, [torch.randn(3, 4, 7, 6)]),
    "branched": (branched, 1, []),
    "penalized": (penalized, 1, []),
    "twice": (twice, 0, [torch.randn(3, 6, 6, 6)]),
    "inside": (inside, 2, [torch.randn(3, 6, 5, 2), torch.randn(3, 6, 5, 2)]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("data_format", [None, "channels_first"], ids=["kept", "converted"])
def test_folded_models_agree_with_keras(name: str, data_format: Any, tmp_path: Path) -> None:
    make, count, inputs = CASES[name]
    model, inputs = make(), inputs or [torch.randn(3, 9, 8, 4)]
    reference.fill(model, 3)
    model.save(tmp_path / "model.keras")
    plain = regspec.port(tmp_path / "model.keras", data_format=data_format)
    port = regspec.port(tmp_path / "model.keras", data_format=data_format, fold=True)
    assert plain.text.count("BatchNormalization") - port.text.count("BatchNormalization") == count
    orders = [port.input_orders.get(each) for each in port.spec.inputs]
    ours = [x if order is None else x.permute(order) for x, order in zip(inputs, orders, strict=True)]
    wanted = flat(model(inputs if len(inputs) > 1 else inputs[0], training=False))
    built = port.build()
    got = flat(built(*ours))
    for number, (a, b) in enumerate(zip(got, wanted, strict=True)):
        order = order_of_output(port, number)
        torch.testing.assert_close(a, b if order is None else b.permute(order), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(regspec.regularization_loss(built), sum(model.losses, torch.zeros(())))


def test_penalties_of_folded_weights_are_left_out(tmp_path: Path) -> None:
    x = keras.Input((6,))
    y = layers.Dense(5, name="fc", kernel_regularizer="l2", bias_constraint="non_neg", use_bias=True)(x)
    y = layers.Dense(4, kernel_regularizer="l1", name="last")(BATCH(name="bn", beta_regularizer="l1")(y))
    keras.Model(x, y).save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras", fold=True)
    port.build()(torch.randn(2, 6))
    assert [*port.build().regularization_terms()] == ["last.kernel"]
    assert port.notes == (
        "for inference, BatchNormalization is folded into the layer before it: 1 in all",
        "penalties and constraints of weights that were folded are left out: fc.kernel, fc.bias, bn.beta",
    )


def test_what_a_folded_layer_gave_is_verified(tmp_path: Path) -> None:
    """An output of images, which another layer gives now, transposed."""
    model = image(layers.Conv2D(5, 3, name="conv"), BATCH(name="batch"))()
    reference.fill(model, 3)
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras", fold=True, data_format="channels_first")
    assert port.output_orders == {"conv": (0, 3, 1, 2)}
    verification = port.verify()
    assert verification.passed, verification.verdict
    assert [each.name for each in verification.checks if each.mode == "conversion"] == ["conv"]


def test_by_hand(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, use_bias=False, name="fc"), BATCH(epsilon=1.0)])
    for variable, value in zip(model.weights, ([[3.0], [5.0]], [2.0], [7.0], [1.0], [3.0]), strict=True):
        variable.assign(np.array(value, "float32"))  # kernel, gamma, beta, mean, variance
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras", fold=True)
    np.testing.assert_array_equal(port.weights["fc.weight"], [[3.0, 5.0]])  # 2 / sqrt(3 + 1) = 1
    np.testing.assert_array_equal(port.weights["fc.bias"], [6.0])


def test_what_can_not_be_folded(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    (tmp_path / "model.json").write_text(model.to_json())
    with pytest.raises(regspec.RegspecError, match="has no weights, so that no normalization can be folded"):
        regspec.port(tmp_path / "model.json", fold=True)
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras", fold=True)
    assert port.notes == ("no BatchNormalization stands where it could be folded into the layer before it",)


def test_the_command(tmp_path: Path) -> None:
    model = image(layers.Conv2D(5, 3), BATCH())()
    model.save(tmp_path / "model.keras")
    result = CliRunner().invoke(app, ["port", str(tmp_path / "model.keras"), "-o", str(tmp_path / "ported"), "--fold"])
    assert result.exit_code == 0, result.output
    assert "BatchNorm" not in (tmp_path / "ported" / "model.py").read_text()
