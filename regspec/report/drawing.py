"""The graph of a model, drawn from top to bottom: a box a layer, a line a tensor, a block as one box.

Layers stand on ranks by the longest way from the inputs, as in Sugiyama's method: a line over several ranks passes each
of them at a place of its own; in each rank places are ordered by the means of their neighbours, and then moved near to
them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from regspec.code import shapes
from regspec.code.shapes import Symbol
from regspec.graph.network import BlockNode, Graph, LayerNode
from regspec.report.plots import short
from regspec.report.style import DPI, FONT, LIGHT, WIDTH, Panel
from regspec.views.summary import plural

LINE = 13.0  # points between the lines of a text
GAP = 22.0  # between ranks
ASIDE = 18.0  # between boxes of a rank
BOX = 208.0  # the width of a box
SWEEPS = 12


@dataclass(eq=False)
class Box:
    """A layer in the drawing; or, without lines, a place at which a line between others passes a rank."""

    title: str
    lines: tuple[str, ...] = ()  # shape, and a line for each penalty
    role: str = "layer"  # input, layer, block, output, pass
    rank: int = 0
    x: float = 0.0
    y: float = 0.0
    above: list[Box] = field(default_factory=list)
    below: list[Box] = field(default_factory=list)

    @property
    def width(self) -> float:
        """In points."""
        return 6.0 if self.role == "pass" else BOX

    @property
    def height(self) -> float:
        """In points."""
        return 0.0 if self.role == "pass" else LINE * (1 + len(self.lines)) + 8


def panel(graph: Graph, title: str = "") -> Panel:
    """The drawing of a graph."""
    boxes = laid_out(graph)
    width = max((box.x + box.width / 2 for box in boxes), default=0) + 8
    height = max((box.y + box.height / 2 for box in boxes), default=0) + 8
    layers = [box for box in boxes if box.role in ("layer", "block")]
    names = ", ".join(box.title for box in layers[:30]) + ", …" * (len(layers) > 30)
    text = f"{len(layers)} layers and blocks from the inputs at the top to the output at the bottom: {names}."
    draw = partial(_draw, boxes=boxes, width=width, height=height)
    name = f"graph_{graph.name}" if title else "graph"
    return Panel(name, title or "Graph of the model", text, draw, max(width / DPI, WIDTH), height / DPI, is_bare=True)


def laid_out(graph: Graph) -> list[Box]:
    """The boxes of a graph with their places, in points from the upper left."""
    boxes = _boxes(graph)
    for box in boxes:  # sources come first
        box.rank = max((each.rank + 1 for each in box.above), default=0)
    for box in reversed(boxes):  # an input stands just above what takes it
        if not box.above and box.below:
            box.rank = min(each.rank for each in box.below) - 1
    boxes = [*boxes, *_passes(boxes)]
    ranks: list[list[Box]] = [[] for _ in range(1 + max(box.rank for box in boxes))]
    for box in boxes:
        ranks[box.rank].append(box)
    _order(ranks)
    _move(ranks)
    top = 6.0
    for rank in ranks:
        height = max(box.height for box in rank)
        for box in rank:
            box.y = top + height / 2
        top += height + GAP
    return boxes


def _boxes(graph: Graph) -> list[Box]:
    """A box for each input, layer and output, those before it above it."""
    boxes, made = [], dict[Symbol, Box]()
    for x in graph.inputs:
        made[x] = Box(x.source, (shapes.text(x.logical),), "input")
        boxes.append(made[x])
    for node in graph.nodes:
        box = Box(*_described(node))
        _join(list(dict.fromkeys(made[x] for x in node.inputs)), box)
        made.update(dict.fromkeys(node.outputs, box))
        boxes.append(box)
    names = graph.output_names or tuple(
        "output" if graph.is_single else f"output {index + 1}" for index in range(len(graph.outputs))
    )
    for name, x in zip(names, graph.outputs, strict=True):
        box = Box(name, (shapes.text(x.logical),), "output")
        _join([made[x]], box)
        boxes.append(box)
    return boxes


def _described(node: LayerNode | BlockNode) -> tuple[str, tuple[str, ...], str]:
    """What stands in a node's box: its name and kind; its shape, and its penalties."""
    title = f"{node.name} · {node.kind}{' (again)' * node.is_again}"
    lines = [", ".join(shapes.text(x.logical) for x in node.outputs)]
    if isinstance(node, LayerNode):
        return title, (*lines, *(f"{term.slot}: {term.regularizer}" for term in node.resolved.terms)), "layer"
    terms = sum(len(each.resolved.terms) for each in node.block.layers())
    if terms and not node.is_again:
        lines.append(plural(terms, "penalty", "penalties"))
    return title, tuple(lines), "block"


def _join(sources: list[Box], box: Box) -> None:
    box.above.extend(sources)
    for source in sources:
        source.below.append(box)


