"""The order of examples: batches of indices, of which each process takes its part, and what counts in a step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from regspec.text.problems import Problem, RegspecError
from regspec.training.data.examples import Examples
from regspec.training.data.streams import Streamed


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
            stop = start + self.size if index < self.batches - 1 else self.count
            yield order[start:stop][self.rank :: self.processes].tolist()


class Passes:
    """The batches of a stream, which come as they are: an epoch is one pass.

    What a loader draws from torch's generator follows from the seed and the epoch, so that a resumed run takes the same
    batches, where the stream has no state of its own. Several processes all go through the stream, and each takes its
    part of each batch; that they see the same is compared by the first batch of each pass.

    Args:
        examples: the stream's.
        seed: of what it draws; None to leave the generator alone.
        rank: which process this is.
        processes: how many there are.
    """

    batch_sampler = None  # for which Lightning asks whatever has a sampler

    def __init__(self, examples: Streamed, *, seed: int | None = None, rank: int = 0, processes: int = 1) -> None:
        self.examples = examples
        self.seed = seed
        self.rank = rank
        self.processes = processes
        self.epoch = 0

    @property
    def sampler(self) -> Passes:
        """Itself, which Lightning tells the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next: Lightning says so before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.examples.sizes)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if self.seed is not None:  # with the first batch: Lightning asks for an iterator before it says the epoch
            torch.manual_seed(self.seed * 1_000_003 + self.epoch)
        for index, batch in enumerate(self.examples):
            yield batch if self.processes == 1 else self._part(batch, is_first=index == 0)

    def _part(self, batch: tuple[Tensor, ...], *, is_first: bool) -> tuple[Tensor, ...]:
        """What of a batch is for this process."""
        count, name = len(batch[0]), self.examples.stream.name
        if count < self.processes:
            what = f"'{name}' gives a batch of {count}, which {self.processes} processes can't share"
            raise RegspecError(Problem(what, "a loader with drop_last leaves a small last batch out"))
        if is_first and not _is_same(batch):
            what = f"'{name}' does not give the same batches on each process"
            raise RegspecError(Problem(what, "what it draws has to come from torch's generator, or from a seed"))
        return tuple(each[self.rank :: self.processes] for each in batch)


def _is_same(batch: tuple[Tensor, ...]) -> bool:
    """Whether a batch has the same numbers on all processes."""
    if not torch.distributed.is_initialized():
        return True
    content = hashlib.sha256(b"".join(each.cpu().contiguous().view(torch.uint8).numpy().tobytes() for each in batch))
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, content.hexdigest())
    return len({*found}) == 1


def batches_in(
    examples: Examples, size: int, *, seed: int | None = None, rank: int = 0, processes: int = 1
) -> Batches | Passes:
    """The batches of an epoch, as `Batches` has them, or as they come."""
    if not isinstance(examples, Streamed):
        return Batches(len(examples), size, seed=seed, rank=rank, processes=processes)
    return Passes(examples, seed=seed, rank=rank, processes=processes)


class Selections:
    """The batches of examples in an order, each of which is one selection of rows.

    Args:
        examples: of which they are.
        order: lists of rows.
    """

    batch_sampler = None  # for which Lightning asks whatever has a sampler

    def __init__(self, examples: Examples, order: Batches) -> None:
        self.examples = examples
        self.sampler = order

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return map(self.examples.__getitem__, self.sampler)


def loader_of(examples: Any, order: Batches | Passes) -> Passes | Selections:
    """What gives whole batches: selections of the examples, or the stream itself."""
    return order if isinstance(order, Passes) else Selections(examples, order)


class Steps:
    """Batches, each with what counts in it, and in all batches of its step of the optimizer: (2, counts), at its end.

    So each batch's loss can be scaled by its share of the step's, in one backward after the other. The batches of a
    step are in memory together.

    Args:
        loader: what gives the batches.
        several: how many make a step; the last of an epoch may have fewer.
        counted: what counts in a batch, (counts,).
    """

    batch_sampler = None  # for which Lightning asks whatever has a sampler

    def __init__(
        self, loader: Passes | Selections, several: int, counted: Callable[[Sequence[Tensor]], Tensor]
    ) -> None:
        self.loader = loader
        self.several = several
        self.counted = counted

    @property
    def sampler(self) -> Batches | Passes:
        """What Lightning tells the epoch."""
        return self.loader.sampler

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        batches = islice(self.loader, len(self))  # a pass of a stream may have more, which are not trained on
        while step := [*islice(batches, self.several)]:
            counts = [self.counted(batch) for batch in step]
            whole = torch.stack(counts).sum(0)
            for batch, own in zip(step, counts, strict=True):
                yield *batch, torch.stack([own, whole])
