"""Names of activation functions, initializers, constraints and regularizers, in every place that takes one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras.src import activations, constraints, initializers, regularizers
from torch import Tensor, nn

import regspec
from regspec.language.activations import ACTIVATIONS
from regspec.language.forms import Family
from regspec.views.reference import SORTS

# -- the names of Keras and of torch -----------------------------------------------------------------------------------

BASES = {"initializer", "Initializer", "constraint", "Constraint", "regularizer", "Regularizer"}
OF_KERAS = {
    "activations": activations.ALL_OBJECTS_DICT,
    "initializers": initializers.ALL_OBJECTS_DICT,
    "constraints": constraints.ALL_OBJECTS_DICT,
    "regularizers": regularizers.ALL_OBJECTS_DICT,
}


@pytest.mark.parametrize("sort", OF_KERAS)
def test_every_name_of_keras_is_taken(sort: str) -> None:
    public = {name for name in dir(getattr(keras, sort)) if name not in ("get", "serialize", "deserialize")}
    names = {*OF_KERAS[sort], *(name for name in public if not name.startswith("_"))} - BASES
    family: Family[Any] = SORTS[sort]
    assert {name for name in names if family.get(name) is None} == set()


# what is no function of a tensor alone, or whose default is another in Keras
HINTED = {"LeakyReLU", "PReLU", "MultiheadAttention", "Softmax2d"}


def test_every_activation_of_torch_is_taken() -> None:
    names = {*nn.modules.activation.__all__}
    assert {name for name in names if ACTIVATIONS.get(name) is None} == HINTED
    functional = {name.lower() for name in names - HINTED} | {"logsigmoid", "leaky_relu", "log_softmax"}
    assert {name for name in functional if not hasattr(nn.functional, name) and name != "tanh"} <= {"logsoftmax"}
    assert {name for name in functional if ACTIVATIONS.get(name) is None} == set()


@pytest.mark.parametrize("name", [name for name in nn.modules.activation.__all__ if name not in HINTED])
def test_a_name_of_torch_is_torchs_module(name: str) -> None:
    """With torch's defaults, along the last axis where it works along one."""
    module = getattr(nn, name)
    own = {"Threshold": (0.3, -2.0)}.get(name, (-1,) if name in ("Softmax", "Softmin", "LogSoftmax") else ())
    said = {"threshold": 0.3, "default_value": -2.0} if name == "Threshold" else {}
    model = net({"Activation": {"activation": {name: said} if said else name}}, 6)
    x = torch.randn(3, 6)
    torch.testing.assert_close(model(x), module(*own).eval()(x))


# -- what each computes, in every place --------------------------------------------------------------------------------

Function = Callable[[Tensor], Tensor]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "threshold": {"threshold": 0.2, "default_value": -3.0},
    "top_k": {"k": 2},
    "leaky_relu": {"negative_slope": 0.3},
    "gelu": {"approximate": "tanh"},
}
OWN: dict[str, Function] = {
    "top_k": lambda x: torch.stack([row * (row >= row.sort().values[-2]) for row in x.flatten(0, -2)]).reshape(x.shape),
    "softmin": lambda x: (-x).softmax(-1),
    "rrelu": lambda x: torch.where(x > 0, x, x * (1 / 8 + 1 / 3) / 2),
    "gelu": lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
}


def expected(name: str) -> Function:
    """The function: written out, Keras's activation, or Keras's operation."""
    if name in OWN:
        return OWN[name]
    function = getattr(keras.activations, name, None) or getattr(keras.ops, name)
    return lambda x: function(x, **ARGUMENTS.get(name, {}))


def said(name: str) -> Any:
    return {name: ARGUMENTS[name]} if name in ARGUMENTS else name


def net(layer: dict[str, Any], *shape: int) -> Any:
    document = {"regspec": 1, "name": "net", "inputs": {"x": {"shape": [*shape]}}, "layers": [layer]}
    return regspec.build(regspec.loads(json.dumps(document)), seed=0).eval()


OF_POSITIVE = ("log", "log1p", "reciprocal", "rsqrt", "sqrt")


def given(name: str, model: Any, *shape: int) -> Tensor:
    """What the model takes, where its function is a number: it and the weights are positive where that must be so."""
    if name not in OF_POSITIVE:
        return torch.randn(shape)
    with torch.no_grad():
        for weight in model.parameters():
            weight.abs_().add_(3)  # sums over 1, whose logarithms are positive too
    return torch.rand(shape) + 0.1


