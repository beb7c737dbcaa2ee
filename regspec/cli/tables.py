"""Tables for the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regspec.views.reference import SORTS, Field, Kind, Name, Reference, shared_fields
from regspec.views.summary import Row, Summary, error_text, plural

FEW = 2  # kinds and names that are shown with all their fields

if TYPE_CHECKING:
    from regspec.graph.families import Family
    from regspec.keras.verification.verifying import Verification
    from regspec.modules.regularizing import Selected
    from regspec.modules.shrinking.costs import Costs


def print_summary(summary: Summary) -> None:
    """Prints a model's layers and totals."""
    table = Table(title=summary.name, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("layer", overflow="fold")
    table.add_column("kind", overflow="fold")
    table.add_column("output shape", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("penalties", overflow="fold")
    for name, shape in summary.inputs.items():
        table.add_row(name, "input", shape)
    for row in summary.rows:
        penalties = "\n".join(f"{slot} {regularizer}" for slot, regularizer in row.penalties.items())
        kind = f"{row.kind} (again)" if row.is_call else row.kind
        table.add_row(row.name, kind, "\n".join(row.output_shapes), _counted(row), penalties)
    console = Console(width=None if sys.stdout.isatty() else 240)
    console.print(table)
    console.print(summary.totals, highlight=False)


def print_costs(units: Mapping[str, int], before: Costs, after: Costs, batch: int) -> None:
    """Prints what a model costs, and what is left of that without units that it can do without."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("", "as it is", "without zero units", "left"):
        table.add_column(name, justify="right" if name else "left")
    rows: dict[str, tuple[float, float]] = {
        "units": (units["before"], units["after"]),
        "weights": (before.weights, after.weights),
        "zeros among them": (before.zeros, after.zeros),
        "multiply-adds": (before.multiply_adds, after.multiply_adds),
        "bytes": (before.bytes, after.bytes),
        f"ms a batch of {batch}": (1000 * before.seconds, 1000 * after.seconds),
    }
    for name, pair in rows.items():
        one, other = (f"{each:,}" if isinstance(each, int) else f"{each:.3g}" for each in pair)
        table.add_row(name, one, other, f"{100 * pair[1] / pair[0]:.0f} %" if pair[0] else "")
    Console(width=None if sys.stdout.isatty() else 240).print(table)


def print_families(families: Sequence[Family]) -> None:
    """Prints which units of which weights go together, and why others stay."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("units", justify="right", no_wrap=True)
    for role in ("made by", "in", "taken by"):
        table.add_column(role, overflow="fold")
    table.add_column("numbers each", justify="right")
    is_penalized = any(each.term for each in families)
    if is_penalized:
        table.add_column("penalized by", overflow="fold")
    table.add_column("stays", overflow="fold")
    for each in families:
        columns = [[own.weight for own in each.slices if own.role == role] for role in ("makes", "has", "takes")]
        penalty = [f"{each.term}: {each.penalty}" if each.term else ""] if is_penalized else []
        table.add_row(str(each.units), *map("\n".join, columns), f"{each.numbers:,}", *penalty, each.stays or "")
    Console(width=None if sys.stdout.isatty() else 240).print(table)
    free = [each for each in families if each.stays is None]
    console = Console(width=None if sys.stdout.isatty() else 240)
    console.print(f"{sum(each.units for each in free):,} units may go, each by itself", highlight=False)


def print_coverage(selected: Sequence[Selected]) -> None:
    """Prints what rules select of a module, and what they leave."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("parameter or output", overflow="fold")
    table.add_column("shape", no_wrap=True)
    table.add_column("rule", justify="right")
    table.add_column("penalty", overflow="fold")
    for each in selected:
        shape = _output(each) if each.shape is None else " x ".join(map(str, each.shape))
        rule = "" if each.rule is None else str(each.rule + 1)
        table.add_row(each.name, shape, rule, "" if each.regularizer is None else str(each.regularizer))
    console = Console(width=None if sys.stdout.isatty() else 240)
    console.print(table)
    parameters = [each for each in selected if each.shape is not None]
    covered = [each for each in parameters if each.rule is not None]
    outputs = len(selected) - len(parameters)
    console.print(
        f"{len(covered)} of {plural(len(parameters), 'parameter', 'parameters')}, "
        f"{plural(outputs, 'output', 'outputs')}",
        highlight=False,
    )


def _output(selected: Selected) -> str:
    """An output, and what its rule says of it."""
    given = selected.given
    if given is None:
        return "output"
    path = " all" if given.path is None else "".join(f" {part}" for part in given.path)
    axes = {"batch axis": given.batch, "channel axis": given.units}
    return ", ".join([f"output{path}", *(f"{name} {axis}" for name, axis in axes.items() if axis is not None)])


def print_verification(verification: Verification) -> None:
    """Prints what of a port was compared with Keras, how far apart it is, and what was not compared."""
    console = Console(width=None if sys.stdout.isatty() else 240)
    if verification.checks:
        table = Table(title=verification.reference, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("compared", no_wrap=True)
        table.add_column("how many", justify="right")
        for weights in verification.weights:
            table.add_column({"file": "error", "random": "error, random weights"}[weights], justify="right")
        table.add_column("largest at", overflow="fold")
        for row in verification.rows():
            errors = [error_text(row.errors[each]) if each in row.errors else "" for each in verification.weights]
            table.add_row(row.what, str(row.count), *errors, Text(row.name))
        console.print(table)
    for what in verification.left_out:
        console.print(f"not compared: {what}", highlight=False, markup=False, soft_wrap=True)
    console.print(verification.verdict, highlight=False, markup=False, soft_wrap=True)


def print_reference(part: Reference, file: TextIO | None = None) -> None:
    """Prints kinds and names: each with its fields and an example where they are few, else a line for each."""
    width = None if file is None and sys.stdout.isatty() else 240
    console = Console(file=file, width=width, highlight=False, markup=False)
    if len(part.kinds) + len(part.names) <= FEW:
        for kind in part.kinds:
            _print_kind(console, kind)
        for name in part.names:
            _print_name(console, name)
        return
    for title, kinds in part.families.items():
        _print_lines(console, title, [(kind.name, kind.summary, ", ".join(kind.slots)) for kind in kinds], "slots")
    for sort, names in part.sorts.items():
        rows = [(each.name, f"{each.summary}{_also(each)}", each.forms[-1]) for each in names]
        _print_lines(console, sort, rows, "example")
    console.print("one of them, with its fields and an example: regspec kinds NAME")
    if part.kinds:
        console.print(f"names that fields take: regspec kinds {' | '.join(SORTS)}")


def _also(name: Name) -> str:
    """The other names of a name, behind what is said of it."""
    return f"; also {', '.join(name.aliases)}" if name.aliases else ""


def _print_lines(console: Console, title: str, rows: Sequence[tuple[str, str, str]], last: str) -> None:
    """A table with a line for each kind of a family, or each name of a sort."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("name", no_wrap=True)
    table.add_column("computes")
    has_last = any(row[2] for row in rows)
    if has_last:
        table.add_column(last)
    for row in rows:
        table.add_row(*map(Text, row if has_last else row[:2]))
    console.print(Text(title, "bold"), table, sep="")


def _print_kind(console: Console, kind: Kind) -> None:
    """A kind with all its fields."""
    console.print(Text.assemble((kind.name, "bold"), f"  {kind.summary}" if kind.summary else ""))
    console.print(f"  {kind.example}", soft_wrap=True)
    _print_fields(console, kind.plain_fields)
    if kind.slots:
        slots = ", ".join(f"{slot} (starts as {start})" if start else slot for slot, start in kind.starts.items())
        console.print(f"slots: {slots}; each with {', '.join(f'<slot>_{ending}' for ending in kind.of_slots)}")
    if not kind.is_cell:
        console.print(f"every kind has besides: {', '.join(field.name for field in shared_fields())}")
    console.print()


def _print_name(console: Console, name: Name) -> None:
    """A name with its arguments."""
    sort = f"{name.sort.removesuffix('s')}{', also ' * bool(name.aliases)}{', '.join(name.aliases)}"
    console.print(Text.assemble((name.name, "bold"), f"  ({sort})  {name.summary}"))
    console.print(f"  {', or '.join(name.forms)}", soft_wrap=True)
    _print_fields(console, name.arguments)
    console.print()


def _print_fields(console: Console, fields: Sequence[Field]) -> None:
    """Fields, with types and defaults."""
    if not fields:
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    is_described = any(field.description for field in fields)
    for column in ("field", "type", "default", *(["what it is"] if is_described else [])):
        table.add_column(column, no_wrap=column == "field")
    for field in fields:
        row = (field.name, field.type, field.default or "required", field.description)
        table.add_row(*map(Text, row if is_described else row[:3]))
    console.print(table)


def _counted(row: Row) -> str:
    """The number of a layer's parameters."""
    if row.parameters is None:
        return "?"
    return f"{row.parameters:,}" + " frozen" * (row.trainable == 0) if row.parameters else ""
