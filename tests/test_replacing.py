"""Layers of a Keras file that torch modules of the user's stand in for."""

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
from torch import nn
from typer.testing import CliRunner

import regspec
from regspec.cli import app
from regspec.keras.porting.porting import report_of
from regspec.layers import KINDS
from tests import own

from .commands import command_apart
from .layers import reference

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Keras, when it saves
    pytest.mark.usefixtures("_registry"),
]


@keras.saving.register_keras_serializable("theirs")
class GatedDense(layers.Layer):
    """In Keras, what `own.GatedDense` is in torch: weights of its own, and those of a part."""

    def __init__(self, units: int, features: int = 4, factor: float = 1.0, **rest: Any) -> None:
        super().__init__(**rest)
        self.units, self.features, self.factor = units, features, factor
        self.dense = layers.Dense(units)

    def build(self, shape: Any) -> None:
        self.gate = self.add_weight(shape=(self.units,), name="gate")
        self.mean = self.add_weight(shape=(self.units,), name="mean", trainable=False)
        self.dense.build(shape)

    def call(self, x: Any) -> Any:
        return self.dense(x) * keras.ops.sigmoid(self.gate) * self.factor

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "features": self.features, "factor": self.factor}


@keras.saving.register_keras_serializable("theirs")
class Swish(layers.Layer):
    def __init__(self, beta: float = 1.0, **rest: Any) -> None:
        super().__init__(**rest)
        self.beta = beta

    def call(self, x: Any) -> Any:
        return x * keras.ops.sigmoid(self.beta * x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta": self.beta}


def network() -> Any:
    x = keras.Input((4,))
    y = GatedDense(4, factor=0.5, name="gated")(x)  # a square kernel, so that no shape shows a transpose
    y = layers.Lambda(lambda z: 2 * z, name="doubled")(y)
    model = keras.Model(x, layers.Dense(3, kernel_regularizer="l2", name="out")(y))
    reference.fill(model, 1)
    return model


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    "replace",
    [
        {"gated": own.GatedDense, "doubled": own.Twice},
        {"GatedDense": "tests.own:GatedDense", "Lambda": "tests.own:Twice"},
        {"theirs>GatedDense": own.GatedDense, "doubled": "tests.own:Twice"},
    ],
)
def test_by_name_and_by_class(replace: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    model, x = network(), torch.randn(5, 4)
    model.save(tmp_path / f"model{suffix}")
    port = regspec.port(tmp_path / f"model{suffix}", replace=replace)
    ported = port.build()
    torch.testing.assert_close(ported(x), model(x))
    torch.testing.assert_close(ported.gated.mean, model.get_layer("gated").mean.value)
    assert port.provenance.account is not None
    assert port.provenance.account.is_complete
    assert "computed by a module of your own, GatedDense" in port.notes[0]
    port.save(tmp_path / "ported")
    built = regspec.build(tmp_path / "ported" / "spec.yaml")
    built.load_state_dict(load_file(tmp_path / "ported" / "weights.safetensors"))
    assert torch.equal(built(x), ported(x))


@keras.saving.register_keras_serializable("theirs")
class LogCosh(keras.regularizers.Regularizer):
    def __init__(self, strength: float) -> None:
        self.strength = strength

    def __call__(self, x: Any) -> Any:
        return self.strength * keras.ops.sum(keras.ops.log(keras.ops.cosh(x)))

    def get_config(self) -> dict[str, Any]:
        return {"strength": self.strength}


@keras.saving.register_keras_serializable("theirs")
def largest(x: Any) -> Any:
    return keras.ops.max(keras.ops.abs(x))


@keras.saving.register_keras_serializable("theirs")
class Clip(keras.constraints.Constraint):
    def __call__(self, w: Any) -> Any:
        return keras.ops.clip(w, -0.25, 0.25)


@keras.saving.register_keras_serializable("theirs")
class Row(keras.initializers.Initializer):
    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return keras.ops.ones(shape)


@keras.saving.register_keras_serializable("theirs")
def gate(x: Any) -> Any:
    return x * keras.ops.sigmoid(2 * x)


THINGS = {"LogCosh": own.log_cosh, "largest": own.largest, "Clip": own.clipped, "Row": own.ramp, "gate": own.steep}
PLACES = ["d.kernel_regularizer", "e.bias_regularizer", "d.kernel_constraint", "d.kernel_initializer", "r.activation"]
SORTS = ["regularizer", "regularizer", "constraint", "initializer", "activation"]


def network_of_things() -> Any:
    """A regularizer, a constraint, an initializer and functions, none of Keras's own; also in a wrapper."""
    x = keras.Input((5, 4))
    kernel = {"kernel_regularizer": LogCosh(0.5), "kernel_constraint": Clip(), "kernel_initializer": Row()}
    y = layers.TimeDistributed(layers.Dense(3, name="d", **kernel), name="t")(x)
    y = layers.SimpleRNN(3, activation=gate, name="r")(y)
    model = keras.Model(x, layers.Dense(2, bias_regularizer=largest, name="e")(y))
    reference.fill(model, 1)
    return model


def check_things(path: Path, replace: dict[str, Any]) -> regspec.Port:
    model, x = network_of_things(), torch.randn(7, 5, 4)
    port = regspec.port(path, replace=replace)
    ported = port.build()
    torch.testing.assert_close(ported(x), model(x))
    torch.testing.assert_close(ported.regularization_loss(), sum(model.losses))
    ported.apply_constraints()
    torch.testing.assert_close(ported.get_parameter("t.weight"), Clip()(model.layers[1].layer.kernel).T)
    fresh = regspec.build(port.spec).get_parameter("t.weight")
    assert torch.equal(fresh, 0.125 * torch.arange(12.0).reshape(3, 4))
    return port


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    "names", [[*THINGS], [f"theirs>{each}" for each in THINGS], PLACES], ids=["name", "full", "at"]
)
def test_what_is_no_layer(names: list[str], suffix: str, tmp_path: Path) -> None:
    network_of_things().save(tmp_path / f"model{suffix}")
    replace = dict(zip(names, THINGS.values(), strict=True))
    port = check_things(tmp_path / f"model{suffix}", replace)
    imports = [f"{sort}=tests.own:{each.__name__}" for sort, each in zip(SORTS, THINGS.values(), strict=True)]
    assert {*port.text.splitlines()[0].split()[4:-1:2]} == {*imports}
    assert f"regspec.register_{SORTS[3]}(ramp)" in report_of(port)["report.md"].decode()


