"""Folds as one: what the models say of examples that they did not see, of all of these and fold by fold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regspec.report.findings import Table
from regspec.report.findings import title as title_of
from regspec.report.matrices import matrix_panel
from regspec.report.plots import percent
from regspec.report.runs import FOLDS, Recorded, read_json
from regspec.report.style import Panel
from regspec.text.problems import Problem, RegspecError

SHARES = ("accuracy", "balanced_accuracy")  # told as per cent


@dataclass(frozen=True)
class Folded:
    """The runs of all folds of a folder, and what came of them as one.

    The ``table`` has a row for each figure of each output: of all examples as one, the mean over the folds, and each
    fold's; it is None where the folder does not say it yet.
    """

    folder: Path
    runs: tuple[Recorded, ...]
    headline: str
    table: Table | None

    @property
    def confusions(self) -> list[Panel]:
        """Which class is taken for which, over all folds."""
        found = []
        for output, first in self.runs[0].held_out.confusions.items():
            parts = [run.held_out.confusions.get(output) for run in self.runs]
            known = [each.counts for each in parts if each is not None and each.classes == first.classes != ()]
            if len(known) == len(parts):
                title, counts = f"Confusion of {output}", np.sum(known, 0)
                found.append(matrix_panel("confusion", title, first.classes, counts, ", over all folds"))
        return found


def _headline(runs: Sequence[Recorded], pooled: Mapping[str, Any]) -> str:
    """What came out, in a sentence."""
    name = title_of(runs[0])
    if not pooled:
        return f"{name} in {len(runs)} folds"
    seen = f"{pooled['examples']:,} examples, each told by the model that did not see it"
    outputs = [*pooled["outputs"].values()]
    if len(outputs) == 1 and "accuracy" in outputs[0]["metrics"]:
        return f"{name} gets {percent(outputs[0]['metrics']['accuracy'])} right of {seen}"
    loss = f"{outputs[0]['loss_name']} loss" if len(outputs) == 1 else "loss"
    return f"{name} has a {loss} of {pooled['loss']:.3g} on {seen}"


def _table(pooled: Mapping[str, Any], figures: Mapping[str, Any]) -> Table | None:
    rows, count = [], 0
    for output, by_name in figures.items():
        own = pooled["outputs"][output]
        whole = {"loss": own["loss"], **own["metrics"]}
        for name, each in by_name.items():
            values = [whole.get(name, math.nan), each["mean"], each["deviation"], *each["folds"]]
            count = len(each["folds"])
            rows.append([f"{output} {name}", *map(percent if name in SHARES else _number, values)])
    head = ["", "all as one", "mean", "standard deviation", *(f"fold {number}" for number in range(1, count + 1))]
    return Table(head, rows) if rows else None


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else ""


def unfolded(folders: Sequence[Path]) -> list[Path]:
    """The folders of runs, with those of its folds in place of each that has some."""
    return [each for folder in folders for each in (_folds_of(folder) or [folder])]


def read_folded(folders: Sequence[Path], runs: Sequence[Recorded]) -> list[Folded]:
    """The folds as one of each folder that has some, whose runs are among those that were read.

    Raises:
        RegspecError: where what it says of them can't be read.
    """
    by_folder, found = {run.folder: run for run in runs}, []
    for folder in folders:
        if own := tuple(by_folder[each] for each in _folds_of(folder)):
            path = folder / FOLDS
            try:
                kept = read_json(path).get("out_of_fold") or {"pooled": {}, "figures": {}}
                table = _table(kept["pooled"], kept["figures"])
                found.append(Folded(folder, own, _headline(own, kept["pooled"]), table))
            except (KeyError, TypeError, ValueError, AttributeError):
                raise RegspecError(Problem("does not say what came of the folds", path=str(path))) from None
    return found


def _folds_of(folder: Path) -> list[Path]:
    """The folders of the folds that are begun in a folder; none where it is another one."""
    if not (folder / FOLDS).is_file():
        return []
    found = [each for each in folder.glob("fold_*") if each.name.removeprefix("fold_").isdecimal()]
    found = sorted(found, key=lambda each: int(each.name.removeprefix("fold_")))
    if not found:
        raise RegspecError(Problem("has no fold that was begun", path=str(folder)))
    return found
