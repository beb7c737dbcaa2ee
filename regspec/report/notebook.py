"""How a run shows itself in a notebook: its sentence, its numbers, and its curves."""

from __future__ import annotations

from html import escape
from pathlib import Path
from zlib import crc32

from regspec.report import figures, findings, style
from regspec.report.runs import read_runs

# A notebook has a theme of its own: letters take its colour, and the others are such as can be seen on light and dark.
_COLOURS = dict.fromkeys(("ink", "muted"), "currentColor") | {
    "grid": "#8885",
    "surface": "transparent",
    "accent": "#3f83e8",
    "orange": "#d9651e",
    "green": "#1f9c78",
}


def shown(folder: Path) -> str:
    """The HTML by which the run in a folder shows itself. Raises `RegspecError` where it is no run's.

    The ids in its figures begin with a sum of the folder's name, so that another cell's are others.
    """
    (run,) = read_runs([folder])
    variables = "".join(f"--{role}: {colour}; " for role, colour in _COLOURS.items())
    numbers = "".join(
        f'<div><b style="font-size: 1.5em; font-weight: 600">{escape(each.value)}</b><br>{escape(each.label)}</div>'
        for each in findings.findings(run)
    )
    prefix = f"run-{crc32(str(folder).encode()):x}"
    pictures = "".join(
        f'<div style="flex: 1 1 300px; max-width: 420px"><b>{escape(panel.title)}</b>'
        f"{style.svg(panel, f'{prefix}-{index}')}</div>"
        for index, panel in enumerate(figures.curves([run]))
    )
    row = "display: flex; flex-wrap: wrap; gap: 12px 36px; margin: 10px 0"
    return (
        f'<div style="{variables}--sans: inherit">'
        f"<p><b>{escape(findings.headline(run))}.</b> {escape(findings.account(run))}</p>"
        f'<div style="{row}">{numbers}</div><div style="{row}">{pictures}</div>'
        f"<p><code>{escape(str(folder))}</code></p></div>"
    )
