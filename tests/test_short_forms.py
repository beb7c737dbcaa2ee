"""A value in place of a mapping of fields: Keras's first argument, over all kinds; a block's first parameter."""

from __future__ import annotations

import inspect
import json
from typing import Any

import keras
import pytest

import regspec
from regspec.graph.loading import graph_of
from regspec.layers import KINDS
from regspec.layers.cells import CELLS
from regspec.layers.kinds import OPERATIONS, takes_names
from regspec.specs import loading
from regspec.text import document
from regspec.views.formatting import formatted

from .layers.operating import MODULES
from .layers.row import Row
from .layers.rows import ROWS
from .layers.specs import document_of
from .test_schema import spec_schema, validator

HEAD = "regspec: 1\ninputs: {x: {shape: [6, 4]}}\n"
# Kinds whose arguments in Keras are tensors too, and those that are no kinds of Keras 3: the first that is a value.
OTHERS: dict[str, str | None] = {
    **dict.fromkeys(
        ("Isclose", "IsIn", "Trapezoid", "Tensordot", "Cross")
    ),  # of two tensors, or none that matters most
    **dict.fromkeys(("OnesLike", "ZerosLike")),  # a dtype, which every layer has
    **{name: None for name in KINDS if name.startswith("Global")},  # a data_format, which a spec has once
    "Digitize": "bins",
    "SearchSorted": "sorted_sequence",
    "FullLike": "fill_value",
    "GetItem": "key",
    "JumpReLU": "bandwidth",
    "Parameter": "shape",
    "ClassToken": None,
    "PositionEmbedding": "sequence_length",
    "SinePositionEncoding": "max_wavelength",
    "Sampling": None,
    "LayerScale": "init_values",
    "StochasticDepth": "drop_path_rate",
    "CustomScaleLayer": "scale",
    "SReLU": "t_left_initializer",
    "ParametricSoftplus": "alpha_initializer",
    "LocallyConnected1D": "filters",
    "LocallyConnected2D": "filters",
}


@pytest.mark.parametrize("name", [name for name in sorted({**KINDS, **CELLS}) if name not in OTHERS])
def test_it_is_the_first_argument_of_keras(name: str) -> None:
    cls: Any = {**KINDS, **CELLS}[name]
    homes = MODULES if name in OPERATIONS else (keras.layers,)
    theirs = next(getattr(home, name) for home in homes if hasattr(home, name))
    arguments = [
        each for each in list(inspect.signature(theirs.__init__).parameters)[1:] if each not in ("kwargs", "name")
    ]
    assert cls.main == (arguments[0] if arguments else None)


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_where_keras_has_no_such_argument(name: str) -> None:
    assert KINDS[name].main == OTHERS[name]


def shortened(row: Row) -> dict[str, Any] | None:
    """The spec of a row with a value alone, if its other fields are not required; a mapping is never one."""
    cls = KINDS[row.kind]
    value = row.fields.get(cls.main or "")
    required = {each.alias or name for name, each in cls.model_fields.items() if each.is_required()}
    if (
        cls.main is None
        or value is None
        or isinstance(value, dict)
        or not required <= {cls.main}
        or len(row.shapes) != 1
    ):
        return None
    return {**document_of(row, {}), "layers": [{row.kind: value}]}


MORE = ("STFTSpectrogram", "Take", "Normalization")  # which need another field beside it, as no list of them says
FIRST = {row.kind: row for row in reversed(ROWS) if row.kind not in MORE and shortened(row) is not None}


@pytest.mark.parametrize("row", FIRST.values(), ids=FIRST.keys())
def test_it_is_as_the_field_written_out(row: Row) -> None:
    """In the loader and in the schema."""
    short = shortened(row)
    assert short is not None
    main = KINDS[row.kind].main
    assert [error.message for error in validator(spec_schema).iter_errors(short)] == []
    found = graph_of(regspec.loads(json.dumps(short))).nodes[0]
    whole = {**short, "layers": [{row.kind: {main: row.fields[main or ""]}}]}
    expected = graph_of(regspec.loads(json.dumps(whole))).nodes[0]
    assert found.resolved.layer == expected.resolved.layer
    assert [each.shape for each in found.outputs] == [each.shape for each in expected.outputs]


