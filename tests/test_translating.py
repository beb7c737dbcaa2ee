"""Names of torch and of older Keras that are read: the same spec as with Keras's names, and a note at each."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

import regspec
from regspec.layers import KINDS
from regspec.specs import translating
from regspec.text import document

from .test_schema import spec_schema, validator

SHAPES = {1: "[3, 12]", 2: "[3, 12, 12]", 3: "[3, 8, 8, 8]"}
FIELDS = {  # what else they need, in torch's words and in Keras's
    "Linear": ("{out_features: 5, bias: false}", "{units: 5, use_bias: false}"),
    "LayerNorm": ("{eps: 1e-4}", "{epsilon: 1e-4}"),
    "GroupNorm": ("{num_groups: 3, eps: 1e-4}", "{groups: 3, epsilon: 1e-4}"),
    "Conv": ("{out_channels: 6, kernel_size: 3, stride: 2}", "{filters: 6, kernel_size: 3, strides: 2}"),
    "ConvTranspose": ("{out_channels: 6, kernel_size: 3}", "{filters: 6, kernel_size: 3}"),
    "MaxPool": ("{kernel_size: 3, stride: 2}", "{pool_size: 3, strides: 2}"),
    "AvgPool": ("{kernel_size: 2}", "{pool_size: 2}"),
    "BatchNorm": ("{eps: 1e-4}", "{epsilon: 1e-4}"),
    "Dropout": ("{p: 0.25}", "{rate: 0.25}"),
    "AdaptiveMaxPool": ("{output_size: 2}",) * 2,
    "AdaptiveAvgPool": ("{output_size: 2}",) * 2,
    "ZeroPad": ("{padding: 2}",) * 2,
    "Convolution": ("{filters: 6, kernel_size: 3}",) * 2,
    "SeparableConvolution": ("{filters: 6, kernel_size: 3}",) * 2,
    "GlobalMaxPool": ("{keepdims: true}",) * 2,
    "GlobalAvgPool": ("{keepdims: true}",) * 2,
}
KINDS_OF_OTHERS = translating.OF_TORCH | translating.OF_KERAS


def text_of(layer: str, rank: int = 2) -> str:
    head = f"regspec: 1\nname: net\nparameters: {{momentum: 0.25}}\ninputs: {{x: {{shape: {SHAPES[rank]}}}}}\n"
    return f"{head}layers:\n  - {layer}\n"


@pytest.mark.parametrize("name", KINDS_OF_OTHERS)
def test_a_kind(name: str) -> None:
    kind = KINDS_OF_OTHERS[name]
    assert kind in KINDS
    assert name not in KINDS
    rank = int(found[0]) if (found := re.search(r"\d", name)) else 2
    theirs, ours = FIELDS[re.sub(r"\d[dD](Transpose)?$", "", name)]
    text = text_of(f"{name}: {theirs}", rank)
    spec, same = regspec.loads(text), regspec.loads(text_of(f"{kind}: {ours}", rank))
    assert spec == same
    assert same.notes == ()
    renamed = document.parse(theirs).data.keys() - document.parse(ours).data.keys()
    defaults = ", with Keras's defaults" if name in translating.OF_TORCH else ""
    assert {note.what for note in spec.notes} == {
        f"'{name}' is read as {kind}{defaults}",
        *(f"'{field}' is read as '{translating.FIELDS[field]}'" for field in renamed),
    }
    assert validator(spec_schema).is_valid(document.parse(text).data)


@pytest.mark.parametrize(
    ("theirs", "ours", "notes"),
    [
        ("LeakyReLU: {alpha: 0.1}", "LeakyReLU: {negative_slope: 0.1}", ["'alpha' is read as 'negative_slope'"]),
        ("Linear: 3", "Dense: 3", ["'Linear' is read as Dense, with Keras's defaults"]),
        ("BatchNorm2d", "BatchNormalization", ["'BatchNorm2d' is read as BatchNormalization, with Keras's defaults"]),
        ("MaxPool2D: 3", "MaxPooling2D: 3", ["'MaxPool2D' is read as MaxPooling2D"]),
        ("ELU: {alpha: 0.5}", "ELU: 0.5", []),
        (
            "SpectralNormalization: {layer: {Linear: {out_features: 3}}}",
            "SpectralNormalization: {layer: {Dense: {units: 3}}}",
            ["'Linear' is read as Dense, with Keras's defaults", "'out_features' is read as 'units'"],
        ),
        (
            "{class_name: LeakyReLU, config: {name: leaky_relu, alpha: 0.1}}",
            "LeakyReLU: {negative_slope: 0.1}",
            ["'alpha' is read as 'negative_slope'"],
        ),
        (
            "Dense: {units: 3, kernel_initializer: {xavier_uniform_: {}}}",
            "Dense: {units: 3, kernel_initializer: glorot_uniform}",
            ["'xavier_uniform_' is read as glorot_uniform"],
        ),
    ],
)
def test_a_layer(theirs: str, ours: str, notes: list[str]) -> None:
    spec = regspec.loads(text_of(theirs))
    assert spec == regspec.loads(text_of(ours))
    assert [note.what for note in spec.notes] == notes
    assert all(note.severity == "note" for note in spec.notes)


@pytest.mark.parametrize("name", ["xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"])
def test_an_initializer_draws_what_torch_draws(name: str) -> None:
    """The share of numbers beyond two deviations, which truncation takes away, and the deviation."""
    layer = f"Linear: {{out_features: 500, kernel_initializer: {name}}}"
    text = f"regspec: 1\ninputs: {{x: {{shape: [300]}}}}\nlayers:\n  - {layer}\n"
    assert validator(spec_schema).is_valid(document.parse(text).data)
    weight = regspec.build(text, seed=0).get_parameter("dense.weight")
    expected = torch.empty(500, 300)
    torch.manual_seed(1)
    getattr(nn.init, f"{name}_")(expected)
    assert weight.std().item() == pytest.approx(expected.std().item(), rel=0.01)
    deviation = expected.std()
    shares = [((each.abs() > 2 * deviation).float().mean()).item() for each in (weight, expected)]
    assert shares[0] == pytest.approx(shares[1], abs=0.003)


@pytest.mark.parametrize(
    ("layer", "what", "hint"),
    [
        (
            "BatchNorm2d: {momentum: 0.1}",
            "'momentum' of BatchNorm2d counts the other way",
            "torch's momentum of m is one of 1 - m here: write 'BatchNormalization: {momentum: 0.9}'",
        ),
        ("Conv2d: {out_channels: 3, kernel_size: 3, padding: 1}", "'padding' of Conv2D must be", None),
        ("Conv2d: {out_channels: 3, filters: 3, kernel_size: 3}", "Conv2D has no field 'out_channels'", None),
        ("TimeDistributed: {layer: {BatchNorm2d: {momentum: 0.1}}}", "names no kind of layer: 'BatchNorm2d'", None),
        ("BatchNorm2d: {momentum: $momentum}", "'momentum' of BatchNorm2d counts the other way", None),
        ("Linear: {in_features: 12, out_features: 3}", "Dense has no field 'in_features'", None),
        ("Dense: {units: 3, kernel_initializer: {kaiming_normal: {mode: fan_out}}}", "names no initializer", None),
        (
            "InstanceNorm2d",
            "no kind of layer or block is called 'InstanceNorm2d'",
            "did you mean 'GroupNormalization'?",
        ),
    ],
)
def test_what_means_something_else_is_a_fault(layer: str, what: str, hint: str | None) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(text_of(layer))
    (problem, *more) = caught.value.problems
    assert what in problem.what
    assert hint is None or problem.hint == hint
    assert more == []


def test_fields_are_those_of_kinds() -> None:
    fields: set[Any] = {field for kind in KINDS.values() for field in kind.model_fields}
    assert {*translating.FIELDS.values()} <= fields
