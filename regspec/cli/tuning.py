"""The command that searches parameters."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from regspec.cli.application import Spec, app
from regspec.errors import Problem, RegspecError


class Sampler(str, Enum):
    """How values are chosen."""

    grid = "grid"
    random = "random"
    tpe = "tpe"


class Pruner(str, Enum):
    """Which trials are ended early."""

    none = "none"
    median = "median"


class Metric(str, Enum):
    """What the score is."""

    held_out_accuracy = "held_out_accuracy"
    held_out_loss = "held_out_loss"


@app.command(epilog="Example: `regspec tune examples/digits_search.yaml --sampler grid --trials 12`")
def tune(
    spec: Spec,
    trials: Annotated[int, typer.Option(min=1, help="How many trainings in all; a grid has about as many.")] = 30,
    sampler: Annotated[
        Sampler, typer.Option(help="grid and random look everywhere; tpe near what was good.")
    ] = Sampler.tpe,
    pruner: Annotated[
        Pruner, typer.Option(help="median: end a trial early that is worse than half of the others were.")
    ] = Pruner.none,
    metric: Annotated[
        Metric | None,
        typer.Option(help="The score; accuracy for classes and loss for quantities when absent.", show_default=False),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="The seconds after which no trial begins.", show_default=False)
    ] = None,
    data: Annotated[
        str, typer.Option(help="As for train: digits or another bundled set; a file; or package.module:function.")
    ] = "digits",
    target: Annotated[
        str | None,
        typer.Option(help="The target's column or array; the last column, or y, when absent.", show_default=False),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="How often a trial goes over the data.")] = 30,
    batch_size: Annotated[int, typer.Option(min=2, help="Examples in a step.")] = 64,
    optimizer: Annotated[
        str, typer.Option(help="One of torch's, with its arguments: 'sgd momentum=0.9 nesterov=true'.")
    ] = "adam",
    lr: Annotated[float, typer.Option(min=0, help="The learning rate.")] = 1e-3,
    route: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TERMS=ROUTE", help="As for train: l1=proximal, l2=decay. Repeatable.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the search, and the same for each trial.")] = 0,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu, mps, …")] = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The study's folder; one of its own under runs when absent. One that has a study goes on with it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Search the parameters of a spec that say where they may lie, and write the best spec.

    In the spec: `parameters: {strength: {default: 1e-4, search: {low: 1e-6, high: 1e-1, log: true}}}`.

    Every trial is a training, scored on held-out data. The folder gets best.yaml, trials.csv, a plot of the scores, and
    study.db, with which the same command goes on after Ctrl-C or on another day, in several processes too.
    """
    try:
        from regspec.training.options import Options
        from regspec.tuning import plan, search
    except ImportError as error:
        raise RegspecError(Problem(f"tune needs {error.name}", "pip install 'regspec[tune]'")) from None
    chosen = Options(
        data=data,
        target=target,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=lr,
        seed=seed,
        routes=tuple(route or ()),
        accelerator=accelerator,
    )
    how = plan.Plan(trials, sampler.value, pruner.value, None if metric is None else metric.value, timeout)
    search.tune(spec, chosen, how, output)
