"""The user's own layers and regularizers: by decorator, by entry point, and what is refused."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from torch import nn

import regspec
from regspec.language.registration import called, entry_points
from regspec.layers import registration
from regspec.text.document import parse
from regspec.views.formatting import formatted
from regspec.views.schema import spec_schema
from tests import own

from .alone import alone

pytestmark = pytest.mark.usefixtures("_registry")


def spec(*layers: str, inputs: str = "x: {shape: [6]}") -> regspec.ModelSpec:
    listed = "".join(f"\n  - {layer}" for layer in layers)
    return regspec.loads(f"regspec: 1\nname: test\ninputs: {{{inputs}}}\nlayers:{listed}\n")


def test_a_module_becomes_a_kind() -> None:
    assert regspec.register_layer(own.Gate, weights={"gate": "gate"}) is own.Gate
    described = spec("Gate: {features: 6, start: 0.5, mode: squared, gate_regularizer: {l1: 0.1}}")
    source = regspec.source(described)
    assert "from tests.own import Gate\n" in source
    assert 'self.gate = Gate(features=6, start=0.5, mode="squared")' in source
    model = regspec.build(described)
    assert list(model.state_dict()) == ["gate.gate"]
    x = torch.randn(3, 6)
    torch.testing.assert_close(model(x), 0.25 * x)
    torch.testing.assert_close(model.regularization_terms(), {"gate.gate": torch.tensor(0.3)})
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(copied(x), model(x))


def test_it_takes_what_every_layer_takes() -> None:
    regspec.register_layer(own.Gate, weights={"gate": "gate"})
    model = regspec.build(
        spec(
            "Gate: {name: own, features: 6, trainable: false, gate_constraint: non_neg, activity_regularizer: {l2: 1}}",
            "Dense: {units: 2}",
        )
    )
    assert not model.own.gate.requires_grad
    x = torch.randn(3, 6)
    model(x)
    torch.testing.assert_close(model.regularization_terms(), {"own.activity": x.square().sum() / 3})


def test_shapes_are_inferred_by_its_function() -> None:
    regspec.register_layer(own.Halves, output_shape=own.halves_shape, name="Half")
    two = "x: {shape: [6]}, y: {shape: [6]}"
    model = regspec.build(spec("Half: {inputs: [x, y]}", "Dense: {units: 2}", inputs=two))
    assert model.dense.in_features == 3
    with pytest.raises(regspec.RegspecError, match=r"half_1 can't take its input: \(6,\) is not \(5,\)"):
        spec("Half: {inputs: [x, y]}", inputs="x: {shape: [6]}, y: {shape: [5]}")
    with pytest.raises(regspec.RegspecError, match="half_1 takes 2 inputs, but is given 1"):
        spec("Half: {inputs: x}")


def test_a_layer_class_has_full_control() -> None:
    regspec.register_layer(own.Swish)
    model = regspec.build(spec("Swish: {name: swish, beta: 2.0, activity_regularizer: {l1: 1.0}}"))
    x = torch.randn(3, 6)
    torch.testing.assert_close(model(x), x * torch.sigmoid(2 * x))
    torch.testing.assert_close(model.regularization_loss(), model(x).abs().sum() / 3)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("Gate: {features: six}", "'features' of Gate must be a whole number, but is 'six'"),
        ("Gate: {features: 6, mode: cubed}", "'mode' of Gate must be 'plain' or 'squared'"),
        ("Gate: {feature: 6}", "did you mean 'features'"),
        ("Gate", "Gate needs 'features'"),
        ("Gat: {features: 6}", "did you mean 'Gate'"),
    ],
)
def test_its_fields_are_checked(layer: str, message: str) -> None:
    regspec.register_layer(own.Gate)
    with pytest.raises(regspec.RegspecError, match=message):
        spec(layer)


def test_the_schema_describes_it() -> None:
    regspec.register_layer(own.Gate, weights={"gate": "gate"})
    regspec.register_regularizer(own.log_cosh)
    schema = spec_schema()
    assert schema["$defs"]["Gate"]["description"] == "Multiplies by a learned gate for each feature."
    layer = {"Gate": {"features": 6, "gate_regularizer": {"log_cosh": {"strength": 0.1}}}}
    document = {"regspec": 1, "name": "test", "inputs": {"x": {"shape": [6]}}, "layers": [layer]}
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(document)
    layer["Gate"]["mode"] = "cubed"
    assert not validator.is_valid(document)


@pytest.mark.parametrize("form", ["log_cosh", "{log_cosh: {strength: 1e-3}}", "[log_cosh]"])
def test_a_function_becomes_a_regularizer(form: str) -> None:
    assert regspec.register_regularizer(own.log_cosh) is own.log_cosh
    described = spec(f"Dense: {{units: 2, kernel_regularizer: {form}}}")
    assert "from tests.own import log_cosh\n" in regspec.source(described)
    model = regspec.build(described)
    torch.testing.assert_close(model.regularization_loss(), own.log_cosh(model.dense.weight))
    torch.testing.assert_close(pickle.loads(pickle.dumps(model)).regularization_loss(), model.regularization_loss())


def test_a_class_becomes_a_regularizer() -> None:
    regspec.register_regularizer(name="power")(own.Power)
    kernel, activity = "[l2, {power: {strength: 1.0, exponent: 2.0}}]", "{power: {strength: 0.1}}"
    layer = f"Dense: {{units: 2, kernel_regularizer: {kernel}, activity_regularizer: {activity}}}"
    model = regspec.build(spec(layer))
    y = model(torch.randn(3, 6))
    weight = model.dense.weight
    expected = {"dense.kernel": 1.01 * weight.square().sum(), "dense.activity": 0.1 * y.abs().pow(3).sum() / 3}
    torch.testing.assert_close(model.regularization_terms(), expected)


@pytest.mark.parametrize("function", [own.steep, own.Steep])
@pytest.mark.parametrize(("form", "slope"), [("mine", 2.0), ("{mine: {slope: 3.0}}", 3.0)])
def test_an_activation_of_the_users(function: Any, form: str, slope: float) -> None:
    assert regspec.register_activation(name="mine")(function) is function
    x = torch.randn(3, 6)
    model = regspec.build(spec(f"Dense: {{units: 2, activation: {form}}}"))
    torch.testing.assert_close(model(x), own.steep(model.dense(x), slope))
    torch.testing.assert_close(pickle.loads(pickle.dumps(model))(x), model(x))
    alone = regspec.build(spec(f"Activation: {{activation: {form}}}"))
    torch.testing.assert_close(alone(x), own.steep(x, slope))


def test_an_activation_of_the_users_in_a_cell() -> None:
    """Of a recurrent layer, step by step."""
    regspec.register_activation(own.steep)
    text = "{regspec: 1, inputs: {x: {shape: [4, 3]}}, layers: [{SimpleRNN: {name: r, units: 2, activation: steep}}]}"
    model = regspec.build(regspec.loads(text))
    x = torch.randn(5, 4, 3)
    states = dict(model.named_parameters())
    w, u, b = (states[next(name for name in states if each in name)] for each in ("weight_ih", "weight_hh", "bias_ih"))
    h = torch.zeros(5, 2)
    for step in range(4):
        h = own.steep(x[:, step] @ w.T + h @ u.T + b)
    torch.testing.assert_close(model(x), h)


@pytest.mark.parametrize("function", [own.clipped, own.Clipped])
@pytest.mark.parametrize(("form", "most"), [("mine", 0.25), ("{mine: {most: 0.125}}", 0.125)])
def test_a_constraint_of_the_users(function: Any, form: str, most: float) -> None:
    assert regspec.register_constraint(name="mine")(function) is function
    model = regspec.build(spec(f"Dense: {{units: 2, kernel_constraint: {form}}}"))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    regspec.bind(model, optimizer)
    model(10 * torch.ones(3, 6)).sum().backward()
    optimizer.step()
    assert model.dense.weight.abs().max() == most
    assert model.dense.bias.abs().max() > most


@pytest.mark.parametrize("function", [own.ramp, own.ramp_in_place, own.Ramp])
@pytest.mark.parametrize(("form", "step"), [("mine", 0.125), ("{mine: {step: 0.5}}", 0.5)])
def test_an_initializer_of_the_users(function: Any, form: str, step: float) -> None:
    assert regspec.register_initializer(name="mine")(function) is function
    described = spec(f"Dense: {{units: 2, kernel_initializer: {form}}}")
    model = regspec.build(described)
    assert torch.equal(model.dense.weight, step * torch.arange(12.0).reshape(2, 6))
    assert model.dense.weight.requires_grad
    assert torch.equal(pickle.loads(pickle.dumps(model)).dense.weight, model.dense.weight)
    model = alone(described, "Test")
    assert torch.equal(model.dense.weight, step * torch.arange(12.0).reshape(2, 6))


@pytest.mark.parametrize("own_field", ["kernel_initializer: ramp", "kernel_constraint: clipped"])
def test_keras_has_none_of_the_users(own_field: str, tmp_path: Path) -> None:
    regspec.register_initializer(own.ramp)
    regspec.register_constraint(own.clipped)
    with pytest.raises(
        regspec.RegspecError, match=f"has the {own_field.partition('_')[2].replace(':', '')}, which Ker"
    ):
        regspec.to_keras(spec(f"Dense: {{units: 2, {own_field}}}"), tmp_path / "a.keras")


@pytest.mark.parametrize(
    ("imported", "message"),
    [
        ("penalty=tests.own:log_cosh", "sorts are regularizer, constraint, initializer, activation"),
        ("regularizer=tests.own", "write SORT=module:name"),
        ("regularizer=tests.own:log_cos", "names nothing to call"),
        ("tests.own:log_cosh", "--import regularizer=module:function"),
        ("activation=torch.nn.functional:relu", "can't be registered: it has a meaning of its own"),
    ],
)
def test_what_can_not_be_imported(imported: str, message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        registration.imported(imported)


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda: regspec.register_activation(own.steep, name="relu"), "'relu' can't be registered: it has a meaning"),
        (lambda: regspec.register_constraint(own.clipped, name="max_norm"), "'max_norm' can't be registered: it has"),
        (lambda: regspec.register_initializer(own.ramp, name="zeros"), "'zeros' can't be registered: it has a meaning"),
        (lambda: regspec.register_activation(lambda x: x), "can't be registered: compiled source imports it"),
    ],
)
def test_what_is_no_function_of_the_users(register: Any, message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        register()


OFFERED = """import regspec, torch
@regspec.register_layer
class Doubled(torch.nn.Module):
    def forward(self, x):
        return 2 * x
