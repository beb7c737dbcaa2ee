"""The command that checks specs, rules and training files. It needs no torch, and imports no more than it uses."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from regspec.cli.application import STDIN, Format, app, document_in, files_argument
from regspec.graph.loading import checked, graph_of, in_order
from regspec.specs.loading import rules_from
from regspec.specs.model import ModelSpec
from regspec.specs.rules import RulesFile
from regspec.targets.torch.program import program_of
from regspec.text.document import Document
from regspec.text.problems import Problem, RegspecError
from regspec.training.options.sections import is_training
from regspec.views.summary import plural, summarize

FEW = 16  # files for which one process takes no longer than two


@app.command(epilog="Example: `regspec check examples/*.yaml`")
def check(
    files: Annotated[
        list[Path], files_argument("Specs, rules for modules, or training files; - for the standard input.")
    ],
    format: Annotated[Format, typer.Option(help="Text for people, or JSON for programs.")] = "text",
) -> None:
    """Check specs, rules and training files: fields, names, and the shapes of every layer.

    Needs no torch; names of optimizers and losses in training files are checked where it is installed.
    """
    problems: list[Problem] = []
    notes: list[Problem] = []
    for found in _checked(files):
        problems.extend(found.problems)
        notes.extend(found.notes)
        if format == "text":
            typer.echo(found.text)
    if format == "json":
        typer.echo(json.dumps([problem.as_dict() for problem in (*problems, *notes)], indent=2))
    if problems:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in a file: what is printed of it, its notes and its problems."""

    text: str
    notes: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()


def _checked(files: Sequence[Path]) -> Iterator[Found]:
    """What is found in each file, in their order; many are shared out to as many processes as there are cores.

    They are forked, which is quick, and keeps what is registered; where Python can't do that safely, this one goes
    through all. The first file is for it alone, so that what most files need is imported before.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    count = min(cores, len(files) // FEW)
    if count < 2 or STDIN in files:
        yield from map(_found, files)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    first, *rest = files
    yield _found(first)
    with ProcessPoolExecutor(count, get_context("fork"), initializer=_left_to_the_first) as pool:
        yield from pool.map(_found, rest, chunksize=FEW // 4)


def _left_to_the_first() -> None:
    """Leaves Ctrl-C to the process that has forked this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _found(path: Path) -> Found:
    try:
        line, notes = _line(path)
    except RegspecError as error:
        return Found(styled(error), problems=tuple(error.problems))
    return Found("\n".join([line, *map(str, notes)]), notes)


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
