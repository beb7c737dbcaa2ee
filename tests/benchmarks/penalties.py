"""What penalties cost: against the loop that people write, against Keras, and in memory."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

import regspec
from regspec.runtime import L1L2, GroupLasso, Orthogonal, Regularized, Spectral

from .timing import Figure, compare

ROOT = Path(__file__).parents[2]
# width, layers, batch, and what is aimed at: what penalties add / what the loop adds
STEPS = [(64, 8, 32, 0.45), (256, 20, 64, 0.3), (1024, 6, 64, 0.22)]
ROUNDS = {64: 301, 256: 101, 1024: 31}  # of which the medians are steady, by the width


def figures() -> Iterator[Figure]:
    yield from weights()
    yield from other_regularizers()
    yield from steps()
    yield from compiled_steps()
    yield from steps_against_keras()
    yield lstm_against_keras()
    yield lstm_against_none()
    yield memory("kernel_regularizer: {l2: 1e-4}", 1.0)
    yield memory("activity_regularizer: {l1: 1e-6}", 1.05)


# -- weights alone -----------------------------------------------------------------------------------------------------


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


class Kernels:
    """ResNet-50's kernels, with gradients that are there already, as after the backward of the data's loss."""

    def __init__(self) -> None:
        self.model = Regularized()
        for index, shape in enumerate(resnet50_kernels()):
            self.model.register_parameter(f"w{index}", nn.Parameter(torch.randn(shape) * 0.05))
        self.model.add_weight_terms(L1L2(1e-5, 1e-4), {name: name for name, _ in self.model.named_parameters()})
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=1e-9)
        self.optimizer.zero_grad()

    def loss(self) -> None:
        self.model.regularization_loss().backward()

    def loop(self) -> None:
        sum(1e-5 * p.abs().sum() + 1e-4 * p.square().sum() for p in self.parameters).backward()

    def without_gradients(self, way: Callable[[], None]) -> None:
        """``.grad`` is None before."""
        self.optimizer.zero_grad()
        way()


def weights() -> Iterator[Figure]:
    """Value and gradient of L1 and L2 over ResNet-50's kernels; and what the gradient route adds to a step."""
    name = "L1 + L2 of ResNet-50's kernels, value and gradient"
    kernels = Kernels()
    ours, theirs = (partial(kernels.without_gradients, way) for way in (kernels.loss, kernels.loop))
    yield compare(f"{name}, .grad is None before", ours, theirs, most=0.2)
    yield compare(f"{name}, added to .grad", kernels.loss, kernels.loop, most=0.2)
    bound = Kernels()
    regspec.bind(bound.model, bound.optimizer, l1="gradient", l2="gradient")
    for each in (kernels, bound):
        for parameter in each.parameters:
            parameter.grad = torch.zeros_like(parameter)
    plain, loop, route = medians([kernels.optimizer.step, kernels.loop, bound.optimizer.step], rounds=21)
    yield Figure("the same, what the gradient route adds to a step / the loop", route - plain, loop, 0.13)
    yield from proximal_steps()
    yield from proximal_steps_of_units()


ADAPTIVE: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adam": torch.optim.Adam,
    "Adam, foreach": partial(torch.optim.Adam, foreach=True),
    "Adam, fused": partial(torch.optim.Adam, fused=True),
    "AdamW": torch.optim.AdamW,
    "RMSprop": torch.optim.RMSprop,
    "SGD with momentum": partial(torch.optim.SGD, momentum=0.9),
}


def proximal_steps() -> Iterator[Figure]:
    """A step with the proximal route of L1 over ResNet-50's kernels, against the optimizer's own.

    What bytes allow stands in `regspec.runtime.kernels.thresholds`: for a fused step it is not what is aimed at.
    """
    for name, make in ADAPTIVE.items():
        kernels, shrunk = Kernels(), Kernels()
        plain, bound = (make(each.parameters, lr=1e-9) for each in (kernels, shrunk))
        regspec.bind(shrunk.model, bound, l1="proximal")
        for parameter in (*kernels.parameters, *shrunk.parameters):
            parameter.grad = torch.randn_like(parameter)
        own, proximal = medians([plain.step, bound.step], rounds=9)
        yield Figure(f"the same, a step of {name} with the proximal route of L1 / without", proximal, own, 1.15)


