"""Calls as Python has them, ``l1_l2(l1=1e-5, l2=1e-4)``: a name and its arguments, by a small grammar.

An argument is a number, arithmetic on numbers, a word, a quoted text, true, false or none, or a list of these. In a
spec it may have parameters, whose values are never read again as a part of the call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from regspec.language.arithmetic import ExpressionError, Token, evaluated, lexed
from regspec.text.document import IN_BRACES
from regspec.text.faults import shown

_CALL = re.compile(r"\s*([A-Za-z_][\w.]*)\s*\(")
_KEYWORD = re.compile(r"\s*([A-Za-z_]\w*)\s*=(?!=)")
_CONSTANTS = {"true": True, "false": False, "none": None, "null": None}
_CLOSING = {"(": ")", "[": "]"}

Span = tuple[int, int]  # the first character, and the one after the last


@dataclass(frozen=True)
class CallText:
    """A call as it is written: its name, and its arguments, each with its place in the text."""

    name: Token
    positional: list[tuple[Any, Span]]
    named: dict[str, tuple[Any, Span]]


class FilledCall(str):
    """A text with parameters put in, for where it is none but a text; and the call that it is, with their values."""

    written: str
    call: CallText

    @classmethod
    def of(cls, text: str, written: str, call: CallText) -> FilledCall:
        """The text with what it was written as, to which the places in the call belong."""
        made = cls(text)
        made.written, made.call = written, call
        return made

    def __repr__(self) -> str:
        """Itself with its call, which tells it from a text that reads alike."""
        return f"{super().__repr__()} {self.call}"


Reader = Callable[[Token], Any]  # the value of an argument with a parameter; "text" is the sort of a quoted one


def is_call(text: str) -> bool:
    """Whether a text begins as a call does."""
    return _CALL.match(text) is not None


def parse_call(text: str, read: Reader | None = None) -> CallText:
    """The call that a text, of which `is_call` holds, says; ``read`` gives arguments with parameters.

    Raises:
        ExpressionError: at what is wrong.
    """
    if isinstance(text, FilledCall):
        return text.call
    match = _CALL.match(text)
    assert match is not None
    opened = Token("bracket", "(", match.end() - 1)
    end = _closing(text, opened)
    if (rest := _token(text, end + 1, len(text))).text:
        raise ExpressionError("has more behind the call", rest)
    call = CallText(Token("word", match[1], match.start(1)), [], {})
    for start, stop in _items(text, opened.start + 1, end):
        keyword = _KEYWORD.match(text, start, stop)
        value = _value(text, keyword.end() if keyword else start, stop, read)
        if keyword is None and call.named:
            raise ExpressionError("has an argument without a name behind one with a name", _token(text, start, stop))
        if keyword is None:
            call.positional.append((value, (start, stop)))
        elif keyword[1] in call.named:
            raise ExpressionError(f"has '{keyword[1]}' twice", Token("word", keyword[1], keyword.start(1)))
        else:
            call.named[keyword[1]] = (value, (keyword.start(1), stop))
    return call


def _closing(text: str, opened: Token) -> int:
    """Where a bracket is closed; what stands in quotes counts for nothing."""
    waiting, quote = [opened], ""
    for index in range(opened.start + 1, len(text)):
        each = text[index]
        if quote:
            quote = "" if each == quote else quote
        elif each in "'\"":
            quote = each
        elif each in _CLOSING:
            waiting.append(Token("bracket", each, index))
        elif each in _CLOSING.values():
            if each != _CLOSING[waiting.pop().text]:
                raise ExpressionError(f"has a '{each}' that closes no bracket", Token("bracket", each, index))
            if not waiting:
                return index
    raise ExpressionError("has a bracket that is not closed", waiting[-1], IN_BRACES)


def _items(text: str, start: int, end: int) -> Iterator[Span]:
    """The places of what commas part, without the spaces around; the last may be followed by a comma."""
    depth, quote, begin = 0, "", start
    for index in range(start, end + 1):
        each = text[index] if index < end else ","
        if quote:
            quote = "" if each == quote else quote
        elif each in "'\"":
            quote = each
        elif each in "([":
            depth += 1
        elif each in ")]":
            depth -= 1
        if each != "," or depth or quote:
            continue
        item = text[begin:index]
        if item.strip():
            first = begin + len(item) - len(item.lstrip())
            yield first, first + len(item.strip())
        elif index < end:
            raise ExpressionError("has no argument before ','", Token("comma", ",", index))
        begin = index + 1


def _value(text: str, start: int, stop: int, read: Reader | None, *, inside: bool = False) -> Any:
    token = _token(text, start, stop)
    written, start = token.text, token.start
    if not written:
        raise ExpressionError("has no value behind '='", Token("equals", "=", start - 1))
    if written[0] in "'\"" and written.find(written[0], 1) == len(written) - 1:
        quoted = Token("text", written[1:-1], start + 1)
        return quoted.text if read is None or "$" not in written else read(quoted)
    if written.casefold() in _CONSTANTS:
        return _CONSTANTS[written.casefold()]
    if written.isidentifier():
        return written
    opened = Token("bracket", written[0], start)
    is_listed = not inside and opened.text in _CLOSING and _closing(text, opened) == stop - 1
    items = [*_items(text, start + 1, stop - 1)] if is_listed else []
    if is_listed and (written[0] == "[" or len(items) > 1):
        return [_value(text, *item, read, inside=True) for item in items]
    if read is not None and "$" in written:
        return read(token)
    tokens = lexed(text, *token.part)
    if tokens is None or any(each.sort == "parameter" for each in tokens):
        raise ExpressionError(f"has {shown(written)} where a value must stand", token, "a text stands in quotes")
    return evaluated(tokens, lambda _: 0)


def _token(text: str, start: int, stop: int) -> Token:
    """What stands at a place, without the spaces around it."""
    written = text[start:stop]
    return Token("value", written.strip(), start + len(written) - len(written.lstrip()))
