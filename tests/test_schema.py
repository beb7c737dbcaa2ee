"""The JSON Schemas: they accept what the loader accepts, and refuse what it refuses on structure."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import regspec
from regspec.layers import KINDS
from regspec.specs import loading
from regspec.text import document
from regspec.views.schema import rules_schema, spec_schema

ROOT = Path(__file__).parent.parent
GOLDEN = sorted((ROOT / "tests" / "language").glob("*.txt"))


@cache
def validator(schema: Callable[[], dict[str, Any]]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


@pytest.mark.parametrize("schema", [spec_schema, rules_schema], ids=["spec", "rules"])
def test_is_a_schema(schema: Callable[[], dict[str, Any]]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_accepts_every_example(path: Path) -> None:
    assert [error.message for error in validator(spec_schema).iter_errors(document.read(path).data)] == []


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_accepts_every_golden_case(path: Path) -> None:
    text = path.read_text(encoding="utf-8").partition("----\n")[0]
    assert [error.message for error in validator(spec_schema).iter_errors(document.parse(text).data)] == []


def with_layer(layer: str) -> str:
    return f"regspec: 1\nname: test\ninputs: {{x: {{shape: [8, 6, 4]}}}}\nlayers:\n  - {layer}\n"


@pytest.mark.parametrize(
    "text",
    [
        "regspec: 1\nname: x\ninputs: {x: {shape: [3]}}\nlayers: []\n",
        "regspec: 2\nname: x\ninputs: {x: {shape: [3]}}\nlayers: [Flatten]\n",
        "name: x\ninputs: {x: {shape: [3]}}\nlayers: [Flatten]\n",
        "regspec: 1\nname: x\nlayers: [Flatten]\n",
        "regspec: 1\nname: x\ninputs: {x: {shape: [3]}}\n",
        "regspec: 1\nname: x\ninputs: {}\nlayers: [Flatten]\n",
        "regspec: 1\nname: 9x\ninputs: {x: {shape: [3]}}\nlayers: [Flatten]\n",
        "regspec: 1\nname: x\ninputs: {x: [3]}\nlayers: [Flatten]\n",
        "regspec: 1\nname: x\ninputs: {x: {shape: 3}}\nlayers: [Flatten]\n",
        "regspec: 1\nname: x\ninputs: {x: {shape: [0]}}\nlayers: [Flatten]\n",
        "regspec: 1\nname: x\ninputs: {x: {shape: [3], dtype: complex}}\nlayers: [Flatten]\n",
        "regspec: 1\nname: x\ninputs: {x: {shape: [3]}}\nlayers: [Flatten]\nlosses: none\n",
        "regspec: 1\nname: x\ninputs: {x: {shape: [3]}}\nlayers: {Flatten: {}}\n",
        "regspec: 1\nname: x\ninputs: {x: {shape: [3]}}\nlayers: [Flatten]\noutputs: 3\n",
        "regspec: 1\nname: x\ninputs: {x: {shape: [3]}}\nlayers: [Flatten]\ndata_format: NCHW\n",
        "regspec: 1\nname: x\ninputs: {x: {shape: [3]}}\nlayers: [Flatten]\nactivity_reduction: median\n",
        "regspec: 1\nname: x\ninputs: {x: {shape: [3]}}\nlayers: [Flatten]\nregularizers: [{kernel: l3}]\n",
        "regspec: 1\nname: x\ninputs: {x: {shape: [3]}}\nlayers: [Flatten]\nregularizers: {kernel: l2}\n",
        "regspec: 1\nname: x\ninputs: {x: {shape: [3]}}\nlayers: [Flatten]\nblocks: {b: {layer: []}}\n",
        with_layer("Dense"),
        with_layer("Dense: 1.5"),
        with_layer("Dense: [3, 4]"),
        with_layer("Conv2D: 10"),
        with_layer("Flatten: 3"),
        with_layer("Add: 1"),
        with_layer("Activation: relo"),
        with_layer("call: 3"),
        with_layer("TimeDistributed: {Dense: 3}"),
        with_layer("Dense: {}"),
        with_layer("Dense: {units: 0}"),
        with_layer("Dense: {units: -3}"),
        with_layer("Dense: {units: 2.5}"),
        with_layer("Dense: {units: '3'}"),
        with_layer("Dense: {units: true}"),
        with_layer("Dense: {units: 3, unit: 4}"),
        with_layer("Dense: {units: 3, activation: relo}"),
        with_layer("Dense: {units: 3, activation: {relu: {slope: 1}}}"),
        with_layer("Dense: {units: 3, activation: {relu: {}, tanh: {}}}"),
        with_layer("Dense: {units: 3, use_bias: maybe}"),
        with_layer("Dense: {units: 3, name: 'a b'}"),
        with_layer("Dense: {units: 3, name: 3}"),
        with_layer("Dense: {units: 3, inputs: {}}"),
        with_layer("Dense: {units: 3, inputs: []}"),
        with_layer("Dense: {units: 3, trainable: 1}"),
        with_layer("Dense: {units: 3, kernel_initializer: glorot}"),
        with_layer("Dense: {units: 3, kernel_initializer: {constant: x}}"),
        with_layer("Dense: {units: 3, kernel_constraint: {max_norm: -1}}"),
        with_layer("Dense: {units: 3, kernel_regularizer: l3}"),
        with_layer("Dense: {units: 3, kernel_regularizer: 0.1}"),
        with_layer("Dense: {units: 3, kernel_regularizer: {}}"),
        with_layer("Dense: {units: 3, kernel_regularizer: []}"),
        with_layer("Dense: {units: 3, kernel_regularizer: {l2: -1}}"),
        with_layer("Dense: {units: 3, kernel_regularizer: {l2: '0.1'}}"),
        with_layer("Dense: {units: 3, kernel_regularizer: norm}"),
        with_layer("Dense: {units: 3, kernel_regularizer: [l2, {l1: x}]}"),
        with_layer("Dense: {units: 3, kernel_regularizer: {group_lasso: {strength: 0.1, axis: rows}}}"),
        with_layer("Dense: {units: 3, gamma_regularizer: l2}"),
        with_layer("{Dense: {units: 3}, Flatten: {}}"),
        with_layer("Conv2D: {filters: 3}"),
        with_layer("Conv2D: {filters: 3, kernel_size: [3, 3, 3]}"),
        with_layer("Conv2D: {filters: 3, kernel_size: 0}"),
        with_layer("Conv2D: {filters: 3, kernel_size: 3, padding: full}"),
        with_layer("Conv2D: {filters: 3, kernel_size: 3, data_format: NHWC}"),
        with_layer("Dropout: {rate: 1.5}"),
        with_layer("RNN: {cell: {LSTM: {units: 3}}}"),
        with_layer("RNN: {cell: []}"),
        with_layer("RNN: {cell: [{GRUCell: {units: 3}}, {LSTMCell: {unit: 3}}]}"),
        with_layer("RNN: {cell: {LSTMCell: {units: 3, activity_regularizer: l2}}}"),
        with_layer("LSTMCell: {units: 3}"),
        with_layer("Dens: {units: 3}"),
        with_layer("call: {inputs: x}"),
        with_layer("call: {layer: 3}"),
        with_layer("3"),
        with_layer("null"),
        with_layer("[Dense]"),
    ],
)
def test_refuses_what_the_loader_refuses(text: str) -> None:
    data = document.parse(text).data
    assert not validator(spec_schema).is_valid(data), "the schema accepts it"
    with pytest.raises(regspec.RegspecError):
        regspec.loads(text)


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        ("regspec: 1\nrules:\n  - {types: [Conv2d], kernel_regularizer: {l2: 1e-4}}\n", True),
        ("regspec: 1\nrules:\n  - {modules: 'a.*', activity_regularizer: l1, optional: true}\n", True),
        ("regspec: 1\nrules:\n  - {parameters: 'head\\.weight', regularizer: [l1, {norm: 0.1}]}\n", True),
        ("regspec: 1\nrules: []\n", False),
        ("regspec: 1\n", False),
        ("rules:\n  - {types: [Conv2d], kernel_regularizer: l2}\n", False),
        ("regspec: 1\nrules:\n  - {types: Conv2d, kernel_regularizer: {l2: x}}\n", False),
        ("regspec: 1\nrules:\n  - {type: [Conv2d], kernel_regularizer: l2}\n", False),
        ("regspec: 1\nrules:\n  - [Conv2d]\n", False),
    ],
)
def test_rules(text: str, is_valid: bool) -> None:
    read = document.parse(text)
    rules, _ = loading.rules_from(read)
    assert (rules is not None) is is_valid
    assert validator(rules_schema).is_valid(read.data) is is_valid


def test_a_parameter_may_stand_for_every_value() -> None:
    text = """
