"""The command that checks specs, rules and training files. It needs no torch, and imports no more than it uses."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from regspec.cli.application import STDIN, Format, app, document_in
from regspec.graph.loading import checked, graph_of, in_order
from regspec.specs.loading import rules_from
from regspec.specs.model import ModelSpec
from regspec.specs.rules import RulesFile
from regspec.targets.torch.program import program_of
from regspec.text.document import Document
from regspec.text.problems import Problem, RegspecError
from regspec.training.options.sections import is_training
from regspec.views.summary import plural, summarize


@app.command(epilog="Example: `regspec check examples/*.yaml`")
def check(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES…",
            help="Specs, rules for modules, or training files; - for the standard input.",
            show_default=False,
        ),
    ],
    format: Annotated[Format, typer.Option(help="Text for people, or JSON for programs.")] = "text",
) -> None:
    """Check specs, rules and training files: fields, names, and the shapes of every layer.

    Needs no torch; names of optimizers and losses in training files are checked where it is installed.
    """
    if files.count(STDIN) > 1:
        raise typer.BadParameter("the standard input can be read once", param_hint="FILES…")
    problems: list[Problem] = []
    notes: list[Problem] = []
    for file in files:
        try:
            line, found = _line(file)
            notes.extend(found)
            if format == "text":
                typer.echo("\n".join([line, *map(str, found)]))
        except RegspecError as error:
            problems.extend(error.problems)
            if format == "text":
                typer.echo(styled(error))
    if format == "json":
        typer.echo(json.dumps([problem.as_dict() for problem in (*problems, *notes)], indent=2))
    if problems:
        raise typer.Exit(1)


def _line(path: Path) -> tuple[str, tuple[Problem, ...]]:
    """What a file of a spec, of rules or of a training holds, in a line, and notes on it. Raises `RegspecError`."""
    text = document_in(path)
    if is_training(text):
        return f"{text.path}: a training, {plural(_options_said(text), 'option', 'options')}", ()
    found = meaning(text)
    if isinstance(found, RulesFile):
        return f"{text.path}: {plural(len(found.rules), 'rule', 'rules')}", ()
    summary = summarize(graph_of(found))
    return f"{text.path}: {summary.name}, {summary.totals}", found.notes


def _options_said(text: Document) -> int:
    """How many options a training file says, all of them checked. Raises `RegspecError`."""
    from regspec.training.options.file import read_training
    from regspec.training.options.options import Options

    said = read_training(text)
    try:
        from regspec.training.loop.checking import checked_outputs
    except ImportError:  # of torch, which knows the optimizers' names
        return len(said.values)
    checked_outputs(*said.under(Options(), ()))
    return len(said.values)


def meaning(text: Document) -> ModelSpec | RulesFile:
    """The spec or the rules of a document, checked whole. Raises `RegspecError`."""
    if isinstance(text.data, dict) and "rules" in text.data:
        rules, problems = rules_from(text)
        if rules is None:
            raise RegspecError(in_order(problems))
        return rules
    spec = checked(text)
    program_of(graph_of(spec))  # which finds what torch can't do
    return spec


def styled(error: RegspecError) -> str:
    """The error's text, in colour where it goes to a terminal."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return str(error)
    lines = str(error).split("\n")
    return "\n".join(
        line.replace("error:", typer.style("error:", fg="red", bold=True), 1)
        if ": error: " in line
        else typer.style(line, fg="cyan")
        if line.startswith("   = ")
        else line
        for line in lines
    )
