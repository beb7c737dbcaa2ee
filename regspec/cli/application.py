"""The application to which the modules of commands add theirs, and what several of them take."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from regspec.text import document, files

app = typer.Typer(
    name="regspec",
    help="Networks and their per-layer regularizers as validated YAML, compiled to PyTorch that you can read.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="A spec, as a YAML file.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A value, as YAML, in place of a parameter's default. Repeatable.",
        show_default=False,
    ),
]


class Format(str, Enum):
    """How results are printed."""

    text = "text"
    json = "json"


def write(text: str, path: Path | None) -> None:
    """Prints a text, or writes it to a file."""
    if path is None:
        typer.echo(text, nl=False)
    else:
        files.write(path, text)


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
