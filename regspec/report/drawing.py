"""The graph of a model, drawn from top to bottom: a box a layer, a line a tensor, a block as one box.

graphlay places the boxes and leads the lines around them. Layers that only follow one another stand in a column, which
graphlay places as one box: so chains are straight, and graphs of hundreds of layers are quick.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import graphlay
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from regspec.code import shapes
from regspec.graph.network import BlockNode, Graph, LayerNode
from regspec.report.plots import short
from regspec.report.style import DPI, FONT, LIGHT, WIDTH, Panel
from regspec.views.summary import plural

LINE = 13.0  # points between the lines of a text
GAP = 22.0  # between a box and the one below it
BOX = 208.0  # the width of a box
CORNER = 7.0  # the radius of a line's corners
MARGIN = 8.0
OPTIONS = {
    "direction": "topbottom",
    "spacing": {"layer_gap": GAP, "node_gap": 18.0, "dummy_gap": 12.0},  # dummies: lines that pass a box
    "routing": {"port_sides": "facing_only"},  # lines begin below a box and end above one
}
Way = NDArray[np.float64]  # the points of a line, from its source down


@dataclass(eq=False)
class Box:
    """A layer, a block, an input or an output in the drawing."""

    title: str
    lines: tuple[str, ...]  # shape, and a line for each penalty
    role: str  # input, layer, block, output
    above: tuple[Box, ...] = ()  # the boxes whose outputs it takes
    x: float = 0.0  # of its centre, in points; y grows downwards
    y: float = 0.0

    @property
    def height(self) -> float:
        """In points."""
        return LINE * (1 + len(self.lines)) + 8


def panel(graph: Graph, title: str = "") -> Panel:
    """The drawing of a graph."""
    boxes, ways = laid_out(graph)
    corners = [(box.x + side * BOX / 2, box.y + side * box.height / 2) for box in boxes for side in (-1, 1)]
    points = np.concatenate([corners, *ways])
    low, high = points.min(axis=0) - MARGIN, points.max(axis=0) + MARGIN
    aside = max(0.0, (WIDTH * DPI - (high - low)[0]) / 2)  # a narrow drawing stands in the middle
    left, right = low[0] - aside, high[0] + aside
    layers = [box for box in boxes if box.role in ("layer", "block")]
    names = ", ".join(box.title for box in layers[:30]) + ", …" * (len(layers) > 30)
    text = f"{len(layers)} layers and blocks from the inputs at the top to the output at the bottom: {names}."
    draw = partial(_draw, boxes=boxes, ways=ways, limits=(left, right, high[1], low[1]))
    name = f"graph_{graph.name}" if title else "graph"
    width, height = (right - left) / DPI, (high - low)[1] / DPI
    return Panel(name, title or "Graph of the model", text, draw, width, height, is_bare=True)


def laid_out(graph: Graph) -> tuple[list[Box], list[Way]]:
    """The boxes of a graph, with their places, and the ways of the lines between them."""
    boxes = _boxes(graph)
    columns = _columns(boxes)
    at = {box: index for index, column in enumerate(columns) for box in column}
    asked = graphlay.Graph()
    for column in columns:
        asked.node(width=BOX, height=sum(box.height + GAP for box in column) - GAP)
    for box in boxes:
        for source in box.above:
            if at[source] != at[box]:
                asked.edge(at[source], at[box])
    found = graphlay.layout(asked, options=OPTIONS)
    for column, node in zip(columns, found.nodes, strict=True):
        top = node["center"]["y"] - node["size"]["height"] / 2
        for box in column:
            box.x, box.y = node["center"]["x"], top + box.height / 2
            top += box.height + GAP
    ways = [np.array([(point["x"], point["y"]) for point in edge["points"]]) for edge in found.edges]
    for column in columns:
        ways += [np.array([(a.x, a.y + a.height / 2), (b.x, b.y - b.height / 2)]) for a, b in pairwise(column)]
    return boxes, ways


def _boxes(graph: Graph) -> list[Box]:
    """A box for each input, layer and output, those that it takes before it."""
    made = {x: Box(x.source, (shapes.text(x.spec_shape),), "input") for x in graph.inputs}
    boxes = list(made.values())
    for node in graph.nodes:
        box = Box(*_described(graph, node), tuple(dict.fromkeys(made[x] for x in node.inputs)))
        made.update(dict.fromkeys(node.outputs, box))
        boxes.append(box)
    names = graph.output_names or tuple(
        "output" if graph.is_single else f"output {index + 1}" for index in range(len(graph.outputs))
    )
    for name, x in zip(names, graph.outputs, strict=True):
        boxes.append(Box(name, (shapes.text(x.spec_shape),), "output", (made[x],)))
    return boxes


def _described(graph: Graph, node: LayerNode | BlockNode) -> tuple[str, tuple[str, ...], str]:
    """What stands in a node's box: its name and kind; its shape, and its penalties; and its role."""
    title = f"{node.name} · {node.kind}{' (again)' * node.is_again}"
    lines = [", ".join(shapes.text(x.spec_shape) for x in node.outputs)]
    if isinstance(node, LayerNode):
        found = graph.penalties(node, node.name)
        return title, (*lines, *(f"{slot}: {regularizer}" for slot, regularizer in found.items())), "layer"
    terms = sum(len(node.block.penalties(each, each.name)) for each in node.block.layers())
    terms += sum(each.path.startswith(f"{node.path}.") for each in graph.coupled)
    if terms and not node.is_again:
        lines.append(plural(terms, "penalty", "penalties"))
    return title, tuple(lines), "block"