@regspec.register_regularizer
def cubes(weight, strength: float = 0.1):
    return strength * weight.abs().pow(3).sum()
"""


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with entry points, of which nothing is loaded or registered yet."""
    (tmp_path / "offered.py").write_text(OFFERED)
    info = tmp_path / "offered-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[regspec.layers]\nDoubled = offered:Doubled\nBroken = offered:nothing\n"
        "[regspec.regularizers]\ncubes = offered:cubes\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    entry_points.cache_clear()
    yield
    sys.modules.pop("offered", None)
    entry_points.cache_clear()


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize("layer", ["Doubled", "{class_name: Doubled, config: {}}", "TimeDistributed: {layer: Doubled}"])
def test_a_layer_of_an_entry_point_is_found(layer: str) -> None:
    head = "regspec: 1\ninputs: {x: {shape: [5, 6]}}\nlayers:\n"
    text = f"{head}  - {layer}\nregularizers: [{{kinds: [Doubled], activity: {{l2: 0.1}}}}]\n"
    x = torch.randn(3, 5, 6)
    torch.testing.assert_close(regspec.build(text)(x), 2 * x)


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize(
    ("form", "strength"),
    [
        ("cubes", 0.1),
        ("{cubes: {strength: 0.2}}", 0.2),
        ("cubes()", 0.1),
        ("cubes(0.2)", 0.2),
        ("cubes($quarter)", 0.25),
        ("{class_name: cubes, config: {strength: 0.2}}", 0.2),
        ("[{l2: 0.0}, cubes(0.2)]", 0.2),
    ],
)
def test_a_regularizer_of_an_entry_point_is_found(form: str, strength: float) -> None:
    head = "regspec: 1\nparameters: {quarter: 0.25}\ninputs: {x: {shape: [6]}}\nlayers:\n"
    text = f"{head}  - Dense: {{units: 1, kernel_regularizer: {form}}}\n"
    assert regspec.loads(formatted(parse(text))).layers == regspec.loads(text).layers
    model = regspec.build(text)
    weight = model.get_parameter("dense.weight")
    torch.testing.assert_close(model.regularization_loss(), strength * weight.abs().pow(3).sum())


