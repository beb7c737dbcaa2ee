"""What a port says of how a file was trained: its training file, notes, and the page; whatever the file says."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path
from typing import Any

import jsonschema
import keras
import numpy as np
import pytest
import torch
import yaml
from keras import layers, metrics, optimizers

import regspec
from regspec.graph.loading import graph_of
from regspec.keras.configs.dialect import Dialect
from regspec.keras.training.compiled import Training, training_of, training_text
from regspec.keras.training.optimizers import OPTIMIZERS, optimizer_of
from regspec.text.document import parse
from regspec.training.loop.checking import checked_outputs
from regspec.training.loop.module import bound_optimizer
from regspec.training.loop.rates import schedule_of
from regspec.training.options.file import read_training
from regspec.training.options.options import Options
from regspec.training.options.schema import training_schema

from .commands import command

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of Keras, when it saves and steps

KERAS_3 = Dialect()
SPEC = "regspec: 1\ninputs: {x: {shape: [4]}}\nlayers: [Dense: {name: out, units: %d, activation: %s}]\n"


def dense(activation: str | None = None, units: int = 3) -> Any:
    return keras.Sequential([keras.Input((4,)), layers.Dense(units, activation=activation, name="dense")])


def port_of(model: Any, folder: Path) -> regspec.Port:
    model.save(folder / "model.keras")
    return regspec.port(folder / "model.keras")


def said_of(stored: Any, units: int = 3, activation: str = "linear", dialect: Dialect = KERAS_3) -> Training:
    return training_of(stored, {}, graph_of(regspec.loads(SPEC % (units, activation))), dialect)


def checked(training: Training, units: int = 3, activation: str = "linear") -> None:
    """Raises where a training file is none, or a training can't begin by it."""
    text = training_text(training.options, "weights.safetensors")
    jsonschema.validate(yaml.safe_load(text), training_schema())
    said = read_training(parse(text))
    options = Options(**said.values)
    spec = regspec.loads(SPEC % (units, activation))
    checked_outputs(options, said.places, graph_of(spec))
    optimizer = bound_optimizer(regspec.build(spec, seed=0), options, 1)
    if options.schedule is not None:
        schedule_of(options.schedule).of(optimizer, 100)


# -- what the file of which Keras means --------------------------------------------------------------------------------

OLD = Dialect(generation=2, version=(2, 9))  # tf.keras
ALONE = Dialect(generation=2, version=(2, 3, 1), is_standalone=True)
RENEWED: dict[str, Any] = {"jit_compile": False, "is_legacy_optimizer": False}


@pytest.mark.parametrize(
    ("stored", "dialect", "wanted"),
    [
        # in RMSprop without momentum and in Adagrad, older ones add epsilon to the root, as torch does
        (("RMSprop", {"rho": 0.9, "epsilon": 1e-7}), OLD, {"rmsprop": {"alpha": 0.9, "eps": 1e-7}}),
        (
            ("RMSprop", {"rho": 0.9, "epsilon": 1e-7, "momentum": 0.5}),
            OLD,
            {"keras_rmsprop": {"alpha": 0.9, "eps": 1e-7, "momentum": 0.5}},
        ),
        (("RMSprop", {"rho": 0.9, **RENEWED}), OLD, {"keras_rmsprop": {"alpha": 0.9, "eps": 1e-7}}),
        (
            ("Adagrad", {"initial_accumulator_value": 0.2, "epsilon": 1e-7}),
            OLD,
            {"adagrad": {"initial_accumulator_value": 0.2, "eps": 1e-7}},
        ),
        (("Adagrad", {"epsilon": None}), ALONE, {"adagrad": {"initial_accumulator_value": 0.0, "eps": 1e-7}}),
        # Nadam's decay is that of its momentum
        (
            ("Nadam", {"beta_1": 0.9, "beta_2": 0.999, "schedule_decay": 0.004}),
            ALONE,
            {"nadam": {"betas": [0.9, 0.999], "eps": 1e-7, "momentum_decay": 0.004}},
        ),
        (("Nadam", {"decay": 0.01}), OLD, {"nadam": {"betas": [0.9, 0.999], "eps": 1e-7, "momentum_decay": 0.01}}),
        (("Custom>Adam", RENEWED), OLD, {"keras_adam": {"betas": [0.9, 0.999], "eps": 1e-7}}),
        (("Adam", {"epsilon": 1e-8}), Dialect(generation=1), {"keras_adam": {"betas": [0.9, 0.999], "eps": 1e-8}}),
        (("AdamW", {}), KERAS_3, {"keras_adam": {"betas": [0.9, 0.999], "eps": 1e-7, "weight_decay": 0.004}}),
        (("SGD", {"momentum": 0.0, "nesterov": True}), KERAS_3, "sgd"),
    ],
)
def test_optimizers_of_each_keras(stored: tuple[str, Any], dialect: Dialect, wanted: Any) -> None:
    recipe = optimizer_of({"class_name": stored[0], "config": {"learning_rate": 0.5, **stored[1]}}, dialect)
    assert recipe is not None
    assert recipe.remarks == []
    assert recipe.options == {"optimizer": wanted, "lr": 0.5}


