"""Penalties of units: groups of all that vanishes together, by closed forms; and the networks that get smaller by them.

What is expected is written out by hand, by torch's parameters: the rows of a matrix are what makes a unit each.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import regspec
from regspec.text.problems import RegspecError
from tests.commands import command

C = 0.1
COUPLED = {"group_lasso": {"strength": C, "coupled": True}}
UNITS = [{"units": {"group_lasso": C}}]


def lasso(*slices: Tensor) -> Tensor:
    """The sum over units of the root of their size times their norm; of slices with a row for each unit."""
    rows = torch.cat([each.reshape(len(each), -1) for each in slices], 1)
    return C * (rows.shape[1] ** 0.5 * rows.square().sum(1).sqrt()).sum()


def gated(x: Tensor, gates: int) -> Tensor:
    """The rows of a recurrent parameter by units, which lie in the same order in each gate."""
    return torch.stack(x.chunk(gates), 1)


@dataclass(frozen=True)
class Case:
    """A network, by its layers, and what makes its units, by the names of terms."""

    shape: Sequence[int]
    layers: Sequence[Any]
    wanted: Callable[[Any], dict[str, Tensor]]
    more: dict[str, Any] = None  # type: ignore[assignment]


RECURRENT = {"kernel_size": [3, 2], "padding": "same"}
CONV = {"filters": 4, "kernel_size": [3, 2], "padding": "same"}
OUT: list[Any] = ["GlobalAveragePooling2D", {"Dense": {"name": "out", "units": 2}}]
RESIDUAL = {
    "layers": [
        {"Conv2D": {"name": "one", **CONV, "filters": 3}},
        {"BatchNormalization": {"name": "norm"}},
        "ReLU",
        {"Conv2D": {"name": "two", **CONV, "use_bias": False}},
        {"Add": {"inputs": ["two", "input"]}},
    ]
}
CASES = {
    "a residual sum and a normalization": Case(
        [2, 7, 5],
        [
            {"Conv2D": {"name": "a", **CONV}},
            {"Conv2D": {"name": "b", **CONV, "filters": 5}},
            {"Conv2D": {"name": "c", **CONV}},
            {"Add": {"inputs": ["a", "c"]}},
            {"BatchNormalization": {"name": "norm"}},
            *OUT,
        ],
        lambda m: {
            "a.units": lasso(m.a.weight, m.a.bias, m.c.weight, m.c.bias, m.norm.weight, m.norm.bias),
            "b.units": lasso(m.b.weight, m.b.bias),
        },
    ),
    "a concatenation": Case(
        [2, 7, 5],
        [
            {"Conv2D": {"name": "a", **CONV}},
            {"Conv2D": {"name": "b", **CONV, "filters": 5, "use_bias": False}},
            {"Concatenate": {"axis": 1, "inputs": ["a", "b"]}},
            {"BatchNormalization": {"name": "norm", "axis": 1}},
            {"PReLU": {"name": "act", "shared_axes": [2, 3]}},
            *OUT,
        ],
        lambda m: {
            "a.units": lasso(m.a.weight, m.a.bias, m.norm.weight[:4], m.norm.bias[:4], m.act.weight[:4]),
            "b.units": lasso(m.b.weight, m.norm.weight[4:], m.norm.bias[4:], m.act.weight[4:]),
        },
    ),
    "units that lie in pieces": Case(
        [6, 4],
        [
            {"LSTM": {"name": "lstm", "units": 5}},
            {"GlobalAveragePooling1D": {"name": "mean", "inputs": "x"}},
            {"Dense": {"name": "a", "units": 2}},
            {"Dense": {"name": "b", "units": 3, "inputs": "mean"}},
            {"Concatenate": {"name": "both", "inputs": ["a", "b"]}},
            {"Add": {"name": "sum", "inputs": ["lstm", "both"]}},
            {"Concatenate": {"inputs": ["a", "sum", "a"]}},
            {"BatchNormalization": {"name": "norm"}},
            {"Dense": {"name": "out", "units": 2}},
        ],
        lambda m: {
            "lstm.units": lasso(
                *(gated(x, 4)[:2] for x in (m.lstm.weight_ih_l0, m.lstm.weight_hh_l0, m.lstm.bias_ih_l0)),
                *(m.a.weight, m.a.bias, *(x[at : at + 2] for x in both(m.norm) for at in (0, 2, 7))),
            ),
            "lstm.units_1": lasso(
                *(gated(x, 4)[2:] for x in (m.lstm.weight_ih_l0, m.lstm.weight_hh_l0, m.lstm.bias_ih_l0)),
                *(m.b.weight, m.b.bias, *(x[4:7] for x in both(m.norm))),
            ),
        },
    ),
    "one number of each beside several": Case(
        [2, 7, 5],
        [
            {"Conv2D": {"name": "a", "filters": 3, "kernel_size": [3, 2]}},
            {"Flatten": {"name": "flat"}},
            {"GlobalAveragePooling2D": {"name": "mean", "inputs": "a"}},
            {"Concatenate": {"inputs": ["mean", "flat"]}},
            {"BatchNormalization": {"name": "norm"}},
            {"Dense": {"name": "out", "units": 2}},
        ],
        lambda m: {
            "a.units": lasso(
                *both(m.a), *both(m.norm, slice(3)), *(x.reshape(3, 20) for x in both(m.norm, slice(3, 63)))
            ),
        },
    ),
    "transposed, depthwise and separable ones": Case(
        [2, 7, 5],
        [
            {"Conv2DTranspose": {"name": "up", "filters": 3, "kernel_size": [3, 2]}},
            {"DepthwiseConv2D": {"name": "deep", "kernel_size": [3, 2], "depth_multiplier": 2}},
            {"SeparableConv2D": {"name": "sep", "filters": 5, "kernel_size": [2, 3]}},
            *OUT,
        ],
        lambda m: {
            "up.units": lasso(
                *(m.up.weight.transpose(0, 1), m.up.bias),
                *(m.deep.weight.reshape(3, -1), m.deep.bias.reshape(3, 2), m.sep_depthwise.weight.reshape(3, -1)),
            ),
            "sep.units": lasso(m.sep_pointwise.weight, m.sep_pointwise.bias),
        },
    ),
    "recurrent layers": Case(
        [6, 3],
        [
            {"LSTM": {"name": "lstm", "units": 4, "return_sequences": True}},
            {"GRU": {"name": "gru", "units": 5, "return_sequences": True}},
            {"SimpleRNN": {"name": "rnn", "units": 3}},
            {"Dense": {"name": "out", "units": 2}},
        ],
        lambda m: {
            "lstm.units": lasso(*(gated(x, 4) for x in (m.lstm.weight_ih_l0, m.lstm.weight_hh_l0, m.lstm.bias_ih_l0))),
            "gru.units": lasso(
                *(gated(x, 3) for x in (m.gru.weight_ih_l0, m.gru.weight_hh_l0, m.gru.bias_ih_l0, m.gru.bias_hh_l0))
            ),
            "rnn.units": lasso(m.rnn.weight_ih_l0, m.rnn.weight_hh_l0, m.rnn.bias_ih_l0),
        },
    ),
    "the heads of an attention": Case(
        [6, 5],
        [
            {"Dense": {"name": "wide", "units": 4}},
            {"MultiHeadAttention": {"name": "att", "num_heads": 3, "key_dim": 2, "inputs": ["wide", "wide"]}},
            {"Flatten": {"name": "flat"}},
            {"Dense": {"name": "out", "units": 2}},
        ],
        lambda m: {
            "wide.units": lasso(m.wide.weight, m.wide.bias),
            "att.query.units": lasso(
                *(x.reshape(3, -1) for each in (m.att.query, m.att.key, m.att.value) for x in both(each))
            ),
            "att.attention_output.units": lasso(m.att.output.weight, m.att.output.bias),
        },
    ),
    "heads of queries that share one of keys": Case(
        [6, 5],
        [
            {"Dense": {"name": "wide", "units": 4}},
            {
                "GroupQueryAttention": {
                    "name": "att",
                    "head_dim": 2,
                    "num_query_heads": 6,
                    "num_key_value_heads": 3,
                    "use_gate": True,
                    "inputs": ["wide", "wide"],
                }
            },
            {"Flatten": {"name": "flat"}},
            {"Dense": {"name": "out", "units": 2}},
        ],
        lambda m: {
            "wide.units": lasso(*both(m.wide)),
            "att.attention_output.units": lasso(*both(m.att.output)),
            "att.query.units": lasso(
                *(x.reshape(3, -1) for each in (m.att.query, m.att.gate, m.att.key, m.att.value) for x in both(each))
            ),
        },
    ),
    "convolutional recurrent layers": Case(
        [4, 2, 7, 5],
        [
            {"ConvLSTM2D": {"name": "encoder", "filters": 3, **RECURRENT, "return_state": True}},
            {"ConvLSTM2D": {"name": "apart", "filters": 4, **RECURRENT, "return_sequences": True, "inputs": "x"}},
            {
                "ConvLSTM2D": {
                    "name": "decoder",
                    "filters": 3,
                    **RECURRENT,
                    "inputs": ["apart", "encoder.1", "encoder.2"],
                }
            },
            *OUT,
        ],
        lambda m: {
            "encoder.units": lasso(
                *(gated(x, 4) for each in (m.encoder, m.decoder) for x in (each.weight_ih, each.weight_hh, each.bias))
            ),
            "apart.units": lasso(*(gated(x, 4) for x in (m.apart.weight_ih, m.apart.weight_hh, m.apart.bias))),
        },
    ),
    "locally connected layers": Case(
        [2, 7],
        [
            {"Conv1D": {"name": "a", "filters": 4, "kernel_size": 2}},
            {"LocallyConnected1D": {"name": "local", "filters": 3, "kernel_size": 3}},
            {"Flatten": {"name": "flat"}},
            {"Dense": {"name": "out", "units": 2}},
        ],
        lambda m: {"a.units": lasso(*both(m.a)), "local.units": lasso(m.local.weight.movedim(2, 0), m.local.bias)},
    ),
    "locally connected layers with channels last": Case(
        [7, 5, 2],
        [
            {"Conv2D": {"name": "a", "filters": 4, "kernel_size": 2}},
            {"LocallyConnected2D": {"name": "local", "filters": 3, "kernel_size": [3, 2]}},
            {"Flatten": {"name": "flat"}},
            {"Dense": {"name": "out", "units": 2}},
        ],
        lambda m: {
            "a.units": lasso(*both(m.a)),
            "local.units": lasso(m.local.weight.movedim(2, 0), m.local.bias),
        },
        {"data_format": "channels_last"},
    ),
    "a flattened image": Case(
        [2, 7, 5],
        [
            {"Conv2D": {"name": "a", "filters": 3, "kernel_size": [3, 2]}},
            "Flatten",
            {"BatchNormalization": {"name": "norm"}},
            {"Dense": {"name": "out", "units": 2}},
        ],
        lambda m: {
            "a.units": lasso(m.a.weight, m.a.bias, m.norm.weight.reshape(3, 20), m.norm.bias.reshape(3, 20)),
        },
    ),
    "a flattened image with channels last": Case(
        [7, 5, 2],
        [
            {"Conv2D": {"name": "a", "filters": 3, "kernel_size": [3, 2]}},
            "Flatten",
            {"BatchNormalization": {"name": "norm"}},
            {"Dense": {"name": "out", "units": 2}},
        ],
        lambda m: {
            "a.units": lasso(m.a.weight, m.a.bias, m.norm.weight.reshape(20, 3).T, m.norm.bias.reshape(20, 3).T),
        },
        {"data_format": "channels_last"},
    ),
    "a layer that is called twice": Case(
        [5],
        [
            {"Dense": {"name": "tower", "units": 3}},
            {"call": {"layer": "tower", "inputs": "x", "name": "again"}},
            {"Concatenate": {"inputs": ["tower", "again"]}},
            {"BatchNormalization": {"name": "norm"}},
            {"Dense": {"name": "out", "units": 2}},
        ],
        lambda m: {
            "tower.units": lasso(
                m.tower.weight, m.tower.bias, m.norm.weight.reshape(2, 3).T, m.norm.bias.reshape(2, 3).T
            )
        },
    ),
    "copies of a block": Case(
        [2, 7, 5],
        [
            {"Conv2D": {"name": "stem", **CONV}},
            {"residual": {"name": "stage", "repeat": 2}},
            *OUT,
        ],
        lambda m: {
            "stem.units": lasso(m.stem.weight, m.stem.bias, m.stage[0].two.weight, m.stage[1].two.weight),
            "stage.0.one.units": lasso(*both(m.stage[0].one), *both(m.stage[0].norm)),
            "stage.1.one.units": lasso(*both(m.stage[1].one), *both(m.stage[1].norm)),
        },
        {"blocks": {"residual": RESIDUAL}},
    ),
}


CASES["a block that is called twice"] = Case(
    [2, 7, 5],
    [
        {"Conv2D": {"name": "stem", **CONV}},
        {"residual": {"name": "stage"}},
        {"call": {"layer": "stage", "name": "again"}},
        *OUT,
    ],
    lambda m: {
        "stem.units": lasso(m.stem.weight, m.stem.bias, m.stage.two.weight),
        "stage.one.units": lasso(*both(m.stage.one), *both(m.stage.norm)),
    },
    {"blocks": {"residual": RESIDUAL}},
)


def both(module: Any, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """A module's weight and bias, or a part of each."""
    return module.weight[part], module.bias[part]


