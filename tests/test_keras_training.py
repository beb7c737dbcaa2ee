"""How a model was trained in Keras, as torch code: the code is run, and compared with Keras's own numbers."""

from __future__ import annotations

import ast
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, losses, optimizers
from keras.optimizers import schedules

import regspec
from regspec.graph.loading import graph_of
from regspec.keras.training.compiled import training_of
from regspec.keras.training.optimizers import optimizer_of

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras, when it saves


def port_of(model: Any, folder: Path, suffix: str = ".keras") -> regspec.Port:
    model.save(folder / f"model{suffix}")
    return regspec.port(folder / f"model{suffix}")


def code_of(port: regspec.Port) -> str:
    training = training_of(port.provenance.training, port.provenance.config, graph_of(port.spec))
    assert training is not None
    return training.code


def dense(activation: str | None = None, units: int = 3) -> Any:
    return keras.Sequential([keras.Input((4,)), layers.Dense(units, activation=activation, name="dense")])


@pytest.mark.parametrize(
    ("stored", "call"),
    [
        *((each, "AdamW(model.parameters(), lr=0.001, betas=(0.9, 0.999), eps=1e-07, weight_decay=0.004)")
          for each in ("adamw", "AdamW", {"class_name": "AdamW", "config": {}})),
        *(({"class_name": "AdamW", "config": {"weight_decay": decay}},
           f"AdamW(model.parameters(), lr=0.001, betas=(0.9, 0.999), eps=1e-07, weight_decay={decay})")
          for decay in (0.0, 0.1)),
        ("adam", "Adam(model.parameters(), lr=0.001, betas=(0.9, 0.999), eps=1e-07)"),
    ],
)  # fmt: skip
def test_adam_with_and_without_decay(stored: Any, call: str) -> None:
    recipe = optimizer_of(stored)
    assert recipe is not None
    assert recipe.before == [f"optimizer = torch.optim.{call}"]


# -- optimizers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.SGD(0.1),
        optimizers.SGD(0.1, momentum=0.9),
        optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        optimizers.SGD(0.1, weight_decay=0.2),
        optimizers.SGD(0.1, momentum=0.9, weight_decay=0.2),
        optimizers.Adam(0.01),
        optimizers.Adam(0.01, beta_1=0.8, beta_2=0.9, amsgrad=True),
        optimizers.Adam(0.01, weight_decay=0.2),
        optimizers.AdamW(0.01, weight_decay=0.2),
        optimizers.Adamax(0.01, beta_1=0.8),
        optimizers.Nadam(0.01, beta_1=0.8),
        optimizers.Nadam(0.01, weight_decay=0.2),
        optimizers.RMSprop(0.01),
        optimizers.RMSprop(0.01, rho=0.8, momentum=0.9, centered=True),
        optimizers.RMSprop(0.01, weight_decay=0.2),
        optimizers.Adagrad(0.1, initial_accumulator_value=0.3),
        optimizers.Adadelta(1.0, rho=0.9),
        optimizers.SGD(0.1, clipnorm=0.1),
        optimizers.SGD(0.1, global_clipnorm=0.1),
        optimizers.SGD(0.1, clipvalue=0.01),
        optimizers.Adam(schedules.ExponentialDecay(0.01, 3, 0.5)),
        optimizers.SGD(schedules.CosineDecay(0.01, 4, warmup_target=0.1, warmup_steps=3)),
    ],
    ids=lambda each: f"{type(each).__name__}",
)
def test_optimizers(optimizer: Any, suffix: str, tmp_path: Path) -> None:
    """Six steps of Keras's, and six of the code's."""
    optimizer = type(optimizer).from_config(optimizer.get_config())  # a fresh one for each suffix
    model = dense()
    model.layers[0].kernel.assign(np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3))
    model.compile(optimizer, "mse")
    port = port_of(model, tmp_path, suffix)
    module = port.build().train()
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((5, 4)), rng.standard_normal((5, 3))) for _ in range(6)]
    batches = [(x.astype("float32"), y.astype("float32")) for x, y in batches]
    for x, y in batches:
        model.train_on_batch(x, y)
    exec(code_of(port), {"model": module, "loader": [(torch.tensor(x), torch.tensor(y)) for x, y in batches]})
    wanted = np.asarray(model.layers[0].kernel.value.detach())
    moved = np.linalg.norm(wanted - port.weights["dense.weight"].T)
    assert moved > 1e-3
    tolerance = 3e-2 if isinstance(optimizer, optimizers.RMSprop) else 2e-3  # which adds its epsilon under the root
    assert np.linalg.norm(module.dense.weight.detach().numpy().T - wanted) < tolerance * moved


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.ExponentialDecay(0.1, 7, 0.5),
        schedules.ExponentialDecay(0.1, 7, 0.5, staircase=True),
        schedules.InverseTimeDecay(0.1, 7, 0.5),
        schedules.InverseTimeDecay(0.1, 7, 0.5, staircase=True),
        schedules.PiecewiseConstantDecay([5, 12], [0.1, 0.05, 0.01]),
        schedules.PolynomialDecay(0.1, 9, 0.01, power=2.0),
        schedules.PolynomialDecay(0.1, 9, 0.01, cycle=True),
        schedules.CosineDecay(0.1, 9),
        schedules.CosineDecay(0.1, 9, alpha=0.2),
        schedules.CosineDecay(0.01, 9, alpha=0.2, warmup_target=0.1, warmup_steps=6),
        schedules.CosineDecayRestarts(0.1, 5),
        schedules.CosineDecayRestarts(0.1, 5, t_mul=1.0, m_mul=0.5, alpha=0.1),
    ],
)
def test_learning_rates(schedule: Any, tmp_path: Path) -> None:
    model = dense()
    model.compile(optimizers.SGD(schedule), "mse")
    names: dict[str, Any] = {"model": torch.nn.Linear(1, 1), "loader": []}
    exec(code_of(port_of(model, tmp_path)), names)
    for step in range(40):
        assert names["learning_rate"](step) == pytest.approx(float(schedule(step)), rel=1e-5, abs=1e-8), step


