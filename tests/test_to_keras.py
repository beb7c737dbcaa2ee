"""Models back in Keras: whole files, and code with weights beside it; loaded in Keras, and ported again."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import pytest
import torch

import regspec
from regspec.modules.building import graph_behind

from .layers.specs import inputs_of, outputs_of
from .layers.test_keras_code import made
from .test_keras_code import PRINTED, REFUSED_EXAMPLES, in_keras, trained

# Of Keras, when it loads and calls a model.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}:keras") for name in ("UserWarning", "DeprecationWarning")]

EXAMPLES = Path(__file__).parents[1] / "examples"

# Layers of one class in an order that is not Keras's: by depth it has 'late' last, and 'deep' before 'near'.
ORDER = """\
regspec: 1
name: order
data_format: channels_last
inputs: {left: {shape: [5]}, right: {shape: [5]}, other: {shape: [5]}}
layers:
  - Dense: {name: late, units: 5, inputs: other}
  - Dense: {name: near, units: 5, inputs: right, kernel_regularizer: l2}
  - Dense: {name: first, units: 5, inputs: left}
  - Dense: {name: deep, units: 5}
  - call: {name: again, layer: near}
  - Add: {name: sum, inputs: [again, late]}
  - Multiply: {name: product, inputs: [sum, near]}
outputs: {total: product, part: late}
"""
MASKED = """\
regspec: 1
name: masked
data_format: channels_last
inputs: {tokens: {shape: [7], dtype: int32}, more: {shape: [7], dtype: int32}}
layers:
  - Embedding: {name: words, input_dim: 11, output_dim: 6, mask_zero: true, inputs: tokens}
  - LSTM: {name: one, units: 6, return_sequences: true}
  - Embedding: {name: others, input_dim: 11, output_dim: 6, mask_zero: true, inputs: more}
  - LSTM: {name: two, units: 6, return_sequences: true}
  - Add: {name: sum, inputs: [one, two]}
  - GRU: {name: last, units: 3, recurrent_constraint: {max_norm: 2}, kernel_regularizer: {l1: 1e-2}}
"""
MODELS: dict[str, Any] = {**PRINTED, "order": ORDER, "masked": MASKED}


def filled(spec: regspec.ModelSpec) -> Any:
    """A model of a spec with random weights, in evaluation."""
    model = regspec.build(spec, seed=1).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.any() or parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.03
    return model


def is_alike(model: Any, loaded: keras.Model, inputs: list[torch.Tensor]) -> None:
    """Whether Keras's model gives the same outputs, penalties, and gradients of all that is trained."""
    ours = outputs_of(model(*inputs))
    given = loaded(inputs if len(inputs) > 1 else inputs[0], training=False)
    names = graph_behind(model).output_names
    theirs = keras.tree.flatten(given) if names is None else [given[name] for name in names]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
    ours_lost, lost = model.regularization_loss(), sum(loaded.losses, torch.zeros((), dtype=ours[0].dtype))
    torch.testing.assert_close(lost.to(ours_lost.dtype), ours_lost, rtol=1e-4, atol=1e-5)
    sums: list[float] = []
    for outputs, penalty, weights in (
        (ours, ours_lost, [each for each in model.parameters() if each.requires_grad]),
        (theirs, lost, [each.value for each in loaded.trainable_variables]),
    ):
        total = sum((x.square().mean() for x in outputs), penalty)
        found = torch.autograd.grad(total, weights, allow_unused=True)
        sums.append(sum(float(each.square().sum()) for each in found if each is not None))
    assert sums[1] == pytest.approx(sums[0], rel=1e-3)


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {*REFUSED_EXAMPLES}))
def test_there_and_back(name: str, tmp_path: Path) -> None:
    """In a file, and in code with its weights beside it."""
    spec = regspec.load(MODELS[name])
    model = filled(spec)
    inputs = inputs_of(spec, below=9)
    path = tmp_path / "model.keras"
    assert regspec.to_keras(model, path).files == (path,)
    is_alike(model, keras.models.load_model(path), inputs)
    again = regspec.port(path).build()
    state = {key: value for key, value in in_keras(model.state_dict()).items() if key in again.state_dict()}
    torch.testing.assert_close(again.state_dict(), state, rtol=0, atol=0)
    torch.testing.assert_close(outputs_of(again(*inputs)), outputs_of(model(*inputs)))
    torch.testing.assert_close(regspec.regularization_terms(again), in_keras(regspec.regularization_terms(model)))
    assert trained(again).items() <= in_keras(trained(model)).items()
    written = regspec.to_keras(model, tmp_path / "model.py")
    assert [each.name for each in written.files] == ["model.py", "model.weights.h5"]
    printed = made(written.files[0].read_text())
    printed.load_weights(written.files[1])
    is_alike(model, printed, inputs)


def test_one_model_gives_one_file(tmp_path: Path) -> None:
    """Whose config says what a person would write, and no more."""
    model = regspec.build(EXAMPLES / "mlp.yaml", seed=0)
    for name in ("a", "b"):
        regspec.to_keras(model, tmp_path / f"{name}.keras")
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        layers = json.loads(archive.read("config.json"))["config"]["layers"]
    assert layers[3]["class_name"] == "Dropout"
    assert layers[3]["config"] == {"rate": 0.2, "name": "dropout"}
