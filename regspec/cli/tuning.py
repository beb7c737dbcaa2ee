"""The command that searches parameters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from regspec.cli.application import Set, app, no_input, output_option, parameters
from regspec.cli.dotted import WithDots
from regspec.cli.options import With, names_said, options_said, with_options
from regspec.text.problems import needing
from regspec.training.options.options import Option, Options
from regspec.training.tuning.plan import Along, Plan


@app.command(cls=WithDots, epilog="Example: `regspec tune examples/digits_search.yaml --sampler grid --trials 12`")
@partial(with_options, is_for_trials=True)
def tune(
    context: typer.Context,
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="A spec, as a YAML file.", show_default=False)],
    plan: Plan,
    along: Along,
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

    A path is one strength from weak to strong, or back, each training beginning near where the one before ended, which
    takes a small part of the time: `regspec tune net.yaml --path kernel.l1 --from 1e-5 --to 1 --steps 30`. It writes
    the runs best and simplest, path.csv and a picture.

    Every trial is a training, scored on held-out data. The folder gets the run of the best one, best, and best.yaml,
    trials.csv, a plot of the scores, and study.db, with which the same command goes on after Ctrl-C or on another day,
    in several processes too.
    """
    _check(names_said(context), along)
    with needing("tune", "tune"):
        from regspec.training.tuning import path, search
    no_input(spec, "tune")
    options, places = options_said(context, options, with_)
    if along.path is not None:
        path.follow(spec, options, along, plan.metric, output, parameters=parameters(set), places=places)
        return
    search.tune(spec, options, plan, output, parameters=parameters(set), places=places)


def _check(said: Sequence[str], along: Along) -> None:
    """Raises where options are said of a search and of a path."""
    is_path = along.path is not None
    others = (name for name in Option.all_of(Plan) if name != "metric") if is_path else Option.all_of(Along)
    for name in others:
        if name in said:
            what = "a path tries the strengths from --from to --to" if is_path else "it is for a --path"
            raise typer.BadParameter(what, param_hint=f"--{name.strip('_').replace('_', '-')}")
