"""Files in the folder of a model, which may hold anything: plain ones are read, and no link leads out of it."""

from __future__ import annotations

from pathlib import Path

from regspec.text.problems import Problem, RegspecError

COPY = "where you trust it, copy it with what its links lead to, as cp -rL does, and give the copy"


def file_in(folder: Path, name: str, place: str | None = None) -> Path | None:
    """A file in a folder by its path there, ``variables/variables.index``; None where no plain file is.

    Raises:
        RegspecError: where a link is on the way, which is not followed; ``place`` is what the message calls the folder.
    """
    path = folder
    for part in name.split("/"):
        path /= part
        if path.is_symlink():
            raise RegspecError(Problem(f"'{name}' is a link, which is not followed", COPY, place or str(folder)))
    return path if path.is_file() else None
