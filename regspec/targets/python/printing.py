"""Expressions as Python text, and statements in lines of at most 120 characters, laid out as ruff formats them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from regspec.code.expressions import (
    Apply,
    Binary,
    Call,
    Expression,
    Held,
    Import,
    Index,
    Listed,
    Method,
    Part,
    Unary,
    Value,
)
from regspec.code.shapes import Symbol

WIDTH = 120
INDENT = "    "

# How tightly Python's operators bind. A comparison of a comparison would be a chain, so neither side may be one.
_STRENGTH = {
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), 1),
    "|": 2,
    "^": 3,
    "&": 4,
    **dict.fromkeys(("<<", ">>"), 5),
    **dict.fromkeys(("+", "-"), 6),
    **dict.fromkeys(("*", "/", "//", "%", "@"), 7),
    "**": 9,
}
_UNARY = 8
_PRIMARY = 10  # the base of a power, and what a sign stands before
_POSTFIX = 11  # what a dot or a bracket follows
_SIMPLE = re.compile(r"[A-Za-z_][\w.]*|\d[\w.]*([eE][-+]\d+)?", re.ASCII)  # around it, ** has no spaces

# What the constructors call their first arguments, to name the parameters of a block's class.
_POSITIONS = {
    "Conv": ("in_channels", "out_channels", "kernel_size"),
    "Linear": ("in_features", "out_features"),
    "BatchNorm": ("channels",),
    "GroupNorm": ("groups", "channels"),
    "LayerNorm": ("features",),
    "RMSNorm": ("features",),
    "Embedding": ("tokens", "features"),
    "Dropout": ("rate",),
    "LSTM": ("in_features", "units"),
    "GRU": ("in_features", "units"),
    "RNN": ("in_features", "units"),
    "Attention": ("features", "heads", "head_size"),
    "L1": ("l1",),
    "L2": ("l2",),
}


class Printer:
    """Prints expressions; whoever prints the class around them names the tensors, modules and functions."""

    def __init__(
        self,
        tensor: Callable[[Symbol], str],
        module: Callable[[Apply], str],
        variable: Callable[[Expression], str | None],
        function: Callable[[str | Import], str],
    ) -> None:
        self.tensor = tensor
        self.module = module
        self.variable = variable  # that already holds the value of an expression, or None
        self.function = function
        self.hole: Callable[[Value, str], str] | None = None  # prints a number that is left open, from it and its name

    def text(self, value: Value, strength: int = 0) -> str:
        """The text of a value, in parentheses where it binds less than ``strength``."""
        if isinstance(value, Symbol):
            return self.tensor(value)
        if isinstance(value, Expression) and (variable := self.variable(value)) is not None:
            return variable
        if isinstance(value, Held):
            return self.module(value)
        if isinstance(value, Listed):
            return literal([*value.items], self.text)
        if isinstance(value, Apply):
            return f"{self.module(value)}({self.arguments(value.arguments, value.keywords.items())})"
        if isinstance(value, Call):
            return f"{self.function(value.function)}({self._arguments_of(value)})"
        if isinstance(value, Import):
            return self.function(value)
        if isinstance(value, Method):
            arguments = self.arguments(value.arguments, value.keywords.items())
            return f"{self.text(value.of, _POSTFIX)}.{value.name}({arguments})"
        if isinstance(value, Index):
            return f"{self.text(value.of, _POSTFIX)}[{', '.join(self._index(each) for each in value.index)}]"
        if isinstance(value, Part):
            return self.text(value.whole, _POSTFIX) + "".join(f"[{index}]" for index in value.path)
        if isinstance(value, (Binary, Unary)):
            own = _UNARY if isinstance(value, Unary) else _STRENGTH[value.operator]
            text = self._operation(value)
            return f"({text})" if own < strength else text
        text = literal(value, self.text)
        if isinstance(value, (int, float)):
            own = _UNARY if text.startswith("-") else _PRIMARY
            return f"({text})" if own < strength else text
        return text

    def _operation(self, value: Binary | Unary) -> str:
        """The text of an operator and its operands, with the parentheses that Python needs and ruff wants."""
        if isinstance(value, Unary):
            if value.operator not in ("-", "~"):
                raise KeyError(value.operator)
            return f"{value.operator}{self.text(value.operand, _PRIMARY)}"
        own = _STRENGTH[value.operator]
        if value.operator == "**":
            base, exponent = self.text(value.left, _PRIMARY), self.text(value.right, _UNARY)
            is_simple = _SIMPLE.fullmatch(base) and _SIMPLE.fullmatch(exponent.removeprefix("-"))
            return f"{base}**{exponent}" if is_simple else f"{base} ** {exponent}"
        left = self.text(value.left, own + (own == _STRENGTH["<"]))
        return f"{left} {value.operator} {self.text(value.right, own + 1)}"

    def arguments(self, arguments: Iterable[Value], keywords: Iterable[tuple[str, Value]]) -> str:
        """The text between a call's parentheses."""
        parts = [self.text(value) for value in arguments]
        return ", ".join([*parts, *(f"{name}={self.text(value)}" for name, value in keywords)])

    def _arguments_of(self, value: Call) -> str:
        """The text between the parentheses of a constructor, whose numbers may be left open."""
        names: tuple[str, ...] = ()
        if self.hole is not None and isinstance(value.function, str):
            names = next((names for part, names in _POSITIONS.items() if part in value.function), ())
        parts = [
            self.value(each, names[index] if index < len(names) else "size")
            for index, each in enumerate(value.arguments)
        ]
        return ", ".join([*parts, *(f"{name}={self.value(each, name)}" for name, each in value.keywords)])

    def value(self, value: Value, name: str) -> str:
        """The text of an argument of this name; a hole where numbers are left open."""
        if self.hole is not None and _is_number(value):
            return self.hole(value, name)
        return self.text(value)

    def _index(self, index: Any) -> str:
        if index is ...:
            return "..."
        if isinstance(index, slice):
            parts = ["" if part is None else self.text(part) for part in (index.start, index.stop)]
            return ":".join(parts if index.step is None else [*parts, self.text(index.step)])
        return self.text(index)


