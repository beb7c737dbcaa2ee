"""The command that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from regspec.cli.application import Force, Set, app, no_input, output_option, parameters, write
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
    draft: Annotated[
        bool,
        typer.Option(
            "--draft", help="Train nothing, but write a training file for the table of --data: printed, or to --output."
        ),
    ] = False,
    force: Force = False,
) -> None:
    """Train a spec's model with its penalties, and keep spec, source, weights and metrics in a folder.

    The weights that are kept are those of the epoch with the least held-out loss.
    A fifth of the data is held out, where the data does not say what is. Ctrl-C stops; --resume goes on from the last
    whole epoch. A training file says what these options say: `regspec train net.yaml --with training.yaml --epochs 50`.
    On a table, for weights that are zero:
    `regspec train net.yaml --data prices.csv --target price --optimizer 'sgd momentum=0.9' --route l1=proximal`.
    A first training file, with a line for each column: `regspec train --draft --data prices.csv -o training.yaml`.
    On many machines: `torchrun --nnodes 2 --nproc-per-node 8 … -m regspec train …`.
    """
    if draft or force:
        _draft(context, options, output, force=force)
        return
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


def _draft(context: typer.Context, options: Options, output: Path | None, *, force: bool) -> None:
    """Writes a first training file. Raises where something is said that is not for it."""
    names = names_said(context)
    if "draft" not in names:
        raise typer.BadParameter("it is for the file of a --draft", param_hint="--force")
    if others := [name for name in names if name not in ("draft", "data", "target", "output", "force")]:
        name = "SPEC" if others[0] == "spec" else f"--{others[0].strip('_').replace('_', '-')}"
        raise typer.BadParameter("a draft takes --data, --target and --output, and no spec", param_hint=name)
    with needing("train --draft", "train"):
        from regspec.training.data import drafting
    text = drafting.draft(options.data, options.target, None if output is None else output.parent)
    write(text, output, force=force, may_go=None)


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
