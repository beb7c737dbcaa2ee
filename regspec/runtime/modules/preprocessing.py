"""Layers that prepare numbers and images: scales, statistics, sizes, categories."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Rescaling(nn.Module):
    """``x * scale + offset``, with numbers for each channel, which lie along ``dim``."""

    scale: Tensor
    offset: Tensor

    def __init__(self, scale: float | tuple[float, ...], offset: float | tuple[float, ...], *, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        self.register_buffer("offset", torch.tensor(offset), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x.movedim(self.dim, -1) * self.scale + self.offset).movedim(-1, self.dim)


class Normalization(nn.Module):
    """``(x - mean) / max(sqrt(variance), 1e-7)``, or the inverse.

    The statistics have ``size``, and are seen as ``shape``, an example's with ones where it shares them. Without
    given numbers they are buffers of the state_dict, which are nan until they are loaded.
    """

    mean: Tensor
    variance: Tensor

    def __init__(
        self,
        size: tuple[int, ...],
        shape: tuple[int, ...],
        *,
        mean: float | tuple[float, ...] | None = None,
        variance: float | tuple[float, ...] | None = None,
        invert: bool = False,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.invert = invert
        self.is_known = mean is not None
        for name, given in (("mean", mean), ("variance", variance)):
            statistic = torch.tensor(torch.nan if given is None else given)
            statistic = statistic.reshape(size) if statistic.numel() > 1 else statistic.reshape(()).expand(size).clone()
            self.register_buffer(name, statistic, persistent=given is None)

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_known and not torch.compiler.is_compiling():
            self._check()
        mean = self.mean.view(self.shape)
        deviation = self.variance.view(self.shape).sqrt().clamp_min(1e-7)
        return x * deviation + mean if self.invert else (x - mean) / deviation

    def _check(self) -> None:
        """Raises where nothing was loaded; once it was, nothing is asked any more."""
        if self.mean.is_meta or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]  # it has no types
            return
        if self.mean.isnan().any() or self.variance.isnan().any():
            raise RuntimeError("Normalization has no mean and variance yet: load a state_dict that has them")
        self.is_known = True

    def extra_repr(self) -> str:
        return f"{self.shape}, invert={self.invert}"


def _linear(x: Tensor) -> Tensor:
    return (1 - x).clamp_min(0)


def _cubic(x: Tensor) -> Tensor:
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _lanczos(x: Tensor, radius: int) -> Tensor:
    return torch.where(x < radius, torch.sinc(x) * torch.sinc(x / radius), 0.0)


class Resize(nn.Module):
    """Images (batch, channels, height, width) resized to ``size``, or by ``scale_factor``.

    The kernels are TensorFlow's, and so Keras's: cubic of Keys with a = -0.5 (torch's has -0.75), Lanczos of radius 3
    or 5; near the border the weights are divided by their sum. With ``crop`` or ``pad`` the aspect ratio stays. Whole
    numbers stay whole: they are rounded.
    """

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        *,
        scale_factor: tuple[int, int] | None = None,
        interpolation: str = "bilinear",
        antialias: bool = False,
        crop: bool = False,
        pad: bool = False,
        fill_value: float = 0.0,
    ) -> None:
        super().__init__()
        self.size = size
        self.scale_factor = scale_factor
        self.interpolation = interpolation
        self.antialias = antialias
        self.crop = crop
        self.pad = pad
        self.fill_value = fill_value

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            bounds = torch.iinfo(x.dtype)
            resized: Tensor = self(x.float())
            return resized.round().clamp(bounds.min, bounds.max).to(x.dtype)
        height, width = x.shape[-2:]
        if self.size is not None:
            size = self.size
        else:
            assert self.scale_factor is not None
            size = (height * self.scale_factor[0], width * self.scale_factor[1])
        if self.crop:
            high = max(min(height, width * size[0] // size[1]), 1)
            wide = max(min(width, height * size[1] // size[0]), 1)
            top, left = (height - high) // 2, (width - wide) // 2
            x = x[..., top : top + high, left : left + wide]
        elif self.pad:
            top = (max(height, width * size[0] // size[1]) - height) // 2
            left = (max(width, height * size[1] // size[0]) - width) // 2
            x = F.pad(x, (left, left, top, top), value=self.fill_value)
        if self.interpolation == "nearest":
            return F.interpolate(x, size, mode="nearest-exact")
        if self.interpolation == "bilinear" and not self.antialias:
            return F.interpolate(x, size, mode="bilinear")
        down, across = (self._matrix(old, new, x) for old, new in zip(x.shape[-2:], size, strict=True))
        return down.T @ x @ across

    def _matrix(self, old: int, new: int, like: Tensor) -> Tensor:
        """The weights (old, new) of each old cell in each new one."""
        scale = old / new
        places = (torch.arange(new, device=like.device, dtype=torch.float32) + 0.5) * scale - 0.5
        apart = (places - torch.arange(old, device=like.device).unsqueeze(1)).abs()
        if self.antialias:
            apart = apart / max(scale, 1.0)
        if self.interpolation == "bilinear":
            weights = _linear(apart)
        elif self.interpolation == "bicubic":
            weights = _cubic(apart)
        else:
            weights = _lanczos(apart, int(self.interpolation[-1]))
        return (weights / weights.sum(0)).to(like.dtype)

    def extra_repr(self) -> str:
        return f"size={self.size}, scale_factor={self.scale_factor}, interpolation={self.interpolation!r}"


class CenterCrop(nn.Module):
    """The middle of images (batch, channels, height, width); where they are too small, they are enlarged first."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width
        self.resize = Resize((height, width), crop=True)

    def forward(self, x: Tensor) -> Tensor:
        high, wide = x.shape[-2] - self.height, x.shape[-1] - self.width
        if high < 0 or wide < 0:
            enlarged: Tensor = self.resize(x)
            return enlarged
        return x[..., high // 2 : high // 2 + self.height, wide // 2 : wide // 2 + self.width]


class CategoryEncoding(nn.Module):
    """Whole numbers as vectors of ``size``: ``multi_hot`` (which occur along axis 1), ``one_hot`` or ``count``."""

    def __init__(self, size: int, *, mode: str = "multi_hot") -> None:
        super().__init__()
        self.size = size
        self.mode = mode

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        x = x.long()
        hot = F.one_hot(x.clamp_min(0), self.size) * (x >= 0).unsqueeze(-1)
        hot = hot.float()
        if self.mode == "one_hot":
            return hot
        axis = 1 if x.ndim > 1 else 0
        if self.mode == "multi_hot":
            return hot.amax(axis)
        return (hot if weights is None else hot * weights.unsqueeze(-1)).sum(axis)

    def extra_repr(self) -> str:
        return f"{self.size}, mode={self.mode!r}"


class Discretization(nn.Module):
    """The number of the interval in which each value lies; a boundary belongs to the upper one."""

    boundaries: Tensor

    def __init__(self, boundaries: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("boundaries", torch.tensor(boundaries), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.bucketize(x.contiguous(), self.boundaries, right=True)
