"""Makes the files of Keras 2 that `tests/test_keras2.py` ports, and what Keras computes with them.

Run by hand, in an environment of its own, because it needs TensorFlow; the tests need none:

    pip install tensorflow-cpu==2.21 tf_keras==2.21
    CUDA_VISIBLE_DEVICES= python tests/keras2/make.py

or, with `pip install tensorflow-cpu==2.12 keras==2.12`,
python tests/keras2/make.py graph.h5 sequence.keras counted.keras distributed.keras
and with `tensorflow-cpu==2.14 keras==2.14` and `numpy<2`,
python tests/keras2/make.py counted.keras counted.json distributed.keras

For each model it writes the model's files, as `<version>/<model>.h5` and the like, and `<version>/<model>.npz` with
inputs, outputs in evaluation and in training, the sum of the losses, and the norm of the gradients of that sum plus the
mean squares of the outputs. All that is computed by the model as Keras loads it from the file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

try:
    import tf_keras as keras
except ImportError:
    import keras

layers, regularizers = keras.layers, keras.regularizers
HERE = Path(__file__).parent
MODELS: dict[str, Callable[[], Any]] = {}


def model(function: Callable[[], Any]) -> Callable[[], Any]:
    """Adds a model to those that are made; a decorator."""
    MODELS[function.__name__] = function
    return function


@model
def graph() -> Any:
    """Shared layers, nested models that are called twice, several inputs and outputs, frozen layers."""
    image, size = keras.Input((8, 7, 3), name="image"), keras.Input((5,), name="the_size")
    conv = layers.Conv2D(4, 3, padding="same", strides=2, activation="relu", kernel_regularizer="l2", name="conv-1")
    x = layers.BatchNormalization(beta_regularizer=regularizers.L1(0.1))(conv(image))
    y = layers.DepthwiseConv2D((2, 3), padding="same", depthwise_regularizer=regularizers.L1L2(0.1, 0.2))(x)
    x = layers.Add()([x, y])
    encoder = keras.Sequential(
        [
            keras.Input((4, 4, 4)),
            layers.Conv2D(3, 2, activity_regularizer=regularizers.L2(0.3)),
            layers.Flatten(),
            layers.Dense(5, kernel_regularizer=regularizers.OrthogonalRegularizer(0.2)),
        ],
        name="encoder",
    )
    first, second = encoder(x), encoder(y)
    shared = layers.Dense(5, activation="gelu", activity_regularizer="l1", name="shared")
    merged = layers.Concatenate()([shared(first), shared(size), second])
    frozen = layers.Dense(6, kernel_regularizer="l2", activity_regularizer="l2", trainable=False, name="frozen")(merged)
    return keras.Model([image, size], [layers.Dense(3)(frozen), first])


@model
def structured() -> Any:
    """Inputs and outputs by name; a model inside that is called on a mapping, with its keys in another order."""
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    inner = keras.Model(
        {"q": a, "p": b},
        {"sum": layers.Dense(2)(layers.Concatenate()([a, b])), "first": layers.Dense(3, bias_regularizer="l1")(a)},
        name="inner",
    )
    x, y = keras.Input((4,), name="x"), keras.Input((3,), name="y")
    both = inner({"p": y, "q": x})
    return keras.Model({"y": y, "x": x}, {"z": layers.Concatenate()([both["sum"], both["first"]]), "s": both["sum"]})


@model
def unshaped() -> Any:
    """A Sequential without an input layer, which was built by its first call; with another such in it."""
    inner = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(3, activity_regularizer="l2")])
    made = keras.Sequential([layers.Dense(5, kernel_regularizer=regularizers.L1L2(0.01, 0.02)), inner])
    made(np.zeros((2, 6), "float32"))
    return made


@model
def nested() -> Any:
    """Models in models, with frozen layers and normalizations, whose arrays lie flat in one group."""

    def block(size: int, name: str) -> Any:
        return keras.Sequential(
            [
                keras.Input((size,)),
                layers.Dense(4, kernel_regularizer="l2"),
                layers.BatchNormalization(gamma_regularizer="l2"),
                layers.Dense(4, kernel_regularizer="l1", trainable=False),
                layers.BatchNormalization(trainable=False, beta_regularizer="l2"),
                layers.Dense(4, bias_regularizer="l2"),
            ],
            name=name,
        )

    x = keras.Input((6,))
    frozen = block(6, "frozen")
    frozen.trainable = False
    z = keras.Input((4,))
    tower = keras.Model(z, [block(4, "first")(z), layers.BatchNormalization()(block(4, "second")(z))], name="tower")
    y = frozen(x)
    a, b = tower(y)
    c, _ = tower(b)
    return keras.Model(x, layers.Add()([a, b, c]))


@model
def sequence() -> Any:
    """Recurrent layers in their variants, wrappers with penalties inside, states as inputs and outputs."""
    tokens, start = keras.Input((7,), dtype="int32", name="tokens"), keras.Input((4,), name="start")
    x = layers.Embedding(11, 6, embeddings_regularizer="l2")(tokens)
    x = layers.Bidirectional(
        layers.LSTM(4, return_sequences=True, recurrent_regularizer="l1", recurrent_activation="hard_sigmoid")
    )(x)
    x = layers.TimeDistributed(layers.Dense(3, activity_regularizer="l2", kernel_regularizer="l1"))(x)
    x = layers.GRU(4, return_sequences=True, reset_after=False, bias_regularizer="l2", activity_regularizer="l1")(
        x, initial_state=start
    )
    x, state = layers.GRU(4, return_sequences=True, return_state=True, bias_regularizer="l2")(x)
    x = layers.SimpleRNN(3, return_sequences=True, activity_regularizer="l2", go_backwards=True)(x)
    x, h, c = layers.LSTM(5, return_state=True, activity_regularizer="l1", unit_forget_bias=False)(x)
    return keras.Model([tokens, start], [layers.Dense(2, activation="softmax")(x), h, c, state])


@model
def images() -> Any:
    """Convolutions, poolings and what changes sizes."""
    image = keras.Input((9, 8, 3))
    a = layers.Conv2D(4, (3, 2), strides=(2, 1), padding="same", groups=1, dilation_rate=1)(image)
    a = layers.SeparableConv2D(5, (2, 3), depth_multiplier=2, pointwise_regularizer="l2", depthwise_regularizer="l1")(a)
    a = layers.BatchNormalization(axis=[3], scale=False)(a)
    a = layers.Conv2DTranspose(4, 3, strides=2, padding="same", bias_regularizer="l2", activation="relu")(a)
    a = layers.Conv2DTranspose(3, (2, 3), strides=(2, 1), output_padding=(1, 0))(a)
    a = layers.MaxPooling2D((3, 2), strides=2, padding="same")(a)
    b = layers.DepthwiseConv2D(3, depth_multiplier=2, activity_regularizer="l2")(image)
    b = layers.ZeroPadding2D(((0, 1), (2, 0)))(b)
    b = layers.AveragePooling2D(3, strides=2, padding="same")(b)
    b = layers.UpSampling2D((2, 3), interpolation="bilinear")(b)
    b = layers.Cropping2D(((1, 0), (0, 2)))(b)
    c = layers.Conv1D(4, 3, padding="causal", dilation_rate=2)(layers.Reshape((18, 12))(image))
    c = layers.SeparableConv1D(4, 3)(layers.SpatialDropout1D(0.5)(c))
    c = layers.Conv1DTranspose(3, 3, strides=2)(layers.AveragePooling1D(2)(c))
    d = layers.Conv3D(2, 2, padding="same")(layers.Reshape((9, 8, 3, 1))(image))
    d = layers.Conv3DTranspose(3, (2, 1, 2))(layers.MaxPooling3D((2, 2, 1))(d))
    means = [layers.GlobalAveragePooling2D(keepdims=False)(a), layers.GlobalMaxPooling2D()(b)]
    rest = [layers.GlobalAveragePooling1D()(c), layers.GlobalAveragePooling3D()(d)]
    return keras.Model(image, layers.Dense(3)(layers.Concatenate(axis=1)([*means, *rest])))


@model
def attending() -> Any:
    """Attention with penalties, einsum, and normalizations."""
    x, mask = keras.Input((5, 6)), keras.Input((4, 6))
    y = layers.MultiHeadAttention(
        2, 3, kernel_regularizer="l2", activity_regularizer="l1", bias_regularizer="l1", value_dim=2
    )(x, value=mask)
    y = layers.LayerNormalization(gamma_regularizer="l1")(layers.Add()([x, y]))
    y = (
        layers.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d", activity_regularizer="l2", kernel_regularizer="l2")(
            y
        )
        if hasattr(layers, "EinsumDense")
        else layers.Dense(4)(y)
    )
    z = layers.Attention(use_scale=True)([y, layers.Dense(4)(mask)])
    w = layers.AdditiveAttention()([y, layers.Dense(4)(mask)])
    w = layers.UnitNormalization()(w)
    return keras.Model([x, mask], layers.Concatenate()([z, w]))


@model
def activations() -> Any:
    """Activation functions that mean another thing in Keras 3, or that only Keras 2 has as layers."""
    x = keras.Input((7,))
    made = [
        layers.Dense(3, activation="hard_sigmoid")(x),
        layers.Activation("hard_sigmoid")(x),
        layers.LeakyReLU()(x),
        layers.LeakyReLU(0.1)(x),
        layers.ELU(0.7)(x),
        layers.ThresholdedReLU(0.4)(x),
        layers.PReLU(alpha_regularizer="l2")(x),
        layers.ReLU(1.5, 0.1, 0.2)(x),
        layers.Softmax()(x),
        layers.Dense(3, activation=layers.LeakyReLU(0.2))(x),
        layers.Dense(3, activation=layers.ELU(0.5))(x),
        layers.Dense(3, activation="swish")(x),
        layers.ActivityRegularization(0.1, 0.2)(x),
        layers.GaussianNoise(0.1)(layers.Dropout(0.3, noise_shape=(None, 1))(x)),
    ]
    return keras.Model(x, layers.Concatenate()(made))


@model
def fields() -> Any:
    """Initializers, constraints and regularizers in the forms that Keras 2 writes."""
    x = keras.Input((7,))
    initializers = [
        *("uniform", "normal", "he_normal", "lecun_uniform", "glorot_normal", "zeros", "ones", "identity"),
        keras.initializers.VarianceScaling(2.0, "fan_out", "uniform"),
        keras.initializers.Orthogonal(0.5),
        keras.initializers.Constant(0.3),
        keras.initializers.TruncatedNormal(0.1, 0.2),
    ]
    constraints = ["max_norm", "non_neg", "unit_norm", keras.constraints.MinMaxNorm(0.1, 0.9, 0.5, axis=1), None]
    y = x
    for index, initializer in enumerate(initializers):
        y = layers.Dense(
            7,
            kernel_initializer=initializer,
            kernel_constraint=constraints[index % 5],
            bias_regularizer=["l1", "l2", "l1_l2", regularizers.L1L2(0.0, 0.3), None][index % 5],
        )(y)
    return keras.Model(x, layers.Add()([x, y]))


@model
def local() -> Any:
    """Layers whose filters are others at each place, in their three implementations."""
    x, image = keras.Input((9, 3)), keras.Input((6, 5, 2))
    # the second counts the penalty of weights that it does not use, too
    penalties = {1: "l2", 2: None, 3: "l1"}
    made = [
        layers.LocallyConnected1D(
            4, 3, strides=2, implementation=index, kernel_regularizer=penalty, bias_regularizer="l1", activation="relu"
        )(x)
        for index, penalty in penalties.items()
    ]
    squares = [
        layers.LocallyConnected2D(
            3, (2, 3), strides=(2, 1), implementation=index, kernel_regularizer=penalty, activity_regularizer="l2"
        )(image)
        for index, penalty in penalties.items()
    ]
    return keras.Model([x, image], [layers.Add()(made), layers.Add()(squares)])


@model
def various() -> Any:
    """What Keras 3 does not have: a metric in a graph, a causal separable convolution, an area, changes of size."""
    image = keras.Input((4, 6, 3))
    normalized = layers.Normalization()
    normalized.adapt(np.random.default_rng(3).standard_normal((5, 4, 6, 3)))
    x = layers.RandomWidth(0.2)(layers.UpSampling2D((1, 2), interpolation="area")(normalized(image)))
    x = layers.Resizing(4, 6, interpolation="nearest")(x)
    x = layers.SeparableConv1D(4, 3, padding="causal")(layers.Reshape((6, 12))(x))
    x = layers.Attention()([x, x], use_causal_mask=True)
    made = keras.Model(image, layers.BatchNormalization()(layers.Dense(4, bias_constraint="non_neg")(x)))
    made.add_metric(keras.backend.mean(x) * 2.0, name="mean")
    return made


@model
def functions() -> Any:
    """TensorFlow's functions, constants before and after tensors, parts by index, and shapes of tensors."""
    x = keras.Input((4, 6))
    shape = tf.shape(x)
    inner_input = keras.Input((4, 6))
    inner = keras.Model(inner_input, tf.nn.relu(layers.Dense(6)(inner_input)) * 3.0, name="inner")
    y = (1.0 - inner(x) / 2.0) * x + tf.constant([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    y = tf.concat([y, tf.reshape(inner(y), [shape[0], 4, 6])[:, :, 1:5:2]], axis=-1)
    parts = tf.unstack(tf.shape(y))
    flat = tf.reshape(tf.transpose(y, [0, 2, 1]), (parts[0], 32))
    weights = tf.nn.softmax(tf.matmul(y, y, transpose_b=True), axis=-1)
    mean = tf.reduce_mean(tf.matmul(weights, y), axis=1)
    clipped = keras.backend.clip(tf.where(y > 0.0, y, 0.1 * y)[:, -1], -0.5, 0.7)
    rest = tf.stack([mean, clipped], axis=1)
    return keras.Model(x, [layers.Dense(2)(flat), tf.math.l2_normalize(rest, axis=-1)])


@model
def counted() -> Any:
    """Layers of one class with weights and without, in models in models: in a zip they are numbered by their class."""
    image = keras.Input((6, 5, 2), name="image")
    changed = keras.Sequential([keras.Input((6, 5, 2)), layers.Rescaling(0.5), layers.Dropout(0.1)], name="changed")
    inner = keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.Conv2D(3, (2, 3), kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.LayerNormalization(center=False, scale=False),
            layers.LayerNormalization(gamma_regularizer="l1"),
            layers.Flatten(),
            layers.Dense(6, bias_regularizer="l2"),
            layers.Dense(5),
        ],
        name="inner",
    )
    x = layers.ReLU(1.5, 0.1, 0.2)(inner(changed(image)))
    x = layers.Reshape((4, 2))(layers.Dense(8, trainable=False, kernel_regularizer="l2")(x))
    x = layers.TimeDistributed(layers.Activation("tanh"))(layers.TimeDistributed(layers.Dense(3))(x))
    x = layers.TimeDistributed(layers.Dense(4))(layers.TimeDistributed(layers.Dropout(0.2))(x))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True, recurrent_regularizer="l2"))(x)
    x = layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)])(x)
    return keras.Model(image, [layers.Dense(3)(x), layers.Dense(2)(x)])


