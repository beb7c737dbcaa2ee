"""Inputs that nothing uses: the signature keeps them, where the spec says so."""

from __future__ import annotations

import inspect
from pathlib import Path

import keras
import pytest
import torch
from keras import layers

import regspec

from .alone import alone
from .layers import reference
from .layers.test_keras_code import made
from .ported import agrees

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Keras, when it saves
]

SPEC = """
regspec: 1
name: model
data_format: channels_last
inputs:
  a: {shape: [3]}
  b: {shape: [5, 6, 2], unused: true}
  c: {shape: [4], dtype: int32, unused: true}
blocks:
  inner:
    inputs: [x, y]
    unused: [y]
    layers:
      - Dense: {name: dense, units: 2, inputs: x, kernel_regularizer: l2}
layers:
  - inner: {name: first, inputs: [a, a]}
"""


def test_a_spec_by_hand(tmp_path: Path) -> None:
    """Taken in order by the module, its source, the standalone source, and the model in Keras."""
    spec = regspec.loads(SPEC)
    model = regspec.build(spec, seed=0)
    assert [*inspect.signature(model.forward).parameters] == ["a", "b", "c"]
    given = torch.randn(7, 3), torch.randn(7, 5, 6, 2), torch.ones(7, 4, dtype=torch.int32)
    wanted = given[0] @ model.first.dense.weight.T + model.first.dense.bias
    torch.testing.assert_close(model(*given), wanted)
    twin = alone(spec, "Model")
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(twin(*given), wanted)
    in_keras = made(regspec.source(spec, target="keras"))
    assert [x.name for x in in_keras.inputs] == ["a", "b", "c"]
    reference.fill(in_keras, 1)
    in_keras.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    assert [*port.spec.inputs] == ["a", "b", "c"]
    assert (port.spec.inputs["b"].unused, port.spec.inputs["c"].dtype) == (True, "int32")
    agrees(in_keras, port, inputs=[*given])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (", unused: true}\n  c", "}\n  c", "nothing uses the input 'b'"),
        (", unused: true}\n  c", "}\n  c", "say 'unused: true' at it"),
        ("    unused: [y]\n", "", "say 'unused: [y]' at the block"),
        ("[a, a]", "[a, c]", "the input 'c' is used, but says that it is unused"),
        ("inputs: x,", "inputs: y,", "the input 'y' is used, but says that it is unused"),
        ("unused: [y]", "unused: [yy]", "'yy' is no input of the block"),
    ],
)
def test_what_is_wrong(old: str, new: str, message: str) -> None:
    assert old in SPEC
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.loads(SPEC.replace(old, new))
    assert message in str(raised.value)


@pytest.mark.parametrize("form", ["keras", "h5", "json"])
def test_a_port_with_channels_first_takes_them(form: str, tmp_path: Path) -> None:
    image, other = keras.Input((5, 6, 2), name="image"), keras.Input((4, 7, 3), name="other")
    vector = keras.Input((3,), name="vector")
    y = layers.Flatten()(layers.Conv2D(4, 3)(image))
    model = keras.Model([other, image, vector], layers.Dense(2)(y))
    path = tmp_path / f"model.{form}"
    if form == "json":
        path.write_text(model.to_json())
        model.save_weights(tmp_path / "model.weights.h5")
    else:
        model.save(path)
    port = regspec.port(
        path, weights=tmp_path / "model.weights.h5" if form == "json" else None, data_format="channels_first"
    )
    assert {name: each.shape for name, each in port.spec.inputs.items()} == {
        "other": (3, 4, 7),
        "image": (2, 5, 6),
        "vector": (3,),
    }
    assert {note.split("'")[1] for note in port.notes if "nothing uses the input" in note} == {"other", "vector"}
    agrees(model, port, inputs=[torch.randn(2, 4, 7, 3), torch.randn(2, 5, 6, 2), torch.randn(2, 3)])
    assert port.verify().passed
    port.save(tmp_path / "ported")
    assert "unused: true" in (tmp_path / "ported" / "spec.yaml").read_text()
