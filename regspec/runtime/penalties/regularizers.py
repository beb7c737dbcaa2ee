"""Regularizers: functions of a tensor to a scalar.

Each reduces in float32 at least, whatever the tensor's own type: the sum of squares of a 1024 x 1024 weight of
deviation 3 overflows float16, and an L1 norm in bfloat16 is off by 0.2 %. ``dim`` is the dimension along which a
weight's outputs lie; the weight as a matrix has them as its columns, as Keras's kernels have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor, nn

from regspec.runtime.kernels.closed import (
    cosines_of_rows,
    has_closed_forms,
    has_singular_values,
    largest_singular_value,
    norms_of_columns,
    scalar,
)
from regspec.runtime.kernels.sharded import whole


def _wide(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 if that is what it is."""
    # for regspec
    if x.is_complex():
        raise TypeError("complex numbers have no penalties")
    return x if x.dtype is torch.float64 else x.float()


def _full_precision(x: Tensor) -> AbstractContextManager[object]:
    """A context without autocast, which would multiply in half precision; the meta device knows none."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def _matrix(x: Tensor, dim: int) -> Tensor:
    """``x`` as a matrix whose columns are its slices along ``dim``."""
    return x.movedim(dim, -1).flatten(0, -2) if x.ndim > 1 else x.unsqueeze(0)


def _norm(x: Tensor, dim: int | None = None, *, keepdim: bool = False) -> Tensor:
    """The Euclidean norm, whose gradient is zero where it is zero."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=keepdim)
    return norm


def _spectral_norm(matrix: Tensor) -> Tensor:
    """The largest singular value."""
    largest: Tensor = torch.linalg.matrix_norm(matrix, ord=2)
    return largest


class WithWeights:
    """A regularizer that takes other weights, too: ``regularizer(x, decoder=owner.decoder.weight)``."""

    def __init__(self, regularizer: Callable[..., Tensor], owner: nn.Module, /, **paths: str) -> None:
        self.regularizer, self.owner, self.paths = regularizer, owner, paths

    def __call__(self, x: Tensor) -> Tensor:
        weights = {name: attrgetter(path)(self.owner) for name, path in self.paths.items()}
        # for regspec
        weights = {name: whole(weight) for name, weight in weights.items()}
        return self.regularizer(x, **weights)


# Sums a value over the ranks that have other pieces of a tensor, along these dimensions or along all.
Join = Callable[..., Tensor]


def _root(squares: Tensor) -> Tensor:
    """The square root, whose gradient is zero where it is zero."""
    is_positive = squares > 0
    return torch.where(is_positive, squares, 1.0).sqrt() * is_positive


@dataclass(frozen=True)
class L1:
    """``strength * sum(abs(x))``."""

    strength: float

    def __call__(self, x: Tensor) -> Tensor:
        return self.strength * _wide(x).abs().sum()

    # for regspec
    def of_shard(self, x: Tensor, shape: Sequence[int], join: Join) -> Tensor:
        """The penalty of a tensor of ``shape``, of which ``x`` is this rank's piece; ``join`` sums over all pieces."""
        return join(self(x))


@dataclass(frozen=True)
class L2:
    """``strength * sum(x**2)``, without a half."""

    strength: float

    def __call__(self, x: Tensor) -> Tensor:
        return self.strength * _wide(x).square().sum()

    # for regspec
    def of_shard(self, x: Tensor, shape: Sequence[int], join: Join) -> Tensor:
        return join(self(x))


@dataclass(frozen=True)
class L1L2:
    """``l1 * sum(abs(x)) + l2 * sum(x**2)``."""

    l1: float
    l2: float

    # for regspec
    @property
    def parts(self) -> tuple[L1, L2]:
        """The two regularizers that it is the sum of."""
        return L1(self.l1), L2(self.l2)

    def __call__(self, x: Tensor) -> Tensor:
        x = _wide(x)
        return self.l1 * x.abs().sum() + self.l2 * x.square().sum()


