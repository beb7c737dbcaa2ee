"""The command that writes specs in their canonical form. It needs no torch."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path
from typing import Annotated

import typer

from regspec.cli.application import STDIN, app, document_in, files_argument
from regspec.cli.checking import meaning, styled
from regspec.text import files as writing
from regspec.text.document import Document, parse
from regspec.text.problems import Problem, RegspecError


@app.command(name="format", epilog="Example: `regspec format --diff examples/mlp.yaml`")
def format_(
    files: Annotated[
        list[Path], files_argument("Specs, or rules for modules; - for the standard input, whose form is printed.")
    ],
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit with 1 if a file would change.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="As --check, and print what would change.")] = False,
) -> None:
    """Write specs and rules in the one canonical form, with every comment. Needs no torch.

    Sections come in the order of the reference, a layer's name comes first, names and short forms are the canonical
    ones, and flow style stays where it was written and fits into 120 columns. A file with faults is left as it is.
    """
    is_read_only, exits = check or diff, False
    for file in files:
        try:
            document = document_in(file)
            text = _canonical(document)
        except RegspecError as error:
            typer.echo(styled(error), err=True)
            exits = True
            continue
        if diff:
            lines = (document.text.splitlines(keepends=True), text.splitlines(keepends=True))
            typer.echo("".join(unified_diff(*lines, document.path, document.path)), nl=False)
        if file == STDIN and not is_read_only:
            typer.echo(text, nl=False)
        elif text != document.text:
            typer.echo(f"{document.path}: {'would be formatted' if is_read_only else 'formatted'}", err=True)
            exits = exits or is_read_only
            if not is_read_only:
                writing.write(file.resolve(), text)  # and not in place of a link
    if exits:
        raise typer.Exit(1)


def _canonical(document: Document) -> str:
    """The canonical text of a document without faults. Raises `RegspecError`."""
    from regspec.views.formatting import formatted

    known = meaning(document)
    text = formatted(document)
    try:
        is_same = meaning(parse(text, document.path)) == known
    except RegspecError:  # whose places are in a text that nobody sees
        is_same = False
    if not is_same:
        raise RegspecError(Problem("can't be formatted without changing what it means: report it", path=document.path))
    return text
