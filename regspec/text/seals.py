"""Seals: a digest in a file that regspec made, by which it knows the file again, and that nobody has changed it since.

Such a file can be made anew, and may be written over; one that somebody has edited is no longer sealed.
"""

from __future__ import annotations

import hashlib
import re
import zlib

BLANK = f"regspec:{'0' * 16}"  # what stands in a file that is to be sealed, once
COMMENT = f"<!-- {BLANK} -->\n"  # the same for HTML and Markdown
_SEAL = re.compile(rb"regspec:([0-9a-f]{16})")
_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNK = re.compile(rb"tEXtSoftware\0regspec:[0-9a-f]{16}")  # of a PNG, after which its CRC stands


def sealed(content: bytes) -> bytes:
    """A file with the digest of itself in place of `BLANK`."""
    digest = hashlib.sha256(_blank(content)).hexdigest()[:16].encode()
    return _with_digest(content, digest)


def is_sealed(content: bytes) -> bool:
    """Whether a file is as regspec made it."""
    found = _SEAL.findall(content)
    return len(found) == 1 and sealed(content) == content


def _blank(content: bytes) -> bytes:
    return _with_digest(content, b"0" * 16)


def _with_digest(content: bytes, digest: bytes) -> bytes:
    """A file with this digest in its seal; a PNG with the chunk's CRC, without which no program would read it."""
    changed = _SEAL.sub(b"regspec:" + digest, content, count=1)
    if changed.startswith(_PNG) and (chunk := _CHUNK.search(changed)):
        crc = zlib.crc32(chunk[0]).to_bytes(4, "big")
        changed = changed[: chunk.end()] + crc + changed[chunk.end() + 4 :]
    return changed
