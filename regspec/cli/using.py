"""Commands that use what was trained."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from regspec.cli.application import Force, Format, RunFolder, app, document_in, output_option, write
from regspec.graph.loading import checked
from regspec.text.problems import Problem, RegspecError, needing
from regspec.training.options.options import Options
from regspec.views.summary import plural

if TYPE_CHECKING:
    from regspec.training.runs.evaluating import Evaluation, OutputFigures
    from regspec.training.runs.trained import Run

SHOWN = 10  # rows of a table
PLAIN: Any = {"highlight": False, "markup": False, "soft_wrap": True}

KINDS = "a .npz, .csv or .parquet file; a folder of images or of .npy files; a bundled set; or package.module:function"


@app.command(epilog="Example: `regspec evaluate runs/digits_cnn --data digits`")
def evaluate(
    run: RunFolder,
    data: Annotated[
        str | None,
        typer.Option(help=f"{KINDS}; what the run held out, when absent.", show_default=False),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="text or json.")] = "text",
) -> None:
    """Tell how well a run's model does on data: losses, figures of each output and class, a confusion matrix.

    Beside them stands what a constant answer would do: the most frequent class, or the mean. Of data that say
    themselves what is held out, that counts. Classes are compared by their names in training. Of a folder of folds
    each example is told by the model that did not see it.
    """
    with needing("evaluate", "train"):
        from regspec.training.runs.folder import FOLDS, Folder
    if (run / FOLDS).is_file():
        _evaluate_folds(run, data, format_)
        return
    trained = _loaded(run, "evaluate")
    with _saying_strangers():
        found = trained.evaluate(data)
    facts = Folder(run).facts()
    options = Options.of(facts["options"])
    if format_ == "json":
        about = {"run": str(run), "epoch": int(trained.metrics["epoch"]), "data": data or options.data}
        typer.echo(json.dumps({**about, "is_held_out": data is None, **found.as_dict()}, indent=1))
        return
    console = Console()
    where = f"of {data}" if data is not None else f"held out of {options.data}"
    if data is None and options.validation is not None:
        where = f"of {options.validation}, which are held out"
    kept = f"epoch {trained.metrics['epoch']:g} of {facts['epochs']}"
    console.print(f"{run}, {kept}: {plural(found.examples, 'example', 'examples')} {where}", **PLAIN)
    if data == options.data and found.examples == facts["examples"] + facts["held_out"]:
        console.print(f"{facts['examples']} of them were trained on; without --data the others are evaluated", **PLAIN)
    _print_figures(console, found)
    _print_tables(console, found)


def _evaluate_folds(folder: Path, data: str | None, format_: Format) -> None:
    """Tells how well folds do on all examples, each told by the model that did not see it."""
    from regspec.training.loop.epochs import shown
    from regspec.training.runs.folds import load_folds

    folds = load_folds(folder)
    if data is not None:
        what = "is a folder of folds, which are evaluated on what each of them held out"
        hint = f"one of them, on other data: regspec evaluate {folds.runs[0].folder} --data {data}"
        raise RegspecError(Problem(what, hint, str(folder)))
    found = folds.evaluate()
    source = folds.runs[0].known()[0]["options"]["data"]
    if format_ == "json":
        about = {"run": str(folder), "folds": len(folds.runs), "data": source}
        typer.echo(json.dumps({**about, **found.as_dict()}, indent=1))
        return
    console, count = Console(), plural(found.pooled.examples, "example", "examples")
    whose = f"{count} of {source}, each told by the model that did not see it"
    console.print(f"{folder}, {len(folds.runs)} folds: {whose}", **PLAIN)
    _print_figures(console, found.pooled)
    for name, figures in found.figures.items():
        for what, each in figures.items():
            values = "  ".join(map(shown, each.folds))
            console.print(f"{name} {what}: {shown(each.mean)} ± {shown(each.deviation)}  ({values})", **PLAIN)
    _print_tables(console, found.pooled)


def _print_figures(console: Console, found: Evaluation) -> None:
    """Prints a line for each output, and the whole loss of several."""
    if len(found.outputs) > 1:
        console.print(f"loss {found.loss:.4g}", **PLAIN)
    for name, figures in found.outputs.items():
        scaled = " of scaled numbers" if figures.is_scaled else ""
        console.print(f"{name}: {figures.loss_name} {figures.loss:.4g}{scaled}; {words(figures)}", **PLAIN)


def _print_tables(console: Console, found: Evaluation) -> None:
    """Prints the tables of each output, as wide as they are."""
    for name, figures in found.outputs.items():
        for table in _tables(name, figures):
            width = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
            Console(width=max(width, console.width)).print(table)


def words(figures: OutputFigures) -> str:
    """How an output does, and what a constant answer does."""
    from regspec.report.plots import percent

    joint = "; " if figures.is_better else ", but "
    own, base = figures.metrics, figures.baseline
    if figures.kind == "quantities":
        mean = "" if figures.constant is None else f", {figures.constant:.6g},"
        more = _others(figures, ("rmse", "mae"))
        told = f"rmse {own['rmse']:.4g}, mae {own['mae']:.4g}{more}"
        return f"{told}{joint}always giving the mean{mean} has rmse {base['rmse']:.4g}, mae {base['mae']:.4g}"
    said = f"'{figures.constant}'" if figures.kind == "classes" else "each label's more frequent answer"
    told = f"{percent(own['accuracy'])} right{_others(figures, ('accuracy',))}"
    return f"{told}{joint}always guessing {said} gives {percent(base['accuracy'])}"


def _others(figures: OutputFigures, told: tuple[str, ...]) -> str:
    """The metrics that are not told yet."""
    return "".join(f", {name} {value:.4g}" for name, value in figures.metrics.items() if name not in told)


def _tables(name: str, figures: OutputFigures) -> list[Table]:
    """The figures of each class, and how often which is taken for which."""
    from regspec.report.plots import percent
    from regspec.training.runs.confusing import FEW

    if not figures.classes:
        return []
    classes = Table(title=f"{name}: each {'class' if figures.kind == 'classes' else 'label'}", title_justify="left")
    for head in ("", "precision", "recall", "count"):
        classes.add_column(head, justify="right" if head else "left")
    for each in figures.classes:
        if each.count or each.precision or len(figures.classes) <= FEW:
            shares = (percent(each.precision), percent(each.recall) if each.count else "")
            classes.add_row(each.name, *shares, f"{each.count:,}")
    if figures.confusion is None or len(figures.classes) > FEW:
        return [classes]
    matrix = Table(title=f"{name}: confusion", title_justify="left")
    matrix.add_column("is / taken for")
    for each in figures.classes:
        matrix.add_column(each.name, justify="right")
    for each, counts in zip(figures.classes, figures.confusion, strict=True):
        matrix.add_row(each.name, *(f"{count:,}" if count else "·" for count in counts))
    return [classes, matrix]


@app.command(epilog="Example: `regspec predict runs/digits_cnn --data digits -o predicted.csv`")
def predict(
    run: RunFolder,
    data: Annotated[str, typer.Option(help=f"{KINDS}. Targets are not needed.", show_default=False)],
    output: Annotated[
        Path | None,
        output_option("The .csv, .parquet or .npz file to write; absent, rows are shown."),
    ] = None,
    force: Force = False,
) -> None:
    """Write what a run's model says of data: classes by name with their probabilities, labels, or quantities.

    A table keeps its own columns. Those that were inputs in training are found by their names, whatever their order.
    """
    trained = _loaded(run, "predict")
    from regspec.training.runs.tabulating import WRITTEN, content, table_of

    ending = output.suffix.lower() if output else ""
    if output is not None and ending not in WRITTEN:
        raise RegspecError(Problem(f"is no {', '.join(WRITTEN[:-1])} or {WRITTEN[-1]} file", path=str(output)))
    with _saying_strangers():
        examples = trained.inputs_of(data)
    predictions = trained.predictions(examples)
    if output is not None:
        write(content(predictions, data, examples, ending), output, force=force, may_go=None)
        typer.echo(f"{output}: {plural(len(examples), 'example', 'examples')}")
        return
    import polars as pl

    frame = table_of(predictions, data, examples)
    with pl.Config(tbl_rows=SHOWN, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        typer.echo(str(frame.head(SHOWN)))
    if len(frame) > SHOWN:
        typer.echo(f"the first {SHOWN} of {len(frame):,}; -o predictions.csv writes all")


Exportable = Literal["onnx", "pt2", "safetensors", "source", "keras", "keras-source"]


@app.command(epilog="Example: `regspec export runs/digits_cnn --format keras -o digits.keras`")
def export(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A run's folder; for Keras also that of a port, or a spec, whose weights are drawn.",
            show_default=False,
        ),
    ],
    format_: Annotated[
        Exportable | None,
        typer.Option("--format", help="Which; that of the file's ending, when absent.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        output_option("The .onnx, .pt2, .safetensors, .keras or .py file to write; by the spec's name, when absent."),
    ] = None,
    lossy: Annotated[
        bool,
        typer.Option(
            "--lossy",
            help="Leave out penalties that Keras has no counterpart of, and list them; else they are refused.",
        ),
    ] = False,
    force: Force = False,
) -> None:
    """Write a run's model as others load it, for batches of any size, and say what it takes and gives.

    onnx has the spec's names of inputs and outputs; pt2 is a program of torch.export; source is a class that needs
    torch alone, with its weights beside it; keras is a whole file of Keras 3, with penalties and constraints, and
    keras-source its functional code, with its weights beside it. Each but the last is loaded again and compared with
    the model. What prepares the data is not in it: columns, names of classes and units are said at the end, and in the
    file.
    """
    is_run = run.is_dir() and ((run / "run.json").is_file() or not (run / "spec.yaml").is_file())
    if not is_run:
        with needing("export", "train"):
            from regspec.training.exporting.naming import path_of
        form = path_of(output, format_, "")[1]
        if "keras" in form:
            _to_keras(run, output, form, lossy=lossy, force=force)
            return
    typer.echo(str(_loaded(run, "export").export(output, format=format_, lossy=lossy, force=force)))


def _to_keras(place: Path, output: Path | None, form: str, *, lossy: bool, force: bool) -> None:
    """Writes the model of a port's folder, or of a spec, for Keras. Raises `RegspecError`."""
    with needing("export", "keras"):
        from regspec.keras.writing.exporting import to_keras
        from regspec.modules.building import build
        from regspec.training.exporting.naming import path_of
        from regspec.training.runs.compiling import SavedPort
    if place.suffix in (".keras", ".h5", ".hdf5"):
        raise RegspecError(
            Problem("is a file of Keras", "regspec port makes a folder of it, which goes back", str(place))
        )
    spec = checked(document_in(place / "spec.yaml" if place.is_dir() else place))
    model = SavedPort.of(place) if place.is_dir() else build(spec, seed=0)
    typer.echo(str(to_keras(model, path_of(output, form, spec.name)[0], lossy=lossy, force=force)))
    if not place.is_dir():
        typer.echo("its weights are drawn, because a spec has none; a run or a port has")


@contextmanager
def _saying_strangers() -> Iterator[None]:
    """Says on the console, in a line for each column, which words training did not have."""
    from regspec.training.data.columns import UnknownWords

    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, UnknownWords):
                typer.echo(message, err=True)
            else:
                shown(message, category, *place, **more)

        warnings.simplefilter("always", UnknownWords)
        warnings.showwarning = show
        yield


def _loaded(folder: Path, command: str) -> Run:
    """The run in a folder. Raises `RegspecError`."""
    with needing(command, "train"):
        from regspec.training.runs.trained import load_run
    return load_run(folder)
