"""Steps of training: what a backward pass gives, transforms of functions, optimizers, and the order of a step.

Gradients are compared with those of what is written out in `tests.net`. A test that is marked as expected to fail shows
a fault of the library, which its reason names. The penalties are one node of the graph, as those of larger models are.
"""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer
from torch.utils.data import DataLoader, TensorDataset

import regspec
from regspec.runtime import Regularized
from regspec.runtime.kernels import fused
from tests.net import (
    BIAS,
    HIDDEN,
    KERNEL,
    LOGITS,
    Make,
    Net,
    agree,
    by_rules,
    check,
    either,
    fault,
    in_threads,
    loss_of,
    ruled,
    stepped,
    terms,
    wanted_gradients,
    wanted_loss,
    weight_gradients,
    written_out,
)


@pytest.fixture(autouse=True)
def _by_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "FEW", -1)


# -- the backward pass -------------------------------------------------------------------------------------------------


def check_grads(model: nn.Module, wanted: list[Tensor]) -> None:
    """What every parameter has as its ``.grad``."""
    agree([each.grad for each in model.parameters()], wanted, 1e-4)


@either
def test_two_backward_passes(make: Make) -> None:
    """Of a graph that is retained, into the same gradients, which are put to zero before or set to none."""
    model, x = make(), torch.randn(4, 7)
    wanted = wanted_gradients(model, x)
    for set_to_none in (True, False, False):
        loss = loss_of(model, x)
        loss.backward(retain_graph=True)
        check_grads(model, wanted)
        loss.backward()
        check_grads(model, [2 * each for each in wanted])
        model.zero_grad(set_to_none=set_to_none)


@either
def test_losses_one_after_the_other(make: Make) -> None:
    """The penalties have a backward pass of their own, and a factor."""
    model, x = make(), torch.randn(4, 7)
    output = model(x)
    (0.5 * model.regularization_loss()).backward(retain_graph=True)
    output.square().sum().backward()
    output, penalties = written_out(model, x)
    wanted = output.square().sum() + 0.5 * sum(penalties.values())
    check_grads(model, [*torch.autograd.grad(wanted, [*model.parameters()])])


@either
def test_gradients_of_some_weights(make: Make) -> None:
    """And nobody else's is touched."""
    model, x = make(), torch.randn(4, 7)
    wanted, parameters = wanted_gradients(model, x), [*model.parameters()]
    for parameter, gradient in zip(parameters, wanted, strict=True):
        agree(torch.autograd.grad(loss_of(model, x), parameter)[0], gradient, 1e-4)
        assert all(each.grad is None for each in parameters)
    loss_of(model, x).backward(inputs=[model.hidden.weight, model.logits.bias])
    check_grads(model, [wanted[0], None, None, wanted[3]])


def test_gradients_of_an_input() -> None:
    """Of the penalties alone, as in a search for what excites a layer."""
    model, x = by_rules(), torch.randn(4, 7, requires_grad=True)
    model(x)
    wanted = sum(written_out(model, x)[1].values())
    agree(torch.autograd.grad(model.regularization_loss(), x), torch.autograd.grad(wanted, x))


@either
def test_double_backward(make: Make) -> None:
    """The gradient of the gradient's norm, by parameters and input."""
    model, x = make().double(), torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    leaves = [x, *model.parameters()]

    def twice(loss: Tensor) -> list[Tensor]:
        gradients = torch.autograd.grad(loss, leaves, create_graph=True)
        return [*torch.autograd.grad(sum(each.square().sum() for each in gradients), leaves)]

    agree(twice(loss_of(model, x)), twice(wanted_loss(model, x)), 1e-10)


Hook = Callable[[Tensor, list[Tensor]], object]  # set on a parameter, it notes the gradient that it sees


def node_of(parameter: Tensor) -> Any:
    """The node that accumulates a parameter's gradient; what holds it keeps its hooks alive."""
    return parameter.expand_as(parameter).grad_fn.next_functions[0][0]


def on_node(parameter: Tensor, seen: list[Tensor]) -> object:
    node = node_of(parameter)
    node.register_hook(lambda *_: seen.append(parameter.grad.clone()))
    return node


def before_node(parameter: Tensor, seen: list[Tensor]) -> object:
    node = node_of(parameter)
    node.register_prehook(lambda gradients: seen.append(gradients[0].clone()))
    return node


