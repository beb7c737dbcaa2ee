"""Tables for the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regspec.views.summary import Row, Summary, counted, error_text

if TYPE_CHECKING:
    from regspec.keras.verification.verifying import Verification
    from regspec.modules.regularizing import Selected


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


def print_coverage(selected: Sequence[Selected]) -> None:
    """Prints what rules select of a module, and what they leave."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("parameter or output", overflow="fold")
    table.add_column("shape", no_wrap=True)
    table.add_column("rule", justify="right")
    table.add_column("penalty", overflow="fold")
    for each in selected:
        shape = "output" if each.shape is None else " x ".join(map(str, each.shape))
        rule = "" if each.rule is None else str(each.rule + 1)
        table.add_row(each.name, shape, rule, "" if each.regularizer is None else str(each.regularizer))
    console = Console(width=None if sys.stdout.isatty() else 240)
    console.print(table)
    parameters = [each for each in selected if each.shape is not None]
    covered = [each for each in parameters if each.rule is not None]
    outputs = len(selected) - len(parameters)
    console.print(
        f"{len(covered)} of {counted(len(parameters), 'parameter', 'parameters')}, "
        f"{counted(outputs, 'output', 'outputs')}",
        highlight=False,
    )


def print_verification(verification: Verification) -> None:
    """Prints what of a port was compared with Keras, how far apart it is, and what was not compared."""
    console = Console(width=None if sys.stdout.isatty() else 240)
    if verification.checks:
        table = Table(title=verification.reference, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("compared", no_wrap=True)
        table.add_column("how many", justify="right")
        for weights in verification.weights:
            table.add_column({"file": "error", "random": "error, random weights"}[weights], justify="right")
        table.add_column("largest at", overflow="fold")
        for row in verification.rows():
            errors = [error_text(row.errors[each]) if each in row.errors else "" for each in verification.weights]
            table.add_row(row.what, str(row.count), *errors, Text(row.name))
        console.print(table)
    for what in verification.left_out:
        console.print(f"not compared: {what}", highlight=False, markup=False, soft_wrap=True)
    console.print(verification.verdict, highlight=False, markup=False, soft_wrap=True)


def _counted(row: Row) -> str:
    """The number of a layer's parameters."""
    if row.parameters is None:
        return "?"
    return f"{row.parameters:,}" + " frozen" * (row.trainable == 0) if row.parameters else ""
