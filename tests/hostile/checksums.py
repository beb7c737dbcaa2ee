"""The checksum that the newer parts of HDF5 files have, so that a part that lies has the right one."""

from __future__ import annotations

import re

BITS = 0xFFFFFFFF


def checksum(data: bytes) -> int:
    """Jenkins's lookup3 of data (https://burtleburtle.net/bob/c/lookup3.c, hashlittle)."""
    a = b = c = (0xDEADBEEF + len(data)) & BITS
    at = 0
    while len(data) - at > 12:
        a, b, c = _added(data, at, a, b, c)
        for left, right, turn in ((0, 2, 4), (1, 0, 6), (2, 1, 8), (0, 2, 16), (1, 0, 19), (2, 1, 4)):
            words = [a, b, c]
            words[left] = (words[left] - words[right] & BITS) ^ _turned(words[right], turn)
            words[right] = words[right] + words[3 - left - right] & BITS
            a, b, c = words
        at += 12
    if not data:
        return c
    words = [*_added(data, at, a, b, c)]
    for left, right, turn in ((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24)):
        words[left] = (words[left] ^ words[right]) - _turned(words[right], turn) & BITS
    return words[2]


def _added(data: bytes, at: int, *words: int) -> tuple[int, int, int]:
    a, b, c = (
        word + int.from_bytes(data[at + 4 * index : at + 4 * index + 4], "little") & BITS
        for index, word in enumerate(words)
    )
    return a, b, c


def _turned(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & BITS


PARTS = re.compile(rb"OHDR|OCHK|FRHP|FHDB|FHIB|BTHD|BTIN|BTLF|FAHD|FADB|EAHD|EAIB|EASB|EADB|SMTB|SMLI")
LONGEST = 800  # bytes of a part that is looked for


def part_around(raw: bytes, at: int) -> tuple[int, int] | None:
    """Where the part with a checksum begins and ends that a place lies in; None where it lies in none."""
    starts = [match.start() for match in PARTS.finditer(raw, 0, at + 1)]
    for start in starts[-1:]:
        for end in range(max(start + 8, at), min(start + LONGEST, len(raw) - 4)):
            if checksum(raw[start:end]) == int.from_bytes(raw[end : end + 4], "little"):
                return start, end
    return None


def put_checksum(raw: bytearray, part: tuple[int, int] | None) -> None:
    """Gives a part the checksum that it should have."""
    if part is not None:
        start, end = part
        raw[end : end + 4] = checksum(bytes(raw[start:end])).to_bytes(4, "little")
