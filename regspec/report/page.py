"""The page of one or several runs: one HTML file that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from regspec.graph.network import BlockNode, Graph
from regspec.report import figures, findings, style
from regspec.report.drawing import panel as drawn
from regspec.report.folded import read_folded, unfolded
from regspec.report.runs import Recorded, read_runs
from regspec.report.style import Panel
from regspec.text.seals import BLANK, sealed
from regspec.views.summary import Summary, summarize

MOST_BLOCKS = 8  # whose graphs are drawn


@dataclass(frozen=True)
class Picture:
    """A panel, drawn."""

    name: str
    title: str
    text: str
    svg: Markup
    width: float  # pixels at which its letters have the size of the page's small ones


def page(folders: Sequence[Path]) -> str:
    """The HTML text of a page on the runs in these folders, and on those of the folds in one that has some.

    Raises:
        RegspecError: where a folder is no run's, or a file in it can't be read.
    """
    runs = read_runs(unfolded(folders))
    folded = read_folded(folders, runs)
    numbers = count(1)

    def pictures(make: Callable[[Sequence[Recorded]], list[Panel]] | list[Panel], *of: Recorded) -> list[Picture]:
        panels = make if isinstance(make, list) else make(of)
        return [
            Picture(
                each.name,
                each.title,
                each.text,
                Markup(style.svg(each, f"f{next(numbers)}")),  # its texts are escaped by matplotlib
                each.width * style.DPI * 1.25,
            )
            for each in panels
        ]

    environment = Environment(
        loader=PackageLoader("regspec.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["breakable"] = breakable
    text = environment.get_template("page.html").render(
        seal=BLANK,
        runs=runs,
        folded=folded,
        names={run.name: str(run.about.get("spec") or run.name) for run in runs},
        colours=style.COLOURS,
        pictures=pictures,
        figures=figures,
        findings=findings,
        highlighted=highlighted,
        summary=summary,
        blocks=blocks,
    )
    return sealed(text.encode()).decode()


def highlighted(text: str, language: str) -> Markup:
    """A text as HTML, its words in classes by what they are."""
    # pygments has no types
    from pygments import highlight  # type: ignore[import-untyped]
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]

    return Markup(highlight(text, get_lexer_by_name(language), HtmlFormatter(nowrap=True)))  # it escapes


def breakable(name: str) -> Markup:
    """A name as HTML that may go on in a new line after a dot, a slash or an underscore."""
    return Markup(re.sub(r"([./_])", r"\1<wbr>", str(escape(name))))  # it is escaped


def summary(run: Recorded) -> Summary | None:
    """The layers of a run's model."""
    return None if run.graph is None else summarize(run.graph)


def blocks(run: Recorded) -> list[Panel]:
    """The graphs of a model's blocks, each kind once."""
    found: dict[str, Graph] = {}

    def visit(graph: Graph) -> None:
        for node in graph.nodes:
            if isinstance(node, BlockNode) and node.kind not in found:
                found[node.kind] = node.block
                visit(node.block)

    if run.graph is not None:
        visit(run.graph)
    return [drawn(graph, f"Block {name}") for name, graph in list(found.items())[:MOST_BLOCKS]]
