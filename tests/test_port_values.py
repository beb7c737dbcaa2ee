"""Regularizers, constraints, initializers and activation functions, in each form in which a file of Keras has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers

import regspec
from regspec.keras.configs.values import UnportedError, spec_form
from regspec.language.regularizers import REGULARIZERS
from regspec.language.sorts import FAMILIES
from regspec.layers.kinds import KINDS

from .layers import reference
from .ported import agrees

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves

# -- regularizers ------------------------------------------------------------------------------------------------------


def form(name: str, module: str | None = "keras.regularizers", registered: Any = None, **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": registered}


REGULARIZED: list[tuple[Any, int, Any]] = [
    (None, 3, None),
    ("l1", 3, {"l1": 0.01}),
    ("l2", 3, {"l2": 0.01}),
    ("L1", 3, {"l1": 0.01}),
    ("L2", 3, {"l2": 0.01}),
    ("L1L2", 3, None),
    ("l1l2", 3, None),
    ("L1L2", 2, None),
    ("l1_l2", 2, {"l1": 0.01, "l2": 0.01}),
    ("l1l2", 1, {"l1": 0.01, "l2": 0.01}),
    ({"class_name": "l1_l2", "config": {}}, 2, {"l1": 0.01, "l2": 0.01}),
    ({"class_name": "l1_l2", "config": {"l1": 0.1, "l2": 0.0}}, 2, {"l1": 0.1}),
    ({"class_name": "L1L2", "config": {}}, 2, None),
    ({"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.3}}, 2, {"l2": 0.3}),
    ({"class_name": "L2", "config": {"l": 0.5}}, 2, {"l2": 0.5}),
    ({"class_name": "l2", "config": {"l2": 0.5}}, 3, {"l2": 0.5}),
    (form("L2", l2=0.0), 3, None),
    (form("L1", l1=0.10000000149011612), 3, {"l1": 0.1}),
    (form("L1", l1=9.999999747378752e-05), 3, {"l1": 1e-4}),
    (form("L2", l2=0.009999999776482582), 2, {"l2": 0.01}),
    (form("L2", l2=0.1234567890123), 3, {"l2": 0.1234567890123}),
    (form("L1L2", l1=1e-5, l2=np.float32(0.3).item()), 3, {"l1": 1e-5, "l2": 0.3}),
    (form("L2", l2=1e39), 3, {"l2": 1e39}),
    (form("OrthogonalRegularizer", factor=0.20000000298023224, mode="columns"), 3,
     {"orthogonal": {"factor": 0.2, "mode": "columns"}}),
    (form("OrthogonalRegularizer", factor=0.01, mode="rows"), 3, "orthogonal"),
    ("orthogonal_regularizer", 3, "orthogonal"),
    ("OrthogonalRegularizer", 3, "orthogonal"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "generation", "wanted"), REGULARIZED)
def test_regularizers(value: Any, generation: int, wanted: Any) -> None:
    assert spec_form(value, "regularizer", generation) == wanted


REFUSED: list[tuple[str, Any, int, str]] = [
    ("regularizer", "l1_l2", 3, "which Keras 3 does not know"),
    ("regularizer", "l3", 3, "the regularizer 'l3'"),
    ("regularizer", "Regularizer", 3, "the regularizer 'Regularizer'"),
    ("regularizer", 0.01, 3, r"the regularizer 0\.01"),
    ("regularizer", ["l2"], 3, r"the regularizer \['l2'\]"),
    ("regularizer", form("L2", None, "mine>L2", l2=0.1), 3, r"'L2', which is none of Keras's own \(mine>L2\)"),
    ("regularizer", form("L2", "mine", None, l2=0.1), 3, "none of Keras's own"),
    ("regularizer", form("MyReg", None, "mine>MyReg"), 3, "none of Keras's own"),
    (
        "regularizer",
        {"class_name": "Custom>MyReg", "config": {}},
        2,
        r"the regularizer 'MyReg', which is none of Keras's own \(Custom>MyReg\)",
    ),
    (
        "regularizer",
        {"class_name": "__lambda__", "config": {"value": ["4wE="]}},
        3,
        "it is Python code, which is not run",
    ),
    ("regularizer", form("OrthogonalRegularizer", factor=0.1, axis=1), 3, "with axis = 1"),
    ("constraint", form("MaxNorm", "mine", "mine>MaxNorm", max_value=2), 3, "none of Keras's own"),
    ("constraint", "Constraint", 3, "the constraint 'Constraint'"),
    ("initializer", {"class_name": "__lambda__", "config": {}}, 3, "it is Python code, which is not run"),
    ("initializer", form("Constant", "keras.initializers", value={"class_name": "__numpy__"}), 3, "with value"),
    (
        "activation",
        {"class_name": "function", "config": "mine>relu", "module": "builtins"},
        3,
        "'relu', which is none of Keras's own \\(mine>relu\\)",
    ),
    ("activation", {"class_name": "function", "config": "swoosh", "registered_name": "mine>swoosh"}, 3, "none of"),
    ("activation", "swoosh", 3, "the activation 'swoosh'"),
]


@pytest.mark.parametrize(("sort", "value", "generation", "message"), REFUSED)
def test_what_has_no_counterpart(sort: str, value: Any, generation: int, message: str) -> None:
    with pytest.raises(UnportedError, match=message):
        spec_form(value, sort, generation)


def own_penalty(weight: torch.Tensor, strength: float = 0.1) -> torch.Tensor:
    return strength * weight.abs().max()


def test_a_regularizer_of_the_users_that_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name; and one of a name that Keras has is still not Keras's."""
    monkeypatch.setattr(REGULARIZERS, "members", dict(REGULARIZERS.members))
    for _ in range(2):  # again, as when a notebook's cell runs again
        regspec.register_regularizer(own_penalty)
    value = form("OwnPenalty", None, "mine>OwnPenalty", strength=0.5)
    assert spec_form(value, "regularizer") == {"own_penalty": {"strength": 0.5}}


