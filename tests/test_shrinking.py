"""A shrunk model computes the same with fewer units, and every unit that can go has gone."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

import regspec
from regspec.graph.loading import graph_of
from regspec.modules.inputs import Form, inputs_of
from regspec.modules.shrinking.choosing import Choice, all_groups, balance
from regspec.modules.shrinking.costs import costs_of
from regspec.modules.shrinking.shrinking import looked_at, made_without
from regspec.specs.model import ModelSpec

from .commands import command
from .random_specs import random_spec, with_zeros

FORM = Form(first=7, is_padded=True)


@dataclass(frozen=True)
class Case:
    """Layers, indices of parameters that are made zero, and what fields of layers say then."""

    layers: str
    zeros: dict[str, Any]
    left: dict[str, Any]  # of the fields that change
    shape: tuple[int, ...] = (4,)
    stays: str = ""  # what the report says of others


AT_STEPS = (
    "Reshape: {target_shape: [7, 2, 2], axes: [steps, length, features]}, TimeDistributed: {name: d, layer: {Dense: 6}}"
)
CASES = {
    "a unit whose kernel and bias are zero": Case(
        "[Dense: {name: a, units: 5, activation: tanh}, Dense: 2]",
        {"a.weight": [1, 3], "a.bias": [1, 3]},
        {"a.units": 3},
    ),
    "a constant goes through its activation into the next bias": Case(
        "[Dense: {name: a, units: 5, activation: sigmoid}, Dense: {name: b, units: 2, use_bias: false}]",
        {"a.weight": [0, 4]},
        {"a.units": 3, "b.use_bias": True},
    ),
    "a constant before a normalization moves its mean": Case(
        "[Dense: {name: a, units: 5, activation: exp}, Dense: {units: 3, use_bias: false}, BatchNormalization]",
        {"a.weight": [2]},
        {"a.units": 4},
    ),
    "a unit that nothing takes": Case(
        "[Dense: {name: a, units: 5, activation: relu}, Dense: {name: b, units: 2}]",
        {"b.weight": (slice(None), 1)},
        {"a.units": 4},
    ),
    "what only units that nothing takes take": Case(
        "[Dense: {name: a, units: 5}, Dense: {name: b, units: 4}, Dense: {name: c, units: 2}]",
        {"c.weight": (slice(None), [1, 2]), "b.weight": ([0, 3], 3)},
        {"a.units": 4, "b.units": 2},
    ),
    "one unit of all is left": Case(
        "[Dense: {name: a, units: 5}, Dense: 2]", {"a.weight": slice(None), "a.bias": slice(None)}, {"a.units": 1},
        stays="a has one of them at least",
    ),
    "softmax is of all units together": Case(
        "[Dense: {name: a, units: 5, activation: softmax}, Dense: {name: b, units: 2}]",
        {"a.weight": [1], "a.bias": [1], "b.weight": (slice(None), [2, 3])},
        {},
    ),
    "a scale of zero, and its shift in the bias of windows that see no zeros": Case(
        "[Conv2D: {name: a, filters: 5, kernel_size: 1}, BatchNormalization: {name: n}, ReLU, "
        "Conv2D: {name: b, filters: 3, kernel_size: [2, 3]}]",
        {"n.weight": [0, 2]},
        {"a.filters": 3},
        (2, 7, 6),
    ),
    "a constant beside zeros of padding stays": Case(
        "[Conv2D: {name: a, filters: 5, kernel_size: 1, activation: sigmoid}, "
        "Conv2D: {name: b, filters: 3, kernel_size: 3, padding: same}]",
        {"a.weight": [0, 2], "a.bias": [1]},
        {},
        (2, 7, 6),
        "constant, but b can't add that to its bias: it sees zeros beside them",
    ),
    "zero stays zero beside zeros of padding": Case(
        "[Conv2D: {name: a, filters: 5, kernel_size: 1, activation: tanh}, ZeroPadding2D: 1, "
        "Conv2D: {name: b, filters: 3, kernel_size: 3, strides: 2}]",
        {"a.weight": [0, 2], "a.bias": [0, 2]},
        {"a.filters": 3},
        (2, 7, 6),
    ),
    "of a sum both": Case(
        "[Dense: {name: a, units: 5}, Dense: {name: b, units: 5}, Add: {inputs: [a, b]}, Dense: 2]",
        {"a.weight": [1, 2], "a.bias": [1, 2], "b.weight": [2, 3], "b.bias": [2, 3]},
        {"a.units": 4, "b.units": 4},
    ),
    "of a product either": Case(
        "[Dense: {name: a, units: 5}, Dense: {name: b, units: 5, activation: sigmoid, inputs: x}, "
        "Multiply: {inputs: [a, b]}, Dense: 2]",
        {"a.weight": [1], "a.bias": [1]},
        {"a.units": 4, "b.units": 4},
    ),
    "side by side": Case(
        "[Dense: {name: a, units: 5}, Dense: {name: b, units: 3, inputs: x}, Concatenate: {inputs: [a, b]}, "
        "BatchNormalization, Dense: 2]",
        {"a.weight": [1], "a.bias": [1], "b.weight": [2]},
        {"a.units": 4, "b.units": 2},
    ),
    "flattened": Case(
        "[Conv2D: {name: a, filters: 5, kernel_size: 3, activation: relu}, Flatten, Dense: {name: b, units: 2}]",
        {"a.weight": [1], "a.bias": [1], "b.weight": (slice(None), slice(40, 60))},  # all places of channel 2
        {"a.filters": 3},
        (2, 6, 7),
    ),
    "a vector that becomes an image": Case(
        "[Dense: {name: a, units: 24}, Reshape: {name: r, target_shape: [4, 2, 3], axes: [channels, height, width]}, "
        "Conv2D: {filters: 2, kernel_size: 2}]",
        {"a.weight": slice(6, 12), "a.bias": slice(6, 12)},
        {"a.units": 18, "r.target_shape.0": 3},
    ),
    "a filter of zeros": Case(
        "[Conv2D: {name: a, filters: 4, kernel_size: 1}, "
        "DepthwiseConv2D: {name: d, kernel_size: 3, depth_multiplier: 2, use_bias: false}, "
        "Conv2D: {filters: 2, kernel_size: 1}]",
        {"d.weight": [2, 3, 4]},  # both filters of channel 1, and one of channel 2
        {"a.filters": 3},
        (2, 6, 7),
    ),
    "as many in front of each group": Case(
        "[Conv2D: {name: a, filters: 4, kernel_size: 1}, Conv2D: {name: g, filters: 6, kernel_size: 3, groups: 2}, "
        "Conv2D: {filters: 2, kernel_size: 1}]",
        {"a.weight": [1], "a.bias": [1]},
        {},
        (2, 6, 7),
        "g: each of its groups keeps as many",
    ),
    "a constant becomes none beside the zeros of a layer": Case(
        "[Conv2D: {name: a, filters: 4, kernel_size: 1, activation: sigmoid}, ZeroPadding2D: {name: pad, padding: 1}, "
        "Conv2D: {filters: 2, kernel_size: 3}]",
        {"a.weight": [1, 2]},
        {},
        (2, 6, 7),
        "constant in front of pad, and not behind it",
    ),
    "of a sum one": Case(
        "[Dense: {name: a, units: 5}, Dense: {name: b, units: 5, inputs: x}, Add: {name: sum, inputs: [a, b]}, "
        "Dense: 2]",
        {"a.weight": [1, 2], "a.bias": [1, 2]},
        {},
        stays="constant in front of sum, and not behind it",
    ),
    "as many of each group": Case(
        "[Conv2D: {name: a, filters: 4, kernel_size: 1}, Conv2D: {name: g, filters: 6, kernel_size: 3, groups: 2}, "
        "Conv2D: {filters: 2, kernel_size: 1}]",
        {"g.weight": [0, 1, 4], "g.bias": [0, 1, 4], "a.weight": [1], "a.bias": [1]},
        {"g.filters": 4},
        (2, 6, 7),
    ),
    "a whole group": Case(
        "[Conv2D: {name: a, filters: 4, kernel_size: 1}, Conv2D: {name: g, filters: 6, kernel_size: 3, groups: 2}, "
        "Conv2D: {filters: 2, kernel_size: 1}]",
        {"g.weight": [3, 4, 5], "g.bias": [3, 4, 5]},
        {"a.filters": 2, "g.filters": 3, "g.groups": 1},
        (2, 6, 7),
    ),
    "the gates of a recurrent unit": Case(
        "[LSTM: {name: a, units: 5, return_sequences: true}, GRU: {name: b, units: 3}, Dense: 2]",
        {
            **{f"a.{name}_l0": [1, 6, 11, 16] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
            **{f"b.{name}_l0": [0, 3, 6] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
        },
        {"a.units": 4, "b.units": 2},
        (7, 4),
    ),
    "a recurrent unit that only others of its layer take": Case(
        "[SimpleRNN: {name: a, units: 4}, Dense: {name: b, units: 2}]",
        {"a.weight_ih_l0": [1], "a.weight_hh_l0": [1], "b.weight": (slice(None), 1)},
        {},
        (7, 4),
    ),
    "heads, and what each of them gives": Case(
        "[MultiHeadAttention: {name: a, num_heads: 3, key_dim: 2, value_dim: 4, inputs: [x, x]}, Dense: 2]",
        {"a.value.weight": slice(0, 4), "a.value.bias": slice(0, 4), "a.output.weight": (slice(None), [7, 11])},
        {"a.num_heads": 2, "a.value_dim": 3},
        (7, 6),
    ),
    "attention gives as many as before": Case(
        "[Dense: {name: d, units: 6}, MultiHeadAttention: {name: a, num_heads: 2, key_dim: 3, inputs: [d, d]}, "
        "Dense: 2]",
        {"d.weight": [1], "d.bias": [1]},
        {"d.units": 5, "a.output_shape": 6},
        (7, 4),
    ),
    "attention gives fewer than it takes": Case(
        "[Dense: {name: d, units: 6}, MultiHeadAttention: {name: a, num_heads: 2, key_dim: 3, inputs: [d, d]}, "
        "Dense: {name: b, units: 2}]",
        {"b.weight": (slice(None), [1, 4])},
        {"a.output_shape": 4},
        (7, 4),
    ),
    "attention gives as few as it takes": Case(
        "[Dense: {name: d, units: 6}, MultiHeadAttention: {name: a, num_heads: 2, key_dim: 3, inputs: [d, d]}, "
        "Dense: {name: b, units: 2}]",
        {"d.weight": [1], "d.bias": [1], "b.weight": (slice(None), 4)},
        {"d.units": 5},
        (7, 4),
    ),
    "attention that says what it gives": Case(
        "[Dense: {name: d, units: 6}, "
        "MultiHeadAttention: {name: a, num_heads: 2, key_dim: 3, output_shape: 6, inputs: [d, d]}, "
        "Dense: {name: b, units: 2}]",
        {"d.weight": [1], "d.bias": [1], "b.weight": (slice(None), [1, 4])},
        {"d.units": 5, "a.output_shape": 4},
        (7, 4),
    ),
    "attention that can't say what it gives": Case(
        "[Dense: {name: d, units: 6}, GroupQueryAttention: {name: a, head_dim: 2, num_query_heads: 4, "
        "num_key_value_heads: 2, inputs: [d, d]}, Dense: {name: b, units: 2}]",
        {"d.weight": [1, 2], "d.bias": [1, 2], "b.weight": (slice(None), 4)},
        {"d.units": 5},
        (7, 4),
        "a gives as many as it takes",
    ),
    "attention that can't say what it gives, and a sum": Case(
        "[Dense: {name: d, units: 6}, GroupQueryAttention: {name: a, head_dim: 2, num_query_heads: 4, "
        "num_key_value_heads: 2, inputs: [d, d]}, Add: {inputs: [a, d]}, Dense: {name: b, units: 2}]",
        {"d.weight": [1, 2], "d.bias": [1, 2], "a.output.weight": [1, 3], "a.output.bias": [1, 3]},
        {"d.units": 5},
        (7, 4),
    ),
    "behind a spectral norm": Case(
        "[SpectralNormalization: {name: a, layer: {Conv2D: {filters: 5, kernel_size: 1, activation: sigmoid}}}, "
        "SpectralNormalization: {name: b, layer: {Conv2D: {filters: 3, kernel_size: 2, use_bias: false}}}, "
        "SpectralNormalization: {name: c, layer: {Conv2DTranspose: {filters: 4, kernel_size: 2}}}, "
        "GlobalAveragePooling2D, Dense: {name: d, units: 2}]",
        {"a.layer.weight": [1], "b.layer.weight": [2], "d.weight": (slice(None), [0, 3])},
        {"a.layer.filters": 4, "b.layer.filters": 2, "b.layer.use_bias": True, "c.layer.filters": 2},
        (2, 6, 7),
    ),
    "with positions and a class token": Case(
        "[Dense: {name: a, units: 5}, PositionEmbedding: {name: p, sequence_length: 9}, ClassToken: {name: c}, "
        "LSTM: {name: b, units: 3}, Dense: 2]",
        {"a.weight": [1, 2, 3], "a.bias": [1, 2, 3], "p.weight": (slice(None), [1, 2]), "c.weight": [1, 2]},
        {"a.units": 3},
        (7, 4),
        "constant in front of p, and not behind it",
    ),
    "each place of a vector is lost apart": Case(
        "[Conv1D: {name: a, filters: 3, kernel_size: 1}, Flatten, Dense: {name: b, units: 12}, "
        "Add: {name: sum, inputs: [flatten, b]}, Dense: 2]",
        {"a.weight": [1], "a.bias": [1], "b.weight": [5], "b.bias": [5]},
        {},
        (7, 4),
        "constant in front of sum, and not behind it",
    ),
    "what can't go at the end": Case(
        "[Dense: 5, Dense: {name: b, units: 3, activation: softmax}]",
        {"b.weight": [1], "b.bias": [1]},
        {},
        stays="b: softmax is of all of them together",
    ),
    "what nobody knows of": Case(
        "[TimeDistributed: {name: a, layer: {EinsumDense: {equation: 'ab,bc->ac', output_shape: 5}}}, Dense: 2]",
        {"a.weight": (slice(None), 1)},
        {},
        (7, 4),
        "a: nothing says what its units are",
    ),
    "attention at each step gives as few as it takes": Case(
        f"[{AT_STEPS}, TimeDistributed: {{name: a, layer: {{MultiHeadAttention: {{num_heads: 2, key_dim: 3}}}}}}, "
        "Dense: {name: b, units: 2}]",
        {"d.weight": [1], "d.bias": [1], "b.weight": (slice(None), 4)},
        {"d.layer.units": 5},
        (7, 4),
    ),
    "heads at each step, which two fields count": Case(
        f"[{AT_STEPS}, TimeDistributed: {{name: a, layer: {{GroupQueryAttention: {{head_dim: 2, num_query_heads: 4, "
        "num_key_value_heads: 2}}}, Dense: 2]",
        {"a.value.weight": [0, 1], "a.value.bias": [0, 1]},
        {"a.layer.num_query_heads": 2, "a.layer.num_key_value_heads": 1},
        (7, 4),
    ),
    "a layer at each step": Case(
        "[TimeDistributed: {name: a, layer: {Dense: 5}}, Dense: 2]", {"a.weight": [1], "a.bias": [1]},
        {"a.layer.units": 4}, (7, 4),
    ),
    "both directions": Case(
        "[Bidirectional: {name: a, layer: {SimpleRNN: 4}}, Dense: {name: b, units: 2}]",
        {"b.weight": (slice(None), [0, 1, 7])} | {f"a.weight_hh_l0{end}": slice(None) for end in ("", "_reverse")},
        {"a.layer.units": 3},
        (7, 4),
    ),
    "of one direction": Case(
        "[Bidirectional: {name: a, layer: {SimpleRNN: 4}}, Dense: 2]",
        {f"a.{name}_l0": [1] for name in ("weight_ih", "weight_hh", "bias_ih")},
        {},
        (7, 4),
        "a: each of its directions keeps as many",
    ),
    "a layer that is called again": Case(
        "[Dense: {name: a, units: 4}, Dense: {name: s, units: 4, activation: tanh}, call: {layer: s}, Dense: 2]",
        {"a.weight": [1, 2], "a.bias": [1, 2], "s.weight": [2], "s.bias": [2]},
        {"a.units": 3, "s.units": 3},
    ),
    "a constant that a layer takes of vectors and of sequences": Case(
        "[Dense: {name: a, units: 5, activation: sigmoid}, Dense: {name: s, units: 3}, "
        "RepeatVector: {name: r, n: 3, inputs: a}, call: {layer: s, name: t, inputs: r}, Flatten: {name: f}, "
        "Concatenate: {inputs: [s, f]}, Dense: 2]",
        {"a.weight": [1]},
        {"a.units": 4},
    ),
    "constants that differ in the second and third call of a layer": Case(
        "[Dense: {name: a, units: 4, activation: sigmoid}, "
        "Dense: {name: b, units: 4, activation: sigmoid, inputs: x}, "
        "Dense: {name: c, units: 4, activation: sigmoid, inputs: x}, Dense: {name: s, units: 2}, "
        "call: {layer: s, name: s2, inputs: a}, call: {layer: s, name: s3, inputs: b}, "
        "Dense: {name: p, units: 2, inputs: s}, Concatenate: {inputs: [p, s2, s3]}, Dense: 2]",
        # the first call's output counts by its unit 0, to which unit 1 does not go
        {**{f"{name}.weight": [1] for name in "abc"}, "s.weight": (0, 1), "p.weight": (slice(None), 1)},
        {},
        stays="other constants in several calls of s",
    ),
    "one normalization over them all keeps them": Case(
        "[Dense: {name: a, units: 5}, LayerNormalization: {name: n}, Dense: 2]", {"a.weight": [1], "a.bias": [1]}, {},
        stays="n: they are normalized together",
    ),
}  # fmt: skip


def zeroed(case: Case) -> nn.Module:
    """The model of a case, with random biases but for what is zero."""
    layers = yaml.safe_load(case.layers)
    model = regspec.build({"inputs": {"x": {"shape": [*case.shape]}}, "layers": layers}, seed=1).eval()
    generator = torch.Generator().manual_seed(3)
    state = model.state_dict()
    for name, tensor in state.items():
        if name.endswith(("bias", "mean")) or "bias_ih" in name:
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    for name, index in case.zeros.items():
        state[name][index] = 0
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize("name", CASES)
def test_what_goes(name: str) -> None:
    case = CASES[name]
    model = zeroed(case)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shrunk = regspec.shrink(model)
    changes = shrunk.report.changes
    assert {f"{each.layer}.{each.field}": each.after for each in changes if each.before != each.after} == case.left
    xs = [torch.randn(5, *case.shape, generator=torch.Generator().manual_seed(4))]
    (one,), (other,) = outputs(model, xs), outputs(shrunk.build(), xs)
    assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)
    assert one.std() > 1e-3  # or all would be equal
    assert not case.stays or case.stays in shrunk.report.stays
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def outputs(model: nn.Module, xs: list[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        found = model(*xs)
    return [*found] if isinstance(found, tuple) else [found]


def check_same(model: nn.Module, shrunk: regspec.Shrunk, spec: ModelSpec, batch: int = 5) -> None:
    xs = inputs_of(graph_of(spec), batch, FORM, seed=9)
    for one, other in zip(outputs(model, xs), outputs(shrunk.build(), xs), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6), (one - other).abs().max()


def seeds(count: int, rest: int) -> list[Any]:
    """So many seeds for the gate, and the rest for --everything."""
    return [pytest.param(seed, marks=pytest.mark.everything if seed >= count else ()) for seed in range(rest)]


@pytest.mark.parametrize("seed", seeds(8, 60))
def test_random_networks_compute_the_same(seed: int) -> None:
    spec = regspec.load(random_spec(seed))
    model = regspec.build(spec, seed=seed).eval()
    with_zeros(model, spec, seed)
    shrunk = regspec.shrink(model)
    check_same(model, shrunk, spec)
    assert sum(map(torch.numel, shrunk.weights.values())) <= sum(map(torch.numel, model.state_dict().values()))


@pytest.mark.parametrize("seed", seeds(1, 15))
def test_every_unit_that_can_go_has_gone(seed: int) -> None:
    """Each that is left is taken out alone: either an output changes, or an axis would be empty or uneven.

    Without rectifiers, which may be closed on all inputs that are tried, though not on all.
    """
    smooth = json.dumps(random_spec(seed)).replace('"relu"', '"elu"').replace('"ReLU"', '"ELU"')
    spec = regspec.load({"dtype": "float64", **json.loads(smooth)})
    model = regspec.build(spec, seed=seed).eval()
    with_zeros(model, spec, seed)
    shrunk = regspec.shrink(model)
    smaller = shrunk.build()
    live = looked_at(smaller, shrunk.spec)
    xs = inputs_of(graph_of(spec), 40, FORM, seed=3)
    wanted = outputs(smaller, xs)
    for root in all_groups(live.units):
        if live.units.why_kept(root) is not None:
            continue
        choice = Choice(live.units, {root})
        balance(choice, {})
        if choice.gone:
            found = outputs(made_without(smaller, shrunk.spec, live, choice).build(), xs)
            changes = [
                not torch.allclose(one, other, rtol=0, atol=1e-12) for one, other in zip(wanted, found, strict=True)
            ]
            assert any(changes), live.units.groups[root]


BLOCKS = """
# what a reader wrote stays
regspec: 1
name: net
parameters: {width: 6, strength: 1e-4}
inputs:
  x: {shape: [4]}
