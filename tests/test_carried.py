"""Penalties of outputs on the gradient route: the loss has none, and every gradient is as if it had."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nested import nested_tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.optim import SGD

import regspec
from regspec.runtime import Regularized
from regspec.training.loop.module import bound_optimizer
from regspec.training.options.options import Options
from tests.net import (
    HIDDEN,
    RULES,
    Checkpointed,
    InPlace,
    Make,
    Net,
    agree,
    by_rules,
    by_spec,
    either,
    ruled,
    wanted_gradients,
    written_out,
)


def bound(model: Regularized, **options: Any) -> Regularized:
    regspec.bind(model, SGD(model.parameters(), lr=0.1, **options), activity="gradient")
    return model


def data_loss(model: nn.Module, x: Tensor) -> Tensor:
    """The loss of `tests.net`, and the penalties of weights: all that is on the loss."""
    return model(x).square().sum() + model.regularization_loss()


def check_carried(model: Regularized, x: Tensor, tolerance: float = 1e-4) -> None:
    """The values, and what every parameter has as its gradient."""
    model.zero_grad()
    loss = data_loss(model, x)
    output, penalties = written_out(model, x)
    on_loss = penalties["hidden.kernel"] + penalties["logits.bias"]
    agree(loss, output.square().sum() + on_loss, tolerance)
    wanted = wanted_gradients(model, x)
    loss.backward()
    agree([each.grad for each in model.parameters()], wanted, tolerance)
    reported = torch.stack([*model.regularization_terms().values()]).sort().values
    agree(reported, torch.stack([*penalties.values()]).sort().values, tolerance)


@either
@pytest.mark.parametrize("is_training", [True, False])
def test_gradients(make: Make, is_training: bool) -> None:
    """Again and again, in training and in evaluation."""
    model = bound(make().train(is_training))
    for batch in (4, 1, 6):
        check_carried(model, torch.randn(batch, 7))


def test_by_name() -> None:
    model = by_rules()
    optimizer = SGD(model.parameters(), lr=0.1)
    binding = regspec.bind(model, optimizer, terms={"hidden_activation.activity": "gradient"})
    x = torch.randn(4, 7)
    _, penalties = written_out(model, x)
    model(x)
    agree(model.regularization_loss(), sum(penalties.values()) - penalties["hidden.activity"])
    binding.remove()
    model(x)
    agree(model.regularization_loss(), sum(penalties.values()))


def test_several_calls() -> None:
    """Each takes the gradient of its own penalty; a shared layer of one forward, and forwards that are accumulated."""
    layer = nn.Linear(3, 3)
    model = bound(ruled(nn.Sequential(layer, nn.Tanh(), layer), {"modules": "0", "activity_regularizer": {"l2": 0.3}}))
    x, other = torch.randn(5, 3), torch.randn(2, 3)
    with regspec.accumulate(model):
        (model(x).sum() + model(other).sum()).backward()
    wanted = 0.0
    for each in (x, other):
        first = F.linear(each, layer.weight, layer.bias)  # and not the layer, which is listened to
        second = F.linear(first.tanh(), layer.weight, layer.bias)
        wanted = wanted + second.sum() + 0.3 * (first.square().sum() + second.square().sum()) / len(each)
    agree([layer.weight.grad, layer.bias.grad], torch.autograd.grad(wanted, [layer.weight, layer.bias]), 1e-4)


def test_schedules() -> None:
    rule = {"modules": "", "activity_regularizer": {"l1": 0.3, "schedule": {"warmup": 4}}}
    model = ruled(nn.Linear(3, 2, bias=False), rule)
    optimizer = SGD(model.parameters(), lr=0.1)
    regspec.bind(model, optimizer, activity="gradient")
    x = torch.randn(5, 3)
    for factor in (0.0, 0.25, 0.5, 0.75, 1.0, 1.0):
        optimizer.zero_grad()
        output = model(x)
        output.sum().backward()
        wanted = (output.detach() * 0 + 1 + factor * 0.3 * output.detach().sign() / 5).T @ x
        agree(model.weight.grad, wanted)
        optimizer.step()


@pytest.mark.parametrize("use_reentrant", [False])
def test_checkpoints(use_reentrant: bool) -> None:
    net = Checkpointed()
    net.use_reentrant = use_reentrant
    check_carried(bound(ruled(net, *RULES)), torch.randn(4, 7))


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_an_operation_in_place(is_checkpointed: bool) -> None:
    """After the output: the penalty's gradient is of what it was before."""
    model = bound(ruled(InPlace(is_checkpointed), {"modules": "scale", "activity_regularizer": {"l2": 0.3}}))
    x = torch.randn(4, 7)
    for _ in range(3):
        model.zero_grad()
        model(x).sum().backward()
        output = 2 * model.linear(x)  # which nobody listens to
        wanted = output.relu().sum() + 0.3 * output.square().sum() / 4
        parameters = [*model.parameters()]
        agree([each.grad for each in parameters], torch.autograd.grad(wanted, parameters), 1e-4)


