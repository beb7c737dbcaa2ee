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
from regspec.layers.kinds import OPERATIONS

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


def test_a_call_and_a_block_of_a_file(tmp_path: Any) -> None:
    text = f"{HEAD}layers:\n  - Dense: {{units: 4, name: own}}\n  - call: own\n"
    assert regspec.loads(text) == regspec.loads(text.replace("call: own", "call: {layer: own}"))
    (tmp_path / "inner.yaml").write_text(f"{HEAD}parameters: {{units: 3}}\nlayers: [Dense: $units]\n")
    (tmp_path / "outer.yaml").write_text(f"{HEAD}blocks: {{inner: {{file: inner.yaml}}}}\nlayers: [inner: 7]\n")
    assert regspec.load(tmp_path / "outer.yaml").layers[0].body.entries[0].layer.units == 7


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
        ("TimeDistributed: {Dense: 3}", "TimeDistributed needs 'layer'", 5),
    ],
)
def test_a_fault_points_at_the_value(layer: str, what: str, column: int) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(f"{HEAD}blocks: {{bare: {{layers: [Flatten]}}}}\nlayers:\n  - {layer}\n")
    assert (caught.value.problems[0].what, caught.value.problems[0].column) == (what, column)
