"""Makes the files of Keras before it was a part of TensorFlow, 1.2 to 2.3, and what that Keras computes with them.

Run by hand, in an environment of its own, on the sources of such a Keras, unpacked from its package:

    pip install tensorflow-cpu==2.12 numpy==1.23 pyyaml keras_applications keras_preprocessing
    pip download --no-deps keras==1.2.2 && tar xzf Keras-1.2.2.tar.gz
    CUDA_VISIBLE_DEVICES= HOME=$(mktemp -d) python tests/keras2/make_old.py Keras-1.2.2

It writes what `make.py` does; `shim.py` stands between that Keras and a TensorFlow that it does not know.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from shim import old_keras

keras = old_keras(sys.argv[1])
from keras import backend, constraints, layers, models, regularizers  # noqa: E402

HERE = Path(__file__).parent
VERSION = tuple(int(part) for part in keras.__version__.split("."))
MODELS: dict[str, Callable[[], Any]] = {}
LOST = ("gone",)  # models of which this Keras can't read its own file: it does not write shared axes
if not hasattr(backend, "constant"):  # of Keras 1
    backend.constant = backend.variable


def model(*versions: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Adds a model to those that some versions make; a decorator."""

    def add(function: Callable[[], Any]) -> Callable[[], Any]:
        if keras.__version__ in versions:
            MODELS[function.__name__] = function
        return function

    return add


# -- Keras 2 -----------------------------------------------------------------------------------------------------------


@model("2.2.4")
def graph() -> Any:
    """Shared layers, nested models that are called twice, several inputs and outputs, frozen layers."""
    image, size = layers.Input((8, 7, 3), name="image"), layers.Input((5,), name="the_size")
    conv = layers.Conv2D(4, 3, padding="same", strides=2, activation="relu", kernel_regularizer="l2", name="conv-1")
    x = layers.BatchNormalization(beta_regularizer=regularizers.l1(0.1))(conv(image))
    y = layers.SeparableConv2D(4, (2, 3), padding="same", pointwise_regularizer=regularizers.l1_l2(0.1, 0.2))(x)
    x = layers.Add()([x, y])
    encoder = models.Sequential(name="encoder")
    encoder.add(layers.Conv2D(3, 2, activity_regularizer=regularizers.l2(0.3), input_shape=(4, 4, 4)))
    encoder.add(layers.Flatten())
    encoder.add(layers.Dense(5, kernel_regularizer=regularizers.l1_l2()))
    first, second = encoder(x), encoder(y)
    shared = layers.Dense(5, activation="hard_sigmoid", activity_regularizer="l1", name="shared")
    merged = layers.Concatenate()([shared(first), shared(size), second])
    frozen = layers.Dense(6, kernel_regularizer="l2", activity_regularizer="l2", trainable=False, name="frozen")(merged)
    return models.Model([image, size], [layers.Dense(3)(frozen), first])


@model("2.0.8", "2.3.1")
def sequence() -> Any:
    """A Sequential without an input layer: a bare list of layers before Keras 2.2.3."""
    made = models.Sequential()
    made.add(layers.Embedding(11, 6, input_length=7, embeddings_regularizer="l2"))
    penalty = "l1" if VERSION > (2, 2) else None  # before, that of the backward direction did not count
    made.add(layers.Bidirectional(layers.LSTM(4, return_sequences=True, recurrent_regularizer=penalty)))
    made.add(layers.TimeDistributed(layers.Dense(3, activity_regularizer="l2", kernel_regularizer="l1")))
    made.add(layers.GRU(4, return_sequences=True, bias_regularizer="l2", activity_regularizer="l1"))
    made.add(layers.SimpleRNN(3, return_sequences=True, activity_regularizer="l2", go_backwards=True))
    made.add(layers.Conv1D(4, 3, padding="causal", kernel_constraint="max_norm"))
    made.add(layers.LSTM(5, recurrent_activation="sigmoid", unit_forget_bias=False))
    made.add(layers.LeakyReLU(0.2))
    made.add(layers.Dense(2, activation="softmax", kernel_initializer="he_normal"))
    return made


