"""The command that searches parameters."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from regspec.cli.application import Set, app, no_input, output_option, parameters
from regspec.cli.dotted import WithDots
from regspec.cli.options import With, options_said, with_options
from regspec.text.problems import needing
from regspec.training.options.options import Options
from regspec.training.tuning.plan import Plan


@app.command(cls=WithDots, epilog="Example: `regspec tune examples/digits_search.yaml --sampler grid --trials 12`")
@partial(with_options, is_for_trials=True)
def tune(
    context: typer.Context,
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="A spec, as a YAML file.", show_default=False)],
    plan: Plan,
    options: Options,
    with_: With = None,
    set: Set = None,
    output: Annotated[
        Path | None,
        output_option(
            "The study's folder; one of its own under runs when absent. One that has a study goes on with it."
        ),
    ] = None,
) -> None:
    """Search the parameters of a spec that say where they may lie, and write the best spec.

    In the spec: `parameters: {strength: {default: 1e-4, search: {low: 1e-6, high: 1e-1, log: true}}}`.

    Options are searched by --search, too, as 'lr={low: 1e-4, high: 1e-1, log: true}'.

    Every trial is a training, scored on held-out data. The folder gets the run of the best one, best, and best.yaml,
    trials.csv, a plot of the scores, and study.db, with which the same command goes on after Ctrl-C or on another day,
    in several processes too.
    """
    with needing("tune", "tune"):
        from regspec.training.tuning import search
    no_input(spec, "tune")
    options, places = options_said(context, options, with_)
    search.tune(spec, options, plan, output, parameters=parameters(set), places=places)
