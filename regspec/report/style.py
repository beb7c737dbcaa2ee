"""The look of figures: their colours, in the light and in the dark, and how they become SVG for a page or a file.

Figures are drawn in the light colours. In a page's SVG each is replaced by a CSS variable, which the page sets. So one
picture serves for light and dark.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

COLOURS = {  # by role: in the light, in the dark
    "surface": ("#ffffff", "#16181d"),
    "raised": ("#f6f7f9", "#1e2128"),
    "ink": ("#1c2129", "#e7e9ee"),
    "muted": ("#636b78", "#a0a7b4"),
    "grid": ("#e1e4ea", "#31353e"),
    "accent": ("#1f5fbf", "#84b3ff"),
    "orange": ("#b84a08", "#ff9f5c"),
    "green": ("#0f7558", "#52d1a6"),
    "purple": ("#863b9e", "#d6a0f2"),
    "ochre": ("#7d6200", "#e2c344"),
    "pink": ("#b52d65", "#ff92b6"),
}
LIGHT = {role: light for role, (light, _) in COLOURS.items()}
SERIES = tuple(LIGHT[role] for role in ("accent", "orange", "green", "purple", "ochre", "pink"))
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))  # beside colours

WIDTH = 5.0  # inches of a panel; a point is a pixel of a phone
FONT = 9.5
DPI = 72  # so that a display unit is a point, which is the unit of SVG
_RC: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": LIGHT["muted"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": LIGHT["muted"],
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": False,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",  # which matplotlib brings; a page's own font takes its place
    "font.size": FONT,
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.8,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.hashsalt": "regspec",
    "text.color": LIGHT["ink"],
    "text.parse_math": False,  # names may hold dollars
    "xtick.color": LIGHT["muted"],
    "xtick.minor.size": 0,
    "ytick.color": LIGHT["muted"],
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}


@dataclass(frozen=True)
class Panel:
    """One picture: what it is called, what a reader sees in it, and how it is drawn into axes."""

    name: str
    title: str
    text: str  # what it shows, for a caption and for screen readers
    draw: Callable[[Axes], None]
    width: float = WIDTH  # inches
    height: float = 2.5
    is_bare: bool = False  # whether the drawing fills the picture, without axes
    left: float = 0.55  # inches of the margin for the labels of the axis


@contextmanager
def drawing() -> Iterator[None]:
    """Makes matplotlib draw in this look, and not warn of letters that its own font lacks."""
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")
        yield


def place(figure: Figure, panel: Panel, left: float = 0.0, top: float = 0.0, *, titled: bool = False) -> Axes:
    """The axes of a panel, drawn, with its corner at so many inches from the left and the top of a figure."""
    whole_width, whole_height = figure.get_size_inches()
    head = 0.38 if titled else 0.0
    margins = (0.0, 0.0, 0.0, 0.0) if panel.is_bare else (panel.left, 0.12, 0.42, 0.1)  # left, right, bottom, top
    width, height = panel.width - margins[0] - margins[1], panel.height - margins[2] - margins[3]
    bottom = whole_height - top - head - margins[3] - height
    axes = figure.add_axes(
        ((left + margins[0]) / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    )
    if panel.is_bare:
        axes.set_axis_off()
    panel.draw(axes)
    if titled:
        at = ((left + 0.12) / whole_width, (whole_height - top - 0.12) / whole_height)
        figure.text(*at, panel.title, va="top", size=FONT + 2, weight="bold")
    return axes


def svg(panel: Panel, prefix: str) -> str:
    """A panel as an SVG element for a page: its colours variables, and its ids beginning with ``prefix``."""
    with drawing():
        figure = Figure((panel.width, panel.height), dpi=DPI)
        axes = place(figure, panel)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
        hover = _hover(axes, panel.height * DPI)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>", "", text, flags=re.DOTALL)
    inner = text[text.index(">") + 1 :]
    inner = re.sub(r"<[^>]+>", lambda tag: _themed(tag[0], prefix), inner)
    inner = re.sub(r"\s*\n\s*", "\n", inner)  # between tags, not in texts
    box = f"0 0 {panel.width * DPI:g} {panel.height * DPI:g}"
    label = escape(f"{panel.title}: {panel.text}")
    return f'<svg role="img" aria-label="{label}" viewBox="{box}"{hover}>{inner.strip()}'


def _themed(tag: str, prefix: str) -> str:
    """A tag of an SVG with variables for colours and fonts, and ids of its own."""
    tag = re.sub("#[0-9a-f]{6}", lambda found: _VARIABLES.get(found[0], found[0]), tag)
    tag = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", tag)
    tag = re.sub(r'\bid="', f'id="{prefix}-', tag)
    return re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", tag)


_VARIABLES = {light: f"var(--{role})" for role, light in LIGHT.items()}


def _hover(axes: Axes, height: float) -> str:
    """An attribute with the points of the lines that have names, by which a script shows their values."""
    lines = [line for line in axes.lines if (line.get_gid() or "").startswith("line-")]
    if not lines:
        return ""
    points = []
    for line in lines:
        data = np.asarray(line.get_xydata())
        data = data[np.isfinite(data).all(axis=1)]
        known = [
            [f"{x:g}", _value(axes, float(y)), round(float(left), 1), round(height - float(up), 1)]
            for (x, y), (left, up) in zip(data, axes.transData.transform(data), strict=True)
        ]
        points.append({"name": line.get_label(), "points": known})
    return f' data-lines="{escape(json.dumps(points))}"'


def _value(axes: Axes, value: float) -> str:
    formatter = axes.yaxis.get_major_formatter()
    return f"{100 * value:.2f} %" if getattr(formatter, "is_percent", False) else f"{value:.4g}"


def percents() -> FuncFormatter:
    """A formatter of shares as per cent."""
    formatter = FuncFormatter(lambda value, _: f"{100 * value:.4g} %")
    formatter.is_percent = True  # type: ignore[attr-defined]  # by which values are shown on hovering
    return formatter


def grid(panels: list[Panel]) -> Figure:
    """A figure with panels side by side, each under its title, in rows of up to three."""
    columns = 1 if len(panels) == 1 else 2 if len(panels) in (2, 4) else 3
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [max(panel.height for panel in row) + 0.45 for row in rows]
    width = max(sum(panel.width for panel in row) for row in rows)
    figure = Figure((width, sum(heights)), dpi=DPI, facecolor=LIGHT["surface"])
    for index, row in enumerate(rows):
        for column, panel in enumerate(row):
            place(figure, panel, sum(each.width for each in row[:column]), sum(heights[:index]), titled=True)
    return figure