def test_most_kinds_have_a_row() -> None:
    assert len(FIRST) > 100


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ("Dropout: $rate", "Dropout: {rate: 0.25}"),
        ("Dense: $width * 2", "Dense: {units: 16}"),
        ("Dense: $fields", "Dense: {units: 3, use_bias: false}"),
        ("Activation: relu6", "Activation: {activation: relu6}"),
        ("LeakyReLU: 0.2", "LeakyReLU: {negative_slope: 0.2}"),
        ("LeakyReLU:", "LeakyReLU"),
        ("Permute: [2, 1]", "Permute: {dims: [2, 1]}"),
        ("TimeDistributed: {layer: {Dense: 3}}", "TimeDistributed: {layer: {Dense: {units: 3}}}"),
        ("TimeDistributed: Flatten", "TimeDistributed: {layer: Flatten}"),
        ("Bidirectional: {layer: {LSTM: 3}}", "Bidirectional: {layer: {LSTM: {units: 3}}}"),
        ("RNN: {cell: {GRUCell: 3}}", "RNN: {cell: {GRUCell: {units: 3}}}"),
        ("RNN: {cell: [{GRUCell: 3}, {LSTMCell: 4}]}", "RNN: {cell: [{GRUCell: {units: 3}}, {LSTMCell: {units: 4}}]}"),
        ("own: 5", "own: {units: 5}"),
        ("own: $width // 2", "own: {units: 4}"),
    ],
)
def test_in_every_place(short: str, whole: str) -> None:
    head = (
        f"{HEAD}parameters: {{width: 8, rate: 0.25, fields: {{units: 3, use_bias: false}}}}\n"
        "blocks: {own: {parameters: {units: null, act: relu}, layers: [Dense: {units: $units, activation: $act}]}}\n"
    )
    one, other = (regspec.loads(f"{head}layers:\n  - {text}\n") for text in (short, whole))
    assert one == other
    assert validator(spec_schema).is_valid(regspec.text.document.parse(f"{head}layers:\n  - {short}\n").data)


# -- the names of inputs alone -----------------------------------------------------------------------------------------

NAMED = [name for name, cls in KINDS.items() if takes_names(cls)]
SHIFTS = {"BitwiseLeftShift", "BitwiseRightShift"}  # whose rows have numbers for an input


def test_they_are_of_every_kind_that_takes_several_and_needs_no_field() -> None:
    several = {row.kind for row in ROWS if len(row.shapes) > 1}
    needed = {name for name in several if any(each.is_required() for each in KINDS[name].model_fields.values())}
    assert {*NAMED} == (several - needed) | SHIFTS


def of_inputs(layer: str) -> str:
    inputs = "a: {shape: [6, 4]}, b: {shape: [6, 4]}, c: {shape: [6, 4]}"
    head = f"regspec: 1\nname: net\nparameters: {{names: [a, b], one: a, axis: -1}}\ninputs: {{{inputs}}}\n"
    return f"{head}layers:\n  - {layer}\n"


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize(
    ("names", "inputs"),
    [
        ("[a, b]", "[a, b]"),
        ("a", "a"),
        ("a.1", "a.1"),
        ("'a'", "a"),
        ("[a.1, b, c]", "[a.1, b, c]"),
        ("$names", "[a, b]"),
        ("$one", "a"),
        ("[$one, b]", "[a, b]"),
    ],
)
def test_names_alone_are_inputs(kind: str, names: str, inputs: str) -> None:
    """In the loader, in the schema and in the formatter, which writes them out."""
    short, whole = (document.parse(of_inputs(f"{kind}: {each}")) for each in (names, f"{{inputs: {inputs}}}"))
    found, same = (loading.spec_from(each) for each in (short, whole))
    assert found == same
    assert found[1] == []
    assert validator(spec_schema).is_valid(short.data)
    written = names if names in ("$names", "$one") else f"{{inputs: {names}}}".replace("'", "")
    assert formatted(short) == of_inputs(f"{kind}: {written}")


@pytest.mark.parametrize(
    ("layer", "whole"),
    [
        ("Concatenate: -1", "Concatenate: {axis: -1}"),
        ("Concatenate: $axis", "Concatenate: {axis: $axis}"),
        ("Concatenate: 2 - 1", "Concatenate: {axis: 2 - 1}"),
        ("Attention: true", "Attention: {use_scale: true}"),
        ("Attention: 'true'", "Attention: {inputs: 'true'}"),
        ("Concatenate: ", "Concatenate"),
    ],
)
def test_a_value_that_is_no_name_is_the_first_field(layer: str, whole: str) -> None:
    one, other = (document.parse(of_inputs(each)) for each in (layer, whole))
    assert loading.spec_from(one) == loading.spec_from(other)
    assert formatted(one) == formatted(other)


@pytest.mark.parametrize(
    ("layer", "what", "column"),
    [
        ("Add: [a, d]", "no layer or input is called 'd'", 14),
        ("Add: d", "no layer or input is called 'd'", 10),
        ("Add: [a, $d]", "no parameter is called 'd'", 14),
        ("Add: [1, 2]", "Add takes a mapping of its fields, but is a list", 10),
        ("Add: []", "Add takes a mapping of its fields, but is a list", 10),
        ("Concatenate: [1]", "'axis' of Concatenate must be a whole number, but is a list", 18),
        ("Stack: [a, b]", "'axis' of Stack must be a whole number, but is a list", 12),
    ],
)
def test_faults_of_names_alone(layer: str, what: str, column: int) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(of_inputs(layer))
    assert (what, column) in [(problem.what, problem.column) for problem in caught.value.problems]


