"""Runs that hold out another part of the data each, and what their figures come to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from regspec.training.measures.metrics import HELD_OUT
from regspec.training.runs.trained import Run


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

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            name: {"mean": each.mean, "deviation": each.deviation, "folds": [*each.folds]}
            for name, each in self.figures.items()
        }
