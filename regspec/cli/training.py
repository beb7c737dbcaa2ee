"""The command that trains."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from regspec.cli.application import Set, app, parameters
from regspec.cli.options import Accelerator, BatchSize, Data, Epochs, LearningRate, Optimizer, Routes, Seed, Target
from regspec.text.problems import Problem, RegspecError

# what a resumed run may have otherwise, by the names of the command's parameters and of the options
CHANGEABLE = {
    "epochs": "epochs",
    "patience": "patience",
    "accelerator": "accelerator",
    "devices": "devices",
    "strategy": "strategy",
    "logger": "logger",
    "compile_": "compiles",
}


class Logger(str, Enum):
    """Where metrics go."""

    csv = "csv"
    tensorboard = "tensorboard"


class Strategy(str, Enum):
    """How several processes share the work."""

    auto = "auto"
    ddp = "ddp"
    fsdp = "fsdp"


class ClassWeights(str, Enum):
    """How much classes count."""

    balanced = "balanced"


@app.command(epilog="Example: `regspec train examples/digits_cnn.yaml --epochs 20`")
def train(
    context: typer.Context,
    spec: Annotated[
        Path | None, typer.Argument(metavar="SPEC", help="A spec, as a YAML file.", show_default=False)
    ] = None,
    data: Data = "digits",
    target: Target = None,
    epochs: Epochs = 30,
    batch_size: BatchSize = 64,
    optimizer: Optimizer = "adam",
    lr: LearningRate = 1e-3,
    seed: Seed = 0,
    route: Routes = None,
    class_weights: Annotated[
        ClassWeights | None, typer.Option(help="balanced: rare classes count more.", show_default=False)
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many epochs without a better held-out loss.", show_default=False),
    ] = None,
    set: Set = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Train a twin without penalties too, for the report.")
    ] = False,
    precision: Annotated[str, typer.Option(help="Lightning's: 32-true, bf16-mixed, 16-mixed, 64-true, …")] = "32-true",
    accelerator: Accelerator = "auto",
    devices: Annotated[str, typer.Option(help="How many, on each machine; auto for all.")] = "1",
    strategy: Annotated[
        Strategy, typer.Option(help="ddp: each process has all weights; fsdp: each has a share.")
    ] = Strategy.auto,
    logger: Annotated[Logger, typer.Option(help="metrics.csv is always written; tensorboard besides.")] = Logger.csv,
    compile_: Annotated[bool, typer.Option("--compile", help="Train through torch.compile.")] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Go on with the run in a folder, from its last whole epoch.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The run's folder; one of its own under runs when absent.", show_default=False
        ),
    ] = None,
) -> None:
    """Train a spec's model with its penalties, and keep spec, source, weights and metrics in a folder.

    A fifth of the data is held out, where the data does not say what is. Ctrl-C stops; --resume goes on from the last
    whole epoch. On a table: `regspec train net.yaml --data prices.csv --target price --route l1=proximal`.
    On many machines: `torchrun --nnodes 2 --nproc-per-node 8 … -m regspec train …`.
    """
    try:
        from regspec.training import options, run
    except ImportError as error:
        raise RegspecError(Problem(f"train needs {error.name}", "pip install 'regspec[train]'")) from None
    chosen = options.Options(
        data=data,
        target=target,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=lr,
        seed=seed,
        routes=tuple(route or ()),
        class_weights=None if class_weights is None else class_weights.value,
        patience=patience,
        precision=precision,
        accelerator=accelerator,
        devices=int(devices) if devices.isdecimal() else devices,
        strategy=strategy.value,
        logger=logger.value,
        compiles=compile_,
        baseline=baseline,
    )
    if resume is not None:
        run.resume(resume, _changes(context, chosen))
    elif spec is None:
        raise typer.BadParameter("give a spec, or --resume RUN", param_hint="SPEC")
    else:
        run.train(spec, chosen, output, parameters=parameters(set))


def _changes(context: typer.Context, chosen: Any) -> dict[str, Any]:
    """The options that are said on the command line of a resumed run. Raises where one can't be another now."""
    said = [
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", None) == "COMMANDLINE" and name != "resume"
    ]
    fixed = [name for name in said if name not in CHANGEABLE]
    if fixed:
        may = ", ".join(f"--{name.strip('_')}" for name in CHANGEABLE)
        name = "a spec" if fixed[0] == "spec" else f"--{fixed[0].replace('_', '-')}"
        raise typer.BadParameter(f"a resumed run goes on as it began; it may have other {may}", param_hint=name)
    return {CHANGEABLE[name]: getattr(chosen, CHANGEABLE[name]) for name in said}