# torch's compiler makes an instance of each autograd function, and its own warning of that is an error here
in_compiler = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@in_compiler
@either
@pytest.mark.parametrize("backend", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.everything)])
def test_compiled(make: Make, backend: str) -> None:
    """The whole step's graph; strengths are no constants of it."""
    torch._dynamo.reset()
    model = bound(make())
    step = torch.compile(partial(data_loss, model), backend=backend, fullgraph=True)
    for _ in range(2):
        x = torch.randn(4, 7)
        model.zero_grad()
        step(x).backward()
        agree([each.grad for each in model.parameters()], wanted_gradients(model, x), 1e-4)


@in_compiler
def test_compiled_before_it_is_bound() -> None:
    torch._dynamo.reset()
    model, x = by_rules(), torch.randn(4, 7)
    step = torch.compile(partial(data_loss, model), backend="aot_eager", fullgraph=True)
    step(x)
    bound(model)
    step(x).backward()
    agree([each.grad for each in model.parameters()], wanted_gradients(model, x), 1e-4)


def test_a_gradient_that_is_differentiated_is_refused() -> None:
    """It would be a gradient of another thing than the output; and the second pass would bring the penalty again."""
    model, x = bound(ruled(Net(), HIDDEN)), torch.randn(4, 7, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"create_graph.*put that penalty on the loss route"):
        torch.autograd.grad(model(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.func.grad(lambda x: torch.func.grad(lambda x: model(x).sum())(x).square().sum())(x.detach())


def test_functions_of_torch() -> None:
    """The gradient of each example: its penalty is that of a batch of one."""
    rule = {"modules": "0", "activity_regularizer": {"l2": 0.3}}
    model = bound(ruled(nn.Sequential(nn.Linear(3, 2, bias=False)), rule))
    weight, xs = model[0].weight.detach(), torch.randn(5, 1, 3)

    def loss(weight: Tensor, x: Tensor) -> Tensor:
        return torch.func.functional_call(model, {"0.weight": weight}, (x,)).sum()

    got = torch.func.vmap(torch.func.grad(loss), (None, 0))(weight, xs)
    agree(got, torch.stack([(1 + 0.6 * x @ weight.T).T @ x for x in xs]), 1e-4)


Named = namedtuple("Named", ["first", "second"])


@dataclass
class Both:
    first: Tensor
    second: Any


CONTAINERS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tuple": lambda a, b: (a, b),
    "list": lambda a, b: [a, [b]],
    "named tuple": Named,
    "mapping": lambda a, b: OrderedDict(a=a, b=b, length=torch.tensor(3)),
    "dataclass": Both,
}


class Giving(nn.Module):
    def __init__(self, make: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.make, self.linear = make, nn.Linear(3, 2, bias=False)

    def forward(self, x: Tensor) -> Any:
        return self.make(self.linear(x), 2 * self.linear(x))


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_containers(make: Callable[[Tensor, Tensor], Any]) -> None:
    model = bound(ruled(nn.Sequential(Giving(make)), {"modules": "0", "activity_regularizer": {"l2": 0.3}}))
    x = torch.randn(4, 3)
    output = model(x)
    assert type(output) is type(make(x, x))
    found: list[Tensor] = []

    def gather(value: Any) -> None:
        if isinstance(value, Tensor):
            found.extend([value] if value.is_floating_point() else [])
        else:
            values = vars(value) if isinstance(value, Both) else value
            for each in values.values() if isinstance(values, dict) else values:
                gather(each)

    gather(output)
    assert len(found) == 2
    sum(each.sum() for each in found).backward()
    weight = model[0].linear.weight
    y = x @ weight.T
    wanted = 3 * y.sum() + 0.3 * (y.square().sum() + 4 * y.square().sum()) / 4
    agree(weight.grad, torch.autograd.grad(wanted, weight)[0], 1e-4)


class Tree(nn.Module):
    """Gives a value in one container in another, and other values that have no penalty."""

    def __init__(self, pack: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.pack, self.linear = pack, nn.Linear(3, 2, bias=False)

    def forward(self, x: Tensor) -> Any:
        return self.pack(self.linear(x), self.linear(x).transpose(0, 1))


PARTS: dict[str, tuple[int | str, Callable[[Tensor, Tensor], Any], Callable[[Any], Tensor]]] = {
    "index": (1, lambda a, b: (b, a), lambda each: each[1]),
    "of a list": (-1, lambda a, b: [b, a], lambda each: each[-1]),
    "one tensor twice": (0, lambda a, b: (a, a), lambda each: each[0]),
    "name": ("second", lambda a, b: Named(b, a), lambda each: each.second),
    "key": ("two", lambda a, b: OrderedDict(one=b, two=a), lambda each: each["two"]),
    "field": ("second", Both, lambda each: each.second),
    "field by index": (0, Both, lambda each: each.first),
    "attribute": ("value", lambda a, b: SimpleNamespace(value=a, other=b), lambda each: each.value),
    "one tensor": (0, lambda a, b: a, lambda each: each),
}


@pytest.mark.parametrize(("part", "pack", "get"), PARTS.values(), ids=PARTS)
def test_a_part_of_an_output(part: int | str, pack: Any, get: Callable[[Any], Tensor]) -> None:
    """The rule says which part has the penalty; the others are what they were."""
    rule = {"modules": "0", "activity_regularizer": {"l2": 0.3}, "output": part}
    for loss in (False, True):
        model = ruled(nn.Sequential(Tree(pack)), rule)
        if not loss:
            bound(model)
        x = torch.randn(5, 3)
        output = model(x)
        assert type(output) is type(pack(x, x))
        value = get(output)
        (value.sum() + (model.regularization_loss() if loss else 0)).backward()
        weight = model[0].linear.weight
        y = x @ weight.T if value.shape == (5, 2) else (x @ weight.T).T
        wanted = y.sum() + 0.3 * y.square().sum() / len(y)
        agree(weight.grad, torch.autograd.grad(wanted, weight)[0], 1e-4)


READ: dict[str, tuple[dict[str, Any], Callable[[], nn.Module], Callable[[], Any]]] = {
    "lstm": ({}, lambda: nn.LSTM(3, 4), lambda: torch.randn(6, 2, 3)),
    "batch first": ({}, lambda: nn.GRU(3, 4, batch_first=True), lambda: torch.randn(6, 2, 3)),
    "without a batch": ({}, lambda: nn.RNN(3, 4), lambda: torch.randn(6, 3)),
    "packed": (
        {},
        lambda: nn.LSTM(3, 4),
        lambda: pack_padded_sequence(torch.randn(6, 3, 3), [6, 2, 4], enforce_sorted=False),
    ),
    "strided": ({}, lambda: nn.Linear(3, 4), lambda: nested_tensor([torch.randn(n, 3) for n in (2, 5)])),
    "jagged": (
        {},
        lambda: nn.Linear(3, 4),
        lambda: nested_tensor([torch.randn(n, 3) for n in (2, 5)], layout=torch.jagged),
    ),
    "another axis": ({"batch_axis": 1}, lambda: nn.Linear(3, 4), lambda: torch.randn(6, 2, 3)),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # torch's own
@pytest.mark.parametrize(("options", "make", "take"), READ.values(), ids=READ)
def test_what_is_read_of_an_output(
    options: dict[str, Any], make: Callable[[], nn.Module], take: Callable[[], Any]
) -> None:
    """The penalty is that of the loss: of the same tensor, over as many samples."""
    model = ruled(
        nn.Sequential(make()), {"modules": "0", "activity_regularizer": {"l1_l2": {"l1": 0.2, "l2": 0.3}}, **options}
    )
    other, x = copy.deepcopy(model), take()
    bound(other)
    gradients = []
    for each in (model, other):
        output = each(x)
        first = output[0] if isinstance(output, tuple) and not isinstance(output, PackedSequence) else output
        values = first.data if isinstance(first, PackedSequence) else first
        data = sum(row.sum() for row in values.unbind())
        (data + each.regularization_loss()).backward()
        gradients.append([parameter.grad for parameter in each.parameters()])
        agree(sum(each.regularization_terms().values()), sum(model.regularization_terms().values()))
    assert model.regularization_loss() > 0
    assert other.regularization_loss() == 0
    agree(gradients[1], gradients[0], 1e-4)


def test_what_is_not_known_of_an_output() -> None:
    """It is an error, as on the loss."""
    model = bound(ruled(nn.Sequential(nn.LSTM(3, 4)), {"modules": "0", "activity_regularizer": {"l2": 0.3}}))
    model(torch.randn(6, 2, 3))
    several = bound(
        ruled(nn.Sequential(Tree(lambda a, b: (a, b))), {"modules": "0", "activity_regularizer": {"l2": 0.3}})
    )
    with pytest.raises(RuntimeError, match="say in its rule which is penalized"):
        several(torch.randn(5, 3))


def test_a_mean_over_the_batch_by_itself() -> None:
    rule = {"modules": "1", "activity_regularizer": {"kl_sparsity": {"strength": 0.3, "target": 0.2}}}
    model = bound(ruled(nn.Sequential(nn.Linear(3, 2), nn.Sigmoid()), rule))
    x = torch.randn(4, 3)
    model(x).sum().backward()
    y = model[0](x).sigmoid()  # the other layer is listened to
    rate = y.mean(0)
    kl = 0.2 * (0.2 / rate).log() + 0.8 * (0.8 / (1 - rate)).log()
    wanted = torch.autograd.grad(y.sum() + 0.3 * kl.sum(), [*model.parameters()])
    agree([each.grad for each in model.parameters()], wanted, 1e-4)


def test_half_precision() -> None:
    """In autocast the penalty is computed in single precision, and its gradient is of the output's type."""
    model = bound(by_rules())
    x = torch.randn(4, 7)
    with torch.autocast("cpu", torch.bfloat16):
        loss = data_loss(model, x)
    loss.backward()
    agree([each.grad for each in model.parameters()], wanted_gradients(model, x), 0.1)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
@either
def test_copies(make: Make, duplicate: Callable[[Any], Any]) -> None:
    """They have all on the loss, and can be bound; the model itself stays as it is."""
    model, x = bound(make()), torch.randn(4, 7)
    other = duplicate(model)
    data_loss(other, x).backward()
    agree([each.grad for each in other.parameters()], wanted_gradients(other, x), 1e-4)
    check_carried(model, x)
    check_carried(bound(other), x)


def test_without_gradients() -> None:
    """It is reported."""
    model, x = bound(by_rules()), torch.randn(4, 7)
    with torch.no_grad():
        output = model(x)
        agree(sum(model.regularization_terms().values()), sum(written_out(model, x)[1].values()))
    assert not output.requires_grad


def test_an_optimizer_that_climbs() -> None:
    """Goes up the data's value, and down the penalty."""
    model = ruled(nn.Linear(3, 2, bias=False), {"modules": "", "activity_regularizer": {"l2": 0.3}})
    bound(model, maximize=True)
    x = torch.randn(4, 3)
    model(x).sum().backward()
    agree(model.weight.grad, (1 - 0.6 * x @ model.weight.T / 4).T @ x, 1e-4)
    other = ruled(nn.Linear(3, 2), {"modules": "", "activity_regularizer": {"l2": 0.3}})
    groups = [{"params": [other.weight], "maximize": True}, {"params": [other.bias]}]
    with pytest.raises(regspec.RegspecError, match="some of the optimizer's groups maximize"):
        regspec.bind(other, SGD(groups, lr=0.1), activity="gradient")


@pytest.mark.parametrize("is_unscaled", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_a_scale_is_refused(fused: bool, is_unscaled: bool) -> None:
    """It multiplies the loss, and so all gradients but this one; to take it out early divides all."""
    model = by_rules()
    optimizer = SGD(model.parameters(), lr=0.1, fused=fused)
    regspec.bind(model, optimizer, activity="gradient")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(data_loss(model, torch.randn(4, 7))).backward()
    if is_unscaled:
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"GradScaler divides by a scale .* put it on the loss route"):
        scaler.step(optimizer)


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaler_that_is_switched_off_is_none(fused: bool) -> None:
    model, x = by_rules(), torch.randn(4, 7)
    wanted = wanted_gradients(model, x)
    optimizer = SGD(model.parameters(), lr=0.1, fused=fused)
    regspec.bind(model, optimizer, activity="gradient")
    before = [each.detach().clone() for each in model.parameters()]
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    scaler.scale(data_loss(model, x)).backward()
    scaler.step(optimizer)
    agree([*model.parameters()], [each - 0.1 * own for each, own in zip(before, wanted, strict=True)], 1e-4)


def test_of_two_bindings() -> None:
    """The first has the outputs; when it is removed, they are on the loss."""
    rule = {"modules": "[01]", "activity_regularizer": {"l2": 1.0}}
    model = ruled(nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3)), rule)
    first, _ = (regspec.bind(model, SGD(part.parameters(), lr=0.1), activity="gradient") for part in model)
    model(torch.randn(4, 7))
    assert model.regularization_loss() == 0
    first.remove()
    model(torch.randn(4, 7))
    assert model.regularization_loss() > 0


@pytest.mark.parametrize(
    ("options", "is_spread", "message"),
    [
        ({"route": ("activity=gradient",)}, False, None),
        ({"route": ("hidden.activity=gradient",)}, False, None),
        ({"route": ("activity=decay",)}, False, "the loss and the gradient route only"),
        ({"route": ("activity=gradient",), "precision": "16-mixed"}, False, "in half precision that is scaled"),
        ({"route": ("activity=gradient",)}, True, "on several processes"),
    ],
    ids=str,
)
def test_in_train(options: dict[str, Any], is_spread: bool, message: str | None) -> None:
    """A scaled loss is refused before anything is trained."""
    model = by_spec()
    with nullcontext() if message is None else pytest.raises(regspec.RegspecError, match=message):
        bound_optimizer(model, Options(**options), 3, is_spread=is_spread)
        x = torch.randn(4, 7)
        model(x)
        penalties = written_out(model, x)[1]
        kept = sum(penalties.values()) - penalties["hidden.activity"]
        kept = kept - penalties["logits.activity"] if options["route"] == ("activity=gradient",) else kept
        agree(model.regularization_loss(), kept)
