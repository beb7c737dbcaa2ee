"""Normalizations that differ from torch's: masks, Keras's moving variances, a scale without a shift or the reverse."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MANY = 4096  # numbers of a channel, from which on it matters how they are summed


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalization with what torch's has not: a scale without a shift or the reverse, a mask, Keras's variance.

    ``momentum`` is torch's, one minus Keras's. With ``biased`` the moving variance takes the batch's biased variance,
    as in Keras; ``frozen`` normalizes by the moving statistics in training too.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-3,
        momentum: float = 0.01,
        *,
        scale: bool = True,
        center: bool = True,
        biased: bool = False,
        frozen: bool = False,
    ) -> None:
        super().__init__(num_features, eps, momentum)
        self.biased = biased
        self.frozen = frozen
        if not scale:
            self.register_parameter("weight", None)
        if not center:
            self.register_parameter("bias", None)

    def reset_parameters(self) -> None:
        """Ones for the scale and the variance, zeros for the shift and the mean."""
        self.reset_running_stats()
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """The normalized input; in training, by the statistics of where ``mask``, which broadcasts to it, is true."""
        mean, variance, momentum = self.running_mean, self.running_var, self.momentum
        assert mean is not None
        assert variance is not None
        assert momentum is not None
        learned = (self.weight, self.bias)
        if not self.training or self.frozen:
            return F.batch_norm(input, mean, variance, *learned, eps=self.eps)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if mask is not None:
            return _masked_batch_norm(input, mask, mean, variance, *learned, momentum, self.eps, self.biased)
        if self.biased:
            return _biased_batch_norm(input, mean, variance, *learned, momentum, self.eps)
        return F.batch_norm(input, mean, variance, *learned, True, momentum, self.eps)


@torch.fx.wrap
def _biased_batch_norm(
    input: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """The input normalized by its batch, whose mean and biased variance move ``mean`` and ``variance``."""
    # torch adds the batch's variance times n / (n - 1); scaling the moving one likewise, and back, takes that out
    n = input.numel() / input.shape[1]
    correction = n / (n - 1) if n > 1 else 1.0
    moving = variance * correction
    # on the CPU torch sums channels last one pixel after the other, and so loses 5e-3 of the variance of a million
    x = input.contiguous() if n > MANY and input.device.type == "cpu" else input
    # not `F.batch_norm`, which refuses one value a channel
    output = torch.batch_norm(x, weight, bias, mean, moving, True, momentum, eps, torch.backends.cudnn.enabled)
    with torch.no_grad():
        if n > 1:
            variance.copy_(moving / correction)
        else:  # of one value, whose variance is 0, torch adds nan
            variance.mul_(1 - momentum)
    return output


@torch.fx.wrap
def _masked_batch_norm(
    input: Tensor,
    mask: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
    biased: bool,
) -> Tensor:
    """The input normalized by its unmasked numbers; Keras adds 1e-7 to how many each channel has."""
    axes = [0, *range(2, input.ndim)]
    mask = mask.expand_as(input)
    x = _single(input)
    number = mask.sum(axes, keepdim=True).to(x.dtype) + 1e-7
    center = torch.where(mask, x, 0).sum(axes, keepdim=True) / number
    spread = torch.where(mask, x - center, 0).square().sum(axes, keepdim=True) / number
    _move(mean, center.flatten(), momentum)
    moved = spread if biased else spread * number / (number - 1).clamp_min(1)
    _move(variance, moved.flatten(), momentum)
    output = (x - center) * torch.rsqrt(spread + eps)
    channels = (-1, *(1 for _ in axes[1:]))
    output = output if weight is None else output * weight.view(channels)
    output = output if bias is None else output + bias.view(channels)
    return output.to(input.dtype)


def _single(x: Tensor) -> Tensor:
    """``x``, where it is of half precision in single: neither squares nor how many numbers there are fit in half."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@torch.no_grad()
def _move(moving: Tensor, batch: Tensor, momentum: float) -> None:
    """Moves a statistic by that of a batch, in the batch's type: the statistic's may be half precision."""
    moving.copy_(moving.to(batch.dtype).lerp(batch, momentum))


class BatchRenorm(_BatchNorm):
    """Batch renormalization of (batch, channels, …), https://arxiv.org/abs/1702.03275, as Keras does it.

    In training the batch's normalization is brought near to that of moving statistics, by a factor ``r`` and a shift
    ``d``, which are constants of the backward. ``clipping`` bounds them: ``(rmin, rmax, dmax)``, None for no bound.
    """

    moving_stddev: Tensor
    renorm_mean: Tensor
    renorm_stddev: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-3,
        momentum: float = 0.01,
        *,
        renorm_momentum: float = 0.01,
        clipping: tuple[float | None, float | None, float | None] = (None, None, None),
        scale: bool = True,
        center: bool = True,
        frozen: bool = False,
    ) -> None:
        super().__init__(num_features, eps, momentum, scale=scale, center=center, frozen=frozen)
        self.renorm_momentum = renorm_momentum
        self.clipping = clipping
        self.register_buffer("moving_stddev", torch.ones(num_features))
        self.register_buffer("renorm_mean", torch.zeros(num_features))
        self.register_buffer("renorm_stddev", torch.ones(num_features))

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]  # the layer refuses masks
        if not self.training or self.frozen:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        learned = (self.weight, self.bias)
        moving = (self.running_mean, self.running_var, self.moving_stddev)
        renorm = (self.renorm_mean, self.renorm_stddev)
        output = _renormalized(
            input, *moving, *renorm, *learned, self.momentum, self.renorm_momentum, self.clipping, self.eps
        )
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return output


