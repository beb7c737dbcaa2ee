"""Group lasso, orthogonal and spectral penalties with gradients in closed form: they are those that torch derives."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from regspec.runtime import GroupLasso, Orthogonal, Spectral
from regspec.runtime.kernels import closed


def group_lasso(rows: Tensor) -> Tensor:
    return 0.3 * math.sqrt(rows.shape[1]) * sum(row.square().sum().sqrt() for row in rows if row.any())


def orthogonal(rows: Tensor) -> Tensor:
    rows = F.normalize(rows, dim=1, eps=1e-7)
    pairs = [(rows[i] @ rows[j]).abs() for i in range(len(rows)) for j in range(i)]
    return 0.3 * sum(pairs) / max(len(pairs), 1) + 0 * rows.sum()


def spectral(rows: Tensor) -> Tensor:
    return 0.3 * torch.linalg.svdvals(rows)[0]


WRITTEN_OUT: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "group lasso": (GroupLasso(0.3), group_lasso),
    "orthogonal": (Orthogonal(0.3, "columns"), orthogonal),
    "spectral": (Spectral(0.3), spectral),
}
SHAPES = [(5, 3, 2, 2), (3, 7), (7, 3), (1, 4), (4, 1)]
each = pytest.mark.parametrize("name", WRITTEN_OUT)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that these small matrices have one block of rows, or several, of which the last is shorter."""
    monkeypatch.setattr(closed, "BLOCK", 3)


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """With channels last as well, and a row of zeros."""
    penalty, written_out = WRITTEN_OUT[name]
    for prepare in (lambda x: x, lambda x: x.clone().index_fill_(0, torch.tensor(0), 0) if len(x) > 1 else x):
        x = prepare(torch.randn(shape)).to(dtype)
        x = (x.to(memory_format=torch.channels_last) if x.ndim == 4 else x).requires_grad_()
        wide = x.detach().double().flatten(1).requires_grad_()
        got, wanted = penalty(x), written_out(wide)
        tolerance = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 1e-2}[dtype]
        torch.testing.assert_close(got.double(), wanted, rtol=tolerance, atol=tolerance)
        torch.autograd.grad(got, x, retain_graph=True)  # and once more, from the same
        (gradient,) = torch.autograd.grad(3 * got, x)
        (expected,) = torch.autograd.grad(3 * wanted, wide)
        torch.testing.assert_close(gradient.double().flatten(1), expected, rtol=tolerance, atol=tolerance)
        assert gradient.dtype is dtype


@each
def test_gradients_of_gradients(name: str) -> None:
    penalty, _ = WRITTEN_OUT[name]
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(penalty, x)
    assert gradgradcheck(penalty, x)


@each
def test_a_batch_of_gradients(name: str) -> None:
    """As `torch.autograd.functional.jacobian` asks for, of several losses at once."""
    penalty, _ = WRITTEN_OUT[name]
    x, scales = torch.randn(3, 4, requires_grad=True), torch.tensor([1.0, -2.0, 0.5])
    (batch,) = torch.autograd.grad(penalty(x), x, scales, is_grads_batched=True)
    wanted = [torch.autograd.grad(scale * penalty(x), x)[0] for scale in scales]
    torch.testing.assert_close(batch, torch.stack(wanted))


@pytest.mark.parametrize("size", [1e-45, 1e-42, 1e-30, 1e-20])
@pytest.mark.parametrize("shape", [(3, 1), (3, 2)], ids=str)
def test_groups_that_have_nearly_vanished(shape: tuple[int, int], size: float) -> None:
    """Their gradient is no longer than that of others."""
    x = torch.full(shape, size, requires_grad=True)
    GroupLasso(0.3)(3 * x).backward()
    assert (x.grad >= 0).all()
    assert x.grad.norm(dim=1).max() <= 0.9 * math.sqrt(shape[1]) * 1.00001


@each
def test_a_weight_that_is_changed_before_the_backward_pass(name: str) -> None:
    penalty, _ = WRITTEN_OUT[name]
    x = torch.randn(3, 4, requires_grad=True)
    value = penalty(x)
    with torch.no_grad():
        x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30])
def test_spectral_norms_whose_squares_are_no_numbers(size: float) -> None:
    x = (torch.randn(3, 5) * size).requires_grad_()
    value = Spectral(1.0)(x)
    value.backward()
    torch.testing.assert_close(value, torch.linalg.svdvals(x)[0], rtol=1e-5, atol=0)
    assert x.grad.isfinite().all()
    if size:
        torch.testing.assert_close(torch.linalg.matrix_norm(x.grad), torch.ones(()), rtol=1e-4, atol=1e-4)


@each
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")  # torch's own, when it is imported
@pytest.mark.parametrize("transform", ["grad", "vmap", "jvp"])
def test_transforms(name: str, transform: str) -> None:
    penalty, written_out = WRITTEN_OUT[name]
    x, v = torch.randn(3, 4), torch.randn(3, 4)
    if transform == "grad":
        got, wanted = torch.func.grad(penalty)(x), torch.autograd.functional.jacobian(written_out, x)
    elif transform == "vmap":
        got, wanted = torch.vmap(penalty)(torch.stack([x, v])), torch.stack([written_out(x), written_out(v)])
    else:
        got = torch.func.jvp(penalty, (x,), (v,))[1]
        wanted = (torch.autograd.functional.jacobian(written_out, x) * v).sum()
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5, check_dtype=False)
