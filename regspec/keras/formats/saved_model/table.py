"""The index of a bundle: rows by their keys, in blocks that may be compressed, as LevelDB's tables have them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from regspec.keras.formats.saved_model.checksums import masked
from regspec.keras.formats.saved_model.protobuf import varint

MAX_INDEX = 16 * 2**20  # bytes, of the file, and of its rows once they are unpacked
MAX_ROWS = 100_000
MAX_INFLATION = 64  # how many times as large as its compressed form a block may be
MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
FOOTER = 48
TRAILER = 5  # bytes behind a block: its kind, and a checksum

Handle = tuple[int, int]  # where a block begins, and its size


def rows(data: bytes) -> dict[bytes, bytes]:
    """The rows of a table. Raises `ValueError` where it is damaged, or is none."""
    footer = data[-FOOTER:]
    if len(footer) < FOOTER or footer[-len(MAGIC) :] != MAGIC:
        raise ValueError("it is no table of arrays")
    _, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    handles = [_handle(value, 0)[0] for _, value in _rows(_block(data, index))]
    if any(after[0] < before[0] + before[1] for before, after in pairwise(handles)):
        raise ValueError("its blocks overlap")
    found: dict[bytes, bytes] = {}
    size = 0
    for handle in handles:
        block = _block(data, handle)
        size += len(block)
        for key, value in _rows(block):
            size += len(key)  # of which a block has a part alone
            found[key] = value
            if len(found) > MAX_ROWS or size > MAX_INDEX:
                raise ValueError("it has more rows than a model's")
    return found


def _handle(data: bytes, at: int) -> tuple[Handle, int]:
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _block(data: bytes, handle: Handle) -> bytes:
    """The content of a block."""
    offset, size = handle
    end = offset + size + TRAILER
    if end > len(data) - FOOTER:
        raise ValueError("a block lies outside of it")
    if masked(data[offset : end - 4]) != int.from_bytes(data[end - 4 : end], "little"):
        raise ValueError("a block has another checksum than it says")
    kind = data[end - TRAILER]
    if kind not in (0, 1):
        raise ValueError(f"a block is compressed in a way that is not known: {kind}")
    block = data[offset : end - TRAILER]
    return unpacked(block) if kind else block


def _rows(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a block, whose keys leave out what they begin with as the one before does."""
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    if len(block) < 4 or end < 0:
        raise ValueError("a block is cut off")
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        unshared, at = varint(block, at)
        size, at = varint(block, at)
        if shared > len(key) or unshared + size > end - at:
            raise ValueError("a row lies outside of its block")
        key = key[:shared] + block[at : at + unshared]
        at += unshared + size
        yield key, block[at - size : at]


def unpacked(data: bytes) -> bytes:
    """Data that Snappy has compressed, unpacked: a size, then pieces as they are, and copies of what came before."""
    size, at = varint(data, 0)
    if size > MAX_INFLATION * len(data) or size > MAX_INDEX:
        raise ValueError("a block says that it is larger than it can be")
    found = bytearray()
    while at < len(data):
        kind, length = data[at] & 3, (data[at] >> 2) + 1
        more = {0: max(0, length - 60), 1: 1, 2: 2, 3: 4}[kind]  # bytes of the length, or of the way back
        number = int.from_bytes(data[at + 1 : at + 1 + more], "little")
        if kind == 1:
            number += data[at] >> 5 << 8
            length = (data[at] >> 2 & 7) + 4
        at += 1 + more
        if kind == 0:
            length = number + 1 if more else length
            piece = data[at : at + length]
            at += length
        else:
            if not 0 < number <= len(found):
                raise ValueError("a block copies what is not there")
            piece = bytes(found[-number:][:length])
            piece = (piece * (length // len(piece) + 1))[:length]  # which may copy itself
        if len(piece) < length or len(found) + length > size:
            raise ValueError("a block has another size than it says")
        found += piece
    if len(found) != size:
        raise ValueError("a block has another size than it says")
    return bytes(found)