# -- what a layer wraps alone ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ("Bidirectional: {LSTM: {units: 4}}", "Bidirectional: {layer: {LSTM: 4}}"),
        ("Bidirectional: {RNN: {LSTMCell: 4}}", "Bidirectional: {layer: {RNN: {cell: {LSTMCell: 4}}}}"),
        ("TimeDistributed: {Dense: 3}", "TimeDistributed: {layer: {Dense: 3}}"),
        ("TimeDistributed: {Linear: {out_features: 3}}", "TimeDistributed: {layer: {Dense: 3}}"),
        ("TimeDistributed: {GELU: }", "TimeDistributed: {layer: {Activation: gelu}}"),
        ("TimeDistributed: {Flatten: }", "TimeDistributed: Flatten"),
        ("SpectralNormalization: {Dense: &d {units: 3}}", "SpectralNormalization: {layer: {Dense: &d {units: 3}}}"),
        ("SpectralNormalization: &l {Dense: 3}", "SpectralNormalization: {layer: &l {Dense: 3}}"),
        ("RNN: {LSTMCell: 4}", "RNN: {cell: {LSTMCell: 4}}"),
        ("RNN: {GRUCell: {units: $width}}", "RNN: {cell: {GRUCell: $width}}"),
        ("RNN:\n      LSTMCell:\n        units: 4\n        use_bias: true",
         "RNN:\n      cell:\n        LSTMCell:\n          units: 4\n          use_bias: true"),
    ],
)  # fmt: skip
def test_what_is_wrapped_alone(short: str, whole: str) -> None:
    """In the loader, in the schema and in the formatter, which writes the field."""
    head = "regspec: 1\nname: net\nparameters: {width: 8}\ninputs: {x: {shape: [6, 4]}}\nlayers:\n  - "
    one, other = (document.parse(f"{head}{each}\n") for each in (short, whole))
    assert regspec.loads(one.text) == regspec.loads(other.text)
    assert validator(spec_schema).is_valid(one.data)
    assert formatted(one) == other.text


@pytest.mark.parametrize(
    "layer", ["TimeDistributed: {layer: 3}", "TimeDistributed: {class_name: Dense, config: {units: 3}}",
              "TimeDistributed: {Dense: 3, Flatten: }", "TimeDistributed: {Dense: 3, steps_at_once: true}",
              "TimeDistributed: {LSTMCell: 3}", "RNN: {LSTM: 3}", "RNN: {cell: 3}", "StackedRNNCells: {LSTMCell: 3}"],
)  # fmt: skip
def test_what_is_no_wrapped_layer_alone(layer: str) -> None:
    text = f"{HEAD}layers:\n  - {layer}\n"
    assert loading.spec_from(document.parse(text))[1]
    assert not validator(spec_schema).is_valid(document.parse(text).data)


def test_a_call_and_a_block_of_a_file(tmp_path: Any) -> None:
    text = f"{HEAD}layers:\n  - Dense: {{units: 4, name: own}}\n  - call: own\n"
    assert regspec.loads(text) == regspec.loads(text.replace("call: own", "call: {layer: own}"))
    (tmp_path / "inner.yaml").write_text(f"{HEAD}parameters: {{units: 3}}\nlayers: [Dense: $units]\n")
    (tmp_path / "outer.yaml").write_text(f"{HEAD}blocks: {{inner: {{file: inner.yaml}}}}\nlayers: [inner: 7]\n")
    assert regspec.load(tmp_path / "outer.yaml").layers[0].copies[0].body.entries[0].layer.units == 7


@pytest.mark.parametrize(
    ("layer", "what", "column"),
    [
        ("Dense: 1.5", "'units' of Dense must be a whole number, but is 1.5", 12),
        ("Dense: [32, 3]", "'units' of Dense must be a whole number, but is a list", 12),
        ("Conv2D: 32", "Conv2D needs 'kernel_size'", 5),
        ("Add: 1", "Add takes a mapping of its fields, but is 1", 10),
        ("Dropout: $rat", "no parameter is called 'rat'", 14),
        ("Identity: $rat", "no parameter is called 'rat'", 15),
        ("bare: 3", "bare takes a mapping of its fields, but is 3", 11),
        ("TimeDistributed: {layer: {Dense: 0}}", "'units' of 'Dense' must be at least 1, but is 0", 38),
        ("TimeDistributed: {Dense: 0}", "'units' of 'Dense' must be at least 1, but is 0", 30),
        ("TimeDistributed: {Dense: 3, Flatten: }", "TimeDistributed needs 'layer'", 5),
    ],
)
def test_a_fault_points_at_the_value(layer: str, what: str, column: int) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(f"{HEAD}blocks: {{bare: {{layers: [Flatten]}}}}\nlayers:\n  - {layer}\n")
    assert (caught.value.problems[0].what, caught.value.problems[0].column) == (what, column)
