"""What penalties cost: against the loop that people write, and against Keras."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import regspec
from regspec.runtime import L1L2, Regularized

from .timing import Figure, compare

STEPS = [(64, 8, 32), (256, 20, 64), (1024, 6, 64)]  # width, layers, batch


def resnet50_kernels() -> list[tuple[int, ...]]:
    """The shapes of the 53 convolutions and the last layer."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7)]
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += [(width, channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            if block == 0:
                shapes.append((4 * width, channels, 1, 1))
            channels = 4 * width
    return [*shapes, (1000, channels)]


def weights() -> Iterator[Figure]:
    """Value and gradient of L1 and L2 over ResNet-50's kernels."""
    model = Regularized()
    for index, shape in enumerate(resnet50_kernels()):
        model.register_parameter(f"w{index}", nn.Parameter(torch.randn(shape) * 0.05))
    model.add_weight_terms(L1L2(1e-5, 1e-4), {name: name for name, _ in model.named_parameters()})
    parameters = list(model.parameters())

    def ours() -> None:
        model.zero_grad()
        model.regularization_loss().backward()

    def loop() -> None:
        model.zero_grad()
        sum(1e-5 * p.abs().sum() + 1e-4 * p.square().sum() for p in parameters).backward()

    yield compare("L1 + L2 of ResNet-50's kernels, value and gradient", ours, loop, most=0.3)


class Step:
    """One training step, with a way to penalize."""

    def __init__(self, width: int, depth: int, batch: int, how: str) -> None:
        torch.manual_seed(0)
        fields = "kernel_regularizer: {l2: 1e-4}, activity_regularizer: {l1: 1e-6}"
        layer = f"  - Dense: {{units: {width}, activation: relu{f', {fields}' if how == 'ours' else ''}}}\n"
        text = f"regspec: 1\ninputs: {{x: {{shape: [{width}]}}}}\nlayers:\n{layer * depth}"
        self.model = regspec.build(regspec.loads(text))
        self.how = how
        self.x, self.y = torch.randn(batch, width), torch.randn(batch, width)
        self.kernels = [each.weight for each in self.model.modules() if isinstance(each, nn.Linear)]
        self.outputs: list[Tensor] = []
        if how == "loop":
            for each in self.model.modules():
                if isinstance(each, nn.ReLU):
                    each.register_forward_hook(lambda module, inputs, output: self.outputs.append(output))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)

    def __call__(self) -> None:
        self.outputs.clear()
        self.optimizer.zero_grad()
        loss = (self.model(self.x) - self.y).square().mean()
        if self.how == "ours":
            loss = loss + self.model.regularization_loss()
        elif self.how == "loop":
            loss = loss + sum(1e-4 * kernel.square().sum() for kernel in self.kernels)
            loss = loss + sum(1e-6 * output.abs().sum() / len(self.x) for output in self.outputs)
        loss.backward()
        self.optimizer.step()


def steps() -> Iterator[Figure]:
    """What the penalties add to a training step, against what the loop adds; and the step against one without."""
    for width, depth, batch in STEPS:
        name = f"step, {depth} layers of {width}"
        plain, loop, ours = (Step(width, depth, batch, how) for how in ("none", "loop", "ours"))
        seconds = medians([plain, loop, ours], rounds=301 if width < 1000 else 61)
        yield Figure(
            f"{name}: what penalties add / the loop adds", seconds[2] - seconds[0], seconds[1] - seconds[0], 0.45
        )
        yield Figure(f"{name} / without penalties", seconds[2], seconds[0], 1.25)


def medians(subjects: list[Callable[[], Any]], rounds: int) -> list[float]:
    """The median seconds of several that take turns, each time in another order."""
    seconds: list[list[float]] = [[] for _ in subjects]
    for index in range(rounds + 3):
        for position in range(len(subjects)):
            which = (position + index) % len(subjects)
            start = time.perf_counter()
            subjects[which]()
            if index >= 3:
                seconds[which].append(time.perf_counter() - start)
    return [statistics.median(each) for each in seconds]


def figures() -> Iterator[Figure]:
    yield from weights()
    yield from steps()
