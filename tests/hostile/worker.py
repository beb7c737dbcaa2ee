"""Tries damaged files, one after the other, in a process of its own: ``python -m tests.hostile.worker``.

It says of each file by a line that it begins, and by another what came of it. Where a file brings the process down, or
holds it up, the last line names it.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import resource
import shutil
import sys
import time
import traceback
import warnings
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import regspec
from regspec.keras.porting.porting import contents, report_of

from .formats import FORMATS, Case

PATIENCE = 60  # seconds until a file is said to hold the process up, on a machine that has much else to do
MAX_SECONDS = 5.0  # of the processor, for a file
MAX_MEMORY = 300  # MiB that a file may take more than what good ones took
MAX_LINE = 1500  # characters


def tried(case: Case) -> str:
    """What comes of a file: ported, or refused. Raises whatever else it raises, and where a refusal can't be read."""
    try:
        port = regspec.port(case.path, weights=case.weights)
        contents(port)
        report_of(port)
    except regspec.RegspecError as error:
        lines = str(error).splitlines()
        if not lines or any(len(line) > MAX_LINE or not line.isprintable() for line in lines):
            raise AssertionError("a refusal that can't be read") from error
        return "refused"
    return "ported"


def made(name: str, seed: int, number: int, folder: Path, originals: Path) -> Case:
    """A damaged file of a format; always the same."""
    folder.mkdir(parents=True)
    return FORMATS[name](Random(f"{name} {seed} {number}"), folder, originals)


def memory() -> float:
    """The most that this process has had, in MiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def forgotten() -> bool:
    """Whether the system has forgotten how much memory this process has had, as Linux may."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def outcome(case: Case, before: float) -> tuple[str, str]:
    """What comes of a file, and a traceback or another word on it where that is a fault."""
    begun = time.process_time()
    try:
        found, what = tried(case), ""
    except BaseException:  # whatever it is
        found, what = "raised", traceback.format_exc(limit=-12)
    seconds, taken = time.process_time() - begun, memory() - before
    if taken > MAX_MEMORY:
        return "took memory", f"{found}, with {taken:.0f} MiB more"
    if seconds > MAX_SECONDS:
        return "took time", f"{found}, in {seconds:.1f} s"
    return found, what


def main(name: str, seed: str, first: str, last: str, folder: str, originals: str) -> None:
    """Tries files from one number to another, and ends early where one took so much that the next can't be judged."""
    faulthandler.enable()
    import_module("safetensors.torch")  # which takes long, and memory, and some ports need it
    warnings.simplefilter("error")
    sys.unraisablehook = lambda error: _say("raised", -1, f"unraisable: {error.exc_value!r} in {error.object!r}")
    whole = [FORMATS[name](Random(each), Path(folder) / f"warm{each}", Path(originals)) for each in range(9)]
    for each in whole:
        outcome(each, 0)
    gc.freeze()  # what is imported is no garbage, and would be looked through each time
    before = memory()
    for number in range(int(first), int(last)):
        _say("begun", number)
        own = Path(folder) / str(number)
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        found, what = outcome(made(name, int(seed), number, own, Path(originals)), before)
        _say(found, number, what)
        shutil.rmtree(own)
        if found == "took memory" and not forgotten():
            break
    faulthandler.cancel_dump_traceback_later()


def _say(*words: Any) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
