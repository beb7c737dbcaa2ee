"""Regularizers of the user's own that take another weight: in specs, in blocks, in any module, alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import regspec
from tests import own
from tests.alone import alone

pytestmark = pytest.mark.usefixtures("_registry", "_registered")

LAYERS = """
  - Dense:
      name: codes
      units: 7
      activation: relu
      activity_regularizer: [{weighted_l1: {decoder: decoder.kernel, strength: 0.3}}, {l2: 0.2}]
      kernel_regularizer: {Apart: {other: decoder.kernel, strength: 0.7}}
  - Dense: {name: decoder, units: 5}
"""
SPEC = f"regspec: 1\nname: sae\ninputs: {{x: {{shape: [5]}}}}\nlayers: {LAYERS}"
TERMS = ["codes.kernel", "codes.activity"]


@pytest.fixture
def _registered() -> None:
    regspec.register_regularizer(own.weighted_l1)
    regspec.register_regularizer(own.Apart)


def wanted(model: Any, x: Tensor, prefix: str = "") -> dict[str, Tensor]:
    """The penalties, by hand."""
    codes, decoder = model.codes, model.decoder
    outputs = codes(x).relu()
    l1 = 0.3 * (outputs.abs() * decoder.weight.norm(dim=0)).sum() + 0.2 * outputs.square().sum()
    apart = 0.7 * (codes.weight - decoder.weight.T).square().sum()
    return dict(zip((prefix + term for term in TERMS), (apart, l1 / len(x)), strict=True))


def parametrized(model: Any) -> Any:
    parametrizations.weight_norm(model.decoder)
    return model


def frozen(model: Any) -> Any:
    model.decoder.requires_grad_(False)
    return model


WAYS: dict[str, Callable[[Any], Any]] = {
    "in training": lambda model: model,
    "in evaluation": lambda model: model.eval(),
    "copied": copy.deepcopy,
    "pickled": lambda model: pickle.loads(pickle.dumps(model)),
    "with a parametrized decoder": parametrized,
    "with a frozen decoder": frozen,
    "in double precision": lambda model: model.double(),
}


MADE: dict[str, Callable[[], Any]] = {"built": lambda: regspec.build(SPEC), "alone": lambda: alone(SPEC, "Sae")}
ROWS = [(made, way) for made in MADE for way in WAYS]
ROWS.remove(("alone", "pickled"))  # by the name of its file


@pytest.mark.parametrize(("made", "way"), ROWS)
def test_values_and_gradients(made: str, way: str) -> None:
    model = WAYS[way](MADE[made]())
    x = torch.randn(3, 5, dtype=model.codes.weight.dtype)
    expected = wanted(model, x)
    model(x)
    torch.testing.assert_close(model.regularization_terms(), expected)
    parameters = [each for each in model.parameters() if each.requires_grad]
    loss = model.regularization_loss()
    torch.testing.assert_close(loss, sum(expected.values()))
    torch.testing.assert_close(
        torch.autograd.grad(loss, parameters, allow_unused=True),
        torch.autograd.grad(sum(expected.values()), parameters, allow_unused=True),
    )


def test_a_copy_takes_its_own_weight() -> None:
    model = regspec.build(SPEC)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        model.decoder.weight.zero_()
    x = torch.randn(3, 5)
    copied(x)
    torch.testing.assert_close(copied.regularization_terms(), wanted(copied, x))


def test_weights_that_are_put_in_place_for_a_forward() -> None:
    model = regspec.build(SPEC)
    doubled = {name: 2 * parameter for name, parameter in model.named_parameters()}
    x = torch.randn(3, 5)
    torch.func.functional_call(model, doubled, x)
    found = model.regularization_terms()["codes.activity"]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    torch.testing.assert_close(found, wanted(model, x)["codes.activity"])


def test_it_compiles() -> None:
    model = regspec.build(SPEC)
    x = torch.randn(3, 5)
    torch.compile(model, backend="eager", fullgraph=True)(x)
    torch.testing.assert_close(model.regularization_terms(), wanted(model, x))


def test_in_blocks_each_takes_its_own() -> None:
    block = f"blocks:\n pair:\n  layers: {LAYERS}"
    model: Any = regspec.build(
        f"regspec: 1\ninputs: {{x: {{shape: [5]}}}}\n{block}\nlayers:\n  - pair: {{name: one, repeat: 2}}\n"
    )
    x = torch.randn(3, 5)
    first, second = model.one
    model(x)
    expected = wanted(first, x, "one.0.") | wanted(second, first(x), "one.1.")
    torch.testing.assert_close(model.regularization_terms(), expected)


def test_the_layers_own_weight_and_a_schedule() -> None:
    activity = "{weighted_l1: {decoder: kernel}, reduction: sum, schedule: {constant: {value: 0.25, over: 3}}}"
    layers = f"[{{Dense: {{name: same, units: 5, activity_regularizer: {activity}}}}}]"
    model: Any = regspec.build(f"regspec: 1\ninputs: {{x: {{shape: [5]}}}}\nlayers: {layers}\n")
    model.set_schedules(0)
    output = model(torch.randn(3, 5))
    expected = 0.25 * (output.abs() * model.same.weight.norm(dim=0)).sum()
    torch.testing.assert_close(model.regularization_terms(), {"same.activity": expected})


def test_rules_for_any_module() -> None:
    model: Any = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 5))
    rules = [{"modules": "1", "activity_regularizer": {"weighted_l1": {"decoder": "2.weight"}}}]
    for name in ("2.weights", "2", "2.forward", "3.weight", ""):
        wrong = [{"modules": "1", "activity_regularizer": {"weighted_l1": {"decoder": name}}}]
        with pytest.raises(regspec.RegspecError, match=f"'1' has a penalty that takes '{name}', which is no parameter"):
            regspec.regularize(model, wrong)
    x = torch.randn(3, 5)
    copied = copy.deepcopy(regspec.regularize(model, rules))
    output = model[:2](x)
    for each in (model, copied):
        each(x)
        wanted_now = (output.abs() * each[2].weight.norm(dim=0)).sum() / 3
        torch.testing.assert_close(each.regularization_terms(), {"1.activity": wanted_now})


@pytest.mark.parametrize(
    ("name", "what", "hint"),
    [
        ("decodr.kernel", "there is no layer 'decodr' beside it", "did you mean 'decoder'?"),
        ("decoder.kernl", "the weights of 'decoder' are kernel, bias", "did you mean 'kernel'?"),
        ("decoder", "the weights of 'codes' are kernel, bias", "name its weight, too: 'decoder.kernel'"),
        ("kernl", "the weights of 'codes' are kernel, bias", "did you mean 'kernel'?"),
        ("flat.kernel", "the weights of 'flat' are none", None),
        ("''", "the weights of 'codes' are kernel, bias", None),
        ("gru.bias", "that is several parameters in torch: bias_ih_l0, bias_hh_l0", None),
    ],
)
def test_what_names_no_weight(name: str, what: str, hint: str | None) -> None:
    text = f"""
    regspec: 1
    inputs: {{x: {{shape: [4, 5]}}}}
    layers:
      - GRU: {{name: gru, units: 3, bias_regularizer: l2, return_sequences: true}}
      - Flatten: {{name: flat}}
      - Dense: {{name: codes, units: 7, activity_regularizer: {{weighted_l1: {{decoder: {name}}}}}}}
      - Dense: {{name: decoder, units: 5}}
    """
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(text)
    (problem,) = caught.value.problems
    assert (problem.what, problem.hint) == (f"codes has a penalty that takes '{name.strip(chr(39))}', but {what}", hint)
    assert problem.line == 7


def test_a_weight_that_is_not_said() -> None:
    with pytest.raises(regspec.RegspecError, match=r"'weighted_l1' needs 'decoder'"):
        regspec.loads(SPEC.replace("decoder: decoder.kernel, ", ""))


def test_it_is_on_the_loss_route() -> None:
    model = regspec.build(SPEC)
    with pytest.raises(regspec.RegspecError, match=r"'codes.kernel' has a gradient for other weights, too"):
        regspec.bind(model, torch.optim.SGD(model.parameters(), lr=0.1), terms={"codes.kernel": "gradient"})


def test_a_name_of_two_parameters() -> None:
    message = "'OfOneName' can't be registered: its constructor and its call both take 'other'"
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.register_regularizer(own.OfOneName)
