"""What penalties add to a step of several processes: time, messages and bytes, by DDP and by FSDP2.

The processes share the cores of one machine, and send by gloo. Without penalties the step is the same: 8 layers of 256
with L2 on kernels and L1 on outputs, or with neither.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from .penalties import Step, medians
from .timing import Figure

SIZE = (256, 8, 32)  # width, layers, batch
COLLECTIVES = ("c10d", "_c10d_functional")


def figures() -> Iterator[Figure]:
    for way in ("DDP", "FSDP2"):
        for count in (2, 4):
            found = _measured(way, count)
            ours, theirs = found["ours"], found["none"]
            for name, unit in (("seconds", "ms"), ("messages", ""), ("bytes", "MB")):
                what = "a step" if name == "seconds" else f"a step's {name}"
                yield Figure(
                    f"{way}, {count} processes: {what} / without penalties", ours[name], theirs[name], 1.1, unit
                )


def _measured(way: str, count: int) -> dict[str, dict[str, float]]:
    """What the first process measures, with penalties and without."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_run, (count, way, folder), count)
        found: dict[str, dict[str, float]] = json.loads((Path(folder) / "measured.json").read_text())
    return found


def _run(rank: int, count: int, way: str, folder: str) -> None:
    """What each process does. It leaves without an end, in which torch's gloo may hang."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    steps = {how: Shared(way, how) for how in ("ours", "none")}
    seconds = medians([*steps.values()], rounds=31)
    found = {how: {"seconds": taken, **_sent(steps[how])} for how, taken in zip(steps, seconds, strict=True)}
    if rank == 0:
        (Path(folder) / "measured.json").write_text(json.dumps(found))
    dist.barrier()
    os._exit(0)


class Shared(Step):
    """A step of which each process does its share."""

    def __init__(self, way: str, how: str) -> None:
        super().__init__(*SIZE, how)
        self.trained: nn.Module = self.model
        if way == "DDP":
            self.trained = nn.parallel.DistributedDataParallel(self.model)
            return
        from torch.distributed.fsdp import fully_shard

        for layer in self.model.children():
            if isinstance(layer, nn.Linear):
                fully_shard(layer)
        fully_shard(self.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        loss = (self.trained(self.x) - self.y).square().mean()
        if self.how == "ours":
            loss = loss + self.model.regularization_loss()
        loss.backward()
        self.optimizer.step()


class _Sent(TorchDispatchMode):
    """Counts collectives, and what each hands over: the larger of what goes in and what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.namespace in COLLECTIVES and "wait" not in func.__name__:
            self.messages += 1
            self.bytes += max(_bytes(each) for each in args)
        return func(*args, **(kwargs or {}))


def _bytes(x: Any) -> int:
    if isinstance(x, (list, tuple)):
        return sum(_bytes(each) for each in x)
    return x.nbytes if isinstance(x, Tensor) else 0


def _sent(step: Shared) -> dict[str, float]:
    with _Sent() as sent:
        step()
    return {"messages": sent.messages, "bytes": sent.bytes}