def proximal_steps_of_units() -> Iterator[Figure]:
    """The same of the units of a ResNet-20, whose 272,474 weights are small: what it costs is mostly calls."""
    text = (ROOT / "examples" / "resnet.yaml").read_text(encoding="utf-8").partition("regularizers:")[0]
    spec = regspec.loads(text + "regularizers: [{units: {group_lasso: 1e-4}}]\n")
    for name, make in ADAPTIVE.items():
        alone, shrunk = (regspec.build(spec, seed=0) for _ in range(2))
        plain, bound = (make(each.parameters(), lr=1e-6) for each in (alone, shrunk))
        regspec.bind(shrunk, bound, group_lasso="proximal")
        for parameter in (*alone.parameters(), *shrunk.parameters()):
            parameter.grad = torch.randn_like(parameter)
        own, proximal = medians([plain.step, bound.step], rounds=31)
        yield Figure(f"ResNet-20, a step of {name} with the proximal route of units / without", proximal, own, 1.15)


def _group_lasso(rows: Tensor) -> Tensor:
    return math.sqrt(rows.shape[1]) * rows.norm(dim=1).sum()


def _orthogonal(rows: Tensor) -> Tensor:
    rows = F.normalize(rows, dim=1)
    cosines = rows @ rows.T
    pairs = len(rows) * (len(rows) - 1)
    return (cosines - torch.diag(torch.diag(cosines))).abs().sum() / pairs


def _spectral(rows: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(rows, ord=2)


OTHERS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "group lasso": (GroupLasso(1e-4), _group_lasso),
    "orthogonal": (Orthogonal(1e-4, "columns"), _orthogonal),
    "spectral": (Spectral(1e-4), _spectral),
}


def other_regularizers() -> Iterator[Figure]:
    """Value and gradient of those that take a kernel as a matrix, whose rows are its outputs."""
    weights = [nn.Parameter(torch.randn(shape) * 0.05) for shape in resnet50_kernels()]

    def run(penalty: Callable[[Tensor], Tensor], factor: float) -> None:
        for weight in weights:
            weight.grad = None
        (factor * sum(penalty(weight) for weight in weights)).backward()

    for name, (regularizer, by_hand) in OTHERS.items():
        ours, theirs = partial(run, regularizer, 1.0), partial(run, lambda x, each=by_hand: each(x.flatten(1)), 1e-4)
        yield compare(f"{name} of ResNet-50's kernels / the loop", ours, theirs, most=0.5, rounds=3)


class CompiledStep:
    """A training step whose forward, loss and penalties are compiled as one graph."""

    def __init__(self, width: int, depth: int, batch: int, how: str) -> None:
        self.step = Step(width, depth, batch, how)
        self.loss = torch.compile(self.step.loss, fullgraph=True)

    def __call__(self) -> None:
        self.step.optimizer.zero_grad()
        self.loss().backward()
        self.step.optimizer.step()


def compiled_steps() -> Iterator[Figure]:
    """The whole step under torch.compile, against the loop compiled, and against one without penalties."""
    for width, depth, batch, _ in STEPS:
        torch.compiler.reset()
        plain, loop, ours = (CompiledStep(width, depth, batch, how) for how in ("none", "loop", "ours"))
        seconds = medians([plain, loop, ours], rounds=ROUNDS[width])
        name = f"compiled step, {depth} layers of {width}"
        yield Figure(f"{name} / the loop compiled", seconds[2], seconds[1], 0.95)
        yield Figure(f"{name} / compiled without penalties", seconds[2], seconds[0], 1.15)


# -- training steps ----------------------------------------------------------------------------------------------------


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

    def loss(self) -> Tensor:
        """The loss of the data, with the penalties."""
        self.outputs.clear()
        loss = (self.model(self.x) - self.y).square().mean()
        if self.how == "ours":
            loss = loss + self.model.regularization_loss()
        elif self.how == "loop":
            loss = loss + sum(1e-4 * kernel.square().sum() for kernel in self.kernels)
            loss = loss + sum(1e-6 * output.abs().sum() / len(self.x) for output in self.outputs)
        return loss

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()


def steps() -> Iterator[Figure]:
    """What the penalties add to a training step, against what the loop adds; and the step against one without."""
    for width, depth, batch, most in STEPS:
        name = f"step, {depth} layers of {width}"
        plain, loop, ours = (Step(width, depth, batch, how) for how in ("none", "loop", "ours"))
        seconds = medians([plain, loop, ours], rounds=ROUNDS[width])
        yield Figure(
            f"{name}: what penalties add / the loop adds", seconds[2] - seconds[0], seconds[1] - seconds[0], most
        )
        yield Figure(f"{name} / without penalties", seconds[2], seconds[0], 1.25)


