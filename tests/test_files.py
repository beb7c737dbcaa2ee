"""Files in a folder: all are written or none, and what else is there stays."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import regspec
from regspec import RegspecError
from regspec.text import files

CONTENTS: dict[str, str | bytes] = {"a.txt": "new", "b.bin": b"new" * 1000, "c.txt": "new"}


def test_a_new_folder_in_a_new_folder(tmp_path: Path) -> None:
    files.write_folder(tmp_path / "runs" / "one", CONTENTS)
    assert content(tmp_path / "runs" / "one") == {"a.txt": b"new", "b.bin": b"new" * 1000, "c.txt": b"new"}
    assert [each.name for each in (tmp_path / "runs").iterdir()] == ["one"]
    assert (tmp_path / "runs" / "one").stat().st_mode == (tmp_path / "runs").stat().st_mode


def test_what_else_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "own.txt").write_text("own")
    files.write_folder(tmp_path, CONTENTS)
    assert content(tmp_path) == {"a.txt": b"new", "b.bin": b"new" * 1000, "c.txt": b"new", "own.txt": b"own"}


def test_a_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    files.write_folder(tmp_path / "link", CONTENTS)
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real").keys() == CONTENTS.keys()


@pytest.mark.parametrize("is_there", [False, True])
def test_a_full_disk(is_there: bool, tmp_path: Path) -> None:
    """A file may not grow beyond 1,000 bytes: the second can't be written."""
    folder = tmp_path / "ported"
    if is_there:
        folder.mkdir()
        (folder / "a.txt").write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(RegspecError, match="ported: error: can't be written: File too large"):
            files.write_folder(folder, CONTENTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [each.name for each in tmp_path.iterdir()] == ["ported"] * is_there
    assert not is_there or content(folder) == {"a.txt": b"old"}


@pytest.mark.parametrize("moves", range(1, 6))
def test_an_interrupt_while_files_are_moved(moves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at each of the moves: two old files out of the way, three new ones into place."""
    for name in ("a.txt", "c.txt"):
        (tmp_path / name).write_text("old")
    done = []
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        done.append(self.name)
        if len(done) == moves:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_folder(tmp_path, CONTENTS)
    assert content(tmp_path) == {"a.txt": b"old", "c.txt": b"old"}


@pytest.mark.parametrize(
    ("there", "message"), [("ported", "Not a directory"), ("ported/a.txt/x", "is a folder, where a file")]
)
def test_what_stands_in_the_way(there: str, message: str, tmp_path: Path) -> None:
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_text("own")
    with pytest.raises(RegspecError, match=message):
        files.write_folder(tmp_path / "ported", CONTENTS)
    assert (tmp_path / there).read_text() == "own"
    assert sum(1 for each in tmp_path.rglob("*") if each.is_file()) == 1


def content(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


SPEC = "{regspec: 1, name: a, inputs: {x: {shape: [4]}}, layers: [{Dense: 2}]}"
WITH_A_PATH: dict[str, Callable[[str], Any]] = {
    "load": regspec.load,
    "build": regspec.build,
    "source": regspec.source,
    "port": regspec.port,
    "weights": lambda path: regspec.port("examples/keras_mlp.keras", weights=path),
    "save": lambda path: regspec.port("examples/keras_mlp.keras").save(path),
    "to_keras": lambda path: regspec.to_keras(regspec.build(SPEC), f"{path}.keras"),
    "of to_keras": lambda path: regspec.to_keras(path, "absent/a.keras"),
    "regularize": lambda path: regspec.regularize(regspec.build(SPEC), path),
    "data": lambda path: regspec.train(SPEC, path),
    "folder": lambda path: regspec.train(SPEC, (np.ones((8, 4), "float32"), np.ones(8, int)), folder=path, epochs=1),
    "run": regspec.load_run,
    "folds": regspec.load_folds,
}


@pytest.mark.parametrize("call", WITH_A_PATH)
def test_a_zero_byte_in_a_path(call: str) -> None:
    """Which no path has, and which Python says by a ValueError."""
    with pytest.raises(RegspecError):
        WITH_A_PATH[call]("a\0b")
