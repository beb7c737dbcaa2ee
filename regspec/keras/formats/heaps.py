"""Heaps, in which an HDF5 file has its texts: whether HDF5 comes to the end of each.

It goes from one text to the next by the size that the first one says, and where that leads nowhere it goes on for ever,
in code that nothing interrupts (HDF5 2.0, and all before). So they are gone through here, before it reads any.
"""

from __future__ import annotations

import mmap
import re

HEAP = re.compile(rb"GCOL\x01\0\0\0")  # as the format has it: https://docs.hdfgroup.org, III.E, global heap
MAX_TEXTS = 2_000_000  # in all heaps of a file


def check_heaps(data: bytes | memoryview | mmap.mmap, width: int) -> None:
    """Raises `ValueError` where a file has a heap without an end; its sizes are numbers of ``width`` bytes."""
    header, left = _aligned(8 + width), MAX_TEXTS
    for match in HEAP.finditer(data):
        start = match.start()
        end = min(start + _number(data, start + 8, width), len(data))
        at = start + header
        while at + header <= end:
            size = _number(data, at + 8, width)
            if _number(data, at, 2):  # and not what is free
                size = (header + _aligned(size)) % 2**64
            left -= 1
            if not size or not left:
                raise ValueError("a heap of its texts has no end")
            at += size


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def _number(data: bytes | memoryview | mmap.mmap, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "little")
