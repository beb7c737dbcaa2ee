"""How a model was trained, in a file of Keras: optimizers, losses and metrics as Keras compiles them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest
import torch

import regspec
from regspec.graph.loading import graph_of
from regspec.keras.training.compiling import Learned, compiled_of
from regspec.keras.training.schedules import Schedule
from regspec.keras.training.schedules import schedule_of as schedule_in
from regspec.keras.writing.exporting import contents_in_keras
from regspec.training.loop.rates import schedule_of

from .test_to_keras import filled

# Of Keras, when it loads and calls a model.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}:keras") for name in ("UserWarning", "DeprecationWarning")]

# Options of a training file, of a model with two outputs; what they are in Keras, and when that is read again.
TRAINED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "adam": ("keras_adam", {"betas": (0.8, 0.9), "eps": 1e-5, "weight_decay": 0.02}, {"clip_gradients": 2.0}),
    "sgd": ("sgd", {"momentum": 0.9, "nesterov": True}, {"clip_gradients": 0.5, "clip_by": "value"}),
    "rmsprop": ("keras_rmsprop", {"alpha": 0.8, "eps": 1e-6, "centered": True}, {"accumulate": 3}),
    "lion": ("keras_lion", {"betas": (0.9, 0.95)}, {"ema": 0.99}),
}
TWO = """\
{regspec: 1, name: two, inputs: {x: {shape: [4]}}, outputs: [kind, size], layers: [
  Dense: {name: body, units: 5}, Dense: {name: kind, units: 3, activation: softmax},
  Dense: {name: size, inputs: body, units: 2}]}
"""


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer:UserWarning")  # which begins anew
@pytest.mark.parametrize("name", TRAINED)
def test_how_it_was_trained(name: str, tmp_path: Path) -> None:
    """Keras has the same losses, and a port of the file reads the same options."""
    optimizer, arguments, options = TRAINED[name]
    learned = [
        Learned("kind", "cross_entropy", "classes", takes_probabilities=True, metrics=["accuracy"]),
        Learned("size", "huber", "quantities", takes_probabilities=False, arguments={"delta": 0.5}, weight=2.0),
    ]
    said = {"lr": 0.25, "clip_by": "norm", **options}
    model = filled(regspec.loads(TWO))
    compiled = compiled_of(optimizer, arguments, said, learned)
    assert compiled.unsaid == ()
    found, _ = contents_in_keras(graph_of(TWO), model, "keras", compiled=compiled)
    path = tmp_path / "two.keras"
    path.write_bytes(found[".keras"])
    x, kinds, sizes = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 1]), torch.randn(6, 2)
    loss = keras.models.load_model(path).evaluate(x.numpy(), [kinds.numpy(), sizes.numpy()], verbose=0)[0]
    kind, size = model(x)
    wanted = torch.nn.functional.nll_loss(kind.log(), kinds) + 2 * torch.nn.functional.huber_loss(
        size, sizes, delta=0.5
    )
    assert loss == pytest.approx(wanted.item(), rel=1e-4)
    training = regspec.port(path).training
    assert training["outputs"] == {
        "kind": {"loss": "cross_entropy", "metrics": ["accuracy"]},
        "size": {"loss": "huber", "delta": 0.5, "weight": 2.0},
    }
    ((again, own),) = training["optimizer"].items()
    assert again == optimizer
    assert {**own, "betas": tuple(own.get("betas", ()))}.items() >= arguments.items()
    assert training.items() >= {"lr": 0.25, **options}.items()


SCHEDULES: dict[str, tuple[Schedule, dict[str, Any]]] = {
    "exponential": (Schedule("exponential", {"gamma": 0.9}), {"exponential": {"gamma": 0.9, "by": "steps"}}),
    "epochs": (
        Schedule("exponential", {"gamma": 0.5}, 4),
        {"step": {"step_size": 4, "gamma": 0.5, "by": "steps"}},
    ),
    "step": (
        Schedule("step", {"step_size": 2}, 3),
        {"step": {"step_size": 6, "gamma": 0.1, "by": "steps"}},
    ),
    "milestones": (
        Schedule("multi_step", {"milestones": (2, 5), "gamma": 0.5}, 2),
        {"piecewise_constant": {"boundaries": [3, 9], "factors": [1.0, 0.5, 0.25]}},
    ),
    "pieces": (
        Schedule("piecewise_constant", {"boundaries": (2, 5), "factors": (1.0, 0.5, 2.0)}),
        {"piecewise_constant": {"boundaries": [2, 5], "factors": [1.0, 0.5, 2.0]}},
    ),
    "polynomial": (
        Schedule("polynomial_decay", {"steps": 7, "power": 2.0, "end": 0.1, "cycle": True}),
        {"polynomial_decay": {"steps": 7, "power": 2.0, "end": 0.1, "cycle": True}},
    ),
    "line": (Schedule("linear_decay", {"end": 0.2}, 1, 9), {"linear_decay": {"steps": 9, "end": 0.2}}),
    "inverse time": (
        Schedule("inverse_time_decay", {"rate": 0.5, "steps": 3, "staircase": True}),
        {"inverse_time_decay": {"rate": 0.5, "steps": 3, "staircase": True}},
    ),
    "cosine": (Schedule("cosine", {"end": 0.1}, 1, 8), {"cosine": {"steps": 8, "end": 0.1}}),
    "rise": (
        Schedule("cosine", {"warmup": 3, "begin": 0.25, "steps": 4}),
        {"cosine": {"steps": 4, "warmup": 3, "begin": 0.25}},
    ),
    "restarts": (
        Schedule("cosine_restarts", {"steps": 3, "m_mul": 0.5}),
        {"cosine_restarts": {"steps": 3, "t_mul": 2.0, "m_mul": 0.5, "end": 0.0}},
    ),
}
ONE = Learned("y", "mse", "quantities", takes_probabilities=False)
RATE = 0.2


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    """Keras's rate at each step is that of the training, and a port reads the schedule again."""
    schedule, again = SCHEDULES[name]
    compiled = compiled_of("keras_adam", {}, {"lr": RATE}, [ONE], schedule)
    assert compiled.unsaid == ()
    stored = compiled.config["optimizer"]["config"]["learning_rate"]
    theirs = keras.optimizers.schedules.deserialize(stored)
    text = " ".join([schedule.name, *(f"{key}={value}" for key, value in schedule.arguments.items())])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    total = schedule.total or 20
    scheduler = schedule_of(text).of(optimizer, total)
    for step in range(total):
        assert float(theirs(step)) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-5), step
        if (step + 1) % (schedule.period or 1) == 0:
            optimizer.step()
            scheduler.step()
    rate, read = schedule_in(stored)
    assert (rate, read) == (RATE, again)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule("one_cycle", {}),
        Schedule("exponential", {"gamma": 0.5}, None),  # of epochs whose steps are not known
        Schedule("cosine", {}),  # of a run whose steps are not known
        Schedule("cosine", {"warmup": 3}, 1, 9),  # whose first step has a third of the rate
        Schedule("linear_decay", {"warmup": 3}, 1, 9),
        Schedule("multi_step", {"milestones": (0, 2)}),
    ],
)
def test_schedules_that_keras_lacks(schedule: Schedule) -> None:
    """The rate is said, and the schedule listed."""
    compiled = compiled_of("keras_adam", {}, {"lr": RATE}, [ONE], schedule)
    assert compiled.config["optimizer"]["config"]["learning_rate"] == RATE
    assert compiled.unsaid == (f"the schedule {schedule.name} of the learning rate, which Keras does not have so",)


