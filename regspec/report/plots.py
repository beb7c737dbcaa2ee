"""Ways to draw: lines over epochs with their names beside them, histograms, and bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from regspec.report.runs import Numbers
from regspec.report.style import DPI, FONT, LIGHT, WIDTH, percents

LETTER = 0.56 * FONT  # points, on the average
STEPS = [1, 2, 5, 10]  # between ticks
ORDERS = 30.0  # lines that differ by this factor are drawn on a logarithmic scale


@dataclass(frozen=True)
class Line:
    """A named line over epochs."""

    name: str
    epochs: Numbers
    values: Numbers
    colour: str
    dash: Any = "-"
    is_thin: bool = False  # and without a label
    group: str = ""  # the run that it belongs to

    @property
    def known(self) -> Numbers:
        """The values that are finite."""
        return self.values[np.isfinite(self.values)]


def needs_logarithm(lines: Sequence[Line]) -> bool:
    """Whether the values differ by orders of magnitude, and none is negative."""
    known = np.concatenate([line.known for line in lines])
    positive = known[known > 0]
    if not len(positive) or (known < 0).any():
        return False
    return bool(positive.max() / positive.min() > ORDERS)


def draw_lines(axes: Axes, lines: Sequence[Line], *, is_share: bool = False, is_logarithmic: bool = False) -> None:
    """Draws lines over epochs, each with its name at its end."""
    longest = max((len(short(line.name)) for line in lines if not line.is_thin), default=0)
    _widen_margin(axes, longest * LETTER + 12)
    for index, line in enumerate(lines):
        values = np.where(np.isfinite(line.values), line.values, np.nan)
        if is_logarithmic:
            values = np.where(values > 0, values, np.nan)
        alone = np.isfinite(values).sum() == 1
        axes.plot(
            line.epochs,
            values,
            color=line.colour,
            linestyle=line.dash,
            linewidth=1.0 if line.is_thin else 1.9,
            alpha=0.6 if line.is_thin else 1.0,
            marker="o" if alone else "",
            markersize=4,
            label=line.name,
            gid=f"line-{index}",
            zorder=3 + (not line.is_thin),
        )
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=STEPS))
    last = max((line.epochs[-1] for line in lines if len(line.epochs)), default=1)
    first = min((line.epochs[0] for line in lines if len(line.epochs)), default=1)
    axes.set_xlim(first - (first == last), last + (first == last))
    axes.set_xlabel("epoch", loc="left", labelpad=1)
    if is_logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=STEPS))
        axes.yaxis.set_major_formatter(percents() if is_share else FuncFormatter(lambda value, _: f"{value:g}"))
    axes.margins(y=0.06)
    _label(axes, [line for line in lines if not line.is_thin], is_logarithmic)


def _widen_margin(axes: Axes, points: float) -> None:
    """Makes room right of the axes for labels."""
    assert axes.figure is not None
    left, bottom, width, height = axes.get_position().bounds
    share = min(points, 0.42 * WIDTH * DPI) / (axes.figure.get_figure(root=True).get_size_inches()[0] * DPI)
    axes.set_position((left, bottom, width - share, height))


def _label(axes: Axes, lines: Sequence[Line], is_logarithmic: bool) -> None:
    """Writes the lines' names beside their ends, moved apart where they would lie on each other."""
    ends = []
    for line in lines:
        known = np.isfinite(line.values) & ((line.values > 0) | (not is_logarithmic))
        if known.any():
            last = np.flatnonzero(known)[-1]
            y = axes.transData.transform((line.epochs[last], line.values[last]))[1]
            ends.append((float(y), line))
    box = axes.bbox
    heights = spread([y for y, _ in ends], FONT * 1.25, box.y0, box.y1)
    for (_, line), y in zip(ends, heights, strict=True):
        axes.text(
            1.0 + 6 / box.width,
            (y - box.y0) / box.height,
            short(line.name),
            transform=axes.transAxes,
            color=line.colour,
            va="center_baseline",
            size=FONT,
        )


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights at least ``gap`` apart and in the same order, near to what they were, and above ``low``."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = [heights[index] for index in order]
    for index in range(1, len(placed)):
        placed[index] = max(placed[index], placed[index - 1] + gap)
    top = high
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], top)
        top = placed[index] - gap
    if placed and placed[0] < low:  # more than there is room for
        placed = [low + (high - low) * index / max(1, len(placed) - 1) for index in range(len(placed))]
    found = [0.0] * len(heights)
    for index, y in zip(order, placed, strict=True):
        found[index] = y
    return found


