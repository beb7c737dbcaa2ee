"""What a model costs: its weights, its units, the multiplications of an example, bytes, and the time that it takes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from regspec.graph.loading import graph_of
from regspec.modules.inputs import forms_of, inputs_of
from regspec.specs.model import ModelSpec

RUNS, LEAST = 15, 0.5  # how often a model is timed at least, and for how many seconds


@dataclass(frozen=True)
class Costs:
    """What a model costs.

    Attributes:
        weights: how many numbers its parameters hold.
        zeros: how many of them are exactly zero.
        multiply_adds: of one example, in matrix products and convolutions.
        bytes: of its parameters and buffers.
        seconds: the least time of a forward of a batch, where it is, in evaluation.
    """

    weights: int
    zeros: int
    multiply_adds: int
    bytes: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The costs as plain data."""
        return asdict(self)


def costs_of(models: Sequence[nn.Module], spec: ModelSpec, batch: int = 32) -> list[Costs]:
    """The costs of models that take the same inputs, timed in turn, so that a busy machine is so to all of them.

    Args:
        models: in evaluation mode.
        spec: of one of them, which says what they take.
        batch: how many examples are timed at once.
    """
    graph = graph_of(spec)
    device = next((each.device for model in models for each in model.parameters()), torch.device("cpu"))
    one, many = ([x.to(device) for x in inputs_of(graph, n, forms_of(graph)[0])] for n in (1, batch))
    times: list[list[float]] = [[] for _ in models]
    with torch.no_grad():
        products = [_multiply_adds(model, one) for model in models]
        for model in models:
            model(*many)
        began = time.perf_counter()
        while len(times[0]) < RUNS or time.perf_counter() - began < LEAST * len(models):
            for model, own in zip(models, times, strict=True):
                start = time.perf_counter()
                model(*many)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                own.append(time.perf_counter() - start)
    found = []
    for model, count, own in zip(models, products, times, strict=True):
        parameters, state = [*model.parameters()], model.state_dict().values()
        found.append(
            Costs(
                sum(each.numel() for each in parameters),
                sum(int((each == 0).sum()) for each in parameters),
                count,
                sum(each.numel() * each.element_size() for each in state),
                min(own),
            )
        )
    return found


def _multiply_adds(model: nn.Module, xs: Sequence[torch.Tensor]) -> int:
    counter = FlopCounterMode(display=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is no TF32, which nobody asked for
        # of a recurrent layer as one operation the counter knows nothing
        with counter, torch.backends.mkldnn.flags(enabled=False):
            model(*xs)
    return counter.get_total_flops() // 2