regspec: 1
name: test
parameters: {n: 3, act: relu, yes: true, strength: 0.1, size: [3, 3], penalty: {l2: 0.1}}
inputs: {x: {shape: [$n, 9, 9]}}
layers:
  - Conv2D: {filters: $n, kernel_size: $size, strides: [$n, 1], activation: $act, use_bias: $yes}
  - Flatten
  - Dense: {units: $n, kernel_regularizer: $penalty, bias_regularizer: {l2: $strength}}
"""
    regspec.loads(text)
    assert [error.message for error in validator(spec_schema).iter_errors(document.parse(text).data)] == []


def shared(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A field, or the definition of it that several kinds share."""
    return definitions.get(field.get("$ref", "").rpartition("/")[2], field)  # type: ignore[no-any-return]


def test_every_kind_is_described() -> None:
    """An editor shows the description of a kind, of its fields, and of their defaults."""
    definitions = spec_schema()["$defs"]
    for kind in KINDS:
        assert definitions[kind]["description"]
        for name, field in definitions[kind]["properties"].items():
            assert shared(field, definitions).get("description"), f"{kind}.{name}"
    dense = {name: shared(field, definitions) for name, field in definitions["Dense"]["properties"].items()}
    assert dense["kernel_initializer"]["default"] == "glorot_uniform"
    assert dense["use_bias"]["default"] is True
