"""Layers that draw noise in training, with shapes of noise as in Keras."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _noise(x: Tensor, shape: tuple[int | None, ...]) -> Tensor:
    """Ones of the noise's shape; None stands for the size of ``x``."""
    return x.new_ones([x.shape[axis] if size is None else size for axis, size in enumerate(shape)])


class Dropout(nn.Module):
    """Dropout whose noise is shared along the axes where ``noise_shape`` is one."""

    def __init__(self, p: float, *, noise_shape: tuple[int | None, ...]) -> None:
        super().__init__()
        self.p = p
        self.noise_shape = noise_shape

    def forward(self, x: Tensor) -> Tensor:
        return x * F.dropout(_noise(x, self.noise_shape), self.p) if self.training else x

    def extra_repr(self) -> str:
        return f"p={self.p}, noise_shape={self.noise_shape}"


class AlphaDropout(nn.Module):
    """Alpha dropout whose noise is shared along the axes where ``noise_shape`` is one.

    Klambauer et al. (2017), https://arxiv.org/abs/1706.02515.
    """

    def __init__(self, p: float, *, noise_shape: tuple[int | None, ...]) -> None:
        super().__init__()
        self.p = p
        self.noise_shape = noise_shape

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        low = -1.7580993408473766  # the limit of SELU: -scale * alpha
        kept = torch.rand_like(_noise(x, self.noise_shape)) >= self.p
        a = 1 / math.sqrt((1 - self.p) * (1 + self.p * low**2))
        return a * torch.where(kept, x, low) - a * low * self.p

    def extra_repr(self) -> str:
        return f"p={self.p}, noise_shape={self.noise_shape}"


class GaussianDropout(nn.Module):
    """The input times noise of mean one and deviation ``sqrt(p / (1 - p))``, in training."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return x * (1 + torch.randn_like(x) * math.sqrt(self.p / (1 - self.p)))

    def extra_repr(self) -> str:
        return f"p={self.p}"


class GaussianNoise(nn.Module):
    """The input plus noise of mean zero and deviation ``std``, in training."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x) * self.std if self.training else x

    def extra_repr(self) -> str:
        return f"std={self.std}"


class Sampling(nn.Module):
    """A sample of Gaussians, by their means and the logarithms of their variances; in evaluation the means.

    Kingma and Welling (2014), https://arxiv.org/abs/1312.6114. ``kl`` gives both, one after the other along ``dim``.
    """

    def __init__(self, *, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim
        self.kl = nn.Identity()  # which a penalty listens to

    def forward(self, mean: Tensor, log_var: Tensor) -> Tensor:
        mean, log_var = self.kl(torch.cat([mean, log_var], self.dim)).chunk(2, self.dim)
        return mean + torch.exp(log_var / 2) * torch.randn_like(mean) if self.training else mean

    def extra_repr(self) -> str:
        return "" if self.dim == -1 else f"dim={self.dim}"
