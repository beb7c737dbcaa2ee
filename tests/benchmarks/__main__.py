"""Prints the figures: ``python -m tests.benchmarks``, or with the names of some: ``forward build keras check``.

``python -m tests.benchmarks applications`` ports the models of keras.applications, which takes long.
"""

from __future__ import annotations

import os
import platform
import sys

os.environ["KERAS_BACKEND"] = "torch"

import torch

from . import applications, building, checking, forward, penalties, porting, processes, training

WIDTH = 96  # characters of the longest name

BENCHMARKS = {
    "forward": forward.figures,
    "build": building.figures,
    "keras": building.figures_against_keras,
    "check": checking.figures,
    "penalties": penalties.figures,
    "processes": processes.figures,
    "porting": porting.figures,
    "training": training.figures,
}


def main(names: list[str]) -> None:
    if names[:1] == ["applications"]:
        applications.main(names[1:])
        return
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"no benchmark is called {', '.join(sorted(unknown))}: there are {', '.join(BENCHMARKS)}")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} threads")
    _print("compared", "ours", "theirs", "ratio", "aim")
    for name in names or BENCHMARKS:
        for figure in BENCHMARKS[name]():
            _print(*figure.cells)


def _print(what: str, *numbers: str) -> None:
    """A row of the table, as soon as it is there: all take many minutes."""
    print(f"{what:<{WIDTH}}", *(f"{each:>12}" for each in numbers), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