@pytest.mark.parametrize(
    ("settings", "dialect", "wanted"),
    [
        ({"lr": 0.1}, ALONE, {"lr": 0.1}),
        ({"lr": 0.1, "decay": 0.01}, ALONE, {"lr": 0.1, "schedule": {"inverse_time_decay": {"rate": 0.01}}}),
        ({"lr": 0.0010000000474974513}, OLD, {"lr": 0.001}),
        ({"lr": 0.1, "clipnorm": 2.0}, ALONE, {"lr": 0.1, "clip_gradients": 2.0}),  # of all gradients together
        ({"lr": 0.1, "clipnorm": 2.0}, OLD, {"lr": 0.1, "clip_gradients": 2.0, "clip_by": "each_norm"}),
        ({"lr": 0.1, "clipvalue": 2.0, "clipnorm": None}, OLD, {"lr": 0.1, "clip_gradients": 2.0, "clip_by": "value"}),
    ],
)
def test_what_is_beside_an_optimizer(settings: dict[str, Any], dialect: Dialect, wanted: Any) -> None:
    recipe = optimizer_of({"class_name": "SGD", "config": settings}, dialect)
    assert recipe is not None
    assert recipe.options == {"optimizer": "sgd", **wanted}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_by_its_name(name: str) -> None:
    """Its settings are Keras's defaults, but that its learning rate is not said."""
    training = said_of({"optimizer": name, "loss": "mse"})
    checked(training)
    stored = {"class_name": name, "config": optimizers.get(name).get_config()}
    same = said_of({"optimizer": stored, "loss": "mse"}).options
    assert {key: value for key, value in same.items() if key != "lr"} == training.options


# -- what can't be said ------------------------------------------------------------------------------------------------


def of(class_name: str, /, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": config}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": of("mine>Strange")}, "the loss `strange` has no counterpart"),
        ({"loss": None}, "names no loss"),
        ({"optimizer": None}, "names no optimizer"),
        ({"optimizer": of("Ftrl", beta=0.9)}, r"the optimizer `ftrl` has no counterpart: `beta=0.9`"),
        (
            {"optimizer": of("Adafactor", learning_rate=0.1, weight_decay=0.2)},
            "here before it decays, and in Keras after",
        ),
        ({"optimizer": of("SGD", learning_rate=of("Mine"))}, "the learning rate followed `mine`"),
        ({"optimizer": of("SGD", learning_rate=of("CosineDecay"))}, "the learning rate followed `cosine_decay`"),
        ({"optimizer": of("SGD", learning_rate=0.1, use_ema=True)}, "the moving average is of what normalizations"),
        (
            {"optimizer": of("SGD", learning_rate=0.1, use_ema=True, ema_overwrite_frequency=5)},
            "again and again, by `ema_overwrite_frequency=5`",
        ),
        ({"optimizer": of("SGD", learning_rate=0.1, loss_scale_factor=8.0)}, "the loss was multiplied by 8.0"),
        ({"optimizer": of("SGD", learning_rate=0.1, clipnorm=1.0, clipvalue=1.0)}, "`clipvalue` is left out"),
        (
            {"optimizer": of("LossScaleOptimizer", inner_optimizer=of("SGD", learning_rate=0.1))},
            "the loss was scaled for half precision",
        ),
        ({"loss": of("MeanSquaredError", reduction="sum")}, "the loss was summed over the batch"),
        ({"loss": of("MeanSquaredError", reduction="none")}, "the loss was not reduced"),
        ({"loss": of("Huber", reduction="mean")}, "does not say the delta"),
        ({"loss": of("CosineSimilarity", axis=1)}, "the loss was along the axis `1`"),
        ({"loss": of("CategoricalCrossentropy", axis=1, from_logits=True)}, "the loss was along the axis `1`"),
        ({"loss": "hinge"}, "0 or 1 here, and not -1 or 1"),
        ({"loss": "categorical_crossentropy"}, "the model ends in no softmax"),
        ({"loss": "binary_crossentropy"}, "the model ends in no sigmoid"),
        ({"loss": "kl_divergence"}, "the divergence is here the cross-entropy"),
        ({"loss_weights": [-1.0]}, "its weight in the loss is no number from 0 on"),
        ({"metrics": ["accuracy"]}, "the metric `accuracy` has no counterpart of quantities"),
        ({"metrics": [of("mine>Own")]}, "the metric `own` has no counterpart"),
        ({"weighted_metrics": ["mae"]}, "metrics count each example once here"),
    ],
)
def test_what_has_no_counterpart_is_noted(changes: dict[str, Any], said: str) -> None:
    training = said_of({"optimizer": of("SGD", learning_rate=0.1), "loss": "mse", **changes})
    assert any(re.search(said, each) for each in training.remarks), training.remarks
    checked(training)


