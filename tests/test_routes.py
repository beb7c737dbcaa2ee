"""What routes do with what an optimizer and its parameters hold, and what is then left on the loss to be read."""

from __future__ import annotations

import copy
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

import regspec
from regspec import runtime

L2 = {"types": ["Linear"], "kernel_regularizer": {"l2": 0.2}}

# -- the names of an optimizer's parameters ----------------------------------------------------------------------------


class Pair(nn.Module):
    """Parameters of six different shapes, so that no two can be taken for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = regspec.regularize(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), [L2])
        self.second = regspec.regularize(nn.Sequential(nn.Linear(5, 7)), [L2])


def made() -> tuple[Pair, Adam]:
    """A model, and an optimizer with two groups of named parameters, in an order of the user's own."""
    pair = Pair()
    named = [*pair.named_parameters()]
    return pair, Adam([{"params": named[:1:-1], "lr": 0.1}, {"params": named[:2]}], lr=0.01)


def stepped(pair: nn.Module, optimizer: Optimizer) -> None:
    for parameter in pair.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def check_names(pair: nn.Module, optimizer: Optimizer) -> None:
    """Each parameter has its own name beside it, and its own state under that name."""
    known = dict(pair.named_parameters())
    names = [name for group in optimizer.param_groups for name in group["param_names"]]
    assert sorted(names) == sorted(known)
    for group in optimizer.param_groups:
        assert [id(known[name]) for name in group["param_names"]] == [id(each) for each in group["params"]]
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        for index, name in zip(group["params"], group["param_names"], strict=True):
            if index in saved["state"]:
                assert saved["state"][index]["exp_avg"].shape == known[name].shape


def listed(optimizer: Optimizer) -> list[tuple[list[int], list[str]]]:
    return [([id(each) for each in group["params"]], group["param_names"]) for group in optimizer.param_groups]


