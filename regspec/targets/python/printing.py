"""Expressions as documents of Python code. Names are those of this package's tables; all else is a literal."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from regspec.code.expressions import (
    Apply,
    Binary,
    Call,
    Each,
    Expression,
    Held,
    Import,
    Index,
    Listed,
    Local,
    Method,
    Omitted,
    Part,
    Unary,
    Value,
)
from regspec.code.shapes import Symbol
from regspec.targets.python.layout import Beside, Brackets, Doc, Dotted, Infix, beside, called, flat

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
_COMPARISON = _STRENGTH["<"]
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
    "uniform_": ("bound", "bound"),
    "F.pad": ("x", "padding"),
    "L1": ("l1",),
    "L2": ("l2",),
}


@dataclass(frozen=True, slots=True)
class Number:
    """A number in an expression, or a tuple of numbers."""

    value: Value
    name: str  # what the function calls it whose argument it is
    keyword: str | None = None  # where it is given by a keyword, which may be left out
    is_omitted: bool = False
    strength: int = 0  # of what it is an operand of

    def text(self, other: str | None = None) -> Doc:
        """Itself, or another expression in its place, in parentheses where it needs them."""
        if other is None:
            found = literal(self.value)
            own = _UNARY if isinstance(found, str) and found.startswith("-") else _PRIMARY
        else:
            found, own = other, _strength_of(other)
        return Brackets("(", (found,), ")") if own < self.strength else found


class Printer:
    """Prints expressions; whoever prints the class around them names the tensors, modules and functions."""

    def __init__(
        self,
        tensor: Callable[[Symbol], str],
        module: Callable[[Apply], str],
        variable: Callable[[Expression], str | None],
        function: Callable[[str | Import], str],
        number: Callable[[Number], Doc] | None = None,
    ) -> None:
        self.tensor = tensor
        self.module = module
        self.variable = variable  # that already holds the value of an expression, or None
        self.function = function
        self.number = number  # prints a number that may differ between blocks of one class

    def text(self, value: Value) -> str:
        """A value on one line."""
        return flat(self.document(value))

    def document(self, value: Value, strength: int = 0, name: str = "size") -> Doc:
        """A value; in parentheses where it binds less than ``strength``. A number may be called ``name``."""
        if isinstance(value, Symbol):
            return self.tensor(value)
        if isinstance(value, Expression) and (variable := self.variable(value)) is not None:
            return variable
        if isinstance(value, Held):
            return self.module(value)
        if isinstance(value, Listed):
            return literal([*value.items], self.document)
        if isinstance(value, Local):
            return value.name
        if isinstance(value, Each):
            return self._each(value)
        if isinstance(value, Apply):
            return called(self.module(value), self._arguments(value.arguments, value.keywords.items()))
        if isinstance(value, Call):
            names = _positions(value.function)
            return called(self.function(value.function), self._arguments(value.arguments, value.keywords, names))
        if isinstance(value, Import):
            return self.function(value)
        if isinstance(value, Method):
            return self._method(value)
        if isinstance(value, Index):
            index = Brackets("[", tuple(map(self._index, value.index)), "]", "index")
            return _after(self.document(value.of, _POSTFIX), index)
        if isinstance(value, Part):
            places = "".join(f"[{index}]" for index in value.path)
            return _after(self.document(value.whole, _POSTFIX), places)
        if isinstance(value, (Binary, Unary)):
            own = _UNARY if isinstance(value, Unary) else _STRENGTH[value.operator]
            operation = self._operation(value)
            return Brackets("(", (operation,), ")") if own < strength else operation
        if _is_number(value):
            number = Number(value, name, strength=strength)
            return number.text() if self.number is None else self.number(number)
        return literal(value, self.document)

    def constructor(self, value: Call) -> Doc:
        """A constructor call, with its numbers as ``number`` prints them."""
        if self.number is None:
            return self.document(value)
        arguments = [self.argument(name, each) for name, each in _named(value.arguments, _positions(value.function))]
        for name, each in value.all_keywords or value.keywords:
            is_omitted = isinstance(each, Omitted)
            given = each.default if isinstance(each, Omitted) else each
            if _is_number(given):
                arguments.append(self.number(Number(given, name, keyword=name, is_omitted=is_omitted)))
            elif not is_omitted:
                arguments.append(beside(f"{name}=", self.argument(name, given)))
        return called(self.function(value.function), arguments)

    def call(self, function: str | Import, first: Doc, more: Call) -> Doc:
        """``function(first, …)``, with the other arguments of a call."""
        arguments = self._arguments(more.arguments, more.keywords, _positions(function))
        return called(self.function(function), [first, *arguments])

    def argument(self, name: str, value: Value) -> Doc:
        """An argument of a constructor, of this name; it may be a constructor itself."""
        if self.number is not None and _is_number(value):
            return self.number(Number(value, name))
        return self.constructor(value) if isinstance(value, Call) else self.document(value)

    def _arguments(
        self, arguments: Iterable[Value], keywords: Iterable[tuple[str, Value]], names: Sequence[str] = ()
    ) -> list[Doc]:
        given = [self.document(value, name=name) for name, value in _named(arguments, names)]
        return [*given, *(beside(f"{name}=", self.document(value, name=name)) for name, value in keywords)]

    def _each(self, value: Each) -> Doc:
        """A list that a loop makes."""
        names = ", ".join(variable.name for variable in value.variables)
        over = [self.document(each) for each in value.over]
        together = over[0] if len(over) == 1 else called("zip", [*over, "strict=True"])
        return Brackets("[", (self.document(value.body), beside(f"for {names} in ", together)), "]", "loop")

    def _method(self, value: Method) -> Doc:
        """A call of a method; on the result of another such call, it extends that chain."""
        of = self.document(value.of, _POSTFIX)
        link = called(f".{value.name}", self._arguments(value.arguments, value.keywords.items()))
        if isinstance(of, Dotted):
            return Dotted((*of.parts, link))
        ends_in_brackets = isinstance(of, (Beside, Brackets)) or (isinstance(of, str) and of.endswith((")", "]")))
        return Dotted((of, link)) if ends_in_brackets else beside(of, link)

    def _operation(self, value: Binary | Unary) -> Doc:
        """An operator and its operands, with the parentheses that Python needs and ruff wants."""
        if isinstance(value, Unary):
            if value.operator not in ("-", "~"):
                raise KeyError(value.operator)
            return beside(value.operator, self.document(value.operand, _PRIMARY))
        own = _STRENGTH[value.operator]
        if value.operator == "**":
            base, exponent = self._fixed(value.left, _PRIMARY), self._fixed(value.right, _UNARY)
            is_simple = _SIMPLE.fullmatch(flat(base)) and _SIMPLE.fullmatch(flat(exponent).removeprefix("-"))
            return beside(base, "**" if is_simple else " ** ", exponent)
        left, operator, operand = self.document(value.left, own + (own == _COMPARISON)), value.operator, value.right
        if operator == "+" and self.number is None and isinstance(operand, (int, float)) and operand < 0:
            operator, operand = "-", -operand
        right = beside(f"{operator} ", self.document(operand, own + 1))
        binds_alike = isinstance(value.left, Binary) and _STRENGTH[value.left.operator] == own
        return Infix((*(left.parts if binds_alike and isinstance(left, Infix) else (left,)), right))

    def _fixed(self, value: Value, strength: int = 0) -> Doc:
        """A value; if it is a number, it is the same in all blocks of a class."""
        return Number(value, "", strength=strength).text() if _is_number(value) else self.document(value, strength)

    def _index(self, index: Any) -> Doc:
        if index is ...:
            return "..."
        if isinstance(index, slice):
            parts = ["" if part is None else flat(self._fixed(part)) for part in (index.start, index.stop)]
            return ":".join(parts if index.step is None else [*parts, flat(self._fixed(index.step))])
        return self._fixed(index)


def _strength_of(text: str) -> int:
    """How tightly what an expression has outermost binds, of those that are arithmetic or a choice."""
    node = ast.parse(text, mode="eval").body
    if node.end_col_offset != len(text) or node.col_offset:  # in brackets
        return _PRIMARY
    match node:
        case ast.BinOp(left=left, right=right):
            return _STRENGTH[text[left.end_col_offset : right.col_offset].strip(" ()")]
        case ast.UnaryOp():
            return _UNARY
        case ast.IfExp():
            return 0
    return _PRIMARY


def _after(of: Doc, index: Doc) -> Doc:
    """A document and an index of it."""
    if isinstance(of, Dotted):
        return Dotted((*of.parts[:-1], beside(of.parts[-1], index)))
    return beside(of, index)


def _positions(function: str | Import) -> tuple[str, ...]:
    """What a function calls its first arguments."""
    name = function if isinstance(function, str) else function.name
    return next((names for part, names in _POSITIONS.items() if part in name), ())


def _named(arguments: Iterable[Value], names: Sequence[str]) -> Iterator[tuple[str, Value]]:
    """Arguments with what a function calls them."""
    for index, value in enumerate(arguments):
        yield names[index] if index < len(names) else "size", value


def _is_number(value: Any) -> bool:
    """Whether a value is a number, or a tuple of numbers."""
    if isinstance(value, tuple):
        return bool(value) and all(_is_number(each) for each in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def literal(value: Any, document: Callable[[Any], Doc] | None = None) -> Doc:
    """A literal; ``document`` prints what stands in a list, tuple or mapping."""
    inside = document or literal
    if isinstance(value, str):
        return quoted(str(value))  # a str of a class of its own may show itself otherwise
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, list):
        return Brackets("[", tuple(map(inside, value)), "]")
    if isinstance(value, tuple):
        return Brackets("(", tuple(map(inside, value)), ",)" if len(value) == 1 else ")")
    if isinstance(value, dict):
        return Brackets("{", tuple(beside(inside(key), ": ", inside(each)) for key, each in value.items()), "}")
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    raise TypeError(f"no literal: {type(value).__name__}")


def quoted(text: str) -> str:
    """A string literal in double quotes, where that needs no more escapes."""
    single = repr(text)
    if single.startswith("'") and '"' not in text:
        return f'"{single[1:-1]}"'.replace("\\'", "'")
    return single
