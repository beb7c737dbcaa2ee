"""Runs that hold out another part of the data each, and what their figures come to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from regspec.text.problems import Problem, RegspecError
from regspec.training.measures.metrics import HELD_OUT
from regspec.training.options.options import Options
from regspec.training.runs.folder import FOLDS
from regspec.training.runs.trained import Run, evaluating, load_run

if TYPE_CHECKING:
    from regspec.training.runs.evaluating import Evaluation


def folder_of(folder: Path, number: int) -> Path:
    """Where the run of a fold lies."""
    return folder / f"fold_{number}"


@dataclass(frozen=True)
class Figure:
    """A figure of each fold, in their order.

    Example:
        >>> from regspec.training.runs.folds import Figure
        >>> figure = Figure((0.5, 0.6, 0.7))
        >>> round(figure.mean, 3), round(figure.deviation, 3)
        (0.6, 0.1)
    """

    folds: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over the folds."""
        return fmean(self.folds)

    @property
    def deviation(self) -> float:
        """The standard deviation of the folds as of a sample, which divides by one less than their number."""
        return stdev(self.folds) if len(self.folds) > 1 else 0.0


@dataclass(frozen=True)
class OutOfFold:
    """How well every example is told by the model that did not see it: of all examples as one, and fold by fold.

    Example:
        >>> from regspec.training.runs.evaluating import Evaluation, OutputFigures
        >>> figures = [OutputFigures("quantities", "mse", loss, {}, {}) for loss in (0.5, 0.7)]
        >>> folds = tuple(Evaluation(9, each.loss, {"y": each}) for each in figures)
        >>> round(OutOfFold(folds[0], folds).figures["y"]["loss"].mean, 3)
        0.6
    """

    pooled: Evaluation
    folds: tuple[Evaluation, ...]

    @property
    def figures(self) -> dict[str, dict[str, Figure]]:
        """The loss and the metrics of each fold, by the outputs' names and by their own; those that all folds have."""
        found: dict[str, dict[str, Figure]] = {}
        for name in self.pooled.outputs:
            rows = [{"loss": each.outputs[name].loss, **each.outputs[name].metrics} for each in self.folds]
            shared = [figure for figure in rows[0] if all(figure in row for row in rows)]
            found[name] = {figure: Figure(tuple(row[figure] for row in rows)) for figure in shared}
        return found

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        figures = {name: _plain(own) for name, own in self.figures.items()}
        return {"pooled": self.pooled.as_dict(), "figures": figures}


@dataclass(frozen=True)
class Folds:
    """The runs of all folds, in their order, in a folder that has a folder for each.

    Example:
        >>> import regspec, tempfile
        >>> spec = {"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": {"units": 3}}]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = regspec.train(spec, "iris", folds=3, epochs=20, lr=0.1, folder=f"{folder}/runs", quiet=True)
        ...     accuracy = made.figures["held_out_accuracy"]
        ...     print(len(made.runs), accuracy.mean > 0.8, len(accuracy.folds), made.runs[0].folder.name)
        3 True 3 fold_1
    """

    folder: Path
    runs: tuple[Run, ...]

    @property
    def figures(self) -> dict[str, Figure]:
        """What the runs' best epochs came to on the examples that they held out, by the names of ``metrics.csv``."""
        names = [name for name in self.runs[0].metrics if name.startswith(HELD_OUT)]
        return {name: Figure(tuple(run.metrics[name] for run in self.runs)) for name in names}

    def evaluate(self) -> OutOfFold:
        """How well the models do on the examples that each of them held out, as one and fold by fold.

        Raises:
            RegspecError: where the data are no longer those of the training, or were in memory and are not there.

        Example:
            >>> import regspec, tempfile
            >>> spec = {"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": {"name": "kind", "units": 3}}]}
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     made = regspec.train(spec, "iris", folds=3, epochs=2, folder=f"{folder}/runs", quiet=True)
            ...     found = made.evaluate()
            ...     print(found.pooled.examples, sum(map(sum, found.pooled.outputs["kind"].confusion)))
            ...     print(len(found.figures["kind"]["accuracy"].folds))
            150 150
            3
        """
        from regspec.training.runs.evaluating import pooled  # for which torchmetrics takes a second

        size = Options.of(self.runs[0].known()[0]["options"]).batch_size
        with ExitStack() as models:
            for each in self.runs:
                models.enter_context(evaluating(each.model))
            whole, folds = pooled([(each.model, each.known()[1], each.held_out) for each in self.runs], size)
        return OutOfFold(whole, tuple(folds))

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return _plain(self.figures)


def _plain(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {
        name: {"mean": each.mean, "deviation": each.deviation, "folds": [*each.folds]} for name, each in figures.items()
    }


def load_folds(folder: str | Path) -> Folds:
    """The folds in a folder that `regspec train --folds` or `regspec.train` wrote, each with its model.

    Raises:
        RegspecError: where the folder holds no folds, not all of them are done, or a file of them can't be read.

    Example:
        >>> import regspec, tempfile
        >>> spec = {"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": {"units": 3}}]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = regspec.train(spec, "iris", folds=2, epochs=1, folder=f"{folder}/runs", quiet=True)
        ...     regspec.load_folds(f"{folder}/runs").figures == made.figures
        True
    """
    place = Path(folder)
    options, done = kept_in(place)
    if done < (options.folds or 0):
        hint = f"regspec train --resume {place} goes on"
        raise RegspecError(Problem(f"has done {done} of its {options.folds} folds", hint, str(place)))
    return Folds(place, tuple(load_run(folder_of(place, number)) for number in range(1, done + 1)))


def kept_in(folder: Path) -> tuple[Options, int]:
    """The options of folds, and how many are done, as their folder says. Raises `RegspecError`."""
    try:
        read = json.loads((folder / FOLDS).read_text())
        return Options.of(read["options"]), int(read["done"])
    except FileNotFoundError:
        what = f"is no folder of folds: it has no {FOLDS}"
        raise RegspecError(Problem(what, "regspec train --folds 5 makes one", str(folder))) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise RegspecError(Problem("is damaged: it says nothing of folds", path=str(folder / FOLDS))) from None