HOOKS: dict[str, Hook] = {
    "tensor": lambda parameter, seen: parameter.register_hook(lambda gradient: seen.append(gradient.clone())),
    "accumulated": lambda parameter, seen: parameter.register_post_accumulate_grad_hook(
        lambda each: seen.append(each.grad.clone())
    ),
    "several": lambda parameter, seen: torch.autograd.graph.register_multi_grad_hook((parameter,), seen.extend),
    "node": on_node,
    "before the node": before_node,
}


UNSEEN = fault("nothing tells that a node has hooks, and they run before the penalty's gradient is added")


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_hooks_see_the_whole_gradient_of_a_small_model(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which torch derives."""
    monkeypatch.setattr(fused, "FEW", 2**16)
    test_hooks_see_the_whole_gradient(hook, is_set_late=False)


@pytest.mark.parametrize(
    "hook",
    [pytest.param(hook, marks=UNSEEN if "node" in name else [], id=name) for name, hook in HOOKS.items()],
)
@pytest.mark.parametrize("is_set_late", [False, True])
def test_hooks_see_the_whole_gradient(hook: Hook, is_set_late: bool) -> None:
    """Once in a pass, wherever they are: so do those that send gradients around, or step while the pass runs."""
    model, x = by_rules(), torch.randn(4, 7)
    wanted = wanted_gradients(model, x)
    loss = loss_of(model, x) if is_set_late else None
    seen: list[list[Tensor]] = [[] for _ in wanted]
    held = [hook(parameter, own) for parameter, own in zip(model.parameters(), seen, strict=True)]
    (loss_of(model, x) if loss is None else loss).backward()
    assert len(held) == len(wanted)
    agree(seen, [[each] for each in wanted], 1e-4)
    check_grads(model, wanted)


def test_a_hook_that_changes_the_gradient() -> None:
    model = by_rules()
    model.hidden.weight.register_hook(torch.zeros_like)
    loss_of(model, torch.randn(4, 7)).backward()
    assert not model.hidden.weight.grad.any()


def test_steps_during_the_backward_pass() -> None:
    """Each parameter is stepped, and its gradient freed, as soon as it has it."""
    model, x = by_rules(), torch.randn(4, 7)
    wanted = stepped(model, wanted_gradients(model, x))

    def step(parameter: Tensor) -> None:
        with torch.no_grad():
            parameter -= 0.1 * parameter.grad
        parameter.grad = None

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    loss_of(model, x).backward()
    agree([*model.parameters()], wanted, 1e-4)
    assert all(each.grad is None for each in model.parameters())


def test_gradients_in_one_buffer() -> None:
    """Views that are given before the pass are added to, and stay what they are."""
    model, x = by_rules(), torch.randn(4, 7)
    sizes = [each.numel() for each in model.parameters()]
    buffer = torch.ones(sum(sizes))
    for parameter, view in zip(model.parameters(), buffer.split(sizes), strict=True):
        parameter.grad = view.view_as(parameter)
    loss_of(model, x).backward()
    agree(buffer, 1 + torch.cat([each.flatten() for each in wanted_gradients(model, x)]), 1e-4)


def test_a_gradient_that_is_given() -> None:
    """It is not written to, though it becomes the parameter's gradient."""
    model, given = ruled(Net(), KERNEL), torch.randn(5, 7)
    weight, before = model.hidden.weight, given.clone()
    torch.autograd.backward([weight, model.regularization_loss()], [given, torch.ones(())])
    agree(given, before, 0)
    agree(weight.grad, before + 0.1 * weight.sign() + 0.4 * weight)


def test_a_backward_pass_inside_another() -> None:
    model, x = by_rules(), torch.randn(4, 7)

    class Inside(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            with torch.enable_grad():
                model.regularization_loss().backward(retain_graph=True)
            return gradient

    Inside.apply(model(x)).square().sum().backward()
    check_grads(model, wanted_gradients(model, x))


def test_backward_passes_in_threads() -> None:
    """Which add to the same gradient, as torch lets them; often, because a gradient may be lost now and then."""
    model = ruled(Net(), KERNEL)
    weight = model.hidden.weight
    for _ in range(100):
        weight.grad = None
        in_threads(*[lambda: model.regularization_loss().backward()] * 4)
        agree(weight.grad, 4 * (0.1 * weight.sign() + 0.4 * weight), 1e-4)


def test_a_backward_pass_that_fails() -> None:
    """Leaves nothing for the next."""
    model, x = by_rules(), torch.randn(4, 7)

    def fail(*_: object) -> None:
        raise ArithmeticError

    hook = model.hidden_activation.register_full_backward_hook(fail)
    with pytest.raises(ArithmeticError):
        loss_of(model, x).backward()
    hook.remove()
    model.zero_grad()
    loss_of(model, x).backward()
    check_grads(model, wanted_gradients(model, x))


def embedding() -> tuple[Regularized, Tensor]:
    """A table with an L2, whose gradients are sparse, and tokens."""
    rule = {"types": ["Embedding"], "kernel_regularizer": {"l2": 0.1}}
    return ruled(nn.Sequential(nn.Embedding(11, 3, sparse=True)), rule), torch.tensor([[1, 2], [3, 3]])


def test_sparse_gradients() -> None:
    """That of the penalty is dense, and so is the sum."""
    model, tokens = embedding()
    loss_of(model, tokens).backward()
    table = model[0].weight
    wanted = F.embedding(tokens, table).square().sum() + 0.1 * table.square().sum()
    agree(table.grad.to_dense(), torch.autograd.grad(wanted, table)[0])


# -- transforms --------------------------------------------------------------------------------------------------------


class Loss(nn.Module):
    """The data loss and the penalties of a model."""

    def __init__(self, model: Regularized) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return loss_of(self.model, x)


Parameters = dict[str, Tensor]


def functional(model: Regularized) -> Callable[[Parameters, Tensor], Tensor]:
    """The loss as a function of the model's parameters and its input."""
    loss = Loss(model)

    def call(parameters: Parameters, x: Tensor) -> Tensor:
        return torch.func.functional_call(loss, {f"model.{name}": each for name, each in parameters.items()}, (x,))

    return call


def parameters_of(model: nn.Module) -> Parameters:
    return {name: each.detach() for name, each in model.named_parameters()}


@either
def test_functional_gradients(make: Make) -> None:
    """Of other parameters than the model's own, which it keeps."""
    model, other, x = make(), make(), torch.randn(4, 7)
    nn.init.normal_(other.hidden.weight)
    gradients, value = torch.func.grad_and_value(functional(model))(parameters_of(other), x)
    agree(value, wanted_loss(other, x))
    agree([*gradients.values()], wanted_gradients(other, x), 1e-4)
    check(model)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")  # torch's own, when it is imported
@either
@pytest.mark.parametrize("has_gradients", [True, False])
def test_dual_numbers(make: Make, has_gradients: bool) -> None:
    """The derivative along a direction, by forward mode, which goes on under `no_grad`."""
    model, x = make(), torch.randn(4, 7)
    wanted = wanted_gradients(model, x)
    tangents = [torch.randn_like(each) for each in model.parameters()]
    call = functional(model)
    with torch.set_grad_enabled(has_gradients), forward_ad.dual_level():
        given = zip(parameters_of(model).items(), tangents, strict=True)
        loss = call({name: forward_ad.make_dual(each, tangent) for (name, each), tangent in given}, x)
        value, derivative = forward_ad.unpack_dual(loss)
        agree(value, wanted_loss(model, x))
        agree(derivative, sum((own * tangent).sum() for own, tangent in zip(wanted, tangents, strict=True)), 1e-4)
    check(model)


@either
def test_an_ensemble(make: Make) -> None:
    """Values and gradients of several models at once."""
    models, x = [make() for _ in range(3)], torch.randn(4, 7)
    for model in models:
        nn.init.normal_(model.hidden.weight)
    parameters, _ = torch.func.stack_module_state(models)
    differentiate = torch.func.grad_and_value(functional(models[0]))
    gradients, values = torch.func.vmap(differentiate, (0, None))(parameters, x)
    agree(values, torch.stack([wanted_loss(model, x) for model in models]))
    wanted = [torch.stack(each) for each in zip(*(wanted_gradients(model, x) for model in models), strict=True)]
    agree([*gradients.values()], wanted, 1e-4)
    check(models[0])


@either
def test_gradients_of_each_example(make: Make) -> None:
    model, x = make(), torch.randn(4, 7)
    loss = functional(model)
    differentiate = torch.func.grad(lambda parameters, one: loss(parameters, one[None]))
    gradients = torch.func.vmap(differentiate, (None, 0))(parameters_of(model), x)
    wanted = [torch.stack(each) for each in zip(*(wanted_gradients(model, one[None]) for one in x), strict=True)]
    agree([*gradients.values()], wanted, 1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")  # torch's own, when it is imported
def test_hessians() -> None:
    """Of an L2 and a linear data loss: by forward over reverse mode, and by all rows of a double backward at once."""
    model, x = (
        ruled(nn.Linear(7, 1, bias=False), {"parameters": "weight", "regularizer": {"l2": 0.2}}),
        torch.ones(2, 7),
    )
    weight, wanted = model.weight, 0.4 * torch.eye(7)
    call = functional(model)
    hessian = torch.func.hessian(lambda weight: call({"weight": weight}, x))(weight.detach())
    agree(hessian.reshape(7, 7), wanted + 4)  # of the data loss, 2 * x.T @ x, where x has two rows of ones
    (gradient,) = torch.autograd.grad(model.regularization_loss(), weight, create_graph=True)
    (rows,) = torch.autograd.grad(gradient.flatten(), weight, torch.eye(7), is_grads_batched=True)
    agree(rows.reshape(7, 7), wanted)


def test_batched_gradients() -> None:
    model, factors = ruled(Net(), KERNEL), torch.tensor([1.0, 2.0])
    weight = model.hidden.weight
    got = torch.autograd.grad(model.regularization_loss(), weight, factors, is_grads_batched=True)[0]
    agree(got, factors[:, None, None] * (0.1 * weight.sign() + 0.4 * weight))


@fault("what was heard under vmap is kept, and asserts inside of torch fail when it is read", RuntimeError)
def test_penalties_that_nobody_read_under_vmap() -> None:
    """After it, a model has the penalties of its weights, and maybe those of the forward."""
    model, x = by_rules(), torch.randn(4, 7)
    parameters = {name: torch.stack([each, each]) for name, each in parameters_of(model).items()}
    torch.func.vmap(lambda p: torch.func.functional_call(model, p, (x,)).sum())(parameters)
    found, wanted = terms(model), written_out(model, x)[1]
    assert {"hidden.kernel", "logits.bias"} <= set(found)
    agree(found, {name: wanted[name] for name in found})


@fault("what was heard leaves the transform as an output of its graph", torch._dynamo.exc.BackendCompilerFailed)
def test_functional_gradients_compiled() -> None:
    torch._dynamo.reset()
    model, x = by_rules(), torch.randn(4, 7)
    model(x)
    loss = functional(model)
    step = torch.compile(lambda parameters, x: torch.func.grad(loss)(parameters, x), backend="aot_eager")
    agree([*step(parameters_of(model), x).values()], wanted_gradients(model, x), 1e-4)


# -- optimizers --------------------------------------------------------------------------------------------------------


def groups(net: nn.Module) -> list[dict[str, Any]]:
    """Biases apart, with a learning rate and a decay of their own."""
    weights, biases = (
        [each for each in net.parameters() if (each.ndim > 1) is is_weight] for is_weight in (True, False)
    )
    return [{"params": weights}, {"params": biases, "lr": 1e-3, "weight_decay": 0.05}]


OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "SGD": lambda net: SGD(net.parameters(), lr=0.01, momentum=0.9),
    "SGD, foreach": lambda net: SGD(net.parameters(), lr=0.01, momentum=0.9, foreach=True),
    "SGD, fused": lambda net: SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True),
    "SGD, groups": lambda net: SGD(groups(net), lr=0.01, momentum=0.9, weight_decay=0.1),
    "SGD, fused, groups": lambda net: SGD(groups(net), lr=0.01, fused=True),
    "Adam, foreach": lambda net: Adam(net.parameters(), lr=0.01, foreach=True),
    "Adam, fused, groups": lambda net: Adam(groups(net), lr=0.01, fused=True),
    "AdamW, groups": lambda net: AdamW(groups(net), lr=0.01, weight_decay=0.1),
}
DECOUPLED = ("AdamW, groups",)
GRADIENT = {"l1": "gradient", "l2": "gradient"}


@pytest.mark.parametrize(
    ("name", "routes"),
    [
        (name, routes)
        for name in OPTIMIZERS
        for routes in ({}, GRADIENT, {"l2": "decay"})
        if not (name in DECOUPLED and "decay" in routes.values())  # which is no gradient of an L2
    ],
    ids=str,
)
def test_optimizers(name: str, routes: dict[str, Any]) -> None:
    """Some steps, beside those of a network whose loss is written out."""
    model, plain = by_rules(), Net()
    plain.load_state_dict(model.state_dict())
    own, other = OPTIMIZERS[name](model), OPTIMIZERS[name](plain)
    regspec.bind(model, own, **routes)
    for _ in range(5):
        x = torch.randn(4, 7)
        for each, loss in ((own, partial(loss_of, model)), (other, partial(wanted_loss, plain))):
            each.zero_grad()
            loss(x).backward()
            each.step()
    agree(model.state_dict(), plain.state_dict(), 1e-4)


@pytest.mark.parametrize("routes", [{}, GRADIENT], ids=str)
def test_a_step_with_a_closure(routes: dict[str, Any]) -> None:
    model, x = by_rules(), torch.randn(4, 7)
    optimizer = SGD(model.parameters(), lr=0.1)
    regspec.bind(model, optimizer, **routes)
    wanted = stepped(model, wanted_gradients(model, x))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, x)
        loss.backward()
        return loss

    optimizer.step(closure)
    agree([*model.parameters()], wanted, 1e-4)


