"""Whole models with channels last as ones with channels first."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, regularizers
from torch import Tensor

import regspec

from .ported import agrees
from .test_layout import converted
from .test_port import MODELS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves


def residual() -> Any:
    """Convolutions of all sorts, a residual connection, squeeze and excitation, a softmax over channels at the end."""
    image = keras.Input((8, 9, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False, kernel_regularizer="l2")(
        layers.Rescaling([1.0, 2.0, 3.0])(image)
    )
    x = y = layers.Activation("relu")(layers.BatchNormalization(axis=-1, beta_regularizer="l1")(x))
    z = layers.Reshape((1, 1, 6))(layers.GlobalAveragePooling2D()(x))
    z = layers.Conv2D(6, 1, activation="sigmoid")(z)
    x = layers.Multiply()([layers.SeparableConv2D(6, 3, padding="same")(x), z])
    x = layers.Dropout(0.2, noise_shape=(None, 1, 1, 1))(x)
    x = layers.PReLU(shared_axes=[1, 2], alpha_regularizer="l2")(layers.Add()([x, y]))
    x = layers.LayerNormalization()(layers.Concatenate()([x, layers.PReLU()(y)]))
    x = layers.LayerNormalization(axis=[1, 2, 3], gamma_regularizer="l1")(layers.Dense(4, activation="tanh")(x))
    return keras.Model(image, layers.Conv2DTranspose(5, 3, strides=2, activation="softmax", name="segments")(x))


def branches() -> Any:
    """Several flattened images and a vector, joined; a shared Dense; an image that no convolution takes."""
    first, second, vector = keras.Input((6, 5, 2)), keras.Input((4, 3, 3)), keras.Input((7,))
    a = layers.Flatten()(layers.MaxPooling2D()(layers.Conv2D(4, 2)(first)))
    b = layers.Flatten()(second)
    x = layers.Concatenate()([layers.BatchNormalization()(a), vector, layers.Dropout(0.5)(b)])
    return keras.Model([first, second, vector], layers.Dense(4, kernel_regularizer="l1")(layers.LeakyReLU()(x)))


def shared() -> Any:
    """A convolution, a Flatten and a Dense that two images share; a second pair whose order differs."""
    first, second = keras.Input((6, 5, 2)), keras.Input((6, 5, 2))
    conv, flatten = layers.Conv2D(3, 2, activity_regularizer="l2"), layers.Flatten()
    dense, soft = layers.Dense(4, kernel_regularizer="l2"), layers.Softmax(axis=-1)
    x, y = flatten(soft(conv(first))), flatten(soft(conv(second)))
    other = layers.Dense(60)
    return keras.Model([first, second], [dense(x), dense(y), other(layers.Add()([x, y])), other(other(x))])


def shared_order() -> Any:
    """A normalization of images and of a sequence, which can't both have their axes counted anew."""
    image, steps = keras.Input((6, 5, 4)), keras.Input((3, 4))
    unit = layers.UnitNormalization()
    x = layers.Conv2D(4, 2)(image)
    return keras.Model([image, steps], [unit(x), layers.LSTM(3)(unit(steps))])


def inside() -> Any:
    """Models inside, one of which is called twice: an encoder of images, and a head on flattened units."""
    first, second = keras.Input((6, 5, 2)), keras.Input((6, 5, 2))
    x = keras.Input((6, 5, 2))
    encoder = keras.Model(x, [layers.Flatten()(layers.Conv2D(3, 2)(x)), layers.Conv2D(2, 1, activation="softmax")(x)])
    head = keras.Sequential([keras.Input((60,)), layers.BatchNormalization(), layers.Dense(3, kernel_regularizer="l2")])
    a, image = encoder(first)
    b, _ = encoder(second)
    plain = keras.Sequential([keras.Input((60,)), layers.Reshape((20, 3)), layers.LSTM(2)], name="steps")
    return keras.Model([first, second], [head(a), head(b), layers.ReLU()(image), plain(b)])


def signals() -> Any:
    """Convolutions along time, then a recurrent layer; the input is a signal."""
    x = steps = keras.Input((20, 3))
    x = layers.MaxPooling1D()(layers.Conv1D(5, 3, padding="causal", activation="relu")(x))
    x = layers.SpatialDropout1D(0.1)(layers.BatchNormalization()(layers.ZeroPadding1D(1)(x)))
    x = layers.UpSampling1D(2)(layers.Cropping1D(1)(x))
    y = layers.Bidirectional(layers.GRU(4, return_sequences=True))(x)
    y = layers.Conv1DTranspose(3, 2, activation="softmax")(layers.Attention()([y, y]))
    return keras.Model(steps, [layers.GlobalMaxPooling1D()(x), layers.Dense(2)(layers.Flatten()(x)), y])


