"""Tries damaged files of each format: ``python -m tests.hostile``, or with the names of some formats.

``--seed 0 --first 1234 --count 1 --keep FOLDER`` makes one again, and leaves it in a folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from . import originals
from .formats import FORMATS
from .worker import made

ROOT = Path(__file__).parents[2]
MANY = 5000  # files for each process, as what all together take is no fault of one


@dataclass
class Found:
    """What came of the files of a format: how many times, and the faults with the numbers of their files."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[int]] = field(default_factory=dict)

    def add(self, kind: str, number: int, what: str) -> None:
        """Counts a file."""
        self.counts[kind if kind in ("ported", "refused") else "faults"] += 1
        if kind not in ("ported", "refused"):
            numbers = self.faults.setdefault(f"{kind}: {what}", [])
            numbers.append(number)
            if len(numbers) == 1:  # at once, as there may be hours to go
                print(f"  {number:,} {kind}: {what}", flush=True)


def tried(name: str, seed: int, first: int, last: int, good: Path) -> Found:
    """What comes of these files of a format."""
    found = Found()
    while first < last:
        first = _tried_by_one(found, name, seed, first, min(last, first + MANY), good)
    return found


def _tried_by_one(found: Found, name: str, seed: int, first: int, last: int, good: Path) -> int:
    """Tries files in one process, as far as it comes: gives the number of the next."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "errors").open("w+") as errors:
        words = [sys.executable, "-m", "tests.hostile.worker", name, *map(str, (seed, first, last, folder, good))]
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            number, is_open = first - 1, False
            for line in process.stdout or ():
                kind, number, *what = json.loads(line)
                is_open = kind == "begun"
                if not is_open:
                    found.add(kind, number, "".join(what))
        errors.seek(0)
        if is_open:
            found.add("died", number, f"exit code {process.returncode}\n{errors.read()[-3000:]}")
        elif process.returncode or number < first:
            raise RuntimeError(f"no file was tried: {errors.read()[-3000:]}")
    return number + 1


def main(arguments: list[str]) -> int:
    """Tries what is asked for; gives the exit code."""
    options = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    options.add_argument("formats", nargs="*", metavar="FORMAT", help=f"of {', '.join(FORMATS)}; all when absent")
    options.add_argument("--count", type=int, default=1000, help="files of each format")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--first", type=int, default=0, help="the number of the first file")
    options.add_argument("--keep", type=Path, help="a folder in which the files are left, untried")
    given = options.parse_args(arguments)
    if unknown := {*given.formats} - {*FORMATS}:
        options.error(f"no format is called {', '.join(sorted(unknown))}: there are {', '.join(FORMATS)}")
    last, faults = given.first + given.count, 0
    with tempfile.TemporaryDirectory() as folder:
        originals.make(Path(folder))
        for name in given.formats or FORMATS:
            if given.keep:
                for number in range(given.first, last):
                    print(made(name, given.seed, number, given.keep / name / str(number), Path(folder)))
                continue
            begun = time.monotonic()
            found = tried(name, given.seed, given.first, last, Path(folder))
            counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.counts.items()))
            print(f"{name}: {counts}, in {time.monotonic() - begun:.0f} s", flush=True)
            for what, numbers in found.faults.items():
                print(f"  {len(numbers):,} as {numbers[0]:,}: {what.strip().splitlines()[-1]}", flush=True)
            faults += len(found.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
