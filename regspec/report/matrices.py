"""A matrix of classes, drawn: each row's share by colour, and the counts in it.

scikit-learn's display colours by the counts, so that a rare class can't be seen, and as an image, which has no theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba

from regspec.report.plots import LETTER, short
from regspec.report.runs import Numbers
from regspec.report.style import DPI, FONT, LIGHT, WIDTH, Panel

NAME = 16  # characters of a class's name
CELL = 0.26  # inches: the least height of a row
LABEL = 0.2  # inches, of what the rows are
MOST = 0.75  # of the colour, so that a number on it can be read
_COLOURS = LinearSegmentedColormap.from_list("shares", [to_rgba(LIGHT["accent"], share) for share in (0.0, MOST)])


def matrix_panel(name: str, title: str, classes: Sequence[str], counts: Numbers, where: str = "") -> Panel:
    """A picture of how often a class (row) is taken for each class (column), and of which examples that is."""
    longest = max(len(short(each, NAME)) for each in classes)
    left = max(0.55, (longest * LETTER + 14) / DPI) + LABEL
    is_turned = (longest + 2) * LETTER / DPI > (WIDTH - left) / len(classes)
    foot = longest * LETTER / DPI if is_turned else 0.0
    height = 0.52 + max(1.6, len(classes) * CELL) + foot
    draw = partial(draw_matrix, classes=classes, counts=counts, foot=foot)
    right = f"{int(counts.trace()):,} of {int(counts.sum()):,} are right"
    text = (
        f"How often a class (row) is taken for each class (column){where}. {right}. The darker, the larger its share."
    )
    return Panel(name, title, text, draw, height=height, left=left)


def draw_matrix(axes: Axes, classes: Sequence[str], counts: Numbers, foot: float = 0.0) -> None:
    """Draws a matrix, the first class on top; names below stand upright where ``foot``, in inches, is for them."""
    assert axes.figure is not None
    left, bottom, width, height = axes.get_position().bounds
    rise = foot / axes.figure.get_figure(root=True).get_size_inches()[1]
    axes.set_position((left, bottom + rise, width, height - rise))
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    axes.pcolormesh(shares, cmap=_COLOURS, vmin=0, vmax=1, edgecolors=LIGHT["grid"], linewidth=0.6)
    axes.invert_yaxis()
    cell = axes.bbox.width / len(classes)
    for row, column in np.argwhere(counts > 0):
        number = str(int(counts[row, column]))
        size = min(FONT, cell / (0.65 * len(number)))  # so that a number stays in its cell
        axes.text(column + 0.5, row + 0.5, number, ha="center", va="center", size=size, color=LIGHT["ink"])
    names, places = [short(each, NAME) for each in classes], np.arange(len(classes)) + 0.5
    axes.set_xticks(places, names, rotation=90 if foot else 0)
    axes.set_yticks(places, names)
    axes.set_ylabel("is", labelpad=1)
    axes.set_xlabel("taken for", labelpad=1)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
