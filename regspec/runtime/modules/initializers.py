"""Initializers that ``torch.nn.init`` lacks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def eye_(tensor: Tensor, gain: float) -> Tensor:
    """Fills a matrix with the identity times ``gain``."""
    return nn.init.eye_(tensor).mul_(gain)


@torch.no_grad()
def fill_by_(tensor: Tensor, function: Callable[..., Tensor | None], /, **arguments: Any) -> Tensor:
    """Fills a parameter by a function of it, which fills it in place or gives what is put there."""
    values = function(tensor, **arguments)
    return tensor if values is None or values is tensor else tensor.copy_(values)


@torch.no_grad()
def orthogonal_(
    tensor: Tensor,
    shape: tuple[int, ...],
    permutation: tuple[int, ...],
    gain: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Fills a kernel as Keras does: orthogonal as a matrix (all but the last axis, last axis) of Keras's ``shape``.

    ``permutation`` are Keras's axes in the order in which torch stores them.
    """
    matrix = torch.empty(math.prod(shape[:-1]), shape[-1])
    nn.init.orthogonal_(matrix, gain, generator)
    return tensor.copy_(matrix.reshape(shape).permute(permutation).reshape(tensor.shape))


@torch.no_grad()
def stft_(
    tensor: Tensor,
    *,
    side: str = "real",
    window: str | tuple[float, ...] | None = "hann",
    scaling: str | None = "density",
    periodic: bool = False,
) -> Tensor:
    """Fills a kernel (bins, 1, frame) with the real or imaginary part of a windowed Fourier basis."""
    bins, _, frame = tensor.shape
    time = torch.arange(frame, dtype=torch.float64)
    frequency = torch.arange(bins, dtype=torch.float64).unsqueeze(1) / max(2 * (bins - 1), 1)
    angle = -2 * math.pi * time * frequency
    basis = angle.cos() if side == "real" else angle.sin()
    if window is not None:
        if isinstance(window, str):
            weights = getattr(torch.signal.windows, window)(frame, sym=not periodic, dtype=torch.float64)
        else:
            weights = torch.tensor(window, dtype=torch.float64)
        scale = {"density": weights.square().sum().sqrt(), "spectrum": weights.abs().sum(), None: 1.0}[scaling]
        basis = basis * weights / scale
    return tensor.copy_(basis.unsqueeze(1))


@torch.no_grad()
def variance_scaling_(
    tensor: Tensor,
    *,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Fills a parameter from a distribution of variance ``scale / fan``, as Keras does.

    The truncated normal is cut off at two of its deviations, and these are widened so that the variance is the one
    wanted.
    """
    cells = math.prod(tensor.shape[2:])
    inputs, outputs = tensor.shape[1] * cells, tensor.shape[0] * cells
    fan = {"fan_in": inputs, "fan_out": outputs, "fan_avg": (inputs + outputs) / 2}[mode]
    deviation = math.sqrt(scale / max(1.0, fan))
    if distribution == "uniform":
        limit = math.sqrt(3) * deviation
        return nn.init.uniform_(tensor, -limit, limit, generator)
    if distribution == "untruncated_normal":
        return nn.init.normal_(tensor, std=deviation, generator=generator)
    deviation /= 0.87962566103423978  # the deviation of a standard normal between -2 and 2
    return nn.init.trunc_normal_(tensor, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator)
