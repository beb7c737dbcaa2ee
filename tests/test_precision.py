"""The types in which models compute: of the whole, of single layers, of inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

import regspec
from regspec.keras.weights import to_parameters

from .layers import reference
from .layers.rows import ROWS, Row
from .layers.specs import node_of, outputs_of, spec_of
from .layers.test_layers import _is_called

FIRST: dict[str, tuple[int, Row]] = {}  # a row of each kind
for _index, _row in enumerate(ROWS):
    if _row.has_reference and not _row.is_random:
        FIRST.setdefault(_row.kind, (_index, _row))

INPUTS = {
    "float16": torch.randn(3, 4).half(),
    "float32": torch.randn(3, 4),
    "float64": torch.randn(3, 4).double(),
    "bfloat16": torch.randn(3, 4).bfloat16(),
    "uint8": torch.randint(0, 9, (3, 4), dtype=torch.uint8),
    "int8": torch.randint(-9, 9, (3, 4), dtype=torch.int8),
    "int16": torch.randint(-9, 9, (3, 4), dtype=torch.int16),
    "int64": torch.randint(-9, 9, (3, 4)),
    "bool": torch.rand(3, 4) > 0.5,
}


@pytest.mark.parametrize("kind", FIRST)
def test_double_precision_agrees_with_keras(kind: str) -> None:
    """To more than single precision gives: nothing on the way is kept in float32."""
    index, row = FIRST[kind]
    spec = spec_of(row, row.fields).in_precision("float64")
    model, node = regspec.build(spec, seed=0), node_of(spec)
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
    for weight in node.plan.weights:
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
    assert not {each.dtype for each in model.parameters()} - {dtype}
    got = outputs_of(model(*(x.to(dtype) if x.is_floating_point() else x for x in xs)))
    precision = "float16" if dtype is torch.float16 else "bfloat16"
    for a, b, inferred in zip(got, outputs_of(single(*xs)), node_of(spec.in_precision(precision)).outputs, strict=True):
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
    assert types["stage_1.own.weight"] is types["stage_2.own.bias"] is torch.float64
    assert types["stage_1.other.weight"] is types["stage_2.other.bias"] is torch.float16
    assert types["norm.weight"] is torch.float32
    output = model(torch.randn(3, 4))
    assert output.dtype is torch.float32
    x = torch.randn(3, 4)
    wanted = x
    for stage in (model.stage_1, model.stage_2):
        wanted = stage.other(stage.own(wanted.double()).half())
    torch.testing.assert_close(model(x), model.soft(model.norm(wanted.float())))
    source = regspec.source(spec)
    assert "for layer in (self.stage_1.own, self.stage_2.own):\n            layer.double()" in source
    assert "self.half()" not in source
    assert "self.soft." not in source  # which holds nothing to convert


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
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
    ("layers", "message"),
    [
        ("- TimeDistributed: {layer: {Dense: {units: 3, dtype: float64}}}", "can't have a dtype of its own"),
        ("- Dense: {units: 3, dtype: float8}", "'dtype' of Dense must be"),
        ("- Dense: {units: 3, dtype: int32}", "'dtype' of Dense must be"),
    ],
)
def test_types_that_layers_do_not_have(layers: str, message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.loads(f"regspec: 1\ninputs: {{x: {{shape: [4, 3]}}}}\nlayers:\n  {layers}\n")


def test_a_block_of_a_file_has_the_types_of_the_spec(tmp_path: Path) -> None:
    def write(name: str, text: str) -> Any:
        (tmp_path / name).write_text(f"regspec: 1\n{text}")
        return tmp_path / name

    write("inner.yaml", "dtype: float64\ninputs: {x: {shape: [4]}}\nlayers: [{Dense: {units: 3}}]\n")
    outer = "inputs: {x: {shape: [4]}}\nblocks: {inner: {file: inner.yaml}}\nlayers: [inner]\n"
    with pytest.raises(regspec.RegspecError, match="has dtype: float64, but this spec has dtype: float32"):
        regspec.load(write("outer.yaml", outer))
    assert regspec.build(write("same.yaml", f"dtype: float64\n{outer}"))(torch.randn(2, 4).double()).shape == (2, 3)
