"""Every regularizer and constraint against its formula, in NumPy, and against Keras where Keras has it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import Tensor

from regspec import runtime

from .regularizers import NAMES, class_of

RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((5, 4))  # torch's layout: outputs first
KERNEL = RNG.standard_normal((5, 4, 3, 2))


def columns(array: np.ndarray) -> np.ndarray:
    """The weight as Keras's matrix: a column for each output."""
    return array.reshape(len(array), -1).T


def orthogonal(rows: np.ndarray) -> float:
    """Keras's formula: the mean of the absolute cosines between pairs of rows."""
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = [abs(rows[i] @ rows[j]) for i in range(len(rows)) for j in range(i)]
    return float(np.sum(pairs) / len(pairs))


def divergence(activity: np.ndarray, target: float) -> float:
    """The sum over units, which lie along the last axis, of KL(target || mean activity), which is cut to 0…1."""
    rate = activity.mean(axis=tuple(range(activity.ndim - 1))).clip(1e-7, 1 - 1e-7)
    return float((target * np.log(target / rate) + (1 - target) * np.log((1 - target) / (1 - rate))).sum())


def gaussian_kl(mean: np.ndarray, log_var: np.ndarray) -> float:
    """Kingma and Welling (2014), appendix B."""
    return float(-0.5 * (1 + log_var - mean**2 - np.exp(log_var)).sum())


# The regularizer, and its formula.
CASES: dict[str, tuple[Any, Callable[[Any], float]]] = {
    "L1": (runtime.L1(0.3), lambda w: 0.3 * np.abs(w).sum()),
    "L2": (runtime.L2(0.3), lambda w: 0.3 * (w**2).sum()),
    "L1L2": (runtime.L1L2(0.3, 0.2), lambda w: 0.3 * np.abs(w).sum() + 0.2 * (w**2).sum()),
    "Norm": (runtime.Norm(0.3), lambda w: 0.3 * np.sqrt((w**2).sum())),
    "Hoyer": (runtime.Hoyer(0.3), lambda w: 0.3 * np.abs(w).sum() ** 2 / (w**2).sum()),
    "Spectral": (runtime.Spectral(0.3), lambda w: 0.3 * np.linalg.svd(columns(w))[1].max()),
    "GroupLasso output": (
        runtime.GroupLasso(0.3, dim=0),
        lambda w: 0.3 * sum(np.sqrt(each.size) * np.linalg.norm(each) for each in w),
    ),
    "GroupLasso input": (
        runtime.GroupLasso(0.3, dim=1),
        lambda w: 0.3 * sum(np.sqrt(w[:, i].size) * np.linalg.norm(w[:, i]) for i in range(w.shape[1])),
    ),
    "Orthogonal rows": (runtime.Orthogonal(0.3), lambda w: 0.3 * orthogonal(columns(w))),
    "Orthogonal columns": (runtime.Orthogonal(0.3, mode="columns"), lambda w: 0.3 * orthogonal(columns(w).T)),
    "KLSparsity": (runtime.KLSparsity(0.3, target=0.1), lambda w: 0.3 * divergence(w, 0.1)),
    "GaussianKL": (runtime.GaussianKL(0.3), lambda w: 0.3 * gaussian_kl(*np.split(w, 2, axis=-1))),
    "GaussianKL of the second": (
        runtime.GaussianKL(0.3, dim=1),
        lambda w: 0.3 * gaussian_kl(*np.split(w, 2, axis=1)),
    ),
    "Sum": (runtime.Sum(runtime.L1(0.3), runtime.Norm(0.2)), lambda w: 0.3 * np.abs(w).sum() + 0.2 * np.linalg.norm(w)),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_regularizer_has_a_case(name: str) -> None:
    cls = class_of(name)
    is_there = any(type(regularizer) is cls for regularizer, _ in CASES.values())
    assert is_there, f"add {cls.__name__} and its formula to CASES in tests/test_regularizers.py"


@pytest.mark.parametrize("weight", [MATRIX, KERNEL], ids=["matrix", "kernel"])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name: str, weight: np.ndarray) -> None:
    """The value by the formula; the gradient by central differences."""
    regularizer, formula = CASES[name]
    tensor = torch.tensor(weight, requires_grad=True)
    value = regularizer(tensor)
    assert value.ndim == 0
    np.testing.assert_allclose(value.item(), formula(weight), rtol=1e-10)
    assert torch.autograd.gradcheck(regularizer, (tensor,))


@pytest.mark.parametrize("name", CASES)
def test_finite_at_zero(name: str) -> None:
    """Zero has a finite value and gradient, for all of a weight and for one row of it."""
    regularizer, _ = CASES[name]
    for weight in (torch.zeros(5, 4), torch.cat([torch.zeros(1, 4), torch.randn(4, 4)])):
        weight.requires_grad_()
        value = regularizer(weight)
        value.backward()
        assert value.isfinite()
        assert weight.grad is not None
        assert weight.grad.isfinite().all()


