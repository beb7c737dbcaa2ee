"""Names of torch and of older Keras that are read: the same spec as with Keras's names, and a note at each."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jsonschema
import keras
import pytest
import torch
from torch import nn

import regspec
from regspec.language.initializers import INITIALIZERS_OF_TORCH
from regspec.layers import KINDS
from regspec.specs import translating
from regspec.text import document
from regspec.text.hints import FIELDS
from regspec.views.formatting import formatted

from . import own
from .markdown import ROOT
from .test_schema import rules_schema, spec_schema, validator


@dataclass(frozen=True)
class Row:
    """A layer in the words of others and in Keras's, its fields in one order; and torch's module with them."""

    kind: str
    theirs: str
    ours: str
    shape: str
    module: Callable[[], nn.Module] | None = None  # with Keras's defaults, in training


SIGNAL, IMAGE, VOLUME = "shape: [3, 12], axes: [channels, length]", "shape: [3, 12, 11]", "shape: [3, 8, 7, 6]"
STEPS = "shape: [3, 12, 11], axes: [steps, length, features]"
STRIDES = ("{out_channels: 6, kernel_size: 3, stride: 2, bias: false}",
           "{filters: 6, kernel_size: 3, strides: 2, use_bias: false}")  # fmt: skip
EPS = "{eps: 0.25}", "{epsilon: 0.25}"  # so much that it shows
POOLS = "{kernel_size: 3, stride: 2}", "{pool_size: 3, strides: 2}"
SIZE, PADDING = ("{output_size: 2}",) * 2, ("{padding: 2}",) * 2
RATE = "{p: 0.25}", "{rate: 0.25}"
FILTERS, KEPT = ("{filters: 6, kernel_size: 3}",) * 2, ("{keepdims: true}",) * 2
OF_TORCH = {
    "Linear": Row("Dense", "{out_features: 5, bias: false}", "{units: 5, use_bias: false}", "shape: [7, 12]",
                  lambda: nn.Linear(12, 5, bias=False)),
    "LayerNorm": Row("LayerNormalization", *EPS, "shape: [7, 12]", lambda: nn.LayerNorm(12, eps=0.25)),
    "GroupNorm": Row("GroupNormalization", "{num_groups: 3, eps: 0.25}", "{groups: 3, epsilon: 0.25}",
                     "shape: [6, 5, 4], axes: [channels, height, width]", lambda: nn.GroupNorm(3, 6, eps=0.25)),
    "Conv1d": Row("Conv1D", *STRIDES, SIGNAL, lambda: nn.Conv1d(3, 6, 3, stride=2, bias=False)),
    "Conv2d": Row("Conv2D", *STRIDES, IMAGE, lambda: nn.Conv2d(3, 6, 3, stride=2, bias=False)),
    "Conv3d": Row("Conv3D", *STRIDES, VOLUME, lambda: nn.Conv3d(3, 6, 3, stride=2, bias=False)),
    "ConvTranspose1d": Row("Conv1DTranspose", *STRIDES, SIGNAL,
                           lambda: nn.ConvTranspose1d(3, 6, 3, stride=2, bias=False)),
    "ConvTranspose2d": Row("Conv2DTranspose", *STRIDES, IMAGE,
                           lambda: nn.ConvTranspose2d(3, 6, 3, stride=2, bias=False)),
    "ConvTranspose3d": Row("Conv3DTranspose", *STRIDES, VOLUME,
                           lambda: nn.ConvTranspose3d(3, 6, 3, stride=2, bias=False)),
    "MaxPool1d": Row("MaxPooling1D", *POOLS, SIGNAL, lambda: nn.MaxPool1d(3, 2)),
    "MaxPool2d": Row("MaxPooling2D", *POOLS, IMAGE, lambda: nn.MaxPool2d(3, 2)),
    "MaxPool3d": Row("MaxPooling3D", *POOLS, VOLUME, lambda: nn.MaxPool3d(3, 2)),
    "AvgPool1d": Row("AveragePooling1D", *POOLS, SIGNAL, lambda: nn.AvgPool1d(3, 2)),
    "AvgPool2d": Row("AveragePooling2D", *POOLS, IMAGE, lambda: nn.AvgPool2d(3, 2)),
    "AvgPool3d": Row("AveragePooling3D", *POOLS, VOLUME, lambda: nn.AvgPool3d(3, 2)),
    "AdaptiveMaxPool1d": Row("AdaptiveMaxPooling1D", *SIZE, SIGNAL, lambda: nn.AdaptiveMaxPool1d(2)),
    "AdaptiveMaxPool2d": Row("AdaptiveMaxPooling2D", *SIZE, IMAGE, lambda: nn.AdaptiveMaxPool2d(2)),
    "AdaptiveMaxPool3d": Row("AdaptiveMaxPooling3D", *SIZE, VOLUME, lambda: nn.AdaptiveMaxPool3d(2)),
    "AdaptiveAvgPool1d": Row("AdaptiveAveragePooling1D", *SIZE, SIGNAL, lambda: nn.AdaptiveAvgPool1d(2)),
    "AdaptiveAvgPool2d": Row("AdaptiveAveragePooling2D", *SIZE, IMAGE, lambda: nn.AdaptiveAvgPool2d(2)),
    "AdaptiveAvgPool3d": Row("AdaptiveAveragePooling3D", *SIZE, VOLUME, lambda: nn.AdaptiveAvgPool3d(2)),
    "BatchNorm1d": Row("BatchNormalization", *EPS, SIGNAL, lambda: nn.BatchNorm1d(3, eps=0.25)),
    "BatchNorm2d": Row("BatchNormalization", *EPS, IMAGE, lambda: nn.BatchNorm2d(3, eps=0.25)),
    "BatchNorm3d": Row("BatchNormalization", *EPS, VOLUME, lambda: nn.BatchNorm3d(3, eps=0.25)),
    "Dropout1d": Row("SpatialDropout1D", *RATE, SIGNAL, lambda: nn.Dropout1d(0.25)),
    "Dropout2d": Row("SpatialDropout2D", *RATE, IMAGE, lambda: nn.Dropout2d(0.25)),
    "Dropout3d": Row("SpatialDropout3D", *RATE, VOLUME, lambda: nn.Dropout3d(0.25)),
    "ZeroPad1d": Row("ZeroPadding1D", *PADDING, SIGNAL, lambda: nn.ZeroPad1d(2)),
    "ZeroPad2d": Row("ZeroPadding2D", *PADDING, IMAGE, lambda: nn.ZeroPad2d(2)),
    "ZeroPad3d": Row("ZeroPadding3D", *PADDING, VOLUME, lambda: nn.ZeroPad3d(2)),
}  # fmt: skip
OF_KERAS = {
    "Convolution1D": Row("Conv1D", *FILTERS, SIGNAL),
    "Convolution2D": Row("Conv2D", *FILTERS, IMAGE),
    "Convolution3D": Row("Conv3D", *FILTERS, VOLUME),
    "Convolution1DTranspose": Row("Conv1DTranspose", *FILTERS, SIGNAL),
    "Convolution2DTranspose": Row("Conv2DTranspose", *FILTERS, IMAGE),
    "Convolution3DTranspose": Row("Conv3DTranspose", *FILTERS, VOLUME),
    "SeparableConvolution1D": Row("SeparableConv1D", *FILTERS, SIGNAL),
    "SeparableConvolution2D": Row("SeparableConv2D", *FILTERS, IMAGE),
    "MaxPool1D": Row("MaxPooling1D", *POOLS, SIGNAL),
    "MaxPool2D": Row("MaxPooling2D", *POOLS, IMAGE),
    "MaxPool3D": Row("MaxPooling3D", *POOLS, VOLUME),
    "AvgPool1D": Row("AveragePooling1D", *POOLS, SIGNAL),
    "AvgPool2D": Row("AveragePooling2D", *POOLS, IMAGE),
    "AvgPool3D": Row("AveragePooling3D", *POOLS, VOLUME),
    "GlobalMaxPool1D": Row("GlobalMaxPooling1D", *KEPT, SIGNAL),
    "GlobalMaxPool2D": Row("GlobalMaxPooling2D", *KEPT, IMAGE),
    "GlobalMaxPool3D": Row("GlobalMaxPooling3D", *KEPT, VOLUME),
    "GlobalAvgPool1D": Row("GlobalAveragePooling1D", *KEPT, SIGNAL),
    "GlobalAvgPool2D": Row("GlobalAveragePooling2D", *KEPT, IMAGE),
    "GlobalAvgPool3D": Row("GlobalAveragePooling3D", *KEPT, VOLUME),
}
KINDS_OF_OTHERS = OF_TORCH | OF_KERAS
# Fields of kinds that are called alike: each name of others stands in some row here or above.
OTHER_FIELDS = [
    Row("LSTM", "{hidden_size: 5}", "{units: 5}", "shape: [7, 12]"),
    Row("Embedding", "{num_embeddings: 9, embedding_dim: 4}", "{input_dim: 9, output_dim: 4}", "shape: [7]"),
    Row("Conv2D", "{filters: 6, kernel_size: 3, dilation: 2}", "{filters: 6, kernel_size: 3, dilation_rate: 2}", IMAGE,
        lambda: nn.Conv2d(3, 6, 3, dilation=2)),
    Row("LeakyReLU", "{alpha: 0.125}", "{negative_slope: 0.125}", IMAGE, lambda: nn.LeakyReLU(0.125)),
    Row("Einsum", "{equation: 'abc->acb'}", "{subscripts: 'abc->acb'}", "shape: [7, 12]"),
    Row("EinsumDense", "{subscripts: 'abc,cd->abd', output_shape: [null, 5]}",
        "{equation: 'abc,cd->abd', output_shape: [null, 5]}", "shape: [7, 12]"),
]  # fmt: skip

LINEAR = "'Linear' is read as Dense, with Keras's defaults"


ROWS = [*KINDS_OF_OTHERS.items(), *((row.kind, row) for row in OTHER_FIELDS)]


def text_of(layer: str, shape: str = IMAGE) -> str:
    head = f"regspec: 1\nname: net\nparameters: {{momentum: 0.25}}\ninputs: {{x: {{{shape}}}}}\n"
    return f"{head}layers:\n  - {layer}\n"


def renamed_in(row: Row) -> dict[str, str]:
    """The fields of a row that others call otherwise, with their names here."""
    names = zip(document.parse(row.theirs).data, document.parse(row.ours).data, strict=True)
    return {theirs: ours for theirs, ours in names if theirs != ours}


def test_the_rows_are_all_names() -> None:
    rows = [*KINDS_OF_OTHERS.values(), *OTHER_FIELDS]
    assert OF_TORCH.keys() == translating.OF_TORCH.keys()
    assert OF_KERAS.keys() == translating.OF_KERAS.keys()
    assert {name for row in rows for name in renamed_in(row)} == FIELDS.keys()


@pytest.mark.parametrize("name", OF_KERAS)
def test_a_name_of_keras_is_keras_class(name: str) -> None:
    assert getattr(keras.layers, name) is getattr(keras.layers, OF_KERAS[name].kind)


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_a_kind(name: str, row: Row) -> None:
    assert row.kind in KINDS
    assert (name in KINDS) is (name == row.kind)
    text = text_of(f"{name}: {row.theirs}", row.shape)
    spec, same = regspec.loads(text), regspec.loads(text_of(f"{row.kind}: {row.ours}", row.shape))
    assert spec == same
    assert same.notes == ()
    defaults = ", with Keras's defaults" if name in OF_TORCH else ""
    said = [f"'{name}' is read as {row.kind}{defaults}"]
    notes = (said if name != row.kind else []) + [f"'{a}' is read as '{b}'" for a, b in renamed_in(row).items()]
    assert sorted(note.what for note in spec.notes) == sorted(notes)
    assert validator(spec_schema).is_valid(document.parse(text).data)


WITH_MODULE = [(name, row) for name, row in ROWS if row.module]


@pytest.mark.parametrize(("name", "row"), WITH_MODULE, ids=[name for name, _ in WITH_MODULE])
def test_a_layer_of_torch_computes_what_torchs_module_does(name: str, row: Row) -> None:
    """In training, with the module's own weights, and with the same numbers where some are drawn."""
    text = text_of(f"{name}: {row.theirs}", row.shape)
    assert row.module is not None
    theirs, ours = row.module(), regspec.build(text, seed=0)
    with torch.no_grad():
        for own, their in zip(ours.parameters(), theirs.parameters(), strict=True):
            own.copy_(their.uniform_(-1, 1))
    x = torch.randn(5, *document.parse(text).data["inputs"]["x"]["shape"])
    torch.manual_seed(1)
    wanted = theirs(x)
    torch.manual_seed(1)
    torch.testing.assert_close(ours(x), wanted)