@model("2.2.4", "2.3.1")
def wrapped() -> Any:
    """Penalties on what both directions give, which are taken of them merged; frozen layers in a model inside."""
    x = layers.Input((5, 4))
    inner = models.Sequential(name="inner")
    inner.add(layers.TimeDistributed(layers.Dense(3, kernel_regularizer="l2"), input_shape=(5, 4)))
    inner.add(layers.BatchNormalization())
    inner.add(layers.Bidirectional(layers.GRU(2, activity_regularizer="l1", return_sequences=True), trainable=False))
    inner.add(layers.Bidirectional(layers.SimpleRNN(3, activity_regularizer="l2"), merge_mode="mul"))
    inner.add(layers.RepeatVector(4))
    inner.add(layers.TimeDistributed(layers.BatchNormalization()))
    inner.add(layers.LocallyConnected1D(3, 2, kernel_regularizer="l2"))
    return models.Model(x, layers.GlobalAveragePooling1D()(inner(x)))


@model("2.0.8")
def nested() -> Any:
    """Sequences in a sequence, which have no name in its config."""
    made = models.Sequential()
    for size in (4, 3):
        inner = models.Sequential()
        inner.add(layers.Dense(size, kernel_regularizer="l2", input_shape=(5 if size == 4 else 4,)))
        inner.add(layers.BatchNormalization())
        made.add(inner)
    made.add(layers.Dense(2))
    return made


@model("2.0.8")
def channels_first() -> Any:
    x = layers.Input((2, 6, 5))
    y = layers.ZeroPadding2D(((0, 1), (2, 0)), data_format="channels_first")(x)
    y = layers.UpSampling2D((2, 1), data_format="channels_first")(y)
    y = layers.BatchNormalization(axis=1)(y)
    y = layers.Concatenate(axis=1)([y, y])
    return models.Model(x, layers.Dense(3)(layers.Flatten()(y)))


# -- Keras 1 -----------------------------------------------------------------------------------------------------------


@model("1.2.2")
def images() -> Any:
    made = models.Sequential()
    made.add(
        layers.Convolution2D(
            4, 3, 2, border_mode="same", subsample=(2, 1), W_regularizer=regularizers.l2(0.1), input_shape=(9, 8, 3)
        )
    )
    made.add(layers.BatchNormalization(beta_regularizer=regularizers.l1(0.1), momentum=0.9))
    made.add(layers.Activation("relu"))
    made.add(layers.MaxPooling2D((2, 3), strides=(1, 2), border_mode="same"))
    made.add(layers.ZeroPadding2D((1, 2)))
    made.add(layers.AtrousConvolution2D(3, 2, 2, atrous_rate=(2, 2), bias=False, activation="tanh"))
    made.add(layers.UpSampling2D((2, 1)))
    made.add(layers.SeparableConvolution2D(4, 2, 2, depth_multiplier=2, depthwise_regularizer=regularizers.l1(0.2)))
    made.add(layers.Cropping2D(((1, 0), (0, 1))))
    made.add(layers.AveragePooling2D((2, 2)))
    made.add(layers.LocallyConnected2D(2, 2, 2, W_regularizer=regularizers.l2(0.2)))
    made.add(layers.SpatialDropout2D(0.3))
    made.add(layers.Flatten())
    made.add(layers.Dropout(0.4))
    made.add(
        layers.Dense(
            5,
            activation="hard_sigmoid",
            activity_regularizer=regularizers.activity_l2(0.1),
            W_constraint=constraints.maxnorm(3),
            b_regularizer=regularizers.l1l2(0.1, 0.2),
            init="he_normal",
        )
    )
    made.add(layers.advanced_activations.ThresholdedReLU(0.3))
    return made


@model("1.2.2")
def sequence() -> Any:  # noqa: F811
    made = models.Sequential()
    made.add(layers.Embedding(11, 6, input_length=7, W_regularizer=regularizers.l2(0.1)))
    made.add(layers.Bidirectional(layers.LSTM(4, return_sequences=True, U_regularizer=regularizers.l1(0.1))))
    made.add(layers.TimeDistributed(layers.Dense(3, activity_regularizer=regularizers.activity_l1(0.1))))
    made.add(layers.GRU(4, return_sequences=True, b_regularizer=regularizers.l2(0.1), inner_activation="sigmoid"))
    made.add(layers.Convolution1D(4, 3, border_mode="same", subsample_length=2, activation="tanh"))
    made.add(layers.MaxPooling1D(2))
    made.add(layers.SimpleRNN(3, return_sequences=True, W_regularizer=regularizers.l2(0.1)))
    made.add(layers.LSTM(5, consume_less="gpu", go_backwards=True))
    made.add(layers.advanced_activations.LeakyReLU(0.2))
    made.add(layers.Dense(2, activation="softmax"))
    return made