def test_what_can_be_said_has_no_note() -> None:
    assert said_of({"optimizer": of("SGD", learning_rate=0.1), "loss": "mse"}).remarks == ()


@pytest.mark.parametrize("weight", [0.5, [0.5], {"out": 0.5}])
def test_the_weight_of_an_only_output(weight: Any) -> None:
    training = said_of({"optimizer": of("SGD", learning_rate=0.1), "loss": ["mse"], "loss_weights": weight})
    assert training.options["outputs"] == {"out": {"loss": "mse", "weight": 0.5}}
    assert training.remarks == ()


def test_adafactor_of_images(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((5, 5, 1)), layers.Conv2D(3, 3)])
    model.compile(optimizers.Adafactor(0.1), "mse")
    assert any("Adafactor keeps averages" in each for each in port_of(model, tmp_path).notes)


def test_steps_that_a_mask_leaves_out(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((5,)), layers.Embedding(7, 4, mask_zero=True), layers.GRU(3, return_sequences=True)]
    )
    model.compile(optimizers.SGD(0.1), "mse")
    assert any("the output has a mask" in each for each in port_of(model, tmp_path).notes)


# -- metrics -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "loss", "units", "word"),
    [
        ("accuracy", "sparse_categorical_crossentropy", 3, "accuracy"),
        ("acc", "categorical_crossentropy", 3, "accuracy"),
        ("accuracy", "binary_crossentropy", 1, "accuracy"),
        (of("BinaryAccuracy", threshold=0.5), "binary_crossentropy", 3, "accuracy"),
        (of("BinaryAccuracy", threshold=0.3), "binary_crossentropy", 3, None),
        (of("SparseTopKCategoricalAccuracy", k=5), "sparse_categorical_crossentropy", 7, "top_5"),
        (of("SparseTopKCategoricalAccuracy", k=5), "sparse_categorical_crossentropy", 5, None),
        (of("SparseTopKCategoricalAccuracy", k=3), "sparse_categorical_crossentropy", 7, None),
        (of("AUC"), "binary_crossentropy", 1, "auroc"),
        (of("AUC", curve="PR"), "binary_crossentropy", 1, "average_precision"),
        (of("Precision", thresholds=[0.3]), "binary_crossentropy", 1, None),
        (of("Recall"), "binary_crossentropy", 1, "recall"),
        (of("F1Score", threshold=None), "categorical_crossentropy", 3, "f1"),
        ("mae", "mse", 3, "mae"),
        ("mse", "mae", 3, "mse"),
        ("mse", "mse", 3, None),  # which is the loss
        (of("RootMeanSquaredError"), "mse", 1, "rmse"),
        (of("R2Score"), "mse", 1, "r2"),
        (
            of("MeanMetricWrapper", name="a", fn="sparse_categorical_accuracy"),
            "categorical_crossentropy",
            3,
            "accuracy",
        ),
    ],
)
def test_metrics(metric: Any, loss: str, units: int, word: str | None) -> None:
    stored = {"optimizer": of("SGD", learning_rate=0.1), "loss": loss, "metrics": [metric]}
    training = said_of(stored, units, "sigmoid")
    assert training.options["outputs"]["out"].get("metrics", []) == [word] * (word is not None)
    checked(training, units, "sigmoid")


