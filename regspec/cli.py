"""The command line. Commands that need torch import it when they run."""

from __future__ import annotations

import json
import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from regspec import __version__, files
from regspec.compiler import checked, graph_of, source
from regspec.errors import Problem, RegspecError
from regspec.layers.registration import registered_as
from regspec.spec.registration import called, load_entry_points, load_module
from regspec.summary import mermaid, summarize

app = typer.Typer(
    name="regspec",
    help="Networks and their per-layer regularizers as validated YAML, compiled to PyTorch that you can read.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="A spec, as a YAML file.", show_default=False)]


class Format(str, Enum):
    """How results are printed."""

    text = "text"
    json = "json"


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"regspec {__version__}")
        raise typer.Exit


@app.callback()
def _before(
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE[:CLASS]",
            help="Import a module first, for what it registers; or register a layer's class of it. Repeatable.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    for module in modules or ():
        if ":" in module:
            registered_as(module)
        else:
            load_module(module)


@app.command(epilog="Example: `regspec check examples/*.yaml`")
def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES…", help="Specs, or rules for modules.", show_default=False)
    ],
    format: Annotated[Format, typer.Option(help="Text for people, or JSON for programs.")] = Format.text,
) -> None:
    """Check specs and rules: fields, names, and the shapes of every layer. Needs no torch."""
    problems: list[Problem] = []
    for file in files:
        try:
            line = checked(file)
            if format is Format.text:
                typer.echo(line)
        except RegspecError as error:
            problems.extend(error.problems)
            if format is Format.text:
                typer.echo(_styled(error))
    if format is Format.json:
        typer.echo(json.dumps([problem.as_dict() for problem in problems], indent=2))
    if problems:
        raise typer.Exit(1)


@app.command(epilog="Example: `regspec show examples/digits_cnn.yaml`")
def show(
    spec: Spec,
    format: Annotated[Format, typer.Option(help="A table for people, or JSON for programs.")] = Format.text,
    graph: Annotated[bool, typer.Option("--graph", help="The graph as a Mermaid diagram instead.")] = False,
) -> None:
    """Show a spec's layers with output shapes, parameters and penalties, and the totals. Needs no torch."""
    resolved = graph_of(spec)
    if graph:
        typer.echo(mermaid(resolved), nl=False)
    elif format is Format.json:
        typer.echo(json.dumps(summarize(resolved).as_dict(), indent=2))
    else:
        from regspec.tables import print_summary

        print_summary(summarize(resolved))


@app.command(name="compile", epilog="Example: `regspec compile examples/mlp.yaml -o mlp.py`")
def compile_(
    spec: Spec,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; printed when absent.", show_default=False),
    ] = None,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="Put the runtime's pieces into the file, so that it needs torch only.")
    ] = False,
) -> None:
    """Compile a spec to the Python source of a PyTorch class. Needs no torch."""
    _write(source(spec, standalone=standalone), output)


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
) -> None:
    """Train a spec's model with its penalties, and keep spec, source, weights and metrics in a folder.

    A fifth of the data is held out. Ctrl-C stops, and leaves what was trained so far.
    """
    try:
        from regspec.training import run
    except ImportError as error:
        raise RegspecError(Problem(f"train needs {error.name}", "pip install 'regspec[train]'")) from None
    options = run.Options(data, target, epochs, batch_size, lr, seed)
    run.train(spec, options, output)


@app.command(epilog="Example: `regspec rules examples/recipes/rules.yaml examples.recipes.any_module:ResNet`")
def rules(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rules, as a YAML file.", show_default=False)],
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:CALLABLE", help="What gives the torch module: a class or a function.", show_default=False
        ),
    ],
    format: Annotated[Format, typer.Option(help="A table for people, or JSON for programs.")] = Format.text,
) -> None:
    """Show which parameters and outputs of a module the rules of a file select, and what they leave."""
    from regspec.regularizing import coverage
    from regspec.tables import print_coverage

    selected = coverage(called(target), file)
    if format is Format.json:
        typer.echo(json.dumps([each.as_dict() for each in selected], indent=2))
    else:
        print_coverage(selected)


class Reduction(str, Enum):
    """What activity penalties are: means over the batch, or sums."""

    mean = "mean"
    sum = "sum"


class DataFormat(str, Enum):
    """Where the channels of images lie."""

    channels_first = "channels_first"
    channels_last = "channels_last"


