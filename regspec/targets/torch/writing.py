"""From a Program to the text of a Python file that defines it: what is printed is what runs.

Only names of this package's tables and checked identifiers are printed as they stand; everything else is a literal.
Blocks that come out equal are one class; those that differ in numbers alone are one class whose parameters these
numbers are.
"""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from regspec.code import axes
from regspec.code.expressions import Call, Import
from regspec.code.shapes import Symbol
from regspec.targets.python.imports import Imports
from regspec.targets.python.layout import INDENT, WIDTH, Blank, Doc, Statement, beside, called
from regspec.targets.python.printing import Number, Printer
from regspec.targets.torch.classes import Outline, Outliner
from regspec.targets.torch.parameters import Column, Exact, Parameters
from regspec.targets.torch.program import Program, block_of
from regspec.targets.torch.standalone import PACKAGE, definitions
from regspec.targets.torch.unified import outlined

MAX_INVENTED = 6  # parameters of a class that the block does not have; with more, blocks are classes of their own


def print_source(program: Program, *, standalone: bool = False) -> str:
    """The text of a file that defines the class of a program, its blocks' classes before it.

    With ``standalone``, the pieces of the runtime that they use come first, instead of being imported.
    """
    return printed(program, standalone=standalone).text


@dataclass(frozen=True, slots=True)
class Printed:
    """The text of a file, and the names of its classes by the programs that they are of."""

    text: str
    classes: Mapping[Program, str]


def printed(program: Program, *, standalone: bool = False) -> Printed:
    """What `print_source` gives, with the names of the classes."""
    file = _File()
    file.add(program)
    pieces = definitions(file.runtime, file.imports, program) if standalone else {}
    if not standalone:
        for each in file.runtime:
            file.imports.name(PACKAGE, each)
    parameters = {name for group in file.groups for name in group.parameters.names.values()}
    names = file.named({*file.runtime, *pieces, *file.imports.known, *parameters})
    name = names[file.groups[-1]]
    parts = [*dict.fromkeys(pieces.values()), *(_class(group, names) for group in file.groups)]
    text = "\n\n\n".join(parts)
    needs = " and ".join(["torch", *(file.imports.foreign)])
    summary = f"{name}, compiled by regspec{f' to stand alone: it needs {needs} only' if standalone else ''}."
    gap = "\n\n\n" if parts[0].startswith(("class ", "def ", "@")) else "\n\n"  # as ruff has it
    whole = f'"""{summary}"""\n\n{file.imports.text()}{gap}{text}\n'
    return Printed(whole, {each: names[group] for each, (group, _) in file.places.items()})


def value_source(constructor: Call, variable: str) -> str:
    """The text of a file that assigns the result of a constructor call of the runtime to a variable."""
    file = _File()
    printer = Printer(lambda x: x.source, lambda _: "", lambda _: None, file.function)
    statement = Statement(printer.document(constructor), f"{variable} = ")
    for each in file.runtime:
        file.imports.name(PACKAGE, each)
    return "\n".join([file.imports.text(), *statement.lines(0), ""])


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Blocks that are one class, and its parameters with the holes that they fill."""

    parameters: Parameters
    members: list[Outline]


@dataclass
class _File:
    """The classes of a file, and the names that they use."""

    groups: list[_Group] = field(default_factory=list)  # a class each; the program's own is the last
    runtime: set[str] = field(default_factory=set)
    imports: Imports = field(default_factory=Imports)
    places: dict[Program, tuple[_Group, int]] = field(default_factory=dict)  # of blocks: groups, and places in them

    def add(self, program: Program) -> None:
        """Adds the classes of a program's blocks, those without blocks of their own first, and its own."""
        self.imports.name("torch", "Tensor")
        for level in _levels(program):
            for members in self._alike(outlined(level, self._outline)):
                self._add_group(members)
        self._add_group(outlined([program], self._outline))

    def _outline(self, program: Program, first_is_apart: bool = False) -> Outline:
        return Outliner(program, self.function, self.block, first_is_apart).outline()

    def _alike(self, outlines: Sequence[tuple[Program, Outline]]) -> Iterator[list[tuple[Program, Outline]]]:
        """Programs that can be one class, with their outlines."""
        groups: dict[tuple[object, ...], list[tuple[Program, Outline]]] = {}
        for each in outlines:
            groups.setdefault(each[1].skeleton, []).append(each)
        for members in groups.values():
            if self._parameters([outline for _, outline in members]).invented <= MAX_INVENTED:
                yield members
                continue
            equal: dict[Column, list[tuple[Program, Outline]]] = {}
            for each in members:
                equal.setdefault(tuple(Exact.of(hole.number.value) for hole in each[1].holes), []).append(each)
            yield from equal.values()

    def _parameters(self, members: Sequence[Outline]) -> Parameters:
        """The parameters of the members' class."""
        holes, graphs = [each.holes for each in members], [each.graph for each in members]
        return Parameters(holes, graphs, members[0].attributes, {*self.runtime, *self.imports.known})

    def _add_group(self, members: list[tuple[Program, Outline]]) -> None:
        outlines = [outline for _, outline in members]
        group = _Group(self._parameters(outlines), outlines)
        self.places.update({program: (group, index) for index, (program, _) in enumerate(members)})
        self.groups.append(group)

    def block(self, program: Program) -> tuple[Doc, list[Number]]:
        """How a block's module is made: its class, whose name is not yet chosen, and the arguments."""
        group, index = self.places[program]
        return Blank(group), group.parameters.arguments(index)

    def function(self, name: str | Import) -> str:
        """How the file calls a function: torch's by its path, the runtime's or the user's by an imported name."""
        if isinstance(name, Import):
            return self.imports.unique(name)
        root, dot, _ = name.partition(".")
        if not dot:
            self.runtime.add(name)
        elif root == "nn":
            self.imports.name("torch", "nn")
        elif root == "F":
            self.imports.name("torch.nn", "functional", "F")
        else:
            self.imports.module(root)
        return name

    def named(self, taken: set[str]) -> dict[_Group, str]:
        """The classes' names, made of the graphs': ``DigitsCnn`` of ``digits_cnn``; none in ``taken``, none twice."""
        *blocks, own = self.groups
        names: dict[_Group, str] = {}
        for group in (own, *blocks):  # the model's own is the one that users import
            camel = "".join(part[:1].upper() + part[1:] for part in group.members[0].graph.name.split("_"))
            name, number = camel, 1
            if name == names.get(own):
                name = camel = f"{camel}Block"
            while name in taken or keyword.iskeyword(name):  # None, of a block that is called none
                number += 1
                name = f"{camel}{number}"
            taken = {*taken, name}
            names[group] = name
        return names


