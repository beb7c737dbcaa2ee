"""A run's folder, read back as a value. What is missing in it is said in a sentence; what is broken is an error."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from numpy.typing import NDArray

from regspec.graph.loading import graph_of
from regspec.graph.network import Graph
from regspec.report.held_out import HeldOut, held_out_of
from regspec.text.problems import Problem, RegspecError

Numbers = NDArray[np.float64]
Weights = Mapping[str, NDArray[np.float32]]
METRICS = "metrics.csv"
SPEC = "spec.yaml"
HELD_OUT = "held_out.json"
FOLDS = "folds.json"  # of a folder that has a folder for each fold


@dataclass(frozen=True, slots=True)
class Activity:
    """The outputs of a layer on held-out data: how many lie between the edges, and the share of exact zeros."""

    edges: Numbers
    counts: Numbers
    zeros: float


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """What a run's folder holds."""

    folder: Path
    name: str  # unlike those of the other runs of a report
    about: Mapping[str, Any]  # run.json; empty where there is none
    epochs: Numbers
    kept: int  # the row of the metrics whose epoch's weights it keeps
    metrics: Mapping[str, Numbers]  # by column, a number an epoch; NaN where there is none
    spec: str
    source: str | None
    graph: Graph | None
    initial: Weights | None
    weights: Weights | None
    activities: Mapping[str, Activity]
    held_out: HeldOut
    baseline: Recorded | None
    is_twin: bool  # whether it is a baseline: its penalties are measured, and not minimized
    missing: tuple[str, ...] = field(default=())  # sentences

    def figure(self, column: str) -> float:
        """A metric in the epoch that is kept; NaN where there is none."""
        values = self.metrics.get(column)
        return math.nan if values is None or not len(values) else float(values[self.kept])

    def has(self, column: str) -> bool:
        """Whether it noted a metric."""
        return column in self.metrics

    def by_term(self, prefix: str) -> dict[str, Numbers]:
        """The metrics whose columns begin with ``prefix/``, by what comes after it, without those that are empty."""
        head = f"{prefix}/"
        found = {name.removeprefix(head): each for name, each in self.metrics.items() if name.startswith(head)}
        return {name: values for name, values in found.items() if np.isfinite(values).any()}

    def held_out_figures(self) -> list[tuple[str, str]]:
        """The figures of what is held out, beside the loss and the accuracy of an only output: metric and output.

        The output is empty where there is one only.
        """
        heads = [name.removeprefix("held_out_") for name in self.metrics if name.startswith("held_out_")]
        known = [name for name in heads if name not in ("loss", "accuracy")]
        return [(metric, output) for metric, _, output in (name.partition("/") for name in known)]

    @property
    def is_penalized(self) -> bool:
        """Whether it minimized penalties: by the columns of terms, or in an old run, without these, by their sum."""
        has = bool(self.by_term("penalty")) or bool((self.metrics.get("penalty", np.zeros(1)) > 0).any())
        return has and not self.is_twin

    @property
    def is_classification(self) -> bool:
        """Whether it learned classes, and not quantities."""
        return bool(self.about.get("task", "classes" if "held_out_accuracy" in self.metrics else "") == "classes")


def read_runs(folders: list[Path]) -> list[Recorded]:
    """The runs in folders, each under a name of its own.

    Raises:
        RegspecError: where a folder is no run's, or a file in it can't be read.
    """
    names = _names(folders)
    return [_read(folder, name) for folder, name in zip(folders, names, strict=True)]


def _names(folders: list[Path]) -> list[str]:
    """The folders' own names; where two share one, with what is before it."""
    whole = [folder.resolve() for folder in folders]
    short = [path.name or str(path) for path in whole]
    long = [f"{path.parent.name}/{path.name}" for path in whole]
    names = [own if short.count(own) == 1 else more for own, more in zip(short, long, strict=True)]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, whole, strict=True)]


def runs_in(folder: Path) -> str | None:
    """Which folders in a folder hold runs, for people; None where none does."""
    found = sorted(each.parent.name for each in folder.glob(f"*/{METRICS}"))[:5]
    return f"the folders in it that hold runs: {', '.join(found)}" if found else None


