"""Options with dots, ``--outputs.price.loss huber``, as what they stand for: ``--outputs price.loss=huber``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperCommand

from regspec.training.options.said import parted

DOTTED = ("--outputs", "--columns")


class WithDots(TyperCommand):
    """A command that takes an option for each key of each output, and for each column."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the arguments, those with dots as the option that they stand for."""
        return super().parse_args(ctx, [*undotted(args)])


def undotted(args: list[str]) -> Iterator[str]:
    """The arguments, with ``--outputs KEY=VALUE`` in place of ``--outputs.KEY VALUE`` and ``--outputs.KEY=VALUE``."""
    left = iter(args)
    for each in left:
        option, is_dotted, rest = each.partition(".")
        if each == "--":
            yield from (each, *left)
        elif is_dotted and option in DOTTED:
            key, value = parted(rest)
            if value is None and (value := next(left, "")) == "":
                raise typer.BadParameter("it needs a value", param_hint=each)
            yield from (option, f"{key}={value}")
        else:
            yield each
