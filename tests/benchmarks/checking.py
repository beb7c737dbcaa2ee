"""``regspec check`` as a whole process, against importing torch: it belongs in a pre-commit hook."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .timing import Figure, compare

LAYER = "  - Dense: {units: 32, activation: relu, kernel_regularizer: {l2: 1e-4}}\n"


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.yaml"
        path.write_text(f"regspec: 1\ninputs: {{x: {{shape: [32]}}}}\nlayers:\n{LAYER * 20}", encoding="utf-8")
        commands = [sys.executable, "-m", "regspec", "check", str(path)], [sys.executable, "-c", "import torch"]
        ours, theirs = (partial(subprocess.run, each, check=True, capture_output=True) for each in commands)
        yield compare("check, 20 layers / import torch", ours, theirs, most=0.35, rounds=11)
