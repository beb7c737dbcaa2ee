"""SpectralNormalization around tables of vectors: what Keras makes of whole numbers, and what was meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from keras import layers

import regspec

from .layers import reference

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves

MEMBERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "Embedding": (lambda: layers.SpectralNormalization(layers.Embedding(9, 4)), (5,)),
    "Embedding with a mask": (lambda: layers.SpectralNormalization(layers.Embedding(9, 4, mask_zero=True)), (5,)),
    "ReversibleEmbedding": (lambda: layers.SpectralNormalization(layers.ReversibleEmbedding(9, 4)), (5,)),
    "of steps": (lambda: layers.TimeDistributed(layers.SpectralNormalization(layers.Embedding(9, 4))), (3, 5)),
}


@pytest.mark.parametrize("keeps_quirks", [True, False])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize("name", MEMBERS)
def test_a_table_that_is_normalized(name: str, dtype: str, keeps_quirks: bool, tmp_path: Path) -> None:
    """In evaluation and in training, as it stands in Keras 3; without quirks the vectors are no whole numbers."""
    make, shape = MEMBERS[name]
    x = keras.Input(shape, dtype=dtype)
    model = keras.Model(x, layers.Dense(3)(make()(x)))
    reference.fill(model, 1)
    for variable in model.layers[1].weights:
        variable.assign(variable * 5)  # so that something is left of whole numbers
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras", keeps_quirks=keeps_quirks)
    assert any("is around an embedding" in note for note in port.notes)
    ported, tokens = port.build(), torch.randint(0, 9, (4, *shape)).to(getattr(torch, dtype))
    if keeps_quirks:
        assert port.verify().passed
    floating = keras.Input(shape)  # on which Keras cuts off nothing
    reference_model = model if keeps_quirks else keras.Model(floating, model.layers[2](model.layers[1](floating)))
    given = tokens if keeps_quirks else tokens.float()
    for training in (False, True, True):
        got = ported.train(training)(tokens)
        torch.testing.assert_close(got, reference_model(given, training=training), rtol=1e-4, atol=1e-5)


def test_in_keras_again() -> None:
    """Keras can't do otherwise than cut off."""
    text = """
regspec: 1
inputs: {x: {shape: [5], dtype: int32}}
layers:
  - SpectralNormalization: {layer: {Embedding: {input_dim: 9, output_dim: 4}}}
"""
    with pytest.raises(regspec.RegspecError, match="without cuts_off: true"):
        regspec.source(regspec.loads(text), target="keras")
    cut = text.replace("output_dim: 4}}}", "output_dim: 4}}, cuts_off: true}")
    assert "cuts_off" not in regspec.source(regspec.loads(cut), target="keras")