@dataclass(frozen=True)
class Orthogonal:
    """``strength`` times the mean of ``abs(cosine)`` over the pairs of rows (or columns) of the weight as a matrix.

    Keras's OrthogonalRegularizer, but zero where there is one row, and with a finite gradient where a row is zero.
    """

    strength: float
    mode: str = "rows"
    dim: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        with _full_precision(x):
            rows = _matrix(_wide(x), self.dim)
            if self.mode == "columns":
                rows = rows.T
            pairs = max(len(rows) * (len(rows) - 1) // 2, 1)
            # for regspec
            if has_closed_forms(x):
                return self.strength / pairs * scalar(rows, cosines_of_rows, self._of_rows)
            return self.strength / pairs * self._of_rows(rows)

    def _of_rows(self, rows: Tensor) -> Tensor:
        rows = rows / _norm(rows, 1, keepdim=True).clamp_min(1e-7)
        return (rows @ rows.T).triu(1).abs().sum()


@dataclass(frozen=True)
class Norm:
    """``strength * sqrt(sum(x**2))``; the gradient at zero is zero."""

    strength: float

    def __call__(self, x: Tensor) -> Tensor:
        x = _wide(x)
        # in two steps: torch adds squares one after the other, and over 16 M of them the fourth digit is wrong
        return self.strength * _norm(_norm(x.flatten(1), 1) if x.ndim > 1 else x)

    # for regspec
    def of_shard(self, x: Tensor, shape: Sequence[int], join: Join) -> Tensor:
        return self.strength * _root(join(_wide(x).square().sum()))


@dataclass(frozen=True)
class GroupLasso:
    """``strength`` times the sum over groups, the slices along ``dim``, of ``sqrt(size) * norm``.

    Yuan and Lin (2006), https://doi.org/10.1111/j.1467-9868.2005.00532.x. The gradient of a group that is zero is zero.
    """

    strength: float
    dim: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        groups = _matrix(_wide(x), self.dim)
        factor = self.strength * math.sqrt(len(groups))
        # for regspec
        if has_closed_forms(x):
            return factor * scalar(groups, norms_of_columns, lambda groups: _norm(groups, 0).sum())
        return factor * _norm(groups, 0).sum()

    # for regspec
    def of_shard(self, x: Tensor, shape: Sequence[int], join: Join) -> Tensor:
        dim = self.dim % len(shape)
        rest = tuple(axis for axis in range(len(shape)) if axis != dim)
        squares = _wide(x).square()
        norms = _root(join(squares.sum(rest) if rest else squares, rest))
        size = math.prod(shape) // shape[dim]
        return join(self.strength * math.sqrt(size) * norms.sum(), (dim,))

    # for regspec
    def by_groups(self, x: Tensor) -> Tensor:
        """A view whose first two dimensions are one, and groups."""
        return x.movedim(self.dim, 0).unsqueeze(0)


@dataclass(frozen=True)
class GroupLassoOfBlocks:
    """A group lasso of a weight whose first dimension is blocks, each with slices of its own along ``dim``.

    So the kernel of a grouped convolution lies: what reads (or of a transposed one makes) a channel is a slice of one
    block.
    """

    strength: float
    blocks: int
    dim: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        in_blocks: Tensor = x.unflatten(0, (self.blocks, -1))
        return GroupLasso(self.strength, dim=0)(in_blocks.movedim(self.dim + 1, 1).flatten(0, 1))

    # for regspec
    def by_groups(self, x: Tensor) -> Tensor:
        """A view whose first two dimensions are blocks, and the groups of each."""
        in_blocks: Tensor = x.unflatten(0, (self.blocks, -1))
        return in_blocks.movedim(self.dim + 1, 1)


@dataclass(frozen=True)
class Apart:
    """The sum of the penalties of kernels that lie one below the other in a weight."""

    regularizer: Callable[[Tensor], Tensor]
    kernels: int

    def __call__(self, x: Tensor) -> Tensor:
        first, *others = [self.regularizer(kernel) for kernel in x.chunk(self.kernels)]
        return sum(others, first)


@dataclass(frozen=True)
class Hoyer:
    """``strength * sum(abs(x))**2 / sum(x**2)``, and zero for a tensor of zeros.

    Hoyer-square of Yang, Wen and Li (2020), https://arxiv.org/abs/1908.09979.
    """

    strength: float

    def __call__(self, x: Tensor) -> Tensor:
        x = _wide(x)
        squares = x.square().sum()
        return self.strength * x.abs().sum().square() / squares.clamp_min(torch.finfo(squares.dtype).tiny)


@dataclass(frozen=True)
class Spectral:
    """``strength`` times the largest singular value of the weight as a matrix."""

    strength: float
    dim: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        with _full_precision(x):
            matrix = _matrix(_wide(x), self.dim)
            # for regspec
            if has_closed_forms(x) and has_singular_values(matrix):
                return self.strength * scalar(matrix, largest_singular_value, _spectral_norm)
            return self.strength * _spectral_norm(matrix)


@dataclass(frozen=True)
class KLSparsity:
    """``strength`` times the sum over units of ``KL(target || mean activity)``; units lie along ``dim``.

    Ng (2011), Sparse autoencoder, CS294A lecture notes. It is a mean over the batch by itself, so it is not divided
    again.
    """

    strength: float
    target: float = 0.05
    dim: int = -1

    averages_batch = True

    def __call__(self, x: Tensor) -> Tensor:
        units = _matrix(_wide(x), self.dim) if x.ndim > 1 else _wide(x).unsqueeze(1)
        if not len(units):
            return units.sum()
        rate = units.mean(dim=0).clamp(1e-7, 1 - 1e-7)
        on = self.target * torch.log(self.target / rate)
        off = (1 - self.target) * torch.log((1 - self.target) / (1 - rate))
        return self.strength * (on + off).sum()


@dataclass(frozen=True)
class GaussianKL:
    """``strength`` times the sum of ``KL(N(mean, exp(log_var)) || N(0, 1))``; units along ``dim``: means, then log_var.

    Kingma and Welling (2014), https://arxiv.org/abs/1312.6114, appendix B.
    """

    strength: float
    dim: int = -1

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[self.dim] % 2:
            raise ValueError(f"gaussian_kl takes as many means as logs of variances, but is given {tuple(x.shape)}")
        mean, log_var = _wide(x).unflatten(self.dim, (2, -1)).unbind(self.dim - (self.dim < 0))
        divergence: Tensor = 0.5 * (mean.square() + torch.expm1(log_var) - log_var).sum()
        return self.strength * divergence


class Sum:
    """The sum of several regularizers."""

    def __init__(self, *parts: Callable[[Tensor], Tensor]) -> None:
        self.parts = parts

    def __call__(self, x: Tensor) -> Tensor:
        return sum((part(x) for part in self.parts), x.new_zeros((), dtype=torch.float32))