blocks:
  wide:
    parameters: {inner: 5}
    layers:
      - Dense: {name: up, units: $inner, activation: relu, kernel_regularizer: {l1: $strength}}  # why
      - Dense: {name: down, units: $width}
      - Add: {inputs: [down, input]}
  pair:
    layers:
      - wide: {name: first, repeat: 2}
      - wide: {name: second, inner: 7}
layers:
  - Dense: {units: $width}
  - wide: {name: few, repeat: 3}
  - pair
  - pair
  - Dense: {name: last, units: 2}
"""


def without(units: dict[str, int], text: str = BLOCKS) -> regspec.Shrunk:
    """The network of blocks without so many units of each layer that is named."""
    model = regspec.build(regspec.loads(text), seed=0)
    state = model.state_dict()
    for name, count in units.items():
        state[f"{name}.weight"][:count] = 0
        state[f"{name}.bias"][:count] = 0
    model.load_state_dict(state)
    shrunk = regspec.shrink(model)
    check_same(model.eval(), shrunk, shrunk.spec)
    return shrunk


def test_copies_of_a_block_shrink_differently() -> None:
    lines = without({"few.0.up": 2, "few.2.up": 4}).text.splitlines()
    assert "  - wide: {name: few, repeat: {inner: [3, 5, 1]}}" in lines
    up = "      - Dense: {name: up, units: $inner, activation: relu, kernel_regularizer: {l1: $strength}}  # why"
    assert up in lines
    assert "      - wide: {name: second, inner: 7}" in lines
    assert "# what a reader wrote stays" in lines
    assert "    parameters: {inner: 5}" in lines


def test_a_block_in_a_block_hands_its_parameters_on() -> None:
    text = without({"pair.first.1.up": 3, "pair_1.second.up": 2}).text
    assert "parameters: {first_inner_2: null, second_inner: null}" in text
    assert "- wide: {name: first, repeat: {inner: [5, $first_inner_2]}}" in text
    assert "- pair: {first_inner_2: 2, second_inner: 7}" in text
    assert "- pair: {first_inner_2: 5, second_inner: 5}" in text


def test_fields_that_name_one_parameter_go_on_to_name_it() -> None:
    """Where all of them change alike; otherwise each gets a parameter of its own."""
    text = """
        regspec: 1
        inputs: {x: {shape: [4]}}
        blocks:
          pair:
            parameters: {width: 5}
            layers:
              - Dense: {name: up, units: $width, activation: tanh}
              - Dense: {name: down, units: $width, activation: tanh}
        layers: [pair: {repeat: 2}, pair: {width: 6}, Dense: 2]
    """
    alike = {"pair.0.up": 2, "pair.0.down": 2, "pair.1.up": 1, "pair.1.down": 1}
    shrunk = without(alike, text)
    assert "parameters: {width: 5}" in shrunk.text
    assert "pair: {name: pair, repeat: {width: [3, 4]}}" in shrunk.text
    assert shrunk.text.count("units: $width") == 2
    assert (
        "repeat: {up_units: [4, 5], down_units: [3, 4]}"
        in without({**alike, "pair.0.up": 1, "pair.1.up": 0}, text).text
    )


def test_what_was_computed_is_said_for_each_use() -> None:
    """An entry before the one that is repeated by a list gets its parameters too."""
    text = """
        regspec: 1
        parameters: {w: 6}
        inputs: {x: {shape: [4]}}
        blocks:
          pair:
            parameters: {v: 3}
            layers:
              - Dense: {name: up, units: $v * 2, activation: tanh}
              - Dense: {name: down, units: $v, activation: tanh}
        layers: [pair: {v: $w / 2}, pair: {name: more, repeat: 2}, Dense: 2]
    """
    shrunk = without({"pair.up": 3, "pair.down": 1, "more.0.up": 2, "more.1.down": 1}, text)
    assert "pair: {name: pair, up_units: 3, down_units: 2}" in shrunk.text
    assert "pair: {name: more, repeat: {up_units: [4, 6], down_units: [3, 2]}}" in shrunk.text


def test_a_field_that_is_no_parameter_yet_becomes_one() -> None:
    plain = BLOCKS.replace("units: $inner", "units: 5").replace(", inner: 7", "").replace("parameters: {inner: 5}", "")
    text = without({"few.0.up": 2}, plain).text
    assert "{name: up, units: $up_units, activation: relu" in text
    assert "- wide: {name: few, repeat: {up_units: [3, 5, 5]}}" in text
    assert "parameters: {up_units: null}" in text


def test_a_number_that_all_uses_have_is_written_in_the_block() -> None:
    every = ("few.0", "few.1", "few.2", *(f"pair{n}.first.{copy}" for n in ("", "_1") for copy in (0, 1)))
    shrunk = without({**dict.fromkeys((f"{each}.up" for each in every), 1), "pair.second.up": 3, "pair_1.second.up": 3})
    assert "- Dense: {name: up, units: 4, " in shrunk.text
    assert "parameters" not in shrunk.text.split("blocks:")[1]


def test_a_block_in_a_file_is_written_into_the_spec(tmp_path: Path) -> None:
    inner = """
        regspec: 1
        parameters: {inner: 5, width: 6}
        inputs: {x: {shape: [null]}}
        blocks:
          scaled: {layers: [Dense: {name: s, units: 6}]}
        layers:
          - Dense: {name: up, units: $inner, activation: relu}
          - Dense: {name: down, units: $width}
          - scaled
          - Add: {inputs: [scaled, x]}
    """
    (tmp_path / "inner.yaml").write_text(inner.replace("[null]", "[6]"))
    (tmp_path / "net.yaml").write_text("""
        regspec: 1
        inputs: {x: {shape: [6]}}
        blocks: {wide: {file: inner.yaml}}
        layers: [wide: {repeat: 2}, wide: {inner: 4}, Dense: 2]
    """)
    model = regspec.build(tmp_path / "net.yaml", seed=0).eval()
    state = model.state_dict()
    state["wide.1.up.weight"][:3] = 0
    model.load_state_dict(state)
    shrunk = regspec.shrink(model)
    assert "wide: {name: wide, repeat: {inner: [5, 2]}}" in shrunk.text
    assert "file" not in shrunk.text
    check_same(model, shrunk, shrunk.spec)
    (tmp_path / "inner.yaml").write_text(
        f"{inner.replace('[null]', '[6]')}    regularizers: [{{kinds: Dense, kernel: l2}}]"
    )
    with pytest.raises(regspec.RegspecError, match="the rules of block 'wide' can't be written"):
        regspec.shrink(regspec.build(tmp_path / "net.yaml", seed=0))


def test_penalties_are_those_of_what_is_left() -> None:
    model = regspec.build(regspec.loads(BLOCKS), seed=0)
    with torch.no_grad():
        model.get_parameter("few.1.up.weight")[:2] = 0
        model.get_parameter("few.1.up.bias")[:2] = 0
    shrunk = regspec.shrink(model)
    smaller = shrunk.build()
    x = torch.ones(3, 4)
    model(x), smaller(x)
    torch.testing.assert_close(smaller.regularization_loss(), model.regularization_loss())
    assert not any("count the size" in note for note in shrunk.report.notes)
    smaller.load_state_dict(shrunk.weights)


def test_a_penalty_of_an_output_hears_what_units_gave() -> None:
    """The constant of a unit is added by a bias, and not by the normalization behind the penalty."""
    layers = yaml.safe_load(
        "[Dense: {name: a, units: 5, activation: exp},"
        "Dense: {name: b, units: 3, use_bias: false, activity_regularizer: {l2: 0.1}}, BatchNormalization]"
    )
    model = regspec.build({"inputs": {"x": {"shape": [4]}}, "layers": layers}, seed=0).eval()
    with torch.no_grad():
        model.a.weight[2] = 0
    shrunk = regspec.shrink(model)
    smaller, x = shrunk.build(), torch.randn(6, 4)
    model(x), smaller(x)
    assert shrunk.spec.layers[1].layer.units == 3
    assert smaller.a.out_features == 4
    torch.testing.assert_close(smaller.regularization_terms(), model.regularization_terms())


@pytest.mark.parametrize(
    "kind", ["MaxPooling1D", "GlobalMaxPooling1D", "Cropping1D", "ZeroPadding1D", "UpSampling1D", "SpatialDropout1D"]
)
def test_an_axis_of_unknown_size_has_no_units(kind: str) -> None:
    fields = {"rate": 0.1} if kind == "SpatialDropout1D" else {}
    model = regspec.build({"inputs": {"x": {"shape": [7, None]}}, "layers": [{kind: fields}]})
    assert regspec.shrink(model).report.units == (0, 0)


def test_groups_are_no_units() -> None:
    layers = yaml.safe_load(
        "[Conv2D: {name: g, filters: 6, kernel_size: 3, groups: 2}, GlobalAveragePooling2D, Dense: 2]"
    )
    model = regspec.build({"inputs": {"x": {"shape": [4, 5, 6]}}, "layers": layers}, seed=0)
    assert regspec.shrink(model).report.units == (6 + 2, 6 + 2)


def test_the_share_that_is_kept_is_of_the_largest_norms() -> None:
    model = regspec.build({"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": 5}, {"Dense": 2}]}, seed=0)
    with torch.no_grad():
        model.dense.weight.copy_(torch.tensor([3.0, 1.0, 5.0, 2.0, 4.0])[:, None].expand(-1, 4))
    shrunk = regspec.shrink(model, keep=0.5)
    assert shrunk.weights["dense.weight"][:, 0].tolist() == [3, 5, 4]
    assert shrunk.report.difference is None


@pytest.mark.parametrize(
    ("share", "zeros", "multiple", "left"),
    [
        (0.7, 0, 1, [14, 7, 4]),  # of 20, 10 and 5
        (0.7, 0, 4, [12, 4, 4]),
        (0.7, 0, 8, [8, 7, 4]),  # as many as 8 are left of the first alone
        (0.7, 9, 4, [8, 4, 4]),  # 9 that are zero go anyway, so that 11 are left to be rounded
        (1.0, 0, 8, [16, 8, 5]),
    ],
)
def test_units_are_left_in_multiples(share: float, zeros: int, multiple: int, left: list[int]) -> None:
    layers = [{"Dense": 20}, {"Dense": 10}, {"Dense": 5}, {"Dense": 2}]
    model = regspec.build({"inputs": {"x": {"shape": [4]}}, "layers": layers}, seed=0)
    with torch.no_grad():
        model.dense.weight[:zeros] = 0
    shrunk = regspec.shrink(model, keep=share, multiple=multiple)
    assert [each.after for each in shrunk.report.changes][:3] == left


def test_what_is_coupled_is_kept_together() -> None:
    """By a sum: the units of both layers, and the depthwise filters on them."""
    layers = yaml.safe_load(
        "[Conv2D: {name: a, filters: 4, kernel_size: 1}, Conv2D: {name: b, filters: 4, kernel_size: 1},"
        "Add: {inputs: [a, b]}, DepthwiseConv2D: {name: d, kernel_size: 2}, GlobalAveragePooling2D, Dense: 2]"
    )
    model = regspec.build({"inputs": {"x": {"shape": [3, 5, 5]}}, "layers": layers}, seed=0)
    with torch.no_grad():
        model.a.weight[[0, 2]] *= 0.01
        model.b.weight[[0, 2]] *= 0.01
    weights = regspec.shrink(model, keep=0.5).weights
    assert torch.equal(weights["a.weight"], model.a.weight[[1, 3]])
    assert torch.equal(weights["d.weight"], model.d.weight[[1, 3]])


def test_units_are_weighed_by_what_the_loss_loses() -> None:
    """Of units of one norm those are left that the next layer takes most of."""
    model = regspec.build({"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": 5}, {"Dense": 1}]}, seed=0)
    with torch.no_grad():
        model.dense.weight.copy_(model.dense.weight[:1].expand(5, -1).clone())
        model.dense_1.weight.copy_(torch.tensor([[0.1, 3.0, 0.2, 2.0, 1.0]]))
    losses = (model(torch.randn(3, 4)).square().mean() for _ in range(2))
    shrunk = regspec.shrink(model, keep=0.6, losses=losses)
    assert shrunk.weights["dense_1.weight"].tolist() == [[3.0, 2.0, 1.0]]
    assert model.dense.weight.grad is None


@pytest.mark.everything  # it trains
def test_a_run_is_shrunk_by_its_losses(tmp_path: Path) -> None:
    spec = {"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": 6}, {"Dense": 3}]}
    regspec.train(spec, "iris", epochs=1, folder=tmp_path / "run", quiet=True)
    told = command(
        "shrink", str(tmp_path / "run"), "-o", str(tmp_path / "small"), "--keep", "0.5", "--by", "loss"
    ).stdout
    assert "before: " in told
    assert "after: " in told
    assert (
        "--by norm"
        in command(
            *("shrink", str(tmp_path / "small"), "-o", str(tmp_path / "x"), "--keep", "0.5", "--by", "loss")
        ).stderr
    )


def test_what_is_refused() -> None:
    with pytest.raises(regspec.RegspecError, match=r"takes what regspec.build made"):
        regspec.shrink(nn.Linear(3, 2))
    model = regspec.build("examples/mlp.yaml", seed=0)
    with pytest.raises(regspec.RegspecError, match="above 0 and up to 1, and not"):
        regspec.shrink(model, keep=1.5)
    with pytest.raises(regspec.RegspecError, match=r"the model has no 'dense\.weight'"):
        regspec.shrink(model, {"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": 5}]})
    wider = regspec.load("examples/mlp.yaml", parameters={"width": 7})
    with pytest.raises(
        regspec.RegspecError, match=r"'hidden1\.weight' is float32 \(32, 13\), and in its spec float32 \(7, "
    ):
        regspec.shrink(model, wider)
    with pytest.raises(regspec.RegspecError, match=r"'scaled\.weight' is float64 \(13,\), and in its spec float32"):
        regspec.shrink(regspec.build("examples/mlp.yaml").double())
    with pytest.raises(regspec.RegspecError, match="the model can't be run"):
        regspec.shrink(model, inputs=[])
    with pytest.raises(regspec.RegspecError, match="no example"):
        regspec.shrink(model, inputs=[torch.zeros(0, 13)])
    with pytest.raises(regspec.RegspecError, match="give keep too"):
        regspec.shrink(model, losses=[torch.tensor(1.0)])
    with pytest.raises(regspec.RegspecError, match="multiple rounds what keep leaves"):
        regspec.shrink(model, multiple=8)
    with pytest.raises(regspec.RegspecError, match="at least 1, and not 0"):
        regspec.shrink(model, keep=0.5, multiple=0)
    with pytest.raises(regspec.RegspecError, match="losses gives none"):
        regspec.shrink(model, keep=0.5, losses=[])


def test_a_model_stays_as_it_is() -> None:
    """Its modes, the states of its layers, and its penalties, which are those of its last forward."""
    layers = [
        {"LSTM": {"units": 4, "stateful": True}},
        {"Dropout": 0.5},
        {"Dense": {"units": 2, "activity_regularizer": "l2"}},
    ]
    model = regspec.build({"inputs": {"x": {"shape": [7, 3]}}, "layers": layers}, seed=0)
    model.dropout.eval()
    x = torch.randn(5, 7, 3)
    model(x)
    wanted, penalty = model(x), model.regularization_loss()
    regspec.reset_states(model)
    model(x)
    assert regspec.shrink(model).report.difference == 0.0
    torch.testing.assert_close(model(x), wanted, rtol=0, atol=0)
    regspec.shrink(model)
    assert torch.equal(model.regularization_loss(), penalty)
    assert [part.training for part in (model, model.lstm, model.dropout)] == [True, True, False]


def test_outputs_that_are_no_numbers_are_the_same() -> None:
    model = regspec.build({"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": 5}, {"Dense": 3}]}, seed=0)
    with torch.no_grad():
        model.dense.weight[1], model.dense.bias[1] = 0, 0
        model.dense_1.bias[:2] = torch.tensor([torch.nan, torch.inf])
    shrunk = regspec.shrink(model)
    assert shrunk.report.difference is not None
    assert shrunk.report.difference < 1e-6
    assert shrunk.report.units == (8, 7)


def test_a_model_that_does_not_know_its_spec_is_told() -> None:
    spec = regspec.load("examples/mlp.yaml")
    model = pickle.loads(pickle.dumps(regspec.build(spec, seed=0)))
    with pytest.raises(regspec.RegspecError, match="does not know its spec"):
        regspec.shrink(model)
    assert regspec.shrink(model, spec).report.difference == 0.0


def test_half_precision() -> None:
    model = regspec.build(regspec.loads(BLOCKS), seed=0, dtype=torch.bfloat16)
    with torch.no_grad():
        model.get_parameter("few.1.up.weight")[:2] = 0
        model.get_parameter("few.1.up.bias")[:2] = 0
    shrunk = regspec.shrink(model)
    assert shrunk.weights["few.1.up.weight"].dtype == torch.bfloat16
    assert torch.equal(shrunk.weights["few.1.up.weight"], model.get_parameter("few.1.up.weight")[2:])


def with_idle_units(folder: Path) -> tuple[str, ...]:
    """What commands take for an example of which 8 units are constant."""
    model = regspec.build("examples/mlp.yaml", seed=0)
    with torch.no_grad():
        model.hidden1.weight[:8] = 0
    save_file(model.state_dict(), folder / "all.safetensors")
    return ("examples/mlp.yaml", "--weights", str(folder / "all.safetensors"))


def test_the_command(tmp_path: Path) -> None:
    given = ("shrink", *with_idle_units(tmp_path))
    told = command(*given, "-o", str(tmp_path / "small"))
    assert "hidden1: units 32 → 24" in told.stdout
    small = regspec.load(tmp_path / "small/spec.yaml")
    assert small.layers[1].layer.units == 24
    again = command("shrink", str(tmp_path / "small"), "-o", str(tmp_path / "again"), "--format", "json")
    assert json.loads(again.stdout)["units"] == [59, 59]
    assert command(*given, "-o", str(tmp_path / "small"), "--keep", "0.2").code == 1  # other files are there
    by = command(*given, "-o", str(tmp_path / "x"), "--by", "loss")
    assert by.code == 2
    assert "which is not given" in by.stderr
    assert "say --weights" in command("shrink", "examples/mlp.yaml", "-o", str(tmp_path / "x")).stderr


def test_groups_are_shown() -> None:
    shown = json.loads(command("show", "examples/resnet.yaml", "--groups", "--format", "json").stdout)
    stem = next(each for each in shown if not each["stays"] and each["slices"][0]["weight"] == "stem.kernel")
    roles = {own["weight"]: own["role"] for own in stem["slices"]}
    assert stem["units"] == 16
    assert roles["stage1.1.conv2.kernel"] == "makes"
    assert roles["stem_norm.gamma"] == "has"
    assert roles["stage2_down.shortcut.kernel"] == "takes"
    assert "an output of the model" in command("show", "examples/resnet.yaml", "--groups").stdout
    assert command("show", "examples/resnet.yaml", "--groups", "--graph").code == 2


def test_costs_are_told(tmp_path: Path) -> None:
    model = regspec.build("examples/mlp.yaml")
    given = ("sparsity", *with_idle_units(tmp_path))
    told = json.loads(command(*given, "--format", "json", "--batch", "3").stdout)
    assert told["before"]["multiply_adds"] == 13 * 32 + 32 * 32 + 32 * 3
    assert told["after"]["multiply_adds"] == 13 * 24 + 24 * 32 + 32 * 3
    assert told["before"]["zeros"] - told["after"]["zeros"] == 8 * 13 + 8
    assert (told["before"]["units"], told["after"]["units"]) == (67, 59)
    shrunk = json.loads(command("shrink", *given[1:], "-o", str(tmp_path / "x"), "--format", "json").stdout)
    assert shrunk["weights"] == [told["before"]["weights"], told["after"]["weights"]]
    assert told["before"]["weights"] == sum(parameter.numel() for parameter in model.parameters())
    assert told["after"]["bytes"] < told["before"]["bytes"]
    assert "ms a batch of 3" in command(*given, "--batch", "3").stdout


def test_products_of_a_recurrent_layer_are_counted() -> None:
    spec = regspec.load({"inputs": {"x": {"shape": [7, 4]}}, "layers": [{"LSTM": 5}]})
    (costs,) = costs_of([regspec.build(spec, seed=0).eval()], spec, batch=2)
    assert costs.multiply_adds == 7 * 4 * 5 * (4 + 5)