@pytest.mark.parametrize(
    ("theirs", "ours", "notes"),
    [
        ("LeakyReLU: {alpha: 0.1}", "LeakyReLU: {negative_slope: 0.1}", ["'alpha' is read as 'negative_slope'"]),
        ("Linear: {out_features: 3}", "Dense: 3", [LINEAR, "'out_features' is read as 'units'"]),
        ("GroupNorm: 3", "GroupNormalization: 3", ["'GroupNorm' is read as GroupNormalization, with Keras's defaults"]),
        ("BatchNorm2d", "BatchNormalization", ["'BatchNorm2d' is read as BatchNormalization, with Keras's defaults"]),
        ("MaxPool2D: 3", "MaxPooling2D: 3", ["'MaxPool2D' is read as MaxPooling2D"]),
        ("ELU: {alpha: 0.5}", "ELU: 0.5", []),
        (
            "SpectralNormalization: {layer: {Linear: {out_features: 3}}}",
            "SpectralNormalization: {layer: {Dense: {units: 3}}}",
            [LINEAR, "'out_features' is read as 'units'"],
        ),
        (
            "SpectralNormalization: {layer: {class_name: Linear, config: {out_features: 3, bias: false}}}",
            "SpectralNormalization: {layer: {Dense: {units: 3, use_bias: false}}}",
            [LINEAR, "'out_features' is read as 'units'", "'bias' is read as 'use_bias'"],
        ),
        (
            "{class_name: Linear, config: {out_features: 3, bias: false, name: null}}",
            "Dense: {units: 3, use_bias: false}",
            [LINEAR, "'out_features' is read as 'units'", "'bias' is read as 'use_bias'"],
        ),
        ("{class_name: Dense, name: own, config: {units: 3}}", "Dense: {name: own, units: 3}", []),
        ("{class_name: Dense, name: a, config: {units: 3, name: b}}", "Dense: {name: b, units: 3}", []),
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
        *(
            (
                f"Dense: {{units: 3, kernel_initializer: {call}}}",
                "Dense: {units: 3, kernel_initializer: he_uniform}",
                [f"'{call}' is read as he_uniform"],
            )
            for call in (
                "kaiming_uniform()",
                "kaiming_uniform_( )",
                "nn.init.kaiming_uniform_()",
                "torch.nn.init.kaiming_uniform_()",
            )
        ),
        (
            "Dense: {units: 3, kernel_initializer: kaiming_normal_()}",
            "Dense: {units: 3, kernel_initializer: {variance_scaling: {scale: 2, distribution: untruncated_normal}}}",
            ["'kaiming_normal_()' is read as the untruncated normal of torch, as variance_scaling"],
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
        (
            "{class_name: BatchNorm2d, config: {momentum: 0.1}}",
            "'momentum' of BatchNorm2d counts the other way",
            "torch's momentum of m is one of 1 - m here: write 'BatchNormalization: {momentum: 0.9}'",
        ),
        *(
            (
                f"TimeDistributed: {{layer: {inner}}}",
                "'momentum' of BatchNorm2d counts the other way",
                "torch's momentum of m is one of 1 - m here: write 'BatchNormalization: {momentum: 0.9}'",
            )
            for inner in ("{BatchNorm2d: {momentum: 0.1}}", "{class_name: BatchNorm2d, config: {momentum: 0.1}}")
        ),
        (
            "SpectralNormalization: {layer: {Linear: 3}}",
            "a value alone is 'in_features' of torch's Linear",
            "it is inferred from the layer's input: write 'Dense: {units: …}'",
        ),
        ("{class_name: Linear, config: {}}", "Dense needs 'units'", None),
        ("BatchNorm2d: {momentum: $momentum}", "'momentum' of BatchNorm2d counts the other way", None),
        ("Linear: {in_features: 12, out_features: 3}", "Dense has no field 'in_features'", None),
        *(
            (
                f"Dense: {{units: 3, kernel_initializer: {written}}}",
                "names no initializer",
                "it is read without arguments; else write "
                "'{variance_scaling: {scale: …, mode: …, distribution: untruncated_normal}}'",
            )
            for written in (
                "{kaiming_normal: {mode: fan_out}}",
                "kaiming_normal(a=1)",
                "xavier_normal_(gain=$momentum)",
            )
        ),
        (
            "Dense: {units: 3, kernel_initializer: xavier_uniform_(2)}",
            "names no initializer",
            "did you mean 'glorot_uniform'?",
        ),
        (
            "InstanceNorm2d",
            "no kind of layer or block is called 'InstanceNorm2d'",
            "did you mean 'GroupNormalization'?",
        ),
    ],
)
def test_what_means_something_else_is_a_fault(layer: str, what: str, hint: str | None) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(text_of(layer, STEPS if layer.startswith("TimeDistributed") else IMAGE))
    (problem, *more) = caught.value.problems
    assert what in problem.what
    assert hint is None or problem.hint == hint
    assert more == []


# What a value alone is: torch's first argument, by its name here; of other classes it is inferred, and refused.
VALUES = {
    "GroupNorm": "groups",
    **dict.fromkeys((f"{each}Pool{rank}d" for each in ("Max", "Avg") for rank in (1, 2, 3)), "pool_size"),
    **dict.fromkeys((f"Adaptive{each}Pool{rank}d" for each in ("Max", "Avg") for rank in (1, 2, 3)), "output_size"),
    **dict.fromkeys((f"Dropout{rank}d" for rank in (1, 2, 3)), "rate"),
    **dict.fromkeys((f"ZeroPad{rank}d" for rank in (1, 2, 3)), "padding"),
}


@pytest.mark.parametrize("name", OF_TORCH)
@pytest.mark.parametrize("value", ["1", "$momentum"])
def test_a_value_alone_is_the_first_argument_of_torch(name: str, value: str) -> None:
    row = OF_TORCH[name]

    def made(layer: str) -> str:
        return text_of(layer, row.shape).replace("0.25", "1")

    first = next(iter(inspect.signature(getattr(nn, name)).parameters))
    assert validator(spec_schema).is_valid(document.parse(made(f"{name}: 1")).data) is (name in VALUES)
    if name in VALUES:
        assert VALUES[name] in (first, FIELDS.get(first))
        assert regspec.loads(made(f"{name}: {value}")) == regspec.loads(made(f"{row.kind}: {{{VALUES[name]}: 1}}"))
        return
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(made(f"{name}: {value}"))
    (problem,) = caught.value.problems
    assert problem.what == f"a value alone is '{first}' of torch's {name}"
    assert f"write '{row.kind}" in (problem.hint or "")


@pytest.mark.parametrize("name", KINDS_OF_OTHERS)
def test_a_name_alone_is_read_where_the_kinds_own_is(name: str) -> None:
    """By the loader and by the schema: where nothing is required."""
    row = KINDS_OF_OTHERS[name]
    is_read = not any(field.is_required() for field in KINDS[row.kind].model_fields.values())
    shape = row.shape.replace("[6, ", "[32, ")  # channels that Keras's number of groups divides
    text = text_of(name, shape)
    assert validator(spec_schema).is_valid(document.parse(text).data) is is_read
    if is_read:
        assert regspec.loads(text) == regspec.loads(text_of(row.kind, shape))
        return
    with pytest.raises(regspec.RegspecError, match=f"{row.kind} needs"):
        regspec.loads(text)


@pytest.mark.parametrize("layer", ["{class_name: Dense, config: {use_bias: true}}", "{config: {}, class_name: Dens}"])
@pytest.mark.parametrize("around", ["%s", "SpectralNormalization: {layer: %s}"])
def test_a_fault_of_what_keras_serializes_is_at_its_name(layer: str, around: str) -> None:
    text = around % layer
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(text_of(text))
    (problem,) = caught.value.problems
    named = "Dense" if "Dense" in text else "Dens"
    assert (problem.column, problem.width) == (5 + text.index(named), len(named))


@pytest.mark.parametrize("name", ["Linear", "Conv2d", "Convolution2D", "MaxPool2D"])
def test_the_kinds_of_a_rule(name: str) -> None:
    kind = KINDS_OF_OTHERS[name].kind
    layers = "  - Conv2D: {filters: 2, kernel_size: 3}\n  - MaxPooling2D\n  - Dense: 3\n"
    top = f"regspec: 1\nparameters: {{kinds: [{name}]}}\ninputs: {{x: {{shape: [3, 12, 12]}}}}\n"
    head = f"{top}layers:\n{layers}regularizers:\n"
    for kinds in (f"[{name}]", "$kinds"):
        spec = regspec.loads(f"{head}  - {{kinds: {kinds}, activity: {{l2: 0.1}}}}\n")
        same = regspec.loads(f"{head}  - {{kinds: [{kind}], activity: {{l2: 0.1}}}}\n")
        assert spec == same
        assert [note.what for note in spec.notes] == [f"'{name}' is read as {kind}"]
        made = formatted(document.parse(f"{head}  - {{kinds: {kinds}, activity: {{l2: 0.1}}}}\n"))
        assert f"kinds: {kinds if kinds == '$kinds' else [kind]}".replace("'", "") in made


@pytest.mark.parametrize(
    ("written", "canonical"),
    [("Dense", "[Dense]"), ("Linear", "[Dense]"), ("[Dense]", "[Dense]"), ("$kind", "$kind"), ("$kinds", "$kinds")],
)
def test_a_kind_of_a_rule_may_stand_alone(written: str, canonical: str) -> None:
    top = "regspec: 1\nparameters: {kind: Dense, kinds: [Dense]}\ninputs: {x: {shape: [3]}}\nlayers:\n  - Dense: 3\n"
    text, same = (f"{top}regularizers:\n  - {{kinds: {each}, kernel: l2}}\n" for each in (written, "[Dense]"))
    assert validator(spec_schema).is_valid(document.parse(text).data)
    assert regspec.loads(text) == regspec.loads(same)
    assert formatted(document.parse(text)) == f"{top}regularizers:\n  - {{kinds: {canonical}, kernel: l2}}\n"


@pytest.mark.parametrize("types", ["Linear", "[Linear]"])
def test_a_class_of_a_rule_for_modules_may_stand_alone(types: str) -> None:
    text = f"regspec: 1\nrules:\n  - {{types: {types}, kernel_regularizer: l2}}\n"
    assert validator(rules_schema).is_valid(document.parse(text).data)
    assert formatted(document.parse(text)) == text.replace(types, "[Linear]")
    module = nn.Sequential(nn.Linear(3, 2), nn.Conv1d(2, 2, 1))
    assert [*regspec.regularization_terms(regspec.regularize(module, text))] == ["0.weight"]


# -- functions that torch has modules of -------------------------------------------------------------------------------

FUNCTIONS = {
    "CELU": "celu",
    "GELU": "gelu",
    "Hardshrink": "hard_shrink",
    "Hardsigmoid": "hard_sigmoid",
    "Hardswish": "hard_silu",
    "Hardtanh": "hard_tanh",
    "LogSigmoid": "log_sigmoid",
    "LogSoftmax": "log_softmax",
    "Mish": "mish",
    "RReLU": "rrelu",
    "ReLU6": "relu6",
    "SELU": "selu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
    "Softmin": "softmin",
    "Softplus": "softplus",
    "Softshrink": "soft_shrink",
    "Softsign": "softsign",
    "Tanh": "tanh",
    "Tanhshrink": "tanh_shrink",
}
# Modules of torch that are no kinds here and are not read, and why.
NOT_READ = {"GLU": "along torch's last axis", "Softmax2d": "no function here", "Threshold": "needs arguments",
            "MultiheadAttention": "no function"}  # fmt: skip


def test_the_functions_are_all_of_torch() -> None:
    assert {name for name in nn.modules.activation.__all__ if name not in KINDS} == {*FUNCTIONS, *NOT_READ}
    read = {name: said for name, (_, said) in translating.FUNCTIONS_OF_TORCH.items()}
    assert read == {name: {"activation": function} for name, function in FUNCTIONS.items()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_computes_what_torchs_module_does(name: str) -> None:
    """By torch's defaults, in evaluation; of two axes, where torch's softmax is along the features too."""
    x = 4 * torch.randn(50, 7)
    theirs = getattr(nn, name)().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, of a softmax without its axis
        wanted = theirs(x)
    torch.testing.assert_close(regspec.build(text_of(name, "shape: [7]")).eval()(x), wanted)


ABOUT = "activity_regularizer: {l2: 0.1}"


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("NAME", "Activation: OURS"),
        ("NAME:", "Activation: OURS"),
        ("NAME: {}", "Activation: OURS"),
        (
            f"NAME: {{name: act, inputs: x, {ABOUT}}}",
            f"Activation: {{name: act, activation: OURS, inputs: x, {ABOUT}}}",
        ),
        ("{class_name: NAME, config: {name: act}}", "{Activation: {name: act, activation: OURS}}"),
        ("TimeDistributed: NAME", "TimeDistributed: {layer: {Activation: OURS}}"),
        ("TimeDistributed: {layer: NAME}", "TimeDistributed: {layer: {Activation: OURS}}"),
        (
            "TimeDistributed: {layer: {NAME: {trainable: false}}}",
            "TimeDistributed: {layer: {Activation: {activation: OURS, trainable: false}}}",
        ),
        (
            "TimeDistributed: {layer: {TimeDistributed: NAME}}",
            "TimeDistributed: {layer: {TimeDistributed: {layer: {Activation: OURS}}}}",
        ),
    ],
)
def test_a_function(name: str, theirs: str, ours: str) -> None:
    """The same spec, with a note; the schema takes it, and the formatter writes what it is here."""
    text = text_of(theirs.replace("NAME", name), STEPS)
    same = text_of(ours.replace("OURS", FUNCTIONS[name]), STEPS)
    spec = regspec.loads(text)
    assert spec == regspec.loads(same)
    assert [note.what for note in spec.notes] == [f"'{name}' is read as Activation: {FUNCTIONS[name]}"]
    assert validator(spec_schema).is_valid(document.parse(text).data)
    made = formatted(document.parse(text))
    assert formatted(document.parse(made)) == made
    assert made == formatted(document.parse(same))
    again = regspec.loads(made)
    assert again == spec
    assert again.notes == ()


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("layers: [GELU, {Tanh: {name: a}}]",
         "layers: [{Activation: gelu}, {Activation: {name: a, activation: tanh}}]"),
        ("layers:\n  - GELU  # smooth", "layers:\n  - Activation: gelu  # smooth"),
        ("layers:\n  # above\n  - GELU:  # smooth\n      # why\n      name: a  # so",
         "layers:\n  # above\n  - Activation:  # smooth\n      # why\n      name: a  # so\n      activation: gelu"),
        ("layers:\n  - GELU: &d {name: a}", "layers:\n  - GELU: &d {name: a}"),
        ("layers:\n  - Flatten: &d {}\n  - GELU: *d", "layers:\n  - Flatten: &d {}\n  - GELU: *d"),
        ("layers:\n  - Flatten: &d {trainable: true}\n  - GELU: {<<: *d, name: a}",
         "layers:\n  - Flatten: &d {trainable: true}\n  - Activation: {name: a, activation: gelu, <<: *d}"),
        ("layers:\n  - GELU: $fields", "layers:\n  - GELU: $fields"),
    ],
)  # fmt: skip
def test_how_a_function_is_written(written: str, made: str) -> None:
    head = "regspec: 1\nparameters: {fields: {name: act}}\ninputs: {x: {shape: [4]}}\n"
    assert formatted(document.parse(f"{head}{written}\n")) == f"{head}{made}\n"
    assert regspec.loads(f"{head}{written}\n") == regspec.loads(f"{head}{made}\n")