@torch.fx.wrap
def _renormalized(
    input: Tensor,
    mean: Tensor,
    variance: Tensor,
    stddev: Tensor,
    renorm_mean: Tensor,
    renorm_stddev: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    renorm_momentum: float,
    clipping: tuple[float | None, float | None, float | None],
    eps: float,
) -> Tensor:
    """The input normalized by its batch, and corrected by the moving statistics before it, which it then moves."""
    if input.ndim < 2:
        raise ValueError(f"expected input of 2 or more axes, got {input.ndim}")
    with torch.no_grad():
        axes = [0, *range(2, input.ndim)]
        x = _single(input)
        center = x.mean(axes)
        deviation = (x.var(axes, correction=0) + eps).sqrt()
        known = _single(renorm_stddev).clamp_min(eps**0.5)
        rmin, rmax, dmax = clipping
        r, d = deviation / known, (center - renorm_mean) / known
        r = r if rmin is None and rmax is None else r.clamp(rmin, rmax)
        d = d if dmax is None else d.clamp(-dmax, dmax)
        _move(renorm_mean, center, renorm_momentum)
        _move(renorm_stddev, deviation, renorm_momentum)
        _move(mean, center, momentum)
        _move(stddev, deviation, momentum)
        variance.copy_((_single(stddev).square() - eps).clamp_min(0))
    scale = r if weight is None else r * weight
    shift = d if weight is None else d * weight
    shift = shift if bias is None else shift + bias
    # not `F.batch_norm`, which refuses one value a channel
    return torch.batch_norm(input, scale, shift, None, None, True, 0.0, eps, torch.backends.cudnn.enabled)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """Batch normalization of (batch, channels) or (batch, channels, length)."""


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """Batch normalization of (batch, channels, height, width)."""


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """Batch normalization of (batch, channels, depth, height, width)."""


class LayerNorm(nn.LayerNorm):
    """Layer normalization whose scale may be left out while the shift stays.

    With ``rms_scaling`` it divides by the deviation and does not subtract the mean; then it has a scale and no shift.
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-3,
        *,
        scale: bool = True,
        rms_scaling: bool = False,
    ) -> None:
        super().__init__(normalized_shape, eps, bias=not rms_scaling)
        self.rms_scaling = rms_scaling
        if not scale:
            self.register_parameter("weight", None)

    def forward(self, input: Tensor) -> Tensor:
        if not self.rms_scaling:
            return super().forward(input)
        x = _single(input)
        variance = x.var([*range(-len(self.normalized_shape), 0)], correction=0, keepdim=True)
        return (x * (variance + self.eps).rsqrt() * self.weight).to(input.dtype)


class GroupNorm(nn.GroupNorm):
    """Group normalization whose scale or shift may be left out while the other stays."""

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-3, *, scale: bool = True, center: bool = True
    ) -> None:
        super().__init__(num_groups, num_channels, eps)
        if not scale:
            self.register_parameter("weight", None)
        if not center:
            self.register_parameter("bias", None)

    def forward(self, input: Tensor) -> Tensor:
        # torch 2.13 fails in the backward of a shift without a scale
        output = F.group_norm(input, self.num_groups, eps=self.eps)
        shape = (-1, *(1,) * (input.ndim - 2))
        output = output if self.weight is None else output * self.weight.view(shape).to(output.dtype)
        return output if self.bias is None else output + self.bias.view(shape).to(output.dtype)


class SpectralNormalization(nn.Module):
    """A layer whose weight is divided by its largest singular value at the start of each forward in training.

    As Keras does it: the weight itself is overwritten, and the singular value is estimated by power iterations from a
    persistent vector. ``dim`` is the dimension of the weight that holds Keras's last axis, the columns of the matrix.
    """

    vector_u: Tensor

    def __init__(self, layer: nn.Module, parameter: str = "weight", *, dim: int = 0, power_iterations: int = 1) -> None:
        super().__init__()
        self.layer = layer
        self.parameter = parameter
        self.dim = dim
        self.power_iterations = power_iterations
        self.register_buffer("vector_u", torch.empty(1, layer.get_parameter(parameter).shape[dim]))
        nn.init.trunc_normal_(self.vector_u, std=0.02, a=-0.04, b=0.04)

    def forward(self, *inputs: Tensor) -> Tensor:
        weights: dict[str, Tensor] = {}
        if self.training:
            self._normalize()
            # a copy, so that the next forward may overwrite the weight before this one's backward
            weights[self.parameter] = self.layer.get_parameter(self.parameter).clone()
        output: Tensor = torch.func.functional_call(self.layer, weights, inputs)
        return output

    @torch.no_grad()
    def _normalize(self) -> None:
        weight = self.layer.get_parameter(self.parameter)
        matrix = weight.movedim(self.dim, -1).flatten(0, -2)
        u = self.vector_u
        for _ in range(self.power_iterations):
            v = _unit(u @ matrix.T)
            u = _unit(v @ matrix)
        sigma = (v @ matrix @ u.T).squeeze()
        is_zero = (weight == 0).all()
        self.vector_u.copy_(torch.where(is_zero, self.vector_u, u))
        weight.div_(torch.where(is_zero, torch.ones_like(sigma), sigma))

    def extra_repr(self) -> str:
        return f"power_iterations={self.power_iterations}"


def _unit(x: Tensor) -> Tensor:
    """``x`` over its Euclidean norm."""
    norm: Tensor = torch.linalg.vector_norm(x)
    return x / norm.clamp_min(1e-12)