@model("1.2.2")
def graph() -> Any:  # noqa: F811
    a, b = layers.Input((6,), name="a"), layers.Input((6,), name="b")
    inner = models.Sequential(name="inner")
    # without penalties, which would count once for each call of the model
    inner.add(layers.Dense(5, input_dim=6))
    inner.add(layers.BatchNormalization())
    inner.add(layers.Dense(5, trainable=False))
    x, y = inner(a), inner(b)
    merged = [layers.merge([x, y], mode=mode, name=mode) for mode in ("sum", "mul", "ave", "max")]
    merged.append(layers.merge([x, y], mode="dot", dot_axes=1, name="dot"))
    merged.append(layers.merge([x, a], mode="concat", concat_axis=1, name="concat"))
    shared = layers.Dense(3, activity_regularizer=regularizers.activity_l2(0.2))
    frozen = layers.Dense(3, trainable=False, W_regularizer=regularizers.l2(0.2), b_regularizer=regularizers.l1(0.2))
    return models.Model([a, b], [frozen(layers.merge(merged, mode="concat")), shared(a), shared(b)])


@model("1.2.2")
def gone() -> Any:
    """Layers that Keras 2 does not have, and axes that share numbers, which the file does not say."""
    image, vector = layers.Input((5, 4, 3), name="image"), layers.Input((6,), name="vector")
    advanced, penalty = layers.advanced_activations, regularizers.l2(0.1)
    y = layers.Deconvolution2D(3, 3, 2, output_shape=(3, 10, 8, 3), border_mode="same", subsample=(2, 2))(image)
    y = advanced.SReLU(shared_axes=[1, 2])(y)
    y = layers.Deconvolution2D(
        2, 4, 3, output_shape=(3, 33, 18, 2), subsample=(3, 2), W_regularizer=penalty, bias=False, activation="tanh"
    )(y)
    y = advanced.PReLU(shared_axes=[2])(layers.MaxPooling2D((8, 6))(y))
    y = layers.Deconvolution2D(2, 3, 2, output_shape=(3, 7, 5, 2), border_mode="same", subsample=(2, 2))(y)
    y = layers.TimeDistributedDense(3, W_regularizer=penalty)(layers.Reshape((7, 10))(advanced.ParametricSoftplus()(y)))
    x = layers.Highway(activation="tanh", activity_regularizer=regularizers.activity_l1(0.1))(vector)
    x = layers.MaxoutDense(4, 3, b_regularizer=penalty)(advanced.SReLU()(x))
    x = layers.ActivityRegularization(0.1, 0.2)(x)
    y = layers.Dense(4)(layers.Flatten()(advanced.ParametricSoftplus(0.3, 2.0, shared_axes=[1])(y)))
    cosine = layers.Reshape((1,))(layers.merge([x, y], mode="cos", dot_axes=1))
    return models.Model([image, vector], [layers.merge([cosine, y], mode="concat"), x])


@model("1.2.2")
def merged_models() -> Any:
    """A Sequential that begins with a Merge of graphs and a sequence, and one that begins with a model."""
    a, b, c = (layers.Input((5,), name=name) for name in "abc")
    two = models.Model([a, b], layers.merge([layers.Dense(4)(a), layers.Dense(4, activation="tanh")(b)], mode="sum"))
    one = models.Sequential()
    one.add(models.Model(c, layers.Dense(3)(c)))
    one.add(layers.Dense(4))
    made = models.Sequential()
    made.add(layers.Merge([two, one], mode="mul"))
    made.add(layers.Dense(2))
    return made


