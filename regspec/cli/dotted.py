"""Options with dots, ``--outputs.price.loss huber``, as what they stand for: ``--outputs price.loss=huber``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperCommand

from regspec.training.options.called import is_one_argument, over
from regspec.training.options.said import parted
from regspec.training.options.synonyms import OF_COMMANDS

DOTTED = ("--outputs", "--columns", "--route")
CALLED = ("--optimizer", "--schedule")  # each a name with arguments, of which dots say one


class WithDots(TyperCommand):
    """A command that takes an option for each key of each output, and for each column."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the arguments, those with dots as the option that they stand for."""
        return super().parse_args(ctx, [*undotted(args)])


def undotted(args: list[str]) -> Iterator[str]:
    """The arguments, with ``--outputs KEY=VALUE`` in place of ``--outputs.KEY VALUE`` and ``--outputs.KEY=VALUE``.

    Single arguments of a name are one option, ``--optimizer 'sgd.momentum=0.9 sgd.nesterov=true'``; and other forms of
    an option become that.
    """
    left = iter(args)
    called: dict[str, list[str]] = {}
    for each in left:
        option, is_dotted, rest = each.partition(".")
        name, is_given, given = each.partition("=")
        if each == "--":
            left = iter((each, *left))
            break
        if name in OF_COMMANDS:
            yield from (OF_COMMANDS[name], given if is_given else _value(left, each))
        elif is_dotted and option in (*DOTTED, *CALLED):
            key, value = parted(rest)
            if option in CALLED and "." not in key:
                raise typer.BadParameter(f"an argument of it is {option}.NAME.ARGUMENT VALUE", param_hint=each)
            said = f"{key}={_value(left, each) if value is None else value}"
            if option in DOTTED:
                yield from (option, said)
            else:
                called.setdefault(option, []).append(said)
        elif name in CALLED:
            called[name] = [given if is_given else next(left, "")]  # what is empty is no name, as is said later
        else:
            yield each
    for option, (first, *others) in called.items():
        is_over = others and not is_one_argument(first)
        yield from (option, over(" ".join(others), first)[0] if is_over else " ".join([first, *others]))
    yield from left


def _value(left: Iterator[str], option: str) -> str:
    value = next(left, "")
    if value == "":
        raise typer.BadParameter("it needs a value", param_hint=option)
    return value
