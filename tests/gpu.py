"""Penalties on a GPU: what they cost and whether they are right. ``python -m tests.gpu`` takes some minutes of one GPU.

The first table compares times with what the bytes take that must be moved, at the bandwidth of a copy, or with the same
step without penalties. The second says what holds: values and gradients by formulas, a step that never waits for the
device, a whole step as one CUDA graph. At last `tests/test_settings.py` runs on the device.

``python -m tests.gpu --device cpu --small`` is what a test of the gate runs: all of it that needs no GPU, with sizes
that say nothing of speed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import regspec
from regspec.runtime import L1L2, Regularized

from .benchmarks.penalties import Step, medians, resnet50_kernels
from .benchmarks.timing import Figure

L1, L2 = 1e-5, 1e-4
SIZE = (64, 8, 32)  # width, layers, batch
GRAPH = "three steps as a CUDA graph: the weights, against eager steps"
SETTINGS = Path(__file__).parent / "test_settings.py"


@dataclass(frozen=True)
class Check:
    """What must hold, and how far off it is; no error where it can't be tried on this device."""

    name: str
    error: float | None
    most: float

    @property
    def holds(self) -> bool:
        return self.error is None or self.error <= self.most


def main(
    device: Annotated[str, typer.Option(help="Where to run.")] = "cuda",
    small: Annotated[bool, typer.Option(help="Small sizes, and no tests: to see that it runs.")] = False,
) -> None:
    """Prints what penalties cost on a device, and what holds there. Exits with 1 where something does not hold."""
    title = f"torch {torch.__version__}, {torch.cuda.get_device_name() if device == 'cuda' else device}"
    times = Table("compared", "ours", "theirs", "ratio", "aim", title=title)
    for figure in figures(device, small):
        times.add_row(*figure.cells)
    Console().print(times)
    found = [*checks(device, small)]
    held = Table("must hold", "error", "at most", "")
    for each in found:
        error = "not here" if each.error is None else f"{each.error:.2g}"
        held.add_row(each.name, error, f"{each.most:g}", "" if each.holds else "does not hold")
    Console().print(held)
    tested = 0 if small else subprocess.run(_settings(device), check=False).returncode
    raise typer.Exit(int(tested != 0 or not all(each.holds for each in found)))


def _settings(device: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-n0", "--device", device, str(SETTINGS)]


# -- what it costs -----------------------------------------------------------------------------------------------------


def figures(device: str, is_small: bool) -> Iterator[Figure]:
    for dtype in (torch.float32, torch.bfloat16):
        yield from weights(device, dtype, 100_001 if is_small else 1_000_000_000)
    yield step(device, is_small)
    yield step_of_resnet(device, is_small)


def weights(device: str, dtype: torch.dtype, count: int) -> Iterator[Figure]:
    """L1 and L2 of as many weights: the value reads each once; its gradient reads each again, and writes as much."""
    with torch.device(device):
        model = Weights([(count,)], dtype)
    (weight,) = model.parameters()
    size = weight.nbytes
    copy = torch.empty_like(weight)

    def copied() -> None:
        with torch.no_grad():
            copy.copy_(weight)

    def value() -> None:
        with torch.no_grad():
            model.regularization_loss()

    def gradient() -> None:
        weight.grad = None
        model.regularization_loss().backward()

    copying, of_value, of_both = medians([_waiting(each) for each in (copied, value, gradient)], rounds=11)
    bandwidth = 2 * size / copying
    name = f"{count:,} weights of {str(dtype).removeprefix('torch.')}, {bandwidth / 1e9:.0f} GB/s"
    yield Figure(f"{name}: value / its bytes", of_value, size / bandwidth, 1.5)
    yield Figure(f"{name}: value and gradient / their bytes", of_both, 3 * size / bandwidth, 1.5)


def step(device: str, is_small: bool) -> Figure:
    """A training step with L2 of kernels and L1 of outputs, against one without."""
    with torch.device(device):  # not for the step itself: it makes each call of torch's slower
        ways = [Step(*SIZE, how) for how in ("ours", "none")]
    ours, theirs = medians([_waiting(each) for each in ways], rounds=11 if is_small else 301)
    return Figure(f"step, {SIZE[1]} layers of {SIZE[0]} / without penalties", ours, theirs, 1.25)


class ResNetStep:
    """A training step of ResNet-50, with L2 of its kernels or without."""

    def __init__(self, batch: int, size: int, is_penalized: bool) -> None:
        torch.manual_seed(0)
        self.model = resnet50()
        if is_penalized:
            rule = {"types": ["Conv2d", "Linear"], "kernel_regularizer": {"l2": L2}}
            regspec.regularize(self.model, {"regspec": 1, "rules": [rule]})
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4)
        self.x = torch.randn(batch, 3, size, size)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        loss = self.model(self.x).square().mean()
        if isinstance(self.model, Regularized):
            loss = loss + self.model.regularization_loss()
        loss.backward()
        self.optimizer.step()


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(channels, width, 1),
            nn.ReLU(),
            *_conv(width, width, 3, stride),
            nn.ReLU(),
            *_conv(width, 4 * width, 1),
        )
        is_same = channels == 4 * width and stride == 1
        self.shortcut = nn.Identity() if is_same else nn.Sequential(*_conv(channels, 4 * width, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) + self.shortcut(x)).relu()


