"""The types in which models compute: of the whole, of single layers, of inputs; and of ported models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from safetensors.torch import load_file

import regspec
from regspec.layers.arrays import to_parameters
from regspec.layers.kinds import OPERATIONS

from .layers import reference
from .layers.rows import ROWS, Row
from .layers.specs import outputs_of, spec_of, step_of
from .layers.test_layers import _is_called

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves

FIRST: dict[str, tuple[int, Row]] = {}  # a row of each kind
for _index, _row in enumerate(ROWS):
    if _row.has_reference and not _row.is_random:
        FIRST.setdefault(_row.kind, (_index, _row))
# Of torch's operations some have no kernels in half precision; Keras computes mel filters in single precision.
FIRST = {kind: each for kind, each in FIRST.items() if kind not in OPERATIONS}
FIRST.pop("MelSpectrogram")

NUMBERS = torch.tensor([[0.5, -1.25, 2.0, 7.75], [1.9999, -2.9999, 3.9999, 0.0], [1.0, -0.125, 8.0, -5.0]])
INPUTS = {
    name: NUMBERS.abs().to(torch.uint8) if name == "uint8" else NUMBERS.to(getattr(torch, name))
    for name in ("float16", "float32", "float64", "bfloat16", "uint8", "int8", "int16", "int64", "bool")
}


@pytest.mark.parametrize("kind", FIRST)
def test_double_precision_agrees_with_keras(kind: str) -> None:
    """To more than single precision gives: nothing on the way is kept in float32."""
    index, row = FIRST[kind]
    spec = spec_of(row, row.fields).in_precision("float64")
    model, node = regspec.build(spec, seed=0), step_of(spec)
    keras.config.set_dtype_policy("float64")
    try:
        layer = reference.keras_layer(row.kind, row.fields, row.data_format, len(row.shapes[0]) + 1)
        xs = [torch.as_tensor(x) for x in reference.inputs_of(row, index)]
        xs = [x.double() if x.is_floating_point() else x for x in xs]
        wanted = reference.call(layer, row, xs, False)
        reference.fill(layer, index)
        wanted = reference.call(layer, row, xs, False)
    finally:
        keras.config.set_dtype_policy("float32")
    state, unused = model.state_dict(), list(layer.weights)
    for weight in node.lowered.weights:
        variable = next(
            each for each in unused if _is_called(each, weight.name, row.kind) and tuple(each.shape) == weight.shape
        )
        unused = [each for each in unused if each is not variable]
        for parameter, array in to_parameters(weight, variable.value.detach().numpy()).items():
            path = f"{node.attributes[weight.module]}.{parameter}"
            assert state[path].dtype is torch.float64
            state[path] = torch.as_tensor(np.array(array))
    model.load_state_dict(state)
    got = outputs_of(model.eval()(*xs))
    for a, b, inferred in zip(got, wanted, node.outputs, strict=True):
        assert str(a.dtype) == f"torch.{inferred.dtype}"
        # Keras's own operations go through float32 here and there
        torch.testing.assert_close(a.double(), b.double(), rtol=5e-7, atol=5e-7)


@pytest.mark.parametrize("kind", [each for each in FIRST if each != "AveragePooling3D"])  # which torch's CPU lacks
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(kind: str, dtype: torch.dtype) -> None:
    """Near single precision on the same weights, and in the type that was inferred."""
    index, row = FIRST[kind]
    spec = spec_of(row, row.fields)
    xs = [torch.as_tensor(x) for x in reference.inputs_of(row, index)]
    model, single = regspec.build(spec, seed=0, dtype=dtype).eval(), regspec.build(spec, seed=0).eval()
    for loaded in (each for both in (model, single) for each in both.buffers() if each.isnan().any()):
        loaded.fill_(0.5)  # what comes with the weights
    assert not {each.dtype for each in model.parameters()} - {dtype}
    got = outputs_of(model(*(x.to(dtype) if x.is_floating_point() else x for x in xs)))
    precision = "float16" if dtype is torch.float16 else "bfloat16"
    for a, b, inferred in zip(got, outputs_of(single(*xs)), step_of(spec.in_precision(precision)).outputs, strict=True):
        assert str(a.dtype) == f"torch.{inferred.dtype}"
        torch.testing.assert_close(a.float(), b.float(), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("model_dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("input_dtype", INPUTS)
def test_inputs_of_any_type(input_dtype: str, model_dtype: str) -> None:
    """Floating-point numbers are cast to a layer's type, and so are whole ones but where they are indices."""
    spec = regspec.loads(
        f"""
        regspec: 1
        dtype: {model_dtype}
        inputs: {{x: {{shape: [4], dtype: {input_dtype}}}}}
        layers:
          - Dense: {{units: 3, inputs: x}}
          - Flatten: {{name: flat, inputs: x}}
          - Embedding: {{input_dim: 9, output_dim: 2, inputs: x, name: rows}}
        outputs: [dense, flat, rows]
        """
    )
    x = INPUTS[input_dtype]
    model = regspec.build(spec, seed=0)
    index = x.abs().clamp(max=8) if input_dtype != "bool" else x
    dense, flat, rows = model(index)
    own = getattr(torch, model_dtype)
    assert dense.dtype is rows.dtype is own
    assert flat.dtype is (own if x.is_floating_point() else x.dtype)
    torch.testing.assert_close(dense, model.dense(index.to(own)))
    torch.testing.assert_close(rows, model.rows.weight[index.long()])


