"""Commands that show, compile and describe specs and rules. Only `rules`, which looks at a module, needs torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from regspec.cli.application import Force, Format, Printed, Set, Spec, app, document_in, parameters, write
from regspec.graph.loading import checked, graph_of
from regspec.graph.network import Graph
from regspec.language.registration import called, load_entry_points
from regspec.specs.model import ModelSpec
from regspec.targets.source import TARGETS, source
from regspec.text.problems import RegspecError
from regspec.text.seals import BLANK, sealed
from regspec.views.summary import mermaid, summarize


@app.command(epilog="Example: `regspec show examples/digits_cnn.yaml`")
def show(
    spec: Spec,
    format: Annotated[Format, typer.Option(help="A table for people, or JSON for programs.")] = "text",
    graph: Annotated[bool, typer.Option("--graph", help="The graph as a Mermaid diagram instead.")] = False,
    groups: Annotated[
        bool,
        typer.Option(
            "--groups",
            help="Which units of which weights go together and are penalized together, or why they stay, instead.",
        ),
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

    families = families_of(units_of(graph), graph.coupled)
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
