"""The import statements of a printed file, grouped and sorted as ruff sorts them where regspec is installed."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from regspec.code.expressions import Import
from regspec.targets.python.layout import WIDTH, Brackets, Statement, beside

_PACKAGES = ("regspec", "torch")


@dataclass
class Imports:
    """What a file imports: modules as they are, and names from modules."""

    modules: set[str] = field(default_factory=set)
    names: dict[str, dict[str, str]] = field(
        default_factory=lambda: defaultdict(dict)
    )  # module -> name there -> name here

    @property
    def known(self) -> set[str]:
        """Every name that the statements bind."""
        return {*self.modules, *(here for names in self.names.values() for here in names.values())}

    @property
    def foreign(self) -> list[str]:
        """The packages that are neither Python's own, nor torch or regspec."""
        modules = {*self.modules, *self.names}
        return sorted({module.partition(".")[0] for module in modules if _group_of(module) == 3})

    def module(self, module: str) -> None:
        """Adds ``import module``."""
        self.modules.add(module)

    def name(self, module: str, name: str, renamed: str | None = None) -> None:
        """Adds ``from module import name``, or ``name as renamed``."""
        self.names[module][name] = renamed or name

    def unique(self, wanted: Import) -> str:
        """Adds an import under its name, or under another if something else has it; gives the name."""
        here = {mine: (module, there) for module, names in self.names.items() for there, mine in names.items()}
        mine, number = wanted.name, 1
        while here.get(mine, (wanted.module, wanted.name)) != (wanted.module, wanted.name):
            number += 1
            mine = f"{wanted.name}_{number}"
        self.name(wanted.module, wanted.name, mine)
        return mine

    def text(self) -> str:
        """The statements."""
        groups = ("".join(f"{line}\n" for line in self._group(number)) for number in range(4))
        return "\n".join(group for group in groups if group).rstrip("\n")

    def _group(self, number: int) -> Iterator[str]:
        for module in sorted(module for module in self.modules if _group_of(module) == number):
            yield f"import {module}"
        for module in sorted(module for module in self.names if _group_of(module) == number):
            names = sorted(self.names[module].items(), key=lambda pair: order_of(pair[0]))
            same = [there for there, here in names if there == here]
            if same:
                yield from _names(module, same)
            yield from (f"from {module} import {there} as {here}" for there, here in names if there != here)


def _names(module: str, names: list[str]) -> Iterator[str]:
    """The lines of ``from module import names``, in parentheses where they are too many for one."""
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= WIDTH:
        yield line
    else:
        yield from Statement(beside(f"from {module} import ", Brackets("(", tuple(names), ")"))).lines(0)


def _group_of(module: str) -> int:
    """Ruff's section: the future, the standard library, packages, the user's own."""
    root = module.partition(".")[0]
    return 0 if root == "__future__" else 1 if root in sys.stdlib_module_names else 2 if root in _PACKAGES else 3


def order_of(name: str) -> tuple[int, str, str]:
    """Ruff's order of names: constants, classes, the rest; of each, capital and small letters alike."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name.lower(), name)
