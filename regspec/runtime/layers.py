"""Layers of Keras that torch has no module for: einsum, embeddings in reverse, noise, padding, resizing, encoding."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Rounding(nn.Module):
    """Numbers rounded to 255 steps, of 8 bits, between plus and minus their largest magnitude along ``dim``.

    The gradient is that of the identity.
    """

    def __init__(self, *, dim: int | tuple[int, ...] = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = 127 / (x.abs().amax(self.dim, keepdim=True) + 1e-7)
            rounded = (x * scale).round().clamp(-127, 127) / scale
        return x + (rounded - x).detach()

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class EinsumDense(nn.Module):
    """``einsum(equation, x, weight) + bias``."""

    def __init__(
        self, equation: str, weight_shape: tuple[int, ...], *, bias_shape: tuple[int, ...] | None = None
    ) -> None:
        super().__init__()
        self.equation = equation
        self.weight = nn.Parameter(torch.empty(weight_shape))
        self.bias = None if bias_shape is None else nn.Parameter(torch.zeros(bias_shape))
        nn.init.xavier_uniform_(self.weight.view(-1, weight_shape[-1]))

    def forward(self, x: Tensor) -> Tensor:
        product = torch.einsum(self.equation, x, self.weight)
        return product if self.bias is None else product + self.bias

    def extra_repr(self) -> str:
        return f"{self.equation!r}, {tuple(self.weight.shape)}"


class LocallyConnected(nn.Module):
    """A window that moves along the spatial axes, with weights of its own at each of the ``places`` along them.

    The weight is (places, cells of the window, output channels); the channel is the last of a cell's coordinates, or
    the first.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        places: tuple[int, ...],
        kernel_size: tuple[int, ...],
        *,
        stride: int | tuple[int, ...] = 1,
        bias: bool = True,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.places = places
        self.kernel_size = kernel_size
        self.stride = stride if isinstance(stride, tuple) else (stride,) * len(kernel_size)
        self.channels_last = channels_last
        shape = (math.prod(places), math.prod(kernel_size) * in_channels, out_channels)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(out_channels, *places)) if bias else None
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        rank = len(self.places)
        for dimension, (size, step) in enumerate(zip(self.kernel_size, self.stride, strict=True)):
            x = x.unfold(dimension + 2, size, step)  # (batch, channels, places…, window…)
        window = range(2 + rank, 2 + 2 * rank)
        cells = (*window, 1) if self.channels_last else (1, *window)
        patches = x.permute(*range(2, 2 + rank), 0, *cells).flatten(-rank - 1).flatten(0, rank - 1)
        output: Tensor = (patches @ self.weight).permute(1, 2, 0).unflatten(2, self.places)
        return output if self.bias is None else output + self.bias

    def extra_repr(self) -> str:
        return f"{self.places}, kernel_size={self.kernel_size}, stride={self.stride}"


class ReversibleEmbedding(nn.Embedding):
    """An embedding; with ``reverse=True``, from vectors (…, size) to a score for each row (…, rows).

    Scores are bounded softly, ``cap * tanh(score / cap)``, where ``logit_soft_cap`` is given; ``reverse_dtype`` names
    the type of torch in which they are computed, where it is another than the table's.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        tie_weights: bool = True,
        logit_soft_cap: float | None = None,
        reverse_dtype: str | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim)
        self.logit_soft_cap = logit_soft_cap
        self.reverse_dtype = reverse_dtype
        self.reverse_weight = None if tie_weights else nn.Parameter(torch.empty(num_embeddings, embedding_dim))
        if self.reverse_weight is not None:
            nn.init.uniform_(self.reverse_weight, -0.05, 0.05)

    def forward(self, input: Tensor, *, reverse: bool = False) -> Tensor:
        if not reverse:
            return super().forward(input)
        weight = self.weight if self.reverse_weight is None else self.reverse_weight
        dtype = weight.dtype if self.reverse_dtype is None else getattr(torch, self.reverse_dtype)
        scores = F.linear(input.to(dtype), weight.to(dtype))
        cap = self.logit_soft_cap
        return scores if cap is None else cap * (scores / cap).tanh()


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


class SamePadding(nn.Module):
    """Zeros around (batch, channels, …) for ``ceil(size / stride)`` windows, of sizes known at run time only.

    Or another value than zero, such as -inf before a maximum.
    """

    def __init__(
        self,
        kernel_size: tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        *,
        dilation: int | tuple[int, ...] = 1,
        value: float = 0.0,
    ) -> None:
        super().__init__()
        rank = len(kernel_size)
        self.kernel_size = kernel_size
        self.stride = (stride,) * rank if isinstance(stride, int) else stride
        self.dilation = (dilation,) * rank if isinstance(dilation, int) else dilation
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        padding: list[int] = []
        axes = zip(x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        for size, kernel, stride, dilation in reversed(list(axes)):
            cells = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
            padding += [cells // 2, cells - cells // 2]
        return F.pad(x, padding, value=self.value)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, dilation={self.dilation}, value={self.value}"


class SameAvgPool(nn.Module):
    """Means over ``ceil(size / stride)`` windows of (batch, channels, …), in which padded cells do not count."""

    def __init__(self, kernel_size: tuple[int, ...], stride: int | tuple[int, ...]) -> None:
        super().__init__()
        self.padding = SamePadding(kernel_size, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self._mean(x) / self._mean(torch.ones_like(x[:1, :1]))

    def _mean(self, x: Tensor) -> Tensor:
        kernel_size, stride = self.padding.kernel_size, self.padding.stride
        pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(kernel_size)]
        return pool(self.padding(x), kernel_size, stride)


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


class LayerScale(nn.Module):
    """``x * weight``, with a factor for each number along ``dim``. Touvron et al. (2021), arxiv.org/abs/2103.17239."""

    def __init__(self, size: int, init_values: float, *, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.full((size,), init_values))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight if self.dim == -1 else (x.movedim(self.dim, -1) * self.weight).movedim(-1, self.dim)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, dim={self.dim}"


class Normalization(nn.Module):
    """``(x - mean) / max(sqrt(variance), 1e-7)``, or the inverse.

    The statistics have ``size``, and are seen as ``shape``, an example's with ones where it shares them. Without
    given numbers they are buffers of the state_dict, zero and one until they are loaded.
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
        for name, given, default in (("mean", mean, 0.0), ("variance", variance, 1.0)):
            statistic = torch.tensor(default if given is None else given)
            statistic = statistic.reshape(size) if statistic.numel() > 1 else statistic.reshape(()).expand(size).clone()
            self.register_buffer(name, statistic, persistent=given is None)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean.view(self.shape)
        deviation = self.variance.view(self.shape).sqrt().clamp_min(1e-7)
        return x * deviation + mean if self.invert else (x - mean) / deviation

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