def tokens() -> Any:
    """An embedding and convolutions over it; a mean over the steps of what no convolution gave."""
    x = keras.Input((9,), dtype="int64")
    y = layers.Embedding(11, 6, embeddings_regularizer="l1")(x)
    z = layers.GlobalMaxPooling1D()(layers.SeparableConv1D(4, 3, padding="same")(y))
    return keras.Model(x, layers.Dense(3)(layers.Concatenate()([z, layers.GlobalAveragePooling1D()(y)])))


def video() -> Any:
    """Images one after the other: each through convolutions, and then a recurrent layer."""
    x = frames = keras.Input((3, 8, 7, 2))
    x = layers.TimeDistributed(layers.Conv2D(4, 3, activation="softmax"))(x)
    x = layers.TimeDistributed(layers.BatchNormalization())(x)
    x = layers.TimeDistributed(layers.PReLU(shared_axes=[1]))(layers.ReLU()(x))
    x = layers.TimeDistributed(layers.MaxPooling2D())(x)
    y = layers.TimeDistributed(layers.GlobalAveragePooling2D(keepdims=True))(x)
    x = layers.TimeDistributed(layers.Flatten())(layers.Add()([x, y]))
    return keras.Model(frames, [layers.LSTM(3)(layers.TimeDistributed(layers.Dense(4))(x)), y])


def volumes() -> Any:
    x = volume = keras.Input((5, 6, 7, 2))
    x = layers.AveragePooling3D(2)(layers.Conv3D(4, 2, groups=2)(x))
    x = layers.Permute((4, 2, 3, 1))(layers.GroupNormalization(2)(x))
    return keras.Model(volume, [layers.Dense(3)(layers.Flatten()(x)), layers.Cropping3D(((1, 0), 0, 0))(volume)])


def generator() -> Any:
    """From a vector to an image, by reshaping; and one whose reshaping costs nothing."""
    x = keras.Input((6,))
    y = layers.Reshape((4, 3, 5))(layers.LeakyReLU()(layers.Dense(60)(x)))
    z = layers.Reshape((4, 15, 1))(layers.Dense(60)(x))
    z = layers.Conv2D(2, (1, 13))(z)
    return keras.Model(x, layers.Conv2DTranspose(2, 3, strides=2)(layers.Concatenate()([y, z])))


def mixed() -> Any:
    """Layers that say channels_first in a model that is channels last."""
    x = image = keras.Input((2, 7, 6))
    x = layers.MaxPooling2D(data_format="channels_first")(layers.Conv2D(3, 2, data_format="channels_first")(x))
    x = layers.BatchNormalization(axis=1)(x)
    y = layers.Flatten(data_format="channels_first")(x)
    return keras.Model(
        image, [layers.Dense(3)(y), layers.Conv2D(3, 2)(x), layers.GlobalMaxPooling2D(data_format="channels_first")(x)]
    )


def heads() -> Any:
    """Attention between the pixels of an image; an EinsumDense on images; constraints on what would be transposed."""
    image = keras.Input((4, 5, 3))
    x = layers.Conv2D(6, 2)(image)
    y = layers.Reshape((12, 6))(x)
    y = layers.Reshape((3, 4, 6))(layers.MultiHeadAttention(2, 3)(y, y))
    x = layers.EinsumDense("abcd,de->abce", output_shape=(3, 4, 6), bias_axes="e")(layers.Add()([x, y]))
    x = layers.PReLU(alpha_constraint=keras.constraints.MaxNorm(0.7, axis=2))(layers.Conv2D(4, 1)(x))
    penalty = regularizers.OrthogonalRegularizer(0.2)
    return keras.Model(
        image, layers.Average()([layers.LayerNormalization(axis=[2, 3], gamma_regularizer=penalty)(x), x])
    )


def doubled() -> Any:
    """Units that follow each other more and more often, beyond what is kept track of."""
    image = keras.Input((3, 2, 2))
    x = layers.Flatten()(image)
    for _ in range(10):
        x = layers.Concatenate()([x, x])
    return keras.Model(image, layers.Dense(2)(x))


def operations() -> Any:
    """Attention to channels and places by operations; numbers for each channel; parts of an image."""
    image = keras.Input((6, 8, 4))
    x = layers.Conv2D(4, 3, padding="same")((image - np.array([1.0, 2.0, 3.0, 4.0], "float32")) / 2.0)
    x = x * keras.ops.sigmoid(keras.ops.mean(x, axis=[1, 2], keepdims=True))
    spots = layers.Concatenate()([keras.ops.mean(x, axis=-1, keepdims=True), keras.ops.max(x, axis=3, keepdims=True)])
    x = x * layers.Conv2D(1, 3, padding="same", activation="sigmoid")(spots)
    x = keras.ops.concatenate([x[:, ::2, 1:5], keras.ops.flip(x, axis=1)[:, 1::2, :4]], axis=-1)
    flat = layers.Flatten()(x) * 0.5
    flat = layers.Dense(3)(flat / keras.ops.sqrt(keras.ops.sum(flat * flat, axis=-1, keepdims=True) + 1.0))
    return keras.Model(image, [flat, keras.ops.sum(x, axis=1), keras.ops.mean(x, axis=3)])


