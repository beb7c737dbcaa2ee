"""What people bring: calls as Python has them, and what Keras serializes; over all rows of layers, and all names."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import keras
import pytest
from torch import nn

import regspec
from regspec.language.constraints import CONSTRAINTS
from regspec.language.forms import Family
from regspec.language.initializers import INITIALIZERS
from regspec.language.regularizers import REGULARIZERS
from regspec.layers import KINDS
from regspec.text import document
from regspec.text.document import IN_BRACES

from .layers import reference
from .layers.operating import is_operation
from .layers.row import Row
from .layers.rows import ROWS
from .layers.specs import document_of
from .test_schema import spec_schema, validator

HEAD = "regspec: 1\nparameters: {strength: 0.5}\ninputs: {x: {shape: [6, 4]}}\nlayers:\n"


def of(layer: str) -> regspec.ModelSpec:
    return regspec.loads(f"{HEAD}  - {layer}\n")


CALLS = [  # a field, a call, and the canonical form
    ("kernel_regularizer", "l2(1e-4)", "{l2: 1e-4}"),
    ("kernel_regularizer", "L2(l2=1e-4)", "{l2: 1e-4}"),
    ("kernel_regularizer", "l2(strength=1e-4)", "{l2: 1e-4}"),
    ("kernel_regularizer", "l2()", "l2"),
    ("kernel_regularizer", "l1(l1=0.1)", "{l1: 0.1}"),
    ("kernel_regularizer", "'l1_l2(l1=1e-5, l2=1e-4)'", "{l1_l2: {l1: 1e-5, l2: 1e-4}}"),
    ("kernel_regularizer", "'L1L2(1e-5, 1e-4,)'", "{l1_l2: {l1: 1e-5, l2: 1e-4}}"),
    ("kernel_regularizer", "keras.regularizers.L2(0.1)", "{l2: 0.1}"),
    ("kernel_regularizer", "tf.keras.regularizers.l2( 0.1 )", "{l2: 0.1}"),
    ("kernel_regularizer", "regularizers.l2(2 * (1 + 3) / 100)", "{l2: 0.08}"),
    ("kernel_regularizer", "l2($strength)", "{l2: 0.5}"),
    ("kernel_regularizer", "l2($strength / 4)", "{l2: 0.125}"),
    ("kernel_regularizer", "[l2(0.5), l1(0.25)]", "[{l2: 0.5}, {l1: 0.25}]"),
    ("kernel_regularizer", "'OrthogonalRegularizer(mode=\"columns\")'", "{orthogonal: {mode: columns}}"),
    ("kernel_regularizer", "'orthogonal(0.5, columns)'", "{orthogonal: {factor: 0.5, mode: columns}}"),
    ("kernel_initializer", "'RandomNormal(0.0, 0.02, seed=3)'", "{random_normal: {stddev: 0.02, seed: 3}}"),
    ("kernel_initializer", "HeNormal(seed=None)", "he_normal"),
    ("kernel_initializer", "HeNormal(7)", "{he_normal: {seed: 7}}"),
    ("kernel_initializer", "Constant(-0.5)", "{constant: -0.5}"),
    ("kernel_initializer", "\"VarianceScaling(2, 'fan_out')\"", "{variance_scaling: {scale: 2, mode: fan_out}}"),
    ("kernel_constraint", "'MaxNorm(3, axis=0)'", "{max_norm: {max_value: 3, axis: 0}}"),
    ("kernel_constraint", "'max_norm(3, axis=[0, 1])'", "{max_norm: {max_value: 3, axis: [0, 1]}}"),
    ("kernel_constraint", "'max_norm(3, axis=(0, 1))'", "{max_norm: {max_value: 3, axis: [0, 1]}}"),
    ("kernel_constraint", "NonNeg()", "non_neg"),
    ("activation", "leaky_relu(0.1)", "{leaky_relu: 0.1}"),
    ("activation", "gelu(approximate=True)", "{gelu: {approximate: true}}"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "call", "form"), CALLS)
def test_a_call_is_the_form(field: str, call: str, form: str) -> None:
    text = f"Dense: {{units: 3, {field}: {call}}}"
    assert of(text) == of(f"Dense: {{units: 3, {field}: {form}}}")
    assert validator(spec_schema).is_valid(regspec.text.document.parse(f"{HEAD}  - {text}\n").data)


OF_PARAMETERS = (
    "{less: -3, none: null, flag: true, half: 0.5, axes: [0, 1], word: rows, sum: 0.25 + 0.5, text: '0.5', in: fan_out}"
)


@pytest.mark.parametrize(
    ("field", "call", "form"),
    [  # an argument is computed from the parameters' values, and no text of them is read again
        ("kernel_regularizer", "l2(10 + $less ** 2)", "{l2: 19}"),
        ("kernel_regularizer", "l2(10+$less**2)", "{l2: 19}"),
        ("kernel_regularizer", "l2(l2=2 - $less)", "{l2: 5}"),
        ("kernel_regularizer", "l2($half * $half)", "{l2: 0.25}"),
        ("kernel_regularizer", "orthogonal($half, mode=$word)", "{orthogonal: {factor: 0.5, mode: rows}}"),
        ("kernel_initializer", "he_normal(seed=$none)", "he_normal"),
        ("kernel_initializer", "VarianceScaling(2, '$in')", "{variance_scaling: {scale: 2, mode: fan_out}}"),
        ("kernel_initializer", "VarianceScaling(2, 'fan_$in')", None),
        ("kernel_constraint", "max_norm(3, axis=$axes)", "{max_norm: {max_value: 3, axis: [0, 1]}}"),
        ("kernel_constraint", "max_norm(3, axis=[0, $less + 4])", "{max_norm: {max_value: 3, axis: [0, 1]}}"),
        ("activation", "gelu(approximate=$flag)", "{gelu: {approximate: true}}"),
        ("kernel_regularizer", "l2(-$less ** 2)", None),
        ("kernel_regularizer", "l2($flag)", None),
        ("kernel_regularizer", "l2($none)", None),
        ("kernel_regularizer", "l2($sum)", "{l2: 0.75}"),  # as in every field of numbers
        ("kernel_regularizer", "l2($text)", None),
    ],
)
def test_a_call_with_parameters(field: str, call: str, form: str | None) -> None:
    head = HEAD.replace("{strength: 0.5}", f'{OF_PARAMETERS[:-1]}, call: "{call}"}}')
    for written in (f'"{call}"', "$call"):
        text = f"{head}  - Dense: {{units: 3, {field}: {written}}}\n"
        if form is None:
            with pytest.raises(regspec.RegspecError) as caught:
                regspec.loads(text)
            (problem,) = caught.value.problems
            assert "must be" in problem.what
            continue
        spec = regspec.loads(text)
        assert spec.layers == of(f"Dense: {{units: 3, {field}: {form}}}").layers
        assert type(spec.parameters["call"]) is str
        again = f'{head}  - Dense: {{units: 3, {field}: "{spec.parameters["call"]}"}}\n'
        assert regspec.loads(again).layers == spec.layers


def test_a_call_is_no_text_that_reads_alike() -> None:
    """Entries with equal fields share a layer: these have the same text, and one is no number."""
    head = HEAD.replace("{strength: 0.5}", "{text: '0.75'}") + "  - Dense: {units: 4, kernel_regularizer: l2(0.75)}\n"
    assert str(regspec.loads(head).layers[0].layer.kernel_regularizer) == "l2 0.75"
    with pytest.raises(regspec.RegspecError, match="must be a number"):
        regspec.loads(f"{head}  - Dense: {{units: 4, kernel_regularizer: l2($text)}}\n")


def test_a_name_of_a_call_with_a_parameter() -> None:
    head = HEAD.replace("{strength: 0.5}", "{less: -3, two: 2}")
    text = f"{head}  - Dense: {{units: 4, kernel_regularizer: l$two(%s)}}\n"
    assert str(regspec.loads(text % "0.5").layers[0].layer.kernel_regularizer) == "l2 0.5"
    with pytest.raises(regspec.RegspecError, match="a parameter in the name of a call and in its arguments"):
        regspec.loads(text % "10+$less**2")


@pytest.mark.parametrize(
    ("field", "call", "at", "width", "what", "hint"),
    [
        ("kernel_regularizer", "l3(0.1)", 0, 2, "names no regularizer: 'l3'", None),
        ("kernel_regularizer", "ridge(0.1)", 0, 5, "names no regularizer: 'ridge'", "did you mean 'l2'?"),
        ("kernel_regularizer", "l2(0.1", 2, 1, "has a bracket that is not closed", IN_BRACES),
        ("kernel_regularizer", "l2(0.1))", 7, 1, "has more behind the call", None),
        ("kernel_regularizer", "l2(0.1) + l1(0.2)", 8, 9, "has more behind the call", None),
        ("kernel_regularizer", "l2(0.1 / 0)", 7, 1, "divides by 0", None),
        ("kernel_regularizer", "l2(-0.1)", 3, 4, "must be at least 0, but is -0.1", None),
        ("kernel_regularizer", "l2($strength / 0)", 13, 1, "divides by 0", None),
        ("kernel_regularizer", "l2(2 * $strenght)", 7, 9, "no parameter is called 'strenght'", None),
        ("kernel_regularizer", "l2(-$strength)", 3, 10, "must be at least 0, but is -0.5", None),
        ("kernel_regularizer", "l2('$strenght')", 4, 9, "no parameter is called 'strenght'", None),
        ("kernel_regularizer", "l2(much)", 3, 4, "must be a number, but is 'much'", None),
        ("kernel_regularizer", "l2(l2=-1)", 3, 5, "must be at least 0, but is -1", None),
        ("kernel_regularizer", "l2(l1=1)", 3, 4, "has no field 'l1'", None),
        ("kernel_regularizer", "l2(1, 2)", 6, 1, "has more than the 1 arguments of 'l2'", None),
        ("kernel_regularizer", "l2(1, l2=2)", 6, 4, "has 'l2' twice", None),
        ("kernel_regularizer", "l1_l2(l1=1, 2)", 12, 1, "has an argument without a name behind one with a name", None),
        ("kernel_regularizer", "l2(@)", 3, 1, "has '@' where a value must stand", "a text stands in quotes"),
        (
            "kernel_regularizer",
            "l2(2 * much)",
            7,
            4,
            "has the word 'much' among numbers",
            "a parameter is written $much",
        ),
        ("kernel_regularizer", "l2(2 if 3 else 4)", 5, 2, "has the word 'if' among numbers", ""),
        ("kernel_regularizer", "l2(1 2)", 5, 1, "has '2' where an operator must stand", ""),
        ("kernel_regularizer", "l2(0.1]", 6, 1, "has a ']' that closes no bracket", ""),
        ("kernel_regularizer", f"l2(@{'x' * 99})", 3, 100, f"has '@{'x' * 57}… where", "a text stands in quotes"),
        ("kernel_regularizer", f"l2(1 + {'x' * 99})", 7, 99, f"has the word '{'x' * 58}… among", None),
        ("kernel_regularizer", f"{'x' * 99}(1)", 0, 99, f"names no regularizer: '{'x' * 58}…", None),
        ("kernel_regularizer", "l2(, 1)", 3, 1, "has no argument before ','", None),
        ("kernel_regularizer", "l2(l2=)", 5, 1, "has no value behind '='", None),
        ("kernel_initializer", "RandomNormal(std=1)", 13, 5, "has no field 'std'", "did you mean 'stddev'?"),
        ("kernel_constraint", "max_norm([[1]])", 10, 3, "has '[1]' where a value must stand", None),
    ],
)
def test_a_fault_points_into_the_call(field: str, call: str, at: int, width: int, what: str, hint: str | None) -> None:
    layer = f'Dense: {{units: 3, {field}: "{call}"}}'
    with pytest.raises(regspec.RegspecError) as caught:
        of(layer)
    (problem,) = caught.value.problems
    assert what in problem.what
    assert re.match(r"('\w+' (of '?\w+'? )?)?(has|is|must|names|makes|divides) |no parameter", problem.what)
    assert hint is None or (problem.hint or "") == hint
    assert (problem.column, problem.width) == (6 + layer.index('"') + at, width)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        (
            "kernel_initializer: RandomNormal(0.0, 0.02)",
            "'kernel_initializer' of Dense has a bracket that is not closed",
        ),
        (
            "kernel_regularizer: l1_l2(l1=1e-5, l2=1e-4)",
            "'kernel_regularizer' of Dense has a bracket that is not closed",
        ),
        ("kernel_initializer: RandomNormal(mean=0.0, stddev=0.02, seed=1)", "has a bracket that is not closed"),
        ("kernel_initializer: RandomNormal(0.0, 0.02, 3)", "a key must be a text"),
        ("kernel_constraint: max_norm(2, [0, 1])", "not valid YAML"),
        ("kernel_initializer: VarianceScaling(2.0, 'fan_in')", "not valid YAML"),
    ],
)
def test_in_braces_a_call_with_a_comma_stands_in_quotes(fields: str, what: str) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        of(f"Dense: {{units: 3, {fields}}}")
    (problem,) = caught.value.problems
    assert what in problem.what
    assert problem.hint == "in braces a call with a comma stands in quotes"
    field, _, call = fields.partition(": ")
    block = f"{HEAD}  - Dense:\n      units: 3\n      {fields}\n"
    assert regspec.loads(block).layers == of(f'Dense: {{units: 3, {field}: "{call}"}}').layers


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("2 * 3", 6.0),
        ("2*3", 6.0),
        ("(2*3)", 6.0),
        ("1/4", 0.25),
        ("2 **3", 8.0),
        ("1e-4*2", 2e-4),
        ("2*-3", -6.0),
        ("(1 + 2) // 3", 1.0),
        ("7-4", 3.0),
        *((each, None) for each in ("2x3", "'-3'", "2024-05-01", "2 *", "'* 2'", "3 4", "'(3)'")),
    ],
)
def test_arithmetic_without_a_parameter(written: str, number: float | None) -> None:
    text = f"Dense: {{units: 3, kernel_initializer: {{constant: {written}}}}}"
    if number is not None:
        assert of(text).layers == of(f"Dense: {{units: 3, kernel_initializer: {{constant: {number}}}}}").layers
        return
    with pytest.raises(regspec.RegspecError) as caught:
        of(text)
    (problem,) = caught.value.problems
    assert problem.hint is None


@pytest.mark.parametrize(
    ("layer", "same"),
    [
        ("Dense: 7 * 7 * 64", "Dense: 3136"),
        ("Dense: {units: 2*3}", "Dense: 6"),
        ("Dense: {units: (1 + 2) // 2}", "Dense: 1"),
        ("Dense: {units: 6 / 2}", "Dense: 3"),
        ("Dropout: 1 / 4", "Dropout: 0.25"),
        ("LeakyReLU: {negative_slope: 1e-1 * 2}", "LeakyReLU: {negative_slope: 0.2}"),
        (
            "Conv1D: {filters: 4, kernel_size: [1 + 2], padding: same}",
            "Conv1D: {filters: 4, kernel_size: 3, padding: same}",
        ),
        ("Reshape: [2 * 2, -1]", "Reshape: [4, -1]"),
        ("{class_name: Dense, config: {units: 2 * 3}}", "Dense: 6"),
        ("Linear: {out_features: 2 * 3}", "Dense: 6"),
        ("TimeDistributed: {layer: {Dense: 2 * 3}}", "TimeDistributed: {layer: {Dense: 6}}"),
        ("RNN: {cell: {GRUCell: {units: 2 * 3}}}", "RNN: {cell: {GRUCell: {units: 6}}}"),
        ("Dense: {units: 2, kernel_regularizer: {l2: 1e-2 / 4}}", "Dense: {units: 2, kernel_regularizer: {l2: 25e-4}}"),
        (
            "Dense: {units: 2, activation: {relu: {max_value: 2*3}}}",
            "Dense: {units: 2, activation: {relu: {max_value: 6}}}",
        ),
        (
            "Dense: {units: 2, kernel_regularizer: {l2: 1.0, schedule: {steps: {at: [2 * 3], rate: 1 / 4}}}}",
            "Dense: {units: 2, kernel_regularizer: {l2: 1.0, schedule: {steps: {at: [6], rate: 0.25}}}}",
        ),
    ],
)
def test_arithmetic_where_a_number_is_due(layer: str, same: str) -> None:
    """A text of numbers needs no parameter there; the schema takes it, too."""
    head = "regspec: 1\ninputs: {x: {shape: [8, 4]}}\nlayers:\n  - "
    assert regspec.loads(f"{head}{layer}\n").layers == regspec.loads(f"{head}{same}\n").layers
    assert validator(spec_schema).is_valid(document.parse(f"{head}{layer}\n").data)


def test_arithmetic_beside_the_layers() -> None:
    text = """
    regspec: 1
    inputs: {x: {shape: [SIX]}}
    blocks: {b: {layers: [Dense: {name: d, units: 6}]}}
    regularizers: [{kernel: {l2: HALF}}]
    layers: [b: {repeat: SIX}]
    """
    made, same = (text.replace("SIX", six).replace("HALF", half) for six, half in (("2 * 3", "1 / 2"), ("6", "0.5")))
    assert regspec.source(made) == regspec.source(same)
    assert validator(spec_schema).is_valid(document.parse(made).data)


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        ("Dense: {units: 4 // 0}", "'units' of Dense divides by 0"),
        ("Conv1D: {filters: 4, kernel_size: [3 / 0]}", "'kernel_size' of Conv1D divides by 0"),
        ("Dense: {units: 3 4}", "'units' of Dense has '4' where an operator must stand"),
        ("Dense: {units: 7 / 2}", "'units' of Dense must be a whole number, but is 3.5"),
        ("Dense: {units: 2024-01-31}", "'units' of Dense must be a whole number, but is '2024-01-31'"),
        ("Dense: {units: 2 *}", "'units' of Dense must be a whole number, but is '2 *'"),
    ],
)
def test_arithmetic_that_is_wrong(layer: str, what: str) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        of(layer)
    assert caught.value.problems[0].what == what


def test_a_text_is_no_arithmetic() -> None:
    """A name for a layer and a word of a vocabulary are texts, whatever is in them."""
    with pytest.raises(regspec.RegspecError, match="'name' of Dense"):
        of("Dense: {units: 3, name: 3 - 4}")


def test_a_call_has_no_parameters_in_rules() -> None:
    with pytest.raises(regspec.RegspecError, match=r"has '\$x' where a value must stand"):
        regspec.regularize(nn.Linear(2, 2), [{"types": ["Linear"], "kernel_regularizer": "l2($x)"}])


@pytest.mark.parametrize(
    "text", ["l2(" + "[" * 5000, "l2(" + "[" * 5000 + "]" * 5000 + ")", "l2(" * 5000, "l2(" + "-" * 5000 + "1)"]
)
def test_a_long_call_is_a_fault(text: str) -> None:
    with pytest.raises(regspec.RegspecError):
        regspec.loads(f'{HEAD}  - Dense: {{units: 3, kernel_regularizer: "{text}"}}\n')


FAMILIES: list[tuple[Family[Any], Any]] = [
    (REGULARIZERS, keras.regularizers),
    (INITIALIZERS, keras.initializers),
    (CONSTRAINTS, keras.constraints),
]
MEMBERS = [
    (family, cls, getattr(home, name))
    for family, home in FAMILIES
    for name in dir(home)
    if name[0].isupper() and inspect.isclass(getattr(home, name)) and (cls := family.get(name)) is not None
]


@pytest.mark.parametrize(("family", "cls", "theirs"), MEMBERS, ids=[theirs.__name__ for _, _, theirs in MEMBERS])
def test_what_keras_serializes(family: Family[Any], cls: type[Any], theirs: type[Any]) -> None:
    """Over every class of Keras: its arguments in their order, and what it writes of them."""
    ours = [cls.main_in_keras if name == cls.main and cls.main_in_keras else name for name in cls.model_fields]
    known = [name for name in inspect.signature(theirs.__init__).parameters if name in ours]
    assert sorted(ours, key=lambda name: name == "seed") == known
    values = {
        name: 0.25 for name in known if isinstance(inspect.signature(theirs.__init__).parameters[name].default, float)
    }
    form = json.loads(json.dumps(keras.saving.serialize_keras_object(theirs(**values))))
    parsed = family.parse(form)
    assert type(parsed) is cls
    names = {cls.main_in_keras: cls.main}
    assert all(
        getattr(parsed, names.get(name) or name) == value for name, value in values.items() if name in form["config"]
    )
    assert family.parse({"class_name": theirs.__name__, "config": form["config"]}) == parsed


def test_most_classes_of_keras_are_known() -> None:
    assert len(MEMBERS) > 25


FUNCTIONS = [{"leaky_relu": 0.1}, {"glu": {"axis": -1}}]  # Keras serializes no function with arguments
PASTED = [
    row
    for row in ROWS
    if not is_operation(row.kind, row.fields)
    and KINDS[row.kind].is_in_keras
    and row.has_reference
    and len(row.shapes) == 1
    and "moving_variance" not in row.fields  # which Keras's files do not say
    and row.fields.get("activation") not in FUNCTIONS
]
# Keras writes a random seed, a numbers' axis, or more fields than those that were given
OTHERS = (
    "Normalization",
    "Discretization",
    "RandomCrop",
    "ReversibleEmbedding",
    "MelSpectrogram",
    "ContrastLimitedAdaptiveHistogramEqualization",
)
FIRST = list({(row.kind, *sorted(row.fields)): row for row in PASTED if row.kind not in OTHERS}.values())


def pasted_of(row: Row) -> dict[str, Any]:
    """The spec of a row with its layer as Keras serializes it."""
    theirs = reference.keras_layer(row.kind, row.fields, row.data_format, len(row.shapes[0]) + 1)
    form = json.loads(json.dumps(keras.saving.serialize_keras_object(theirs)))
    form["config"]["name"] = "layer"
    return {**document_of(row, row.fields), "layers": [form]}


@pytest.mark.parametrize("row", FIRST, ids=[row.id for row in FIRST])
def test_a_layer_of_a_file_of_keras_is_an_entry(row: Row) -> None:
    """Its source is that of the fields written out, but for what Keras says of defaults."""
    whole, pasted = document_of(row, row.fields), pasted_of(row)
    assert regspec.source(pasted) == regspec.source(whole)
    assert [error.message for error in validator(spec_schema).iter_errors(pasted)] == []


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        ("{class_name: Dence, config: {units: 3}}", "no kind of layer or block is called 'Dence'"),
        ("{class_name: Dense, config: {units: 0}}", "'units' of Dense must be at least 1, but is 0"),
        ("{class_name: Dense, config: {units: 3, unroll: true}}", "Dense has no field 'unroll'"),
        ("{class_name: Dense, config: [3]}", "must have a mapping as its 'config'"),
        ("{class_name: [Dense], config: {units: 3}}", "must have the name of a class as its 'class_name'"),
        ("{class_name: Dense, config: {units: 3}, units: 4}", "has 'units' beside its 'class_name'"),
        (
            "{class_name: Dense, module: mine.layers, config: {units: 3}}",
            "is a class of 'mine.layers', and not of Keras",
        ),
        ("{class_name: Dense, config: {units: 3}, inbound_nodes: [[x]]}", "has 'inbound_nodes'"),
        ("Dense: {units: 3, kernel_regularizer: {class_name: L3, config: {l2: 1}}}", "names no regularizer: 'L3'"),
        ("Dense: {units: 3, kernel_regularizer: {class_name: L2, config: {l2: -1}}}", "must be at least 0, but is -1"),
        ("Dense: {units: 3, kernel_regularizer: {class_name: L2, config: {l1: 1}}}", "'l2' has no field 'l1'"),
        ("TimeDistributed: {layer: {class_name: Dense, config: {units: 0}}}", "must be at least 1, but is 0"),
        ("TimeDistributed: {layer: {class_name: Dence, config: {}}}", "names no kind of layer: 'Dence'"),
    ],
)
def test_a_fault_of_what_keras_serializes(layer: str, what: str) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        of(layer)
    assert what in caught.value.problems[0].what
    assert caught.value.problems[0].line == 5


OF_LAYERS = [  # a layer of Keras as an activation function, and the canonical form
    (keras.layers.LeakyReLU(), "{leaky_relu: 0.3}"),
    (keras.layers.LeakyReLU(negative_slope=0.1), "{leaky_relu: 0.1}"),
    (keras.layers.ReLU(max_value=6.0, negative_slope=0.1), "{relu: {max_value: 6, negative_slope: 0.1}}"),
    (keras.layers.ELU(0.5), "{elu: 0.5}"),
    (keras.layers.Softmax(axis=-1), "softmax"),
]


@pytest.mark.parametrize(("layer", "form"), OF_LAYERS)
def test_a_layer_of_keras_as_an_activation(layer: Any, form: str) -> None:
    """As which Keras writes a function with arguments; with the layer's own default."""
    written = json.dumps(keras.saving.serialize_keras_object(layer))
    assert of(f"Dense: {{units: 3, activation: {written}}}") == of(f"Dense: {{units: 3, activation: {form}}}")


def test_a_slope_that_nobody_says() -> None:
    for form in ("LeakyReLU", "LeakyReLU()", "{class_name: LeakyReLU}", "{class_name: LeakyReLU, config: {name: x}}"):
        with pytest.raises(regspec.RegspecError, match=r"torch's slope is 0\.01"):
            of(f"Dense: {{units: 3, activation: {form}}}")


@pytest.mark.parametrize(
    ("activation", "name"),
    [("ReLU", "relu"), ("ReLU6", "relu6"), ("GELU", "gelu"), ("Hardswish", "hard_silu")],
)
def test_a_class_of_torch_is_its_function(activation: str, name: str) -> None:
    assert of(f"Dense: {{units: 3, activation: {activation}}}") == of(f"Dense: {{units: 3, activation: {name}}}")