def own_activation(x: torch.Tensor) -> torch.Tensor:
    return x


def own_constraint(weight: torch.Tensor) -> torch.Tensor:
    return weight


OWN_FUNCTION = {"module": "builtins", "class_name": "function", "registered_name": "function"}


@pytest.mark.parametrize(
    ("sort", "register", "function"),
    [
        ("regularizer", regspec.register_regularizer, own_penalty),
        ("activation", regspec.register_activation, own_activation),
        ("constraint", regspec.register_constraint, own_constraint),
    ],
)
@pytest.mark.usefixtures("_registry")
def test_plain_functions_of_the_users(sort: str, register: Any, function: Any) -> None:
    """As Keras 3.15 writes them; what is not registered is named, with the way out."""
    value = {**OWN_FUNCTION, "config": f"mine>{function.__name__}"}
    with pytest.raises(
        UnportedError, match=f"the {sort} '{function.__name__}', which is none of Keras's own"
    ) as caught:
        spec_form(value, sort)
    assert caught.value.hint is not None
    assert f"@regspec.register_{sort}(name='{function.__name__}')" in caught.value.hint
    register(function)
    assert spec_form(value, sort) == function.__name__


@pytest.mark.parametrize("sort", ["regularizer", "activation"])
def test_a_function_of_the_users_with_a_name_of_keras(sort: str) -> None:
    name = {"regularizer": "l2", "activation": "relu"}[sort]
    with pytest.raises(UnportedError, match="which is none of Keras's own"):
        spec_form({**OWN_FUNCTION, "config": f"mine>{name}"}, sort)


# -- constraints and initializers --------------------------------------------------------------------------------------

CONSTRAINTS = [
    ("max_norm", "max_norm"),
    ("MaxNorm", "max_norm"),
    (keras.constraints.MaxNorm(3, axis=[0, 1]), {"max_norm": {"max_value": 3, "axis": [0, 1]}}),
    (keras.constraints.MinMaxNorm(0.1, 2, 0.5, 1),
     {"min_max_norm": {"min_value": 0.1, "max_value": 2, "rate": 0.5, "axis": 1}}),
    ("min_max_norm", "min_max_norm"),
    (keras.constraints.NonNeg(), "non_neg"),
    ("NonNeg", "non_neg"),
    (keras.constraints.UnitNorm(axis=1), {"unit_norm": {"axis": 1}}),
    ("unit_norm", "unit_norm"),
]  # fmt: skip