def shapes() -> Any:
    """A Reshape that is called for what wants its output otherwise; a pooling that takes height for channels."""
    x, image = keras.Input((24,)), keras.Input((6, 5, 4))
    reshape = layers.Reshape((1, 1, 24))
    y = layers.Conv2D(3, 1)(reshape(x))
    z = layers.Dense(2)(reshape(layers.Dense(24)(x)))
    z = layers.Dense(2)(layers.Concatenate()([z, layers.Dense(2)(reshape(x * 2.0))]))
    pooled = layers.GlobalMaxPooling2D(data_format="channels_first")(layers.Conv2D(3, 2)(image))
    return keras.Model([x, image], [y, z, pooled])


def digits() -> Any:
    """Images that are flattened at once, as they come."""
    return keras.Sequential(
        [keras.Input((4, 3, 2)), layers.Flatten(), layers.Dense(5, activation="relu"), layers.Dense(3)]
    )


def chain() -> Any:
    """Flattened images in pairs of which the first can't be in another order than Keras's, and so none can."""
    inputs = [keras.Input((3, 2, 2)) for _ in range(12)]
    vectors = [layers.Dense(12)(layers.Flatten()(inputs[0])), *(layers.Flatten()(x) for x in inputs)]
    pairs = [layers.Multiply()([*pair]) for pair in pairwise(vectors)]
    return keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(pairs)))


def unsized() -> Any:
    """Images of any size, and a Flatten that does not know what it gives."""
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="log_softmax")(image)
    return keras.Model(image, [layers.Dense(2)(layers.GlobalMaxPooling2D()(x)), layers.Flatten()(x)])


IMAGES = [torch.randn(3, 6, 5, 2), torch.randn(3, 6, 5, 2)]
CONVERTED: dict[str, tuple[Callable[[], Any], list[Tensor], int | None]] = {
    "residual": (residual, [torch.randn(3, 8, 9, 3)], 2),
    "branches": (branches, [torch.randn(3, 6, 5, 2), torch.randn(3, 4, 3, 3), torch.randn(3, 7)], 0),
    "shared": (shared, IMAGES, None),
    "shared_order": (shared_order, [torch.randn(3, 6, 5, 4), torch.randn(3, 3, 4)], None),
    "inside": (inside, IMAGES, None),
    "signals": (signals, [torch.randn(3, 20, 3)], None),
    "tokens": (tokens, [torch.randint(0, 11, (3, 9))], None),
    "video": (video, [torch.randn(3, 3, 8, 7, 2)], None),
    "volumes": (volumes, [torch.randn(3, 5, 6, 7, 2)], None),
    "generator": (generator, [torch.randn(3, 6)], 1),
    "mixed": (mixed, [torch.randn(3, 2, 7, 6)], None),
    "heads": (heads, [torch.randn(3, 4, 5, 3)], None),
    "chain": (chain, [torch.randn(3, 3, 2, 2) for _ in range(12)], None),
    "doubled": (doubled, [torch.randn(3, 3, 2, 2)], 1),
    "operations": (operations, [torch.randn(3, 6, 8, 4)], None),
    "shapes": (shapes, [torch.randn(3, 24), torch.randn(3, 6, 5, 4)], None),
    "unsized": (unsized, [torch.randn(3, 7, 8, 3)], None),
    "digits": (digits, [torch.randn(3, 4, 3, 2)], 0),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_whole_models(name: str, tmp_path: Path) -> None:
    """With as many permuted views as there are layers that read axes."""
    make, inputs, views = CONVERTED[name]
    model = make()
    port = converted(model, tmp_path)
    agrees(model, port, inputs=inputs)
    assert port.original is not None
    assert port.original.text == regspec.port(tmp_path / "model.keras").text
    if views is not None:
        assert regspec.source(port.spec).count(".permute(") == views


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")  # Keras's own, of a key too many
def test_the_model_of_the_port(tmp_path: Path) -> None:
    """A shared layer, a model inside that is called twice, operations, several inputs and outputs, frozen weights."""
    make, inputs = MODELS["branched"]
    model = make()
    agrees(model, converted(model, tmp_path), inputs=inputs, given=dict(zip(("image", "size"), inputs, strict=True)))