def _is_number(value: Value) -> bool:
    """Whether a value is a number, or a tuple of numbers."""
    if isinstance(value, tuple):
        return all(_is_number(each) for each in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def literal(value: Any, text: Callable[[Any], str] | None = None) -> str:
    """The text of a literal; ``text`` prints what stands in a list, tuple or mapping."""
    text = text or literal
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, (tuple, list)):
        inside = ", ".join(text(each) for each in value)
        if isinstance(value, list):
            return f"[{inside}]"
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{text(key)}: {text(each)}" for key, each in value.items()) + "}"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    raise TypeError(f"no literal: {type(value).__name__}")


def quoted(text: str) -> str:
    """A string literal in double quotes, where that needs no more escapes."""
    single = repr(text)
    if single.startswith("'") and '"' not in text:
        return f'"{single[1:-1]}"'.replace("\\'", "'")
    return single


def lines(statement: str, indent: int) -> Iterator[str]:
    """A statement in lines that fit: its last bracket is opened up, as often as is needed."""
    return _Layout(statement).lines(0, len(statement), indent, "")


class _Layout:
    """The layout of a statement, or of a value in one; its brackets are found in one pass."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.opened: dict[int, int] = {}  # where a bracket opens, by where it closes
        self.commas: dict[int, list[int]] = {-1: []}  # in a bracket, by where it opens
        within = [-1]
        for index, character in _marks(text, ","):
            if character == ",":
                self.commas[within[-1]].append(index)
            elif character in "([{":
                within.append(index)
                self.commas[index] = []
            else:
                self.opened[index] = within.pop()

    def lines(self, start: int, end: int, indent: int, after: str) -> Iterator[str]:
        """The lines of a part of the text; ``after`` is what follows it on its last line."""
        statement = self.text[start:end]
        margin = INDENT * indent
        if len(margin) + len(statement) + len(after) <= WIDTH:
            yield margin + statement + after
            return
        head, value = _assigned(statement)
        links = _links(value) if ")." in value else [value]
        parts = links if len(links) > 2 else _operands(value)
        if len(parts) > 1:
            yield from _chained(head, parts, margin, after)
            return
        opening, closing = self._bracket(start, end)
        if opening < 0:
            yield margin + statement + after
            return
        yield margin + self.text[start : opening + 1]
        yield from self._inside(opening, closing, indent + 1)
        yield margin + self.text[closing:end] + after

    def _bracket(self, start: int, end: int) -> tuple[int, int]:
        """Where the last bracket opens and closes that is worth opening up: no index, and not nearly empty."""
        outer = []
        closing = end - 1
        while closing > start:
            opening = self.opened.get(closing)
            if opening is None:
                closing -= 1
                continue
            outer.append((opening, closing))
            closing = opening - 1
        of_calls = [(a, b) for a, b in outer if self.text[a] != "[" or not re.match(r"[\w)\]]", self.text[a - 1])]
        long = [(a, b) for a, b in of_calls if b - a > WIDTH // 4]
        return next(iter(long or of_calls), (-1, -1))

    def _inside(self, opening: int, closing: int, indent: int) -> Iterator[str]:
        """The lines between two brackets: one if a call's arguments fit, else one for each of the parts."""
        is_call = self.text[opening] == "(" and self.text[opening - 1].isidentifier()
        body = self.text[opening + 1 : closing]
        if is_call and len(INDENT) * indent + len(body) <= WIDTH:
            yield INDENT * indent + body
            return
        commas = self.commas[opening]
        comma = "," if commas or self.text[opening] != "(" else ""
        for start, end in zip([opening, *commas], [*commas, closing], strict=True):
            while self.text[start + 1] == " ":
                start += 1
            if start + 1 < end:  # nothing stands after a tuple's only comma
                yield from self.lines(start + 1, end, indent, comma)


