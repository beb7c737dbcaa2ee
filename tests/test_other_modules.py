"""Rules on modules of other classes than torch's own: which weights are computed, and what two terms are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import regspec


class Own(nn.Module):
    """Has these parameters, buffers and plain tensors."""

    def __init__(self, *parameters: str, buffers: tuple[str, ...] = (), plain: tuple[str, ...] = ()) -> None:
        super().__init__()
        for name in parameters:
            self.register_parameter(name, nn.Parameter(torch.randn(3, 2)))
        for name in buffers:
            self.register_buffer(name, torch.randn(3, 2))
        for name in plain:
            setattr(self, name, torch.randn(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x


class Log:
    """A hook with a name, as those have that compute weights."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, module: nn.Module, args: Any) -> None:
        pass


def with_hook(module: nn.Module, name: str) -> nn.Module:
    module.register_forward_pre_hook(Log(name))
    return module


def without(module: nn.Module, name: str) -> nn.Module:
    module.register_parameter(name, None)
    return module


# -- parameters that are called as those are from which a weight is computed ------------------------------------------

ENDINGS = ("_v", "_orig", "_g", "_u")
ALIKE: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {  # the kernels and biases by plain tensors of the module
    **{f"beside weight{end}": (lambda end=end: Own("weight", f"weight{end}"), {"weight"}) for end in ENDINGS},
    **{
        f"weight{end} and a buffer": (lambda end=end: Own(f"weight{end}", "bias", buffers=("weight",)), {"bias"})
        for end in ENDINGS
    },
    **{
        f"weight{end} and a plain tensor": (lambda end=end: Own(f"weight{end}", "bias", plain=("weight",)), {"bias"})
        for end in ENDINGS
    },
    **{
        f"weight{end} and none": (lambda end=end: without(Own(f"weight{end}", "bias"), "weight"), {"bias"})
        for end in ENDINGS
    },
    "a hook of that name": (lambda: with_hook(Own("weight", "weight_v"), "weight"), {"weight"}),
    "a hook of another name": (lambda: with_hook(Own("weight"), "forward"), {"weight"}),
    "pruned": (lambda: prune.l1_unstructured(Own("weight", "bias"), "weight", 2), {"weight", "bias"}),
    "both pruned": (
        lambda: prune.l1_unstructured(prune.l1_unstructured(Own("weight", "bias"), "bias", 3), "weight", 2),
        {"weight", "bias"},
    ),
    "one pruned and one parametrized": (
        lambda: prune.l1_unstructured(parametrizations.weight_norm(Own("weight", "bias"), "bias"), "weight", 2),
        {"weight", "bias"},
    ),
}


@pytest.mark.parametrize(("make", "names"), ALIKE.values(), ids=ALIKE)
def test_what_is_computed(make: Callable[[], nn.Module], names: set[str]) -> None:
    """By parametrizations and by hooks; the name of a parameter tells nothing."""
    torch.manual_seed(0)
    model = nn.Sequential(make())
    regspec.regularize(model, [{"modules": "0", "kernel_regularizer": {"l2": 0.3}, "bias_regularizer": {"l2": 0.3}}])
    wanted = {f"0.{name}": 0.3 * getattr(model[0], name).square().sum() for name in names}
    torch.testing.assert_close(model.regularization_terms(), wanted)


def test_one_that_is_not_computed_is_not_found() -> None:
    model = nn.Sequential(Own("weight_v", buffers=("weight",)))
    with pytest.raises(regspec.RegspecError, match="Own has no kernel of its own"):
        regspec.regularize(model, [{"types": ["Own"], "kernel_regularizer": "l2"}])


# -- terms of one name -------------------------------------------------------------------------------------------------


def recurrent() -> nn.Module:
    made = nn.LSTM(3, 2)
    made.register_parameter("bias_l0", nn.Parameter(torch.randn(5)))
    return made


CLASHES: dict[str, tuple[Callable[[], nn.Module], list[dict[str, Any]], str]] = {
    "a parameter and an output": (
        lambda: Own("activity"),
        [{"parameters": ".*activity", "regularizer": "l2"}, {"types": ["Own"], "activity_regularizer": "l2"}],
        "this rule and rule 1 give two terms the name '0.activity'",
    ),
    "a parameter and a sum": (
        recurrent,
        [{"parameters": ".*bias_l0", "regularizer": "l2"}, {"types": ["LSTM"], "bias_regularizer": "l2"}],
        "this rule and rule 2 give two terms the name '0.bias_l0'",
    ),
    "a term that there is": (
        lambda: regspec.regularize(Own("weight"), [{"types": ["Own"], "kernel_regularizer": "l2"}]),
        [{"types": ["Own"], "kernel_regularizer": "l1"}],
        "there is a term '0.weight' already",
    ),
}


@pytest.mark.parametrize(("make", "rules", "message"), CLASHES.values(), ids=CLASHES)
def test_two_terms_of_one_name(make: Callable[[], nn.Module], rules: list[dict[str, Any]], message: str) -> None:
    """Nothing is changed then."""
    model = nn.Sequential(make())
    hooks = len(model[0]._forward_hooks)
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.regularize(model, rules)
    assert type(model) is nn.Sequential
    assert len(model[0]._forward_hooks) == hooks
