"""The command that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from regspec.cli.application import Set, app, no_input, output_option, parameters
from regspec.cli.dotted import WithDots
from regspec.cli.options import With, names_said, options_said, with_options
from regspec.text.problems import needing
from regspec.training.options.options import Option, Options


@app.command(cls=WithDots, epilog="Example: `regspec train examples/digits_cnn.yaml --epochs 20`")
@with_options
def train(
    context: typer.Context,
    options: Options,
    spec: Annotated[
        Path | None, typer.Argument(metavar="SPEC", help="A spec, as a YAML file.", show_default=False)
    ] = None,
    with_: With = None,
    set: Set = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Go on with the run in a folder, from its last whole epoch.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        output_option("The run's folder; one of its own under runs when absent."),
    ] = None,
) -> None:
    """Train a spec's model with its penalties, and keep spec, source, weights and metrics in a folder.

    The weights that are kept are those of the epoch with the least held-out loss.
    A fifth of the data is held out, where the data does not say what is. Ctrl-C stops; --resume goes on from the last
    whole epoch. A training file says what these options say: `regspec train net.yaml --with training.yaml --epochs 50`.
    On a table, for weights that are zero:
    `regspec train net.yaml --data prices.csv --target price --optimizer 'sgd momentum=0.9' --route l1=proximal`.
    On many machines: `torchrun --nnodes 2 --nproc-per-node 8 … -m regspec train …`.
    """
    with needing("train", "train"):
        from regspec.training.loop import folding, run
        from regspec.training.runs.folder import FOLDS
    if resume is not None:
        (folding if (resume / FOLDS).is_file() else run).resume(resume, _changes(context, options))
    elif spec is None:
        raise typer.BadParameter("give a spec, or --resume RUN", param_hint="SPEC")
    else:
        no_input(spec, "train")
        options, places = options_said(context, options, with_)
        train = folding.train if options.is_of_all_folds else run.train
        train(spec, options, output, parameters=parameters(set), places=places)


def _changes(context: typer.Context, options: Options) -> dict[str, Any]:
    """The options that are said on the command line of a resumed run. Raises where one can't be another now."""
    said = [name for name in names_said(context) if name != "resume"]
    changeable = [name for name, option in Option.all_of(Options).items() if option.is_changeable]
    fixed = [name for name in said if name not in changeable]
    if fixed:
        may = ", ".join(f"--{name}" for name in changeable)
        name = "a spec" if fixed[0] == "spec" else f"--{fixed[0].strip('_').replace('_', '-')}"
        raise typer.BadParameter(f"a resumed run goes on as it began; it may have other {may}", param_hint=name)
    return {name: getattr(options, name) for name in said}
