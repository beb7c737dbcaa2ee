"""Single figures of a run, as the bytes of files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from regspec.report import figures, style
from regspec.report.runs import Recorded, read_runs
from regspec.text.problems import Problem, RegspecError
from regspec.text.seals import BLANK, sealed

# What matplotlib writes into a figure's file, by its format. Without a date, the same run gives the same file.
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": BLANK},
    "svg": {"Creator": BLANK, "Date": None},
    "pdf": {"Creator": BLANK, "CreationDate": None},
}
SHARPNESS = 144  # pixels an inch, of PNG


def image(folder: Path, name: str, format: str = "png") -> bytes:  # noqa: A002  # as the option is named
    """A figure of the run in a folder: curves, terms, weights, sparsity, activities, calibration, confusion or graph.

    Raises:
        RegspecError: where there is no such figure or format, the run has nothing to draw in it, or is none.
    """
    if format not in METADATA:
        what = f"'{format}' is no format of figures" if format else "a figure's file needs an ending"
        raise RegspecError(Problem(what, f"it may be {', '.join(METADATA)}"))
    figures.named(name)
    (run,) = read_runs([folder])
    if (made := _image(run, name, format)) is None:
        hint = " ".join(run.missing) or None
        raise RegspecError(Problem(f"holds nothing for the figure '{name}'", hint, str(folder)))
    return made


def images(folder: Path) -> dict[str, bytes]:
    """All figures for which the run in a folder holds something, as PNG by the files' names. Raises `RegspecError`."""
    (run,) = read_runs([folder])
    made = {f"{name}.png": _image(run, name, "png") for name in figures.FIGURES}
    return {name: each for name, each in made.items() if each is not None}


def _image(run: Recorded, name: str, kind: str) -> bytes | None:
    with style.drawing():
        panels = figures.FIGURES[name]([run])
        if not panels:
            return None
        file = io.BytesIO()
        style.grid(panels).savefig(file, format=kind, dpi=SHARPNESS, metadata=METADATA[kind])
    return sealed(file.getvalue())
