"""The README's table of kinds, generated: ``python -m tests.readme`` writes it anew."""

from __future__ import annotations

import inspect
from pathlib import Path

from regspec.layers import KINDS, Layer
from regspec.layers.registration import Registered

PATH = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- kinds: python -m tests.readme -->\n"
END = "<!-- end of kinds -->\n"
SLOTS = ("kernel", "depthwise", "pointwise", "recurrent", "embeddings", "gamma", "beta", "alpha", "bias")


def kinds() -> str:
    """The tables: for each family of kinds, what they compute and their slots."""
    own = {name: kind for name, kind in KINDS.items() if not issubclass(kind, Registered)}
    operations = {name: kind for name, kind in own.items() if ".operations." in kind.__module__}
    layers = {name: kind for name, kind in own.items() if name not in operations}
    summary = f"<details><summary>{len(operations)} operations, as Keras records them as layers</summary>"
    return f"{_tables(layers)}\n{summary}\n\n{_tables(operations)}\n</details>\n"


def _tables(kinds: dict[str, type[Layer]]) -> str:
    families = sorted({_family(kind) for kind in kinds.values()})
    return "\n".join(
        _table(family, {name: kind for name, kind in kinds.items() if _family(kind) == family}) for family in families
    )


def _table(family: str, members: dict[str, type[Layer]]) -> str:
    lines = [f"| {family} | computes | slots |", "|---|---|---|"]
    for name, kind in members.items():
        summary = inspect.getdoc(kind).partition("\n")[0].rstrip(".").replace("|", "\\|")
        slots = [slot for slot in SLOTS if f"{slot}_regularizer" in kind.model_fields]
        lines.append(f"| {name} | {summary} | {', '.join(slots)} |")
    return "".join(f"{line}\n" for line in lines)


def _family(kind: type[Layer]) -> str:
    return kind.__module__.rpartition(".")[2]


def updated(text: str) -> str:
    """The README's text with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + kinds() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PATH.write_text(updated(PATH.read_text(encoding="utf-8")), encoding="utf-8")
