"""Commands that take the fields of a dataclass as options, so that each option is said once: where its field is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from regspec.cli.application import document_in
from regspec.training.options.file import Places, Said, read_training
from regspec.training.options.options import Option, Options

With = Annotated[
    Path | None,
    typer.Option(
        "--with",
        metavar="TRAINING",
        help="A training file, which says these options too; what is said here wins.",
        show_default=False,
    ),
]


def with_options(command: Callable[..., None], *, is_for_trials: bool = False) -> Callable[..., None]:
    """The command with an option for each field, in place of a parameter that is such a dataclass.

    Args:
        command: a function whose parameters are annotated for typer, or are of `Options` or `Plan`.
        is_for_trials: whether options that are about one run are left out.
    """
    groups: dict[str, tuple[type, list[str]]] = {}
    parameters = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        cls = parameter.annotation
        if not is_dataclass(cls) or not isinstance(cls, type):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        options = {
            name: each for name, each in Option.all_of(cls).items() if not (is_for_trials and each.is_of_one_run)
        }
        groups[parameter.name] = cls, [*options]
        hints = get_type_hints(cls)
        parameters += [_parameter(cls, name, option, hints[name]) for name, option in options.items()]

    @functools.wraps(command)
    def called(**given: Any) -> None:
        for group, (cls, names) in groups.items():
            values = {name: given.pop(name) for name in names}
            values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
            given[group] = cls(**values)
        command(**given)

    vars(called)["__signature__"] = inspect.Signature(parameters)
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def _parameter(cls: type, name: str, option: Option, hint: Any) -> inspect.Parameter:
    """A field of this type as a parameter of a command."""
    default = getattr(cls, name)
    how = typer.Option(
        *(f"--{each.strip('_').replace('_', '-')}" for each in (name, option.key) if each),
        help=option.help,
        min=option.least,
        max=option.most,
        metavar=option.metavar,
        show_default=default not in (None, ()),
        rich_help_panel=option.heading,
    )
    kind: Any = Annotated[list[str] if get_origin(hint) is tuple else hint, how]  # typer has no options that are tuples
    default = [*default] if isinstance(default, tuple) else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def names_said(context: typer.Context) -> list[str]:
    """The names of the parameters of a command that its command line says."""
    return [
        name for name in context.params if getattr(context.get_parameter_source(name), "name", None) == "COMMANDLINE"
    ]


def options_said(context: typer.Context, options: Options, file: Path | None) -> tuple[Options, Places]:
    """The options of a command line over those of a training file, and where these stand. Raises `RegspecError`."""
    said = Said() if file is None else read_training(document_in(file))
    return said.under(options, [name for name in names_said(context) if name in Option.all_of(Options)])
