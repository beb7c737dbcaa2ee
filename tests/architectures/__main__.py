"""Prints the lines of each architecture: ``python -m tests.architectures``.

Of its spec, of the class by hand and of the compiled one, without blank lines and the module's docstring. With the name
of one, both classes one after the other.
"""

from __future__ import annotations

import ast
import sys

from rich.console import Console
from rich.table import Table

import regspec

from . import FOLDER, NAMES
from .pairs import spec_of

MOST = 1.25


def main(names: list[str]) -> None:
    unknown = set(names) - set(NAMES)
    if unknown:
        sys.exit(f"no architecture is called {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    for name in names:
        print((FOLDER / f"{name}.py").read_text(), regspec.source(spec_of(name)), sep="\n\n")
    if names:
        return
    table = Table(
        "architecture", "spec", "by hand", "compiled", "ratio", title=f"lines; the ratio should be {MOST} at most"
    )
    above = 0
    for name in NAMES:
        spec = lines_of((FOLDER / f"{name}.yaml").read_text())
        hand = code_lines_of((FOLDER / f"{name}.py").read_text())
        compiled = code_lines_of(regspec.source(spec_of(name)))
        above += compiled > MOST * hand
        table.add_row(name, f"{spec}", f"{hand}", f"{compiled}", f"{compiled / hand:.2f}")
    Console().print(table, f"{above} of {len(NAMES)} are above", sep="\n")


def lines_of(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())


def code_lines_of(source: str) -> int:
    return lines_of(source) - lines_of(ast.get_source_segment(source, ast.parse(source).body[0]) or "")


if __name__ == "__main__":
    main(sys.argv[1:])