def test_lbfgs() -> None:
    """It calls its closure again and again, and ends where loss and penalty are least."""
    model, x = ruled(nn.Linear(7, 3, bias=False), {"parameters": "weight", "regularizer": {"l2": 0.5}}), torch.eye(7)
    optimizer, target = LBFGS(model.parameters(), line_search_fn="strong_wolfe", max_iter=50), torch.randn(7, 3)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(x) - target).square().sum() + model.regularization_loss()
        loss.backward()
        return loss

    optimizer.step(closure)
    agree(model.weight.T, target / 1.5, 1e-4)  # where the gradient of (w - t)**2 + 0.5 * w**2 is zero


@pytest.mark.parametrize("is_each_batch", [True, False])
@pytest.mark.parametrize("routes", [{}, GRADIENT], ids=str)
def test_gradients_accumulated_over_batches(routes: dict[str, Any], is_each_batch: bool) -> None:
    """A loss is divided by the number of batches, its penalties with it; a route adds its gradient once, at the step.

    There is a backward pass for each batch, or one for the sum of the losses.
    """
    model, xs = by_rules(), [torch.randn(4, 7) for _ in range(3)]
    optimizer = SGD(model.parameters(), lr=0.1)
    regspec.bind(model, optimizer, **routes)
    wanted = stepped(model, wanted_gradients(model, *xs))
    losses = []
    for x in xs:
        losses.append(loss_of(model, x) / len(xs))
        if is_each_batch:
            losses.pop().backward()
    if losses:
        sum(losses).backward()
    optimizer.step()
    agree([*model.parameters()], wanted, 1e-4)


