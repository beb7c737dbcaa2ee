"""Proximal steps of groups in tensors that are spread over ranks: each has its own numbers, and sums are exchanged.

So a step sends three numbers for each group, and two for each step of Newton, in place of all numbers of the weights.
Sums go by the group of each number, because the pieces of a rank may be any part of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regspec.runtime.kernels.groups.places import Groups, Share
from regspec.runtime.kernels.groups.roots import shrunk
from regspec.runtime.kernels.sharded import is_sharded, joined, placement, shard


def shrink_shards(groups: Sequence[Groups]) -> None:
    """The proximal steps of all groups that have numbers in such tensors, in place."""
    shares: list[Share] = []
    which: list[Tensor] = []  # the group of each number of a share
    count = 0
    for each in groups:
        shares += each
        which += [share.place.own[1] + count for share in each]
        count += each[0].place.shape[0]
    alike: dict[Any, Tensor] = {}  # for each way to be spread, a tensor that is spread so
    kinds = []
    for share in shares:
        x = share.place.x
        key = placement(x) if is_sharded(x) else ()
        alike.setdefault(key, x)
        kinds.append([*alike].index(key))
    device = which[0].device
    own = torch.cat([each.to(device) for each in which])
    slots = torch.cat([each.to(device) + kind * count for each, kind in zip(which, kinds, strict=True)])

    def end_to_end(pieces: Sequence[Tensor]) -> Tensor:
        pairs = zip(pieces, shares, strict=True)
        return torch.cat([piece.flatten()[share.place.own[0]].to(device) for piece, share in pairs])

    def total(*values: Tensor) -> list[Tensor]:
        zeros = own.new_zeros(len(alike) * count, dtype=torch.float64)
        sums = torch.stack([zeros.index_add(0, slots, each.double()) for each in values])
        whole = joined([*zip(sums.unflatten(1, (len(alike), count)).unbind(1), alike.values(), strict=True)])
        return [*torch.stack(whole).sum(0).to(values[0].dtype)]

    x, thresholds = (end_to_end([get(share) for share in shares]) for get in (Share.values, Share.thresholds))
    made = shrunk(x, thresholds, total, lambda norms: norms[own], looks=False)
    for share, piece in zip(shares, made.split([len(each) for each in which]), strict=True):
        if share.moves:
            local = shard(share.place.x)
            flat = local.flatten()
            flat[share.place.own[0]] = piece.to(flat)
            local.copy_(flat.view_as(local))
