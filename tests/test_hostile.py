"""Some damaged files of each format, of those that ``python -m tests.hostile`` tries by the tens of thousands."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import regspec

from .hostile import __main__ as hostile
from .hostile import originals, worker
from .hostile.formats import FORMATS, Case

COUNT = 16  # of each format


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    originals.make(folder)
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_each_is_ported_or_refused(name: str, good: Path, tmp_path: Path) -> None:
    worker.forgotten()
    before, found = worker.memory(), set()
    for number in range(COUNT):
        found.add(worker.outcome(worker.made(name, 0, number, tmp_path / str(number), good), before))
    assert found <= {("ported", ""), ("refused", "")}
    assert len(found) == 2


@pytest.mark.parametrize("name", FORMATS)
def test_a_number_makes_the_same_file(name: str, good: Path, tmp_path: Path) -> None:
    contents = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        worker.made(name, 3, 7, folder, good)
        contents.append({each.relative_to(folder): each.read_bytes() for each in folder.rglob("*") if each.is_file()})
    assert contents[0] == contents[1]


def raising(error: BaseException) -> Callable[..., Any]:
    def port(*given: Any, **options: Any) -> Any:
        raise error

    return port


def wasting(*given: Any, **options: Any) -> Any:
    np.ones(2**16 * 700)
    raise regspec.RegspecError("no")


FAULTS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "error": (raising(ValueError("oh")), "raised", "ValueError: oh"),
    "exit": (raising(SystemExit(3)), "raised", "SystemExit: 3"),
    "warning": (lambda *given, **options: warnings.warn("oh", stacklevel=1), "raised", "UserWarning: oh"),
    "silence": (raising(regspec.RegspecError([])), "raised", "a refusal that can't be read"),
    "memory": (wasting, "took memory", "refused, with "),
    "time": (raising(regspec.RegspecError("no")), "took time", "refused, in "),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_a_fault(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    port, kind, what = FAULTS[name]
    monkeypatch.setattr(regspec, "port", port)
    if name == "time":
        monkeypatch.setattr(worker, "MAX_SECONDS", -1)
    worker.forgotten()
    found, said = worker.outcome(Case(tmp_path), worker.memory())
    assert found == kind
    assert what in said


WORKER = """#!/bin/sh
case $5 in
0) echo '["begun", 0]'; echo '["refused", 0, ""]'; echo '["begun", 1]'; kill -9 $$;;
*) echo '["begun", 2]'; echo '["ported", 2, ""]';;
esac
"""


def test_a_process_that_dies_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And the files after the one that brought it down are tried by another."""
    stub = tmp_path / "worker"
    stub.write_text(WORKER)
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    found = hostile.tried("hdf5", 0, 0, 3, tmp_path)
    assert found.counts == {"refused": 1, "ported": 1, "faults": 1}
    ((what, numbers),) = found.faults.items()
    assert what.startswith("died: exit code -9")
    assert numbers == [1]
