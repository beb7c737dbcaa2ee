"""The command that ports a Keras model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from regspec.cli.application import Force, app, output_option
from regspec.graph.loading import graph_of
from regspec.keras.porting import TOLERANCE
from regspec.text import files
from regspec.text.problems import needing
from regspec.views.summary import summarize


@app.command(epilog="Example: `regspec port examples/keras_mlp.keras -o ported/ --verify`")
def port(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A model of Keras: .keras, .h5, JSON or YAML, or the folder of a SavedModel or of TensorFlow.js.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        output_option("The folder for spec.yaml, model.py, weights.safetensors, report.md and training.yaml."),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            help="A .weights.h5 file, or a whole model, .h5 or .keras, for a config without weights.",
            show_default=False,
        ),
    ] = None,
    activity_reduction: Annotated[
        Literal["mean", "sum"] | None,
        typer.Option(
            help="Whether activity penalties were divided by the batch size, where the file does not tell.",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        Literal["tensorflow", "theano"] | None,
        typer.Option(
            help="What trained a file of Keras 1 or 2 that does not say so, as none of Keras 1 does: Theano turns the "
            "kernels of convolutions around, and pads otherwise.",
            show_default=False,
        ),
    ] = None,
    data_format: Annotated[
        Literal["channels_first", "channels_last"] | None,
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
            metavar="NAME=MODULE:OBJECT",
            help="A torch module of yours for a layer, by its name or class; or a function for a regularizer, "
            "constraint, initializer or activation, by its name or by LAYER.FIELD. Repeatable.",
            show_default=False,
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run it beside Keras, if that is installed; exits 1 where they differ.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(min=0, help="The largest relative error that passes, with --verify.")
    ] = TOLERANCE,
    force: Force = False,
) -> None:
    """Port a Keras model to a spec, a PyTorch class, its weights and a training file. Needs no Keras or TensorFlow.

    Every layer that can't be ported is named. Nothing that a file holds is run. With --verify, outputs, penalties,
    gradients and moving statistics are compared with Keras's on random inputs, in a process of their own, after the
    port is written.
    """
    with needing("port", "keras"):
        from regspec.keras.porting.porting import contents, report_of
        from regspec.keras.porting.porting import port as ported
    options: dict[str, Any] = {
        "weights": weights,
        "activity_reduction": activity_reduction,
        "backend": backend,
        "data_format": data_format,
        "fold": fold,
        "blocks": blocks,
        "keeps_quirks": not no_quirks,
        "replace": _pairs(replace or ()),
    }
    made = ported(file, **options)
    saved = contents(made)
    if not force:
        for name, content in {**saved, **report_of(made)}.items():
            files.check_kept(output / name, content)
    files.write_folder(output, {**saved, **report_of(made)})
    summary = summarize(graph_of(made.spec))
    typer.echo(f"{output}: {summary.name}, {summary.totals}" + ("" if made.weights else "; the file had no weights"))
    for note in made.notes:
        typer.echo(f"note: {note}")
    if verify:
        from regspec.cli.tables import print_verification
        from regspec.keras.verification.apart import Request, verified_apart

        imports = (context.parent.params.get("modules") if context.parent else None) or ()
        verification = verified_apart(made, Request(file, options, imports, tolerance))
        files.write_folder(output, report_of(made, verification))
        print_verification(verification)
        if not verification.passed:
            raise typer.Exit(1)


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    """What is replaced, and what stands in for it."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, target = text.rpartition("=")
        if not name or ":" not in target:
            raise typer.BadParameter(f"'{text}' is not NAME=package.module:object", param_hint="--replace")
        if pairs.setdefault(name, target) != target:
            raise typer.BadParameter(f"'{name}' is to be {pairs[name]} and {target}", param_hint="--replace")
    return pairs
