"""The command line. It may import every room; a command is imported when it is asked for, and torch when it runs.

What passes through: the words of a command, to calls of the other rooms, to lines in a terminal and an exit code.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from regspec import __version__
from regspec.cli.application import app
from regspec.text.problems import RegspecError

__all__ = ["app", "main"]


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"regspec {__version__}")
        raise typer.Exit


@app.callback()
def _before(
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE[:CLASS]|SORT=MODULE:NAME",
            help="Import a module first, for what it registers; or register a layer's class of it, or a regularizer, "
            "constraint, initializer or activation: regularizer=mine:function. Repeatable.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    if modules:
        from regspec.layers.registration import imported

        for module in modules:
            imported(module)


def main() -> None:
    """Runs the command line; a fault of the input is printed, without a traceback, and exits with 1."""
    try:
        app()
    except RegspecError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