def test_what_is_no_layer_and_is_registered(tmp_path: Path) -> None:
    for sort, (name, function) in zip(SORTS, THINGS.items(), strict=True):
        getattr(regspec, f"register_{sort}")(name=name)(function)
    network_of_things().save(tmp_path / "model.keras")
    check_things(tmp_path / "model.keras", {})


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_a_lambda_is_replaced_at_its_place(tmp_path: Path) -> None:
    x = keras.Input((4,))
    penalties = {"kernel_regularizer": lambda w: keras.ops.sum(w), "bias_regularizer": "l2"}
    y = layers.Dense(3, name="d", **penalties)(x)
    model = keras.Model(x, layers.Dense(3, activation=lambda x: 2 * x, name="e")(y))
    model.save(tmp_path / "model.keras")
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.port(tmp_path / "model.keras")
    for place, found in (("d.kernel_regularizer", "sum"), ("e.activation", "the constants 2")):
        problem = next(each for each in raised.value.problems if place in str(each.hint))
        assert "is a lambda: it is Python code" in problem.what
        assert found in problem.what
        assert f"--replace '{place}=package.module:function'" in str(problem.hint)
    replace = {"d.kernel_regularizer": own.log_cosh, "e.activation": own.steep}
    port = regspec.port(tmp_path / "model.keras", replace=replace)
    assert "kernel_regularizer: log_cosh, bias_regularizer: {l2: 0.01}" in port.text
    assert "name: e, units: 3, activation: steep}" in port.text
    assert port.notes == (
        "in the place of 'd.kernel_regularizer' is a function of your own, log_cosh",
        "in the place of 'e.activation' is a function of your own, steep",
    )
    wrong = {**replace, "d.bias_regularizer": own.log_cosh}
    with pytest.raises(regspec.RegspecError, match="'log_cosh', in the place of the regularizer, does not take l2 ="):
        regspec.port(tmp_path / "model.keras", replace=wrong)


