"""Options with dots, ``--outputs.price.loss huber``, as what they stand for: ``--outputs price.loss=huber``."""

from __future__ import annotations

import click
from typer.core import TyperCommand

PREFIX = "--outputs."


class WithOutputs(TyperCommand):
    """A command that takes an option for each key of each output."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the arguments, after those with dots are written as the option that they stand for."""
        return super().parse_args(ctx, undotted(args, ctx))


def undotted(args: list[str], context: click.Context) -> list[str]:
    """The arguments with ``--outputs KEY=VALUE`` in place of ``--outputs.KEY VALUE`` and of ``--outputs.KEY=VALUE``."""
    plain: list[str] = []
    left = iter(args)
    for each in left:
        if each == "--":
            return [*plain, each, *left]
        if not each.startswith(PREFIX):
            plain.append(each)
            continue
        key, is_given, value = each.removeprefix(PREFIX).partition("=")
        if not is_given:
            value = next(left, None) or ""
            if not value:
                raise click.BadOptionUsage(each, f"Option '{each}' requires an argument.", context)
        plain += ["--outputs", f"{key}={value}"]
    return plain