def _assigned(statement: str) -> tuple[str, str]:
    """What stands before a statement's value, if anything does, and the value."""
    match = re.match(r"return |[\w.,() ]+ = ", statement)
    return (match[0], statement[match.end() :]) if match else ("", statement)


def _chained(head: str, parts: list[str], margin: str, after: str) -> Iterator[str]:
    """Operands, or calls of methods, one below the other; in parentheses where they are assigned."""
    if head:
        yield f"{margin}{head}("
        for part in parts:
            yield from lines(part, len(margin) // len(INDENT) + 1)
        yield f"{margin}){after}"
    else:
        yield from (margin + part for part in parts[:-1])
        yield margin + parts[-1] + after


def _operands(value: str) -> list[str]:
    """A sum, or else a product, in its operands, all but the first with their operator."""
    for operator in "+*":
        if f" {operator} " not in value:
            continue
        cuts, depth = [0], 0
        for index, character in _marks(value, operator):
            depth += (character in "([{") - (character in ")]}")
            if depth == 0 and character == operator and value[index - 1 : index + 2] == f" {operator} ":
                cuts.append(index)
        if len(cuts) > 1:
            return [value[start:end].strip() for start, end in zip(cuts, [*cuts[1:], len(value)], strict=True)]
    return [value]


def _links(value: str) -> list[str]:
    """A chain of method calls, ``a(…).b(…).c(…)``, in its links; one where it is no chain."""
    depth, cuts = 0, [0]
    for index, character in _marks(value, ".= "):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and character == "." and value[index - 1] in ")]" and "(" in value[index:]:
            cuts.append(index)
        if depth == 0 and character in " =":
            return [value]
    return [value[start:end] for start, end in zip(cuts, [*cuts[1:], len(value)], strict=True)]


def _marks(text: str, marks: str) -> Iterator[tuple[int, str]]:
    """The brackets, and the characters of ``marks``, that stand in no string literal of a text, with their places."""
    for match in _marks_pattern(marks).finditer(text):
        if match[1]:
            yield match.start(), match[1]


@cache
def _marks_pattern(marks: str) -> re.Pattern[str]:
    double, single = r'"[^"\\]*(?:\\.[^"\\]*)*"', r"'[^'\\]*(?:\\.[^'\\]*)*'"
    return re.compile(rf"{double}|{single}|([(){{}}\[\]{re.escape(marks)}])")