@model("1.2.2")
def branches() -> Any:
    """A Sequential that begins with a Merge of others."""
    left, right = models.Sequential(), models.Sequential()
    left.add(layers.Dense(4, input_dim=5))  # without a penalty, which would not count
    left.add(layers.Activation("relu"))
    right.add(layers.Dense(3, input_dim=6))
    made = models.Sequential()
    made.add(layers.Merge([left, right], mode="concat"))
    made.add(layers.Dense(2, activity_regularizer=regularizers.activity_l1(0.1)))
    return made


@model("1.2.2")
def channels_first() -> Any:  # noqa: F811
    """What TensorFlow computes on a CPU with the channels first, and a convolution, of which only the file is used."""
    made = models.Sequential()
    made.add(layers.ZeroPadding2D((1, 2), input_shape=(2, 6, 5), dim_ordering="th"))
    made.add(layers.UpSampling2D((2, 1), dim_ordering="th"))
    made.add(layers.Convolution2D(3, 3, 2, dim_ordering="th", W_regularizer=regularizers.l2(0.1), activation="relu"))
    made.add(layers.BatchNormalization(axis=1))
    made.add(layers.MaxPooling2D((2, 2), dim_ordering="th"))
    made.add(layers.Flatten())
    made.add(layers.Dense(3))
    return made


# -- what Keras computes -----------------------------------------------------------------------------------------------


def fill(made: Any, seed: int) -> None:
    """Gives every weight numbers that no symmetry hides; variances are positive."""
    rng = np.random.default_rng(seed)
    for variable in made.weights:
        shape = backend.get_value(variable).shape
        values = rng.standard_normal(shape) * 0.5
        if "variance" in variable.name or "running_std" in variable.name:
            values = rng.uniform(0.5, 1.5, shape)
        backend.set_value(variable, values.astype("float32"))


def measured(made: Any, is_random: bool) -> dict[str, np.ndarray]:
    """What the tests compare."""
    rng = np.random.default_rng(1)
    arrays = {}
    for name, x in zip(getattr(made, "model", made).input_names, made.inputs):  # noqa: B905
        shape = (3, *backend.int_shape(x)[1:])
        is_embedded = "embedding" in name
        arrays[name] = rng.integers(0, 5, shape) if is_embedded else rng.standard_normal(shape).astype("float32")
    inputs, outputs = made.inputs, made.outputs
    penalty = sum(made.losses) if made.losses else backend.constant(0.0)
    objective = penalty + sum(backend.mean(backend.square(y)) for y in outputs)
    gradients = [tf.convert_to_tensor(g) for g in backend.gradients(objective, made.trainable_weights) if g is not None]
    run = backend.function([*inputs, backend.learning_phase()], [*outputs, penalty, *gradients])
    computed = run([*arrays.values(), 0])
    count = len(outputs)
    found = {f"input:{name}": np.asarray(array) for name, array in arrays.items()}
    found |= {f"output_{index}": y for index, y in enumerate(computed[:count])}
    norm = 0.0
    for gradient in computed[count + 1 :]:
        norm += np.sum(np.square(np.asarray(gradient, "float64")))
    found |= {"penalty": computed[count], "norm": np.sqrt(norm)}
    if not is_random:
        in_training = backend.function([*inputs, backend.learning_phase()], [*outputs, penalty])([*arrays.values(), 1])
        found |= {f"training_{index}": y for index, y in enumerate(in_training[:count])}
        found["training_penalty"] = in_training[count]
    return found


def main() -> None:
    folder = HERE / f"keras_{keras.__version__}".replace(".", "_")
    folder.mkdir(exist_ok=True)
    for name in sys.argv[2:] or MODELS:
        backend.clear_session()
        if VERSION[0] == 1:  # some layers do not say themselves where their channels are
            backend.set_image_dim_ordering("th" if name == "channels_first" else "tf")
        made = MODELS[name]()
        if not made.built:
            made.build()
        fill(made, 1)
        made.save(str(folder / f"{name}.h5"))
        loaded = made
        if name not in LOST:  # as it would be loaded: this Keras can't read with a new h5py
            loaded = models.model_from_json(made.to_json())
            if not loaded.built:
                loaded.build()
            loaded.set_weights(made.get_weights())
        found = measured(loaded, name == "images")
        np.savez_compressed(folder / f"{name}.npz", **found)
        print(name, found["penalty"], found["norm"])


if __name__ == "__main__":
    main()