def saved(pair: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(pair, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def as_it_is(pair: Pair, optimizer: Adam) -> Any:
    return pair, optimizer


def with_another_model(pair: Pair, optimizer: Adam) -> Any:
    regspec.bind(pair.second, optimizer, l2="decay")
    return pair, optimizer


def with_a_group_more(pair: Pair, optimizer: Adam) -> Any:
    pair.third = nn.Linear(6, 8)
    optimizer.add_param_group({"params": [(f"third.{name}", each) for name, each in pair.third.named_parameters()]})
    regspec.bind(pair.second, optimizer, l2="decay")
    return pair, optimizer


def with_a_loaded_state(pair: Pair, optimizer: Adam) -> Any:
    optimizer.load_state_dict(optimizer.state_dict())
    return pair, optimizer


def with_a_state_without_names(pair: Pair, optimizer: Adam) -> Any:
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["param_names"]
    optimizer.load_state_dict(state)
    return pair, optimizer


SINCE = [
    as_it_is,
    with_another_model,
    with_a_group_more,
    with_a_loaded_state,
    with_a_state_without_names,
    lambda *each: copy.deepcopy(each),
    lambda *each: saved(each),
]
SINCE_IDS = ["as it is", "another model", "a group more", "a loaded state", "no names", "deepcopy", "saved"]


@pytest.mark.parametrize("is_stepped", [False, True])
@pytest.mark.parametrize("since", SINCE, ids=SINCE_IDS)
def test_names_of_parameters_on_the_decay_route(since: Callable[..., Any], is_stepped: bool) -> None:
    """They go with their parameters, into groups of their own and back."""
    pair, optimizer = made()
    before = listed(optimizer)
    binding = regspec.bind(pair.first, optimizer, l2="decay")
    check_names(pair, optimizer)
    if is_stepped:
        stepped(pair, optimizer)
    pair, optimizer = since(pair, optimizer)
    check_names(pair, optimizer)
    if since in SINCE[:5]:
        binding.remove()
        check_names(pair, optimizer)
        for other in [*pair.second._regspec.bindings]:
            other.remove()
        assert listed(optimizer)[:2] == before
    stepped(pair, optimizer)
    check_names(pair, optimizer)


def test_an_optimizer_without_names_gets_none() -> None:
    pair = Pair()
    optimizer = Adam(pair.parameters())
    regspec.bind(pair.first, optimizer, l2="decay").remove()
    assert all("param_names" not in group for group in optimizer.param_groups)


# -- gradients that lie there already ----------------------------------------------------------------------------------


def norms(x: Tensor, dim: int) -> Tensor:
    return x.square().sum(dim).sqrt()


def cosines(x: Tensor) -> Tensor:
    rows = x / norms(x, 1)[:, None]
    pairs = torch.combinations(torch.arange(len(x)))
    return (rows[pairs[:, 0]] * rows[pairs[:, 1]]).sum(1).abs().mean()


# what each is for a table of 5 vectors of 3 numbers, which are the outputs
OF_A_TABLE: dict[str, tuple[Any, Callable[[Tensor], Tensor]]] = {
    "l1": ({"l1": 0.3}, lambda x: 0.3 * x.abs().sum()),
    "l2": ({"l2": 0.3}, lambda x: 0.3 * x.square().sum()),
    "l1 and l2": ({"l1": 0.3, "l2": 0.2}, lambda x: 0.3 * x.abs().sum() + 0.2 * x.square().sum()),
    "norm": ({"norm": 0.3}, lambda x: 0.3 * norms(x.flatten(), 0)),
    "group_lasso": ({"group_lasso": 0.3}, lambda x: 0.3 * 5**0.5 * norms(x, 0).sum()),
    "orthogonal": ({"orthogonal": 0.3}, lambda x: 0.3 * cosines(x)),
    "hoyer": ({"hoyer": 0.3}, lambda x: 0.3 * x.abs().sum().square() / x.square().sum()),
    "spectral": ({"spectral": 0.3}, lambda x: 0.3 * torch.linalg.svdvals(x).max()),
}


def sparse_ones() -> Tensor:
    """Ones for two of the vectors, one of which is there twice."""
    return torch.sparse_coo_tensor([[1, 3, 1]], torch.ones(3, 3), (5, 3), check_invariants=True)


GIVEN: dict[str, Callable[[Tensor], Tensor | None]] = {
    "sparse": lambda x: sparse_ones(),
    "coalesced": lambda x: sparse_ones().coalesce(),
    "dense": torch.ones_like,
    "none": lambda x: None,
}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("name", OF_A_TABLE)
def test_the_gradient_route_adds_to_what_is_there(name: str, given: str) -> None:
    """An embedding may have a sparse gradient, or none; the sum is dense."""
    rule, penalty = OF_A_TABLE[name]
    model = regspec.regularize(nn.Embedding(5, 3), [{"types": ["Embedding"], "kernel_regularizer": rule}])
    table = model.weight
    optimizer = SGD([table], lr=0.1)
    regspec.bind(model, optimizer, terms={"weight": "gradient"})
    own = table.detach().clone().requires_grad_()
    wanted = torch.autograd.grad(penalty(own), own)[0]
    table.grad = GIVEN[given](table.detach())
    if table.grad is not None:
        wanted = wanted + table.grad.to_dense()
    optimizer.step()
    torch.testing.assert_close(table.grad, wanted)
    torch.testing.assert_close(table.detach(), own.detach() - 0.1 * wanted)


@pytest.mark.parametrize("kind", ["l2", "group_lasso"])
def test_a_view_is_added_to_where_another_weight_has_no_gradient(kind: str) -> None:
    model = regspec.regularize(
        nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)),
        [{"types": ["Linear"], "kernel_regularizer": {kind: 0.2}}],
    )
    optimizer = SGD(model.parameters(), lr=0.1)
    regspec.bind(model, optimizer, **{kind: "gradient"})
    buffer = torch.zeros(12)
    model[0].weight.grad = buffer.view(4, 3)
    optimizer.step()
    assert model[0].weight.grad.data_ptr() == buffer.data_ptr()
    assert buffer.abs().min() > 0


# -- the proximal step -------------------------------------------------------------------------------------------------


def slices(x: Tensor, dim: int) -> list[Tensor]:
    """Views of the groups."""
    return [x.select(dim, index) for index in range(x.shape[dim])]


def of_blocks(x: Tensor) -> list[Tensor]:
    """Of two blocks, each with groups of its own along the second dimension."""
    return [group for block in x.chunk(2) for group in slices(block, 1)]


def numbers(x: Tensor) -> list[Tensor]:
    return [*x.view(-1, 1)]


