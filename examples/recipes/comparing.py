"""Whether two ways of training give the same numbers, and how long they take: what the recipes here print."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

Way = tuple[Callable[..., Tensor], nn.Module]  # a step of training, which gives a scalar; and the model that it trains


def compare(name: str, by_hand: Way, ours: Way, *data: Tensor, steps: int = 100) -> float:
    """The largest relative difference after some steps each way: of the last scalar, the gradients and the weights.

    What is printed besides is the ratio of the median times of a step: below 1, ours is faster. The steps are taken in
    turns, on one thread, because that is steady on a busy machine.
    """
    ways = (by_hand, ours)
    values = [torch.zeros(()), torch.zeros(())]
    seconds: list[list[float]] = [[], []]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(steps):
        for index, (step, model) in enumerate(ways):
            start = time.perf_counter()
            values[index] = step(model, *data)
            seconds[index].append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    theirs, own = (
        [value, *model.parameters(), *(weight.grad for weight in model.parameters() if weight.grad is not None)]
        for value, (_, model) in zip(values, ways, strict=True)
    )
    differences = [(b - a).norm() / a.norm().clamp_min(1e-30) for a, b in zip(theirs, own, strict=True)]
    difference = torch.stack(differences).max().item()
    ratio = statistics.median(seconds[1]) / statistics.median(seconds[0])
    print(f"{name:32} largest relative difference {difference:.1e}, time {ratio:.2f} of that by hand")
    return difference
