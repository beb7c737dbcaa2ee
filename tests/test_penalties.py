"""What a penalty is: the terms of a model, and their values and gradients, by closed forms.

That they are the same in every setting in which a model is used is what `test_settings` proves.
"""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import regspec
from regspec import runtime
from regspec.runtime.kernels import fused
from tests.net import Make, agree, by_spec, check, check_gradients, either, in_either_mode, ruled, terms
from tests.regularizers import NAMES, of_strength

# -- terms -------------------------------------------------------------------------------------------------------------


@either
def test_activities_are_those_of_the_last_forward(make: Make) -> None:
    """There are none before the first, and none after one that fails; then a forward begins anew."""
    model, weights = make(), {"hidden.kernel", "logits.bias"}
    assert set(terms(model)) == weights
    model(torch.randn(4, 7))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.randn(4, 8))
    assert set(terms(model)) == weights
    check(model)


def test_a_model_without_terms_has_no_loss() -> None:
    """It is a plain module, of which a loop may ask what it asks of any model; of other modules that is a fault."""
    spec = regspec.loads("{regspec: 1, inputs: {x: {shape: [3]}}, layers: [{Dense: {units: 2}}]}")
    model = regspec.build(spec)
    assert type(model).__bases__ == (nn.Module,)
    for each in (model, nn.Sequential(model), copy.deepcopy(model)):
        loss = regspec.regularization_loss(each)
        assert loss == 0
        assert loss.ndim == 0
        assert regspec.regularization_terms(each) == regspec.strengths(each) == regspec.sparsity(each) == {}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    regspec.bind(model, optimizer, l2="decay").remove()
    for built in (model, copy.deepcopy(model)):
        assert built.regularization_loss() == 0
        assert built.regularization_terms(detach=True) == {}
        built.apply_constraints()
        built.set_schedules(3)
    with pytest.raises(regspec.RegspecError, match="Linear has no penalties"):
        regspec.regularization_loss(nn.Linear(3, 2))


@pytest.mark.parametrize("path", ["", "b"])
def test_a_model_without_terms_that_is_given_some(path: str) -> None:
    """By rules, whole or in part; a copy and a pickled one have them too, and they can be taken off again."""
    model = regspec.build(
        "regspec: 1\ninputs: {x: {shape: [3]}}\n"
        "blocks: {b: {layers: [Dense: {name: d, units: 2}]}}\nlayers: [b: {name: b}]\n"
    )
    part, x = model.get_submodule(path), torch.randn(4, 3)
    expected = 0.5 * model.b.d.weight.square().sum() + 0.3 * model(x).abs().sum() / 4
    rules = [{"types": ["Linear"], "kernel_regularizer": {"l2": 0.5}, "activity_regularizer": {"l1": 0.3}}]
    assert regspec.regularize(part, rules) is part
    model(x)
    agree(part.regularization_loss(), expected)
    agree(regspec.regularization_loss(model), expected)
    for each in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        each(x)
        agree(regspec.regularization_loss(each), expected)
    regspec.unregularize(part)
    assert part.regularization_loss() == regspec.regularization_loss(model) == 0


def test_a_part_without_penalties_has_no_loss_of_its_own() -> None:
    """Where the model has penalties: what is inside the part may have some, which 0 would leave out."""
    model = regspec.build(
        "regspec: 1\ninputs: {x: {shape: [3]}}\n"
        "blocks:\n  inner: {layers: [Dense: {name: d, units: 3, kernel_regularizer: l2}]}\n"
        "  outer: {layers: [inner: {name: i}, Softmax: {name: s}]}\nlayers: [outer: {name: o}]\n"
    )
    assert not hasattr(model.o, "regularization_loss")
    agree(regspec.regularization_loss(model.o), 0.01 * model.o.i.d.weight.square().sum())
    agree(regspec.regularization_loss(model.o), model.regularization_loss())


def test_a_model_with_constraints_alone() -> None:
    """It has no loss to speak of, and constraints to apply."""
    model = regspec.build(
        "regspec: 1\ninputs: {x: {shape: [3]}}\nlayers: [Dense: {name: d, units: 2, kernel_constraint: non_neg}]\n"
    )
    assert model.regularization_loss() == 0
    model.apply_constraints()
    assert (model.d.weight >= 0).all()


BLOCKS = """
regspec: 1
inputs: {x: {shape: [5]}}
blocks:
  dense: {layers: [{Dense: {name: linear, units: 5, kernel_regularizer: {l2: 0.1}, activity_regularizer: {l1: 0.2}}}]}
layers:
  - dense: {name: first}
  - call: {layer: first, name: again}
  - dense: {name: second}
"""