class KerasStep:
    """A training step of a Keras model on its torch backend, by a loop and an optimizer of torch's own."""

    def __init__(self, model: keras.Model, x: Tensor, y: Tensor) -> None:
        self.model, self.x, self.y = model, x, y
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        loss = (self.model(self.x, training=True) - self.y).square().mean() + sum(self.model.losses)
        loss.backward()
        self.optimizer.step()


def steps_against_keras() -> Iterator[Figure]:
    for width, depth, batch, _ in STEPS:
        ours = Step(width, depth, batch, "ours")
        regularizers = {
            "kernel_regularizer": keras.regularizers.L2(1e-4),
            "activity_regularizer": keras.regularizers.L1(1e-6),
        }
        layers = [keras.layers.Dense(width, activation="relu", **regularizers) for _ in range(depth)]
        theirs = KerasStep(keras.Sequential([keras.Input((width,)), *layers]), ours.x, ours.y)
        own, other = medians([ours, theirs], rounds=ROUNDS[width])
        yield Figure(f"step, {depth} layers of {width} / Keras", own, other, 0.5 if width == 64 else 0.8)


class LstmStep:
    """A training step of an LSTM, whose kernel, recurrent kernel and bias have L2, or none has."""

    def __init__(self, units: int, features: int, steps: int, batch: int, *, is_penalized: bool) -> None:
        torch.manual_seed(0)
        names = ("kernel_regularizer", "recurrent_regularizer", "bias_regularizer") if is_penalized else ()
        fields = "".join(f", {name}: {{l2: 1e-4}}" for name in names)
        text = f"inputs: {{x: {{shape: [{steps}, {features}]}}}}\nlayers:\n  - LSTM: {{units: {units}{fields}}}\n"
        self.model = regspec.build(regspec.loads(f"regspec: 1\n{text}"))
        self.is_penalized = is_penalized
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        self.x, self.y = torch.randn(batch, steps, features), torch.randn(batch, units)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        loss = (self.model(self.x) - self.y).square().mean()
        if self.is_penalized:
            loss = loss + self.model.regularization_loss()
        loss.backward()
        self.optimizer.step()


def lstm_against_keras(units: int = 64, features: int = 32, steps: int = 50, batch: int = 32) -> Figure:
    ours = LstmStep(units, features, steps, batch, is_penalized=True)
    l2 = keras.regularizers.L2(1e-4)
    layer = keras.layers.LSTM(units, kernel_regularizer=l2, recurrent_regularizer=l2, bias_regularizer=l2)
    theirs = KerasStep(keras.Sequential([keras.Input((steps, features)), layer]), ours.x, ours.y)
    own, other = medians([ours, theirs], rounds=31)
    return Figure(f"step, LSTM of {units} units, {steps} steps / Keras", own, other, 0.3)


def lstm_against_none(units: int = 80, features: int = 32, steps: int = 50, batch: int = 32) -> Figure:
    ours, plain = (LstmStep(units, features, steps, batch, is_penalized=each) for each in (True, False))
    own, other = medians([ours, plain], rounds=101)
    return Figure(f"step, LSTM of {units} units, {steps} steps, three L2 / without penalties", own, other, 1.05)


# -- memory ------------------------------------------------------------------------------------------------------------


def memory(regularizer: str, most: float) -> Figure:
    """The peak of a step with penalties, against one without, in bytes: weights and what a step allocates."""
    peaks = []
    for fields in (f", {regularizer}", ""):
        layer = f"  - Dense: {{units: 1024, activation: relu{fields}}}\n"
        model = regspec.build(regspec.loads(f"regspec: 1\ninputs: {{x: {{shape: [1024]}}}}\nlayers:\n{layer * 6}"))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        x = torch.randn(1024, 1024)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as events:
            for _ in range(2):  # what the first has kept is let go in the second
                optimizer.zero_grad()
                (model(x).square().mean() + regspec.regularization_loss(model)).backward()
                optimizer.step()
        peaks.append(sum(each.nbytes for each in model.parameters()) + _peak(events))
    name = f"memory of a step, 6 layers of 1024 with {regularizer} / without"
    return Figure(name, *peaks, most, "MB")


def _peak(events: Any) -> int:
    """The most bytes that were allocated at once."""
    changes = [event for event in events.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


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
