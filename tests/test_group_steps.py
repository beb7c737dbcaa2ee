"""Proximal steps of groups, by numba and by torch, against roots that bisection finds in float64.

A step minimizes ``sum((w - x)**2 / t) / 2 + sum(norm(w))`` over groups. So a group is zero where the norm of ``x / t``
is at most 1, and else ``w = x * n / (n + t)``, where n is the norm of w.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from regspec.runtime import GroupLasso, GroupLassoOfBlocks, Slices, backend
from regspec.runtime.kernels.groups.places import Groups, Place, share_of
from regspec.runtime.kernels.groups.shrinking import Shrinking
from regspec.runtime.kernels.thresholds import StepSize

BACKENDS = [
    "torch",
    pytest.param("numba", marks=pytest.mark.skipif(find_spec("numba") is None, reason="there is no numba")),
]
STRENGTH = 0.7


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    backend("auto")


@dataclass(frozen=True)
class Lying:
    """A tensor in which groups lie, what gives the view of it by groups, and its rows, written by hand."""

    make: Callable[[], Tensor]
    view: Any
    rows: Callable[[Tensor], Tensor]


ROWS = Slices("x")
# Groups that lie in one tensor, or together in several.
LYING = {
    "rows of several": [
        Lying(lambda: torch.randn(7, 2501), ROWS, lambda x: x),
        Lying(lambda: torch.randn(7), ROWS, lambda x: x[:, None]),
        Lying(lambda: torch.randn(7, 3, 2), ROWS, lambda x: x.reshape(7, 6)),
    ],
    "columns beside gates": [
        Lying(lambda: torch.randn(5, 7, 3, 2), GroupLasso(1.0, dim=1), lambda x: x.movedim(1, 0).reshape(7, 30)),
        Lying(lambda: torch.randn(28, 3), Slices("x", parts=4), lambda x: torch.stack(x.chunk(4), 1).reshape(7, 12)),
    ],
    "a part, several of each": [
        Lying(lambda: torch.randn(18, 3), Slices("x", start=2, stop=16, each=2), lambda x: x[2:16].reshape(7, 6))
    ],
    "channels last": [
        Lying(lambda: torch.randn(7, 5, 3, 2).to(memory_format=torch.channels_last), ROWS, lambda x: x.reshape(7, 30))
    ],
    "transposed": [Lying(lambda: torch.randn(5, 7).T, ROWS, lambda x: x)],
    "channels of blocks": [
        Lying(
            lambda: torch.randn(6, 7, 2),
            GroupLassoOfBlocks(1.0, 3, dim=1),
            lambda x: x.reshape(3, 2, 7, 2).movedim(2, 1).reshape(21, 4),
        )
    ],
    "one number each": [Lying(lambda: torch.randn(9), GroupLasso(1.0), lambda x: x[:, None])],
}
# By the index of a tensor: the size of a step.
SIZES: dict[str, Callable[[int, Tensor], StepSize]] = {
    "of each": lambda index, x: StepSize(0.2, (10 ** (4 * torch.rand_like(x) - 1),), scale=0.5, eps=1e-3),
    "computed": lambda index, x: StepSize(0.5, (torch.rand_like(x), torch.rand_like(x)), torch.add),
    "of all": lambda index, x: StepSize(0.3),
    "of the second another": lambda index, x: StepSize(0.3 / (1 + index)),
    "the second stays": lambda index, x: StepSize(0.5, (torch.rand_like(x),)) if index != 1 else StepSize(0.0),
}


def shrink_twice(lying: list[Lying], made: list[list[Tensor]], sizes: list[list[StepSize]], low: bool) -> None:
    """Two steps, each of other tensors that the same parameters have then: what is kept of them must not hold."""
    places = [Place(x.clone(), each.view.by_groups) for each, x in zip(lying, made[0], strict=True)]
    shrinking = Shrinking(places)
    for own, of_step in zip(made, sizes, strict=True):
        groups: Groups = []
        for place, x, size in zip(places, own, of_step, strict=True):
            place.x.data = x
            groups.append(share_of(place, size, STRENGTH, low))
        shrinking.act([groups])


def wanted(x: Tensor, t: Tensor) -> Tensor:
    """The rows after a step, by bisection."""
    low, high = torch.zeros(len(x), 1, dtype=torch.float64), x.norm(dim=1, keepdim=True)
    for _ in range(200):
        middle = (low + high) / 2
        is_below = (x / (middle + t)).norm(dim=1, keepdim=True) > 1
        low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
    is_zero = torch.where(x == 0, 0, x / t).norm(dim=1, keepdim=True) <= 1
    return torch.where(is_zero, 0, x * high / (high + t))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("sized", SIZES)
@pytest.mark.parametrize("name", LYING)
@pytest.mark.parametrize("chosen", BACKENDS)
def test_steps(chosen: str, name: str, sized: str, dtype: torch.dtype) -> None:
    backend(chosen)
    torch.manual_seed(1)
    lying, low = LYING[name], sized == "computed"
    made = [[each.make().to(dtype) for each in lying] for _ in range(2)]
    for own in made:  # groups of zeros, and small ones
        for each, x in zip(lying, own, strict=True):
            each.view.by_groups(x)[:, 0] *= 0
            each.view.by_groups(x)[:, 1:3] *= 1e-3
    sizes = [[SIZES[sized](index, x) for index, x in enumerate(own)] for own in made]
    before = [[x.double().clone() for x in own] for own in made]
    shrink_twice(lying, made, sizes, low)
    for own, old, of_step in zip(made, before, sizes, strict=True):
        rows, values, thresholds = [], [], []
        for each, x, start, size in zip(lying, own, old, of_step, strict=True):
            squares = [k.double() for k in size.kept]
            root = (squares[0] if size.squares is None else size.squares(*squares)).sqrt() if squares else 0.0
            t = size.rate * STRENGTH / (size.scale * root + size.eps) if squares else size.rate * STRENGTH
            rows.append(each.rows(x).double())
            values.append(each.rows(start.clamp_min(0) if low else start))
            thresholds.append(each.rows(torch.as_tensor(t, dtype=torch.float64).expand(start.shape)))
        ended = wanted(torch.cat(values, 1), torch.cat(thresholds, 1))
        is_zero = ended.norm(dim=1) == 0
        assert 0 < is_zero.sum() < len(ended)
        error = 1e-6 if dtype is torch.float32 else 1e-13
        torch.testing.assert_close(torch.cat(rows, 1), ended, rtol=error, atol=error)
        assert torch.equal(torch.cat(rows, 1).norm(dim=1) == 0, is_zero)
        for x, start, size in zip(own, old, of_step, strict=True):
            assert size.rate or torch.equal(x.double(), start)