SO = "so that the file does not say how it was trained"


@pytest.mark.parametrize(
    ("optimizer", "arguments", "told"),
    [
        ("adadelta", {}, "the optimizer adadelta, which Keras does not have"),
        ("sgd", {"weight_decay": 0.1}, "the optimizer sgd with weight_decay, which Keras does not have"),
        ("sgd", {"momentum": 0.9, "dampening": 0.1}, "the optimizer sgd with dampening, which Keras does not have"),
        ("adamw", {"maximize": True}, "the optimizer adamw with maximize, which Keras does not have"),
        ("adam", {"decoupled_weight_decay": True}, "the optimizer adam with decoupled_weight_decay"),
    ],
)
def test_optimizers_that_keras_lacks(optimizer: str, arguments: dict[str, Any], told: str) -> None:
    compiled = compiled_of(optimizer, arguments, {"lr": 0.1}, [ONE])
    assert compiled.config == {}
    assert compiled.unsaid[0].startswith(told)
    assert compiled.unsaid[0].endswith(SO)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"loss": "dice"}, "the loss dice, which Keras does not have with these arguments"),
        # Keras smooths labels where classes are one-hot, and not where they are numbers
        (
            {"loss": "cross_entropy", "kind": "classes", "units": 3, "arguments": {"label_smoothing": 0.1}},
            "the loss cross_entropy, which Keras does not have with these arguments",
        ),
        ({"loss": "mse", "ignored": 2}, "the loss mse, which Keras does not have with these arguments"),
        ({"unsaid": ["scaled targets"]}, "the loss mse with scaled targets, which Keras does not have"),
    ],
)
def test_losses_that_keras_lacks(changes: dict[str, Any], told: str) -> None:
    compiled = compiled_of("keras_adam", {}, {"lr": 0.1}, [replace(ONE, **changes)])
    assert (compiled.config, compiled.unsaid) == ({}, (f"{told}, {SO}",))


