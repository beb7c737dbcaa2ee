"""Prints the figures: ``python -m tests.benchmarks``, or with the names of some: ``forward build keras check``.

``python -m tests.benchmarks applications`` ports the models of keras.applications, which takes long.
"""

from __future__ import annotations

import os
import platform
import sys

os.environ["KERAS_BACKEND"] = "torch"

import torch
from rich.console import Console
from rich.table import Table

from . import applications, building, checking, forward, penalties, porting, processes, training

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
    title = f"torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} threads"
    table = Table("compared", "ours", "theirs", "ratio", "aim", title=title)
    for name in names or BENCHMARKS:
        for figure in BENCHMARKS[name]():
            table.add_row(*figure.cells)
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
