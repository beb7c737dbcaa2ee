"""The formatter over every form of the language: short ones, calls, what Keras serializes, and names of others."""

from __future__ import annotations

import json
import re
from typing import Any

import keras
import pytest
import yaml

from regspec.cli.checking import meaning
from regspec.graph.loading import checked
from regspec.language.forms import Family
from regspec.language.initializers import INITIALIZERS_OF_TORCH
from regspec.layers import KINDS
from regspec.specs import loading
from regspec.text.document import parse
from regspec.text.problems import RegspecError
from regspec.views.formatting import formatted
from regspec.views.reference import SORTS
from regspec.views.schema import spec_schema

from . import test_short_forms, test_translating, test_written_forms
from .layers.row import Row
from .layers.rows import ROWS
from .layers.specs import document_of
from .test_formatting import check
from .test_schema import TAKES, validator, with_layer

BROUGHT = re.compile(r"class_name|config:|\w\(")  # a call, or what Keras serializes


def check_same(text: str, canonical: str) -> str:
    """What both are written as, after what holds for both."""
    made = check(text, "x.yaml")
    assert made == formatted(parse(canonical, "x.yaml"))
    assert meaning(parse(made, "x.yaml")) == meaning(parse(text, "x.yaml"))
    assert validator(spec_schema).is_valid(parse(made).data)
    assert not BROUGHT.search(made)
    return made


def read(text: str) -> Any:
    """The spec of a text, without its shapes, and what is wrong with it."""
    return loading.spec_from(parse(text, "x.yaml"))


# -- the first field alone ---------------------------------------------------------------------------------------------

OF_KINDS = test_short_forms.FIRST


@pytest.mark.parametrize("row", OF_KINDS.values(), ids=OF_KINDS.keys())
def test_a_value_alone_is_canonical(row: Row) -> None:
    short = test_short_forms.shortened(row)
    assert short is not None
    value = row.fields[KINDS[row.kind].main or ""]
    whole = {**short, "layers": [{row.kind: {KINDS[row.kind].main: value}}]}
    made = check_same(yaml.safe_dump(whole), yaml.safe_dump(short))
    (layer,) = parse(made).data["layers"]
    assert not isinstance(layer[row.kind], dict)


HEAD = (
    "regspec: 1\nparameters: {width: 8, rate: 0.25, inner: {Dense: {units: 3}}, act: relu}\n"
    "inputs: {x: {shape: [6, 4]}}\n"
    "blocks: {own: {parameters: {units: null, act: relu}, layers: [Dense: {units: $units, activation: $act}]}}\n"
)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("Dense: {units: $width}", "Dense: $width"),
        ("Dense: {units: '$width * 2'}", "Dense: $width * 2"),
        ("Dense: &d {units: 3}", "Dense: &d {units: 3}"),
        ("Dense: {units: &n 3}", "Dense: &n 3"),
        ("Dense: {units: 3, name: a}", "Dense: {name: a, units: 3}"),
        ("LeakyReLU: {negative_slope: 0.2}", "LeakyReLU: 0.2"),
        ("LeakyReLU: {alpha: 0.2}", "LeakyReLU: 0.2"),
        ("ReLU: {max_value: null}", "ReLU: {max_value: null}"),
        ("Permute: {dims: [2, 1]}", "Permute: [2, 1]"),
        ("Activation: {activation: {relu6: }}", "Activation: relu6"),
        ("Activation: leaky_relu(0.1)", "Activation: {activation: {leaky_relu: 0.1}}"),
        ("Activation: {activation: $act}", "Activation: {activation: $act}"),
        ("Activation: $act", "Activation: $act"),
        ("TimeDistributed: {layer: Flatten}", "TimeDistributed: Flatten"),
        ("TimeDistributed: {layer: $inner}", "TimeDistributed: {layer: $inner}"),
        ("TimeDistributed: {layer: {Linear: {out_features: 3}}}", "TimeDistributed: {layer: {Dense: 3}}"),
        ("RNN: {cell: [{GRUCell: {units: 3}}, {LSTMCell: 4}]}", "RNN: [{GRUCell: 3}, {LSTMCell: 4}]"),
        ("own: 5", "own: {units: 5}"),
        ("own: $width // 2", "own: {units: $width // 2}"),
        ("own: $width", "own: $width"),
        ("Dropout: {p: $rate}", "Dropout: $rate"),
        ("BatchNorm1d: ", "BatchNormalization"),
        ("BatchNorm1d", "BatchNormalization"),
    ],
)
def test_a_layer_is_written_as(written: str, canonical: str) -> None:
    made = check_same(f"{HEAD}layers:\n  - {written}\n", f"{HEAD}layers:\n  - {canonical}\n")
    assert made.endswith(f"  - {canonical}\n")


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("  - Dense: &d {units: 3}\n  - Dense: *d\n", "  - Dense: &d {units: 3}\n  - Dense: *d\n"),
        ("  - Dropout: &d {p: 0.5}\n  - Dropout: {<<: *d, seed: 3}\n", None),
        ("  - Linear: {<<: {out_features: 3}, bias: false}\n", "  - Dense: {<<: {out_features: 3}, use_bias: false}\n"),
        ("  - Dense: 4\n  - call: {layer: dense}\n", "  - Dense: 4\n  - call: dense\n"),
    ],
)
def test_layers_with_merge_keys_and_aliases(written: str, canonical: str | None) -> None:
    head = "regspec: 1\ninputs: {x: {shape: [6, 4]}}\nlayers:\n"
    made = check(f"{head}{written}", "x.yaml")
    assert meaning(parse(made, "x.yaml")) == meaning(parse(f"{head}{written}", "x.yaml"))
    assert canonical is None or made == f"{head}{canonical}"


