"""Training from Python: a spec and data in any form, and what a training file says as arguments."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from rich.console import Console

from regspec.graph.loading import AnySpec, load
from regspec.text.document import document_of
from regspec.text.problems import Problem, RegspecError, needing
from regspec.training.options.file import read_training
from regspec.training.options.options import IN_MEMORY, Option, Options
from regspec.training.options.sections import SECTIONS

if TYPE_CHECKING:
    from regspec.training.runs.folds import Folds
    from regspec.training.runs.trained import Run
    from regspec.training.tuning.path import StrengthPath
    from regspec.training.tuning.plan import Metric

ARGUMENTS = "<arguments>"  # what messages call them


@overload
def train(
    spec: AnySpec,
    data: Any,
    *,
    outputs: Mapping[str, Mapping[str, Any]] | None = None,
    sample_weight: Any = None,
    folds: None = None,
    folder: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    quiet: bool = False,
    **options: Any,
) -> Run: ...


@overload
def train(
    spec: AnySpec,
    data: Any,
    *,
    outputs: Mapping[str, Mapping[str, Any]] | None = None,
    sample_weight: Any = None,
    folds: int,
    folder: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    quiet: bool = False,
    **options: Any,
) -> Folds: ...


def train(
    spec: AnySpec,
    data: Any,
    *,
    outputs: Mapping[str, Mapping[str, Any]] | None = None,
    sample_weight: Any = None,
    folds: int | None = None,
    folder: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    quiet: bool = False,
    **options: Any,
) -> Run | Folds:
    """A run: the spec's model, trained on data with its penalties, in a folder as `regspec train` writes it.

    Args:
        spec: The path of a spec, its text, its content as a mapping, or a ModelSpec.
        data: What the command line takes, ``"digits"``, ``"prices.csv"``, ``"package.module:function"``; or in memory:

            - a pair (inputs, targets), or four with a held-out pair: arrays, tensors, and several of these in a list or
              by the names of inputs and outputs; with weights of the examples after each pair, three or six;
            - a mapping of arrays, whose keys are the names of inputs and outputs, or ``x`` and ``y``, or of paths of
              ``.npy`` files; memory-mapped arrays stay in their files but for a batch;
            - a frame of polars or pandas, whose columns are as those of a table: ``target`` names that of the target;
            - a torch ``Dataset`` with a length, or two, the second of which is held out: items are (input, target), all
              inputs and then all targets, or mappings by name; or one of Hugging Face's, with its columns by name;
            - a ``DataLoader``, an ``IterableDataset``, or a function that gives an iterator of batches anew for each
              epoch, with what is held out after it: ``(loader, dataset)``;
            - a ``LightningDataModule``, whose loaders these are.
        outputs: How each output learns: ``{"price": {"loss": "huber", "weight": 0.3}}``.
        sample_weight: How much each example to train on counts in the losses, (examples,), for data in memory that do
            not say it themselves; none below 0.
        folds: Trains so many runs, each of which holds out another part of the data, and gives a `Folds` of them.
        folder: Where the run lies, which must be empty or not be there; one of its own under ``runs`` when absent.
        parameters: Values of the spec's parameters in place of its defaults.
        quiet: Whether nothing is printed.
        options: The options of ``regspec train``, by their names in a training file: ``epochs=5, lr=0.01,
            optimizer={"sgd": {"momentum": 0.9}}, target="price"``.

    Raises:
        RegspecError: for a fault of the spec or an option, data that does not fit the spec, a loss that is not finite,
            or a folder that can't be written.
        KeyboardInterrupt: after Ctrl-C; the folder has the epochs that were done.

    Example:
        >>> import numpy as np, regspec, tempfile
        >>> x = np.random.default_rng(0).standard_normal((80, 4))
        >>> spec = {"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": {"units": 2, "kernel_regularizer": "l1"}}]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     y = np.where(x[:, 0] > 0, "more", "less")
        ...     run = regspec.train(spec, (x, y), epochs=40, lr=0.1, folder=f"{folder}/run", quiet=True)
        ...     run.predict([[3.0, 0.0, 0.0, 0.0]]).values.tolist()
        ['more']
    """
    with needing("train", "train"):
        from regspec.training.loop import folding, run
    if folds is not None:
        options["folds"] = folds
    chosen, given = _asked(data, outputs, sample_weight, options)
    console = Console(file=io.StringIO()) if quiet else None
    made, place = load(spec, parameters=parameters), None if folder is None else Path(folder)
    try:
        train = folding.train if chosen.is_of_all_folds else run.train
        return train(made, chosen, place, given=given, console=console)
    except SystemExit:  # with which the command line ends
        raise KeyboardInterrupt from None


def strength_path(
    spec: AnySpec,
    data: Any,
    path: str,
    *,
    from_: float = 1e-5,
    to: float = 1.0,
    steps: int = 30,
    warm_epochs: int | None = None,
    check: int = 0,
    metric: Metric | None = None,
    outputs: Mapping[str, Mapping[str, Any]] | None = None,
    sample_weight: Any = None,
    folder: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    quiet: bool = False,
    **options: Any,
) -> StrengthPath:
    """A path of strengths, each trained from near where the one before ended, as `regspec tune --path` has it.

    Args:
        spec: As for `train`.
        data: As for `train`.
        path: Whose strength: a term's, ``"hidden.kernel.l1"``; that of all kernels, ``"kernel.l1"``; a parameter's.
        from_: The first strength. Better from weak to strong, where units vanish one by one; what begins at zero, or
            near it, learns less.
        to: The last one. Between them each is the same factor from the next.
        steps: How many strengths.
        warm_epochs: The epochs of a strength after the first; an eighth of ``epochs`` when absent.
        check: Trains so many of the strengths after the first from the beginning, too.
        metric: ``"held_out_accuracy"`` or ``"held_out_loss"``; the first for classes when absent.
        outputs: As for `train`.
        sample_weight: As for `train`.
        folder: Where the path lies; one that has a part of the same path goes on with it.
        parameters: Values of the spec's parameters in place of its defaults.
        quiet: Whether nothing is printed.
        options: The options of ``regspec train``. Without ``monitor`` and ``patience`` the last epoch of each strength
            is kept. With ``folds`` each goes along the path; a score is their mean, with the error of that.

    Raises:
        RegspecError: for a fault of the spec, an option or the data, where there is no such strength, or none has a
            score.
        KeyboardInterrupt: after Ctrl-C; the folder has the strengths that were done.

    Example:
        >>> import regspec, tempfile
        >>> spec = {"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": {"units": 3, "kernel_regularizer": "l1"}}]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     how = {"epochs": 8, "lr": 0.1, "route": {"l1": "proximal"}, "folder": f"{folder}/path", "quiet": True}
        ...     found = regspec.strength_path(spec, "iris", "kernel.l1", from_=10, to=1e-3, steps=3, **how)
        ...     print([each.strength for each in found.points], found.points[0].zeros)
        ...     run = regspec.load_run(f"{folder}/path/simplest")
        [10.0, 0.1, 0.001] (12, 12)
    """
    with needing("strength_path", "tune"):
        from regspec.training.tuning.path import follow
        from regspec.training.tuning.plan import Along
    chosen, given = _asked(data, outputs, sample_weight, options)
    console = Console(file=io.StringIO()) if quiet else None
    made, place = load(spec, parameters=parameters), None if folder is None else Path(folder)
    along = Along(path, from_, to, steps, warm_epochs=warm_epochs, check=check)
    try:
        return follow(made, chosen, along, metric, place, given=given, console=console)
    except SystemExit:
        raise KeyboardInterrupt from None


def _asked(
    data: Any, outputs: Mapping[str, Mapping[str, Any]] | None, sample_weight: Any, options: Mapping[str, Any]
) -> tuple[Options, Any]:
    """The options, and the data, where these are in memory. Raises `RegspecError`."""
    from regspec.training.data import memory

    is_named = isinstance(data, (str, Path))
    said = {**options, "data": str(data) if is_named else IN_MEMORY, **({"outputs": outputs} if outputs else {})}
    if sample_weight is None:
        return _options(said), None if is_named else data
    if is_named:
        what = f"sample_weight is for data in memory, and not for '{data}'"
        raise RegspecError(Problem(what, "a column is said by columns={'w': 'weight'}; or an array sample_weight"))
    return _options(said), memory.Weighted(data, sample_weight)


def _options(said: Mapping[str, Any]) -> Options:
    """The options of a training file that says these. Raises `RegspecError`."""
    known = Option.all_of(Options)
    written: dict[str, Any] = {name: {} for name in SECTIONS}
    for name, value in said.items():
        option = known.get(name)
        section, key = (option.section, option.key or name) if option else (next(iter(SECTIONS)), name)
        written[section][key] = value
    return Options(**read_training(document_of({"regspec": 1, **written}, ARGUMENTS)).values)
