"""The order of examples: batches of indices, of which each process takes its share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class Batches(Sampler[list[int]]):
    """Lists of indices, a batch each; with several processes, this one's part of each batch.

    A last batch of fewer than two examples a process is joined to the one before it. The order of an epoch follows
    from the seed and the epoch alone, so that a resumed run, and one on several processes, takes the same batches.

    Args:
        count: how many examples there are.
        size: how many are in a batch, over all processes.
        seed: of the order; None for the order as it is.
        rank: which process this is.
        processes: how many there are.
    """

    def __init__(self, count: int, size: int, *, seed: int | None = None, rank: int = 0, processes: int = 1) -> None:
        self.count = count
        self.size = size
        self.seed = seed
        self.rank = rank
        self.processes = processes
        self.epoch = 0
        left = count % size
        # with one example on a process, a batch normalization there has no variance
        is_joined = count > size and 0 < left < 2 * processes
        self.batches = count // size + (left > 0 and not is_joined)

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next: Lightning says so before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        if self.seed is None:
            order = torch.arange(self.count)
        else:
            drawn = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.count, generator=drawn)
        for index in range(self.batches):
            start = index * self.size
            yield order[start : start + self.whole(index)][self.rank :: self.processes].tolist()

    def whole(self, index: int) -> int:
        """How many examples a batch has over all processes."""
        return self.size if index < self.batches - 1 else self.count - index * self.size

    def share(self, index: int, several: int) -> float:
        """How much of a step's ``several`` batches this one is, times their number; the last step may have fewer."""
        first = index // several * several
        sizes = [self.whole(each) for each in range(first, min(first + several, self.batches))]
        return several * self.whole(index) / sum(sizes)