def test_metrics_of_labels_are_measured(tmp_path: Path) -> None:
    """Whose numbers are floating-point, as Keras takes them."""
    model = dense("sigmoid", 1)
    model.compile(
        optimizers.SGD(0.0), "binary_crossentropy", metrics=["accuracy", metrics.Precision(), metrics.Recall()]
    )
    port = port_of(model, tmp_path)
    x = np.random.default_rng(0).standard_normal((60, 4)).astype("float32")
    y = np.random.default_rng(1).integers(0, 2, (60, 1)).astype("float32")
    port.save(tmp_path / "ported")
    options: dict[str, Any] = {"weights": str(tmp_path / "ported"), "epochs": 1, **port.training}
    run = regspec.train(port.spec, (x, y, x, y), folder=tmp_path / "run", quiet=True, **options)
    figures = [run.metrics[f"held_out_{name}"] for name in ("loss", "accuracy", "precision", "recall")]
    assert figures == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)


def test_metrics_are_measured(tmp_path: Path) -> None:
    """Of one-hot vectors, too, as Keras takes them: the run tells what Keras's evaluation does."""
    model = dense("softmax")
    iou = metrics.MeanIoU(3, sparse_y_true=False, sparse_y_pred=False)
    model.compile(optimizers.SGD(0.0), "categorical_crossentropy", metrics=["accuracy", iou])
    port = port_of(model, tmp_path)
    x = np.random.default_rng(0).standard_normal((60, 4)).astype("float32")
    y = np.eye(3, dtype="float32")[np.random.default_rng(1).integers(0, 3, 60)]
    port.save(tmp_path / "ported")
    options: dict[str, Any] = {"weights": str(tmp_path / "ported"), "epochs": 1, **port.training}
    run = regspec.train(port.spec, (x, y, x, y), folder=tmp_path / "run", quiet=True, **options)
    loss, accuracy, share = model.evaluate(x, y, verbose=0)
    assert run.metrics["held_out_loss"] == pytest.approx(loss, rel=1e-5)
    assert run.metrics["held_out_accuracy"] == pytest.approx(accuracy, rel=1e-5)
    assert run.metrics["held_out_iou"] == pytest.approx(share, rel=1e-5)


# -- the folder --------------------------------------------------------------------------------------------------------


def classifier() -> Any:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(4, 3, activation="relu", name="conv", kernel_regularizer=keras.regularizers.L2(0.125)),
            layers.Flatten(name="flat"),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )
    model.compile(optimizers.Adam(0.002), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


TRAINING = """\
regspec: 1
training:
  outputs:
    digit:
      loss: cross_entropy
      metrics: [accuracy]
  optimizer:
    keras_adam:
      betas: [0.9, 0.999]
      eps: 1.0e-07
  lr: 0.002
"""
BEGUN = "  weights: weights.safetensors\n"


def test_it_trains_at_once(tmp_path: Path) -> None:
    """By two commands, from the file's weights, and better than always guessing."""
    classifier().save(tmp_path / "model.keras")
    assert command("port", "model.keras", "-o", "ported", cwd=tmp_path).code == 0
    assert (tmp_path / "ported/training.yaml").read_text() == TRAINING + BEGUN
    assert command("check", "ported/training.yaml", cwd=tmp_path).code == 0
    port = regspec.port(tmp_path / "model.keras")
    start = port.build().state_dict()
    arguments = ("--with", "ported/training.yaml", "--data", "digits", "--epochs", "2", "-o", "run")
    done = command("train", "ported/spec.yaml", *arguments, cwd=tmp_path)
    assert done.code == 0, done.stderr
    run = regspec.load_run(tmp_path / "run")
    initial = regspec.build(port.spec, seed=0).state_dict()
    assert not torch.equal(initial["digit.weight"], start["digit.weight"])
    from safetensors.torch import load_file

    begun = load_file(next((tmp_path / "run").glob("initial*.safetensors")))
    torch.testing.assert_close(begun["digit.weight"], start["digit.weight"])
    assert run.history["held_out_accuracy"][-1] > 0.5


def test_the_page_of_a_classifier(tmp_path: Path) -> None:
    port = port_of(classifier(), tmp_path)
    port.save(tmp_path / "ported")
    page = (tmp_path / "ported" / "report.md").read_text()
    for part in (
        "# digits, ported from Keras\n",
        f"`model.keras`: a .keras file, written by Keras `{keras.__version__}`, saved `20",
        "4 arrays of the file, 1,490 numbers, each used once",
        "Takes `image` (batch, 8, 8, 1) float32; gives `digit` (batch, 10).",
        "channels last",
        "| conv | Conv2D | (batch, 6, 6, 4) | 40 | kernel l2 0.125 |",
        "regspec train spec.yaml --with training.yaml --data …\n",
        "    keras_adam:\n",
        "The penalties are the spec's",
    ):
        assert part in page, part
    assert "## Verification" not in page
    # what it says of use is what works
    (code,) = (each for each in page.split("```") if "load_file(" in each)
    names: dict[str, Any] = {"image": torch.randn(2, 8, 8, 1), "criterion": lambda x, y: x.sum(), "targets": None}
    text = code.removeprefix("python\n").replace('"spec', f'"{tmp_path}/ported/spec')
    exec(text.replace('"weights', f'"{tmp_path}/ported/weights'), names)
    torch.testing.assert_close(names["outputs"], port.build()(names["image"]))


def test_a_model_that_was_not_compiled(tmp_path: Path) -> None:
    port = port_of(dense(), tmp_path)
    assert port.training == {}
    port.save(tmp_path / "ported")
    assert not (tmp_path / "ported" / "training.yaml").exists()
    page, _, seal = (tmp_path / "ported" / "report.md").read_text().rpartition("\n<!-- ")
    assert page.endswith("\n## How it was trained\n\nThe file does not say.\n")
    assert re.fullmatch(r"regspec:[0-9a-f]{16} -->\n", seal)


def test_a_config_without_weights_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({**json.loads(classifier().to_json())}))
    port = regspec.port(tmp_path / "model.json")
    port.save(tmp_path / "ported")
    assert (tmp_path / "ported" / "training.yaml").read_text() == TRAINING


