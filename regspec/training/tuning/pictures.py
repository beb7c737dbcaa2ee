"""What pictures of searches and of paths have in common: their colours, and their two forms."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure

DOTS, CHOSEN, QUIET = "#3b6ea8", "#c2334d", "#8a8f98"


def png_and_svg(figure: Figure) -> tuple[bytes, bytes]:
    """The picture as PNG and as SVG, the same each time."""
    made = []
    for kind in ("png", "svg"):
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else {})
        made.append(content.getvalue())
    return made[0], made[1]


def tidied(panel: Any) -> None:
    """Draws a light grid behind a panel, and no lines above it and on its right."""
    panel.grid(alpha=0.25, lw=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