def short(name: str, length: int = 26) -> str:
    """A name, without its middle if it is long."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


@dataclass(frozen=True)
class Curve:
    """Points from 0 to 1, of which each stands for so many cases."""

    name: str
    x: Numbers
    y: Numbers
    counts: Numbers
    colour: str
    dash: Any = "-"


def draw_curves(axes: Axes, curves: Sequence[Curve], label: str) -> None:
    """Draws curves with their names at their ends, larger points of more cases, and the diagonal."""
    longest = max((len(short(each.name)) for each in curves), default=0)
    _widen_margin(axes, longest * LETTER + 12)
    axes.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=1, linestyle=(0, (2, 2)))
    for each in curves:
        axes.plot(each.x, each.y, color=each.colour, linestyle=each.dash, linewidth=1.6)
        share = each.counts / max(1.0, float(each.counts.sum()))
        axes.scatter(each.x, each.y, s=10 + 90 * np.sqrt(share), color=each.colour, zorder=3, linewidths=0)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.04, 1.06)
    axes.set_xlabel(label, loc="left", labelpad=1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5, steps=STEPS))
        axis.set_major_formatter(percents())
    _label(axes, [Line(each.name, each.x, each.y, each.colour) for each in curves if each.name], False)


@dataclass(frozen=True)
class Histogram:
    """How often values lie between edges, as shares, exact zeros apart."""

    name: str
    edges: Numbers
    shares: Numbers
    zeros: float
    colour: str
    is_filled: bool = False
    dash: Any = "-"


def draw_histograms(axes: Axes, histograms: Sequence[Histogram]) -> None:
    """Draws histograms over each other, and their names with what they leave out: exact zeros."""
    for each in histograms:
        axes.stairs(
            each.shares,
            each.edges,
            color=each.colour,
            fill=each.is_filled,
            linewidth=1.6,
            linestyle=each.dash,
            alpha=0.35 if each.is_filled else 1.0,
        )
    for index, each in enumerate(histograms):
        parts = [each.name, f"{percent(each.zeros)} zeros" if each.zeros > 0 else ""]
        axes.text(
            0.99,
            0.97 - index * 1.35 * FONT / axes.bbox.height,
            ", ".join(filter(None, parts)),
            transform=axes.transAxes,
            color=each.colour,
            ha="right",
            va="top",
        )
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=STEPS))
    axes.yaxis.set_major_formatter(percents())
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    highest = max((float(each.shares.max(initial=0)) for each in histograms), default=0.0) or 1.0
    axes.set_ylim(0, highest * (1.05 + 0.11 * len(histograms)))  # with room for the names


@dataclass(frozen=True)
class Bar:
    """A share with another around it, and a mark: exact zeros, nearly zeros, the zeros of the twin."""

    name: str
    share: float
    around: float
    mark: float | None = None


def draw_bars(axes: Axes, bars: Sequence[Bar]) -> None:
    """Draws shares as horizontal bars, the first one on top."""
    _widen_margin(axes, 40)
    places = np.arange(len(bars))[::-1]
    largest = max(max(bar.share, bar.around, bar.mark or 0.0) for bar in bars)
    widest = next(each for each in (0.05, 0.1, 0.2, 0.5, 1.0) if largest <= each or each == 1.0)
    axes.barh(places, [bar.around for bar in bars], height=0.62, color=LIGHT["accent"], alpha=0.25)
    axes.barh(places, [bar.share for bar in bars], height=0.62, color=LIGHT["accent"])
    for y, bar in zip(places, bars, strict=True):
        axes.text(
            max(bar.around, bar.mark or 0) + 0.015 * widest, y, percent(bar.share), va="center", color=LIGHT["ink"]
        )
        if bar.mark is not None:
            axes.plot([bar.mark] * 2, [y - 0.38, y + 0.38], color=LIGHT["orange"], linewidth=2)
    axes.set_yticks(places, [short(bar.name, 22) for bar in bars])
    axes.tick_params(axis="y", labelcolor=LIGHT["ink"])
    axes.set_xlim(0, widest)
    axes.set_ylim(-0.6, len(bars) - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=STEPS))
    axes.xaxis.set_major_formatter(percents())
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")


def percent(share: float) -> str:
    """A share as per cent: two digits below one, whole numbers never rounded to nothing or all."""
    if not math.isfinite(share):
        return "unknown"
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    if value < 0.01:
        return "under 0.01 %"
    return f"{value:.2g} %" if value < 1 else f"{min(value, 99.9):.1f} %"
