"""A ported model trains at once: by the training file of its port, ten steps are Keras's own, on the same batches."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import constraints, layers, losses, optimizers, regularizers
from keras.optimizers import schedules
from rich.console import Console
from safetensors.torch import load_file

import regspec
from regspec.text.document import read
from regspec.training.loop.run import train
from regspec.training.options.file import read_training
from regspec.training.options.options import IN_MEMORY, Options

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of Keras, when it saves and steps

STEPS = 10
SIZE = 6  # of a batch


def drawn(seed: int) -> Any:
    return np.random.default_rng(seed)


def port_of(model: Any, folder: Path, suffix: str = ".keras") -> regspec.Port:
    folder.mkdir(exist_ok=True)
    model.save(folder / f"model{suffix}")
    return regspec.port(folder / f"model{suffix}")


def trained(folder: Path, batches: list[tuple[Any, Any]], **options: Any) -> regspec.Run:
    """A run of a port's folder, of one epoch over batches, by its training file."""
    said = read_training(read(folder / "training.yaml"))
    chosen, places = said.under(Options(epochs=1, data=IN_MEMORY, **options), ["epochs", "data", *options])
    given = [(*flat(x), *flat(y)) for x, y in batches]
    data = (lambda: iter(given), lambda: iter(given[:1]))
    console = Console(file=io.StringIO())
    return train(folder / "spec.yaml", chosen, folder / "run", console=console, places=places, given=data)


def flat(value: Any) -> list[Any]:
    return [np.asarray(each) for each in keras.tree.flatten(value)]


def ten_steps(model: Any, batches: list[tuple[Any, Any]], folder: Path, *, suffix: str = ".keras") -> None:
    """Trains a port and Keras's model, and compares all that they keep: weights, and moving statistics."""
    port = port_of(model, folder, suffix)
    port.save(folder)
    run = trained(folder, batches)
    for x, y in batches:
        model.train_on_batch(x, y)
    if model.optimizer.use_ema:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    wanted = port_of(model, folder / "after", suffix).weights
    got = load_file(run.folder / "weights.safetensors")
    assert {*wanted} <= {*got}
    moved = 0.0
    for name, each in wanted.items():
        np.testing.assert_allclose(got[name].numpy(), each, rtol=1e-5, atol=1e-5, err_msg=name)
        moved = max(moved, float(np.abs(each - port.weights[name]).max(initial=0)))
    assert moved > 1e-2


# -- optimizers --------------------------------------------------------------------------------------------------------


