"""Breaks the package in one place after another, and says which of them the gate's tests catch.

Run by hand: ``python -m tests.mutations`` takes a while, ``python -m tests.mutations fused layout`` only mutants whose
file or words have one of these in them. A mutant is caught where the tests fail that its row names, or else where the
whole gate does. Each runs in a copy of the repository, so that files may be edited meanwhile.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Mutant:
    """A single break: a text that stands once in a file, and what stands there instead."""

    what: str
    file: str
    before: str
    after: str
    tests: str  # which fail, most likely: tried before the whole gate

    def apply(self, root: Path) -> None:
        """Breaks the copy that lies at ``root``. Raises where the text does not stand there once."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.before) != 1:
            raise ValueError(f"{self.file} has {text.count(self.before)} times: {self.before!r}")
        path.write_text(text.replace(self.before, self.after), encoding="utf-8")


MUTANTS: tuple[Mutant, ...] = ()


def first_failure(root: Path, tests: list[str]) -> str | None:
    """The first test that fails in a copy; None where none does."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0] if lines else f"exit code {done.returncode}"


def run(mutant: Mutant, folder: Path) -> str | None:
    """What catches a mutant; None where nothing does."""
    root = folder / "copy"
    shutil.rmtree(root, ignore_errors=True)
    left_out = shutil.ignore_patterns(".git", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", "runs")
    shutil.copytree(ROOT, root, ignore=left_out)
    mutant.apply(root)
    return first_failure(root, mutant.tests.split()) or first_failure(root, [])


def main(words: list[str]) -> int:
    """Runs the mutants that have one of the words, or all; gives the exit code."""
    chosen = [each for each in MUTANTS if not words or any(word in f"{each.file} {each.what}" for word in words)]
    for each in chosen:  # before the first takes its time
        if (count := (ROOT / each.file).read_text(encoding="utf-8").count(each.before)) != 1:
            print(f"{each.file} has {count} times what '{each.what}' changes: {each.before!r}")
            return 2
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        for number, each in enumerate(chosen, 1):
            begun = time.monotonic()
            caught = run(each, Path(folder))
            missed += [] if caught else [each]
            seconds = time.monotonic() - begun
            print(f"{number:>2} {seconds:5.0f} s  {each.file}: {each.what}: {caught or 'NOT CAUGHT'}", flush=True)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} are caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