def spec_of(case: Case, **more: Any) -> dict[str, Any]:
    inputs = {"x": {"shape": [*case.shape]}}
    return {"name": "net", "inputs": inputs, "layers": case.layers, "regularizers": UNITS, **(case.more or {}), **more}


def filled(model: Any) -> Any:
    """A model with random numbers in all that is trained."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:  # an LSTM has a bias that Keras does not have, and is zero
                parameter.copy_(torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", CASES)
def test_what_vanishes_together_is_one_group(name: str) -> None:
    """Values and gradients, compiled as it is and standing alone."""
    case = CASES[name]
    model = filled(regspec.build(spec_of(case), seed=0))
    wanted = case.wanted(model)
    terms = model.regularization_terms()
    assert terms.keys() == wanted.keys()
    for term, value in wanted.items():
        torch.testing.assert_close(terms[term], value)
    loss, parameters = sum(wanted.values()), [each for each in model.parameters() if each.requires_grad]
    own = torch.autograd.grad(model.regularization_loss(), parameters, allow_unused=True)
    for one, other in zip(own, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(standing_alone(case, model).regularization_loss(), loss)


def standing_alone(case: Case, model: Any) -> Any:
    """A model by the standalone source, with another's parameters."""
    space: dict[str, Any] = {}
    exec(compile(regspec.source(spec_of(case), standalone=True), "alone.py", "exec"), space)
    alone = space["Net"]()
    alone.load_state_dict(model.state_dict())
    return alone


