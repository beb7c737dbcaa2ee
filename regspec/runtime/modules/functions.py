"""Functions of tensors that torch lacks."""

from __future__ import annotations

import torch
from torch import Tensor


def mirror_pad(x: Tensor, padding: tuple[tuple[int, int], ...], *, symmetric: bool = False) -> Tensor:
    """``x`` with its numbers mirrored before and after along its last axes; ``symmetric`` repeats those at the border.

    Unlike ``F.pad`` it takes any number of axes and any type, and knows the symmetric mode.
    """
    border = 0 if symmetric else 1
    for dim, (before, after) in enumerate(padding, x.ndim - len(padding)):
        first = x.narrow(dim, border, before).flip(dim)
        last = x.narrow(dim, x.shape[dim] - border - after, after).flip(dim)
        x = torch.cat([first, x, last], dim)
    return x


def one_hot(x: Tensor, size: int, *, dim: int = -1) -> Tensor:
    """A one at each whole number's place along a new axis, else zeros; all zeros for numbers that have no place."""
    places = torch.arange(size, device=x.device)
    places = places.reshape(-1, *(1,) * (x.ndim - dim if dim >= 0 else -dim - 1))
    return (x.unsqueeze(dim) == places).float()


def take_of_each(x: Tensor, places: Tensor) -> Tensor:
    """``x[b, places[b]]`` for each example b: the slices of axis 1 at the example's own ``places`` (batch, …)."""
    examples = torch.arange(len(x), device=x.device).reshape(-1, *(1,) * (places.ndim - 1))
    return x[examples, places]