@pytest.mark.parametrize(("constraint", "wanted"), CONSTRAINTS)
def test_constraints(constraint: Any, wanted: Any) -> None:
    """As Keras writes them, of objects and of names."""
    written = layers.Dense(3, kernel_constraint=constraint).get_config()["kernel_constraint"]
    assert spec_form(written, "constraint") == wanted
    made = FAMILIES["constraint"].parse(wanted)
    theirs = keras.constraints.get(constraint)
    x = torch.randn(4, 3)
    text = f"regspec: 1\ninputs: {{x: {{shape: [4]}}}}\nlayers: [{{Dense: {{units: 3, kernel_constraint: {wanted}}}}}]"
    model = regspec.build(regspec.loads(text.replace("'", "")))
    with torch.no_grad():
        model.dense.weight.copy_(x.T)
    model.apply_constraints()
    torch.testing.assert_close(model.dense.weight.T, theirs(x), rtol=1e-5, atol=1e-6, msg=str(made))


INITIALIZERS: list[Any] = [
    *("glorot_normal", "GlorotNormal", "glorot_uniform", "he_normal", "HeUniform", "lecun_normal", "lecun_uniform"),
    *("one", "ones", "zero", "zeros", "orthogonal", "OrthogonalInitializer", "identity", "IdentityInitializer"),
    *("normal", "random_normal", "uniform", "random_uniform", "truncated_normal", "variance_scaling"),
    keras.initializers.Constant(3.0),
    keras.initializers.RandomNormal(0.5, 0.1, seed=3),
    keras.initializers.VarianceScaling(2.0, "fan_out", "uniform"),
    keras.initializers.TruncatedNormal(seed=keras.random.SeedGenerator(1)),
    keras.initializers.Orthogonal(2.0, seed=1),
]


@pytest.mark.parametrize(
    "initializer", INITIALIZERS, ids=lambda each: each if isinstance(each, str) else type(each).__name__
)
def test_initializers(initializer: Any) -> None:
    """As Keras writes them: the same moments, drawn from torch's generator."""
    written = layers.Dense(3, kernel_initializer=initializer).get_config()["kernel_initializer"]
    for value in [written, initializer] if isinstance(initializer, str) else [written]:
        wanted = json.dumps(spec_form(value, "initializer"))
        layer = f"Dense: {{units: 200, kernel_initializer: {wanted}}}"
        spec = regspec.loads(f"regspec: 1\ninputs: {{x: {{shape: [300]}}}}\nlayers: [{{{layer}}}]")
        weight = regspec.build(spec, seed=0).dense.weight.detach()
        theirs = np.asarray(keras.initializers.get(initializer)((300, 200)))
        assert weight.mean().item() == pytest.approx(theirs.mean(), abs=3e-3)
        assert weight.std().item() == pytest.approx(theirs.std(), abs=1e-2, rel=2e-2)


@keras.saving.register_keras_serializable("mine")
class OwnInitializer(keras.initializers.Initializer):
    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return keras.ops.ones(shape, dtype)


@pytest.mark.parametrize("initializer", [OwnInitializer(), keras.initializers.Constant(np.ones((4, 3)))])
def test_an_initializer_that_has_no_counterpart(initializer: Any, tmp_path: Path) -> None:
    """Where the weights are in the file, it has done its work; where they are not, it is missed."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, kernel_initializer=initializer)])
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    assert "is not ported, which the numbers in the file make up for" in port.notes[0]
    x = torch.randn(2, 4)
    torch.testing.assert_close(port.build()(x), model(x))
    (tmp_path / "model.json").write_text(model.to_json())
    with pytest.raises(regspec.RegspecError, match=r"the initializer '(OwnInitializer|Constant)'"):
        regspec.port(tmp_path / "model.json")


# -- activation functions ----------------------------------------------------------------------------------------------

FUNCTIONS = [
    *("celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish"),
    *("hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid"),
    *("silu", "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax"),
    *("squareplus", "swish", "tanh", "tanh_shrink"),
]


def test_functions_by_name_and_as_functions(tmp_path: Path) -> None:
    """All that Keras has; `threshold`, which needs arguments, can't be saved."""
    x = keras.Input((5,))
    given = [*FUNCTIONS, *(getattr(keras.activations, each) for each in FUNCTIONS)]
    known = {name for name in dir(keras.activations) if not name.startswith("_")} - {"deserialize", "get", "serialize"}
    assert known - set(FUNCTIONS) == {"threshold"}
    model = keras.Model(x, [layers.Dense(4, activation=each)(x) for each in given])
    reference.fill(model, 1)
    model.save(tmp_path / "model.keras")
    agrees(model, tmp_path / "model.keras", inputs=[torch.randn(3, 5)])