OF_OLD = {  # a penalty and a function of the user's, as Keras writes them
    "1.2.2": ({"output_dim": 3, "W_regularizer": {"name": "Mine", "strength": 0.5}, "activation": "swoosh"}, []),
    "2.2.4": ({"units": 3, "kernel_regularizer": {"class_name": "Mine", "config": {"strength": 0.5}}}, ["swoosh"]),
    "2.4.0": ({"units": 3, "kernel_regularizer": {"class_name": "pack>Mine", "config": {"strength": 0.5}}}, ["swoosh"]),
}


@pytest.mark.parametrize("version", OF_OLD)
@pytest.mark.parametrize("names", [("Mine", "swoosh"), ("d.kernel_regularizer", "d.activation")])
def test_what_older_files_name(version: str, names: tuple[str, str], tmp_path: Path) -> None:
    fields, activation = OF_OLD[version]
    said = {"activation": activation[0]} if activation else {}
    layer = {"class_name": "Dense", "config": {"name": "d", "batch_input_shape": [None, 4], **fields, **said}}
    model = {"class_name": "Sequential", "keras_version": version, "config": [layer]}
    (tmp_path / "model.json").write_text(json.dumps(model))
    replace = dict(zip(names, (own.log_cosh, own.steep), strict=True))
    built, x = regspec.port(tmp_path / "model.json", replace=replace).build(), torch.randn(5, 4)
    torch.testing.assert_close(built(x), own.steep(built.d(x)))
    torch.testing.assert_close(built.regularization_loss(), own.log_cosh(built.d.weight, 0.5))


@pytest.mark.parametrize(("regularizer", "activation"), [("pack>Mine", "pack>swoosh"), ("Mine", "swoosh")])
def test_what_older_files_name_and_is_registered(regularizer: str, activation: str, tmp_path: Path) -> None:
    kernel = {"class_name": regularizer, "config": {"strength": 0.5}}
    fields = {"name": "d", "batch_input_shape": [None, 4], "units": 3, "kernel_regularizer": kernel}
    layer = {"class_name": "Dense", "config": {**fields, "activation": activation}}
    model = {"class_name": "Sequential", "keras_version": "2.15.0", "config": [layer]}
    (tmp_path / "model.json").write_text(json.dumps(model))
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.port(tmp_path / "model.json")
    hints = [str(each.hint).partition("=")[0] for each in raised.value.problems]
    assert [each.rpartition("'")[2] for each in hints] == ["Mine", "swoosh"]
    regspec.register_regularizer(name="Mine")(own.log_cosh)
    regspec.register_activation(name="swoosh")(own.steep)
    built, x = regspec.port(tmp_path / "model.json").build(), torch.randn(5, 4)
    torch.testing.assert_close(built(x), own.steep(built.d(x)))
    torch.testing.assert_close(built.regularization_loss(), own.log_cosh(built.d.weight, 0.5))


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        ({}, r"(?s)the regularizer 'LogCosh', .*--replace 'LogCosh=package.module:function'; or write @regspec.regis"),
        ({"LogCos": own.log_cosh}, "did you mean 'LogCosh'"),
        (
            {"Zeros": own.ramp},
            r"'Zeros' is to be replaced, but no layer has that name, .*\n.*--replace 'r\.bias_initializer=module:fun",
        ),
        ({"LogCosh": own.largest}, "'largest', in the place of the regularizer, does not take strength = 0.5"),
        ({"LogCosh": own.by_places, "largest": own.by_places}, "'by_places', in the place of the .* needs strength"),
        ({"Row": own.filled}, "'filled', in the place of the initializer, needs start, which the file lacks"),
        ({"d.kernel_regularizer": own.log_cosh}, r"'LogCosh' .* is replaced already\n.*'d.kernel_regularizer'"),
        ({"d.bias_regularizer": own.log_cosh}, "'d.bias_regularizer' is to be replaced, but nothing is there"),
        ({"TimeDistributed": own.log_cosh}, "'TimeDistributed' is a layer, in whose place only either can stand"),
        ({"gate": torch.nn.functional.silu}, "a meaning of its own in regspec\n.*register_activation.*name="),
        ({"LogCosh": "tests.own:nothing"}, "names nothing to call"),
        ({"LogCosh": lambda w: w}, "it must be defined at the top of a module"),
        ({"LogCosh": torch.nn.functional.relu}, None),
    ],
)
def test_what_does_not_fit_a_value(replace: dict[str, Any], message: str | None, tmp_path: Path) -> None:
    network_of_things().save(tmp_path / "model.keras")
    others = {name: each for name, each in THINGS.items() if name not in replace and replace}
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.port(tmp_path / "model.keras", replace={**others, **replace})