def _read(folder: Path, name: str) -> Recorded:
    if not folder.is_dir():
        raise RegspecError(Problem("is no folder", "a run is a folder that 'regspec train' wrote", str(folder)))
    if (folder / "run.json").is_file() and (folder / SPEC).is_file() and not (folder / METRICS).is_file():
        hint = f"regspec train --resume {folder} goes on, if it has stopped"
        raise RegspecError(Problem("has no metrics.csv: no epoch of this run is done yet", hint, str(folder)))
    if absent := [each for each in (SPEC, METRICS) if not (folder / each).is_file()]:
        hint = runs_in(folder) or "a run is a folder that 'regspec train' wrote"
        raise RegspecError(Problem(f"is no run's folder: it has no {absent[0]}", hint, str(folder)))
    missing: list[str] = []
    metrics = read_metrics(folder / METRICS)
    epochs = metrics.pop("epoch", np.arange(1.0, 1 + len(next(iter(metrics.values()), ()))))
    if not np.isfinite(epochs).all():
        epochs = np.arange(1.0, 1 + len(epochs))
    if broken := [column for column, values in metrics.items() if column in LOSSES and not np.isfinite(values).all()]:
        missing.append(f"The numbers of {', '.join(broken)} are not finite everywhere; curves leave such epochs out.")
    about = read_json(folder / "run.json")
    if not about:
        missing.append("There is no run.json, so the options and versions of this run are not known.")
    (initial, _), (weights, kept) = (_weights(folder / f"{each}.safetensors") for each in ("initial", "weights"))
    if weights is None:
        missing.append("There are no weights (weights.safetensors), so nothing is said of them.")
    elif initial is None:
        missing.append("There are no weights from before training (initial.safetensors), only those after it.")
    activities = _activities(folder / "activities.json")
    if not activities:
        missing.append("There is no activities.json, so the layers' outputs are not shown.")
    try:
        graph = graph_of(folder / SPEC)
    except RegspecError as error:
        graph = None
        missing.append(f"The model's graph is not shown, because its spec can't be compiled: {error.problems[0].what}.")
    baseline, whole = folder / "baseline", folder.resolve()
    return Recorded(
        folder,
        name=name,
        about=about,
        epochs=epochs,
        kept=[*epochs].index(kept) if kept in epochs else len(epochs) - 1,
        metrics=metrics,
        spec=_text(folder / SPEC) or "",
        source=_text(folder / "model.py"),
        graph=graph,
        initial=initial,
        weights=weights,
        activities=activities,
        held_out=held_out_of(read_json(folder / HELD_OUT), str(folder / HELD_OUT)),
        baseline=_read(baseline, "without regularization") if (baseline / METRICS).is_file() else None,
        is_twin=whole.name == "baseline" and (whole.parent / METRICS).is_file(),
        missing=tuple(missing),
    )


LOSSES = ("data_loss", "penalty", "held_out_loss", "held_out_accuracy")


def _text(path: Path) -> str | None:
    """A file's text; None where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror}", path=str(path))) from None


def read_metrics(path: Path) -> dict[str, Numbers]:
    """The columns of a file of metrics. Raises `RegspecError` where it has no rows, or a broken one."""
    header, *rows = [row for row in csv.reader((_text(path) or "").splitlines()) if row] or [[]]
    if not header or not rows:
        raise RegspecError(Problem("holds no epoch", "a run is written after its first epoch", str(path)))
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            what = f"line {number} has {len(row)} values, but the header {len(header)}"
            raise RegspecError(Problem(what, path=str(path)))
    return {name: np.array([_number(row[index]) for row in rows]) for index, name in enumerate(header)}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a file; empty where there is no file."""
    text = _text(path)
    try:
        found = {} if text is None else json.loads(text)
    except ValueError as error:
        raise RegspecError(Problem(f"is no JSON: {error}", path=str(path))) from None
    if not isinstance(found, dict):
        raise RegspecError(Problem("is no mapping", path=str(path)))
    return found


def _activities(path: Path) -> dict[str, Activity]:
    found = {}
    for layer, each in read_json(path).items():
        try:
            edges, counts = (np.asarray(each[key], dtype=np.float64) for key in ("edges", "counts"))
            zeros = float(each.get("zeros", math.nan))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise RegspecError(Problem(f"'{layer}' has no edges, counts and zeros", path=str(path))) from None
        if edges.ndim != 1 or counts.shape != (len(edges) - 1,):
            raise RegspecError(Problem(f"'{layer}' needs one edge more than counts", path=str(path)))
        found[layer] = Activity(edges, counts, zeros)
    return found


def _weights(path: Path) -> tuple[dict[str, NDArray[np.float32]] | None, float]:
    """The floating-point tensors of a file by name, and of which epoch it says that they are; None and NaN if none."""
    if not path.is_file():
        return None, math.nan
    try:
        tensors = safetensors.torch.load_file(path)
        with safetensors.safe_open(path, "pt") as file:
            said = json.loads((file.metadata() or {}).get("kept", "{}"))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise RegspecError(Problem(f"can't be read: {error}", path=str(path))) from None
    found = {name: each.float().numpy() for name, each in tensors.items() if each.is_floating_point()}
    return found, said.get("epoch", math.nan)