IN_PLACE: list[tuple[Any, Any]] = [
    (layers.LeakyReLU(negative_slope=0.1), {"leaky_relu": {"negative_slope": 0.1}}),
    (layers.LeakyReLU(), {"leaky_relu": {"negative_slope": 0.3}}),
    (layers.ReLU(), "relu"),
    (layers.ReLU(max_value=0.5, negative_slope=0.2, threshold=0.1),
     {"relu": {"max_value": 0.5, "negative_slope": 0.2, "threshold": 0.1}}),
    (layers.ELU(alpha=0.3), {"elu": {"alpha": 0.3}}),
    (layers.Softmax(axis=1), {"softmax": {"axis": 1}}),
    (layers.Activation("tanh"), "tanh"),
    (layers.Activation(layers.Activation(layers.LeakyReLU(0.2))), "leaky_relu"),
]  # fmt: skip


@pytest.mark.parametrize(("activation", "wanted"), IN_PLACE)
def test_layers_in_a_functions_place(activation: Any, wanted: Any, tmp_path: Path) -> None:
    x = keras.Input((6, 5))
    model = keras.Model(x, layers.Conv1D(3, 2, activation=activation)(layers.Dense(4, activation=activation)(x)))
    reference.fill(model, 1)
    model.save(tmp_path / "model.keras")
    assert spec_form(model.layers[1].get_config()["activation"], "activation") == wanted
    agrees(model, tmp_path / "model.keras", inputs=[torch.randn(3, 6, 5)])


def test_leaky_relu_of_keras_2_in_a_functions_place() -> None:
    value = {"class_name": "LeakyReLU", "config": {"name": "l", "trainable": True, "dtype": "float32", "alpha": 0.2}}
    assert spec_form(value, "activation", 2) == "leaky_relu"


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        (layers.PReLU(), "the activation 'PReLU'"),
        (layers.Dense(3), "the activation 'Dense'"),
        (
            layers.LeakyReLU(activity_regularizer="l2"),
            "the activation LeakyReLU with an activity_regularizer of its own",
        ),
    ],
)
def test_layers_that_are_no_function(activation: Any, message: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3, activation=activation, name="d")])
    (tmp_path / "model.json").write_text(model.to_json())
    with pytest.raises(regspec.RegspecError, match=rf"'d' \(Dense\) can't be ported: {message}"):
        regspec.port(tmp_path / "model.json")


# -- classes of the user's that are called as Keras's ------------------------------------------------------------------


class Flatten(layers.Layer):
    def call(self, x: Any) -> Any:
        return x * 2


@keras.saving.register_keras_serializable("mine")
class Dense(layers.Dense):
    def call(self, x: Any) -> Any:
        return super().call(x) * 2


@keras.saving.register_keras_serializable("mine")
class Model(keras.Model):
    pass


@pytest.mark.parametrize(("layer", "said"), [(Flatten(), "Flatten"), (Dense(3), "mine>Dense")])
def test_classes_of_the_users(layer: Any, said: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), layer])
    (tmp_path / "model.json").write_text(model.to_json())
    with pytest.raises(
        regspec.RegspecError, match=rf"no kind ports the class \w+ \({said}\), which is none of Keras's"
    ):
        regspec.port(tmp_path / "model.json")


def test_a_registered_kind_ports_a_class_of_the_users(tmp_path: Path) -> None:
    config = {"class_name": "Doubling", "registered_name": "mine>Doubling", "module": None, "config": {"name": "d"}}
    first = {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, 3]}}
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"class_name": "Sequential", "config": {"name": "m", "layers": [first, config]}}))
    with pytest.raises(regspec.RegspecError, match=r"regspec.register_layer\(Class, name='Doubling'\)"):
        regspec.port(path)
    regspec.register_layer(Doubling)
    try:
        assert regspec.port(path).build()(torch.ones(2, 3)).tolist() == [[2.0] * 3] * 2
    finally:
        KINDS.pop("Doubling", None)


class Doubling(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def test_a_model_of_a_class_of_the_users(tmp_path: Path) -> None:
    """Its graph is in the file; what its class does besides is not."""
    x = keras.Input((3,))
    model = Model(x, layers.Dense(2)(x), name="own")
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    assert any("'own' is of the class Model, which is none of Keras's own" in note for note in port.notes)
    torch.testing.assert_close(port.build()(torch.ones(2, 3)), model(torch.ones(2, 3)))
