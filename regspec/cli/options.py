"""Options that the commands which train have in common."""

from __future__ import annotations

from typing import Annotated

import typer

Data = Annotated[
    str,
    typer.Option(
        help="digits, wine or another bundled set; a .npz, .csv or .parquet file; a folder of images; or "
        "package.module:function."
    ),
]
Target = Annotated[
    str | None,
    typer.Option(help="The target's column or array; the last column, or y, when absent.", show_default=False),
]
Epochs = Annotated[int, typer.Option(min=1, help="How often to go over the data.")]
BatchSize = Annotated[int, typer.Option(min=2, help="Examples in a step, over all processes.")]
Optimizer = Annotated[str, typer.Option(help="One of torch's, with its arguments: 'sgd momentum=0.9 nesterov=true'.")]
LearningRate = Annotated[float, typer.Option(min=0, help="The learning rate.")]
Seed = Annotated[
    int, typer.Option(min=0, max=2**32 - 1, help="Of weights, split and order of the data, and what layers draw.")
]
Routes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TERMS=ROUTE",
        help="Another route than the loss: l1=proximal, l2=decay, hidden.kernel=gradient. Repeatable.",
        show_default=False,
    ),
]
Accelerator = Annotated[str, typer.Option(help="auto, cpu, gpu, mps, …")]
