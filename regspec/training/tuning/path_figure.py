"""The picture of a path: score, zeros and terms against the strength."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from regspec.training.tuning.pictures import CHOSEN, DOTS, tidied
from regspec.training.tuning.points import Point, Points
from regspec.training.tuning.scores import LABELS

SIMPLE = "#2c8a57"
MOST_TERMS = 10  # that have a line and a name each


def draw(points: Points, name: str, model: str) -> Figure:
    """The figure: panels below each other, over one axis of strengths.

    Args:
        points: of the path; one has a score.
        name: of the strength.
        model: its name.
    """
    scored = points.scored[::-1]
    has_zeros = any(each.zeros[1] for each in scored)
    figure = Figure(figsize=(8.2, 8.6 if has_zeros else 6.4), layout="constrained")
    panels = figure.subplots(3 if has_zeros else 2, 1, sharex=True, height_ratios=[3, *([2] * has_zeros), 2])
    panels[0].set_xscale("log")
    _scores(panels[0], points, scored)
    if has_zeros:
        _zeros(panels[1], scored)
    _terms(panels[-1], scored)
    for panel in panels:
        for point, color, dashes in ((points.best, CHOSEN, "-"), (points.simplest, SIMPLE, "--")):
            if point is not None:
                panel.axvline(point.strength, color=color, ls=dashes, lw=1.2, zorder=1)
        tidied(panel)
    panels[-1].set_xlabel(name, fontsize=11)
    figure.suptitle(f"{model}: a path of {len(points.points)} strengths, {name}", fontsize=13)
    return figure


def _scores(panel: Any, points: Points, scored: list[Point]) -> None:
    x, y = [each.strength for each in scored], [each.score or 0.0 for each in scored]
    errors = [each.error or 0.0 for each in scored]
    panel.errorbar(
        x, y, yerr=errors, color=DOTS, fmt="o-", ms=4.5, lw=1.2, elinewidth=0.9, capsize=2, label="± one standard error"
    )
    cold = [each for each in scored if each.cold is not None]
    if cold:
        label = "trained from the beginning"
        panel.scatter(
            [each.strength for each in cold],
            [each.cold[0] for each in cold if each.cold],
            marker="x",
            s=55,
            color="black",
            zorder=6,
            label=label,
        )
    best, simplest = points.best, points.simplest
    assert best is not None
    assert best.score is not None
    assert simplest is not None
    assert simplest.score is not None
    if best.error is not None:
        edge = best.score - best.error if points.is_maximized else best.score + best.error
        panel.axhspan(*sorted((edge, best.score)), color=CHOSEN, alpha=0.1, lw=0, zorder=0)
    told = f"best: {best.strength:.3g}  ({best.score:.4f})"
    panel.scatter([best.strength], [best.score], s=170, marker="*", color=CHOSEN, zorder=5, label=told)
    told = f"simplest within one error: {simplest.strength:.3g}  ({simplest.score:.4f})"
    panel.scatter(
        [simplest.strength], [simplest.score], s=80, marker="D", fc="none", ec=SIMPLE, lw=1.8, zorder=7, label=told
    )
    panel.set_ylabel(f"{LABELS[points.metric]}\n({'higher' if points.is_maximized else 'lower'} is better)")
    panel.legend(frameon=False, fontsize=9)


def _zeros(panel: Any, scored: list[Point]) -> None:
    x = [each.strength for each in scored]
    panel.plot(
        x,
        [each.zeros[0] / each.zeros[1] for each in scored],
        "o-",
        ms=4,
        lw=1.2,
        color=DOTS,
        label="weights that are zero",
    )
    if any(each.units for each in scored):
        shares = []
        for each in scored:
            left, all_units = (sum(both) for both in zip(*each.units.values(), strict=True))
            shares.append(left / all_units)
        panel.plot(x, shares, "s-", ms=4, lw=1.2, color="#d98324", label="units left")
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.set_ylim(-0.03, 1.03)
    panel.set_ylabel("share")
    panel.legend(frameon=False, fontsize=9)


def _terms(panel: Any, scored: list[Point]) -> None:
    """A line for each term; of many their sum."""
    names = list(dict.fromkeys(name for each in scored for name in each.metrics if name.startswith("penalty/")))
    lines = {name.removeprefix("penalty/"): [each.metrics.get(name, 0.0) for each in scored] for name in names}
    if len(lines) > MOST_TERMS:
        lines = {f"the sum of {len(lines)} terms": [sum(row) for row in zip(*lines.values(), strict=True)]}
    for name, values in lines.items():
        panel.plot([each.strength for each in scored], values, "o-", ms=3, lw=1.2, label=name)
    panel.set_yscale("symlog", linthresh=max(1e-6, 1e-4 * max((max(each) for each in lines.values()), default=1.0)))
    panel.set_ylabel("penalty of each term")
    panel.legend(frameon=False, fontsize=9)
