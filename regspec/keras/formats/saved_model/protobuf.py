"""Protocol buffers, as far as SavedModels need them: the fields of a message, without a copy of any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_FIELDS = 2_000_000  # of all messages of a file, many times those of the largest models
MAX_VARINT = 10  # bytes
SIZES = {1: 8, 5: 4}  # of fields of a fixed size, by their types


def varint(data: memoryview | bytes, at: int) -> tuple[int, int]:
    """A number that is written in as many bytes as it needs, and the place after it."""
    if at < len(data) and data[at] < 0x80:  # as nearly all are
        return data[at], at + 1
    number = 0
    for index, byte in enumerate(data[at : at + MAX_VARINT]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number & (2**64 - 1), at + index + 1
    raise ValueError("a number has no end")


@dataclass
class Budget:
    """How many fields may still be read."""

    left: int = MAX_FIELDS


@dataclass(frozen=True)
class Message:
    """A message, whose fields have numbers; one that is missing is 0, or empty.

    Its methods raise `ValueError` where a field is cut off, or of another type than is wanted.
    """

    data: memoryview
    budget: Budget = field(default_factory=Budget)

    def fields(self) -> Iterator[tuple[int, int | memoryview]]:
        """The number and the value of each field, in order: a whole number, or bytes."""
        data, budget = self.data, self.budget
        at, end = 0, len(data)
        while at < end:
            budget.left -= 1
            if budget.left < 0:
                raise ValueError("it has more fields than a model")
            key, at = varint(data, at)
            number, kind = key >> 3, key & 7
            if kind == 0:
                value, at = varint(data, at)
                yield number, value
                continue
            size, at = varint(data, at) if kind == 2 else (SIZES.get(kind, end), at)
            if size > end - at:
                raise ValueError("a field is cut off, or of no known type")
            yield number, data[at : at + size]
            at += size

    def all_bytes(self, number: int) -> Iterator[memoryview]:
        """The values of a field that is bytes, and may occur many times."""
        for own, value in self.fields():
            if own == number:
                if isinstance(value, int):
                    raise ValueError("a field is a number where bytes are wanted")
                yield value

    def messages(self, number: int) -> Iterator[Message]:
        """The values of a field that is a message, and may occur many times."""
        for value in self.all_bytes(number):
            yield Message(value, self.budget)

    def bytes(self, number: int) -> memoryview:
        """The value of a field that is bytes; of several the last counts."""
        return [memoryview(b""), *self.all_bytes(number)][-1]

    def message(self, number: int) -> Message:
        """The value of a field that is a message."""
        return Message(self.bytes(number), self.budget)

    def text(self, number: int) -> str:
        """The value of a field that is text."""
        return str(self.bytes(number), "utf-8", "replace")

    def has(self, number: int) -> bool:
        """Whether a field is there."""
        return any(own == number for own, _ in self.fields())

    def whole(self, number: int, missing: int = 0) -> int:
        """The value of a field that is a whole number, which may be negative."""
        last = missing
        for own, value in self.fields():
            if own == number:
                if not isinstance(value, int):
                    raise ValueError("a field is bytes where a number is wanted")
                last = value - 2**64 if value >= 2**63 else value
        return last