@pytest.mark.usefixtures("offered")
def test_an_entry_point_that_can_not_be_loaded() -> None:
    with pytest.raises(regspec.RegspecError, match=r"the entry point 'Broken' of regspec\.layers can't be loaded"):
        spec("Broken")


BY_CODE = {  # of a user's module, what importing or calling it comes to
    "1 / 0": ("'wrong' can't be imported: division by zero", "line 1"),
    "x = 1\n{}['k']": ("'wrong' can't be imported: KeyError: 'k'", "line 2"),
    "import absent_module": ("'wrong' can't be imported: No module named 'absent_module'", "line 1"),
    "x = (": ("'wrong' can't be imported: '(' was never closed", None),
    "raise AssertionError": ("'wrong' can't be imported: AssertionError", "line 1"),
    "def f():\n    import json\n    json.loads('{')": ("'wrong:f' fails: Expecting property name", "line 3"),
    "def f():\n    return f.x": ("'wrong:f' fails: 'function' object has no attribute 'x'", "line 2"),
}


@pytest.mark.parametrize("code", BY_CODE)
def test_what_code_of_the_user_raises(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said with the line of that code, and not of a library that it calls."""
    message, line = BY_CODE[code]
    (tmp_path / "wrong.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "wrong", raising=False)
    with pytest.raises(regspec.RegspecError) as caught:
        called("wrong:f")
    (problem,) = caught.value.problems
    assert problem.what.startswith(message)
    assert problem.hint == (None if line is None else f"raised from {tmp_path / 'wrong.py'}, {line}")


def local() -> type[nn.Module]:
    class Local(nn.Module):
        pass

    return Local


class Named(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()


class Positional(nn.Module):
    def __init__(self, size: int, /) -> None:
        super().__init__()


class small(nn.Module):  # noqa: N801  # which is what is tested
    pass


class Dense(nn.Module):
    pass


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (local(), "it must be defined at the top of a module"),
        (Named, "'name' has a meaning of its own in every layer"),
        (Positional, "'size' can't be given by name"),
        (small, "a kind's name begins with a capital letter"),
        (Dense, "it is a kind of regspec's own"),
    ],
)
def test_what_is_refused(cls: type[nn.Module], message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.register_layer(cls)


def test_a_lambda_is_refused() -> None:
    with pytest.raises(regspec.RegspecError, match="must be defined at the top of a module"):
        regspec.register_regularizer(lambda weight: weight.sum())