@pytest.mark.parametrize("name", CASES)
def test_what_a_group_of_zeros_is_goes(name: str) -> None:
    """One unit of each term is zero in its slices, and so `shrink` takes that one out, and leaves the outputs."""
    model = filled(regspec.build(spec_of(CASES[name]), seed=0)).eval()
    with torch.no_grad():
        for term in model._regspec.terms.values():
            for each in term.slices:
                each.by_groups(model.get_parameter(each.parameter))[0, 1] = 0
    small = regspec.shrink(model).build().eval()
    for term, own in model._regspec.terms.items():
        assert len(small._regspec.terms[term].weight(small)) == len(own.weight(model)) - 1
    x = torch.randn(3, *CASES[name].shape)
    torch.testing.assert_close(small(x), model(x), rtol=1e-5, atol=1e-5)


SUM = CASES["a residual sum and a normalization"]


def test_frozen_parameters_are_no_part_of_a_group() -> None:
    """Neither of its norm nor of its size; where frozen ones count, they have no gradient."""
    for counted in (False, True):
        model = filled(regspec.build(spec_of(SUM, frozen_penalties="counted" if counted else "omitted"), seed=0))
        wanted = SUM.wanted(model)["a.units"]
        model.c.requires_grad_(False)
        if not counted:
            wanted = lasso(model.a.weight, model.a.bias, model.norm.weight, model.norm.bias)
        torch.testing.assert_close(model.regularization_terms()["a.units"], wanted)
        model.regularization_loss().backward()
        assert model.c.weight.grad is None
    model = regspec.build(spec_of(SUM), seed=0).requires_grad_(False)
    assert model.regularization_terms() == {}
    assert model.regularization_loss() == 0


