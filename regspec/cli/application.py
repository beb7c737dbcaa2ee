"""The application to which the modules of commands add theirs, and what several of them take."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup
from typer.main import get_command_from_info

from regspec.language.tables import Table
from regspec.text import document, files
from regspec.text.seals import is_sealed

# The commands, in the order in which the help shows them, and the module that adds each to the app: imported when its
# command is asked for, or `check` would take half as long again.
COMMANDS = {
    "check": "checking",
    "show": "specs",
    "compile": "specs",
    "rules": "specs",
    "schema": "specs",
    "format": "formatting",
    "kinds": "language",
    "port": "porting",
    "train": "training",
    "evaluate": "using",
    "predict": "using",
    "export": "using",
    "shrink": "shrinking",
    "sparsity": "shrinking",
    "tune": "tuning",
    "report": "report",
    "plot": "report",
}


class Commands(TyperGroup):
    """The commands by their names, each made when it is asked for."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = Table({name: partial(_made, name) for name in COMMANDS})


def _made(name: str) -> Any:
    """A command, whose module is imported."""
    import_module(f"regspec.cli.{COMMANDS[name]}")
    known = {each.name or getattr(each.callback, "__name__", ""): each for each in app.registered_commands}
    return get_command_from_info(known[name], pretty_exceptions_short=False, rich_markup_mode="markdown")


app = typer.Typer(
    cls=Commands,
    name="regspec",
    help="Networks and their per-layer regularizers as validated YAML, compiled to PyTorch that you can read.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Spec = Annotated[
    Path, typer.Argument(metavar="SPEC", help="A spec, as a YAML file; - for the standard input.", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A value, as YAML, in place of a parameter's default. Repeatable.",
        show_default=False,
    ),
]

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Write over a file that is there and holds something else.")]


Format = Literal["text", "json"]  # of results that are printed


def output_option(what: str) -> Any:
    """The option --output of a command, with what it says of it."""
    return typer.Option("--output", "-o", help=what, show_default=False)


def files_argument(what: str) -> Any:
    """The argument FILES… of a command, with what it says of them."""
    return typer.Argument(metavar="FILES…", help=what, show_default=False, callback=_read_once)


def _read_once(paths: list[Path]) -> list[Path]:
    if paths.count(STDIN) > 1:
        raise typer.BadParameter("the standard input can be read once")
    return paths


Printed = Annotated[Path | None, output_option("The file to write; printed when absent.")]


def write(
    text: str | bytes,
    path: Path | None,
    *,
    force: bool = False,
    may_go: Callable[[bytes], bool] | None = is_sealed,
) -> None:
    """Prints a text, or writes it to a file. Raises `RegspecError` where that would lose something.

    Args:
        text: the text, or the bytes of a file.
        path: the file; None to print.
        force: whether what is there may be lost.
        may_go: whether it is no loss, because it can be made again; where it is sealed when absent; None: never.
    """
    if path is None:
        typer.echo(text, nl=False)
        return
    if not force:
        files.check_kept(path, text, may_go)
    files.write(path, text)


STDIN = Path("-")  # as the name of a file


def document_in(path: Path) -> document.Document:
    """The document in a file, or on the standard input. Raises `RegspecError`."""
    if path != STDIN:
        return document.read(path)
    return document.decoded(sys.stdin.buffer.read(document.MAX_BYTES + 1), "<stdin>")


def no_input(path: Path, command: str) -> None:
    """Raises `BadParameter` where a command that keeps a spec's file is given the standard input."""
    if path == STDIN:
        raise typer.BadParameter(
            f"{command} keeps the spec's file, and can't take the standard input", param_hint="SPEC"
        )


def parameters(pairs: list[str] | None) -> dict[str, Any]:
    """The values of ``--set``, by name. Raises `RegspecError` for what is no YAML."""
    values = {}
    for pair in pairs or ():
        name, mark, text = pair.partition("=")
        if not (name and mark and text):
            raise typer.BadParameter(f"'{pair}' is not NAME=VALUE", param_hint="--set")
        if name in values:
            raise typer.BadParameter(f"'{name}' is given twice", param_hint="--set")
        values[name] = document.parse(text, f"--set {name}").data
    return values