def _passes(boxes: list[Box]) -> list[Box]:
    """Places at which lines pass the ranks between their ends; put between these."""
    made = []
    for box in boxes:
        for index, below in enumerate(box.below):
            last = box
            for rank in range(box.rank + 1, below.rank):
                place = Box("", (), "pass", rank, above=[last])
                if last is box:
                    box.below[index] = place
                else:
                    last.below.append(place)
                made.append(place)
                last = place
            if last is not box:
                last.below.append(below)
                below.above[below.above.index(box)] = last
    return made


def _order(ranks: list[list[Box]]) -> None:
    """Orders each rank by the mean places of the neighbours, from above and from below in turn."""
    place = {id(box): float(index) for rank in ranks for index, box in enumerate(rank)}
    for sweep in range(SWEEPS):
        is_down = sweep % 2 == 0
        for rank in ranks if is_down else ranks[::-1]:
            means = {}
            for box in rank:
                neighbours = box.above if is_down else box.below
                places = [place[id(each)] for each in neighbours]
                means[id(box)] = sum(places) / len(places) if places else place[id(box)]
            rank.sort(key=lambda box: means[id(box)])
            place.update({id(box): float(index) for index, box in enumerate(rank)})


def _move(ranks: list[list[Box]]) -> None:
    """Gives each box its x: near to the mean of its neighbours, apart from the others of its rank."""
    for rank in ranks:
        _place(rank, np.zeros(len(rank)))
    for sweep in range(2 * SWEEPS):
        for rank in ranks if sweep % 2 == 0 else ranks[::-1]:
            wanted = []
            for box in rank:
                neighbours = [*box.above, *box.below]
                wanted.append(np.mean([each.x for each in neighbours]) if neighbours else box.x)
            _place(rank, np.array(wanted))
    left = min(box.x - box.width / 2 for rank in ranks for box in rank)
    for rank in ranks:
        for box in rank:
            box.x += 8 - left


def _place(rank: list[Box], wanted: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Puts the boxes of a rank where they are wanted, or as near as their order and widths allow.

    These are the least squares of the distances: isotonic regression by pooling neighbours that would overlap.
    """
    offsets, at = [], 0.0
    for before, box in zip([None, *rank[:-1]], rank, strict=True):
        if before is not None:
            at += (before.width + box.width) / 2 + ASIDE
        offsets.append(at)
    pools: list[tuple[float, int]] = []  # mean, and number, of boxes that stand close
    for wish in wanted - np.array(offsets):
        pools.append((float(wish), 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n), (b, m) = pools[-2:]
            pools[-2:] = [((a * n + b * m) / (n + m), n + m)]
    starts = [mean for mean, number in pools for _ in range(number)]
    for box, start, offset in zip(rank, starts, offsets, strict=True):
        box.x = start + offset


FILLS = {"input": "surface", "output": "surface", "layer": "raised", "block": "raised"}


def _draw(axes: Axes, boxes: list[Box], width: float, height: float) -> None:
    whole = max(width, WIDTH * DPI)
    axes.set_xlim(-(whole - width) / 2, width + (whole - width) / 2)
    axes.set_ylim(height, 0)
    for box in boxes:
        for below in box.below:
            _draw_line(axes, box, below)
    for box in boxes:
        if box.role != "pass":
            _draw_box(axes, box)


def _draw_line(axes: Axes, box: Box, below: Box) -> None:
    start, end = box.y + box.height / 2, below.y - below.height / 2
    half = (start + end) / 2
    ways = [(box.x, start), (box.x, half), (below.x, half), (below.x, end)]
    path = Path(ways, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    axes.add_patch(PathPatch(path, fill=False, edgecolor=LIGHT["muted"], linewidth=1.1, capstyle="butt"))
    if below.role != "pass":
        tip = [(below.x - 3.5, end - 6), (below.x, end), (below.x + 3.5, end - 6), (0, 0)]
        head = Path(tip, [Path.MOVETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY])
        axes.add_patch(PathPatch(head, facecolor=LIGHT["muted"], linewidth=0))


def _draw_box(axes: Axes, box: Box) -> None:
    is_penalized = len(box.lines) > 1
    edge = LIGHT["accent"] if is_penalized else LIGHT["grid"]
    rounding = 11 if box.role in ("input", "output") else 5
    corner = (box.x - box.width / 2, box.y - box.height / 2)
    style = f"round,pad=0,rounding_size={rounding}"
    fill = LIGHT[FILLS[box.role]]
    if box.role == "block":  # another behind it
        behind = (corner[0] + 3, corner[1] + 3)
        axes.add_patch(FancyBboxPatch(behind, box.width, box.height, boxstyle=style, facecolor=fill, edgecolor=edge))
    axes.add_patch(
        FancyBboxPatch(corner, box.width, box.height, boxstyle=style, facecolor=fill, edgecolor=edge, linewidth=1.1)
    )
    for index, text in enumerate((box.title, *box.lines)):
        colour = LIGHT["ink"] if index == 0 else LIGHT["muted"] if index == 1 else LIGHT["accent"]
        y = corner[1] + 4 + LINE * (index + 0.5)
        size = FONT if index == 0 else FONT - 1
        axes.text(box.x, y, short(text, 34), ha="center", va="center_baseline", color=colour, size=size)
