"""Tables for the terminal."""

from __future__ import annotations

import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from regspec.summary import Row, Summary


def print_summary(summary: Summary) -> None:
    """Prints a model's layers and totals."""
    table = Table(title=summary.name, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("layer", overflow="fold")
    table.add_column("kind", overflow="fold")
    table.add_column("output shape", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("penalties", overflow="fold")
    for name, shape in summary.inputs.items():
        table.add_row(name, "input", shape)
    for row in summary.rows:
        penalties = "\n".join(f"{slot} {regularizer}" for slot, regularizer in row.penalties.items())
        kind = f"{row.kind} (again)" if row.is_call else row.kind
        table.add_row(row.name, kind, "\n".join(row.output_shapes), _counted(row), penalties)
    console = Console(width=None if sys.stdout.isatty() else 240)
    console.print(table)
    console.print(summary.totals, highlight=False)


def _counted(row: Row) -> str:
    """The number of a layer's parameters."""
    if row.parameters is None:
        return "?"
    return f"{row.parameters:,}" + " frozen" * (row.trainable == 0) if row.parameters else ""
