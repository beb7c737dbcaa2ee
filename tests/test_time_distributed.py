"""TimeDistributed of layers that read their batch: in Keras 3 one step after the other, in Keras 2 all at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from keras import layers
from torch import nn

import regspec

from .layers import reference
from .ported import check_gradients

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras, when it saves, and on masks that are destroyed

L2 = keras.regularizers.L2(0.1)


def normalized() -> Any:
    return layers.BatchNormalization(momentum=0.8, gamma_regularizer=L2, beta_regularizer=L2)


def spectral(layer: Any) -> Any:
    return layers.SpectralNormalization(layer, power_iterations=2)


MEMBERS: dict[str, tuple[Any, tuple[int | None, ...]]] = {
    "features": (normalized, (4, 3)),
    "images": (normalized, (4, 5, 6, 3)),
    "channels first": (lambda: layers.BatchNormalization(axis=1), (4, 5, 6, 3)),
    "any number of steps": (normalized, (None, 3)),
    "renorm": (lambda: layers.BatchNormalization(renorm=True), (4, 3)),
    "frozen": (lambda: layers.BatchNormalization(trainable=False), (4, 3)),
    "of steps of steps": (lambda: layers.TimeDistributed(normalized()), (2, 4, 3)),
    "a kernel": (lambda: spectral(layers.Dense(5, kernel_regularizer=L2)), (4, 3)),
    "a kernel of images": (lambda: spectral(layers.Conv2D(4, (3, 2), activation="relu")), (4, 5, 6, 3)),
    "a kernel of steps of steps": (lambda: layers.TimeDistributed(spectral(layers.Dense(5))), (2, 4, 3)),
    "a penalty inside": (lambda: spectral(layers.Dense(5, activity_regularizer=L2)), (4, 3)),
    "a penalty in steps of steps": (
        lambda: layers.TimeDistributed(spectral(layers.Dense(5, activity_regularizer=L2))),
        (2, 4, 3),
    ),
    "a penalty in both directions": (
        lambda: layers.Bidirectional(layers.LSTM(5, activity_regularizer=L2, return_sequences=True)),
        (4, 6, 3),
    ),
    "a penalty in one direction": (
        lambda: layers.Bidirectional(
            layers.GRU(5), backward_layer=layers.GRU(5, activity_regularizer=L2, go_backwards=True)
        ),
        (4, 6, 3),
    ),
}


MASKED = ("features", "any number of steps", "frozen", "a kernel")  # which a mask of Keras's fits


@pytest.mark.parametrize(
    ("name", "is_masked"), [*((name, False) for name in MEMBERS), *((name, True) for name in MASKED)]
)
def test_one_step_after_the_other(name: str, is_masked: bool, tmp_path: Path) -> None:
    """In training, several times: outputs, penalties, and what the layer keeps."""
    make, shape = MEMBERS[name]
    x = keras.Input(shape)
    model = keras.Model(x, layers.TimeDistributed(make(), name="steps")(layers.Masking()(x) if is_masked else x))
    reference.fill(model, 1)
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    ported = port.build().train()
    for seed in range(3):
        inputs = torch.randn(6, *(size or 7 for size in shape), generator=torch.Generator().manual_seed(seed))
        if is_masked:
            inputs[0, 2:] = inputs[1, 1] = inputs[3:, 3] = 0
        wanted, got = model(inputs, training=True), ported(inputs)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(regspec.regularization_loss(ported), sum(model.losses, torch.zeros(())))
    model.save(tmp_path / "trained.keras")
    for path, array in regspec.port(tmp_path / "trained.keras").weights.items():
        torch.testing.assert_close(ported.state_dict()[path], torch.as_tensor(array), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ported.eval()(inputs), model(inputs), rtol=1e-4, atol=1e-5)


def test_gradients(tmp_path: Path) -> None:
    """Of a batch normalization, and of what lies before and after it."""
    x = keras.Input((4, 3))
    model = keras.Model(x, layers.Dense(2)(layers.TimeDistributed(normalized())(layers.Dense(5)(x))))
    reference.fill(model, 1)
    model.save(tmp_path / "model.keras")
    ported, inputs = regspec.port(tmp_path / "model.keras").build().train(), torch.randn(6, 4, 3)
    own = [each.value for each in model.trainable_variables]
    wanted = torch.autograd.grad(model(inputs, training=True).square().mean() + sum(model.losses), own)
    trained = dict(ported.named_parameters())
    got = torch.autograd.grad(ported(inputs).square().mean() + regspec.regularization_loss(ported), [*trained.values()])
    check_gradients(trained, [*got], own, [*wanted])


def test_images_of_one_step_share_a_histogram() -> None:
    """An equalization counts the pixels of its batch."""
    layer = layers.TimeDistributed(layers.Equalization(value_range=(0, 255)))
    text = """
regspec: 1
data_format: channels_last
inputs: {x: {shape: [4, 5, 6, 3]}}
layers: [{TimeDistributed: {layer: {Equalization: {}}}}]
"""
    inputs = torch.randint(0, 256, (2, 4, 5, 6, 3)).float() * torch.linspace(0.1, 1, 4).view(4, 1, 1, 1)
    model = regspec.build(regspec.loads(text)).train()
    torch.testing.assert_close(model(inputs), layer(inputs, training=True), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "layer", ["Dropout: {rate: 0.5, noise_shape: [1, 50]}", "AlphaDropout: {rate: 0.5, noise_shape: [1, 50]}"]
)
def test_a_batch_shares_the_noise_of_a_step(layer: str) -> None:
    text = f"regspec: 1\ninputs: {{x: {{shape: [3, 50]}}}}\nlayers: [{{TimeDistributed: {{layer: {{{layer}}}}}}}]"
    out = regspec.build(regspec.loads(text)).train()(torch.ones(4, 3, 50))
    assert torch.equal(out[0], out[1])
    assert not torch.equal(out[:, 0], out[:, 1])


class Counting(nn.Module):
    """Subtracts the mean of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x - x.mean(0)