EMBEDDED = [
    {"Embedding": {"name": "emb", "input_dim": 5, "output_dim": 4}},
    {"Dense": {"name": "wide", "units": 5}},
    {"GlobalAveragePooling1D": {"name": "mean"}},
    {"Dense": {"name": "out", "units": 2}},
]
NORMED = [
    {"Dense": {"name": "a", "units": 3}},
    {"Dense": {"name": "b", "units": 2, "inputs": "x"}},
    {"Concatenate": {"name": "both", "inputs": ["a", "b"]}},
    {"BatchNormalization": {"name": "norm"}},
    {"Dense": {"name": "c", "units": 5}},
    {"BatchNormalization": {"name": "after"}},
    {"Dense": {"name": "d", "units": 1}},
    {"Dense": {"name": "e", "units": 4, "inputs": "after"}},
    {"Concatenate": {"name": "all", "inputs": ["d", "e"]}},
    {"BatchNormalization": {"name": "last"}},
    {"Dense": {"name": "out", "units": 2}},
]


def tied(layers: Sequence[Any], shape: Sequence[int], ties: dict[str, str], **more: Any) -> list[Any]:
    """A model by regspec and one that stands alone, with parameters of the second name in place of the first."""
    spec = {"name": "net", "inputs": {"x": {"shape": [*shape], **more}}, "layers": layers, "regularizers": UNITS}
    space: dict[str, Any] = {}
    exec(compile(regspec.source(spec, standalone=True), "alone.py", "exec"), space)
    model, alone = filled(regspec.build(spec, seed=0)), space["Net"]()
    alone.load_state_dict(model.state_dict())
    for each in (model, alone):
        for name, other in ties.items():
            owner, _, own = name.rpartition(".")
            setattr(each.get_submodule(owner), own, each.get_parameter(other))
    return [model, alone]


def test_what_is_tied_transposed_counts_once() -> None:
    """The rows of one are the columns of another: a number is penalized with the unit that has it first."""
    for model in tied(EMBEDDED, [6], {"wide.weight": "emb.weight"}, dtype="int64"):
        terms = model.regularization_terms()
        torch.testing.assert_close(terms["emb.units"], lasso(model.emb.weight.T))
        torch.testing.assert_close(terms["wide.units"], lasso(model.wide.bias))
        with torch.no_grad():
            torch.testing.assert_close(model.regularization_loss(), sum(terms.values()))


def test_ranges_that_are_tied_count_once() -> None:
    """What a concatenation makes lies in parts of the norm, which is all of another's, and all of its parts."""
    for model in tied(NORMED, [3], {"after.weight": "norm.weight"}):
        terms = model.regularization_terms()
        torch.testing.assert_close(terms["a.units"], lasso(*both(model.a), *both(model.norm, slice(3))))
        torch.testing.assert_close(terms["b.units"], lasso(*both(model.b), *both(model.norm, slice(3, 5))))
        torch.testing.assert_close(terms["c.units"], lasso(*both(model.c), model.after.bias))


def test_units_that_are_tied_in_part_are_refused() -> None:
    """Of the first norm only three numbers are of units, for what is beside them is an input and stays."""
    layers = [
        {"Dense": {"name": "a", "units": 3}},
        {"Concatenate": {"name": "both", "inputs": ["a", "x"]}},
        *NORMED[3:6],
        NORMED[-1],
    ]
    for model in tied(layers, [2], {"after.weight": "norm.weight"}):
        with pytest.raises(RuntimeError, match=r"'after\.weight' is tied to a parameter that has some .*: untie them"):
            model.regularization_loss()