@pytest.mark.parametrize("count", [2, 6])  # the last of six pieces has nothing
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("weight", [MATRIX, KERNEL, 0 * MATRIX], ids=["matrix", "kernel", "zeros"])
@pytest.mark.parametrize("name", [name for name, (regularizer, _) in CASES.items() if hasattr(regularizer, "of_shard")])
def test_of_pieces(name: str, weight: np.ndarray, dim: int, count: int) -> None:
    """Of a tensor that is cut along one dimension, each rank has the penalty of all, and the gradient of its piece."""
    regularizer, _ = CASES[name]
    whole = torch.tensor(weight, requires_grad=True)
    pieces = [piece.detach().requires_grad_() for piece in whole.tensor_split(count, dim)]
    wanted = regularizer(whole)
    for penalty, piece in zip(of_pieces(regularizer, pieces, whole.shape, dim), pieces, strict=True):
        torch.testing.assert_close(penalty, wanted)
        penalty.backward()
        assert piece.grad is not None
    (gradient,) = torch.autograd.grad(wanted, whole)
    torch.testing.assert_close(torch.cat([piece.grad for piece in pieces if piece.grad is not None], dim), gradient)


def of_pieces(regularizer: Any, pieces: list[Tensor], shape: Sequence[int], dim: int) -> list[Tensor]:
    """What each rank computes, in a thread of its own; where all have called `join`, it adds what the others gave."""
    given = [torch.zeros(()) for _ in pieces]
    barrier = Barrier(len(pieces), timeout=10)

    def of_rank(rank: int) -> Tensor:
        def join(value: Tensor, dims: Collection[int] | None = None) -> Tensor:
            if dims is not None and dim not in dims:
                return value
            given[rank] = value.detach()
            barrier.wait()
            others = [each for other, each in enumerate(given) if other != rank]
            barrier.wait()
            return value + torch.stack(others).sum(0)

        penalty: Tensor = regularizer.of_shard(pieces[rank], shape, join)
        return penalty

    with ThreadPoolExecutor(len(pieces)) as pool:
        return [*pool.map(of_rank, range(len(pieces)))]


def test_orthogonal_of_one_row_is_zero() -> None:
    assert runtime.Orthogonal(0.3)(torch.randn(5, 1)) == 0


def test_kl_sparsity() -> None:
    x = torch.rand(6, 3, 4, dtype=torch.float64, requires_grad=True)
    rate = x.detach().numpy().mean(axis=(0, 1))
    wanted = 0.3 * (0.1 * np.log(0.1 / rate) + 0.9 * np.log(0.9 / (1 - rate))).sum()
    np.testing.assert_allclose(runtime.KLSparsity(0.3, target=0.1)(x).item(), wanted, rtol=1e-10)
    assert torch.autograd.gradcheck(runtime.KLSparsity(0.3, target=0.1), (x,))
    assert runtime.KLSparsity(0.3)(torch.zeros(2, 3)).isfinite()
    assert runtime.KLSparsity(0.3)(torch.ones(2, 3)).isfinite()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (runtime.L1(0.3), keras.regularizers.L1(0.3)),
        (runtime.L2(0.3), keras.regularizers.L2(0.3)),
        (runtime.L1L2(0.3, 0.2), keras.regularizers.L1L2(0.3, 0.2)),
        (runtime.Orthogonal(0.3), keras.regularizers.OrthogonalRegularizer(0.3)),
        (runtime.Orthogonal(0.3, mode="columns"), keras.regularizers.OrthogonalRegularizer(0.3, mode="columns")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_agrees_with_keras(ours: object, theirs: object) -> None:
    kernel = torch.tensor(MATRIX, dtype=torch.float32)
    torch.testing.assert_close(ours(kernel), theirs(kernel.T))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (runtime.MaxNorm(1.2, dim=1), keras.constraints.MaxNorm(1.2, axis=0)),
        (runtime.MinMaxNorm(1.5, 1.8, rate=0.7, dim=1), keras.constraints.MinMaxNorm(1.5, 1.8, rate=0.7, axis=0)),
        (runtime.NonNeg(), keras.constraints.NonNeg()),
        (runtime.UnitNorm(dim=1), keras.constraints.UnitNorm(axis=0)),
        (runtime.UnitNorm(dim=0), keras.constraints.UnitNorm(axis=1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_constraints_agree_with_keras(ours: object, theirs: object) -> None:
    kernel = torch.tensor(MATRIX, dtype=torch.float32)
    torch.testing.assert_close(ours(kernel), theirs(kernel.T).T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("constraint", "wanted"),
    [
        (runtime.MaxNorm(5e4, dim=1), 5e4),
        (runtime.MinMaxNorm(2e4, 5e4, dim=1), 5e4),
        (runtime.UnitNorm(dim=1), 1.0),
    ],
    ids=["MaxNorm", "MinMaxNorm", "UnitNorm"],
)
def test_constraints_of_norms_that_float16_has_no_number_for(
    constraint: object, wanted: float, dtype: torch.dtype
) -> None:
    x = (20000 + 20000 * torch.rand(3, 50)).to(dtype)
    assert x.double().norm(dim=1).min() > 65504
    drawn = constraint(x)
    assert drawn.dtype is dtype
    torch.testing.assert_close(drawn, (x.double() * wanted / x.double().norm(dim=1, keepdim=True)).to(dtype))
