"""Proximal steps of groups: by numba, or as the rows of matrices."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from regspec.runtime.kernels import one_pass
from regspec.runtime.kernels.groups.one_pass import MODULE, OnePass
from regspec.runtime.kernels.groups.places import Groups, Place, inverted
from regspec.runtime.kernels.groups.roots import shrunk
from regspec.runtime.kernels.groups.shards import shrink_shards
from regspec.runtime.kernels.sharded import is_sharded
from regspec.runtime.kernels.thresholds import wide

FEWEST = 2**16  # numbers for which numba is loaded
PIECE = 2**16  # numbers of a matrix that torch's operations go through together, as they are then in a cache


class Shrinking:
    """The proximal steps of groups that lie in some places."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.count = sum(math.prod(place.shape) for place in places)
        self.one_pass = OnePass()

    def act(self, groups: Iterable[Groups]) -> None:
        """The steps of groups, in place; of tensors that are spread over ranks, to the pieces that this one has."""
        rest: list[Groups] = []
        sharded: list[Groups] = []
        for each in groups:
            if any(share.moves for share in each):
                (sharded if any(is_sharded(share.place.x) for share in each) else rest).append(each)
        if one_pass.takes(self.count, MODULE, FEWEST) and not torch._C._len_torch_dispatch_stack():
            rest = self.one_pass.shrink(rest)
        for each in rest:
            _shrink_rows(each)
        if sharded:
            shrink_shards(sharded)


def _shrink_rows(groups: Groups) -> None:
    """Those that lie in the same tensors, as the rows of a matrix, which is where the first tensor is."""
    device = groups[0].place.x.device
    rows = [share.place.rows(share.values()).to(device) for share in groups]
    if (threshold := _only_threshold(groups)) is not None:  # of a norm: no matrix is needed
        norms = torch.stack([torch.linalg.vector_norm(own, dim=1) for own in rows]).norm(dim=0)
        factors = (1 - threshold / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp_min_(0).unsqueeze(1)
        made = [own * factors for own in rows]
    else:
        x, thresholds = torch.cat(rows, 1), _thresholds(groups, device)
        each = max(1, PIECE // x.shape[1]) if x.is_cpu else len(x)
        pieces = zip(x.split(each), thresholds.split(each), strict=True)
        shrunken = torch.cat([shrunk(*piece, _total, lambda norms: norms, looks=x.is_cpu) for piece in pieces])
        made = [*shrunken.split([own.shape[1] for own in rows], 1)]
    for share, own in zip(groups, made, strict=True):
        if share.moves:
            view = share.place.by_groups(share.place.x)
            view.copy_(own.reshape(view.shape))


def _only_threshold(groups: Groups) -> float | None:
    """The threshold that all numbers have; None where they differ."""
    factors = {share.factor if share.squares is None else share for share in groups}
    factor = factors.pop() if len(factors) == 1 else None
    return factor if isinstance(factor, float) else None


def _thresholds(groups: Groups, device: torch.device) -> Tensor:
    """The thresholds of such a matrix; of all tensors together, where they are computed with the same numbers."""
    squares = [share.place.rows(share.squares) for share in groups if share.squares is not None]
    numbers = {(share.factor, share.eps) for share in groups}
    if len(squares) == len(groups) and len(numbers) == 1:
        return inverted(torch.cat([wide(each).to(device) for each in squares], 1), *numbers.pop())
    return torch.cat([share.place.rows(share.thresholds()).to(device) for share in groups], 1)


def _total(*values: Tensor) -> list[Tensor]:
    return [each.sum(1, keepdim=True) for each in values]