@pytest.mark.parametrize(
    ("layer", "what", "hint"),
    [
        ("CELU: 0.5", "CELU takes a mapping of the fields of a layer, but is 0.5",
         "write '- Activation: {activation: {celu: …}}'"),
        ("GELU: tanh", "GELU takes a mapping of the fields of a layer, but is 'tanh'",
         "write '- Activation: {activation: {gelu: {approximate: …}}}'"),
        ("Tanh: 3", "Tanh takes a mapping of the fields of a layer, but is 3", None),
        ("GELU: {approximate: tanh}", "'approximate' is an argument of gelu",
         "write '- Activation: {activation: {gelu: {approximate: …}}}'"),
        ("LogSoftmax: {dim: 1}", "'dim' is an argument of log_softmax",
         "write '- Activation: {activation: {log_softmax: …}}'"),
        ("Hardshrink: {lambd: 0.1}", "'lambd' is an argument of hard_shrink",
         "write '- Activation: {activation: {hard_shrink: …}}'"),
        ("TimeDistributed: {layer: {CELU: {alpha: 0.1}}}", "'alpha' is an argument of celu",
         "write '- Activation: {activation: {celu: …}}'"),
        ("GELU: {activation: relu}", "the activation of GELU is gelu", None),
        ("ReLU6: {inplace: true}", "Activation has no field 'inplace'", "a spec says nothing of it: leave it out"),
        ("GELU: {nme: a}", "Activation has no field 'nme'", "did you mean 'name'?"),
        ("GELU: $nothing", "no parameter is called 'nothing'", None),
    ],
)  # fmt: skip
def test_a_function_has_the_fields_of_a_layer_alone(layer: str, what: str, hint: str | None) -> None:
    text = text_of(layer, STEPS)
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(text)
    (problem,) = caught.value.problems
    assert problem.what == what
    assert hint is None or problem.hint == hint
    assert "$" in layer or not validator(spec_schema).is_valid(document.parse(text).data)