@app.command(epilog="Example: `regspec port examples/keras_mlp.keras -o ported/ --verify`")
def port(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A model of Keras: .keras, .h5 or the JSON of to_json().", show_default=False
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The folder for spec.yaml, model.py, weights.safetensors and report.md.",
            show_default=False,
        ),
    ],
    weights: Annotated[
        Path | None, typer.Option(help="A .weights.h5 file, for a config without weights.", show_default=False)
    ] = None,
    activity_reduction: Annotated[
        Reduction | None,
        typer.Option(
            help="Whether activity penalties were divided by the batch size, where the file does not tell.",
            show_default=False,
        ),
    ] = None,
    data_format: Annotated[
        DataFormat | None,
        typer.Option(
            help="Convert a model with channels last to channels_first, with its weights, those after a Flatten too.",
            show_default=False,
        ),
    ] = None,
    fold: Annotated[
        bool, typer.Option("--fold", help="Fold BatchNormalization into the layer before it, for inference.")
    ] = False,
    blocks: Annotated[
        bool, typer.Option("--blocks", help="Write layers that repeat as blocks, so that a ResNet reads like one.")
    ] = False,
    no_quirks: Annotated[
        bool,
        typer.Option(
            "--no-quirks",
            help="Do what was meant where Keras does what nobody can have wanted: keeps_quirks=False in the notes.",
        ),
    ] = False,
    replace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER=MODULE:CLASS",
            help="A torch module that stands in for a layer, by its name, or for all layers of a class. Repeatable.",
            show_default=False,
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run it beside Keras, if that is installed; exits 1 where they differ.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(min=0, help="The largest relative error that passes, with --verify.")
    ] = 2e-4,
) -> None:
    """Port a Keras model to a spec, a PyTorch class and its weights. Needs neither Keras nor TensorFlow.

    Every layer that can't be ported is named. Nothing that a file holds is run. With --verify, outputs, penalties,
    gradients and moving statistics are compared with Keras's on random inputs.
    """
    try:
        from regspec.keras.porting import port as ported
    except ImportError as error:
        raise RegspecError(Problem(f"port needs {error.name}", "pip install 'regspec[keras]'")) from None
    made = ported(
        file,
        weights=weights,
        activity_reduction=None if activity_reduction is None else activity_reduction.value,
        data_format=None if data_format is None else data_format.value,
        fold=fold,
        blocks=blocks,
        keeps_quirks=not no_quirks,
        replace=dict(_pair(each) for each in replace or ()),
    )
    verification = made.verify(tolerance=tolerance) if verify else None
    made.save(output, verification=verification)
    summary = summarize(graph_of(made.spec))
    typer.echo(f"{output}: {summary.name}, {summary.totals}" + ("" if made.weights else "; the file had no weights"))
    for note in made.notes:
        typer.echo(f"note: {note}")
    if verification is not None:
        from regspec.tables import print_verification

        print_verification(verification)
        if not verification.passed:
            raise typer.Exit(1)


def _pair(text: str) -> tuple[str, str]:
    """A layer, and what stands in for it."""
    layer, _, target = text.rpartition("=")
    if not layer or ":" not in target:
        raise typer.BadParameter(f"'{text}' is not LAYER=package.module:Class", param_hint="--replace")
    return layer, target


class Described(str, Enum):
    """What a schema describes."""

    spec = "spec"
    rules = "rules"


@app.command(epilog="Example: `regspec schema spec -o model.schema.json`")
def schema(
    of: Annotated[Described, typer.Argument(help="Specs, or rules for modules.")] = Described.spec,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; printed when absent.", show_default=False),
    ] = None,
) -> None:
    """Write the JSON Schema by which editors check and complete specs. Needs no torch.

    What installed packages register through entry points is part of it.
    """
    from regspec.schema import rules_schema, spec_schema

    for group in ("regspec.layers", "regspec.regularizers"):
        load_entry_points(group)
    described = spec_schema() if of is Described.spec else rules_schema()
    _write(json.dumps(described, indent=1) + "\n", output)


def _write(text: str, path: Path | None) -> None:
    """Prints a text, or writes it to a file."""
    if path is None:
        typer.echo(text, nl=False)
    else:
        files.write(path, text)


def _styled(error: RegspecError) -> str:
    """The error's text, in colour where it goes to a terminal."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return str(error)
    lines = str(error).split("\n")
    return "\n".join(
        line.replace("error:", typer.style("error:", fg="red", bold=True), 1)
        if ": error: " in line
        else typer.style(line, fg="cyan")
        if line.startswith("   = ")
        else line
        for line in lines
    )


def main() -> None:
    """Runs the command line; a fault of the input is printed, without a traceback, and exits with 1."""
    try:
        app()
    except RegspecError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
