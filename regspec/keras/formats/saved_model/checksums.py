"""CRC-32C, the checksum of tables and bundles (RFC 3720), by numpy: many pieces of the data at once.

The remainder of data is linear: that of two pieces, one after the other, is that of the first, moved on by as many
bytes as the second has, plus that of the second.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78  # of Castagnoli, with its bits turned around
PIECES = 4096  # at most, a power of two
WORD = 8  # bytes that are taken in at once
BITS = np.arange(32, dtype=np.uint32)

Numbers = NDArray[np.uint32]


def masked(data: memoryview | bytes) -> int:
    """The checksum of data as files have it, which may be data of others: turned, and with a number added."""
    checksum = crc32c(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: memoryview | bytes) -> int:
    """The checksum of data."""
    size = len(data)
    pieces = PIECES
    while pieces > 1 and pieces * 2 * WORD > size:
        pieces //= 2
    width = -(-size // (pieces * WORD)) * WORD
    padded = np.zeros(pieces * width, np.uint8)  # zeros in front change no remainder
    padded[len(padded) - size :] = np.frombuffer(data, np.uint8)
    remainders = _remainders(padded.view("<u8").reshape(pieces, -1))
    while len(remainders) > 1:
        remainders = _moved(remainders[::2], width) ^ remainders[1::2]
        width *= 2
    start = _moved(np.array([0xFFFFFFFF], np.uint32), size)
    return int(remainders[0] ^ start[0]) ^ 0xFFFFFFFF


def _remainders(words: NDArray[np.uint64]) -> Numbers:
    """The remainder of each row."""
    tables = _tables()
    found = np.zeros(len(words), np.uint32)
    for index in range(words.shape[1]):
        word = words[:, index] ^ found
        found = tables[0][word & 0xFFFF]
        for part in (1, 2, 3):
            found = found ^ tables[part][(word >> np.uint64(16 * part)) & 0xFFFF]
    return found


@cache
def _tables() -> list[Numbers]:
    """What two bytes of a word become at its end, by which of its four parts they are."""
    last = _by_bits(np.arange(2**16, dtype=np.uint32), 16)
    return [_moved(last, 6), _moved(last, 4), _moved(last, 2), last]


def _by_bits(remainders: Numbers, count: int) -> Numbers:
    """Remainders, so many bits further on."""
    for _ in range(count):
        remainders = (remainders >> 1 ^ (remainders & 1) * POLYNOMIAL).astype(np.uint32)
    return remainders


def _moved(remainders: Numbers, count: int) -> Numbers:
    """Remainders, so many bytes further on."""
    for power in range(count.bit_length()):
        if count >> power & 1:
            remainders = _applied(_step(power), remainders)
    return remainders


@cache
def _step(power: int) -> Numbers:
    """What each bit of a remainder becomes 2 ** power bytes further on."""
    return _applied(_step(power - 1), _step(power - 1)) if power else _by_bits(np.uint32(1) << BITS, 8)


def _applied(step: Numbers, remainders: Numbers) -> Numbers:
    """Remainders after a step, which is linear: what becomes of each of their bits, together."""
    found: Numbers = np.bitwise_xor.reduce((remainders[:, None] >> BITS & 1) * step, axis=1)
    return found
