"""Learned tensors, and what tells the steps of a sequence apart: vectors of positions, and rotations by them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LearnedTensor(nn.Module):
    """A learned tensor of a shape, given once for each example of ``x``: (batch, *shape)."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.normal_(self.weight, std=0.05)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.expand(x.shape[0], *self.weight.shape)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.weight.shape))


class ClassToken(nn.Module):
    """A learned step before those of a sequence: (batch, steps, size) to (batch, 1 + steps, size).

    Devlin et al. (2019), https://arxiv.org/abs/1810.04805.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        nn.init.normal_(self.weight, std=0.05)

    def forward(self, x: Tensor) -> Tensor:
        token = self.weight.expand(x.shape[0], 1, -1)
        return torch.cat([token.to(x.dtype), x], dim=1)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}"


class PositionEmbedding(nn.Module):
    """``x``, (batch, steps, size), plus a learned vector for each step, of which there are at most ``length``."""

    def __init__(self, length: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, size))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight.narrow(0, 0, x.shape[1]).to(x.dtype)  # which refuses more steps, of one vector too

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


def _angles(x: Tensor, max_wavelength: float) -> Tensor:
    """An angle for each step of ``x``, (…, steps, size), and each pair of features: (steps, pairs).

    Wavelengths grow from 2π to ``max_wavelength`` times that. Angles of half precision are too coarse.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    steps = torch.arange(x.shape[-2], device=x.device, dtype=dtype)
    pairs = torch.arange(0, x.shape[-1], 2, device=x.device, dtype=dtype)
    return steps.unsqueeze(1) * max_wavelength ** (-pairs / x.shape[-1])


class SinePositionEncoding(nn.Module):
    """``x``, (batch, steps, size), plus sines and cosines of each step, in turn.

    Vaswani et al. (2017), section 3.5, https://arxiv.org/abs/1706.03762.
    """

    def __init__(self, *, max_wavelength: float = 10000.0) -> None:
        super().__init__()
        self.max_wavelength = max_wavelength

    def forward(self, x: Tensor) -> Tensor:
        angles = _angles(x, self.max_wavelength)
        waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
        return x + waves[:, : x.shape[2]].to(x.dtype)

    def extra_repr(self) -> str:
        return f"max_wavelength={self.max_wavelength}"


def _rotated(x: Tensor, max_wavelength: float) -> Tensor:
    """``x``, (…, steps, size), with each pair of features rotated by its step's angle; a pair lies half of size apart.

    Su et al. (2021), https://arxiv.org/abs/2104.09864.
    """
    angles = _angles(x, max_wavelength)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