def test_parameters_that_are_tied_count_once() -> None:
    model = filled(regspec.build(spec_of(SUM), seed=0))
    for each in (model, standing_alone(SUM, model)):
        each.c.weight, each.norm.bias = each.a.weight, each.a.bias
        wanted = lasso(each.a.weight, each.a.bias, each.c.bias, each.norm.weight)
        torch.testing.assert_close(each.regularization_terms()["a.units"], wanted)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RegspecError, match=r"'a\.units' shares a parameter with other units"):
        regspec.bind(model, optimizer, group_lasso="proximal")


def test_what_torch_does_with_models() -> None:
    """Copies, half precision, autocast, second derivatives, other tensors in place of parameters, compiled code."""
    model = filled(regspec.build(spec_of(SUM), seed=0))
    wanted = sum(SUM.wanted(model).values())
    parameters = [*model.parameters()]
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(copied.regularization_loss(), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.regularization_loss(), wanted)
    own, by_hand = (
        torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
        for loss in (model.regularization_loss(), wanted)
    )
    seconds = [
        torch.autograd.grad(sum((each**3).sum() for each in first), parameters, materialize_grads=True)
        for first in (own, by_hand)
    ]
    for one, other in zip(*seconds, strict=True):
        torch.testing.assert_close(one, other)
    doubled = {name: 2 * each.detach() for name, each in model.named_parameters()}
    torch.testing.assert_close(regspec_loss(model, doubled), 2 * wanted)
    compiled = torch.compile(lambda: model.regularization_loss(), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(), wanted)
    half = copy.deepcopy(model).half()
    with torch.no_grad():
        half.a.weight.mul_(1000)  # whose squares overflow
    torch.testing.assert_close(half.regularization_loss(), sum(SUM.wanted(half.float()).values()))


def regspec_loss(model: Any, tensors: dict[str, Tensor]) -> Tensor:
    """The loss with other tensors in place of the parameters."""
    with torch.nn.utils.stateless._reparametrize_module(model, tensors):
        return model.regularization_loss()


def test_a_unit_of_zeros_has_a_gradient_of_zeros() -> None:
    model = filled(regspec.build(spec_of(SUM), seed=0))
    with torch.no_grad():
        for each in (model.b.weight, model.b.bias):
            each[1] = 0
    model.regularization_loss().backward()
    assert model.b.weight.grad[1].abs().max() == 0
    assert all(each.grad.isfinite().all() for each in model.parameters() if each.grad is not None)


def test_strengths_and_schedules() -> None:
    schedule = {"linear": {"start": 0.0, "end": 1.0, "over": 10}}
    rules = [{"units": {"group_lasso": C, "schedule": schedule}, "layers": "b"}]
    model = filled(regspec.build(spec_of(SUM, regularizers=rules), seed=0))
    assert regspec.strengths(model) == {"b.units.group_lasso": 0.0}
    model.set_schedules(5)
    torch.testing.assert_close(model.regularization_loss(), SUM.wanted(model)["b.units"] / 2)
    model.set_strength("b.units.group_lasso", 3 * C)
    torch.testing.assert_close(model.regularization_terms()["b.units"], 1.5 * SUM.wanted(model)["b.units"])
    with pytest.raises(RegspecError, match=r"b\.units follows a schedule"):
        regspec.source(spec_of(SUM, regularizers=rules), standalone=True)


# -- routes ------------------------------------------------------------------------------------------------------------


def stepped(route: Any, make: Callable[..., Any], case: Case = SUM) -> tuple[Any, Any, dict[str, Tensor]]:
    """A model after a step of an optimizer on a loss of its own, the optimizer, and the parameters before it."""
    model = filled(regspec.build(spec_of(case), seed=0))
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    optimizer = make(model.parameters())
    regspec.bind(model, optimizer, group_lasso=route)
    x = torch.randn(3, *case.shape, generator=torch.Generator().manual_seed(1))
    (model(x).square().sum() + model.regularization_loss()).backward()
    optimizer.step()
    return model, optimizer, before


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=1e-3)


@pytest.mark.parametrize("name", ["a residual sum and a normalization", "units that lie in pieces"])
def test_the_gradient_route_is_the_loss(name: str) -> None:
    one, other = (stepped(route, sgd, CASES[name])[0] for route in ("loss", "gradient"))
    for (name, x), y in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(x, y, msg=name)


@pytest.mark.parametrize("counts", ["omitted", "counted"])
def test_what_is_frozen_counts_alike_on_all_routes(counts: str) -> None:
    """A proximal step ends where ``(w - x) / t + strength * sqrt(size) * w / norm = 0`` for what is trained."""
    after = {}
    for route in ("loss", "gradient", "proximal"):
        model = filled(regspec.build(spec_of(SUM, frozen_penalties=counts), seed=0))
        model.c.requires_grad_(False)
        before = copy.deepcopy(model)
        optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.05)
        regspec.bind(model, optimizer, group_lasso=route)
        (model.regularization_loss() + 0 * model.eval()(torch.ones(2, *SUM.shape)).sum()).backward()
        optimizer.step()
        after[route] = model
    torch.testing.assert_close(after["gradient"].state_dict(), after["loss"].state_dict())
    frozen = torch.cat([each.reshape(4, -1) for each in both(model.c)], 1)
    assert torch.equal(frozen, torch.cat([each.reshape(4, -1) for each in both(before.c)], 1))
    w, x = (torch.cat([x.reshape(4, -1) for x in (*both(each.a), *both(each.norm))], 1) for each in (model, before))
    own = torch.cat([w, frozen], 1) if counts == "counted" else w
    slope = C * own.shape[1] ** 0.5 / own.norm(dim=1, keepdim=True)
    torch.testing.assert_close(w + 0.05 * slope * w, x)