# -- losses ------------------------------------------------------------------------------------------------------------

CLASSES = np.array([2, 0, 1, 1, 0])
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
MANY = np.array([[1, 0, 2], [2, 2, 1], [0, 1, 1], [1, 0, 0], [2, 1, 0]])
RANDOM = np.random.default_rng(1).uniform(0.1, 0.9, (5, 3)).astype("float32")
BITS = np.array([[0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 1], [1, 1, 1]], "float32")


@pytest.mark.parametrize(
    ("loss", "activation", "targets"),
    [
        (losses.SparseCategoricalCrossentropy(from_logits=True), None, CLASSES),
        (losses.SparseCategoricalCrossentropy(), "softmax", CLASSES),
        (losses.SparseCategoricalCrossentropy(from_logits=True), "softmax", CLASSES),
        (losses.SparseCategoricalCrossentropy(), "sigmoid", CLASSES),
        ("sparse_categorical_crossentropy", "softmax", CLASSES),
        (losses.CategoricalCrossentropy(from_logits=True), None, ONE_HOT),
        (losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2), None, ONE_HOT),
        (losses.CategoricalCrossentropy(label_smoothing=0.2), "softmax", ONE_HOT),
        ("categorical_crossentropy", "softmax", RANDOM / RANDOM.sum(-1, keepdims=True)),
        (losses.BinaryCrossentropy(from_logits=True), None, BITS),
        (losses.BinaryCrossentropy(), "sigmoid", BITS),
        (losses.BinaryCrossentropy(label_smoothing=0.2), "sigmoid", BITS),
        (losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2), None, BITS),
        (losses.BinaryCrossentropy(), None, BITS),
        ("mse", None, RANDOM),
        ("mae", None, RANDOM),
        ("mape", None, RANDOM),
        ("msle", None, RANDOM),
        (losses.Huber(), None, RANDOM),
        ("log_cosh", None, RANDOM),
        ("kl_divergence", "softmax", RANDOM),
        ("poisson", "sigmoid", RANDOM),
        ("hinge", "tanh", BITS),
        ("squared_hinge", "tanh", BITS),
        ("categorical_hinge", "softmax", ONE_HOT),
        (losses.CosineSimilarity(), None, RANDOM),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_losses(loss: Any, activation: str | None, targets: Any, tmp_path: Path) -> None:
    model = dense(activation)
    model.compile("sgd", loss)
    port = port_of(model, tmp_path)
    x = np.random.default_rng(0).standard_normal((5, 4)).astype("float32")
    names: dict[str, Any] = {"model": port.build(), "loader": []}
    exec(code_of(port), names)
    got = names["criterion"](port.build()(torch.tensor(x)), torch.tensor(targets))
    assert float(got) == pytest.approx(float(model.evaluate(x, targets, verbose=0)), rel=1e-4)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_classes_besides_positions(activation: str | None, tmp_path: Path) -> None:
    """Each step of a sequence has a class; one class is left out."""
    model = keras.Sequential([keras.Input((3, 4)), layers.Dense(3, activation=activation)])
    model.compile("sgd", losses.SparseCategoricalCrossentropy(from_logits=activation is None, ignore_class=1))
    port = port_of(model, tmp_path)
    x = np.random.default_rng(0).standard_normal((5, 3, 4)).astype("float32")
    names: dict[str, Any] = {"model": port.build(), "loader": []}
    exec(code_of(port), names)
    got = names["criterion"](port.build()(torch.tensor(x)), torch.tensor(MANY))
    assert float(got) == pytest.approx(float(model.evaluate(x, MANY, verbose=0)), rel=1e-4)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("form", ["mapping", "list"])
