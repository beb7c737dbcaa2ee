"""Modules that were changed after they were built, back in Keras: what is trained of them now, and which penalties."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import torch

import regspec

from .test_keras_code import in_keras, trained
from .test_to_keras import is_alike

# Of Keras, when it loads and calls a model.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}:keras") for name in ("UserWarning", "DeprecationWarning")]

ALTERED = """\
regspec: 1
data_format: channels_last
inputs: {x: {shape: [6, 4]}}
blocks:
  body:
    layers:
      - Dense: {name: a, units: 4, kernel_regularizer: [{l1: 0.1}, {l2: 0.2}], activity_regularizer: {l2: 0.3}}
      - BatchNormalization: {name: norm}
layers:
  - body: {name: first}
  - body: {name: second, repeat: 2}
  - MultiHeadAttention: {name: heads, num_heads: 2, key_dim: 3, kernel_regularizer: l2, inputs: [second_2, second_2]}
  - Bidirectional: {name: both, layer: {LSTM: {units: 3, recurrent_regularizer: {l2: 0.1}}}}
  - Dense: {name: b, units: 2, trainable: false, kernel_regularizer: l2}
  - Dense: {name: c, units: 2, kernel_regularizer: {l1: 0.1, schedule: {warmup: 5}}}
"""
UNSCHEDULED = ALTERED.replace(", schedule: {warmup: 5}", "")
HEADS = ("query", "key", "value", "attention_output")
# What is done to a module that Keras can say: it is in the file.
WRITTEN: dict[str, Callable[[Any], object]] = {
    "frozen": lambda m: [m.first.a.requires_grad_(False), m.second[1].a.requires_grad_(False)],
    "freed": lambda m: m.b.requires_grad_(True),
    "strengths": lambda m: [
        m.set_strength("first.a.kernel.l2", 0.5),
        *(m.set_strength(f"second.0.a.kernel.l{each}", 0.7) for each in (1, 2)),
        m.set_strength("second.1.a.activity.l2", 0.0),
        *(m.set_strength(f"heads.{each}.kernel.l2", 0.4) for each in HEADS),
    ],
    "penalties": lambda m: regspec.regularize(
        m,
        [
            {"parameters": ["first.a.bias"], "regularizer": {"l1": 0.3}},
            {"parameters": ["second.0.a.bias"], "regularizer": {"l1": 0.3, "l2": 1.5}},
        ],
    ),
    "all": lambda m: [m.first.a.requires_grad_(False), m.set_strength("second.0.a.kernel.l1", 3.0)],
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_was_done_to_a_module_is_written(name: str, tmp_path: Path) -> None:
    """What Keras loads trains the same weights, by the same penalties, and so does a port of it."""
    model = regspec.build(UNSCHEDULED, seed=0)
    before = regspec.to_keras(model, tmp_path / "a.keras").files[0].read_bytes()
    WRITTEN[name](model)
    model.eval()
    path = regspec.to_keras(model, tmp_path / "b.keras").files[0]
    assert path.read_bytes() != before
    x = torch.randn(3, 6, 4)
    is_alike(model, keras.models.load_model(path), [x])
    again = regspec.port(path).build()
    again(x)
    torch.testing.assert_close(regspec.regularization_loss(again), regspec.regularization_loss(model))
    assert trained(again) == in_keras(trained(model))


# What is done that Keras can't say, and what is said of it; with lossy it is left out.
LEFT: dict[str, tuple[Callable[[Any], object], str]] = {
    "in part": (
        lambda m: m.first.a.bias.requires_grad_(False),
        "'first.a.bias' is frozen, and by the spec it is trained",
    ),
    "freed in part": (
        lambda m: m.b.bias.requires_grad_(True),
        "'b.bias' is trained, and by the spec it is not",
    ),
    "with averages": (  # which a frozen layer of Keras does not follow
        lambda m: m.first.norm.weight.requires_grad_(False),
        "'first.norm.weight' is frozen, and by the spec it is trained",
    ),
    "of a penalized weight": (
        lambda m: regspec.regularize(m, [{"parameters": ["first.a.weight"], "regularizer": {"l1": 0.3}}]),
        "the penalty first.a.weight.l1 is 0.3 in the module and absent in its spec",
    ),
    "what Keras trains": (
        lambda m: m.heads.requires_grad_(False),
        "heads is frozen, and Keras trains what MultiHeadAttention makes itself",
    ),
    "in a wrapper": (
        lambda m: m.set_strength("both.forward.recurrent.l2", 0.4),
        "both has a penalty on forward.recurrent by a rule, which Keras's Bidirectional does not take",
    ),
    "other penalty": (
        lambda m: regspec.regularize(m, [{"parameters": ["first.a.bias"], "regularizer": {"hoyer": 0.3}}]),
        "the penalty first.a.bias.hoyer is 0.3 in the module and absent in its spec",
    ),
    "one of heads": (
        lambda m: m.set_strength("heads.query.kernel.l2", 0.4),
        "heads has a penalty on query.kernel by a rule",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_was_done_to_a_module_and_is_not_written(name: str, tmp_path: Path) -> None:
    change, told = LEFT[name]
    model = regspec.build(UNSCHEDULED, seed=0)
    change(model)
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.to_keras(model, tmp_path / "a.keras")
    assert [each.what for each in raised.value.problems if not each.what.startswith(told)] == []
    assert [
        each for each in regspec.to_keras(model, tmp_path / "a.keras", lossy=True).left_out if told not in each
    ] == []


def test_a_penalty_with_a_schedule_is_listed_once(tmp_path: Path) -> None:
    """Whatever its strength is now, and whatever was set."""
    model = regspec.build(ALTERED, seed=0)
    model.set_schedules(3, 1)
    model.set_strength("c.kernel.l1", 0.7)
    (told,) = regspec.to_keras(model, tmp_path / "a.keras", lossy=True).left_out
    assert told.startswith("c has the regularizer l1 0.1")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: torch.nn.utils.parametrizations.spectral_norm(m.b), "'b.weight' of the Model is another"),
        (lambda m: setattr(m, "b", torch.nn.Linear(4, 5)), "'b.weight' of the Model is another"),
        (lambda m: m.to("meta"), "'first.a.weight' of the Model has no numbers"),
    ],
)
def test_a_module_with_other_weights(change: Callable[[Any], object], told: str, tmp_path: Path) -> None:
    model = regspec.build(ALTERED, seed=0)
    change(model)
    state = torch.get_rng_state()
    with pytest.raises(regspec.RegspecError, match=told):
        regspec.to_keras(model, tmp_path / "a.keras", lossy=True)
    assert torch.equal(torch.get_rng_state(), state)
