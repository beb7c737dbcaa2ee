"""Breaks the package in one place after another, and says which of them the gate's tests catch.

Run by hand: ``python -m tests.mutations`` takes a while, ``python -m tests.mutations fused layout`` only mutants whose
file or words have one of these in them; with ``--quick`` those that the tests of their row do not catch are not tried
on the whole gate. All runs in a copy of the repository, so that files may be edited meanwhile.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent
FAILED = (1, 2)  # exit codes of pytest where tests have failed, or can't even be collected


def first_failure(root: Path, tests: list[str]) -> str | None:
    """The first test that fails in a copy, of these or of the gate; None where none does."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    alone = ["-n0"] * bool(tests)  # of so few, workers would take longer to start
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *alone, *tests]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    if done.returncode not in FAILED:  # no tests were found, or it was stopped
        raise RuntimeError(f"pytest ended with {done.returncode}: {' '.join(command)}\n{done.stdout}{done.stderr}")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0] if lines else f"exit code {done.returncode}"


def run(mutant: Mutant, root: Path, *, is_quick: bool) -> str | None:
    """What catches a mutant, in a copy of the repository that is left as it was; None where nothing does."""
    whole = mutant.apply(root)
    try:
        found = first_failure(root, mutant.tests.split())
        return found if found or is_quick else first_failure(root, [])
    finally:
        mutant.path(root).write_text(whole, encoding="utf-8")


def _left_out(folder: str, names: list[str]) -> set[str]:
    """What a copy does not need: caches, and the runs of people, which lie at the root; a room is called so, too."""
    caches = shutil.ignore_patterns(".git", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")
    return {*caches(folder, names), *({"runs"} if Path(folder) == ROOT else ())}


def main(arguments: list[str]) -> int:
    """Runs the mutants that have one of the words, or all; gives the exit code."""
    words = [each for each in arguments if each != "--quick"]
    chosen = [each for each in MUTANTS if not words or any(word in f"{each.file} {each.what}" for word in words)]
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "copy"
        shutil.copytree(ROOT, root, ignore=_left_out)
        for each in chosen:  # before the first takes its time
            each.mutated(root)
        for number, each in enumerate(chosen, 1):
            begun = time.monotonic()
            caught = run(each, root, is_quick="--quick" in arguments)
            missed += [] if caught else [each]
            seconds = time.monotonic() - begun
            print(f"{number:>2} {seconds:5.0f} s  {each.file}: {each.what}: {caught or 'NOT CAUGHT'}", flush=True)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} are caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
