"""What routes do with what an optimizer and its parameters hold: the names of parameters, sparse gradients."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Adam, Optimizer

import regspec

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
        for other in [*pair.second._bindings]:
            other.remove()
        assert listed(optimizer)[:2] == before
    stepped(pair, optimizer)
    check_names(pair, optimizer)


def test_an_optimizer_without_names_gets_none() -> None:
    pair = Pair()
    optimizer = Adam(pair.parameters())
    regspec.bind(pair.first, optimizer, l2="decay").remove()
    assert all("param_names" not in group for group in optimizer.param_groups)