def test_blocks_and_calls() -> None:
    """A shared block has its activity counted once a call and its weights once."""
    model, x = regspec.build(regspec.loads(BLOCKS), seed=0), torch.randn(3, 5)
    model(x)
    once = model.first.linear(x)
    twice = model.first.linear(once)
    last = model.second.linear(twice)
    wanted = {
        "first.linear.kernel": 0.1 * model.first.linear.weight.square().sum(),
        "first.linear.activity": 0.2 * (once.abs().sum() + twice.abs().sum()) / 3,
        "second.linear.kernel": 0.1 * model.second.linear.weight.square().sum(),
        "second.linear.activity": 0.2 * last.abs().sum() / 3,
    }
    found = model.regularization_terms()
    assert list(found) == list(wanted)
    agree(found, wanted)


def test_a_block_by_itself_and_shared_by_two_models() -> None:
    first, second = (regspec.build(regspec.loads(BLOCKS), seed=seed) for seed in (0, 1))
    second.second = first.second
    first(torch.randn(3, 5))
    before = {name: value.clone() for name, value in first.regularization_terms().items()}
    second(torch.randn(4, 5))
    first.second(torch.randn(2, 5))
    first.first.linear(torch.randn(3, 5))
    agree(first.regularization_terms(), before)
    assert set(first.second.regularization_terms()) == {"linear.kernel", "linear.activity"}


@in_either_mode
def test_terms_can_be_detached(is_training: bool) -> None:
    model = by_spec().train(is_training)
    model(torch.randn(4, 7))
    found, detached = model.regularization_terms(), model.regularization_terms(detach=True)
    assert all(value.requires_grad for value in found.values())
    assert not any(value.requires_grad for value in detached.values())
    agree(detached, {name: value.detach() for name, value in found.items()}, 0)


