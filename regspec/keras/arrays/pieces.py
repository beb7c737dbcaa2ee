"""The pieces in which HDF5 files may have arrays, compressed or not: whether each is as long as the array says.

HDF5 unpacks as much as there is, a thousand times the bytes of the file; and of a piece that is too short it gives what
lies behind it in memory, which no file may make weights of (HDF5 2.0, and all before).
"""

from __future__ import annotations

import math
import zlib

import h5py

SHUFFLE, DEFLATE, CHECKSUM, LZF = 2, 1, 3, 32000  # what may be done with pieces, by the numbers of HDF5's filters
ORDER = (SHUFFLE, LZF, DEFLATE, CHECKSUM)  # as h5py does it
BYTES = 4  # of a checksum


def count_of_pieces(dataset: h5py.Dataset) -> int:
    """In how many pieces an array lies."""
    if dataset.chunks is None:
        return 1
    return math.prod(-(-size // own) for size, own in zip(dataset.shape, dataset.chunks, strict=True))


def check_pieces(dataset: h5py.Dataset, most: int) -> None:
    """Raises `ValueError` where the pieces of an array are others than it says; ``most`` are bytes for one."""
    if dataset.chunks is None:
        return
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if size > most:
        raise ValueError(f"'{dataset.name}' lies in pieces of {size:,} bytes")
    made = dataset.id.get_create_plist()
    filters = [made.get_filter(index)[0] for index in range(made.get_nfilters())]
    if filters != [each for each in ORDER if each in filters]:
        raise ValueError(f"'{dataset.name}' is compressed in a way that is not read")
    stored: list[h5py.h5d.StoreInfo] = []
    dataset.id.chunk_iter(stored.append)
    if sum(each.size for each in stored) > dataset.file.id.get_filesize():
        raise ValueError(f"'{dataset.name}' is longer than its file")
    for each in stored:
        done = [own for index, own in enumerate(filters) if not each.filter_mask >> index & 1]
        length = each.size - BYTES * (CHECKSUM in done)
        if DEFLATE in done or LZF in done:
            _, raw = dataset.id.read_direct_chunk(each.chunk_offset)
            length = _inflated(raw, size) if DEFLATE in done else _unpacked(raw[:length])
        if length != size:
            raise ValueError(f"a piece of '{dataset.name}' has another size than it says")


def _inflated(raw: bytes, size: int) -> int:
    """How many bytes are compressed in others by Deflate, counted as far as one more than is wanted."""
    return len(zlib.decompressobj().decompress(raw, size + 1))


def _unpacked(raw: bytes) -> int:
    """How many bytes are compressed in others by LZF: pieces as they are, and copies of what came before."""
    at = length = 0
    while at < len(raw):
        own = raw[at] >> 5
        if own == 0:
            at, own = at + raw[at] + 2, raw[at] + 1
        else:
            is_long = own == 7
            at, own = at + 2 + is_long, own + 2 + (raw[at + 1] if is_long else 0)
        length += own
    return length
