"""Proximal steps of groups by what numba compiles: the tables that it reads."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regspec.runtime.kernels import one_pass
from regspec.runtime.kernels.fused import is_plain
from regspec.runtime.kernels.groups.places import Groups, Place, Share
from regspec.runtime.kernels.groups.roots import STEPS

MODULE = "groups.by_numba"
CHUNK = 2**15  # numbers that a thread takes at once, or a group that has more

Entry = tuple[int, ...]  # what a table has of a tensor, as `by_numba.kernel` says


class OnePass:
    """Proximal steps of groups, whose tables are kept from step to step as long as tensors lie where they lay."""

    def __init__(self) -> None:
        self.seen: dict[Place, _Seen] = {}
        self.tables: dict[torch.dtype, _Table] = {}

    def shrink(self, groups: Sequence[Groups]) -> list[Groups]:
        """Does the steps of those that numba can do, and returns the others."""
        rest: list[Groups] = []
        by_type: dict[torch.dtype, list[Groups]] = {}
        for each in groups:
            types = {self._type(share) for share in each}
            dtype = types.pop()
            if types or dtype is None:
                rest.append(each)
            else:
                by_type.setdefault(dtype, []).append(each)
        for dtype, taken in by_type.items():
            entries = [[self.seen[share.place].entry for share in each] for each in taken]
            table = self.tables.get(dtype)
            if table is None or table.entries != entries:
                table = self.tables[dtype] = _Table(taken, entries)
            table.run(dtype, taken)
            moved = [share.place.x for each in taken for share in each if share.moves]
            torch.autograd.graph.increment_version(moved)
        return rest

    def _type(self, share: Share) -> torch.dtype | None:
        """The type of a tensor that a table can have; None of another."""
        place, x, squares = share.place, share.place.x, share.squares
        seen = self.seen.get(place)
        if seen is None or not seen.holds(x, squares, share.moves):
            seen = self.seen[place] = _Seen(share, seen)
        return seen.dtype


class _Seen:
    """A tensor and its squares as they were when they were looked at, and what tables have of them."""

    def __init__(self, share: Share, before: _Seen | None) -> None:
        x, squares = share.place.x, share.squares
        self.x, self.squares = x.detach(), squares  # whose memory nothing else gets as long as this is kept
        self.address, self.beside = x.data_ptr(), 0 if squares is None else squares.data_ptr()
        self.stride, self.moves = x.stride(), share.moves
        self.dtype = x.dtype if _is_for_one_pass(x, squares) else None
        self.layout: _Layout | None = None if before is None or before.stride != self.stride else before.layout
        if self.dtype is not None:
            self.layout = self.layout or _Layout(share.place)  # whose arrays tables have the addresses of
            self.entry = self.layout.entry(share)

    def holds(self, x: Tensor, squares: Tensor | None, moves: bool) -> bool:
        """Whether they are so now."""
        return (
            self.address == x.data_ptr()
            and self.beside == (0 if squares is None else squares.data_ptr())
            and self.stride == x.stride()
            and self.moves == moves
        )


def _is_for_one_pass(x: Tensor, squares: Tensor | None) -> bool:
    """Whether a tensor can be read and written, and its squares lie as it does."""
    is_alike = squares is None or one_pass.lie_alike(x, squares)
    return is_plain(x) and one_pass.is_in_one_piece(x) and is_alike and x.numel() > 0


class _Layout:
    """Where groups lie in the memory of a tensor: where each begins, and from there runs of one length."""

    def __init__(self, place: Place) -> None:
        x, view = place.x, place.by_groups(place.x)
        order = sorted((dim for dim in range(2, view.ndim) if view.shape[dim] > 1), key=view.stride)
        self.length = 1
        while order and view.stride(order[0]) == self.length:
            self.length *= view.shape[order.pop(0)]
        self.begins = _steps(view, (0, 1)) + np.int64(view.storage_offset() - x.storage_offset())
        self.runs = _steps(view, order[::-1])

    def entry(self, share: Share) -> Entry:
        """What a table has of the tensor."""
        from regspec.runtime.kernels.groups.by_numba import ALIKE, DIFFERS, STAYS

        squares = share.squares
        what = STAYS if not share.moves else ALIKE if squares is None else DIFFERS
        addresses = share.place.x.data_ptr(), 0 if squares is None else squares.data_ptr()
        return (*addresses, self.begins.ctypes.data, self.runs.ctypes.data, len(self.runs), self.length, what)


def _steps(view: Tensor, dims: Sequence[int]) -> NDArray[np.int64]:
    """How far the places along some dimensions of a view are from its first."""
    steps = np.zeros(1, np.int64)
    for dim in dims:
        steps = np.add.outer(steps, np.arange(view.shape[dim]) * view.stride(dim)).ravel()
    return steps


class _Table:
    """What numba reads of groups whose tensors have one type, but for the numbers of a step."""

    def __init__(self, groups: Sequence[Groups], entries: list[list[Entry]]) -> None:
        from regspec.runtime.kernels.groups.by_numba import NUMBERS, WORK

        self.entries = entries
        self.table, self.works, self.most, numbers = array("q"), array("q"), 1, 0
        places = []
        for shares, own in zip(groups, entries, strict=True):
            size = sum(share.place.shape[1] for share in shares)
            places.append((len(self.table), shares[0].place.shape[0], max(1, CHUNK // size)))
            self.table.extend((len(own), size, numbers))
            for entry in own:
                self.table.extend(entry)
            self.most, numbers = max(self.most, size), numbers + NUMBERS * len(own)
        start = self.table.buffer_info()[0]
        for place, count, each in places:
            for first in range(0, count, each):
                self.works.extend((start + self.table.itemsize * place, first, min(first + each, count)))
        self.chunks = len(self.works) // WORK

    def run(self, dtype: torch.dtype, groups: Sequence[Groups]) -> None:
        """Has the threads of torch do the steps, whose numbers are those of these groups."""
        numbers = array("d")
        for shares in groups:
            for _, factor, eps, _, is_nonnegative in shares:
                numbers.extend((factor, eps, 0.0 if is_nonnegative else -math.inf))
        threads = min(torch.get_num_threads(), self.chunks)
        room = torch.empty(threads * 2 * self.most, dtype=dtype)
        addresses = self.works.buffer_info()[0], numbers.buffer_info()[0], room.data_ptr()
        one_pass.run(MODULE, dtype, array("q", (0, 0, self.chunks, *addresses, self.most, STEPS)), threads)
