"""The mark on pages and figures that regspec made, which may be written over: they can be made again."""

from __future__ import annotations

from typing import Any

PAGE = '<meta name="generator" content="regspec">'
# What matplotlib writes into a figure's file, by its format. Without a date, the same run gives the same file.
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": "regspec"},
    "svg": {"Creator": "regspec", "Date": None},
    "pdf": {"Creator": "regspec", "CreationDate": None},
}
# How such files begin, and what is in each of them.
_MARKS = (
    (b"<!doctype html>", PAGE.encode()),
    (b"\x89PNG\r\n\x1a\n", b"Software\0regspec"),
    (b"<?xml", b"<dc:title>regspec</dc:title>"),
    (b"%PDF", b"/Creator (regspec)"),
)


def is_generated(content: bytes) -> bool:
    """Whether a file is a page or a figure that regspec made."""
    return any(content.startswith(head) and mark in content for head, mark in _MARKS)
