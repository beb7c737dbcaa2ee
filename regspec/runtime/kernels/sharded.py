"""Penalties of sharded tensors (`DTensor`): each rank reduces its shard, and a small all-reduce joins the results.

Shards are handled as plain tensors, because some operations of `DTensor` are wrong (torch 2.13): they add the norms of
a group's pieces as if those were sums; and they gather a weight that has fewer rows than there are ranks, and return
its whole gradient, which FSDP2 takes for a shard's. Besides, each penalty would cost an all-reduce of its own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Reduction = tuple[Any, list[float]]  # a process group, and what each value is multiplied by before it is summed there


def is_sharded(x: Any) -> bool:
    """Whether a tensor is a `DTensor`. Importing that takes half a second; if a tensor is one, it was imported."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def refuse_flat_parameters(module: nn.Module) -> None:
    """Raises where FSDP's first version has cut a module's weights into flat pieces, of which none is a weight."""
    if "_is_fsdp_managed_module" in module.__dict__ and any(
        getattr(parameter, "_fsdp_flattened", False) for parameter in module.parameters()
    ):
        raise RuntimeError(
            "FullyShardedDataParallel has the weights as pieces of flat parameters, whose penalties can't be told: "
            "take torch.distributed.fsdp.fully_shard"
        )


def placement(x: Any) -> tuple[Any, ...]:
    """On which ranks the shards of a tensor are, and how."""
    return x.device_mesh, x.placements


def whole(x: Any) -> Tensor:
    """A tensor as a plain one: one that is spread over ranks is gathered."""
    full: Tensor = x.full_tensor() if is_sharded(x) else x
    return full


def shard(x: Any) -> Tensor:
    """The piece of a sharded tensor that this rank has; all of another one; the sum over the ranks of a partial one."""
    if not is_sharded(x) or _is_partial(x):
        return whole(x)
    local: Tensor = x.to_local()
    return local


def fill(x: Any, value: Tensor) -> None:
    """Fills a tensor with a value; a sharded one with this rank's piece. Every rank has the whole value."""
    (x.to_local() if is_sharded(x) else x).copy_(piece_of(x, value))


def piece_of(x: Any, value: Tensor) -> Tensor:
    """Of a value of the shape of a tensor, the piece that this rank has of that. Every rank has the whole value."""
    if not is_sharded(x):
        return value
    tensor = sys.modules["torch.distributed.tensor"]
    everywhere = [tensor.Replicate()] * x.device_mesh.ndim
    spread = tensor.DTensor.from_local(value, x.device_mesh, everywhere, run_check=False)
    piece: Tensor = spread.redistribute(placements=x.placements).to_local()
    return piece


def penalty_of(regularizer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A regularizer's penalty of a tensor, which may be spread over ranks: a plain scalar.

    A regularizer without ``of_shard`` can't be computed from pieces: it is given the gathered tensor.
    """
    of_shard = getattr(regularizer, "of_shard", None) if is_sharded(x) else None
    if of_shard is None:
        return regularizer(whole(x))
    penalty: Tensor = of_shard(shard(x), x.shape, partial(join, x))
    return penalty


def join(x: Tensor, value: Tensor, dims: Collection[int] | None = None) -> Tensor:
    """``value`` summed over the ranks that have the other pieces of ``x``: pieces along ``dims``, or along all."""
    return _summed(value, [(group, [1.0]) for group in _groups(x, dims).values()])


def joined(values: list[tuple[Tensor, Any]]) -> list[Tensor]:
    """Each value summed over the ranks that have the other pieces of its weight; given are pairs (value, weight).

    One all-reduce sums them all; or one for each mesh dimension, where weights are split over several dimensions of a
    mesh that is not the whole world. A value that several of the summed ranks share is divided among them first.
    """
    split = [_groups(x) for _, x in values]
    groups = {name: group for own in split for name, group in own.items()}
    reductions: list[Reduction] = []
    world = torch.distributed.get_world_size()
    if len(groups) > 1 and any(is_sharded(x) and x.device_mesh.size() == world for _, x in values):
        shares = [math.prod(group.size() for group in own.values()) / world for own in split]
        reductions.append((torch.distributed.group.WORLD, shares))
    else:
        for name, group in groups.items():
            reductions.append((group, [1.0 if name in own else 1 / group.size() for own in split]))
    return [*_summed(torch.stack([value for value, _ in values]), reductions).unbind()]


def _summed(values: Tensor, reductions: list[Reduction]) -> Tensor:
    apply: Callable[..., Tensor] = _Summed.apply
    return apply(values, reductions) if reductions else values


class _Summed(torch.autograd.Function):
    """A sum over ranks. All ranks compute the same from it, so its gradient is passed on unchanged."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, reductions: list[Reduction]) -> Tensor:
        for group, shares in reductions:
            values = values * (values.new_tensor(shares) if len(shares) > 1 else shares[0])
            torch.distributed.all_reduce(values, group=group)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _groups(x: Any, dims: Collection[int] | None = None) -> dict[str, Any]:
    """The process groups of the ranks that have other pieces of ``x``, by name; pieces may be strided."""
    if not is_sharded(x) or _is_partial(x):
        return {}
    groups = [
        x.device_mesh.get_group(axis)
        for axis, placement in enumerate(x.placements)
        if not placement.is_replicate() and (dims is None or placement.dim % x.ndim in dims)
    ]
    return {group.group_name: group for group in groups}


def _is_partial(x: Any) -> bool:
    """Whether the pieces are to be summed, rather than put side by side."""
    return any(placement.is_partial() for placement in x.placements)