@model
def distributed() -> Any:
    """Models inside TimeDistributed, one of which is called twice."""
    steps = keras.Input((3, 6, 2), name="steps")
    inner = keras.Sequential(
        [
            keras.Input((6, 2)),
            layers.Conv1D(4, 3, kernel_regularizer="l2"),
            layers.Flatten(),
            layers.Dense(5, bias_regularizer="l1"),
            layers.Dense(3),
        ],
        name="inner",
    )
    x = layers.TimeDistributed(layers.Dense(4))(layers.TimeDistributed(inner)(steps))
    return keras.Model(steps, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def cudnn(is_cudnn: bool) -> Any:
    """Layers that run on a GPU alone, or those that compute the same and take their weights."""
    if is_cudnn:
        from tf_keras.src.layers.rnn import cudnn_gru, cudnn_lstm

        gru, lstm = cudnn_gru.CuDNNGRU, cudnn_lstm.CuDNNLSTM
    else:
        gru, lstm = layers.GRU, layers.LSTM
    x = keras.Input((5, 3))
    penalties = {"kernel_regularizer": "l1", "recurrent_regularizer": "l2", "activity_regularizer": "l2"}
    y = lstm(4, return_sequences=True, name="first", **penalties)(x)
    y = layers.Bidirectional(lstm(3, return_sequences=True, name="second"), name="both")(y)
    y = gru(2, name="third", bias_regularizer="l2", go_backwards=True, **penalties)(y)
    return keras.Model(x, layers.Dense(2, name="last")(y))


# -- what Keras computes -----------------------------------------------------------------------------------------------


def fill(made: Any, seed: int) -> None:
    """Gives every weight numbers that no symmetry hides; variances are positive."""
    rng = np.random.default_rng(seed)
    for variable in made.weights:
        values = rng.standard_normal(variable.shape) * 0.5
        if "count" in variable.name:
            continue
        if "variance" in variable.name:
            values = rng.uniform(0.5, 1.5, variable.shape)
        variable.assign(values.astype("float32"))


def inputs_of(made: Any) -> dict[str, np.ndarray]:
    """Arrays for the inputs, by the names of their layers."""
    rng = np.random.default_rng(1)
    arrays = {}
    for name, x in zip(made.input_names, made.inputs, strict=True):
        shape = (3, *x.shape[1:])
        is_whole = x.dtype in ("int32", "int64", tf.int32, tf.int64)
        array = rng.integers(0, 5, shape) if is_whole else rng.standard_normal(shape)
        arrays[name] = array.astype("int32" if is_whole else "float32")
    return arrays


def given(made: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inputs in the structure in which the model takes them."""
    if isinstance(made.input, dict):
        return {key: arrays[x.name] for key, x in made.input.items()}
    return list(arrays.values()) if len(arrays) > 1 else next(iter(arrays.values()))


def flat(outputs: Any) -> list[Any]:
    if isinstance(outputs, dict):
        return [each for value in outputs.values() for each in flat(value)]
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def measured(made: Any, is_random: bool) -> dict[str, np.ndarray]:
    """What the tests compare."""
    arrays = inputs_of(made)
    x = given(made, arrays)
    with tf.GradientTape() as tape:
        outputs = flat(made(x, training=False))
        penalty = tf.add_n(made.losses) if made.losses else tf.zeros(())
        objective = penalty + tf.add_n([tf.reduce_mean(tf.square(y)) for y in outputs])
    gradients = [g for g in tape.gradient(objective, made.trainable_variables) if g is not None]
    norm = np.sqrt(sum(np.sum(np.square(tf.convert_to_tensor(g).numpy().astype("float64"))) for g in gradients))
    found = {f"input:{name}": array for name, array in arrays.items()}
    found |= {f"output_{index}": y.numpy() for index, y in enumerate(outputs)}
    found |= {"penalty": penalty.numpy(), "norm": norm}
    if not is_random:
        found |= {f"training_{index}": y.numpy() for index, y in enumerate(flat(made(x, training=True)))}
        found["training_penalty"] = (tf.add_n(made.losses) if made.losses else tf.zeros(())).numpy()
    return found


RANDOM = ("images", "activations", "various", "counted")  # with dropout, and the like
ZIPPED = ("counted", "distributed")  # models whose zips are kept
SUFFIXES = {
    "graph": (".h5", ".keras", ".json"),
    "sequence": (".h5", ".keras"),
    "nested": (".h5", ".keras"),
    "local": (".h5", ".keras"),
    "counted": (".keras", ".json"),
    "distributed": (".keras",),
}


def make_cudnn(folder: Path) -> None:
    """A file of layers for cuDNN; what they compute is computed by those that Keras loads it into elsewhere."""
    made, other = cudnn(True), cudnn(False)
    fill(made, 1)
    made.save(folder / "cudnn.h5")
    other.load_weights(folder / "cudnn.h5")
    np.savez_compressed(folder / "cudnn.npz", **measured(other, False))


def main() -> None:
    folder = HERE / f"keras_{keras.__version__}".replace(".", "_")
    folder.mkdir(exist_ok=True)
    chosen = [Path(argument) for argument in sys.argv[1:]] or [Path(name) for name in MODELS]
    for name, suffix in ((path.stem, path.suffix) for path in chosen):
        keras.backend.clear_session()
        made = MODELS[name]()
        fill(made, 1)
        suffixes = (suffix,) if suffix else SUFFIXES.get(name, (".h5",))
        for suffix in suffixes:
            path = folder / f"{name}{suffix}"
            if suffix == ".json":
                path.write_text(made.to_json())
                made.save_weights(folder / f"{name}.weights.h5")
                if name == "graph":
                    made.save_weights(folder / f"{name}.legacy.h5", save_format="h5")
            elif name in ZIPPED:
                made.save(path, save_format="keras_v3" if keras.__version__ < "2.13" else "keras")  # a zip
            else:
                made.save(path)
        # Keras 2.12 itself can't load the numbers of its ReLU; and a config is none of a whole model
        is_whole = name not in ZIPPED
        loaded = keras.models.load_model(folder / f"{name}{suffixes[0]}") if is_whole else made
        found = measured(loaded, name in RANDOM)
        for key, value in measured(made, name in RANDOM).items():
            if not np.allclose(value, found[key], atol=1e-5):
                print(f"{name}: {key} is {value} as it was made, and {found[key]} as it was loaded")
        np.savez_compressed(folder / f"{name}.npz", **found)
        print(name, found["penalty"], found["norm"])
    if not sys.argv[1:]:
        make_cudnn(folder)


if __name__ == "__main__":
    main()