def test_scalars_and_integers() -> None:
    """A weight without axes counts; numbers that can't be trained are frozen, and buffers are no parameters."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(-1.5))
            self.sizes = nn.Parameter(torch.tensor([2, 3]), requires_grad=False)
            self.register_buffer("steps", torch.tensor(4))

    model = ruled(Scaled(), {"parameters": ".*", "regularizer": {"l1": 0.1, "l2": 0.2}})
    agree(model.regularization_terms(), {"scale": torch.tensor(0.1 * 1.5 + 0.2 * 1.5**2)})
    agree(torch.autograd.grad(model.regularization_loss(), model.scale)[0], torch.tensor(-0.1 - 0.4 * 1.5))


# -- numbers -----------------------------------------------------------------------------------------------------------


class Two(NamedTuple):
    first: Tensor
    second: Tensor


@dataclass
class Record:
    first: Tensor
    second: Tensor


OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], float]] = {  # and how often the sum of x's squares counts
    "a tuple": (lambda x: (x, 2 * x), 5),
    "a list": (lambda x: [x, 2 * x], 5),
    "a dict": (lambda x: {"a": x, "b": 2 * x}, 5),
    "an ordered dict": (lambda x: OrderedDict(a=x, b=2 * x), 5),
    "a named tuple": (lambda x: Two(x, 2 * x), 5),
    "nested": (lambda x: ({"a": [x, None]}, "text", 3.0, (x.argmax(1), (2 * x,))), 5),
    "the same twice": (lambda x: (x, x[:, :]), 2),
    "a scalar": (lambda x: 2 * x.square().sum().sqrt(), 16),  # not divided by the batch, which is 4
    "no numbers": (lambda x: {"index": x.argmax(1)}, 0),
    "a dataclass": (lambda x: Record(x, 2 * x), 5),
}


class Packed(nn.Module):
    def __init__(self, pack: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(7, 5)
        self.pack = pack

    def forward(self, x: Tensor) -> Any:
        return self.pack(self.linear(x))


@pytest.mark.parametrize("kind", [*OUTPUTS])
@in_either_mode
def test_outputs(is_training: bool, kind: str) -> None:
    """Each tensor of floating-point numbers counts, wherever it is."""
    pack, count = OUTPUTS[kind]
    model, x = ruled(Packed(pack), {"types": ["Packed"], "activity_regularizer": {"l2": 0.5}}), torch.randn(4, 7)
    model.train(is_training)(x)
    wanted = 0.5 * count * model.linear(x).square().sum() / 4
    with nullcontext() if count else pytest.warns(UserWarning, match="activity: nothing was heard"):
        loss = model.regularization_loss()
    agree(loss, wanted)
    if count:
        check_gradients(loss, wanted, model)


def test_memory_formats_and_strides() -> None:
    """Weights and outputs that do not lie in order, or whose numbers are many times the same."""

    class Repeated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[..., :1].expand_as(x)

    rules = {"kernel_regularizer": {"l1": 0.1, "l2": 0.2}, "activity_regularizer": {"l1": 0.3}}
    model = ruled(nn.Sequential(nn.Conv2d(3, 4, 3), Repeated()), {"types": ["Conv2d", "Repeated"], **rules})
    model.to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 5, 7).to(memory_format=torch.channels_last)
    model(x)
    weight, output = model[0].weight, model[0](x)
    wanted = 0.1 * weight.abs().sum() + 0.2 * weight.square().sum()
    wanted = wanted + 0.3 * (output.abs().sum() + 5 * output[..., :1].abs().sum()) / 2
    check_gradients(model.regularization_loss(), wanted, model)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_of_each_regularizer(name: str) -> None:
    net = nn.Sequential(nn.Linear(7, 6), nn.Sigmoid())  # an even number: some read halves of the units
    model = ruled(net, {"types": ["Sigmoid"], "activity_regularizer": of_strength(name, 0.1)})
    output = model(torch.randn(0, 7))
    loss = model.regularization_loss()
    assert loss == 0
    agree(torch.autograd.grad(output.sum() + loss, model[0].weight)[0], torch.zeros(6, 7))


def test_weights_of_several_types() -> None:
    model = ruled(nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3)), {"types": ["Linear"], "kernel_regularizer": "l2"})
    model[0].double()
    loss, weights = model.regularization_loss(), [model[0].weight, model[1].weight]
    assert loss.dtype is torch.float64
    agree(loss, 0.01 * sum(each.double().square().sum() for each in weights))
    agree(torch.autograd.grad(loss, weights), [0.02 * each for each in weights])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_wide_weight_in_half_precision(dtype: torch.dtype) -> None:
    """Sums of squares beyond what float16 holds, of a weight of deviation 3 and of its output."""
    rules = {"kernel_regularizer": {"l1": 0.5, "l2": 0.25}, "activity_regularizer": {"l2": 0.5}}
    model = ruled(nn.Sequential(nn.Linear(1024, 1024, bias=False)), {"types": ["Linear"], **rules}).to(dtype)
    weight = nn.init.normal_(model[0].weight, std=3)
    output = model(torch.full((2, 1024), 2.0, dtype=dtype))
    wide, wide_output = weight.detach().double(), output.detach().double()
    assert min(wide.square().sum(), wide_output.square().sum()) > torch.finfo(torch.float16).max
    wanted = 0.5 * wide.abs().sum() + 0.25 * wide.square().sum() + 0.5 * wide_output.square().sum() / 2
    of_weight, of_output = model.regularization_terms().values()
    for loss in (model.regularization_loss(), of_weight + of_output):
        assert loss.dtype is torch.float32
        agree(loss / wanted, torch.ones(()))
        by_weight, by_output = torch.autograd.grad(loss, [weight, output], retain_graph=True)
        agree(by_output, 0.5 * wide_output, 1e-2)
        through_output = 2 * 2 * by_output[0].double()[:, None]  # two examples, whose inputs are all 2
        agree(by_weight / 64, (0.5 * wide.sign() + 0.5 * wide + through_output) / 64, 2e-2)


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(7, 5, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.complex64) @ self.weight


@pytest.mark.parametrize(
    "rule",
    [
        {"parameters": "weight", "regularizer": {"l1": 0.1, "l2": 0.2}},
        {"parameters": "weight", "regularizer": {"norm": 0.3}},
        {"types": ["Complex"], "activity_regularizer": {"l2": 0.2}},
    ],
    ids=str,
)
def test_complex_numbers_are_refused(rule: dict[str, Any]) -> None:
    model = ruled(Complex(), rule)
    model(torch.randn(4, 7))
    with pytest.raises(TypeError, match="complex numbers have no penalties"):
        model.regularization_loss()


# -- nothing silent ----------------------------------------------------------------------------------------------------


def test_a_loss_that_nobody_reads_warns_once() -> None:
    model, x = by_spec(), torch.randn(4, 7)
    unread = r"nobody has read the regularization loss of hidden\.kernel, hidden\.activity"
    with pytest.warns(UserWarning, match=unread):
        model(x).sum().backward()
    model(x).sum().backward()
    read = by_spec()
    (read(x).sum() + read.regularization_loss()).backward()
    read(x).sum().backward()


INNER: dict[str, Callable[[Tensor, Tensor, Any], Any]] = {
    "a derivative by the inputs": lambda y, x, model: torch.autograd.grad(y.sum(), x, create_graph=True)[0],
    "one that is not differentiated": lambda y, x, model: torch.autograd.grad(y.sum(), x, retain_graph=True)[0],
    "backward to the inputs": lambda y, x, model: y.sum().backward(inputs=[x], retain_graph=True) or x.grad,
    "by parameters, differentiated": lambda y, x, model: torch.autograd.grad(
        y.sum(), model.hidden.weight, create_graph=True
    )[0],
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", INNER)
def test_an_inner_gradient_is_no_training(name: str) -> None:
    """As in a physics-informed net, or a step inside a step; the loss is made of it, and of the penalties."""
    model, x = by_spec(), torch.randn(4, 7, requires_grad=True)
    y = model(x)
    inner = INNER[name](y, x, model)
    (y.square().mean() + inner.square().mean() + model.regularization_loss()).backward()


TRAININGS: dict[str, Callable[[Tensor, list[nn.Parameter]], Any]] = {
    "a backward": lambda loss, parameters: loss.backward(),
    "gradients": lambda loss, parameters: torch.autograd.grad(loss, parameters, allow_unused=True),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_an_inner_gradient_hides_no_training(name: str) -> None:
    """Where nobody reads the penalties in the end, either."""
    model, x = by_spec(), torch.randn(4, 7, requires_grad=True)
    y = model(x)
    loss = torch.autograd.grad(y.sum(), x, create_graph=True)[0].square().mean() + y.square().mean()
    with pytest.warns(UserWarning, match="nobody has read the regularization loss"):
        TRAININGS[name](loss, [*model.parameters()])


def test_a_loss_that_is_not_finite_names_its_terms() -> None:
    model = by_spec()
    with torch.no_grad():
        model.hidden.weight[0, 0] = float("inf")
    model.eval()(torch.zeros(2, 7))
    with pytest.warns(RuntimeWarning, match=r"the regularization loss is .*: hidden\.kernel"):
        model.regularization_loss()


def test_a_part_that_is_never_called() -> None:
    """A rule that matches a part whose output nobody hears is as good as one that matches nothing."""
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
    model = ruled(layer, {"modules": r"self_attn\.out_proj", "activity_regularizer": "l2"})
    model(torch.randn(2, 3, 6))
    with pytest.warns(UserWarning, match=r"self_attn\.out_proj\.activity: nothing was heard"):
        model.regularization_loss()
    model.regularization_loss()  # it is said once


# -- all at once -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("foreach", [True, False])
def test_fused_penalties(foreach: bool) -> None:
    """By either way that they are computed, in sizes small and large, of several types."""
    shapes = [(3, 5), (300, 700), (7,), (2, 3, 4, 5), ()]
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        xs = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
        for l1, l2 in ((0.3, 0.0), (0.0, 0.2), (0.3, 0.2)):
            wanted = sum(l1 * x.double().abs().sum() + l2 * x.double().square().sum() for x in xs)
            expected = torch.autograd.grad(wanted, xs)
            if foreach:
                value = fused._value_by_foreach(l1, l2, [x.detach() for x in xs])
                got = fused._gradients(l1, 2 * l2, [x.detach() for x in xs], torch.ones(()))
            else:
                value = fused.fused_penalty([((l1, l2), xs[:2]), ((l1, l2), xs[2:])])
                got = torch.autograd.grad(value, xs)
            rtol = 1e-5 if dtype is torch.bfloat16 else 1e-6  # its squares have few digits, and are rounded alike
            torch.testing.assert_close(value.double(), wanted, rtol=rtol, atol=0)
            for a, b in zip(got, expected, strict=True):
                rtol = 2e-2 if dtype is torch.bfloat16 else 1e-5
                torch.testing.assert_close(a.to(dtype), b, rtol=rtol, atol=1e-6)


def test_large_weights_are_summed_exactly() -> None:
    """A sum in float32 of so many numbers loses digits, unless it is taken in pieces."""
    x = torch.randn(1111, 4501) * 0.05
    for l1, l2 in ((1.0, 0.0), (0.0, 1.0)):
        wanted = l1 * x.double().abs().sum() + l2 * x.double().square().sum()
        torch.testing.assert_close(fused.fused_penalty([((l1, l2), [x])]).double(), wanted, rtol=1e-6, atol=0)
        torch.testing.assert_close(fused._value_by_foreach(l1, l2, [x]), wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(runtime.Norm(0.5)(x).double(), 0.5 * x.double().square().sum().sqrt(), rtol=1e-6, atol=0)
