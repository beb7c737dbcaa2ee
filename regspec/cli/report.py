"""Commands that show what came out of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regspec.cli.application import Force, RunFolder, app, output_option, write
from regspec.text import files
from regspec.text.problems import needing


@app.command(epilog="Example: `regspec report runs/digits_cnn -o report.html`")
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN…", help="Folders of runs, or of folds; several are compared.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        output_option("The file to write; report.html in the first folder when absent."),
    ] = None,
    force: Force = False,
) -> None:
    """Write one HTML page on what came out of runs: curves, penalties, weights, sparsity, activities, the model.

    It needs no network, nor any file beside it.
    """
    with needing("report", "report"):
        from regspec.report.page import page
    text = page(runs)
    output = output or runs[0] / "report.html"
    write(text, output, force=force)
    typer.echo(f"report: {output}")


@app.command(epilog="Example: `regspec plot runs/digits_cnn curves -o curves.png`")
def plot(
    run: RunFolder,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[FIGURE]",
            help="curves, terms, weights, sparsity, activities, calibration, confusion or graph; all when absent.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        output_option(
            "The file to write, .png, .svg or .pdf; without a FIGURE, a folder. In the run's folder when absent."
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write figures of a run as files: one, or all of them as PNG into a folder."""
    with needing("plot", "report"):
        from regspec.report.images import image, images
    if name is None:
        folder = output or run / "figures"
        made = images(run)
        for each, content in made.items():
            if not force:
                files.check_kept(folder / each, content)
        files.write_folder(folder, made)
        typer.echo(f"figures: {', '.join(str(folder / each) for each in made)}")
    else:
        output = output or run / f"{name}.png"
        write(image(run, name, output.suffix.removeprefix(".")), output, force=force)
        typer.echo(f"figure: {output}")