@pytest.mark.usefixtures("_registry")
def test_a_module_of_the_user_s() -> None:
    """Whether it reads its batch is not known; so it has one step after the other."""
    regspec.register_layer(Counting, name="CountingSteps", output_shape=lambda shape: shape)
    text = "regspec: 1\ninputs: {x: {shape: [3, 5]}}\nlayers: [{TimeDistributed: {name: t, layer: CountingSteps}}]"
    model, inputs = regspec.build(regspec.loads(text)), torch.randn(4, 3, 5)
    torch.testing.assert_close(model(inputs), inputs - inputs.mean(0))
    assert model.t.calls == 3


def keras_2(inner: dict[str, Any]) -> dict[str, Any]:
    """A model as tf.keras 2 writes it."""
    config = {"name": "steps", "trainable": True, "batch_input_shape": [None, 4, 3], "dtype": "float32", "layer": inner}
    return {
        "class_name": "Sequential",
        "keras_version": "2.9.0",
        "backend": "tensorflow",
        "config": {"name": "m", "layers": [{"class_name": "TimeDistributed", "config": config}]},
    }


@pytest.mark.parametrize("version", ["2.9.0", "2.2.4", "1.2.2"])
def test_all_steps_at_once(version: str, tmp_path: Path) -> None:
    """Keras 1 and 2 put the steps side by side: tf_keras/layers/rnn/time_distributed.py, `_always_use_reshape`."""
    own = {"name": "b", "trainable": True, "dtype": "float32", "axis": [1], "momentum": 0.9, "epsilon": 0.001}
    if version.startswith("1"):
        own = {**own, "axis": -1, "mode": 0}
        own |= {"gamma_regularizer": None, "beta_regularizer": None}
    config = {**keras_2({"class_name": "BatchNormalization", "config": own}), "keras_version": version}
    if version.startswith("1"):
        config["config"] = config["config"]["layers"]
    (tmp_path / "model.json").write_text(json.dumps(config))
    port = regspec.port(tmp_path / "model.json")
    assert "steps_at_once: true" in port.text
    model, inputs = port.build().train(), torch.randn(6, 4, 3)
    mean, variance = inputs.mean((0, 1)), inputs.var((0, 1), correction=0)
    torch.testing.assert_close(model(inputs), (inputs - mean) / (variance + 1e-3).sqrt(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.steps.running_mean, 0.1 * mean)
    with pytest.raises(regspec.RegspecError, match="has steps_at_once: True, which Keras's TimeDistributed"):
        regspec.source(port.spec, target="keras")


def test_a_penalty_inside_is_a_mean_over_all_steps_before_keras_3(tmp_path: Path) -> None:
    """Of Keras 3, see `MEMBERS`: there it is the sum of each step's own."""
    gated = {
        "name": "gated",
        "units": 5,
        "reset_after": True,
        "activity_regularizer": {"class_name": "L2", "config": {"l2": 0.1}},
    }
    inner = {"name": "b", "merge_mode": "concat", "layer": {"class_name": "GRU", "config": gated}}
    config = keras_2({"class_name": "Bidirectional", "config": inner})
    config["config"]["layers"][0]["config"]["batch_input_shape"] = [None, 4, 6, 3]
    (tmp_path / "model.json").write_text(json.dumps(config))
    model = regspec.port(tmp_path / "model.json").build()
    y = model(torch.randn(7, 4, 6, 3)).detach()
    torch.testing.assert_close(regspec.regularization_loss(model), 0.1 * y.square().sum() / (7 * 4))


def test_layers_that_do_not_read_their_batch_are_as_they_were() -> None:
    inputs = "{x: {shape: [3, 5, 4], axes: [steps, length, features]}}"
    text = f"regspec: 1\ninputs: {inputs}\nlayers: [{{TimeDistributed: {{layer: {{LSTM: {{units: 2}}}}}}}}]"
    assert "for step in" not in regspec.source(regspec.loads(text))


@pytest.mark.parametrize("shape", [(4, 8, 3, 6, 5), (1, 5, 3, 6, 5), (2, 12, 3, 6, 5)])
def test_another_number_of_steps_keeps_examples_apart(shape: tuple[int, ...]) -> None:
    """The steps of an input are those that it has, and not those that the spec says: examples are never merged."""
    layers = (
        "  - TimeDistributed: {layer: {Conv2D: {filters: 2, kernel_size: 3}}}\n  - TimeDistributed: {layer: Flatten}\n"
    )
    model = regspec.build(f"regspec: 1\ninputs: {{x: {{shape: [16, 3, 6, 5]}}}}\nlayers:\n{layers}")
    x = torch.randn(shape)
    (conv,) = (part for part in model.modules() if isinstance(part, nn.Conv2d))
    expected = torch.stack([conv(x[:, step]).flatten(1) for step in range(shape[1])], 1)
    torch.testing.assert_close(model(x), expected)