def clipped(model: nn.Module, xs: list[Tensor], routes: dict[str, Any], norm: float = 0.5) -> list[Tensor]:
    """The parameters after a step whose gradients are clipped, but for those that a route adds after that."""
    added = [each if routes else 0 * each for each in weight_gradients(model)]
    gradients = [whole - later for whole, later in zip(wanted_gradients(model, *xs), added, strict=True)]
    factor = norm / torch.cat([each.flatten() for each in gradients]).norm()
    assert factor < 1
    return stepped(model, [each * factor + later for each, later in zip(gradients, added, strict=True)])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("routes", [{}, GRADIENT], ids=str)
def test_the_order_of_a_step(routes: dict[str, Any], fused: bool) -> None:
    """Scaled, accumulated, unscaled, clipped, stepped: penalties on the loss are clipped, those of a route are not."""
    model, xs = by_rules(), [torch.randn(4, 7) for _ in range(2)]
    optimizer = SGD(model.parameters(), lr=0.1, fused=fused)
    regspec.bind(model, optimizer, **routes)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    wanted = clipped(model, xs, routes)
    for x in xs:
        scaler.scale(loss_of(model, x) / len(xs)).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    scaler.step(optimizer)
    scaler.update()
    agree([*model.parameters()], wanted, 1e-4)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("routes", [{}, GRADIENT], ids=str)
