"""Expressions as text: it means what they mean, is laid out as ruff has it, and holds nothing but literals."""

from __future__ import annotations

import ast
import operator
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import regspec
from regspec.code.expressions import Binary, Expression, Held, Listed, Module, Unary, call
from regspec.code.shapes import Symbol
from regspec.targets.python.printing import Printer

X, Y = Symbol((None, 3), "x"), Symbol((None, 3), "y")
PRINTER = Printer(lambda x: x.source, lambda _: "self.held", lambda _: None, str)

OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "@": operator.matmul,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
}
SIGNS = {"-": operator.neg, "~": operator.invert}


class Term:
    """Notes which operators it went through, and in what order, as Python applies them."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __bool__(self) -> bool:
        raise AssertionError("a comparison became a chain")

    __hash__ = None  # type: ignore[assignment]  # what can't be hashed


def _noting(sign: str) -> tuple[Any, Any]:
    def forward(self: Term, other: Any) -> Term:
        return Term(f"({self.text} {sign} {shown(other)})")

    def backward(self: Term, other: Any) -> Term:
        return Term(f"({shown(other)} {sign} {self.text})")

    return forward, backward


def shown(value: Any) -> str:
    return value.text if isinstance(value, Term) else repr(value)


for sign, function in OPERATORS.items():
    name = function.__name__.strip("_")
    forward, backward = _noting(sign)
    setattr(Term, f"__{name}__", forward)
    if sign not in ("<", "<=", ">", ">=", "==", "!="):
        setattr(Term, f"__r{name}__", backward)
for sign, function in SIGNS.items():
    setattr(Term, f"__{function.__name__.strip('_')}__", lambda self, sign=sign: Term(f"({sign}{self.text})"))

NUMBERS = st.one_of(st.integers(-9, 9), st.sampled_from([-2.5, 0.5, 1e-7, 1e22, -0.0]))


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    signed = st.builds(Unary, st.sampled_from([*SIGNS]), inner)
    # one side is a tensor, as in every expression of a layer
    left = st.builds(Binary, st.sampled_from([*OPERATORS]), inner, st.one_of(inner, NUMBERS))
    right = st.builds(Binary, st.sampled_from([*OPERATORS][:8]), NUMBERS, inner)
    return st.one_of(signed, left, right)


EXPRESSIONS = st.recursive(st.sampled_from([X, Y]), _grown, max_leaves=8)


def meant(value: Any) -> Any:
    """What an expression means, worked out by its structure alone."""
    if isinstance(value, Unary):
        return SIGNS[value.operator](meant(value.operand))
    if isinstance(value, Binary):
        return OPERATORS[value.operator](meant(value.left), meant(value.right))
    return Term(value.source) if isinstance(value, Symbol) else value


@given(EXPRESSIONS)
def test_the_text_means_what_the_expression_means(expression: Expression) -> None:
    text = PRINTER.text(expression)
    assert shown(eval(text, {"x": Term("x"), "y": Term("y")})) == shown(meant(expression)), text


TEXTS: list[tuple[Any, str]] = [
    (X + 1.0, "x + 1.0"),
    (Binary("-", 1, X), "1 - x"),
    (Binary("-", X, -1), "x - -1"),
    (Binary("-", X, Binary("-", Y, 1)), "x - (y - 1)"),
    (Binary("**", X, 2), "x**2"),
    (Binary("**", X, -2.5), "x**-2.5"),
    (Binary("**", -2.0, X), "(-2.0) ** x"),
    (Binary("**", 2.0, X), "2.0**x"),
    (Binary("**", -X, 2), "(-x) ** 2"),
    (-Binary("**", X, 2), "-(x**2)"),
    (Binary("**", Binary("**", X, 2), Y), "(x**2) ** y"),
    (Binary("**", X.method("abs"), 0.5), "x.abs() ** 0.5"),
    (Binary("**", X, float("inf")), 'x ** float("inf")'),
    (~Binary(">", X, 0), "~(x > 0)"),
    (Binary("&", Binary(">", X, 0), Binary("<", Y, 1)), "(x > 0) & (y < 1)"),
    (Binary("==", Binary("<", X, 0), Y), "(x < 0) == y"),
    (Binary("<", X, Binary("<", Y, 0)), "x < (y < 0)"),
    (Binary("|", Binary("&", X, Y), X), "x & y | x"),
    (Binary("@", X, Y + X), "x @ (y + x)"),
    (Binary("%", X * 2, 3), "x * 2 % 3"),
    (Binary("*", X, Binary("%", Y, 3)), "x * (y % 3)"),
    ((-X).method("exp"), "(-x).exp()"),
    (Binary("<<", 1, X), "1 << x"),
    (X[:, 1:, ::2, None, ...], "x[:, 1:, ::2, None, ...]"),
    (X[:, Listed((0, -1))], "x[:, [0, -1]]"),
    (X + Held(Module(call("nn.Buffer")), (), {}), "x + self.held"),
    (call("torch.tensor", Listed((Listed((1, 2)), Listed((3, 4))))), "torch.tensor([[1, 2], [3, 4]])"),
]


@pytest.mark.parametrize(("expression", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_text(expression: Any, text: str) -> None:
    assert PRINTER.text(expression) == text


def test_ruff_would_write_it_so(tmp_path: Path) -> None:
    path = tmp_path / "texts.py"
    path.write_text("".join(f"a = {text}\n" for _, text in TEXTS))
    result = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--diff", "--no-cache", str(path)], capture_output=True
    )
    assert result.returncode == 0, result.stdout.decode()


@pytest.mark.parametrize("sign", ["; import os;", "not", " or ", "+ 1 +", ":=", "", "and"])
def test_no_operator_but_those_of_the_table(sign: str) -> None:
    with pytest.raises(KeyError):
        PRINTER.text(Binary(sign, X, Y))
    with pytest.raises(KeyError):
        PRINTER.text(Unary(sign, X))


def test_nothing_but_literals() -> None:
    with pytest.raises(TypeError):
        PRINTER.text(Binary("+", X, object()))
    with pytest.raises(TypeError):
        PRINTER.text(Listed((len,)))
    assert PRINTER.text(Binary("+", X, "'; import os #")) == 'x + "\'; import os #"'


@pytest.mark.parametrize(
    "text", ["", "'", '"', "\"'", 'it\'s "so"', "\\", "\\'", '\\"', "\n\x00\u2028", '"""', "{x}", "ä"]
)
def test_a_text_stays_one_literal(text: str) -> None:
    parsed = ast.parse(PRINTER.text(Listed((text,))), mode="eval").body
    assert isinstance(parsed, ast.List)
    assert [ast.literal_eval(each) for each in parsed.elts] == [text]