def test_places_that_do_not_count_and_one_unit_for_two_classes() -> None:
    """Keras's losses of numbers that are worked out by hand."""
    learned = Learned("y", "cross_entropy", "classes", takes_probabilities=True, units=3, ignored=2, weight=2.0)
    shares, classes = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]), torch.tensor([0, 1, 2])
    wanted = 2 * -(torch.tensor([0.5, 0.8]).log().sum()) / 2
    assert _loss_of(learned, shares, classes) == pytest.approx(wanted.item(), rel=1e-5)
    learned = Learned("y", "cross_entropy", "classes", takes_probabilities=False, units=1)
    scores, two = torch.tensor([[2.0], [-1.0]]), torch.tensor([1, 1])
    wanted = torch.nn.functional.softplus(-scores).mean()
    assert _loss_of(learned, scores, two) == pytest.approx(wanted.item(), rel=1e-5)


def _loss_of(learned: Learned, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """What Keras says of the loss of an output that is the input."""
    inputs = keras.Input(outputs.shape[1:])
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    model.compile_from_config(compiled_of("sgd", {}, {"lr": 0.1}, [learned]).config)
    found = model.evaluate(outputs.numpy(), targets.numpy(), verbose=0)
    return float(found[0] if isinstance(found, list) else found)


@pytest.mark.parametrize(
    ("optimizer", "arguments", "wanted"),
    [
        ("adamw", {"weight_decay": 0.0}, {"weight_decay": 0.0}),  # Keras's own is 0.004
        ("adam", {"betas": (0.0, 0.99)}, {"beta_1": 0.0, "beta_2": 0.99}),
        ("keras_rmsprop", {"alpha": 0.0}, {"rho": 0.0}),
        ("adam", {"fused": True, "foreach": False}, {"epsilon": 1e-8}),  # how torch computes it is not Keras's
    ],
)
def test_arguments_of_optimizers(optimizer: str, arguments: dict[str, Any], wanted: dict[str, float]) -> None:
    learned = Learned("y", "mse", "quantities", takes_probabilities=False)
    compiled = compiled_of(optimizer, arguments, {"lr": 0.1}, [learned]).config
    assert keras.optimizers.deserialize(compiled["optimizer"]).get_config().items() >= wanted.items()


WORDS = ["accuracy", "top_5", "precision", "recall", "auroc", "f1", "iou"]
# The numbers of an output that gives its input, and what Keras says beside the loss, by the words of a training file.
SCORES: dict[str, tuple[Learned, Any, Any, dict[str, float]]] = {
    "classes": (
        Learned("y", "cross_entropy", "classes", takes_probabilities=False, metrics=WORDS),
        [[3.0, 2, 1, 0, -1, -2], [0.0, 1, 2, 3, 4, 5]],
        [0, 0],
        {"accuracy": 0.5, "top_5": 0.5},
    ),
    "labels": (  # of which Keras counts all at once, and a run takes the mean over them
        Learned("y", "binary_cross_entropy", "labels", takes_probabilities=True, metrics=WORDS),
        [[0.9, 0.8], [0.1, 0.2]],
        [[1, 0], [0, 1]],
        {"accuracy": 0.5},
    ),
    "label": (  # of (positive, negative) 3 of 4 pairs are in order
        Learned("y", "binary_cross_entropy", "labels", takes_probabilities=True, metrics=WORDS),
        [[0.9], [0.8], [0.1], [0.2]],
        [[1], [0], [0], [1]],
        {"accuracy": 0.5, "precision": 0.5, "recall": 0.5, "auroc": 0.75},
    ),
    "two classes": (
        Learned("y", "cross_entropy", "classes", takes_probabilities=True, metrics=WORDS),
        [[0.9], [0.8], [0.1], [0.2]],
        [1, 0, 0, 1],
        {"accuracy": 0.5, "precision": 0.5, "recall": 0.5, "auroc": 0.75},
    ),
    "logits": (  # which Keras compares with 0.5, as if they were probabilities
        Learned("y", "binary_cross_entropy", "labels", takes_probabilities=False, metrics=WORDS),
        [[0.4], [-3.0]],
        [[1], [0]],
        {},
    ),
}


@pytest.mark.parametrize("name", SCORES)
def test_metrics(name: str) -> None:
    """Those of them that Keras computes alike; the others are listed."""
    learned, outputs, targets, wanted = SCORES[name]
    x, y = torch.tensor(outputs), torch.tensor(targets)
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    compiled = compiled_of("sgd", {}, {"lr": 0.1}, [replace(learned, units=x.shape[-1])])
    assert [each.split()[2].strip(",") for each in compiled.unsaid] == [word for word in WORDS if word not in wanted]
    model.compile_from_config(compiled.config)
    found = model.evaluate(x.numpy(), y.numpy(), verbose=0)
    assert (found[1:] if wanted else []) == pytest.approx([*wanted.values()], abs=1e-2)
    assert wanted or isinstance(found, float)