def _levels(program: Program) -> list[list[Program]]:
    """The blocks in a program, by how deep blocks are nested in them, in the order of their first use."""
    heights: dict[Program, int] = {}
    levels: dict[int, list[Program]] = {}

    def visit(block: Program) -> int:
        inner = [each for step in block.steps if step.declares and (each := block_of(step)) is not None]
        height = max((heights[each] if each in heights else visit(each) for each in inner), default=-1) + 1
        heights[block] = height
        if not block.graph.is_root:
            levels.setdefault(height, []).append(block)
        return height

    visit(program)
    return [levels[height] for height in sorted(levels)]


def _class(group: _Group, names: Mapping[_Group, str]) -> str:
    """The text of a class."""
    first = group.members[0]
    parameters = group.parameters
    known: dict[Hashable, Doc] = {**dict(names.items()), **dict(enumerate(parameters.documents()))}

    def written(statements: Iterable[Statement]) -> list[Statement]:
        return [each.filled(known) if len(known) > 1 else each for each in statements]  # an only class has no blanks

    own = [Statement(name, f"self.{attribute} = ") for name, attribute in parameters.attributes.items()]
    taken = [f"{name}: {_type(column)}" for column, name in parameters.names.items()]
    local = [Statement(formula, f"{name} = ") for name, formula in parameters.locals()]
    body = [Statement("super().__init__()"), *local, *own, *written(first.init), *written(first.fills), *first.casts]
    methods = [_method(_signature("__init__", ["self", *taken]), body)]
    methods.append(_method(first.signature, written(first.forward)))
    return "\n\n".join([f"class {names[group]}({first.base}):\n{_docstring(group)}", *methods])


def _signature(name: str, parameters: Sequence[str]) -> Statement:
    """The first line of a method that returns nothing."""
    return Statement(beside(called(name, parameters), " -> None"), "def ", ":")


def _type(column: Column) -> str:
    """The type of a parameter that takes these values."""
    types = {each.types for each in column if each is not None}
    if types == {"int"}:
        return "int"
    number = "float" if any("float" in each for each in types) else "int"
    return f"tuple[{number}, ...]" if all(each.startswith("(") for each in types) else "float"


def _docstring(group: _Group) -> str:
    """A class's docstring: what its forward takes and gives, with shapes, in which parameters appear by name."""
    inputs = [
        f"{name} {_sized(group, [each.inputs[index][1] for each in group.members])}"
        for index, (name, _) in enumerate(group.members[0].inputs)
    ]
    outputs = [
        f"{name} {_sized(group, [each.outputs[index][1] for each in group.members])}"
        for index, (name, _) in enumerate(group.members[0].outputs)
    ]
    if len(outputs) == 1:  # which needs no name
        outputs = [_sized(group, [each.outputs[0][1] for each in group.members])]
    text = f"{', '.join(inputs)} -> {', '.join(outputs)}"
    line = f'{INDENT}"""{text}"""'
    if len(line) <= WIDTH:
        return line
    wrapped = textwrap.wrap(f'"""{text}', WIDTH - 2 * len(INDENT))
    return textwrap.indent("\n".join([*wrapped, '"""']), INDENT)


def _sized(group: _Group, xs: list[Symbol]) -> str:
    """A tensor's shape in all members of a group: sizes, parameters, and what an axis means whose size is not known."""
    first = xs[0]
    named = [None] * first.rank if first.is_open else axes.meanings(first.order, first.spec_order)
    sizes = []
    for meaning, *sizes_here in [*zip(named, *(x.shape for x in xs), strict=True)][1:]:
        column = tuple(map(Exact.of, sizes_here))
        is_known = len(set(column)) == 1 or column in group.parameters.names or column in group.parameters.derived
        own = "?" if meaning is None or meaning in group.parameters.names.values() else meaning
        sizes.append(group.parameters.text(column) if is_known and None not in column else own)
    return f"({', '.join(['batch', *sizes])})"


def _method(signature: Statement, statements: Iterable[Statement]) -> str:
    """The text of a method."""
    return "\n".join([*signature.lines(1), *(line for statement in statements for line in statement.lines(2))])
