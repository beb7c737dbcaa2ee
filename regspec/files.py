"""Writing files whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from regspec.errors import Problem, RegspecError


def write(path: Path, content: str | bytes) -> None:
    """Writes a file at once: a reader sees the old content or the new, and nothing between. Raises `RegspecError`."""
    raw = content.encode() if isinstance(content, str) else content
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            draft.write_bytes(raw)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise RegspecError(Problem(f"can't be written: {error.strerror}", path=str(path))) from None