def _columns(boxes: list[Box]) -> list[list[Box]]:
    """The boxes in columns: a box stands below another if it takes only that one, which nothing else takes."""
    uses = Counter(source for box in boxes for source in box.above)
    column: dict[Box, list[Box]] = {}
    for box in boxes:
        is_next = len(box.above) == 1 and uses[box.above[0]] == 1
        column[box] = column[box.above[0]] if is_next else []
        column[box].append(box)
    return [each for box, each in column.items() if each[0] is box]


def _draw(axes: Axes, boxes: list[Box], ways: list[Way], limits: tuple[float, float, float, float]) -> None:
    axes.axis(limits)
    lines = Path.make_compound_path(*map(_rounded, ways))
    axes.add_patch(PathPatch(lines, fill=False, edgecolor=LIGHT["muted"], linewidth=1.1, capstyle="butt"))
    tips = np.array([way[-1] for way in ways]) - (0, 3)
    axes.plot(*tips.T, "v", color=LIGHT["muted"], markersize=6, markeredgewidth=0)
    for box in boxes:
        _draw_box(axes, box)


def _rounded(way: Way) -> Path:
    """A line with round corners."""
    points, codes = [way[0]], [Path.MOVETO]
    for before, corner, after in zip(way, way[1:], way[2:], strict=False):
        sides = (before - corner, after - corner)
        start, end = (corner + side * min(0.5, CORNER / max(CORNER, np.abs(side).max())) for side in sides)
        points += [start, corner, end]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*points, way[-1]], [*codes, Path.LINETO])


def _draw_box(axes: Axes, box: Box) -> None:
    is_penalized, is_end = len(box.lines) > 1, box.role in ("input", "output")
    left, top = box.x - BOX / 2, box.y - box.height / 2
    style = f"round,pad=0,rounding_size={11 if is_end else 5}"
    fill, edge = LIGHT["surface" if is_end else "raised"], LIGHT["accent" if is_penalized else "grid"]
    for aside in (3, 0) if box.role == "block" else (0,):  # a block has another box behind it
        corner = (left + aside, top + aside)
        axes.add_patch(FancyBboxPatch(corner, BOX, box.height, style, facecolor=fill, edgecolor=edge, linewidth=1.1))
    for index, text in enumerate((box.title, *box.lines)):
        colour = LIGHT["ink"] if index == 0 else LIGHT["muted"] if index == 1 else LIGHT["accent"]
        size = FONT if index == 0 else FONT - 1
        y = top + 4 + LINE * (index + 0.5)
        axes.text(box.x, y, short(text, 34), ha="center", va="center_baseline", color=colour, size=size)