def test_what_is_tied_after_it_was_bound_is_refused() -> None:
    model = filled(regspec.build(spec_of(SUM), seed=0))
    optimizer = sgd(model.parameters())
    regspec.bind(model, optimizer, group_lasso="gradient")
    model.c.weight = model.a.weight
    with pytest.raises(RuntimeError, match=r"'c\.weight' has become tied .* bind the model again\. Remove the binding"):
        optimizer.step()


def test_a_proximal_step_of_sgd() -> None:
    """A soft threshold of each unit's norm, over all of its slices."""
    model, _, before = stepped("proximal", lambda own: torch.optim.SGD(own, lr=0.05))
    for names in (("a.weight", "a.bias", "c.weight", "c.bias", "norm.weight", "norm.bias"), ("b.weight", "b.bias")):
        own = [model.get_parameter(name) for name in names]
        moved = torch.cat(
            [
                (before[n] - 0.05 * x.grad).flatten(1 if x.ndim > 1 else 0).reshape(len(x), -1)
                for n, x in zip(names, own, strict=True)
            ],
            1,
        )
        norm = moved.norm(dim=1, keepdim=True)
        wanted = moved * (1 - 0.05 * C * moved.shape[1] ** 0.5 / norm).clamp_min(0)
        torch.testing.assert_close(torch.cat([x.reshape(len(x), -1) for x in own], 1), wanted)


def test_a_proximal_step_in_the_metric_of_adam() -> None:
    """It is where ``(w - x) / t + strength * sqrt(size) * w / norm(w) = 0``, by each number's own step size t."""
    model, _, before = stepped("proximal", lambda own: torch.optim.Adam(own, lr=0.02))
    names = ("a.weight", "a.bias", "c.weight", "c.bias", "norm.weight", "norm.bias")
    rows = []
    for name in names:
        x = model.get_parameter(name)
        root = x.grad.abs()  # of the square, debiased, after the first step
        size = 0.02 / (root + 1e-8)
        rows.append([each.reshape(len(x), -1).double() for each in (x.detach(), before[name] - size * x.grad, size)])
    after, moved, sizes = (torch.cat([row[index] for row in rows], 1) for index in range(3))
    norm = after.norm(dim=1, keepdim=True)
    slope = C * after.shape[1] ** 0.5
    torch.testing.assert_close(after * (norm + sizes * slope), moved * norm, rtol=1e-4, atol=1e-5)
    assert (norm > 0).all()


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_a_parameter_that_did_not_move_stays(make: Any) -> None:
    model = filled(regspec.build(spec_of(SUM), seed=0))
    optimizer = make(model.parameters(), lr=0.1)
    regspec.bind(model, optimizer, group_lasso="proximal")
    before = copy.deepcopy(model)
    model.a.weight.square().sum().backward()
    optimizer.step()
    assert torch.equal(model.c.weight, before.c.weight)
    assert not torch.equal(model.a.weight, before.a.weight)


def test_constraints_hold_in_a_proximal_step() -> None:
    """What is negative goes first, and is no part of the norm."""
    layers = [
        {"Dense": {"name": "a", "units": 4, "kernel_constraint": "non_neg"}},
        {"Dense": {"name": "out", "units": 2}},
    ]
    case = Case([3], layers, lambda m: {})
    model, _, before = stepped("proximal", sgd, case)
    moved = before["a.weight"] - 1e-3 * model.a.weight.grad
    rows = torch.cat([moved.clamp_min(0), (before["a.bias"] - 1e-3 * model.a.bias.grad)[:, None]], 1)
    wanted = rows * (1 - 1e-3 * C * 2 / rows.norm(dim=1, keepdim=True)).clamp_min(0)
    torch.testing.assert_close(model.a.weight, wanted[:, :3])


def test_decay_is_refused() -> None:
    model = regspec.build(spec_of(SUM), seed=0)
    with pytest.raises(RegspecError, match=r"'a\.units' can't be on the decay route"):
        regspec.bind(model, sgd(model.parameters()), terms={"a.units": "decay"})


