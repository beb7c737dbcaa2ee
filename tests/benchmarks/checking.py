"""``regspec check`` as a whole process, against importing torch: it belongs in a pre-commit hook.

Of 300 ms of CPU, against 1,680 to import torch: Python itself 12, pydantic 90, and 25 for what it looks up of plugins,
typer 25, yaml 20, regspec's modules 115, of which half are classes of pydantic and dataclasses being made.

Tried, and kept: a command's module, a kind and a plain activation function are made when they are asked for; what is
said of classes is read once, and not in each class below; no module is imported for a type, or for what few specs
name; Python's last search for garbage is left out, which took 60 of 500 ms. Dropped: evaluating types before pydantic
does, which saves nothing; splitting initializers, constraints and schedules over more files, for 5 ms each; turning
pydantic's plugins off, which users may have.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from .timing import Figure, compare

LAYER = "  - Dense: {units: 32, activation: relu, kernel_regularizer: {l2: 1e-4}}\n"
MANY = 200


def run_in(folder: str, *arguments: str) -> partial[Any]:
    """A run of Python, whose modules are compiled once, into a folder: as those of an installed package are."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = os.path.join(folder, "compiled")
    command = [sys.executable, *arguments]
    return partial(subprocess.run, command, check=True, capture_output=True, env=environment)


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"spec{index}.yaml" for index in range(MANY)]
        for path in paths:
            path.write_text(f"regspec: 1\ninputs: {{x: {{shape: [32]}}}}\nlayers:\n{LAYER * 20}", encoding="utf-8")
        check = ["-m", "regspec", "check"]
        ours, theirs = run_in(folder, *check, str(paths[0])), run_in(folder, "-c", "import torch")
        yield compare("check, 20 layers / import torch", ours, theirs, most=0.2, rounds=11)
        together = run_in(folder, *check, *map(str, paths))
        alone = partial(_on_a_core, together)
        yield compare(f"check, {MANY} files on all cores / on one", together, alone, most=0.8, rounds=7)


def _on_a_core(run: partial[Any]) -> None:
    """Runs a process that may have one core, where that can be said."""
    run(preexec_fn=partial(os.sched_setaffinity, 0, [0]) if hasattr(os, "sched_setaffinity") else None)
