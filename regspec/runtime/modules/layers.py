"""Layers of Keras that torch has no module for: einsum, local weights, embeddings in reverse, padding."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F


def _scale_of(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """What makes 127 of the largest magnitude along ``dim``."""
    most = x.abs().amax(dim, keepdim=True) + 1e-7
    return torch.full_like(most, 127) / most  # of a number, torch would multiply by the reciprocal, and round twice


class Rounding(nn.Module):
    """Numbers rounded to 255 steps, of 8 bits, between plus and minus their largest magnitude along ``dim``.

    The gradient is that of the identity.
    """

    def __init__(self, *, dim: int | tuple[int, ...] = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = _scale_of(x, self.dim)
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
        return product if self.bias is None else product + self.bias.to(product.dtype)

    def extra_repr(self) -> str:
        return f"{self.equation!r}, {tuple(self.weight.shape)}"


def _zero(product: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> Tensor:
    """Zero, with all derivatives of a product that is linear in both.

    The product itself may be too large for its type, as float16 under autocast, and infinity less itself is no zero.
    Nor is this an autograd function: one that is derived forwards too is not compiled.
    """
    return product(x - x.detach(), weight) + product(x.detach(), weight - weight.detach())


def _is_derived() -> bool:
    """Whether derivatives are computed; those of forward mode are under `no_grad`, too."""
    return torch.is_grad_enabled() or forward_ad._current_level >= 0


class RoundedEinsumDense(EinsumDense):
    """`EinsumDense` of whole numbers of 8 bits: of the input's over its scale, and of the weight's over ``scale``.

    The products are summed without rounding, and divided by both scales in the end, as Keras's int8 layers do it; so
    the result is the same number, and what follows rounds it to the same one. ``dim`` are the dimensions of the input
    that are summed over. The gradient is that of the product of input and weight.
    """

    scale: Tensor

    def __init__(
        self,
        equation: str,
        weight_shape: tuple[int, ...],
        scale_shape: tuple[int, ...],
        *,
        dim: int | tuple[int, ...] = -1,
        bias_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(equation, weight_shape, bias_shape=bias_shape)
        self.dim = dim
        self.register_buffer("scale", torch.ones(scale_shape))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            own = _scale_of(x, self.dim)
            whole = (x * own).round().clamp(-127, 127)
            product = torch.einsum(self.equation, whole.double(), (self.weight * self.scale).round().double())
            ones = self.scale.new_ones((1,) * self.scale.ndim)
            scales = torch.einsum(self.equation, own, ones) * torch.einsum(
                self.equation, torch.ones_like(own), self.scale
            )
            product = product.to(x.dtype) / scales
        if _is_derived():
            product = product.detach() + _zero(partial(torch.einsum, self.equation), x, self.weight)
        return product if self.bias is None else product + self.bias


class RoundedLinear(nn.Linear):
    """A linear map of whole numbers of 8 bits, see `RoundedEinsumDense`; ``scale`` is a number for each output."""

    scale: Tensor

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.register_buffer("scale", torch.ones(out_features))

    def forward(self, input: Tensor) -> Tensor:
        with torch.no_grad():
            own = _scale_of(input, -1)
            whole = (input * own).round().clamp(-127, 127)
            weight = (self.weight * self.scale.unsqueeze(-1)).round()
            product = F.linear(whole.double(), weight.double()).to(input.dtype) / (self.scale * own)
        if _is_derived():
            product = product.detach() + _zero(F.linear, input, self.weight)
        return product if self.bias is None else product + self.bias


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
        return output if self.bias is None else output + self.bias.to(output.dtype)

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


class LayerScale(nn.Module):
    """``x * weight``, with a factor for each number along ``dim``. Touvron et al. (2021), arxiv.org/abs/2103.17239."""

    def __init__(self, size: int, init_values: float, *, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.full((size,), init_values))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        return x * weight if self.dim == -1 else (x.movedim(self.dim, -1) * weight).movedim(-1, self.dim)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, dim={self.dim}"
