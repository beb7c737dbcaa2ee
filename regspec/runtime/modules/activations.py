"""Activation functions of Keras that torch has no module for."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Function(nn.Module):
    """A function of torch as a module: ``Function("sin")`` is ``torch.sin``."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = getattr(torch, self.name)(x)
        return result

    def extra_repr(self) -> str:
        return self.name


class HardSigmoid(nn.Module):
    """``slope * x + 0.5``, clipped to [0, 1]; Keras 2 has a slope of 0.2, where ``nn.Hardsigmoid`` has a sixth."""

    def __init__(self, slope: float = 0.2) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return (self.slope * x + 0.5).clamp(0, 1)

    def extra_repr(self) -> str:
        return f"slope={self.slope}"


class SparsePlus(nn.Module):
    """Zero up to -1, ``(x + 1)**2 / 4`` up to 1, then ``x``."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x <= -1, 0.0, torch.where(x < 1, (x + 1).square() / 4, x))


class SparseSigmoid(nn.Module):
    """Zero up to -1, ``(x + 1) / 2`` up to 1, then one."""

    def forward(self, x: Tensor) -> Tensor:
        return ((x + 1) / 2).clamp(0, 1)


class Sparsemax(nn.Module):
    """Sparsemax along ``dim`` as Keras 3 computes it.

    The projection of Martins and Astudillo (2016), https://arxiv.org/abs/1602.02068, subtracts (sum of the support -
    1) / its size. Keras sums the cumulative sums of the support instead, so that its output sums to less than one
    where the support has more than one entry; to agree with it, so does this.
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        ordered = x.movedim(self.dim, -1).sort(dim=-1, descending=True).values
        rank = torch.arange(1, ordered.shape[-1] + 1, device=x.device, dtype=x.dtype)
        sums = ordered.cumsum(-1)
        support = 1 + rank * ordered > sums
        threshold = ((sums * support).sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True)
        return (x - threshold.movedim(-1, self.dim)).clamp_min(0)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Squareplus(nn.Module):
    """``(x + sqrt(x**2 + b)) / 2``; Barron (2021), https://arxiv.org/abs/2112.11687."""

    def __init__(self, b: float = 4.0) -> None:
        super().__init__()
        self.b = b

    def forward(self, x: Tensor) -> Tensor:
        return (x + (x.square() + self.b).sqrt()) / 2

    def extra_repr(self) -> str:
        return f"b={self.b}"


class ThresholdedReLU(nn.Module):
    """Keras's ReLU: ``x`` from ``threshold`` up to ``max_value``, ``negative_slope * (x - threshold)`` below."""

    def __init__(self, *, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0) -> None:
        super().__init__()
        self.max_value = max_value
        self.negative_slope = negative_slope
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        above = x if self.max_value is None else x.clamp_max(self.max_value)
        return torch.where(x > self.threshold, above, self.negative_slope * (x - self.threshold))

    def extra_repr(self) -> str:
        return f"max_value={self.max_value}, negative_slope={self.negative_slope}, threshold={self.threshold}"


class TopK(nn.Module):
    """The ``k`` largest numbers along ``dim``, and zero for the others.

    Makhzani and Frey (2013), https://arxiv.org/abs/1312.5663.
    """

    def __init__(self, k: int, *, dim: int = -1) -> None:
        super().__init__()
        self.k = k
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        values, places = x.topk(self.k, self.dim)
        return torch.zeros_like(x).scatter(self.dim, places, values)

    def extra_repr(self) -> str:
        return f"{self.k}, dim={self.dim}"


class JumpReLU(nn.Module):
    """``x`` above a learned threshold for each of ``size`` features along ``dim``, and zero up to it.

    A threshold has the straight-through gradient of Rajamanoharan et al. (2024), https://arxiv.org/abs/2407.14435,
    with a rectangle of width ``bandwidth`` as its kernel: ``-threshold / bandwidth`` where x is within half of it.
    """

    def __init__(self, size: int, *, bandwidth: float = 0.001, dim: int = -1) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.full((size,), 0.001))
        self.bandwidth = bandwidth
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        shape = [1] * x.ndim
        shape[self.dim] = -1
        threshold = self.threshold.reshape(shape)
        known = threshold.detach()
        is_near = (x - known).abs() < self.bandwidth / 2
        slope = known / self.bandwidth * is_near
        zero = slope * (threshold - known)  # but for its gradient
        return torch.where(x > known, x, 0.0) - zero.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.threshold)}, bandwidth={self.bandwidth}, dim={self.dim}"


class PReLU(nn.Module):
    """``x`` above zero, ``weight * x`` below; the weight has the shape of an example, with ones where axes share it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x.relu() - self.weight.to(x.dtype) * (-x).relu()  # at zero the gradient is zero, as Keras has it

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}"


class SReLU(nn.Module):
    """``x`` between two thresholds, ``t_left`` and ``t_left + abs(t_right)``, and slopes on both sides of them.

    The parameters have the shape of an example, with ones where axes share them.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.t_left = nn.Parameter(torch.zeros(shape))
        self.a_left = nn.Parameter(torch.zeros(shape))
        self.t_right = nn.Parameter(torch.zeros(shape))
        self.a_right = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        left, below, width, above = (
            each.to(x.dtype) for each in (self.t_left, self.a_left, self.t_right.abs(), self.a_right)
        )
        beyond = x - left
        between = torch.minimum(beyond.relu(), width)
        return left + between - below * (-beyond).relu() + above * (beyond - width).relu()

    def extra_repr(self) -> str:
        return f"{tuple(self.t_left.shape)}"


class ParametricSoftplus(nn.Module):
    """``alpha * log(1 + exp(beta * x))``; both have the shape of an example, with ones where axes share them."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full(shape, 0.2))
        self.beta = nn.Parameter(torch.full(shape, 5.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha.to(x.dtype) * nn.functional.softplus(self.beta.to(x.dtype) * x)

    def extra_repr(self) -> str:
        return f"{tuple(self.alpha.shape)}"
