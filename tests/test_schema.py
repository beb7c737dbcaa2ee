"""The JSON Schemas: they accept what the loader accepts, and refuse what it refuses on structure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import regspec
from regspec.language.forms import Family
from regspec.layers import KINDS
from regspec.specs import loading
from regspec.text import document
from regspec.training.options.schema import training_schema
from regspec.views.reference import SORTS
from regspec.views.schema import rules_schema, spec_schema

ROOT = Path(__file__).parent.parent
FORMATTED = [
    *sorted((ROOT / "tests" / "formatting").glob("*.txt")),
    *sorted((ROOT / "tests" / "architectures").glob("*.yaml")),
]
GOLDEN = sorted((ROOT / "tests" / "language").glob("*.txt"))


@cache
def validator(schema: Callable[[], dict[str, Any]]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


@pytest.mark.parametrize("schema", [spec_schema, rules_schema, training_schema], ids=["spec", "rules", "training"])
def test_is_a_schema(schema: Callable[[], dict[str, Any]]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_accepts_every_example(path: Path) -> None:
    assert [error.message for error in validator(spec_schema).iter_errors(document.read(path).data)] == []


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_accepts_every_golden_case(path: Path) -> None:
    text = path.read_text(encoding="utf-8").partition("----\n")[0]
    assert [error.message for error in validator(spec_schema).iter_errors(document.parse(text).data)] == []


NO_SPECS = ("scalars_and_anchors",)  # but texts


@pytest.mark.parametrize("path", [each for each in FORMATTED if each.stem not in NO_SPECS], ids=lambda path: path.stem)
def test_accepts_what_the_formatter_takes_and_gives(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for each in text.split("----\n") if path.suffix == ".txt" else [text]:
        read = document.parse(each)
        schema = rules_schema if "rules" in read.data else spec_schema
        assert [error.message for error in validator(schema).iter_errors(read.data)] == []


def forms_of(family: Family[Any], name: str) -> list[Any]:
    """Ways to write a member, some of which are not taken."""
    member = family.spellings[name]
    example = document.parse(f"x: {member.example or 'null'}").data["x"]
    wrong = [
        {name: {"no such": 1}},
        {name: "no such"},
        {name: [1]},
        {name: True},
        f"{name} ",
        name[::-1],
        [name],
        3,
        None,
    ]
    fields = [{name: {field: 1}} for field in member.model_fields]
    return [name, {name: None}, {name: {}}, {name: example}, {name: 0.5}, {name: 3}, *fields, *wrong]


TAKES = {
    "activation function": "Dense: {units: 6, activation: %s}",
    "initializer": "Dense: {units: 8, kernel_initializer: %s}",
    "constraint": "Dense: {units: 8, kernel_constraint: %s}",
    "regularizer": "Dense: {units: 8, activity_regularizer: %s}",
    "schedule": "Dense: {units: 8, kernel_regularizer: {l2: 0.1, schedule: %s}}",
}


@pytest.mark.parametrize(
    ("family", "name"),
    [pytest.param(each, name, id=f"{each.sort}-{name}") for each in SORTS.values() for name in each.spellings],
)
def test_the_forms_of_a_name(family: Family[Any], name: str) -> None:
    """The schema takes those that the loader takes, and no other."""
    for form in forms_of(family, name):
        read = document.parse(with_layer(TAKES[family.sort] % json.dumps(form)))
        problems = [each.what for each in loading.spec_from(read)[1]]
        if any("must be at least minval" in each or "must be at least lower" in each for each in problems):
            continue  # which takes two fields, and is more than a schema can say
        assert validator(spec_schema).is_valid(read.data) == (not problems), (form, problems)


def test_every_property_is_described() -> None:
    """An editor shows it where the mouse rests on it; a name of an activation function, and of its like, too."""
    for schema in (spec_schema(), rules_schema(), training_schema()):
        assert [path for path, part in properties_of(schema) if not described(part, schema)] == []
        for family in SORTS.values():
            if family.definition in schema["$defs"]:
                names = schema["$defs"][family.definition]["anyOf"][0].get("anyOf", [])
                assert all(each["description"] for each in names)
                assert names or family.sort == "schedule"


def properties_of(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every property in a schema, with the way to it."""
    if isinstance(schema, list):
        for index, each in enumerate(schema):
            yield from properties_of(each, f"{path}/{index}")
    if not isinstance(schema, dict):
        return
    for name, each in schema.items():
        if name == "properties":
            yield from ((f"{path}/{key}", part) for key, part in each.items())
        yield from properties_of(each, f"{path}/{name}")


def described(part: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Whether a property has a description, of its own or of what it refers to."""
    if part.get("description") or "const" in part:
        return True
    name = part.get("$ref", "").rpartition("/")[2]
    return name in schema["$defs"] and described(schema["$defs"][name], schema)


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
        with_layer("TimeDistributed: {Dens: 3}"),
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
    found: dict[str, Any] = definitions.get(field.get("$ref", "").rpartition("/")[2], field)
    return found


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