def test_a_scaled_step(routes: dict[str, Any], fused: bool) -> None:
    """The scaler takes the scale out before the step, or a fused optimizer in it."""
    model, x = by_rules(), torch.randn(4, 7)
    optimizer = SGD(model.parameters(), lr=0.1, fused=fused)
    regspec.bind(model, optimizer, **routes)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    wanted = stepped(model, wanted_gradients(model, x))
    scaler.scale(loss_of(model, x)).backward()
    scaler.step(optimizer)
    agree([*model.parameters()], wanted, 1e-4)


@pytest.mark.parametrize(
    ("routes", "fused"),
    [
        *(({}, False), ({}, True), (GRADIENT, True), ({"l1": "proximal"}, False)),
        ({"l1": "proximal"}, True),
    ],
    ids=str,
)
def test_a_step_that_the_scaler_skips(routes: dict[str, Any], fused: bool) -> None:
    """Because a gradient is infinite."""
    model = by_rules()
    optimizer = SGD(model.parameters(), lr=0.1, fused=fused)
    regspec.bind(model, optimizer, **routes)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = copy.deepcopy(model.state_dict())
    scaler.scale(loss_of(model, torch.randn(4, 7)) * torch.inf).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 512
    agree(model.state_dict(), before, 0)


def test_a_route_to_sparse_gradients() -> None:
    model, tokens = embedding()
    table, optimizer = model[0].weight, SGD(model.parameters(), lr=0.1)
    regspec.bind(model, optimizer, l2="gradient")
    counts = torch.bincount(tokens.flatten(), minlength=11)[:, None]
    wanted = table.detach() - 0.1 * (counts + 0.2 * table.detach())
    model(tokens).sum().backward()
    optimizer.step()
    agree(table, wanted)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