SHRUNK: dict[str, tuple[Any, tuple[int, ...], Callable[[Tensor], list[Tensor]]]] = {
    "l1": (runtime.L1(1.0), (3, 5), numbers),
    "by rows": (runtime.GroupLasso(1.0, dim=0), (3, 5), lambda x: slices(x, 0)),
    "by columns": (runtime.GroupLasso(1.0, dim=1), (3, 5), lambda x: slices(x, 1)),
    "by the last of three": (runtime.GroupLasso(1.0, dim=-1), (3, 5, 2), lambda x: slices(x, 2)),
    "of one axis": (runtime.GroupLasso(1.0), (5,), numbers),
    "of blocks": (runtime.GroupLassoOfBlocks(1.0, 2), (4, 3, 5), of_blocks),
}


def shrunk(regularizer: Any, x: Tensor) -> Tensor:
    """A weight after a proximal step of size one, and none of the optimizer's own."""
    model = runtime.Regularized()
    model.weight = nn.Parameter(x.clone())
    model.add_weight_terms(regularizer, {"weight": "weight"})
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    regspec.bind(model, optimizer, l1="proximal", group_lasso="proximal")
    model.weight.grad = torch.zeros_like(x)
    optimizer.step()
    return model.weight.detach()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("size", [1.0, 40000.0], ids=["small", "norms that float16 has no number for"])
@pytest.mark.parametrize("name", SHRUNK)
def test_a_soft_threshold(name: str, size: float, dtype: torch.dtype) -> None:
    """Of the norm of each group; those of a kind of regularizer are as in its penalty."""
    regularizer, shape, groups = SHRUNK[name]
    x = (size * torch.rand(shape) + size / 2).to(dtype)
    x[0] /= 64
    wanted = x.double().clone()
    for group in groups(wanted):
        group *= max(0.0, 1 - size / 4 * len(group.flatten()) ** 0.5 / group.norm().item())
    assert wanted.count_nonzero() < wanted.numel() or name not in ("l1", "by rows", "of one axis")
    torch.testing.assert_close(shrunk(replace(regularizer, strength=size / 4), x), wanted.to(dtype))
    norms = [len(group.flatten()) ** 0.5 * group.norm() for group in groups(x.double())]
    torch.testing.assert_close(regularizer(x).double(), sum(norms), rtol=1e-4, atol=0)


# -- what nobody has read ----------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Two layers of the same size, whose weights can be tied."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Any) -> Any:
        return self.b(self.a(x))


def of_spec(frozen: str) -> nn.Module:
    """A frozen layer, whose penalty counts in the sum, or does not."""
    layers = [
        {"Dense": {"name": "a", "units": 3, "trainable": False, "kernel_regularizer": "l2"}},
        {"Dense": {"name": "b", "units": 3, "kernel_regularizer": "l2"}},
    ]
    return regspec.build({"regspec": 1, "frozen_penalties": frozen, "inputs": {"x": {"shape": [3]}}, "layers": layers})


def of_rules(*changes: Callable[[Net], Any], **rule: Any) -> nn.Module:
    net = Net()
    for change in changes:
        change(net)
    return regspec.regularize(net, [{"types": ["Linear"], **(rule or L2)}])


def bound(model: nn.Module, *binds: dict[str, Any], opens: bool = False, steps: int = 0) -> Any:
    """The model and its optimizer, bound as often as is said; maybe open again after some steps."""
    optimizer = SGD([each for each in model.parameters() if each.requires_grad], lr=0.1)
    bindings = [regspec.bind(model, optimizer, **each) for each in binds]
    train(model, optimizer, steps)
    for each in bindings if opens else ():
        each.remove()
    return model, optimizer