def test_what_could_not_be_asked_for_is_not_missed(tmp_path: Path) -> None:
    network_of_things().save(tmp_path / "model.keras")
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.port(tmp_path / "model.keras", replace={**THINGS, "LogCosh": own.largest, "Clips": own.clipped})
    told = [each.what.rpartition(": ")[2] for each in raised.value.problems]
    assert [each[:21] for each in told] == ["'largest', in the pla", "'Clips' is to be repl"]


def test_a_kind_that_is_registered_needs_no_mention(tmp_path: Path) -> None:
    regspec.register_layer(own.GatedDense)
    regspec.register_layer(own.Twice, name="Lambda")
    model, x = network(), torch.randn(5, 4)
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    torch.testing.assert_close(port.build()(x), model(x))
    assert port.text.startswith("# needs: regspec --import tests.own …\nregspec: 1\n")


def test_a_layer_with_full_control(tmp_path: Path) -> None:
    """Is verified too, because Keras knows the class in this process, and so imports nothing."""
    regspec.register_layer(own.Swish)
    x = keras.Input((4,))
    keras.Model(x, layers.Dense(2)(Swish(2.5)(x))).save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    assert "Swish: {name: swish, beta: 2.5}" in port.text
    verification = port.verify()
    assert verification.passed
    assert verification.reference


def test_what_is_replaced_is_verified_where_keras_knows_it(tmp_path: Path) -> None:
    x = keras.Input((4,))
    model = keras.Model(x, GatedDense(3, name="gated")(x))
    reference.fill(model, 1)
    model.save(tmp_path / "model.keras")
    verification = regspec.port(tmp_path / "model.keras", replace={"gated": own.GatedDense}).verify()
    assert verification.passed
    assert {"gated.gate", "gated.dense.weight"} <= {each.name for each in verification.checks}
    network().save(tmp_path / "other.keras")
    other = regspec.port(tmp_path / "other.keras", replace={"gated": own.GatedDense, "Lambda": own.Twice}).verify()
    assert other.reference is None
    assert "Keras is not asked to load 'Lambda'" in other.left_out[0]


def test_an_operation_and_a_layer_of_keras(tmp_path: Path) -> None:
    x = keras.Input((4,))
    y = keras.ops.cumsum(layers.ReLU(name="rectified")(x), axis=1)
    model = keras.Model(x, y)
    model.save(tmp_path / "model.keras")
    replace = {"Cumsum": own.Cumulative, "rectified": own.Twice}
    port = regspec.port(tmp_path / "model.keras", replace=replace)
    x = torch.randn(3, 4)
    assert torch.equal(port.build()(x), (2 * x).cumsum(1))
    assert "Cumulative: {name: cumsum, axis: 1}" in port.text


def test_convolutions_are_transposed(tmp_path: Path) -> None:
    x = keras.Input((5, 6, 3))
    y = layers.Conv2D(3, (3, 3), name="conv")(x)
    model = keras.Model(x, y)
    reference.fill(model, 1)
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras", replace={"conv": Convolution})
    x = torch.randn(2, 5, 6, 3)
    torch.testing.assert_close(port.build()(x), model(x))


