"""The picture of a search: each trial's score against each parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from regspec.specs.model import ModelSpec
from regspec.specs.searches import Range, Search
from regspec.text.dumping import written
from regspec.training.tuning.pictures import CHOSEN, DOTS, QUIET, tidied
from regspec.training.tuning.scores import Scores, Trial

WIDTH, HEIGHT = 5.2, 4.4  # inches, of one panel
COLUMNS = 3
MARKED = 6  # scores off the chart that are written beside their marks
_BESIDE: Any = {"textcoords": "offset points", "ha": "center", "rotation": 90, "fontsize": 8, "color": QUIET}
FAR = 4.0  # the axis is cut where a score is this many times farther from the best than most scores are


def draw(scores: Scores, spec: ModelSpec, defaults: Mapping[str, Any] | None = None) -> Figure:
    """The figure: a panel for each searched parameter, and each searched option, whose defaults are given."""
    names = [*scores.searches]
    columns = 2 if len(names) == 4 else min(len(names), COLUMNS)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(WIDTH * columns, 7.6), HEIGHT * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    _limit(panels[0, 0], scores)
    for name, panel in zip(names, panels.flat, strict=False):
        _panel(panel, scores, name, {**spec.parameters, **(defaults or {})}[name])
    for panel in panels.flat[len(names) :]:
        panel.remove()
    for row in panels:
        row[0].set_ylabel(f"{scores.label} ({'higher' if scores.is_maximized else 'lower'} is better)")
    best = scores.best
    found = "" if best is None else "best: " + ", ".join(f"{name} = {_short(best.values[name])}" for name in names)
    figure.suptitle(f"{spec.name}, {len(scores.trials)} trials\n{found}", fontsize=13)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 if columns == 1 else 4, frameon=False)
    return figure


def _limit(panel: Any, scores: Scores) -> None:
    """Cuts the axis of scores where a few that are far off would flatten the others."""
    values = np.array([each.score for each in scores.trials if each.score is not None])
    if scores.best is None or scores.best.score is None:
        return
    best = scores.best.score
    off = np.abs(values - best)
    most = max(float(np.quantile(off, 0.75)), 2 * (scores.error or 0.0))
    room = 1.35 * (most if off.max() > FAR * most else float(off.max())) or abs(best) / 10 or 1.0
    above = 0.25 * room  # for the star and its name
    panel.set_ylim(*((best - room, best + above) if scores.is_maximized else (best - above, best + room)))


def _panel(panel: Any, scores: Scores, name: str, default: Any) -> None:
    search = scores.searches[name]
    low, high = panel.get_ylim()
    scored = [each for each in scores.trials if each.score is not None]
    shown = [each for each in scored if low <= float(each.score or 0.0) <= high]
    complete = [each for each in shown if each.state == "complete"]
    pruned = [each for each in shown if each.state == "pruned"]
    best = scores.best
    panel.axvline(_place(search, default), color=QUIET, ls=":", lw=1.4, zorder=1, label="the default")
    if best is not None and best.score is not None and scores.error is not None:
        label = f"as good within one standard error ({scores.held_out:,} examples)"
        panel.axhspan(best.score - scores.error, best.score, color=CHOSEN, alpha=0.1, lw=0, zorder=0, label=label)
    if len(scores.searches) == 1 and isinstance(search, Range):
        line = sorted((each for each in scored if each.state == "complete"), key=lambda each: each.values[name])
        panel.plot(*_points(line, search, name), color=DOTS, alpha=0.3, lw=1.2, zorder=2)
    panel.scatter(*_points(complete, search, name), s=34, color=DOTS, zorder=3, label="a trial")
    if pruned:
        panel.scatter(*_points(pruned, search, name), s=34, fc="none", ec=DOTS, zorder=3, label="a trial, pruned early")
    far = [each for each in scored if each not in shown]
    diverged = [each for each in scores.trials if each.score is None]
    edge = 0.025 if scores.is_maximized else 0.975
    arrow = "v" if scores.is_maximized else "^"
    for trials, marker, label in ((far, arrow, "far worse, off the chart"), (diverged, "x", "diverged")):
        if trials:
            x, _ = _points(trials, search, name)
            across = panel.get_xaxis_transform()
            panel.scatter(x, [edge] * len(x), s=40, transform=across, marker=marker, color=QUIET, label=label)
    side = (6, "bottom") if scores.is_maximized else (-6, "top")
    inwards = {**_BESIDE, "xytext": (0, side[0]), "va": side[1]}
    for trial in far[:MARKED]:
        where = (_place(search, trial.values[name]), edge)
        panel.annotate(f"{trial.score:.3g}", where, xycoords=panel.get_xaxis_transform(), **inwards)
    if not isinstance(search, Range):
        panel.set_xticks(range(len(search.choices)), [_short(each) for each in search.choices])
        panel.set_xlim(-0.5, len(search.choices) - 0.5)
    elif search.log:
        panel.set_xscale("log")
    elif search.is_whole:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    if best is not None and best.score is not None:
        _mark(panel, scores, _place(search, best.values[name]), best.score, f"{name} = {_short(best.values[name])}")
    panel.set_xlabel(name, fontsize=11)
    tidied(panel)


def _mark(panel: Any, scores: Scores, x: float, y: float, name: str) -> None:
    """Marks and names the chosen point, inside of the panel."""
    panel.scatter([x], [y], s=170, marker="*", color=CHOSEN, zorder=5, label="the best")
    across = panel.transAxes.inverted().transform(panel.transData.transform((x, y)))[0]
    panel.annotate(
        f"{name}  ({y:.4f})",
        (x, y),
        xytext=(0, 12 if scores.is_maximized else -12),
        textcoords="offset points",
        ha="left" if across < 0.25 else "right" if across > 0.75 else "center",
        va="bottom" if scores.is_maximized else "top",
        color=CHOSEN,
        fontweight="bold",
        zorder=6,
    )


def _points(trials: list[Trial], search: Search, name: str) -> tuple[list[float], list[float]]:
    return [_place(search, each.values[name]) for each in trials], [float(each.score or 0.0) for each in trials]


def _place(search: Search, value: Any) -> float:
    """Where a value stands on its parameter's axis."""
    if isinstance(search, Range):
        return float(value)
    return [written(each) for each in search.choices].index(written(value))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else written(value).replace('"', "")
