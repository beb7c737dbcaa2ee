"""Networks as Keras code: ported from what it makes they are as they were; and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import regspec

from .layers.specs import inputs_of
from .layers.test_keras_code import made

# Of Keras, when it makes, calls and saves a model.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}:keras") for name in ("UserWarning", "DeprecationWarning")]

EXAMPLES = Path(__file__).parents[1] / "examples"

BLOCKS = """\
regspec: 1
name: towers
data_format: channels_last
inputs: {left: {shape: [9, 4]}, right: {shape: [9, 4]}}
blocks:
  tower:
    inputs: [x]
    parameters: {units: 6}
    layers:
      - LSTM: {units: $units, return_sequences: true, return_state: true, recurrent_regularizer: {l2: 1e-2}}
      - Dropout: {rate: 0.2, inputs: lstm.0}
    outputs: {steps: dropout, state: lstm.1}
layers:
  - tower: {name: one, inputs: left}
  - tower: {name: other, inputs: right, units: 5}
  - tower: {name: third, inputs: right}
  - Dense: {name: head, units: 6, inputs: one.state}
  - Dense: {name: make_tower, units: 5, inputs: third.state}
  - call: {name: again, layer: one, inputs: right}
  - Concatenate: {name: all, inputs: [head, make_tower, other.state, again.state]}
  - Dense: {name: last, units: 2, use_bias: false, kernel_regularizer: {orthogonal: 0.02}}
regularizers:
  - {kinds: [Dense], bias: {l1: 1e-3}, kernel: {l1: 1e-3, l2: 1e-2}}
"""
MASKS = """\
regspec: 1
name: masks
data_format: channels_last
inputs: {tokens: {shape: [7], dtype: int32}, counts: {shape: [7], dtype: bool}}
layers:
  - Embedding: {name: table, input_dim: 11, output_dim: 6, mask_zero: true, inputs: tokens, embeddings_regularizer: l2}
  - Bidirectional: {name: both, layer: {GRU: {units: 3, return_sequences: true, kernel_regularizer: {l1: 1e-3}}}}
  - MultiHeadAttention: {name: attention, num_heads: 2, key_dim: 3, use_causal_mask: true, inputs: [both, both]}
  - LSTM: {name: named, units: 3, inputs: attention, mask: counts, activity_regularizer: {l1: 1e-2}}
  - ELU: {name: last, alpha: 0.5}
outputs: [last, both]
"""
FROZEN = """\
regspec: 1
name: frozen
data_format: channels_last
dtype: float32
inputs: {x: {shape: [6, 5, 3]}}
layers:
  - TimeDistributed: {layer: {Conv1D: {filters: 4, kernel_size: 3, kernel_regularizer: l2}}, trainable: false}
  - Conv2DTranspose: {filters: 3, kernel_size: [3, 2], strides: [2, 1], output_padding: [1, 0]}
  - BatchNormalization: {momentum: 0.9, gamma_regularizer: {l1: 1e-3}}
  - SpectralNormalization: {layer: {Conv2D: {filters: 2, kernel_size: 3, activation: gelu}}}
  - GlobalAveragePooling2D
"""


PRECISION = """\
regspec: 1
name: precision
data_format: channels_last
dtype: float64
inputs: {x: {shape: [4], dtype: float32}}
layers:
  - Dense: {units: 5, activation: tanh, kernel_regularizer: l2}
  - Dense: {units: 3, dtype: float32, bias_regularizer: l1}
"""


PRINTED = {
    **{path.stem: path for path in EXAMPLES.glob("*.yaml")},
    "blocks": BLOCKS,
    "masks": MASKS,
    "frozen": FROZEN,
    "precision": PRECISION,
}
REFUSED_EXAMPLES = (
    "sparse_autoencoder",
    "transformer",
    "vit",
    "gpt",
    "vae",
)  # whose penalties or layers Keras does not have


def ported(spec: regspec.ModelSpec, path: Path) -> regspec.ModelSpec:
    """The spec of the Keras model that a spec's code makes."""
    made(regspec.source(spec, target="keras")).save(path)
    return regspec.port(path).spec