def _conv(channels: int, filters: int, kernel: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(filters)


def resnet50() -> nn.Module:
    """As in He et al., "Deep Residual Learning for Image Recognition", table 1; with the stride at the kernels of 3."""
    blocks = []
    channels = 64
    for width, depth in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for index in range(depth):
            blocks.append(Bottleneck(channels, width, 2 if index == 0 and width > 64 else 1))
            channels = 4 * width
    stem = (*_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


def step_of_resnet(device: str, is_small: bool) -> Figure:
    batch, size = (2, 32) if is_small else (64, 224)
    with torch.device(device):
        ways = [ResNetStep(batch, size, is_penalized) for is_penalized in (True, False)]
    ours, theirs = medians([_waiting(each) for each in ways], rounds=1 if is_small else 11)
    return Figure(f"step, ResNet-50, batch {batch}, {size} pixels / without penalties", ours, theirs, 1.05)


def _waiting(function: Callable[[], Any]) -> Callable[[], None]:
    """The function, which has ended on its device too when it returns."""

    def run() -> None:
        function()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()

    return run


# -- what holds --------------------------------------------------------------------------------------------------------


class Weights(Regularized):
    """Parameters of these shapes, each with L1 and L2."""

    def __init__(self, shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        for index, shape in enumerate(shapes):
            self.register_parameter(f"w{index}", nn.Parameter(torch.randn(shape, dtype=dtype).mul_(0.05)))
        self.add_weight_terms(L1L2(L1, L2), {name: name for name, _ in self.named_parameters()})


def checks(device: str, is_small: bool) -> Iterator[Check]:
    shapes = [(3, 5), (7,)] if is_small else [*resnet50_kernels(), (2**28 + 1,)]
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        yield from values_of(device, shapes, dtype)
    yield Check("a step waits for the device", waits() if device == "cuda" else None, 0)
    yield Check(GRAPH, as_graph() if device == "cuda" else None, 1e-6)


def values_of(device: str, shapes: list[tuple[int, ...]], dtype: torch.dtype) -> Iterator[Check]:
    """The value and the gradients, against sums and signs in float64; a gradient is rounded once, to its type."""
    with torch.device(device):
        model = Weights(shapes, dtype)
    loss = model.regularization_loss()
    loss.backward()
    value, wanted, error = loss.item(), 0.0, 0.0
    with torch.no_grad():
        for weight in model.parameters():
            for x, gradient in zip(weight.flatten().split(2**24), weight.grad.flatten().split(2**24), strict=True):
                wide = x.double()
                wanted += float(L1 * wide.abs().sum() + L2 * wide.square().sum())
                off = (gradient - (L1 * wide.sign() + 2 * L2 * wide)).abs().max() / (L1 + 2 * L2 * wide.abs().max())
                error = max(error, float(off))
    name = str(dtype).removeprefix("torch.")
    yield Check(f"the value, {name}", abs(value - wanted) / wanted, 1e-6)
    yield Check(f"the gradients, {name}", error, 2 * torch.finfo(dtype).eps)


def waits() -> float:
    """1 where a training step reads something from the device, which makes the host wait."""
    with torch.device("cuda"):
        step = Step(*SIZE, "ours")
    for _ in range(3):
        step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        Console(stderr=True).print(str(error))
        return 1.0
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return 0.0


def as_graph() -> float:
    """The largest difference of weights that were trained by replays of a CUDA graph, from those of eager steps."""
    with torch.device("cuda"):
        eager, captured = (Step(*SIZE, "ours") for _ in range(2))
    captured.model.load_state_dict(eager.model.state_dict())
    captured.x, captured.y = eager.x, eager.y
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            captured()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    captured.optimizer.zero_grad()
    with torch.cuda.graph(graph):
        captured()
    for _ in range(3):
        graph.replay()
    for _ in range(6):  # those before the capture too, which itself runs nothing
        eager()
    pairs = zip(eager.model.parameters(), captured.model.parameters(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


if __name__ == "__main__":
    typer.run(main)
