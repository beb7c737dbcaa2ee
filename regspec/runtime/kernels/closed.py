"""Penalties of a matrix with a gradient in closed form, where torch's own takes more passes, or products, or an SVD.

Measured with one thread over the 54 kernels of ResNet-50, value and gradient, in ms: as here, before, and by the loop
that people write. Group lasso 53, 105, 93, or 120 where norms are written out; spectral 752, 3110, 4415.
What is left of the first is 10 for the norms, and the new gradients: 16 into memory that the process has, 45 where the
system has to give it, as it does in every step. One reading by numba would take 7 in place of the 10.
Orthogonal, on a busy machine: 805 with each pair once, 939 with the whole matrix of cosines, 1636 by the loop, which
has three products where these have two; the second is of all pairs in any case. Blocks of 192 to 512 rows differ by
less than runs do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from regspec.runtime.kernels.fused import can_fuse, is_plain

# Of a matrix: a scalar, and what its gradient is, given that of the scalar.
Closed = Callable[[Tensor], tuple[Tensor, Callable[[Tensor], Tensor]]]
TINY = 1e-7  # the least norm that a row is divided by
LEAST = 1e-30  # the same of a group: one over a number that nearly vanished is infinite
BLOCK = 256  # rows


def has_closed_forms(x: Tensor) -> bool:
    """Whether a tensor is on the CPU and operations run eagerly; elsewhere torch derives what is written out."""
    return can_fuse() and is_plain(x) and x.is_cpu


def scalar(matrix: Tensor, closed: Closed, plain: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``closed`` gives of a matrix; a gradient that is differentiated again is that of ``plain``, the same."""
    apply: Callable[..., Tensor] = _Scalar.apply
    return apply(matrix, closed, plain)


class _Scalar(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, closed: Closed, plain: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.plain = plain
        ctx.save_for_backward(matrix)  # which notices where it is changed
        value, ctx.gradient = closed(matrix)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        (matrix,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            (own,) = torch.autograd.grad(ctx.plain(matrix), matrix, gradient, create_graph=True)
            return own, None, None
        if torch._C._functorch.is_legacy_batchedtensor(gradient):  # nothing in place can be a batch
            return gradient * ctx.gradient(matrix.new_ones(())), None, None
        return ctx.gradient(gradient), None, None


def norms_of_columns(matrix: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The sum of the Euclidean norms of columns, whose gradient is zero where they are."""
    norms = torch.linalg.vector_norm(matrix, dim=0)

    def gradient(scale: Tensor) -> Tensor:
        own: Tensor = matrix * torch.where(norms > 0, scale / norms.clamp_min(LEAST), 0)
        return own

    return norms.sum(), gradient


def cosines_of_rows(matrix: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The sum of ``abs(cosine)`` over the pairs of rows, of which each is computed once, in blocks of rows."""
    norms = torch.linalg.vector_norm(matrix, dim=1, keepdim=True)
    lengths = norms.clamp_min(TINY)
    rows = matrix / lengths
    sums = rows.new_zeros(len(rows))  # of each row with all others
    blocks = []  # where one starts, and its cosines with its own rows and those after it
    for start in range(0, len(rows), BLOCK):
        cosines = (rows[start : start + BLOCK] @ rows[start:].T).fill_diagonal_(0)
        blocks.append((start, cosines))
        absolute = cosines.abs()
        sums[start : start + BLOCK] += absolute.sum(1)
        sums[start + BLOCK :] += absolute[:, BLOCK:].sum(0)

    def gradient(scale: Tensor) -> Tensor:
        made = torch.empty_like(rows)
        along = -sums * (norms.squeeze(1) >= TINY)  # what is along a row does not turn it
        for start, cosines in blocks:
            own, signs = slice(start, start + BLOCK), cosines.sign_()
            signs.diagonal().copy_(along[own])
            made[own].addmm_(signs, rows[start:], beta=min(start, 1))
            made[own.stop :].addmm_(signs[:, BLOCK:].T, rows[own], beta=min(start, 1))
        return made.mul_(scale / lengths)

    return sums.sum() / 2, gradient


def has_singular_values(matrix: Tensor) -> bool:
    """Whether the largest is found by squares: they neither overflow nor vanish."""
    size = torch.linalg.vector_norm(matrix.detach()).item() if matrix.numel() else 0.0
    return TINY**2 < size < 1 / TINY**2  # and not where it is no number


def largest_singular_value(matrix: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The largest singular value, by the eigenvalues of the smaller product of a matrix with itself.

    It is as exact as by an SVD: of a symmetric matrix the largest eigenvalue is.
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if is_tall else matrix
    values, vectors = torch.linalg.eigh(wide @ wide.T)
    value, left = values[-1].sqrt(), vectors[:, -1]
    right = wide.T @ left / value
    first, second = (right, left) if is_tall else (left, right)
    return value, lambda scale: torch.outer(first * scale, second)
