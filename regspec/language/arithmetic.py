"""Arithmetic on parameters, ``$width // 2``: a small grammar over tokens that know their columns.

A text is arithmetic where it has a parameter, and besides parameters nothing but numbers, operators, brackets and
spaces. With a word in it, it is arithmetic where an operator stands between spaces, ``$width * four``, and then the
word is a fault; ``prefix_$name``, ``$a->$b`` and ``l2($strength)`` are texts.

Where a field takes numbers only, a text of numbers alone is arithmetic, too: ``units: 7 * 7 * 64``.

A result that is whole by value is whole, so that ``$width * 0.5`` may be a size.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from keyword import iskeyword
from typing import Any

from regspec.text.document import MAX_INTEGER
from regspec.text.faults import shown

MAX_LEVELS = 64  # brackets, signs and powers in each other
_EXACT = 2**53  # up to which a float is the whole number that it shows

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<parameter>\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[^{}]*\}))
    | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?![A-Za-z0-9_.$]))
    | (?P<operator>\*\*|//|[-+*/%])
    | (?P<bracket>[()])
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)""",
    re.VERBOSE,
)
_SPACED = re.compile(r"[\w)]\s+(?:\*\*|//|[-+*/%])\s+[\w$(]")

Number = int | float


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of an expression: its sort, its text, and where it begins."""

    sort: str
    text: str
    start: int

    @property
    def part(self) -> tuple[int, int]:
        """Its first column, counted from 0, and the one after its last."""
        return self.start, self.start + len(self.text)


class ExpressionError(Exception):
    """What is wrong in an expression, at which columns, and the remedy."""

    def __init__(self, what: str, token: Token, hint: str | None = None) -> None:
        super().__init__(what)
        self.what, self.token, self.hint = what, token, hint

    @property
    def part(self) -> tuple[int, int]:
        """The columns of what is wrong."""
        return self.token.part


def lexed(text: str, start: int = 0, stop: int | None = None) -> list[Token] | None:
    """The tokens of a text, or of a part of it; None where it has other characters."""
    tokens, end, stop = [], start, len(text) if stop is None else stop
    while end < stop:
        match = _TOKEN.match(text, end, stop)
        if match is None:
            return None
        if match.lastgroup != "space":
            tokens.append(Token(str(match.lastgroup), match[0], end))
        end = match.end()
    return tokens


def tokens_of(text: str) -> list[Token] | None:
    """The tokens of a text, if it is arithmetic; else None."""
    tokens = lexed(text)
    if tokens is None:
        return None
    sorts = {token.sort for token in tokens}
    if "parameter" not in sorts or sorts.isdisjoint(("operator", "bracket")):
        return None
    if "word" in sorts and not _is_spaced(tokens, text):
        return None
    return tokens


def is_of_numbers(text: str) -> bool:
    """Whether a text is arithmetic on numbers alone, ``7 * 7 * 64``; ``2024-01-31`` is a date."""
    tokens = lexed(text) or []
    sorts = [token.sort for token in tokens]
    is_date = [token.text for token in tokens[1::2]] == ["-", "-"] and " " not in text
    return {*sorts} <= {"number", "operator", "bracket"} and sorts.count("number") > 1 and not is_date


def _is_spaced(tokens: list[Token], text: str) -> bool:
    """Whether an operator stands between spaces, and no word is called as a function is: ``l2($strength * 2)``."""
    is_called = any(
        one.sort == "word" and other.text == "(" and one.part[1] == other.start for one, other in pairwise(tokens)
    )
    return not is_called and _SPACED.search(text) is not None


def evaluated(tokens: list[Token], value_of: Callable[[Token], Number]) -> Number:
    """The number that tokens of `tokens_of` stand for; ``value_of`` gives those of parameters.

    Raises:
        ExpressionError: at the token that is wrong.
    """
    return _Expression(tokens, value_of).value()


class _Expression:
    """Precedence climbing: sums of products of signed powers."""

    def __init__(self, tokens: list[Token], value_of: Callable[[Token], Number]) -> None:
        last = tokens[-1]
        self.tokens = [*tokens, Token("end", "", last.part[1])]
        self.value_of = value_of
        self.place = 0
        self.levels = 0

    def value(self) -> Number:
        result = self._operations(0)
        if self.now.text == ")":
            raise ExpressionError("has a ')' that closes no bracket", self.now)
        if self.now.sort == "word":
            raise self._word()
        if self.now.sort != "end":
            raise ExpressionError(f"has '{self.now.text}' where an operator must stand", self.now)
        return int(result) if isinstance(result, float) and result.is_integer() and abs(result) < _EXACT else result

    @property
    def now(self) -> Token:
        return self.tokens[self.place]

    def _taken(self) -> Token:
        self.place += 1
        return self.tokens[self.place - 1]

    def _operations(self, strength: int) -> Number:
        """Operands and the operators between them that bind at least as strongly."""
        left = self._signed()
        while self.now.sort == "operator" and self.now.text != "**" and _STRENGTH[self.now.text] >= strength:
            sign = self._taken()
            left = _computed(left, sign, self._operations(_STRENGTH[sign.text] + 1))
        return left

    def _signed(self) -> Number:
        """A power with signs before it, which bind less strongly, as in mathematics: ``-2 ** 2`` is -4."""
        self.levels += 1
        if self.levels > MAX_LEVELS:
            raise ExpressionError(f"is nested deeper than {MAX_LEVELS} levels", self.now)
        if self.now.text in ("-", "+"):
            result = -self._signed() if self._taken().text == "-" else self._signed()
        else:
            result = self._operand()
            if self.now.text == "**":
                sign = self._taken()
                result = _computed(result, sign, self._signed())
        self.levels -= 1
        return result

    def _operand(self) -> Number:
        token = self._taken()
        if token.sort == "number":
            return _bounded(float(token.text) if set(".eE") & set(token.text) else int(token.text), token)
        if token.sort == "parameter":
            return _bounded(self.value_of(token), token)
        if token.text == "(":
            result = self._operations(0)
            if self.now.text != ")":
                raise (
                    self._word()
                    if self.now.sort == "word"
                    else ExpressionError("has a bracket that is not closed", token)
                )
            self._taken()
            return result
        self.place -= 1
        if token.sort == "word":
            raise self._word()
        before = self.tokens[self.place - 1] if token.sort == "end" else token
        what = f"has no number or parameter behind '{before.text}'" if token.sort == "end" else ""
        raise ExpressionError(what or f"has '{token.text}' where a number or a parameter must stand", before)

    def _word(self) -> ExpressionError:
        word = self.now.text
        hint = None if iskeyword(word) else f"a parameter is written ${word}"  # whose name is none of Python's words
        return ExpressionError(f"has the word {shown(word)} among numbers", self.now, hint)


_STRENGTH = {"+": 0, "-": 0, "*": 1, "/": 1, "//": 1, "%": 1}
_COMPUTE: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}


def _computed(left: Number, sign: Token, right: Number) -> Number:
    """The result of an operator. Raises `ExpressionError` at it."""
    if sign.text in ("/", "//", "%") and right == 0:
        raise ExpressionError("divides by 0", sign)
    if sign.text == "**":
        if left == 0 and right < 0:
            raise ExpressionError("divides by 0", sign)
        if left < 0 and not float(right).is_integer():
            raise ExpressionError("is a root of a number below 0", sign)
        if isinstance(left, int) and isinstance(right, int) and abs(left) > 1 and right > 64:
            raise ExpressionError(_TOO_LARGE, sign)
    if sign.text == "/" and isinstance(left, int) and isinstance(right, int) and left % right == 0:
        return left // right
    try:
        return _bounded(_COMPUTE[sign.text](left, right), sign)
    except OverflowError:
        raise ExpressionError(_TOO_LARGE, sign) from None


_TOO_LARGE = "makes a number that is too large: whole ones go up to 2**63 - 1"


def _bounded(number: Number, token: Token) -> Number:
    if isinstance(number, int) and abs(number) <= MAX_INTEGER:
        return number
    if isinstance(number, float) and abs(number) < float("inf"):
        return number
    raise ExpressionError(_TOO_LARGE, token)