PLACES: dict[str, tuple[Callable[[Any], dict[str, Any]], tuple[int, ...]]] = {
    "Activation": (lambda f: {"Activation": {"activation": f}}, (7, 6)),
    "Dense": (lambda f: {"Dense": {"units": 6, "activation": f}}, (6,)),
    "EinsumDense": (lambda f: {"EinsumDense": {"equation": "ab,bc->ac", "output_shape": 6, "activation": f}}, (6,)),
    "TimeDistributed": (lambda f: {"TimeDistributed": {"layer": {"Dense": {"units": 6, "activation": f}}}}, (7, 6)),
    "Conv1D": (lambda f: {"Conv1D": {"filters": 6, "kernel_size": 1, "activation": f}}, (6, 7)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ACTIVATIONS.members)
def test_values(name: str, place: str) -> None:
    """After the layer's own computation, which is that of the layer without one."""
    layer, shape = PLACES[place]
    torch.manual_seed(0)
    model, plain = net(layer(said(name)), *shape), net(layer("linear"), *shape)
    x = given(name, model, 3, *shape)
    plain.load_state_dict(model.state_dict())
    inner = plain(x)
    inner = inner.movedim(1, -1) if place == "Conv1D" else inner
    wanted = expected(name)(inner)
    output = model(x)
    output = output.movedim(1, -1) if place == "Conv1D" else output
    torch.testing.assert_close(output, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS.members.keys() - {"glu"}))
def test_values_in_a_recurrence(name: str) -> None:
    """An LSTM's step, written out: sigmoid gates on the way in, the function for what is new and for the output."""
    model = net({"LSTM": {"name": "layer", "units": 6, "activation": said(name)}}, 1, 5)
    x = given(name, model, 3, 1, 5)
    gates = x[:, 0] @ model.layer.weight_ih_l0.T + model.layer.bias_ih_l0
    i, _, g, o = gates.chunk(4, 1)
    function = expected(name)
    wanted = o.sigmoid() * function(i.sigmoid() * function(g))
    torch.testing.assert_close(model(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS.members.keys() - {"glu"}))
def test_values_at_gates(name: str) -> None:
    model = net({"LSTM": {"name": "layer", "units": 6, "recurrent_activation": said(name)}}, 1, 5)
    x = given(name, model, 3, 1, 5)
    gates = x[:, 0] @ model.layer.weight_ih_l0.T + model.layer.bias_ih_l0
    i, _, g, o = gates.chunk(4, 1)
    function = expected(name)
    wanted = function(o) * torch.tanh(function(i) * g.tanh())
    torch.testing.assert_close(model(x), wanted, rtol=1e-5, atol=1e-5)


# -- Keras's code of those that Keras has ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATIONS.members)
def test_keras_code(name: str) -> None:
    spec = regspec.loads(
        f"regspec: 1\nname: net\ninputs: {{x: {{shape: [6]}}}}\nlayers:\n"
        f"  - Activation: {{activation: {json.dumps(said(name))}}}\n"
    )
    if name in ("top_k", "softmin", "rrelu"):
        with pytest.raises(regspec.RegspecError, match=f"has the activation {name}, which Keras does not have"):
            regspec.source(spec, target="keras")
        return
    scope: dict[str, Any] = {}
    exec(regspec.source(spec, target="keras"), scope)
    x = np.random.default_rng(0).uniform(0.1, 2, (3, 6)).astype("float32")
    wanted = expected(name)(torch.as_tensor(x)).numpy()
    np.testing.assert_allclose(scope["make_net"]()(x).detach().numpy(), wanted, rtol=1e-5, atol=1e-5)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"Dense": {"units": 3, "activation": {"top_k": 4}}}, "keeps 4 along axis -1, on a size of 3"),
        ({"Dense": {"units": 3, "activation": {"top_k": 0}}}, "must be at least 1"),
        ({"Dense": {"units": 3, "activation": "top_k"}}, "needs 'k'"),
        ({"Dense": {"units": 3, "activation": {"rrelu": {"lower": 0.5}}}}, r"must be at least lower, 0\.5"),
        ({"Dense": {"units": 3, "activation": {"gelu": {"approximate": "erf"}}}}, "approximate"),
        (
            {"RNN": {"cell": {"GRUCell": {"units": 3, "activation": {"top_k": 4}}}}},
            "takes no activation but one that keeps",
        ),
    ],
)
def test_refused(layer: dict[str, Any], message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        net(layer, 4, 5)


def test_a_threshold_is_learned() -> None:
    """The thresholds of a JumpReLU come nearer to a target by the straight-through gradient alone."""
    model = net({"JumpReLU": {"name": "jump", "bandwidth": 0.5, "threshold_initializer": {"constant": 0.2}}}, 5)
    x = torch.rand(999, 5)
    wanted = x * (x > 0.6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        (model(x) - wanted).square().sum(1).mean().backward()
        optimizer.step()
    assert (model.jump.threshold - 0.6).abs().max() < 0.01
