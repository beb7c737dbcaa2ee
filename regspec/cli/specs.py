"""Commands for specs and rules: they need no torch, but for `rules`, which looks at a module."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from regspec.cli.application import STDIN, Force, Format, Printed, Set, Spec, app, document_in, parameters, write
from regspec.graph.loading import checked, graph_of, in_order
from regspec.graph.network import Graph
from regspec.language.registration import called, load_entry_points
from regspec.specs.loading import rules_from
from regspec.specs.model import ModelSpec
from regspec.specs.rules import RulesFile
from regspec.targets.source import TARGETS, source
from regspec.targets.torch.program import program_of
from regspec.text.document import Document
from regspec.text.problems import Problem, RegspecError
from regspec.text.seals import BLANK, sealed
from regspec.training.options.file import is_training, read_training
from regspec.training.options.options import Options
from regspec.views.summary import mermaid, plural, summarize


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


@app.command(epilog="Example: `regspec show examples/digits_cnn.yaml`")
def show(
    spec: Spec,
    format: Annotated[Format, typer.Option(help="A table for people, or JSON for programs.")] = "text",
    graph: Annotated[bool, typer.Option("--graph", help="The graph as a Mermaid diagram instead.")] = False,
    groups: Annotated[
        bool, typer.Option("--groups", help="Which units of which weights go together, or why they stay, instead.")
    ] = False,
    set: Set = None,
) -> None:
    """Show a spec's layers with output shapes, parameters and penalties, and the totals. Needs no torch."""
    if graph and groups:
        raise typer.BadParameter("--graph and --groups show another thing each", param_hint="--groups")
    resolved = graph_of(checked(document_in(spec), parameters(set)))
    if graph:
        typer.echo(mermaid(resolved), nl=False)
    elif groups:
        _show_groups(resolved, format)
    elif format == "json":
        typer.echo(json.dumps(summarize(resolved).as_dict(), indent=2))
    else:
        from regspec.cli.tables import print_summary

        print_summary(summarize(resolved))


def _show_groups(graph: Graph, form: Format) -> None:
    """Shows which units of which weights go together."""
    from regspec.cli.tables import print_families
    from regspec.graph.families import families_of
    from regspec.graph.units import units_of

    families = families_of(units_of(graph))
    if form == "json":
        typer.echo(json.dumps([each.as_dict() for each in families], indent=2))
    else:
        print_families(families)


@app.command(name="compile", epilog="Example: `regspec compile examples/mlp.yaml -o mlp.py`")
def compile_(
    spec: Spec,
    output: Printed = None,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="Write a file that needs torch alone, with penalties in a short form.")
    ] = False,
    target: Annotated[
        str,
        typer.Option(metavar="|".join(TARGETS), help="A class for torch, or a function that makes a model of Keras 3."),
    ] = "torch",
    set: Set = None,
    force: Force = False,
) -> None:
    """Compile a spec to the Python source of a PyTorch class, or to Keras 3 functional code. Needs no torch.

    A file that is there and holds something else, such as a source that was edited, is kept, unless --force is given.
    """
    compiled = checked(document_in(spec), parameters(set))

    def is_of_the_spec(there: bytes) -> bool:
        """Whether it is the spec's source in another form, which is no loss."""
        return any(form.encode() == there for form in _forms(compiled))

    write(source(compiled, target=target, standalone=standalone), output, force=force, may_go=is_of_the_spec)


def _forms(spec: ModelSpec) -> Iterator[str]:
    """The sources of a spec, for every target that it has one for."""
    for target in TARGETS:
        for standalone in (False, True):
            with suppress(RegspecError):
                yield source(spec, target=target, standalone=standalone)


@app.command(epilog="Example: `regspec rules examples/recipes/rules.yaml examples.recipes.any_module:ResNet`")
def rules(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Rules, as a YAML file; - for the standard input.", show_default=False),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:CALLABLE", help="What gives the torch module: a class or a function.", show_default=False
        ),
    ],
    format: Annotated[Format, typer.Option(help="A table for people, or JSON for programs.")] = "text",
) -> None:
    """Show which parameters and outputs of a module the rules of a file select, and what they leave."""
    from regspec.cli.tables import print_coverage
    from regspec.modules.regularizing import coverage

    selected = coverage(called(target), document_in(file))
    if format == "json":
        typer.echo(json.dumps([each.as_dict() for each in selected], indent=2))
    else:
        print_coverage(selected)


@app.command(epilog="Example: `regspec schema spec -o model.schema.json`")
def schema(
    of: Annotated[
        Literal["spec", "rules", "training"], typer.Argument(help="Specs, rules for modules, or training files.")
    ] = "spec",
    output: Printed = None,
    force: Force = False,
) -> None:
    """Write the JSON Schema by which editors check and complete specs, rules or training files. Needs no torch.

    What installed packages register through entry points is part of it.
    """
    from regspec.training.options.schema import training_schema
    from regspec.views.schema import rules_schema, spec_schema

    for group in ("regspec.layers", "regspec.regularizers"):
        load_entry_points(group)
    described = {"spec": spec_schema, "rules": rules_schema, "training": training_schema}[of]()
    if output is not None:
        described = {"$comment": BLANK, **described}
    write(sealed((json.dumps(described, indent=1) + "\n").encode()).decode(), output, force=force)


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