@pytest.mark.parametrize("kinds", ["GELU", "[Flatten, GELU]"])
def test_a_function_is_no_kind_to_select(kinds: str) -> None:
    text = text_of("Flatten") + f"  - GELU\nregularizers:\n  - {{kinds: {kinds}, activity: l2}}\n"
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(text)
    (problem,) = caught.value.problems
    assert problem.what == "no kind of layer is called 'GELU'"
    assert (
        problem.hint == "it is read as Activation, as every other function is: select the layers by name, 'layers: …'"
    )


@pytest.mark.usefixtures("_registry")
def test_a_kind_of_ones_own_wins() -> None:
    """Over the name of a function and of a layer: in the loader, in rules, in the schema and in the formatter."""
    regspec.register_layer(own.Gate, name="GELU", weights={"gate": "gate"})
    regspec.register_layer(own.Gate, name="Linear", weights={"gate": "gate"})
    fields = "{features: 11, gate_regularizer: l2}"
    rule = "regularizers:\n  - {kinds: [GELU], activity: l2}\n"
    text = text_of(f"GELU: {fields}") + f"  - Linear: {fields}\n" + rule
    spec = regspec.loads(text)
    assert [type(use.layer).__name__ for use in spec.layers] == ["GELU", "Linear"]
    assert spec.notes == ()
    assert jsonschema.Draft202012Validator(spec_schema()).is_valid(document.parse(text).data)
    assert formatted(document.parse(text)) == text