class Convolution(nn.Module):
    """A convolution of images whose channels are last."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, filters, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.movedim(-1, 1)).movedim(1, -1)


class Slotted(nn.Module):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, units))
        self.bias = nn.Parameter(torch.ones(units))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


def test_penalties_go_to_slots(tmp_path: Path) -> None:
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(4, kernel_regularizer="l2", activity_regularizer="l1", name="dense")(x))
    model.save(tmp_path / "model.keras")
    with pytest.raises(regspec.RegspecError, match="kernel_regularizer, for which Slotted has no slot"):
        regspec.port(tmp_path / "model.keras", replace={"dense": Slotted})
    KINDS.pop("Slotted")
    regspec.register_layer(Slotted, weights={"kernel": "weight", "bias": "bias"})
    port = regspec.port(tmp_path / "model.keras", replace={"dense": Slotted})
    verification = port.verify()
    assert verification.passed
    assert {"dense.kernel", "dense.activity"} <= {each.name for each in verification.checks}


class Failing(nn.Module):
    def __init__(self) -> None:
        raise ValueError("no such thing")


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        ({"gated": own.Twice}, r"has the arrays .*dense/vars/0 \(4, 4\).* but Twice the parameters none"),
        ({"gated": Slotted}, "'gated' has the arrays"),
        ({"out": Slotted}, "kernel_regularizer, for which Slotted has no slot"),
        ({"doubled": own.Gate}, "Gate needs features, but the config of the layer has function, arguments"),
        ({"gatd": own.GatedDense}, "'gatd' is to be replaced, but no layer has that name.*\n.*did you mean 'gated'"),
        ({"gated": Failing}, "'gated': Failing can't be made: no such thing"),
        ({"gated": "tests.own:nothing"}, "names nothing to call"),
        ({"gated": "absent.module:Class"}, "'absent.module' can't be imported"),
        ({"gated": "tests.own:log_cosh"}, r"is no torch.nn.Module"),
        ({"gated": nn.Dropout}, "a kind of another class has the name"),
        (
            {},
            r"(?s)--replace 'GatedDense=package.module:Class', or of one by its name; or "
            r".*register_layer\(Class, name='GatedDense'",
        ),
    ],
)
def test_what_does_not_fit_is_said(replace: dict[str, Any], message: str, tmp_path: Path) -> None:
    network().save(tmp_path / "model.keras")
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.port(tmp_path / "model.keras", replace={"doubled": own.Twice, **replace})


def test_a_class_of_another_size(tmp_path: Path) -> None:
    network().save(tmp_path / "model.keras")

    with pytest.raises(
        regspec.RegspecError, match=r"has dense/vars/0 with the shape \(4, 4\), where \(5, 4\) is wanted"
    ):
        regspec.port(tmp_path / "model.keras", replace={"gated": Wider, "doubled": own.Twice})


class Wider(own.GatedDense):
    def __init__(self, units: int) -> None:
        super().__init__(units, 5)


def test_the_command(tmp_path: Path) -> None:
    """A class that nothing registers; its spec is known again by what its first line says."""
    network().save(tmp_path / "model.keras")
    (tmp_path / "mine.py").write_text(
        "from tests.own import *\nclass Gating(GatedDense): pass\nclass Two(Twice): pass\n"
    )
    options = ("--replace", "gated=mine:Gating", "--replace", "Lambda=mine:Two", "--verify")
    result = command_apart("port", "model.keras", "-o", "out", *options, cwd=tmp_path)
    assert result.code == 0, result.output
    assert "note: 'gated' (GatedDense) is computed by a module of your own, Gating" in result.stdout
    assert "not compared: outputs, penalties and gradients: Keras is not asked to load 'GatedDense'" in result.stdout
    first = (tmp_path / "out" / "spec.yaml").read_text().splitlines()[0]
    assert first == "# needs: regspec --import mine:Gating --import mine:Two …"
    assert command_apart("check", "out/spec.yaml", cwd=tmp_path).code == 1
    imports = ("--import", "mine:Gating", "--import", "mine:Two")
    assert command_apart(*imports, "check", "out/spec.yaml", cwd=tmp_path).code == 0
    page = (tmp_path / "out" / "report.md").read_text()
    assert "from mine import Gating, Two\n\nregspec.register_layer(Gating)\nregspec.register_layer(Two)\n" in page


@pytest.mark.parametrize("values", [["gated"], ["gated="], ["gated=mine"], ["=mine:Scale"], ["a=b:C", "a=b:D"]])
def test_a_wrong_use_of_the_command(values: list[str], tmp_path: Path) -> None:
    options = [f"--replace={value}" for value in values]
    result = CliRunner().invoke(app, ["port", "model.keras", "-o", str(tmp_path), *options])
    assert result.exit_code == 2
    assert not np.any([each.name == "spec.yaml" for each in tmp_path.iterdir()])
