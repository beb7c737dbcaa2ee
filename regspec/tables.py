"""Tables for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from regspec.summary import Summary


def print_summary(summary: Summary) -> None:
    """Prints a model's layers and totals."""
    table = Table(title=summary.name, title_justify="left", title_style="bold", row_styles=["", "dim"])
    table.add_column("layer", overflow="fold")
    table.add_column("kind")
    table.add_column("output shape", overflow="fold")
    table.add_column("parameters", justify="right")
    table.add_column("penalties", overflow="fold")
    for name, shape in summary.inputs.items():
        table.add_row(name, "input", shape, "", "")
    for row in summary.rows:
        parameters = "?" if row.parameters is None else f"{row.parameters:,}" if row.parameters else ""
        if row.parameters and row.trainable != row.parameters:
            parameters += f" ({row.trainable:,} trained)"
        penalties = "\n".join(f"{slot} {regularizer}" for slot, regularizer in row.penalties.items())
        kind = f"{row.kind} (again)" if row.is_call else row.kind
        table.add_row(row.name, kind, "\n".join(row.output_shapes), parameters, penalties)
    console = Console()
    console.print(table)
    totals = f"{summary.parameters:,} parameters, {summary.trainable:,} trained; {summary.penalties} penalties"
    console.print(totals, highlight=False)