@pytest.mark.parametrize(
    "entry", ["Linear: {units: 3}", "Linear: 3", "Dens: {units: 3}", "Dense: {unit: 3}", "Dense: {units: three}"]
)
def test_of_equal_entries_each_has_its_note_or_its_fault(entry: str) -> None:
    text = "regspec: 1\ninputs: {x: {shape: [3]}}\nlayers:\n" + f"  - {entry}\n" * 3
    try:
        found = regspec.loads(text).notes
    except regspec.RegspecError as error:
        found = tuple(error.problems)
    assert [each.line for each in found] == [4, 5, 6]


def test_the_page_has_every_name() -> None:
    """Of torch's kinds with a rank without it; and one kind of older Keras of each sort."""
    page = (ROOT / "examples" / "language.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("\n## Names of torch and of older Keras\n")
    section = rest.partition("\n## ")[0]
    kinds = {re.sub(r"[123]d$", "", name) for name in OF_TORCH}
    names = [*kinds, *FUNCTIONS, *FIELDS, *INITIALIZERS_OF_TORCH]
    assert [name for name in names if f"`{name}`" not in section] == []


def test_fields_are_those_of_kinds() -> None:
    fields: set[Any] = {field for kind in KINDS.values() for field in kind.model_fields}
    assert {*FIELDS.values()} <= fields