# -- what others write -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "call", "form"), test_written_forms.CALLS)
def test_a_call(field: str, call: str, form: str) -> None:
    text, same = (f"{test_written_forms.HEAD}  - Dense: {{units: 3, {field}: {each}}}\n" for each in (call, form))
    made = check(text, "x.yaml")
    assert meaning(parse(made, "x.yaml")) == meaning(parse(same, "x.yaml"))
    assert not BROUGHT.search(made)


@pytest.mark.parametrize(("layer", "form"), test_written_forms.OF_LAYERS)
def test_a_layer_of_keras_as_an_activation(layer: Any, form: str) -> None:
    written = json.dumps(keras.saving.serialize_keras_object(layer))
    made = check(with_layer(f"Dense: {{units: 3, activation: {written}}}"), "x.yaml")
    same = with_layer(f"Dense: {{units: 3, activation: {form}}}")
    assert read(made) == read(same)
    assert not BROUGHT.search(made)


@pytest.mark.parametrize("row", test_written_forms.FIRST, ids=[row.id for row in test_written_forms.FIRST])
def test_a_layer_of_a_file_of_keras(row: Row) -> None:
    """As JSON, which is YAML too."""
    pasted = test_written_forms.pasted_of(row)
    for text in (json.dumps(pasted), yaml.safe_dump(pasted, sort_keys=False)):
        made = check(text, "x.yaml")
        assert meaning(parse(made, "x.yaml")) == meaning(parse(text, "x.yaml"))
        assert validator(spec_schema).is_valid(parse(made).data)
        assert not BROUGHT.search(made)


@pytest.mark.parametrize(("name", "row"), test_translating.ROWS, ids=[name for name, _ in test_translating.ROWS])
def test_a_kind_of_others(name: str, row: test_translating.Row) -> None:
    text = test_translating.text_of(f"{name}: {row.theirs}", row.shape)
    made = check_same(text, test_translating.text_of(f"{row.kind}: {row.ours}", row.shape))
    spec = meaning(parse(made, "x.yaml"))
    assert getattr(spec, "notes", None) == ()


OF_EVERY_KIND = {row.kind: row for row in ROWS if len(row.shapes) == 1}


