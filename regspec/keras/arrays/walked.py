"""Goes through all groups of an HDF5 file, and says nothing: run as a program, which a file that lies may bring down.

`headers` runs it, without regspec, before a group of many links is read by the process that has to live on.
"""

from __future__ import annotations

import contextlib
import io
import sys

import h5py

MAX_DEPTH, MAX_ITEMS = 64, 100_000  # of groups in groups, and of items in all of them
MAX_BYTES = 2**31  # of memory


def walk(group: h5py.Group, depth: int, seen: int) -> int:
    """Asks of each link what is asked when arrays are read; gives how many items were seen."""
    for name in group:
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_ITEMS:
            sys.exit(1)
        raw = name.encode(errors="surrogateescape") if isinstance(name, str) else name
        if not group.id.links.exists(raw) or group.id.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
            continue
        item = group[name]
        if isinstance(item, h5py.Group):
            seen = walk(item, depth + 1, seen)
    return seen


if __name__ == "__main__":
    with contextlib.suppress(ImportError):  # there is none on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MAX_BYTES, MAX_BYTES))
    with h5py.File(sys.argv[1] if sys.argv[1:] else io.BytesIO(sys.stdin.buffer.read()), "r") as file:
        walk(file, 0, 0)
