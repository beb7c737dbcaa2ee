"""Layers and regularizers as a user would write them: what the tests of registration register."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from regspec import Layer
from regspec.code.expressions import Expression, Module, call
from regspec.code.shapes import Shape, Symbol


class Gate(nn.Module):
    """Multiplies by a learned gate for each feature."""

    def __init__(self, features: int, start: float = 1.0, *, mode: Literal["plain", "squared"] = "plain") -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.full((features,), start))
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.gate.square() if self.mode == "squared" else self.gate)


class GatedDense(nn.Module):
    """A dense layer with a gate for each unit, and a running mean that it does not use."""

    def __init__(self, units: int, features: int = 4, factor: float = 1.0) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.ones(units))
        self.dense = nn.Linear(features, units)
        self.register_buffer("mean", torch.zeros(units))
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x) * torch.sigmoid(self.gate) * self.factor


class Twice(nn.Module):
    """Two times its input."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class Cumulative(nn.Module):
    """The sums of numbers and of all before them."""

    def __init__(self, axis: int = 0) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(self.axis)


class Halves(nn.Module):
    """The sum of two inputs, without its second half."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x + y)[:, : x.shape[1] // 2]


def halves_shape(x: tuple[int | None, ...], y: tuple[int | None, ...]) -> tuple[int | None, ...]:
    if x != y:
        raise ValueError(f"{x} is not {y}")
    return (None if x[0] is None else x[0] // 2,)


class Swish(Layer):
    """x * sigmoid(beta * x), declared with full control: a kind of one's own."""

    beta: float = Field(1.0, description="The steepness of the gate.")

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return x.shape

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return x * Module(call("nn.Sigmoid"))(x * self.beta)


def steep(x: Tensor, slope: float = 2.0) -> Tensor:
    """x * sigmoid(slope * x)."""
    return x * torch.sigmoid(slope * x)


class Steep(nn.Module):
    """x * sigmoid(slope * x), as a module."""

    def __init__(self, slope: float = 2.0) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return steep(x, self.slope)


def clipped(weight: Tensor, most: float = 0.25) -> Tensor:
    """The weight, within plus and minus ``most``."""
    return weight.clamp(-most, most)


class Clipped:
    """The weight, within plus and minus ``most``."""

    def __init__(self, most: float = 0.25) -> None:
        self.most = most

    def __call__(self, weight: Tensor) -> Tensor:
        return clipped(weight, self.most)


def ramp(weight: Tensor, step: float = 0.125) -> Tensor:
    """What is put in a weight's place: its numbers in a row."""
    return step * torch.arange(weight.numel()).reshape(weight.shape)


def ramp_in_place(weight: Tensor, step: float = 0.125) -> None:
    """Fills a weight with its numbers in a row."""
    weight.copy_(ramp(weight, step))


def filled(weight: Tensor, start: float) -> Tensor:
    """What is put in a weight's place: one number over and over."""
    return torch.full_like(weight, start)


class Ramp:
    """Fills a weight with its numbers in a row."""

    def __init__(self, step: float = 0.125) -> None:
        self.step = step

    def __call__(self, weight: Tensor) -> Tensor:
        return weight.copy_(ramp(weight, self.step))


def largest(weight: Tensor) -> Tensor:
    """The largest absolute value."""
    return weight.abs().max()


def log_cosh(weight: Tensor, strength: float = 1e-3) -> Tensor:
    """strength * sum(log(cosh(w)))."""
    return strength * torch.log(torch.cosh(weight)).sum()


class Power:
    """strength * sum(abs(w) ** exponent)."""

    def __init__(self, strength: float, exponent: float = 3.0) -> None:
        self.strength = strength
        self.exponent = exponent

    def __call__(self, weight: Tensor) -> Tensor:
        return self.strength * weight.abs().pow(self.exponent).sum()


def by_places(x: Tensor, strength: float) -> Tensor:
    """The sum over the last axis of its places times its numbers."""
    return strength * (x * torch.arange(x.shape[-1])).sum()


def weighted_l1(codes: Tensor, decoder: Tensor, strength: float = 1.0) -> Tensor:
    """The codes' absolute values, each times the norm of what its unit writes."""
    return strength * (codes.abs() * decoder.norm(dim=0)).sum()


class Apart:
    """strength * the squared distance of a matrix from the transpose of another one."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def __call__(self, weight: Tensor, other: Tensor) -> Tensor:
        return self.strength * (weight - other.T).square().sum()


class OfOneName:
    """A regularizer whose constructor and whose call take a parameter of one name."""

    def __init__(self, other: float = 1.0) -> None:
        self.other = other

    def __call__(self, weight: Tensor, other: Tensor) -> Tensor:
        return self.other * (weight * other).sum()


class OfExamples(nn.Module):
    """The BatchNormalization of Keras 1 with mode 1, which normalizes each example over its last axis."""

    def __init__(self, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(5))
        self.bias = nn.Parameter(torch.zeros(5))
        self.register_buffer("running_mean", torch.zeros(5))
        self.register_buffer("running_std", torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        deviation = (x.var(-1, correction=0, keepdim=True) + self.epsilon).sqrt() + self.epsilon
        return self.weight * (x - x.mean(-1, keepdim=True)) / deviation + self.bias
