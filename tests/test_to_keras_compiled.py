"""How a model was trained, in a file of Keras: optimizers, losses and metrics as Keras compiles them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
import torch

import regspec
from regspec.graph.loading import graph_of
from regspec.keras.training.compiling import Learned, compiled_of
from regspec.keras.writing.exporting import contents_in_keras

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
    found, _ = contents_in_keras(graph_of(TWO), model.state_dict(), "keras", compiled=compiled)
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


@pytest.mark.parametrize(
    ("optimizer", "arguments", "loss"),
    [
        ("adadelta", {}, "mse"),
        ("sgd", {"weight_decay": 0.1}, "mse"),
        ("sgd", {"momentum": 0.9, "dampening": 0.1}, "mse"),
        ("adamw", {"maximize": True}, "mse"),
        ("adam", {"decoupled_weight_decay": True}, "mse"),
        ("keras_adam", {}, "dice"),
    ],
)
def test_what_keras_can_not_compile_is_not_said(optimizer: str, arguments: dict[str, Any], loss: str) -> None:
    learned = Learned("y", loss, "quantities", takes_probabilities=False)
    assert compiled_of(optimizer, arguments, {"lr": 0.1}, [learned]) == {}


def test_classes_with_smoothed_labels_are_not_said() -> None:
    """Keras smooths labels where classes are one-hot, and not where they are numbers."""
    arguments = {"label_smoothing": 0.1}
    learned = Learned("y", "cross_entropy", "classes", takes_probabilities=False, arguments=arguments)
    assert compiled_of("keras_adam", {}, {"lr": 0.1}, [learned]) == {}


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
    compiled = compiled_of(optimizer, arguments, {"lr": 0.1}, [learned])
    assert keras.optimizers.deserialize(compiled["optimizer"]).get_config().items() >= wanted.items()


WORDS = ["accuracy", "top_5", "precision", "recall", "auroc", "f1", "iou"]
# The numbers of an output that gives its input, and what Keras says beside the loss, by the words of a training file.
SCORES: dict[str, tuple[Learned, Any, Any, list[float]]] = {
    "classes": (
        Learned("y", "cross_entropy", "classes", takes_probabilities=False, metrics=WORDS),
        [[3.0, 2, 1, 0, -1, -2], [0.0, 1, 2, 3, 4, 5]],
        [0, 0],
        [0.5, 0.5],  # accuracy and top_5
    ),
    "labels": (
        Learned("y", "binary_cross_entropy", "labels", takes_probabilities=True, metrics=WORDS),
        [[0.9, 0.8], [0.1, 0.2]],
        [[1, 0], [0, 1]],
        [0.5, 0.5, 0.5, 0.75],  # accuracy, precision, recall and auroc: of (positive, negative) 3 of 4 pairs
    ),
    "logits": (
        Learned("y", "binary_cross_entropy", "labels", takes_probabilities=False, metrics=WORDS),
        [[0.4], [-3.0]],
        [[1], [0]],
        [],  # Keras compares with 0.5 what is no probability
    ),
}


@pytest.mark.parametrize("name", SCORES)
def test_metrics(name: str) -> None:
    """Those of them that Keras computes alike; others would stop its training."""
    learned, outputs, targets, wanted = SCORES[name]
    x, y = torch.tensor(outputs), torch.tensor(targets)
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    model.compile_from_config(compiled_of("sgd", {}, {"lr": 0.1}, [learned]))
    found = model.evaluate(x.numpy(), y.numpy(), verbose=0)
    assert (found[1:] if wanted else []) == pytest.approx(wanted, abs=1e-2)
    assert wanted or isinstance(found, float)