def trained(model: torch.nn.Module) -> dict[str, bool]:
    """Which parameters are trained."""
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def in_keras(values: dict[str, Any]) -> dict[str, Any]:
    """Values by names in which a copy of a block is called as in the spec and in Keras, ``stage_1`` for ``stage.0``."""
    return {re.sub(r"\.(\d+)\.", lambda found: f"_{int(found[1]) + 1}.", name): x for name, x in values.items()}


@pytest.mark.parametrize("name", sorted(PRINTED.keys() - {*REFUSED_EXAMPLES}))
def test_ported_again(name: str, tmp_path: Path) -> None:
    """Weights have the names of the spec, and with the same numbers outputs and penalties are the same."""
    spec = regspec.load(PRINTED[name])
    first = regspec.build(spec, seed=1).eval()
    again = regspec.build(ported(spec, tmp_path / "model.keras"), seed=2).eval()
    again.load_state_dict(in_keras(first.state_dict()))
    inputs = inputs_of(spec, below=9)
    torch.testing.assert_close(again(*inputs), first(*inputs))
    terms = in_keras(regspec.regularization_terms(first))
    torch.testing.assert_close(regspec.regularization_terms(again), terms)
    assert trained(again) == in_keras(trained(first))


LINE = "Dense: {name: d, units: 2"
REFUSED = {
    "kind": (
        "LayerScale: {name: d, init_values: 0.1, projection_dim: 4}",
        "d is of kind LayerScale, and Keras 3 has no such layer",
    ),
    "operation": (
        "Sin: {name: d, activity_regularizer: l2}",
        "d has a penalty on its output, and Keras's Sin is an operation, which takes none: 'Activation: linear' behind "
        "it can have it",
    ),
    "penalty": (
        f"{LINE}, kernel_regularizer: {{hoyer: 0.1}}}}",
        "d has the regularizer hoyer 0.1, which Keras does not have",
    ),
    "sum": (
        f"{LINE}, kernel_regularizer: [{{l2: 0.1}}, {{orthogonal: 0.1}}]}}",
        "d has the regularizer l2 0.1 + orthogonal 0.1, which Keras does not have as one",
    ),
    "reduction": (
        f"{LINE}, activity_regularizer: {{l2: 0.1, reduction: sum}}}}",
        "d has the regularizer l2 0.1, a sum over the batch, where Keras divides by the batch size",
    ),
    "in part": (f"{LINE}, trainable: [kernel]}}", "d is trained in part, which Keras's layers can't be"),
    "function": (
        f"{LINE}, activation: {{hard_sigmoid: 0.2}}}}",
        "d has the activation hard_sigmoid 0.2, whose slope Keras's does not have",
    ),
    "field": (f"{LINE}, rounds_inputs: true}}", "d has rounds_inputs: True, which Keras's Dense does not have"),
}


NAMED = {
    "frozen penalties": ("frozen_penalties: counted", "frozen_penalties: counted, which Keras 3 does not do"),
    "reduction": ("activity_reduction: sum", "activity_reduction: sum, where Keras divides by the batch size"),
    "rule": (
        "regularizers: [{layers: flatten, activity: l2}, {layers: norm, gamma: {hoyer: 0.01}}]",
        "norm has the regularizer hoyer 0.01, which Keras does not have",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_refused_of_the_whole(name: str) -> None:
    """What a spec says of all its layers."""
    said, problem = NAMED[name]
    spec = (
        "{regspec: 1, inputs: {x: {shape: [4]}}, layers: [BatchNormalization: {name: norm}, Flatten: {name: flatten}, "
        f"Dense: {{units: 2, activity_regularizer: l2}}], {said}}}\n"
    )
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.source(spec, target="keras")
    assert [each.what for each in raised.value.problems] == [problem]


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """At the layer's line, with what Keras lacks."""
    layer, problem = REFUSED[name]
    spec = f"regspec: 1\ninputs: {{x: {{shape: [4]}}}}\nlayers:\n  - {layer}\n"
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.source(spec, target="keras")
    assert [(each.line, each.what) for each in raised.value.problems] == [(4, problem)]
