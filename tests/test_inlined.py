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
    "side by side, in their order": (
        [
            "Add: {name: sum, inputs: [a, b]}",
            "Softmax: {name: soft, inputs: c}",
            "Multiply: {name: times, inputs: [sum, soft]}",
        ],
        ["return (a + b) * self.soft(c)"],
        lambda a, b, c: (a + b) * torch.softmax(c, dim=-1),
    ),
    "not behind a module that runs after it": (
        [
            "Softmax: {name: one, inputs: a}",
            "Softmax: {name: two, inputs: b}",
            "Add: {name: sum, inputs: [two, one]}",
            "Multiply: {name: times, inputs: [sum, c]}",
        ],
        ["one = self.one(a)", "return (self.two(b) + one) * c"],
        lambda a, b, c: (torch.softmax(b, dim=-1) + torch.softmax(a, dim=-1)) * c,
    ),
    "no more than fits on a line": (
        [
            f"Softmax: {{name: {'a' * 42}, inputs: a}}",
            f"Softmax: {{name: {'b' * 42}, inputs: b}}",
            f"Add: {{name: sum, inputs: [{'a' * 42}, {'b' * 42}]}}",
            "Multiply: {name: times, inputs: [sum, c]}",
        ],
        [f"{'a' * 42} = self.{'a' * 42}(a)", f"return ({'a' * 42} + self.{'b' * 42}(b)) * c"],
        lambda a, b, c: (torch.softmax(b, dim=-1) + torch.softmax(a, dim=-1)) * c,
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
        ["return self.sum_activity(a + b).exp()"],
        lambda a, b, c: (a + b).exp(),
    ),
}
OUTPUTS = {"an output": "[sum, e]"}

# Layers on a signal of 4 channels, and the statements of the forward.
MODULES = {
    "a convolution, its norm, its activation and a pool": (
        [
            "Conv1D: {name: conv, filters: 3, kernel_size: 3}",
            "BatchNormalization: {name: norm}",
            "ReLU",
            "MaxPooling1D: {name: pool}",
        ],
        ["return self.pool(self.relu(self.norm(self.conv(x))))"],
    ),
    "two convolutions": (
        [
            "Conv1D: {name: a, filters: 3, kernel_size: 3, activation: relu}",
            "Conv1D: {name: b, filters: 3, kernel_size: 3, activation: relu}",
        ],
        ["x = self.a_activation(self.a(x))", "return self.b_activation(self.b(x))"],
    ),
    "a residual": (
        [
            "Conv1D: {name: a, filters: 4, kernel_size: 3, padding: same}",
            "BatchNormalization: {name: norm}",
            "Add: {name: sum, inputs: [norm, x]}",
            "ReLU",
        ],
        ["return self.relu(self.norm(self.a(x)) + x)"],
    ),
    "two layers with a matrix, side by side": (
        [
            "Dense: {name: a, units: 4}",
            "Dense: {name: b, inputs: x, units: 4}",
            "Subtract: {inputs: [a, b]}",
            "Absolute: {name: size}",
        ],
        ["return (self.a(x) - self.b(x)).abs()"],
    ),
    "two in a row": (
        ["Dense: {name: a, units: 4}", "Dense: {name: b, units: 4}"],
        ["x = self.a(x)", "return self.b(x)"],
    ),
    "two in a row, one joined to another tensor": (
        [
            "Dense: {name: a, units: 9}",
            "Concatenate: {inputs: [x, a]}",
            "Dense: {name: b, units: 4}",
        ],
        ["return self.b(torch.cat([x, self.a(x)], dim=-1))"],
    ),
    "a block is not joined before a layer": (
        ["block: {name: a}", "Concatenate: {inputs: [x, a]}", "Dense: {name: b, units: 4}"],
        ["x = torch.cat([x, self.a(x)], dim=-1)", "return self.b(x)"],
    ),
    "five operations": (
        ["Softmax: {name: a}", "Softmax: {name: b}", "Softmax: {name: c}", "Softmax: {name: d}", "Softmax: {name: e}"],
        ["x = self.d(self.c(self.b(self.a(x))))", "return self.e(x)"],
    ),
    "a layer that is called again": (
        ["Dense: {name: d, units: 9, activation: tanh}", "call: {layer: d, name: again}", "Softmax: {name: soft}"],
        ["x = self.d_activation(self.d(x))", "return self.soft(self.d_activation(self.d(x)))"],
    ),
    "several outputs": (
        ["LSTM: {name: lstm, units: 4, return_state: true}", "Add: {name: sum, inputs: [lstm.1, lstm.2]}"],
        ["_, (lstm_h, lstm_c) = self.lstm(x)", "lstm_1 = lstm_h[0]", "lstm_2 = lstm_c[0]", "return lstm_1 + lstm_2"],
    ),
    "a sequence of blocks, and a layer behind it": (
        ["block: {name: two, repeat: 2}", "Softmax: {name: soft}", "Dense: {name: d, units: 2}"],
        ["x = self.soft(self.two(x))", "return self.d(x)"],
    ),
}


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


@pytest.mark.parametrize("name", MODULES)
def test_modules(name: str) -> None:
    """Which modules stand in one statement. What they compute, the tests of the layers and architectures tell."""
    layers, statements = MODULES[name]
    axes = "[channels, length]" if "Conv1D" in layers[0] else "[steps, features]"
    text = "regspec: 1\nname: net\nblocks: {block: {layers: [Dense: {name: inner, units: 9}]}}\n" * (
        "block" in layers[0]
    )
    text = (text or "regspec: 1\nname: net\n") + f"inputs: {{x: {{shape: [4, 9], axes: {axes}}}}}\nlayers:\n"
    text += "".join(f"  - {each}\n" for each in layers)
    forward = regspec.source(text).partition("class Net")[2].partition("def forward(")[2].splitlines()[1:]
    assert [line.strip() for line in forward if line] == statements


def assert_gradients(got: Tensor | tuple[Tensor, ...], wanted: Tensor | tuple[Tensor, ...], xs: list[Tensor]) -> None:
    ours, theirs = (
        torch.autograd.grad(
            sum(each.square().sum() for each in (x if isinstance(x, tuple) else (x,))), xs, allow_unused=True
        )
        for x in (got, wanted)
    )
    torch.testing.assert_close(ours, theirs)