@pytest.mark.parametrize("row", OF_EVERY_KIND.values(), ids=OF_EVERY_KIND.keys())
def test_the_forms_of_a_kind(row: Row) -> None:
    """What check takes of these, the schema takes, and the formatter writes so that it means the same."""
    values: list[Any] = [None, {}, row.fields, 3, 0.5, -1, "relu", "no such", True, [2, 3], [[1, 1], [2, 2]]]
    configs = [row.fields, {**row.fields, "name": "a", "nothing": None}]
    brought = [{"class_name": row.kind, "config": each} for each in configs]
    for form in [row.kind, *({row.kind: value} for value in values), *brought]:
        text = json.dumps({**document_of(row, {}), "layers": [form]})
        try:
            spec = checked(parse(text, "x.yaml"))
        except RegspecError:
            assert form not in brought
            continue
        assert validator(spec_schema).is_valid(parse(text).data), form
        made = check(text, "x.yaml")
        assert read(made) == (spec, [])
        assert not BROUGHT.search(made)


# -- every member ------------------------------------------------------------------------------------------------------


def forms_of(family: Family[Any], name: str) -> list[Any]:
    """A member as a call, and as Keras serializes it; some are refused."""
    member = family.spellings[name]
    example = parse(f"x: {member.example or 'null'}").data["x"]
    fields = example if isinstance(example, dict) else {}
    written = f"{name}({', '.join(f'{field}={value}' for field, value in fields.items())})"
    calls = [
        f"{name}()",
        f"{name}(0.5)",
        f"{name}(3)",
        f"{name}(0.5, 1)",
        f"{name}([3], 0.5)",
        *(f"{name}({field}=1)" for field in member.model_fields),
    ]
    configs = [fields, None, {}, {"name": "x", "trainable": True}, *({field: 1} for field in member.model_fields)]
    return [written, *calls, {"class_name": name}, *({"class_name": name, "config": each} for each in configs)]


@pytest.mark.parametrize(
    ("family", "name"),
    [pytest.param(each, name, id=f"{each.sort}-{name}") for each in SORTS.values() for name in each.spellings],
)
def test_a_member_that_is_brought(family: Family[Any], name: str) -> None:
    """What the loader takes, the schema takes, and the formatter writes as the language has it."""
    taken = 0
    for form in forms_of(family, name):
        text = with_layer(TAKES[family.sort] % json.dumps(form))
        spec, problems = read(text)
        if problems:
            continue
        taken += 1
        assert validator(spec_schema).is_valid(parse(text).data), form
        made = check(text, "x.yaml")
        assert read(made) == (spec, []), (form, made)
        assert not BROUGHT.search(made), form
    assert taken


@pytest.mark.parametrize("sort", sorted(TAKES))
@pytest.mark.parametrize(
    "form",
    [
        "l2(", "l2 (", "(l2)", "l2)", "2()", {"class_name": 3}, {"class_name": None}, {"config": {}},
        {"class_name": "L2", "config": 3}, {"class_name": "L2", "config": [1]}, {"class_name": "L2", "strength": 1},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_form(sort: str, form: Any) -> None:
    """Neither the loader nor the schema takes it."""
    read = parse(with_layer(TAKES[sort] % json.dumps(form)))
    assert loading.spec_from(read)[1]
    assert not validator(spec_schema).is_valid(read.data)


@pytest.mark.parametrize("name", [f"{each}{end}" for each in INITIALIZERS_OF_TORCH for end in ("", "_")])
def test_an_initializer_of_torch(name: str) -> None:
    for form, is_taken in (
        (name, True),
        ({name: None}, True),
        ({name: {}}, True),
        ({name: 1}, False),
        (f"{name}()", True),
        (f"nn.init.{name}()", True),
        (f"{name}(1)", False),
    ):
        text = with_layer(TAKES["initializer"] % json.dumps(form))
        problems = loading.spec_from(parse(text))[1]
        assert (not problems) is is_taken
        if is_taken:
            assert validator(spec_schema).is_valid(parse(text).data)
            made = check(text, "x.yaml")
            assert read(made) == read(text)
            assert name not in made.replace("glorot_", "").replace("he_", "")
