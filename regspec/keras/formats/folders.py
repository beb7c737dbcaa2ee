"""Files in the folder of a model, which may hold anything: plain ones are read, and no link leads out of it.

What a file holds becomes numbers, which their user may publish as weights. So a link in a folder from elsewhere must
not reach the user's other files: it is followed within the folder, and from a snapshot in a cache of Hugging Face into
the cache of the same model, where its files lie. Nor is a pointer of Git LFS, which a clone may have in the place of
any file, read as what it points to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from regspec.text.problems import Problem, RegspecError

POINTER = b"version https://git-lfs"  # how a pointer begins
POINTED, PULL = "a pointer of Git LFS, and not the file itself", "git lfs pull"
COPY = "where you trust it, copy it with what its links lead to, as cp -rL does, and give the copy"


def file_in(folder: Path, name: str, place: str | None = None) -> Path | None:
    """A file in a folder by its path there, ``variables/variables.index``; None where no plain file is.

    Raises:
        RegspecError: where a link leads out of the folder, and ``place`` is what the message calls the folder; or where
            the file is a pointer of Git LFS.
    """
    own, path = Path(os.path.realpath(folder)), folder / name
    target = Path(os.path.realpath(path))  # what all links on the way lead to; of a circle a link in it
    if not any(target.is_relative_to(root) for root in (own, *_caches(own))):
        what = f"'{name}' is a link out of its folder, which is not followed"
        raise RegspecError(Problem(what, COPY, place or str(folder)))
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise RegspecError(Problem(f"is {POINTED}", PULL, str(path)))
    return path


def _caches(folder: Path) -> Iterator[Path]:
    """Where the files of a snapshot lie, ``models--NAME/blobs`` of ``models--NAME/snapshots/REVISION``."""
    for each in (folder, *folder.parents):
        if each.parent.name == "snapshots" and each.parent.parent.name.startswith("models--"):
            yield each.parent.parent / "blobs"
