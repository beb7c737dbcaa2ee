"""Writing files whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from regspec.text.problems import Problem, RegspecError
from regspec.text.seals import is_sealed


def write(path: Path, content: str | bytes) -> None:
    """Writes a file at once: a reader sees the old content or the new, and nothing between. Raises `RegspecError`."""
    if path.is_dir():
        raise RegspecError(Problem("is a folder, where a file is to be written", path=str(path)))
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            draft.write_bytes(_raw(content))
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except (OSError, ValueError) as error:  # a ValueError of a zero byte in the path
        raise RegspecError(Problem(f"can't be written: {_reason(error)}", path=str(path))) from None


def check_kept(path: Path, content: str | bytes, may_go: Callable[[bytes], bool] | None = is_sealed) -> None:
    """Raises `RegspecError` where a file is there whose content is another, which somebody may have edited.

    Args:
        path: the file.
        content: what is to be written.
        may_go: whether what is there is no loss, because it can be made again; where it is sealed when absent. None
            where nobody edits such files, and yet each is kept.
    """
    try:
        there = path.read_bytes() if path.is_file() else _raw(content)
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror}", path=str(path))) from None
    if there != _raw(content) and (may_go is None or not may_go(there)):
        what = "is there already, and holds something else"
        what += "" if may_go is None else ", which may have been edited by hand"
        raise RegspecError(Problem(what, "--force writes over it; -o names another", str(path)))


def write_folder(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Writes files into a folder, all or none; what else is in it stays. Raises `RegspecError`.

    All are written to a draft folder first: a full disk or an interrupt then leaves the folder as it was.
    """
    place = Path(real_path(folder))  # where a link leads
    is_new = not place.exists()
    draft = (place.parent if is_new else place) / f".{place.name}.{os.getpid()}"
    try:
        try:
            shutil.rmtree(draft, ignore_errors=True)  # left by a killed process that had the same id
            draft.mkdir(parents=True)
            for name, content in contents.items():
                if (place / name).is_dir():
                    raise RegspecError(Problem("is a folder, where a file is to be written", path=str(folder / name)))
                (draft / name).parent.mkdir(parents=True, exist_ok=True)
                (draft / name).write_bytes(_raw(content))
            if is_new:
                draft.rename(place)
            else:
                _exchange(draft, place, contents)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except (OSError, ValueError) as error:
        raise RegspecError(Problem(f"can't be written: {_reason(error)}", path=str(folder))) from None


def _exchange(draft: Path, folder: Path, names: Collection[str]) -> None:
    """Moves files from a draft into a folder; if that is interrupted, the files that were there are restored."""
    before = draft / "before"
    before.mkdir()
    try:
        for name in names:
            for parent in (before / name, folder / name):
                parent.parent.mkdir(parents=True, exist_ok=True)
            if (folder / name).exists():
                (folder / name).rename(before / name)
            (draft / name).rename(folder / name)
    except BaseException:  # an interrupt too
        for name in names:
            if (before / name).exists():
                (before / name).replace(folder / name)
            elif not (draft / name).exists():
                (folder / name).unlink(missing_ok=True)
        raise


def _reason(error: OSError | ValueError) -> str:
    return str(getattr(error, "strerror", None) or error)


def _raw(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def real_path(path: str | Path) -> str:
    """The real path of a file; the path itself where it can't be one."""
    try:
        return os.path.realpath(path)
    except ValueError:  # a zero byte
        return str(path)