LAYERS = """
regspec: 1
dtype: float16
inputs: {x: {shape: [4], dtype: float32}}
blocks:
  stage:
    layers:
      - Dense: {name: own, units: 4, dtype: float64}
      - Dense: {name: other, units: 4, kernel_initializer: orthogonal}
layers:
  - stage: {name: stage, repeat: 2}
  - BatchNormalization: {name: norm, dtype: float32, gamma_regularizer: l2}
  - Softmax: {name: soft, dtype: float32}
"""


def test_layers_of_their_own_type() -> None:
    spec = regspec.loads(LAYERS)
    model = regspec.build(spec, seed=0)
    types = {name: each.dtype for name, each in model.named_parameters()}
    assert types["stage.0.own.weight"] is types["stage.1.own.bias"] is torch.float64
    assert types["stage.0.other.weight"] is types["stage.1.other.bias"] is torch.float16
    assert types["norm.weight"] is torch.float32
    output = model(torch.randn(3, 4))
    assert output.dtype is torch.float32
    x = torch.randn(3, 4)
    wanted = x
    for stage in model.stage:
        wanted = stage.other(stage.own(wanted.double()).half())
    torch.testing.assert_close(model(x), model.soft(model.norm(wanted.float())))
    source = regspec.source(spec)
    assert "for layer in (self.stage[0].own, self.stage[1].own):\n            layer.double()" in source
    assert "self.half()" not in source
    assert "self.soft." not in source  # which holds nothing to convert


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")  # torch's own
def test_a_whole_model_in_another_type() -> None:
    """By the spec or by an argument: the same source, which a float32 model does not have to bear."""
    text = "regspec: 1\nname: m\n{}inputs: {{x: {{shape: [4]}}}}\nlayers:\n  - Dense: {{units: 3}}\n"
    spec = regspec.loads(text.format("dtype: bfloat16\n"))
    single = regspec.loads(text.format(""))
    assert regspec.source(spec) == regspec.source(single.in_precision("bfloat16"))
    assert "        self.bfloat16()\n" in regspec.source(spec)
    assert "bfloat16" not in regspec.source(single)
    a, b = regspec.build(spec, seed=3), regspec.build(single, seed=3, dtype=torch.bfloat16)
    x = torch.randn(2, 4)
    torch.testing.assert_close(a(x.bfloat16()), b(x.bfloat16()), rtol=0, atol=0)
    assert regspec.build(spec, dtype=torch.float32)(x).dtype is torch.float32
    # what is no type of a spec still converts the parameters
    assert regspec.build(single, dtype=torch.complex64).dense.weight.dtype is torch.complex64


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("- TimeDistributed: {layer: {Dense: {units: 3, dtype: float64}}}", "can't have a dtype of its own"),
        ("- Dense: {units: 3, dtype: float8}", "'dtype' of Dense must be"),
        ("- Dense: {units: 3, dtype: int32}", "'dtype' of Dense must be"),
    ],
)
def test_types_that_layers_do_not_have(layer: str, message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.loads(f"regspec: 1\ninputs: {{x: {{shape: [4, 3]}}}}\nlayers:\n  {layer}\n")


def test_a_block_of_a_file_has_the_types_of_the_spec(tmp_path: Path) -> None:
    def write(name: str, text: str) -> Any:
        (tmp_path / name).write_text(f"regspec: 1\n{text}")
        return tmp_path / name

    write("inner.yaml", "dtype: float64\ninputs: {x: {shape: [4]}}\nlayers: [{Dense: {units: 3}}]\n")
    outer = "inputs: {x: {shape: [4]}}\nblocks: {inner: {file: inner.yaml}}\nlayers: [inner]\n"
    with pytest.raises(regspec.RegspecError, match="has dtype: float64, but this spec has dtype: float32"):
        regspec.load(write("outer.yaml", outer))
    assert regspec.build(write("same.yaml", f"dtype: float64\n{outer}"))(torch.randn(2, 4).double()).shape == (2, 3)


# -- ported ------------------------------------------------------------------------------------------------------------

X = torch.randn(5, 4, 8)


def ported_from(policy: str, last: str | None, path: Path) -> tuple[Any, regspec.Port]:
    """A model of Keras whose layers have a policy, and its last ones another; and its port."""
    keras.config.set_dtype_policy(policy)
    try:
        x = keras.Input((4, 8))
        y = layers.Dense(8, activation="relu", kernel_regularizer="l2")(x)
        y = layers.BatchNormalization()(layers.Conv1D(6, 3, padding="same")(y))
        y = layers.MultiHeadAttention(2, 3)(y, y)
        y = layers.TimeDistributed(layers.Dense(4))(y)
        y = layers.LSTM(5, recurrent_initializer="glorot_uniform", return_sequences=True)(y)
        model = keras.Model(x, layers.Softmax(dtype=last)(layers.Dense(4, dtype=last)(y)))
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(path)
    return model, regspec.port(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("policy", "last", "tolerance", "types", "notes"),
    [
        ("float16", None, 2e-3, {"float16"}, ["in float16, as in Keras; but penalties"]),
        ("bfloat16", None, 2e-2, {"bfloat16"}, ["in bfloat16, as in Keras; but penalties"]),
        ("float64", None, 1e-6, {"float64"}, []),
        ("float16", "float32", 2e-3, {"float16", "float32"}, ["in float16, as in Keras"]),
        ("float32", "float64", 1e-5, {"float32", "float64"}, []),
        ("mixed_float16", "float32", 2e-3, {"float32"}, [r"torch.autocast(device, torch.float16)"]),
        ("mixed_bfloat16", None, 2e-2, {"float32"}, [r"torch.autocast(device, torch.bfloat16)"]),
    ],
)
def test_policies(
    policy: str, last: str | None, tolerance: float, types: set[str], notes: list[str], suffix: str, tmp_path: Path
) -> None:
    model, port = ported_from(policy, last, tmp_path / f"model{suffix}")
    ported = port.build()
    assert {str(each.dtype).removeprefix("torch.") for each in ported.parameters()} == types
    wanted, got = model(X, training=False), ported(X)
    if not policy.startswith("mixed"):
        assert got.dtype is wanted.dtype
    torch.testing.assert_close(got.double(), wanted.double(), rtol=tolerance, atol=tolerance)
    penalty = regspec.regularization_loss(ported).double()
    torch.testing.assert_close(penalty, model.losses[0].double(), rtol=tolerance, atol=0)
    assert len(port.notes) == len(notes)
    assert all(wanted in note for wanted, note in zip(notes, port.notes, strict=True))
    port.save(tmp_path / "ported")
    again = regspec.build(tmp_path / "ported" / "spec.yaml")
    state = load_file(tmp_path / "ported" / "weights.safetensors")
    assert {name: each.dtype for name, each in state.items()} == {
        name: each.dtype for name, each in ported.state_dict().items()
    }
    again.load_state_dict(state)
    torch.testing.assert_close(again.eval()(X), got, rtol=0, atol=0)


@pytest.mark.parametrize("input_dtype", INPUTS)
@pytest.mark.parametrize("policy", ["float32", "float64"])
def test_inputs_of_ported_models(input_dtype: str, policy: str, tmp_path: Path) -> None:
    x = keras.Input((4,), dtype=input_dtype)
    rows = layers.Embedding(9, 2, dtype=policy)(x)
    flat = layers.Flatten(dtype=policy)(x)
    model = keras.Model(x, [layers.Dense(3, dtype=policy)(x), layers.Dense(3, dtype=policy)(flat), rows])
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    assert {each.dtype for each in port.spec.inputs.values()} == {input_dtype}
    given = INPUTS[input_dtype]
    given = given.abs().clamp(max=8) if input_dtype != "bool" else given
    for a, b in zip(port.build()(given), model(given), strict=True):
        assert a.dtype is getattr(torch, policy)
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-6, atol=1e-6)