def test_several_outputs(form: str, suffix: str, tmp_path: Path) -> None:
    """Each with a loss of its own, and a weight; and constraints, which are applied after each step."""
    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    first = layers.Dense(3, activation="softmax", name="first", kernel_regularizer="l2", kernel_constraint="non_neg")(x)
    second = layers.Dense(1, name="second")(layers.Add()([x, y]))
    if form == "mapping":
        model = keras.Model([x, y], {"first": first, "second": second})
        model.compile(
            "sgd",
            {"first": "sparse_categorical_crossentropy", "second": "mse"},
            loss_weights={"first": 0.5, "second": 2.0},
            metrics={"first": ["accuracy"], "second": ["mae"]},
        )
        targets: Any = {"first": CLASSES, "second": RANDOM[:, :1]}
    else:
        model = keras.Model([x, y], [first, second])
        model.compile("sgd", ["sparse_categorical_crossentropy", "mse"], loss_weights=[0.5, 2.0])
        targets = [CLASSES, RANDOM[:, :1]]
    port = port_of(model, tmp_path, suffix)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((5, 4)).astype("float32") for _ in range(2)]
    module = port.build()
    tensors = keras.tree.map_structure(torch.tensor, targets)
    exec(code_of(port), {"model": module, "loader": [([torch.tensor(each) for each in inputs], tensors)]})
    model.train_on_batch(inputs, targets)
    for layer in (model.get_layer("first"), model.get_layer("second")):
        got = getattr(module, layer.name).weight.detach().numpy().T
        np.testing.assert_allclose(got, np.asarray(layer.kernel.value.detach()), rtol=1e-5, atol=1e-6)


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_of_a_classifier(tmp_path: Path) -> None:
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
    port = port_of(model, tmp_path)
    port.save(tmp_path / "ported")
    page = (tmp_path / "ported" / "report.md").read_text()
    for part in (
        "# digits, ported from Keras\n",
        f"`model.keras`: a .keras file, written by Keras `{keras.__version__}`, saved `20",
        "4 arrays of the file, 1,490 numbers, each used once",
        "Takes `image` (batch, 8, 8, 1) float32; gives `digit` (batch, 10).",
        "channels last",
        "| conv | Conv2D | (batch, 6, 6, 4) | 40 | kernel l2 0.125 |",
        "optimizer = torch.optim.Adam(model.parameters(), lr=0.002, betas=(0.9, 0.999), eps=1e-07)\n",
        "    # the model ends in a softmax, and torch's cross-entropy wants logits: take the logarithm\n",
        "    return F.cross_entropy(outputs.clamp(1e-07, 1 - 1e-07).log(), targets)\n",
        "# targets: the numbers of the classes, int64, (batch)\n",
        "    loss = criterion(outputs, targets) + model.regularization_loss()\n",
        "| sparse_categorical_accuracy | `(outputs.argmax(-1) == targets).float().mean()` |",
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
    port.save(tmp_path / "ported")
    page, _, seal = (tmp_path / "ported" / "report.md").read_text().rpartition("\n<!-- ")
    assert page.endswith("\n## How it was trained\n\nThe file does not say.\n")
    assert re.fullmatch(r"regspec:[0-9a-f]{16} -->\n", seal)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": {"class_name": "mine>Strange", "config": {}}}, "the loss `strange` has no counterpart here"),
        ({"optimizer": {"class_name": "Lion", "config": {"beta_1": 0.9}}}, "no counterpart of the optimizer `lion`"),
        (
            {"optimizer": {"class_name": "SGD", "config": {"learning_rate": {"class_name": "Mine", "config": {}}}}},
            "the learning rate followed `mine`",
        ),
        ({"loss": {"class_name": "MeanSquaredError", "config": {"reduction": "sum"}}}, "Keras summed this loss"),
        ({"loss": {"class_name": "Huber", "config": {"reduction": "mean"}}}, "does not save the delta"),
        ({"loss": "categorical_crossentropy"}, "the model ends in no softmax"),
        ({"loss": "binary_crossentropy"}, "the model ends in no sigmoid"),
    ],
)
def test_what_has_no_counterpart_is_said(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    port = port_of(dense(), tmp_path)
    stored = {"optimizer": "sgd", "loss": "mse", **changes}
    training = training_of(stored, port.provenance.config, graph_of(port.spec))
    assert training is not None
    ast.parse(training.code)
    assert any(said in each for each in training.remarks), training.remarks


@pytest.mark.parametrize(
    ("metric", "loss", "code"),
    [
        ("accuracy", "sparse_categorical_crossentropy", "`(outputs.argmax(-1) == targets).float().mean()`"),
        ("acc", "categorical_crossentropy", "`(outputs.argmax(-1) == targets.argmax(-1)).float().mean()`"),
        ("accuracy", "binary_crossentropy", "`((outputs > 0.5) == targets.bool()).float().mean()`"),
        ("mae", "mse", "`F.l1_loss(outputs, targets)`"),
        (
            {"class_name": "MeanMetricWrapper", "config": {"name": "accuracy", "fn": "sparse_categorical_accuracy"}},
            "sparse_categorical_crossentropy",
            "`(outputs.argmax(-1) == targets).float().mean()`",
        ),
        ({"class_name": "BinaryAccuracy", "config": {"threshold": 0.3}}, "mse", "`((outputs > 0.3) == targets"),
        ({"class_name": "AUC", "config": {}}, "mse", "`torchmetrics.AUROC(task=…)`"),
        ({"class_name": "mine>Own", "config": {}}, "mse", "no counterpart here"),
    ],
)
def test_metrics(metric: Any, loss: str, code: str, tmp_path: Path) -> None:
    stored = {"optimizer": "sgd", "loss": loss, "metrics": [metric]}
    training = training_of(stored, json.loads(DENSE.to_json()), GRAPH)
    assert training is not None
    ((output, _, said),) = training.metrics
    assert output == ""
    assert said.startswith(code)


@pytest.mark.parametrize("seed", range(300))
def test_damaged_settings_make_no_damaged_code(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever a file says of the training: the code can be read by Python, and holds none of the file's text."""
    rng = random.Random(seed)
    evil = "');import os;os.system('x')#\n```\n|<script>"
    values = [None, True, -1, 0, 1e300, math.inf, math.nan, 10**400, evil, [], [evil], {}, {"class_name": evil}]
    stored: Any = {
        "optimizer": {
            "class_name": "Adam",
            "config": {
                "learning_rate": {
                    "class_name": "CosineDecay",
                    "config": {"initial_learning_rate": 0.1, "decay_steps": 5, "warmup_target": 0.2, "warmup_steps": 2},
                },
                "beta_1": 0.9,
                "clipnorm": 1.0,
                "weight_decay": 0.1,
            },
        },
        "loss": {"class_name": "CategoricalCrossentropy", "config": {"label_smoothing": 0.1, "from_logits": True}},
        "loss_weights": [0.5],
        "metrics": ["accuracy", {"class_name": "TopKCategoricalAccuracy", "config": {"k": 3}}],
    }

    def damaged(value: Any) -> Any:
        if rng.random() < 0.15:
            return rng.choice(values)
        if isinstance(value, dict):
            return {key: damaged(each) for key, each in value.items()}
        if isinstance(value, list):
            return [damaged(each) for each in value]
        return value

    config = json.loads(DENSE.to_json())
    stored = damaged(stored)
    training = training_of(stored if isinstance(stored, dict) else {}, config, GRAPH)
    if training is not None:
        ast.parse(training.code)
        shown = training.code + "".join(training.remarks) + "".join("".join(each) for each in training.metrics)
        assert "os.system" not in training.code
        assert "```" not in shown
        assert "<script" not in shown.replace("`", "") or "`" in shown


DENSE = dense("softmax")
GRAPH = graph_of(
    regspec.loads("regspec: 1\ninputs: {x: {shape: [4]}}\nlayers: [Dense: {units: 3, activation: softmax}]\n")
)