def test_a_network_trained_so_gets_smaller(tmp_path: Path) -> None:
    """Whole units are zero in all of their weights, and go; the outputs stay."""
    layers = [
        {"Conv2D": {"name": "stem", "filters": 6, "kernel_size": 3, "padding": "same"}},
        {"residual": {"name": "stage", "repeat": 2}},
        "GlobalAveragePooling2D",
        {"Dense": {"name": "out", "units": 2}},
    ]
    block = [
        {"Conv2D": {"name": "one", "filters": 5, "kernel_size": 3, "padding": "same", "activation": "relu"}},
        {"Conv2D": {"name": "two", "filters": 6, "kernel_size": 3, "padding": "same"}},
        {"BatchNormalization": {"name": "norm"}},
        {"Add": {"inputs": ["norm", "input"]}},
    ]
    spec = {"inputs": {"x": {"shape": [2, 6, 5]}}, "layers": layers, "blocks": {"residual": {"layers": block}}}
    spec["regularizers"] = [{"units": {"group_lasso": 0.02}}]
    model = regspec.build(spec, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    regspec.bind(model, optimizer, group_lasso="proximal")
    torch.manual_seed(0)
    x = torch.randn(64, 2, 6, 5)
    y = torch.stack([x[:, 0].mean((1, 2)), x[:, 1].clamp_min(0).mean((1, 2))], 1)
    for _ in range(60):
        optimizer.zero_grad()
        (10 * (model(x) - y).square().mean() + model.regularization_loss()).backward()
        optimizer.step()
    zero = (model.stem.weight.flatten(1) == 0).all(1)
    assert 0 < zero.sum() < 6
    for block in model.stage:
        for each in (*both(block.two), *both(block.norm)):
            assert not each[zero].any()
    shrunk = regspec.shrink(model)
    small = shrunk.build()
    assert small.stem.out_channels <= 6 - zero.sum()
    torch.testing.assert_close(small.eval()(x), model.eval()(x), rtol=1e-6, atol=1e-6)
    assert small.regularization_terms().keys() <= model.regularization_terms().keys()


# -- faults, and what is shown -----------------------------------------------------------------------------------------

A: dict[str, Any] = {"name": "a", "units": 4}
PLAIN = [{"Dense": A}, {"Dense": {"name": "out", "units": 2}}]
OTHER = {"group_lasso": {"strength": 0.2, "coupled": True}}
JOINED = [{"Dense": {**A, "name": "b", "inputs": "x", "kernel_regularizer": OTHER}}, {"Add": {"inputs": ["a", "b"]}}]
# Layers, rules, and what is said.
FAULTS: dict[str, tuple[list[Any], list[Any], str]] = {
    "an output": (
        [{"Dense": {**A, "kernel_regularizer": COUPLED}}],
        [],
        "a has a coupled group_lasso on its kernel, but its units stay: an output of the model",
    ),
    "what is normalized": (
        [{"Dense": {**A, "kernel_regularizer": COUPLED}}, {"LayerNormalization": {"name": "ln"}}, PLAIN[1]],
        [],
        "its units stay: ln: they are normalized together",
    ),
    "inputs": (
        [{"Dense": {**A, "kernel_regularizer": {"group_lasso": {**COUPLED["group_lasso"], "axis": "input"}}}}],
        [],
        "is coupled over the input axis",
    ),
    "an activity": (
        [{"Dense": {**A, "activity_regularizer": COUPLED}}, PLAIN[1]],
        [],
        "a has a coupled group_lasso on its output, but what is coupled are weights",
    ),
    "two strengths": (
        [{"Dense": {**A, "kernel_regularizer": COUPLED}}, *JOINED, PLAIN[1]],
        [],
        "b makes the same units as a, whose coupled penalty is another: group_lasso 0.2",
    ),
    "two strengths at one layer": (
        [{"Dense": {**A, "kernel_regularizer": COUPLED, "bias_regularizer": OTHER}}, PLAIN[1]],
        [],
        "a has two coupled penalties of the same units: group_lasso 0.2 coupled=True, and group_lasso 0.1",
    ),
    "a rule without units": (PLAIN[1:], UNITS, "those of out stay: an output of the model"),
    "a rule of another penalty": (PLAIN, [{"units": {"l1": C}}], "has l1, where units take a coupled group_lasso"),
    "a rule by inputs": (
        PLAIN,
        [{"units": {"group_lasso": {"strength": C, "axis": "input"}}}],
        "has a group_lasso over the input axis, where units take a coupled group_lasso by outputs",
    ),
    "a rule that is not coupled": (
        PLAIN,
        [{"units": {"group_lasso": {"strength": C, "coupled": False}}}],
        "has a group_lasso that is not coupled, where units",
    ),
    "a rule with a reduction": (
        PLAIN,
        [{"units": {"group_lasso": C, "reduction": "sum"}}],
        "a reduction over the batch",
    ),
    "a rule for no layer": (PLAIN, [{"units": {"group_lasso": C}, "layers": "aa"}], "did you mean 'a'?"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str) -> None:
    layers, rules, said = FAULTS[name]
    with pytest.raises(RegspecError) as caught:
        regspec.load({"inputs": {"x": {"shape": [3]}}, "layers": layers, "regularizers": rules})
    assert said in str(caught.value)


def test_what_a_layer_says_of_units_wins_over_rules() -> None:
    """And units that stay are passed over by a rule."""
    layers = [{"Dense": {**A, "kernel_regularizer": OTHER}}, {"Dense": {**A, "name": "c"}}, PLAIN[1]]
    spec = {"inputs": {"x": {"shape": [3]}}, "layers": layers}
    rules = [{"kinds": ["Dense"], "units": {"group_lasso": C}}]
    found = regspec.strengths(regspec.build({**spec, "regularizers": rules}))
    assert found == {"a.units.group_lasso": 0.2, "c.units.group_lasso": C}
    rules = [*rules, {"layers": "c", "units": {"group_lasso": 0.3}}]
    assert regspec.strengths(regspec.build({**spec, "regularizers": rules}))["c.units.group_lasso"] == 0.3
    rules = [{**rules[1], "units": {"group_lasso": C}}, rules[1]]  # the first selects a layer, and another wins
    assert regspec.strengths(regspec.build({**spec, "regularizers": rules}))["c.units.group_lasso"] == 0.3
    rules = [{"units": {"group_lasso": C}, "except": "c"}]
    assert regspec.strengths(regspec.build({**spec, "regularizers": rules})) == {"a.units.group_lasso": 0.2}


NO_GRAPH = "a module has no graph that says which weights make a unit: take the groups of each weight"
AS_A_RULE = "'regularizers: [{units: {group_lasso: 1e-3}}]'"
# Where units are no field, or are given otherwise: a part of a spec, or rules of a module, and the hint or the fault.
MISPLACED: dict[str, tuple[dict[str, Any] | list[Any], str]] = {
    "rules of a module": ([{"units": {"group_lasso": C}}], NO_GRAPH),
    "rules of a module, by types": ([{"types": ["Linear"], "units": {"group_lasso": C}}], NO_GRAPH),
    "rules of a module, misspelt": ([{"modules": "a", "unit": {"group_lasso": C}}], NO_GRAPH),
    "rules of a module, as a slot": ([{"types": ["Linear"], "units_regularizer": {"group_lasso": C}}], NO_GRAPH),
    "a kernel of a module": (
        [{"types": ["Linear"], "kernel_regularizer": COUPLED}],
        "a module does not say which weights vanish together",
    ),
    "a layer, in place of a size": ({"layers": [{"Dense": {"units": {"group_lasso": C}}}]}, AS_A_RULE),
    "a layer, as a slot": ({"layers": [{"Dense": {**A, "units_regularizer": {"group_lasso": C}}}]}, AS_A_RULE),
    "a layer that counts filters": (
        {"layers": [{"Conv1D": {"kernel_size": 1, "units": 3}}]},
        "did you mean 'filters'?",
    ),
    "a section": ({"layers": PLAIN, "units": {"group_lasso": C}}, AS_A_RULE),
    "a rule, misspelt": ({"layers": PLAIN, "regularizers": [{"unit": {"group_lasso": C}}]}, "did you mean 'units'?"),
    "a penalty, misspelt": (
        {"layers": PLAIN, "regularizers": [{"units": {"group_laso": C}}]},
        "did you mean 'group_lasso'?",
    ),
    "a negative strength": (
        {"layers": PLAIN, "regularizers": [{"units": {"group_lasso": -1}}]},
        "'strength' of 'group_lasso' must be at least 0, but is -1",
    ),
    "a strength that is a text": (
        {"layers": PLAIN, "regularizers": [{"units": {"group_lasso": "strong"}}]},
        "'strength' of 'group_lasso' must be a number, but is 'strong'",
    ),
    "a number alone": (
        {"layers": PLAIN, "regularizers": [{"units": C}]},
        "must be a regularizer: a name, {name: strength}, or a list of these, but is 0.1",
    ),
    "a name alone": ({"layers": PLAIN, "regularizers": [{"units": "group_lasso"}]}, "'group_lasso' needs 'strength'"),
    "nothing": ({"layers": PLAIN, "regularizers": [{"units": None}]}, "needs a regularizer: kernel, bias, activity"),
}


@pytest.mark.parametrize("name", MISPLACED)
def test_units_where_there_are_none(name: str, tmp_path: Path) -> None:
    """A spec, or rules of a module, as they are and from a file."""
    given, said = MISPLACED[name]
    if isinstance(given, dict):
        with pytest.raises(RegspecError) as caught:
            regspec.load({"inputs": {"x": {"shape": [3, 2]}}, **given})
        assert said in str(caught.value)
        return
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"regspec": 1, "rules": given}))
    for rules in (given, file):
        with pytest.raises(RegspecError) as caught:
            regspec.regularize(torch.nn.Linear(3, 2), rules)
        assert said in str(caught.value)


def test_keras_has_no_units() -> None:
    with pytest.raises(RegspecError, match=r"a\.units has the regularizer group_lasso 0\.1 coupled=True"):
        regspec.source({"inputs": {"x": {"shape": [3]}}, "layers": PLAIN, "regularizers": UNITS}, target="keras")


def test_what_is_penalized_together_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    file.write_text(json.dumps({"regspec": 1, **spec_of(SUM)}))
    shown = json.loads(command("show", str(file), "--groups", "--format", "json").stdout)
    penalized = {each["slices"][0]["weight"]: each["term"] for each in shown}
    assert penalized == {"a.kernel": "a.units", "b.kernel": "b.units", "out.kernel": None}
    assert "b.units: group_lasso 0.1" in command("show", str(file), "--groups").stdout
    summary = json.loads(command("show", str(file), "--format", "json").stdout)
    assert summary["penalties"] == 2
    assert summary["layers"][0]["penalties"] == {"units": "group_lasso 0.1 coupled=True"}
    assert "<br/>units group_lasso 0.1" in command("show", str(file), "--graph").stdout