@pytest.mark.parametrize("options", [{"data_format": "channels_first"}, {"fold": True}, {"blocks": True}], ids=str)
def test_a_port_that_was_converted_has_it_too(options: dict[str, Any], tmp_path: Path) -> None:
    classifier().save(tmp_path / "model.keras")
    wanted = regspec.port(tmp_path / "model.keras").training
    assert regspec.port(tmp_path / "model.keras", **options).training == wanted


# -- damaged files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [pytest.param(n, marks=[pytest.mark.everything] * (n >= 60)) for n in range(300)])
def test_damaged_settings_make_no_damaged_file(seed: int) -> None:
    """Whatever a file says of the training: the training file is one, by which a training begins."""
    rng = random.Random(seed)
    evil = "');import os;os.system('x')#\n```\n|<script>"
    values = [None, True, -1, 0, 1, 1e300, math.inf, math.nan, 10**400, evil, [], [evil], {}, {"class_name": evil}]
    schedule = rng.choice(
        [
            of("CosineDecay", initial_learning_rate=0.1, decay_steps=5, warmup_target=0.2, warmup_steps=2),
            of("PiecewiseConstantDecay", boundaries=[1, 2], values=[0.1, 0.2, 0.3]),
            of("PolynomialDecay", initial_learning_rate=0.1, decay_steps=5, cycle=True),
            of("ExponentialDecay", initial_learning_rate=0.1, decay_steps=5, decay_rate=0.5, staircase=True),
            of("CosineDecayRestarts", initial_learning_rate=0.1, first_decay_steps=5, t_mul=2.0, m_mul=0.5),
            of("InverseTimeDecay", initial_learning_rate=0.1, decay_steps=5, decay_rate=0.5),
        ]
    )
    settings = optimizers.get(rng.choice([*OPTIMIZERS])).get_config()
    stored: Any = {
        "optimizer": {
            "class_name": rng.choice([*OPTIMIZERS]),
            "config": {**settings, "learning_rate": schedule, "clipnorm": 1.0, "weight_decay": 0.1, "use_ema": True},
        },
        "loss": of("CategoricalCrossentropy", label_smoothing=0.1, from_logits=True, ignore_class=1),
        "loss_weights": [0.5],
        "metrics": ["accuracy", of("TopKCategoricalAccuracy", k=3)],
    }

    def damaged(value: Any) -> Any:
        if rng.random() < 0.15:
            return rng.choice(values)
        if isinstance(value, dict):
            return {key: damaged(each) for key, each in value.items()}
        if isinstance(value, list):
            return [damaged(each) for each in value]
        return value

    stored = damaged(stored)
    training = said_of(stored if isinstance(stored, dict) else {})
    checked(training)
    text = training_text(training.options, None)
    assert "os.system" not in text
    assert "```" not in text + "".join(training.remarks)