def train(model: nn.Module, optimizer: Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()


def freeze(net: Any) -> None:
    net.a.requires_grad_(False)


def tie(pair: Any) -> Any:
    pair[0].b.weight = pair[0].a.weight
    return pair


def thaw(pair: Any) -> Any:
    pair[0].a.requires_grad_(True)
    pair[1].add_param_group({"params": [*pair[0].a.parameters()]})
    return pair


DECAY = {"l2": "decay"}
BOTH = {"kernel_regularizer": {"l1": 0.1, "l2": 0.2}}
OUTPUTS = {"kernel_regularizer": "l2", "activity_regularizer": "l2"}
UNREAD: dict[str, tuple[Callable[[], Any], str]] = {
    "on no route": (lambda: bound(of_rules()), "a.weight, b.weight"),
    "decay": (lambda: bound(of_rules(), DECAY), ""),
    "gradient": (lambda: bound(of_rules(), {"l2": "gradient"}), ""),
    "proximal": (lambda: bound(of_rules(kernel_regularizer="l1"), {"l1": "proximal"}), ""),
    "one of two": (lambda: bound(of_rules(), {"terms": {"a.weight": "decay"}}), "b.weight"),
    "a part of each": (lambda: bound(of_rules(**BOTH), DECAY), "a.weight, b.weight"),
    "all parts": (lambda: bound(of_rules(**BOTH), {"l1": "proximal", "l2": "decay"}), ""),
    "outputs on the loss": (lambda: bound(of_rules(**OUTPUTS), DECAY), "a.activity, b.activity"),
    "outputs with the gradient": (lambda: bound(of_rules(**OUTPUTS), {"activity": "gradient", **DECAY}), ""),
    "frozen": (lambda: bound(of_rules(freeze), DECAY), ""),
    "frozen, on no route": (lambda: bound(of_rules(freeze)), "b.weight"),
    "frozen and counted": (lambda: bound(of_spec("counted"), DECAY), ""),
    "frozen and omitted": (lambda: bound(of_spec("omitted"), DECAY), ""),
    "frozen when it was bound": (lambda: thaw(bound(of_rules(freeze), DECAY)), "a.weight"),
    "tied": (lambda: tie(bound(of_rules(), {"l2": "gradient"})), ""),
    "tied, on no route": (lambda: tie(bound(of_rules())), "a.weight"),
    "tied before": (lambda: bound(tie((of_rules(),))[0], DECAY), ""),
    "put back": (lambda: bound(of_rules(), DECAY, opens=True), "a.weight, b.weight"),
    "put back after steps": (lambda: bound(of_rules(), DECAY, opens=True, steps=5), "a.weight, b.weight"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_nobody_has_read_is_what_is_on_the_loss(name: str) -> None:
    """A warning names what would train something if it were read, and nothing else."""
    make, terms = UNREAD[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, optimizer = make()
        assert not caught
        train(model, optimizer, 4)
    found = [re.findall(r"loss of (.+): add", str(each.message)) for each in caught]
    assert found == ([[terms]] if terms else [])


class Counting(nn.Module):
    """How often the weight is computed; a spectral norm takes a step of its power iteration each time."""

    calls = 0

    def forward(self, weight: Any) -> Any:
        self.calls += 1
        return weight


@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize("route", ["loss", "gradient"])
def test_no_weight_is_computed_to_see_what_nobody_has_read(route: str, is_frozen: bool) -> None:
    counting = Counting()
    model = of_rules(
        lambda net: nn.utils.parametrizations.spectral_norm(net.a),
        lambda net: nn.utils.parametrize.register_parametrization(net.a, "weight", counting),
        *[freeze] * is_frozen,
    )
    bound(model, *[{"l2": "gradient"}] * (route == "gradient"))
    y = model(torch.ones(2, 3)).sum()
    counting.calls, before = 0, [each.clone() for each in model.buffers()]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        y.backward()
    assert counting.calls == 0
    torch.testing.assert_close([*model.buffers()], before, rtol=0, atol=0)
    named = [] if route == "gradient" else ["b.weight"] if is_frozen else ["a.weight, b.weight"]
    assert [re.findall(r"loss of (.+): add", str(each.message)) for each in caught] == [[each] for each in named]


def test_what_is_frozen_is_not_computed_to_be_left_out() -> None:
    counting = Counting()
    model = of_rules(lambda net: nn.utils.parametrize.register_parametrization(net.a, "weight", counting), freeze)
    counting.calls = 0
    assert [*model.regularization_terms()] == ["b.weight"]
    assert counting.calls == 0


def test_no_backward_is_stopped_by_a_weight_that_is_gone() -> None:
    """Who reads its penalty is told so."""
    model = of_rules()
    model.a = nn.Identity()
    with pytest.warns(UserWarning, match=r"regularization loss of b\.weight: add"):
        model(torch.ones(2, 3)).sum().backward()
    with pytest.raises(RuntimeError, match="is gone"):
        model.regularization_loss()
