"""The command that searches parameters."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from regspec.cli.application import Spec, app
from regspec.cli.options import Accelerator, BatchSize, Data, Epochs, LearningRate, Optimizer, Routes, Seed, Target
from regspec.text.problems import Problem, RegspecError


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
    data: Data = "digits",
    target: Target = None,
    epochs: Epochs = 30,
    batch_size: BatchSize = 64,
    optimizer: Optimizer = "adam",
    lr: LearningRate = 1e-3,
    route: Routes = None,
    seed: Seed = 0,
    accelerator: Accelerator = "auto",
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
        from regspec.training.tuning import plan, search
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
