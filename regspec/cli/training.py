"""Commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regspec.cli.application import Set, Spec, app, parameters
from regspec.errors import Problem, RegspecError


@app.command(epilog="Example: `regspec train examples/digits_cnn.yaml --epochs 20`")
def train(
    spec: Spec,
    data: Annotated[
        str, typer.Option(help="digits, wine or another bundled set; a .npz or .csv file; or package.module:function.")
    ] = "digits",
    target: Annotated[
        str | None, typer.Option(help="The target's column or array; the last column, or y, when absent.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="How often to go over the data.")] = 30,
    batch_size: Annotated[int, typer.Option(min=2, help="Examples in a step.")] = 64,
    lr: Annotated[float, typer.Option(min=0, help="The learning rate of Adam.")] = 1e-3,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, split and order of the data.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The run's folder; one of its own under runs when absent.", show_default=False
        ),
    ] = None,
    set: Set = None,
) -> None:
    """Train a spec's model with its penalties, and keep spec, source, weights and metrics in a folder.

    A fifth of the data is held out. Ctrl-C stops, and leaves what was trained so far.
    """
    try:
        from regspec.training import run
    except ImportError as error:
        raise RegspecError(Problem(f"train needs {error.name}", "pip install 'regspec[train]'")) from None
    options = run.Options(data, target, epochs, batch_size, lr, seed)
    run.train(spec, options, output, parameters=parameters(set))
