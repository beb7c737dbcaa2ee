"""No penalty is lost in silence where an output was not heard, or nobody reads the loss."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regspec
from regspec.runtime import Regularized

from .net import ruled


class Loud(nn.Module):
    """A part that is heard more often than once in a forward, and one that the forward does not call."""

    def __init__(self, loud: nn.Module, calls: int = 1) -> None:
        super().__init__()
        self.loud, self.calls = loud, calls
        self.silent = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.calls):
            found = self.loud(x)
            x = found[0] if isinstance(found, tuple) else found
        return x


LOUD: dict[str, Callable[[], Loud]] = {
    "once": lambda: Loud(nn.Linear(3, 3)),
    "called twice": lambda: Loud(nn.Linear(3, 3), calls=2),
    "of several tensors": lambda: Loud(nn.LSTM(3, 3)),
    "not at all": lambda: Loud(nn.Identity(), calls=0),
}


def called_outside(model: Any) -> None:
    model(torch.randn(4, 3))
    model.silent(torch.randn(4, 3))


def replaced(model: Any) -> None:
    model.silent = nn.Linear(3, 3)
    model(torch.randn(4, 3))


def never_called(model: Any) -> None:
    model(torch.randn(4, 3))


Outcome = Callable[[], AbstractContextManager[Any]]
REASONS: dict[str, tuple[Callable[[Any], None], Outcome]] = {
    "called outside": (
        called_outside,
        lambda: pytest.raises(RuntimeError, match=r"output of silent\.activity was computed outside"),
    ),
    "replaced": (
        replaced,
        lambda: pytest.raises(RuntimeError, match=r"^silent\.activity: the module .* is no longer in the model"),
    ),
    "never called": (
        never_called,
        lambda: pytest.warns(UserWarning, match=r"silent\.activity: nothing was heard"),
    ),
}
READERS: dict[str, Callable[[Regularized], object]] = {
    "the loss": lambda model: model.regularization_loss(),
    "the terms": lambda model: model.regularization_terms(),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("accumulates", [False, True])
@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("loud", LOUD)
def test_an_output_that_was_not_heard(loud: str, reason: str, accumulates: bool, reader: str) -> None:
    """However often others were."""
    rules = {"modules": "silent|loud", "activity_regularizer": {"l2": 0.1}, "output": "all"}
    model = ruled(LOUD[loud](), rules if loud != "not at all" else {**rules, "modules": "silent"})
    happens, outcome = REASONS[reason]
    with regspec.accumulate(model) if accumulates else nullcontext():
        happens(model)
        if accumulates:
            happens(model)
    with outcome():
        READERS[reader](model)


# -- a loss that nobody reads ------------------------------------------------------------------------------------------


class Whole(nn.Module):
    """With a part that has a penalty, in one that has none."""

    def __init__(self) -> None:
        super().__init__()
        self.around = nn.Sequential(ruled(nn.Linear(7, 5), {"types": ["Linear"], "kernel_regularizer": "l2"}))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.around(x))


READ_BY: dict[str, tuple[Callable[[Any], Any], list[str]]] = {  # and what is then unread of the part and the whole
    "the loss": (lambda model: model.regularization_loss(), []),
    "the terms": (lambda model: model.regularization_terms(), []),
    "a warning": (lambda model: model(torch.ones(2, 7)).sum().backward(), ["head.weight, around.0.weight"]),
    "the loss of the part": (lambda model: model.around[0].regularization_loss(), ["head.weight, around.0.weight"]),
    "nothing": (lambda model: None, ["weight", "head.weight, around.0.weight"]),
}


@pytest.mark.parametrize("name", READ_BY)
def test_a_part_that_is_read_through_the_whole(name: str) -> None:
    """It may be called by itself, as an encoder is."""
    model = ruled(Whole(), {"modules": "head", "kernel_regularizer": "l2"})
    read, unread = READ_BY[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(model)
        for called in (model.around[0], model):
            called(torch.ones(2, 7)).sum().backward()
    assert [re.findall(r"loss of (.+): add", str(each.message)) for each in caught] == [[each] for each in unread]
