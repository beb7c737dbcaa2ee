"""CRC-32C, the checksum of tables and bundles (RFC 3720), by numpy, nearly as fast as memory is read.

Data is a polynomial whose coefficients are its bits, and its checksum the remainder of a division. The divisor divides
others that have few terms, far apart. By one of them, the first words of data are added to words further on, and gone.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

DIVISOR = 0x82F63B78  # Castagnoli's, its bits turned around, as those of each byte are
WORD = 8  # bytes
# What the divisor divides: the sum of the powers of x ** 64 with these exponents, which a search has found.
MULTIPLE = (209, 144, 54, 39, 14, 0)


def masked(data: memoryview | bytes) -> int:
    """The checksum of data as files have it, which may be data of others: turned, and with a number added."""
    checksum = crc32c(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: memoryview | bytes) -> int:
    """The checksum of data."""
    count = -(-len(data) // WORD)
    if count <= MULTIPLE[0]:
        return _remainder(bytes(data), 0xFFFFFFFF) ^ 0xFFFFFFFF
    padded = np.zeros(count * WORD, np.uint8)  # zeros in front change no remainder
    start = len(padded) - len(data)
    padded[start:] = np.frombuffer(data, np.uint8)
    padded[start : start + 4] ^= 0xFF  # as a division begins
    words = padded.view("<u8")
    return _remainder(_folded(words).tobytes(), 0) ^ 0xFFFFFFFF


def _folded(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Words of the same remainder, no more than the highest exponent. The words themselves are used up."""
    first, second, *_ = MULTIPLE
    power = max(0, (len(words) // first).bit_length() - 1)
    for scale in (2**each for each in range(power, -1, -1)):  # to which all exponents may be raised together
        while len(words) > first * scale:
            count = min((first - second) * scale, len(words) - first * scale)
            gone, words = words[:count], words[count:]
            for exponent in MULTIPLE[1:]:
                at = (first - exponent) * scale - count
                words[at : at + count] ^= gone
    return words


def _remainder(data: bytes, remainder: int) -> int:
    """The remainder of data behind other data of which it is known."""
    table = _table()
    for byte in data:
        remainder = table[(remainder ^ byte) & 0xFF] ^ remainder >> 8
    return remainder


@cache
def _table() -> list[int]:
    """The remainder of each byte."""
    found = [*range(256)]
    for _ in range(8):
        found = [each >> 1 ^ DIVISOR * (each & 1) for each in found]
    return found