def test_copies_of_a_bound_model(duplicate: Callable[[Regularized], Regularized]) -> None:
    """They have all on the loss, and can be bound."""
    model = by_rules()
    regspec.bind(model, SGD(model.parameters(), lr=0.1), l2="decay")
    other = duplicate(model)
    check(other)
    regspec.bind(other, SGD(other.parameters(), lr=0.1), l2="decay")


# -- Lightning ---------------------------------------------------------------------------------------------------------


class Training(lightning.LightningModule):
    """The sum of squares and the penalties, by whatever module has them."""

    def __init__(self, model: nn.Module, routes: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.routes = model, routes

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return self.model(batch[0]).square().sum() + regspec.regularization_loss(self)

    def configure_optimizers(self) -> Optimizer:
        optimizer = SGD(self.parameters(), lr=0.1)
        regspec.bind(self, optimizer, **self.routes)
        return optimizer


@pytest.fixture
def _quiet() -> Iterator[None]:
    """Lightning says a few lines about the machine."""
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


def fit(module: lightning.LightningModule, xs: list[Tensor], **options: Any) -> None:
    """One step, of a batch or several."""
    shown = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", **dict.fromkeys(shown, False), **options)
    data = DataLoader(TensorDataset(torch.cat(xs)), batch_size=len(xs[0]))
    trainer.fit(module, data)


def in_lightning(test: Callable[..., None]) -> Callable[..., None]:
    """The test without what Lightning says and warns of."""
    warned = ("does not have many workers", "isinstance.treespec")
    quiet = pytest.mark.filterwarnings(*(f"ignore:.*{each}" for each in warned))(test)
    return pytest.mark.usefixtures("_quiet")(quiet)


@in_lightning
@pytest.mark.parametrize("routes", [{}, GRADIENT], ids=str)
@pytest.mark.parametrize("batches", [1, 2])
def test_lightning(batches: int, routes: dict[str, Any]) -> None:
    """Gradients that are accumulated and clipped."""
    model, xs = by_rules(), [torch.randn(4, 7) for _ in range(batches)]
    wanted = clipped(model, xs, routes)
    fit(Training(model, routes), xs, accumulate_grad_batches=batches, gradient_clip_val=0.5)
    agree([*model.parameters()], wanted, 1e-4)


@in_lightning
def test_rules_for_a_lightning_module() -> None:
    """Its training step is no forward, so its network is what takes rules."""
    rules = [
        {kind: rf"model\.{value}" if kind in ("parameters", "modules") else value for kind, value in rule.items()}
        for rule in (KERNEL, HIDDEN, BIAS, LOGITS)
    ]
    with pytest.raises(RuntimeError, match="computed outside of the model's own call"):
        fit(ruled(Training(Net(), {}), *rules), [torch.randn(4, 7)])
