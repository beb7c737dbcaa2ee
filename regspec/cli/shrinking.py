"""Commands that make a model smaller, and say what that saves."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from regspec.cli.application import Force, Format, app, document_in, no_input, output_option
from regspec.graph.loading import checked
from regspec.text import files
from regspec.text.problems import Problem, RegspecError, needing

if TYPE_CHECKING:
    from torch import nn

    from regspec.specs.model import ModelSpec
    from regspec.training.runs.trained import Run

BATCHES = 64  # by which units are weighed

Source = Annotated[
    Path,
    typer.Argument(
        metavar="RUN|SPEC", help="A run's folder, that of a port, or a spec with --weights.", show_default=False
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(help="A safetensors file, or a folder that has one, with the weights of a spec.", show_default=False),
]


@app.command(epilog="Example: `regspec shrink runs/digits_cnn -o smaller/`")
def shrink(
    source: Source,
    output: Annotated[Path, output_option("The folder for spec.yaml, model.py and weights.safetensors.")],
    weights: Weights = None,
    keep: Annotated[
        float | None,
        typer.Option(
            help="The largest share of a layer's units that is left, those that weigh most; the outputs change.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        Literal["norm", "loss"],
        typer.Option(
            help="What weighs units, with --keep: the norms of what makes them; or of a run, how much the loss of what "
            "it was trained on would change without them."
        ),
    ] = "norm",
    multiple: Annotated[
        int,
        typer.Option(
            min=1, help="With --keep: round how many units are left down to a multiple of this, as 8 or 16 for speed."
        ),
    ] = 1,
    format_: Annotated[Format, typer.Option("--format", help="text or json.")] = "text",
    force: Force = False,
) -> None:
    """Take units out of a model that it can do without: those that are zero, or that nothing takes.

    They go from the whole network, and in evaluation it gives the same. What comes out is a smaller spec with the same
    penalties, its source and its weights: regspec train goes on with --weights. With --keep the least important units
    go too, and of a run it is said how well it does before and after.
    """
    if by == "loss" and keep is None:
        raise typer.BadParameter("it weighs units for --keep, which is not given", param_hint="--by")
    if multiple > 1 and keep is None:
        raise typer.BadParameter("it rounds what --keep leaves, which is not given", param_hint="--multiple")
    model, spec, run = loaded(source, weights, "shrink")
    from regspec.modules.shrinking.shrinking import shrink as shrunk_of
    from regspec.targets.source import source as source_of
    from regspec.training.runs.folder import as_safetensors

    if by == "loss" and run is None:
        raise RegspecError(Problem("has no data to weigh units by", "--by norm does without", str(source)))
    losses = islice(run.losses(), BATCHES) if by == "loss" and run is not None else None
    shrunk = shrunk_of(model, spec, keep=keep, multiple=multiple, losses=losses)
    contents: dict[str, str | bytes] = {
        "spec.yaml": shrunk.text,
        "model.py": source_of(shrunk.spec),
        "weights.safetensors": as_safetensors(shrunk.weights),
    }
    if not force:
        for name, content in contents.items():
            files.check_kept(output / name, content)
    files.write_folder(output, contents)
    figures = {} if run is None or keep is None else {"before": run, "after": replace(run, model=shrunk.build())}
    found = {when: each.evaluate() for when, each in figures.items()}
    if format_ == "json":
        judged = {when: each.as_dict() for when, each in found.items()}
        typer.echo(json.dumps({**shrunk.report.as_dict(), **judged}, indent=1))
        return
    typer.echo(f"{output}: {shrunk.report}")
    from regspec.cli.using import words

    for when, each in found.items():
        for name, output_figures in each.outputs.items():
            typer.echo(f"{when}: {name}: {words(output_figures)}")


@app.command(epilog="Example: `regspec sparsity runs/digits_cnn`")
def sparsity(
    source: Source,
    weights: Weights = None,
    batch: Annotated[int, typer.Option(min=1, help="How many examples are timed at once.")] = 32,
    format_: Annotated[Format, typer.Option("--format", help="text or json.")] = "text",
) -> None:
    """Tell what a model's zeros save: its costs as it is, and those without the units that it can do without.

    Weights and zeros are of its parameters; multiply-adds those of one example; the time is the least of several
    forwards of a batch of random inputs, on this machine, where both are timed in turn.
    """
    model, spec, _ = loaded(source, weights, "sparsity")
    from regspec.modules.shrinking.costs import costs_of
    from regspec.modules.shrinking.shrinking import shrink as shrunk_of

    shrunk = shrunk_of(model, spec)
    before, after = costs_of([model.eval(), shrunk.build()], spec, batch)
    units = dict(zip(("before", "after"), shrunk.report.units, strict=True))
    if format_ == "json":
        told = {when: {"units": units[when], **each.as_dict()} for when, each in (("before", before), ("after", after))}
        typer.echo(json.dumps({"batch": batch, **told}, indent=1))
        return
    from regspec.cli.tables import print_costs

    print_costs(units, before, after, batch)


def loaded(source: Path, weights: Path | None, command: str) -> tuple[nn.Module, ModelSpec, Run | None]:
    """The model of a run, of a port's folder, or of a spec with weights. Raises `RegspecError`."""
    no_input(source, command)
    with needing(command, "train"):
        from regspec.modules.building import build
        from regspec.training.loop.starting import begin_with
        from regspec.training.runs.trained import load_run
    is_port = source.is_dir() and not (source / "run.json").is_file() and (source / "spec.yaml").is_file()
    if source.is_dir() and not is_port:
        if weights is not None:
            raise RegspecError(Problem("has weights of its own: --weights is for a spec", path=str(source)))
        run = load_run(source)
        return run.model, run.spec, run
    spec = checked(document_in(source / "spec.yaml" if is_port else source))
    if not is_port and weights is None:
        raise RegspecError(Problem("is a spec, which has no weights", "say --weights, or give a run", str(source)))
    model: Any = build(spec, seed=0)
    begin_with(model, str(source if weights is None else weights))
    return model.eval(), spec, None
