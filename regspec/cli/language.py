"""The command that shows what a spec may name. It needs no torch."""

from __future__ import annotations

import io
import json
from typing import Annotated, Literal

import typer

from regspec.cli.application import Force, Printed, app, write
from regspec.text.seals import COMMENT, sealed


@app.command(epilog="Example: `regspec kinds Dense`")
def kinds(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A kind, such as Dense; a family, such as pooling; layers or operations; activations, initializers, "
            "constraints, regularizers or schedules, or one of these, such as relu6. All kinds when absent.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        Literal["text", "json", "markdown"],
        typer.Option(help="Tables for people, JSON for programs, or a page in Markdown."),
    ] = "text",
    output: Printed = None,
    force: Force = False,
) -> None:
    """Show what a spec may name: kinds of layers with their fields, activation functions, regularizers and so on.

    What is registered is among them: `regspec --import mine kinds Scale`. Needs no torch.
    """
    from regspec.views.markdown import page
    from regspec.views.reference import Reference, found, reference

    part = reference() if name is None else found(name)
    if format == "json":
        write(json.dumps(part.as_dict(), indent=1, ensure_ascii=False) + "\n", output, force=force)
    elif format == "markdown":
        write(page(part) if output is None else sealed(f"{page(part)}\n{COMMENT}".encode()), output, force=force)
    else:
        from regspec.cli.tables import print_reference

        shown = Reference(part.kinds) if name is None else part
        if output is None:
            print_reference(shown)
        else:
            text = io.StringIO()
            print_reference(shown, text)
            write(text.getvalue(), output, force=force)
