"""Expressions as Python text, and statements in lines of at most 120 characters, laid out as ruff formats them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from regspec.calls import Apply, Binary, Call, Expression, Import, Index, Method, Part, Value
from regspec.shapes import Tensor

WIDTH = 120
INDENT = "    "

_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "@": 2}
_POSTFIX = 3


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
        tensor: Callable[[Tensor], str],
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
        if isinstance(value, Tensor):
            return self.tensor(value)
        if isinstance(value, (Apply, Part)) and (variable := self.variable(value)) is not None:
            return variable
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
        if isinstance(value, Binary):
            own = _STRENGTH[value.operator]
            text = f"{self.text(value.left, own)} {value.operator} {self.text(value.right, own + 1)}"
            return f"({text})" if own < strength else text
        text = literal(value, self.text)
        return f"({text})" if strength == _POSTFIX and isinstance(value, (int, float)) else text

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


def lines(statement: str, indent: int, after: str = "") -> Iterator[str]:
    """A statement, or a part of one, in lines that fit: its last bracket is opened up, as often as is needed.

    ``after`` is what follows it on its last line.
    """
    margin, inside = INDENT * indent, INDENT * (indent + 1)
    if len(margin) + len(statement) + len(after) <= WIDTH:
        yield margin + statement + after
        return
    head, separator, value = _assigned(statement)
    links = _links(value) if ")." in value else [value]
    if len(links) > 2 or (" + " in value and _split(value, " + ")[1:]):
        parts = links if len(links) > 2 else _operands(value)
        if separator:
            yield f"{margin}{head}("
            yield from (inside + part for part in parts)
            yield f"{margin}){after}"
        else:
            yield from (margin + part for part in parts[:-1])
            yield margin + parts[-1] + after
        return
    opened = _last_bracket(statement)
    if opened is None:
        yield margin + statement + after
        return
    start, end = opened
    head, body, tail = statement[: start + 1], statement[start + 1 : end], statement[end:]
    is_call = head[-1] == "(" and head[-2:-1].isidentifier()
    yield margin + head
    if is_call and len(inside) + len(body) <= WIDTH:
        yield inside + body
    else:
        parts = _split(body, ",")
        comma = "" if is_call and len(parts) == 1 else ","
        for part in parts:
            if len(inside) + len(part) < WIDTH:
                yield inside + part + comma
            else:
                yield from lines(part, indent + 1, comma)
    yield margin + tail + after


def _assigned(statement: str) -> tuple[str, bool, str]:
    """What stands before a statement's value, whether anything does, and the value."""
    match = re.match(r"return |[\w.,() ]+ = ", statement)
    return (match[0], True, statement[match.end() :]) if match else ("", False, statement)


def _operands(value: str) -> list[str]:
    first, *rest = _split(value, " + ")
    return [first, *(f"+ {operand}" for operand in rest)]


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


def _last_bracket(statement: str) -> tuple[int, int] | None:
    """Where the last bracket of a statement opens and closes, if it closes at the statement's end."""
    end = len(statement) - 1 if not statement.endswith(":") else len(statement) - 2
    if statement[end] not in ")]}":
        return None
    depth: list[int] = []
    for index, character in _marks(statement, ""):
        if character in "([{":
            depth.append(index)
        elif character in ")]}":
            start = depth.pop()
            if index == end:
                return start, end
    return None


def _split(text: str, separator: str) -> list[str]:
    """``text`` at every separator that stands in no bracket and no string."""
    parts, depth, start = [], 0, 0
    for index, character in _marks(text, separator[0]):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and text.startswith(separator, index):
            parts.append(text[start:index].strip())
            start = index + len(separator)
    rest = text[start:].strip()
    return [*parts, rest] if rest else parts


def _marks(text: str, marks: str) -> Iterator[tuple[int, str]]:
    """The brackets, and the characters of ``marks``, that stand in no string literal of a text, with their places."""
    for match in _marks_pattern(marks).finditer(text):
        if match[1]:
            yield match.start(), match[1]


@cache
def _marks_pattern(marks: str) -> re.Pattern[str]:
    return re.compile(rf'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|([(){{}}\[\]{re.escape(marks)}])')