def penalized(constraint: Any = None) -> Any:
    """With penalties of all sorts."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, activation="tanh", kernel_regularizer="l2", activity_regularizer="l1", name="hidden"),
            layers.Dense(
                3,
                kernel_regularizer=regularizers.L1L2(0.01, 0.02),
                bias_regularizer="l2",
                kernel_constraint=constraint,
                name="score",
            ),
        ]
    )


QUANTITIES = [
    (
        drawn(step).standard_normal((SIZE, 4)).astype("float32"),
        drawn(-step - 1 & 99).standard_normal((SIZE, 3)).astype("float32"),
    )
    for step in range(STEPS)
]
FALLING = schedules.ExponentialDecay(0.1, 3, 0.5)
ROWS: dict[str, Callable[[], Any]] = {
    "sgd": lambda: optimizers.SGD(0.1),
    "sgd, decay": lambda: optimizers.SGD(0.1, weight_decay=0.2),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "momentum, decay": lambda: optimizers.SGD(0.1, momentum=0.9, weight_decay=0.2),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "nesterov, decay": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.2),
    "momentum, schedule": lambda: optimizers.SGD(FALLING, momentum=0.9),
    "adam": lambda: optimizers.Adam(0.01),
    "adam, epsilon": lambda: optimizers.Adam(0.05, epsilon=0.1),
    "adam, amsgrad": lambda: optimizers.Adam(0.01, beta_1=0.8, beta_2=0.9, amsgrad=True),
    "adam, decay": lambda: optimizers.Adam(0.01, weight_decay=0.2),
    "adam, schedule": lambda: optimizers.Adam(FALLING),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.2),
    "adamax": lambda: optimizers.Adamax(0.01, beta_1=0.8, weight_decay=0.2),
    "nadam": lambda: optimizers.Nadam(0.01, beta_1=0.8),
    "nadam, decay": lambda: optimizers.Nadam(0.01, weight_decay=0.2),
    "rmsprop": lambda: optimizers.RMSprop(0.01),
    "rmsprop, centered": lambda: optimizers.RMSprop(0.01, rho=0.8, momentum=0.9, centered=True, epsilon=1e-3),
    "rmsprop, decay, schedule": lambda: optimizers.RMSprop(FALLING, momentum=0.9, weight_decay=0.2),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "adagrad, decay": lambda: optimizers.Adagrad(0.1, initial_accumulator_value=0.0, epsilon=1e-3, weight_decay=0.2),
    "adadelta": lambda: optimizers.Adadelta(10.0, rho=0.9),
    "adadelta, decay": lambda: optimizers.Adadelta(10.0, weight_decay=0.2),
    "adafactor, plain": lambda: optimizers.Adafactor(0.05),
    "lion": lambda: optimizers.Lion(0.01, weight_decay=0.2),
    "clipnorm": lambda: optimizers.SGD(0.1, clipnorm=0.1),
    "global_clipnorm": lambda: optimizers.SGD(0.1, global_clipnorm=0.1),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.02),
    "clipvalue, decay": lambda: optimizers.Adam(0.01, clipvalue=0.02, weight_decay=0.2),
    "average": lambda: optimizers.SGD(0.1, use_ema=True, ema_momentum=0.8),
    "several batches": lambda: optimizers.Adam(0.05, gradient_accumulation_steps=2),
    "cosine": lambda: optimizers.SGD(schedules.CosineDecay(0.01, 4, alpha=0.1, warmup_target=0.1, warmup_steps=3)),
    "restarts": lambda: optimizers.SGD(schedules.CosineDecayRestarts(0.1, 3)),
    "polynomial": lambda: optimizers.SGD(schedules.PolynomialDecay(0.1, 5, 0.01, power=2.0), momentum=0.9),
    "linear": lambda: optimizers.SGD(schedules.PolynomialDecay(0.1, 5, 0.01)),
    "piecewise": lambda: optimizers.SGD(schedules.PiecewiseConstantDecay([2, 5], [0.1, 0.05, 0.2])),
    "inverse time": lambda: optimizers.SGD(schedules.InverseTimeDecay(0.1, 3, 0.5, staircase=True)),
    "staircase": lambda: optimizers.SGD(schedules.ExponentialDecay(0.1, 3, 0.5, staircase=True)),
}


@pytest.mark.parametrize("row", ROWS)
def test_optimizers(row: str, tmp_path: Path) -> None:
    is_apart = row in ("average", "several batches")  # which go with a constraint otherwise
    model = penalized(None if is_apart else constraints.MaxNorm(0.8))
    model.compile(ROWS[row](), "mse")
    ten_steps(model, QUANTITIES, tmp_path, suffix=".h5" if len(row) % 2 else ".keras")


# -- losses ------------------------------------------------------------------------------------------------------------

CLASSES = [drawn(step).integers(0, 3, SIZE) for step in range(STEPS)]
BITS = [drawn(step).integers(0, 2, (SIZE, 3)) for step in range(STEPS)]
SHARES = [drawn(step).dirichlet([1, 1, 1], SIZE).astype("float32") for step in range(STEPS)]
RATES = [drawn(step).uniform(0.1, 2, (SIZE, 3)).astype("float32") for step in range(STEPS)]
ONE_HOT = [np.eye(3, dtype="float32")[each] for each in CLASSES]

# By name: the loss, what the model ends in, targets, and what the training file says of it beside the loss's name.
LOSSES: dict[str, tuple[Any, str | None, list[Any], dict[str, Any]]] = {
    "sparse, scores": (losses.SparseCategoricalCrossentropy(from_logits=True), None, CLASSES, {}),
    "sparse, probabilities": (losses.SparseCategoricalCrossentropy(), "softmax", CLASSES, {}),
    "sparse by name": ("sparse_categorical_crossentropy", "softmax", CLASSES, {}),
    "sparse, two softmaxes": (
        losses.SparseCategoricalCrossentropy(from_logits=True), "softmax", CLASSES, {"from_logits": True},
    ),
    "sparse, sigmoids": ("sparse_categorical_crossentropy", "sigmoid", CLASSES, {}),
    "sparse, no softmax": ("sparse_categorical_crossentropy", "softplus", CLASSES, {"from_logits": False}),
    "sparse, a class left out": (
        losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=1), None, CLASSES, {"ignore_index": 1},
    ),
    "classes": (losses.CategoricalCrossentropy(from_logits=True), None, ONE_HOT, {}),
    "shares, smoothed": (
        losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2), None, SHARES, {"label_smoothing": 0.2},
    ),
    "shares, smoothed probabilities": (
        losses.CategoricalCrossentropy(label_smoothing=0.2), "softmax", SHARES, {"label_smoothing": 0.2},
    ),
    "labels, scores": (losses.BinaryCrossentropy(from_logits=True), None, BITS, {}),
    "labels, probabilities": ("binary_crossentropy", "sigmoid", BITS, {}),
    "labels as numbers": ("binary_crossentropy", "sigmoid", [each.astype("float32") for each in BITS], {}),
    "labels, smoothed": (
        losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2), None, BITS, {"label_smoothing": 0.2},
    ),
    "labels, no sigmoid": ("bce", "hard_sigmoid", BITS, {"from_logits": False}),
    "squares": ("mse", None, RATES, {}),
    "squares of softmaxes": ("mse", "softmax", SHARES, {}),
    "sizes": ("mae", None, RATES, {}),
    "percentages": ("mape", None, RATES, {}),
    "logarithms": ("msle", "softplus", RATES, {}),
    "huber": (losses.Huber(), None, RATES, {"delta": 1.0}),
    "log_cosh": ("log_cosh", None, RATES, {}),
    "divergence": ("kl_divergence", "softmax", SHARES, {}),
    "counts": ("poisson", "softplus", RATES, {}),
    "hinge": ("hinge", "tanh", BITS, {}),
    "squared hinge": ("squared_hinge", "tanh", BITS, {}),
    "angles": (losses.CosineSimilarity(), None, RATES, {}),
}  # fmt: skip


@pytest.mark.parametrize("row", LOSSES)
def test_losses(row: str, tmp_path: Path) -> None:
    loss, activation, targets, said = LOSSES[row]
    model = penalized()
    model.layers[1].activation = keras.activations.get(activation)
    model.compile(optimizers.SGD(0.01 if loss == "mape" else 0.3), loss)
    assert {**regspec_section(model, tmp_path / "said"), "loss": ""} == {**said, "loss": ""}
    ten_steps(model, [(x, y) for (x, _), y in zip(QUANTITIES, targets, strict=True)], tmp_path)


def regspec_section(model: Any, folder: Path) -> dict[str, Any]:
    (section,) = port_of(model, folder).training["outputs"].values()
    return dict(section)


# -- models ------------------------------------------------------------------------------------------------------------


def image() -> Any:
    """With moving statistics."""
    return keras.Sequential(
        [
            keras.Input((7, 6, 2)),
            layers.Conv2D(3, 3, strides=2, padding="same", use_bias=False, kernel_regularizer="l2"),
            layers.BatchNormalization(momentum=0.8, gamma_regularizer="l2"),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def sequence() -> Any:
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(11, 4, embeddings_regularizer="l2"),
            layers.LSTM(4, return_sequences=True, recurrent_regularizer="l2", bias_regularizer="l2"),
            layers.GRU(3),
            layers.Dense(3, activation="softmax"),
        ]
    )


def attention() -> Any:
    x = keras.Input((5, 4))
    y = layers.LayerNormalization()(layers.MultiHeadAttention(2, 3, use_bias=False)(x, x) + x)
    return keras.Model(x, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(y)))


def frozen() -> Any:
    model = penalized()
    model.layers[0].trainable = False
    return model


def batches_of(inputs: Callable[[Any], Any], targets: list[Any]) -> list[tuple[Any, Any]]:
    return [(inputs(drawn(50 + step)), each) for step, each in enumerate(targets)]


MODELS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "image": (image, lambda rng: rng.standard_normal((SIZE, 7, 6, 2)).astype("float32")),
    "sequence": (sequence, lambda rng: rng.integers(0, 11, (SIZE, 5))),
    "attention": (attention, lambda rng: rng.standard_normal((SIZE, 5, 4)).astype("float32")),
    "frozen": (frozen, lambda rng: rng.standard_normal((SIZE, 4)).astype("float32")),
}


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "sgd": lambda: optimizers.SGD(0.3, momentum=0.9),
    "adam": lambda: optimizers.Adam(0.01),
    "clipped": lambda: optimizers.SGD(0.3, clipnorm=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, optimizer: str, tmp_path: Path) -> None:
    """Without biases whose gradient is 0 but for rounding, which Adam makes steps of."""
    make, inputs = MODELS[name]
    keras.utils.set_random_seed(0)
    model = make()
    model.compile(OPTIMIZERS[optimizer](), losses.SparseCategoricalCrossentropy(from_logits=name == "frozen"))
    if (name, optimizer) == ("sequence", "clipped"):  # the bias of a GRU is two parameters in torch
        (note,) = port_of(model, tmp_path).notes
        assert (
            note == "`clipnorm` is of each weight in Keras; here of each parameter, of which some weights are several"
        )
    else:
        ten_steps(model, batches_of(inputs, CLASSES), tmp_path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("form", ["mapping", "list"])
def test_several_outputs(form: str, suffix: str, tmp_path: Path) -> None:
    """Each with a loss of its own, a weight, and metrics."""
    keras.utils.set_random_seed(0)
    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    kind = layers.Dense(3, activation="softmax", name="kind", kernel_regularizer="l2", kernel_constraint="non_neg")(x)
    price = layers.Dense(3, name="price")(layers.Add()([x, y]))
    wanted: dict[str, Any] = {
        "kind": {"loss": "cross_entropy", "weight": 0.5, "metrics": ["accuracy"]},
        "price": {"loss": "mse", "weight": 2.0, "metrics": ["mae"]},
    }
    if form == "mapping":
        model = keras.Model([x, y], {"kind": kind, "price": price})
        model.compile(
            optimizers.SGD(0.3),
            {"kind": "sparse_categorical_crossentropy", "price": "mse"},
            loss_weights={"kind": 0.5, "price": 2.0},
            metrics={"kind": ["accuracy"], "price": ["mae"]},
        )
    else:
        model = keras.Model([x, y], [kind, price])
        model.compile(
            optimizers.SGD(0.3),
            ["sparse_categorical_crossentropy", "mse"],
            loss_weights=[0.5, 2.0],
            metrics=[["acc"], ["mae"]],
        )
    inputs = [[first, -first] for first, _ in QUANTITIES]
    targets: list[Any] = [*zip(CLASSES, RATES, strict=True)]
    if form == "mapping":
        targets = [dict(zip(("kind", "price"), each, strict=True)) for each in targets]
    else:
        targets = [[*each] for each in targets]
    assert port_of(model, tmp_path / "said", suffix).training["outputs"] == wanted
    ten_steps(model, [*zip(inputs, targets, strict=True)], tmp_path, suffix=suffix)


def test_an_output_without_a_loss_does_not_learn(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    model = keras.Model(x, [layers.Dense(3, name="one")(x), layers.Dense(3, name="other")(x)])
    model.compile(optimizers.SGD(0.3), ["mse", None])
    port = port_of(model, tmp_path)
    assert port.training["outputs"] == {"one": {"loss": "mse"}}
    port.save(tmp_path)
    run = trained(tmp_path, [(x, y) for x, y in QUANTITIES])
    got = load_file(run.folder / "weights.safetensors")
    np.testing.assert_array_equal(got["other.weight"].numpy(), port.weights["other.weight"])
    assert not np.array_equal(got["one.weight"].numpy(), port.weights["one.weight"])