def config_of(layer: dict[str, Any], dtype: Any) -> dict[str, Any]:
    first = {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, 4, 3], "dtype": "float32"}}
    layer = {**layer, "config": {**layer["config"], "dtype": dtype}}
    return {"class_name": "Sequential", "config": {"name": "m", "layers": [first, layer]}}


DENSE = {"class_name": "Dense", "config": {"name": "d", "units": 3}}
WRAPPED = {
    "class_name": "TimeDistributed",
    "config": {"name": "t", "layer": {"class_name": "Dense", "config": {"name": "d", "units": 3, "dtype": "float32"}}},
}


@pytest.mark.parametrize(
    ("layer", "dtype", "message"),
    [
        (DENSE, "int8", "the precision int8"),
        (DENSE, "float8_e4m3fn", "the precision float8_e4m3fn"),
        (DENSE, ["float32"], r"the precision \['float32'\]"),
        (DENSE, {"class_name": "Mine", "config": {}}, "the precision Mine"),
        (WRAPPED, "float64", "TimeDistributed in float64 around a layer in float32"),
    ],
)
def test_policies_that_are_not_ported(layer: dict[str, Any], dtype: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(config_of(layer, dtype)))
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.port(tmp_path / "model.json")


@pytest.mark.parametrize(
    "dtype",
    [
        "float64",
        {"class_name": "Policy", "config": {"name": "float64"}},
        {"class_name": "FloatDTypePolicy", "config": {"name": "float64"}},
        {"class_name": "DTypePolicyMap", "config": {"default_policy": "float64", "policy_map": {}}},
    ],
)
def test_forms_of_policies(dtype: Any, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(config_of(DENSE, dtype)))
    assert regspec.port(tmp_path / "model.json").spec.dtype == "float64"


def test_attention_in_half_precision_rounds_as_keras_does(tmp_path: Path) -> None:
    """To the last bit, with biases."""
    query, value = keras.Input((8, 16)), keras.Input((4, 16))
    model = keras.Model([query, value], layers.MultiHeadAttention(2, 8, dtype="float16")(query, value))
    reference.fill(model, 1)
    model.save(tmp_path / "model.keras")
    xs = [torch.randn(2, 8, 16), torch.randn(2, 4, 16)]
    torch.testing.assert_close(regspec.port(tmp_path / "model.keras").build()(*xs), model(xs), rtol=2e-4, atol=2e-4)
