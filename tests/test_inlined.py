"""Which expressions stand in the next statement, and what that computes: the same as one statement after the other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import regspec

A, B, C = torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 4)

# Layers on inputs a, b and c of 4 features, the statements of the forward, and the output written out.
CASES = {
    "into a module": (
        ["Add: {name: sum, inputs: [a, b]}", "Softmax: {name: soft}"],
        ["return self.soft(a + b)"],
        lambda a, b, c: torch.softmax(a + b, dim=-1),
    ),
    "into an operator, with brackets": (
        ["Add: {name: sum, inputs: [a, b]}", "Multiply: {name: times, inputs: [sum, c]}"],
        ["return (a + b) * c"],
        lambda a, b, c: (a + b) * c,
    ),
    "on the right": (
        ["Subtract: {name: less, inputs: [a, b]}", "Subtract: {name: again, inputs: [c, less]}"],
        ["return c - (a - b)"],
        lambda a, b, c: c - (a - b),
    ),
    "into a method": (
        ["Subtract: {name: less, inputs: [a, b]}", "Absolute: {name: size}"],
        ["return (a - b).abs()"],
        lambda a, b, c: (a - b).abs(),
    ),
    "taken twice": (
        ["Add: {name: sum, inputs: [a, b]}", "Multiply: {name: square, inputs: [sum, sum]}"],
        ["x = a + b", "return x * x"],
        lambda a, b, c: (a + b) ** 2,
    ),
    "taken later too": (
        ["Add: {name: sum, inputs: [a, b]}", "Exp: {name: e}", "Add: {name: both, inputs: [sum, e]}"],
        ["x = a + b", "return x + x.exp()"],
        lambda a, b, c: a + b + (a + b).exp(),
    ),
    "not over a statement between": (
        [
            "Add: {name: sum, inputs: [a, b]}",
            "Softmax: {name: soft, inputs: c}",
            "Multiply: {name: times, inputs: [sum, soft]}",
        ],
        ["sum_ = a + b", "soft = self.soft(c)", "return sum_ * soft"],
        lambda a, b, c: (a + b) * torch.softmax(c, dim=-1),
    ),
    "an output": (
        ["Add: {name: sum, inputs: [a, b]}", "Exp: {name: e}"],
        ["sum_ = a + b", "e = sum_.exp()", "return sum_, e"],
        lambda a, b, c: (a + b, (a + b).exp()),
    ),
    "no more than is read at a glance": (
        [*(f"{kind}: {{name: l{index}}}" for index, kind in enumerate(("Exp", "Sin", "Cos", "Sinh", "Erf", "Sin")))],
        ["x = c.exp().sin().cos().sinh()", "return x.erf().sin()"],
        lambda a, b, c: c.exp().sin().cos().sinh().erf().sin(),
    ),
    "a penalty on what is inlined": (
        ["Add: {name: sum, inputs: [a, b], activity_regularizer: {l2: 0.1}}", "Exp: {name: e}"],
        ["x = self.sum_activity(a + b)", "return x.exp()"],
        lambda a, b, c: (a + b).exp(),
    ),
}
OUTPUTS = {"an output": "[sum, e]"}


@pytest.mark.parametrize("name", CASES)
def test_inlined(name: str) -> None:
    layers, statements, formula = CASES[name]
    used = " ".join((*layers, "inputs: c" if layers[0].startswith("Exp") else ""))
    inputs = ", ".join(
        f"{each}: {{shape: [4]{'' if f' {each}' in used or f'[{each}' in used else ', unused: true'}}}"
        for each in "abc"
    )
    text = f"regspec: 1\nname: net\ninputs: {{{inputs}}}\nlayers:\n" + "".join(f"  - {each}\n" for each in layers)
    text += f"outputs: {OUTPUTS[name]}\n" if name in OUTPUTS else ""
    forward = regspec.source(text).partition("def forward(")[2].splitlines()[1:]
    assert [line.strip() for line in forward] == statements
    xs = [x.clone().requires_grad_() for x in (A, B, C)]
    got, wanted = regspec.build(text)(*xs), formula(*xs)
    torch.testing.assert_close(got, wanted)
    assert_gradients(got, wanted, xs)


def assert_gradients(got: Tensor | tuple[Tensor, ...], wanted: Tensor | tuple[Tensor, ...], xs: list[Tensor]) -> None:
    ours, theirs = (
        torch.autograd.grad(
            sum(each.square().sum() for each in (x if isinstance(x, tuple) else (x,))), xs, allow_unused=True
        )
        for x in (got, wanted)
    )
    torch.testing.assert_close(ours, theirs)