DOCSTRINGS = {
    "an image": (
        "x: {shape: [3, null, null]}",
        "Conv2D: {filters: 4, kernel_size: 3}",
        "x (batch, 3, height, width) -> (batch, 4, height, width)",
    ),
    "an image with its channels last": (
        "x: {shape: [null, null, 3], axes: [height, width, channels]}",
        "Conv2D: {filters: 4, kernel_size: 3}",
        "x (batch, ?, ?, 3) -> (batch, ?, ?, 4)",
    ),
    "a volume": (
        "x: {shape: [3, null, 9, null]}",
        "Conv3D: {filters: 4, kernel_size: 2}",
        "x (batch, 3, depth, 9, width) -> (batch, 4, depth, 8, width)",
    ),
    "a signal": (
        "x: {shape: [3, null], axes: [channels, length]}",
        "Conv1D: {filters: 4, kernel_size: 3}",
        "x (batch, 3, length) -> (batch, 4, length)",
    ),
    "a sequence": ("x: {shape: [null, 5]}", "Dense: {units: 4}", "x (batch, steps, 5) -> (batch, steps, 4)"),
    "a sequence of images": (
        "x: {shape: [null, 3, null, null]}",
        "TimeDistributed: {layer: {Conv2D: {filters: 4, kernel_size: 3}}}",
        "x (batch, steps, 3, height, width) -> (batch, steps, 4, height, width)",
    ),
    "several outputs": (
        "x: {shape: [null, 5]}",
        "Dense: {name: a, units: 4}, Dense: {name: b, units: 3}",
        "x (batch, steps, 5) -> a (batch, steps, 4), b (batch, steps, 3)",
    ),
}


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_docstrings(name: str) -> None:
    """A size that is not known has the name of what its axis means."""
    inputs, layer, wanted = DOCSTRINGS[name]
    outputs = "outputs: [a, b]\n" if "outputs" in name else ""
    source = regspec.source(f"regspec: 1\ninputs: {{{inputs}}}\nlayers: [{layer}]\n{outputs}")
    assert f'"""{wanted}"""' in source, source
