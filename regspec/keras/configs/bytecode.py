"""What the code in a file names, without running it: the names and constants in Python's own form of bytecode.

Keras keeps a Lambda as what `marshal` writes of a function's code. Python says that its own `marshal.loads` is not to
be trusted with such data; so the texts and numbers in it are read here, bounded, and nothing is made of them.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

CODE = ("Lambda",)  # layers that are code
MAX_CODE = 2**18  # bytes
MAX_ITEMS = 20_000
MAX_DEPTH = 40
SHOWN = 12  # names, and constants
REFERRED = 0x80  # the bit of a type that says that a thing is referred to later

# What stands in a code object, by versions of Python: how many numbers, and the names of the things after them; `_`
# is a thing that is skipped, and `#` one more number.
LAYOUTS = (
    (4, "_ constants names variables _ _ _ _ # _"),  # 2.7
    (5, "_ constants names variables _ _ _ _ # _"),  # 3.0 to 3.7
    (6, "_ constants names variables _ _ _ _ # _"),  # 3.8 to 3.10
    (5, "_ constants names variables _ _ _ _ # _ _"),  # 3.11 on
)


@dataclass
class Code:
    """The names that a code uses of others, and its constants; those of the codes in it too."""

    names: list[str] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def __str__(self) -> str:
        names = [name for name in dict.fromkeys(self.names) if name.isidentifier()]
        constants = [*dict.fromkeys(f"{each!r}"[:40] for each in self.constants if each not in (None, ""))]
        parts = {"names": names, "has the constants": constants}
        said = [
            f"{verb} {', '.join(each[:SHOWN])}{', …' * (len(each) > SHOWN)}" for verb, each in parts.items() if each
        ]
        return " and ".join(said)


def described(function: Any) -> str:
    """A serialized function in a few words: that it is code, and what that names."""
    if isinstance(function, str) and function.isidentifier():
        return f"it is the function '{function[:80]}', of which the file has the name alone"
    found = str(code_in(function) or "")
    return f"it is Python code, which is not run{f': it {found}' if found else ''}"


def code_in(function: Any) -> Code | None:
    """The names and constants in a serialized function, in any form that Keras has had; None where none can be read."""
    for text in _texts(function):
        for data in _bytes_of(text):
            for layout in LAYOUTS:
                found = _Reading(data[:MAX_CODE], layout).code()
                if found is not None:
                    return found
    return None


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    """The texts in a serialized function, the first of which is its code."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)) and depth < 5:
        for each in (value.values() if isinstance(value, dict) else value) if len(value) < 20 else ():
            yield from _texts(each, depth + 1)


def _bytes_of(text: str) -> Iterator[bytes]:
    """What a text may stand for: base64, or, in Keras 1, bytes as characters."""
    with suppress(binascii.Error, ValueError):
        yield base64.b64decode("".join(text.split()), validate=True)
    with suppress(UnicodeEncodeError):
        yield text.encode("raw_unicode_escape")


class _OtherError(Exception):
    """What is read is no code of this layout."""


class _Reading:
    """Reads marshal's format of one layout of code objects."""

    def __init__(self, data: bytes, layout: tuple[int, str]) -> None:
        self.data = data
        self.at = 0
        self.layout = layout
        self.found = Code()
        self.referred: list[Any] = []
        self.interned: list[Any] = []
        self.items = 0

    def code(self) -> Code | None:
        """What the code names, where the whole is one code object of this layout."""
        if self.data[:1] not in (b"c", b"\xe3"):
            return None
        try:
            self.thing()
        except (_OtherError, struct.error, IndexError, ValueError):
            return None
        return self.found if self.at == len(self.data) else None

    def taken(self, count: int) -> bytes:
        """The next bytes."""
        if not 0 <= count <= len(self.data) - self.at:
            raise _OtherError
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self) -> int:
        """The next number of four bytes."""
        return int(struct.unpack("<i", self.taken(4))[0])

    def thing(self, depth: int = 0) -> Any:
        """The next thing: a text, a number, a list of things; None for all that is not shown."""
        self.items += 1
        if depth > MAX_DEPTH or self.items > MAX_ITEMS:
            raise _OtherError
        kind = self.taken(1)[0]
        place = None
        if kind & REFERRED:
            place = len(self.referred)
            self.referred.append(None)
        kind &= ~REFERRED
        value = self.value(chr(kind), depth)
        if place is not None:
            self.referred[place] = value
        return value

    def value(self, kind: str, depth: int) -> Any:
        """What stands behind a type."""
        if kind in SIMPLE:
            return SIMPLE[kind]
        if kind in NUMBERS:
            return NUMBERS[kind](self)
        if kind in "st":
            text = self.taken(self.number())
            if kind == "t":
                self.interned.append(text.decode("latin-1"))
            return text.decode("latin-1")
        if kind in "uaA":
            return self.taken(self.number()).decode("utf-8", "replace")
        if kind in "zZ":
            return self.taken(self.taken(1)[0]).decode("latin-1")
        if kind == "R":
            return self.interned[self.number()]
        if kind == "r":
            return self.referred[self.number()]
        if kind in ")([<>":
            count = self.taken(1)[0] if kind == ")" else self.number()
            return [self.thing(depth + 1) for _ in range(self._bounded(count))]
        if kind == "c":
            return self.code_object(depth)
        raise _OtherError

    def _bounded(self, count: int) -> int:
        if not 0 <= count <= len(self.data) - self.at:  # of which each has a byte
            raise _OtherError
        return count

    def code_object(self, depth: int) -> None:
        """Adds what a code object names."""
        numbers, parts = self.layout
        for _ in range(numbers):
            self.number()
        found: dict[str, Any] = {}
        for part in parts.split():
            found[part] = self.number() if part == "#" else self.thing(depth + 1)
        names, constants = found["names"], found["constants"]
        if not isinstance(names, list) or not isinstance(constants, list):
            raise _OtherError
        self.found.names += [name for name in names if isinstance(name, str)]
        self.found.constants += [each for each in constants if isinstance(each, (str, int, float))]


def _float_in_text(reading: _Reading) -> float:
    return float(reading.taken(reading.taken(1)[0]))


def _long(reading: _Reading) -> int:
    """A whole number in digits of 15 bits, with the sign in their count."""
    count = reading.number()
    digits = struct.unpack(f"<{abs(count)}H", reading.taken(2 * abs(count))) if abs(count) < 100 else ()
    if not digits and count:
        raise _OtherError
    value = sum(int(digit) << 15 * place for place, digit in enumerate(digits))
    return -value if count < 0 else value


def _complex(reading: _Reading) -> None:
    reading.taken(16)


SIMPLE: dict[str, Any] = {"N": None, "F": False, "T": True, "S": None, ".": "..."}
NUMBERS: dict[str, Callable[[_Reading], Any]] = {
    "i": _Reading.number,
    "I": lambda reading: struct.unpack("<q", reading.taken(8))[0],
    "g": lambda reading: struct.unpack("<d", reading.taken(8))[0],
    "f": _float_in_text,
    "l": _long,
    "y": _complex,
}
