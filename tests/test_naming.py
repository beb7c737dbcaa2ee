"""The variables of a forward: which hold which tensor, and for how long."""

from __future__ import annotations

import re
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import regspec
from regspec.language.fields import layer_name
from regspec.layers import KINDS
from regspec.targets.torch import variables as naming
from tests.layers.specs import outputs_of


def spec_of(*layers: str, inputs: str = "{x: {shape: [4, 6]}}", outputs: str = "") -> regspec.ModelSpec:
    body = "".join(f"  - {layer}\n" for layer in layers)
    return regspec.loads(f"regspec: 1\nname: net\ninputs: {inputs}\nlayers:\n{body}{outputs and f'outputs: {outputs}'}")


def residual(blocks: int, **more: str) -> regspec.ModelSpec:
    layers = []
    before = "x"
    for index in range(blocks):
        layers += [
            f"Dense: {{name: in{index}, units: 8, activation: relu, inputs: {before}}}",
            f"Dense: {{name: out{index}, units: 6}}",
            f"Add: {{name: sum{index}, inputs: [{before}, out{index}]}}",
        ]
        before = f"sum{index}"
    return spec_of(*layers, **more)


# For every family of names: what a person writes. Keras's own, but where that takes a word apart.
MADE = {
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "PReLU": "prelu",
    "CDist": "cdist",
    "ELU": "elu",
    "Softmax": "softmax",
    "LSTM": "lstm",
    "GRU": "gru",
    "RNN": "rnn",
    "SimpleRNN": "simple_rnn",
    "ConvLSTM2D": "conv_lstm2d",
    "Conv2D": "conv2d",
    "Conv2DTranspose": "conv2d_transpose",
    "MaxPooling2D": "max_pooling2d",
    "GlobalAveragePooling1D": "global_average_pooling1d",
    "ZeroPadding2D": "zero_padding2d",
    "RMSNormalization": "rms_normalization",
    "BatchNormalization": "batch_normalization",
    "MultiHeadAttention": "multi_head_attention",
    "STFTSpectrogram": "stft_spectrogram",
    "FFT2": "fft2",
    "SVD": "svd",
    "TopK": "top_k",
}


@pytest.mark.parametrize("kind", MADE)
def test_the_name_of_a_layer_that_says_none(kind: str) -> None:
    assert layer_name(kind) == MADE[kind]


def test_no_name_takes_a_word_apart() -> None:
    """A single letter is a word of its own in `top_k` alone."""
    pieces = {*"abcdefghijlmnopqrstuvwyz", "re", "lu"}
    assert [kind for kind in KINDS if pieces & {*layer_name(kind).split("_")}] == []


def test_names_that_are_made_are_numbered() -> None:
    text = regspec.source(spec_of("Dense: {units: 4}", "ReLU", "Dense: {units: 4}", "ReLU", "PReLU"))
    assert re.findall(r"self\.(\w+) = nn", text) == ["dense", "relu", "dense_1", "relu_1"]
    assert "self.prelu = PReLU(" in text


def test_a_short_forward_names_what_it_keeps() -> None:
    assert "sum0 = x + self.out0(in0)\n" in regspec.source(residual(2))


def test_a_long_forward_takes_its_variables_again() -> None:
    text = regspec.source(residual(9))
    assert set(re.findall(r"^        (\w+) = ", text, re.MULTILINE)) == {"x", "h"}
    assert "x = x + self.out3(h)\n" in text


def test_a_long_forward_lets_go_of_its_tensors() -> None:
    model = regspec.build(residual(30)).eval()
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def count(module: Any, inputs: Any, output: Tensor) -> None:
        nonlocal most
        alive[:] = [each for each in alive if each() is not None]
        alive.append(weakref.ref(output))
        most = max(most, len(alive))

    for module in model.children():
        module.register_forward_hook(count)
    with torch.inference_mode():
        model(torch.randn(2, 4, 6))
    assert most <= 3


def random_layers(seed: int, count: int = 25) -> tuple[list[str], list[str]]:
    """Layers that take any of those before, some with several outputs; and those that are left."""
    rng = np.random.default_rng(seed)
    known, layers, unused = ["x", "h", "other"], [], {"x", "h", "other"}
    for index in range(count):
        first, second = (known[int(place)] for place in rng.integers(0, len(known), 2))
        if index < 3:
            first = known[index]
        name = f"n{index}"
        kind = int(rng.integers(0, 4))
        if kind == 0:
            layers.append(f"Add: {{name: {name}, inputs: [{first}, {second}]}}")
        elif kind == 1:
            layers.append(f"Dense: {{name: {name}, inputs: {first}, units: 6, activity_regularizer: l2}}")
            second = first
        elif kind == 2:
            options = "units: 6, return_sequences: true, return_state: true, bias_regularizer: l1"
            layers.append(f"GRU: {{name: {name}, inputs: {first}, {options}}}")
            second = first
        else:
            layers.append(f"Maximum: {{name: {name}, inputs: [{second}, {first}, {first}]}}")
        unused -= {first, second}
        unused.add(name)
        known.append(name)
    return layers, sorted(unused)


@pytest.mark.parametrize("seed", range(12))
def test_it_computes_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layers, outputs = random_layers(seed)
    inputs = "{x: {shape: [4, 6]}, h: {shape: [4, 6]}, other: {shape: [4, 6]}}"
    spec = spec_of(*layers, inputs=inputs, outputs=f"[{', '.join(outputs)}]")
    xs = [torch.randn(3, 4, 6) for _ in range(3)]
    results = []
    for many in (0, 10**6):
        monkeypatch.setattr(naming, "MANY", many)
        model = regspec.build(spec, seed=0).eval()
        results.append([*outputs_of(model(*xs)), *model.regularization_terms().values()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_an_input_that_is_called_as_a_function_that_is_used() -> None:
    """A loop over masked steps calls zip."""
    text = (
        "regspec: 1\nname: net\ninputs: {zip: {shape: [5, 4]}}\n"
        "layers: [Masking: {name: m}, TimeDistributed: {name: t, layer: {BatchNormalization: {}}, inputs: m}]\n"
    )
    x = torch.randn(3, 5, 4)
    model, other = (regspec.build(each, seed=0) for each in (text, text.replace("zip:", "x:")))
    torch.testing.assert_close(model(x), other(x))
