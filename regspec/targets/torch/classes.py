"""One program as a class: the statements of its constructor, of its initialization and of its forward.

The numbers in a block's constructor are left open, as blanks, so that blocks that differ in them alone can be one
class with parameters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeGuard

from regspec.code.expressions import Apply, Call, Definition, Expression, Held, Import, Itself, Part, Value, walk
from regspec.code.grouping import grouped
from regspec.code.shapes import Symbol
from regspec.graph.network import BlockNode, Graph
from regspec.targets.python.layout import (
    INDENT,
    WIDTH,
    Blank,
    Brackets,
    Doc,
    Statement,
    beside,
    called,
    filled,
    flat,
    loop_over,
)
from regspec.targets.python.printing import Number, Printer, literal
from regspec.targets.torch.casting import casts
from regspec.targets.torch.handed import with_states_handed_on
from regspec.targets.torch.inlined import with_inlined
from regspec.targets.torch.lowered import Constrained, Fill, Lowered, Penalized, Place
from regspec.targets.torch.parameters import Hole
from regspec.targets.torch.program import Program
from regspec.targets.torch.repeats import container_of, is_loop, is_sequence, module_text, with_chains
from regspec.targets.torch.steps import Step
from regspec.targets.torch.terms import constraints, terms, unit_terms
from regspec.targets.torch.variables import variables_of

FEW = 3  # copies that are no loop
MODULE = "module"  # the key of the blank for the module whose parameter a statement fills


@dataclass(frozen=True, slots=True)
class Outline:
    """A class whose name, and the values of whose holes, are not yet written in."""

    graph: Graph
    base: str
    inputs: tuple[tuple[str, Symbol], ...]
    outputs: tuple[tuple[str, Symbol], ...]
    init: tuple[Statement, ...]
    fills: tuple[Statement, ...]
    casts: tuple[Statement, ...]  # after the fills, because some initializers don't work in all types
    signature: Statement
    forward: tuple[Statement, ...]
    holes: tuple[Hole, ...]  # by the keys of their blanks
    attributes: frozenset[str]  # of its modules

    @property
    def skeleton(self) -> tuple[object, ...]:
        """What is equal in outlines that differ in the values of their holes alone."""
        keywords = tuple(hole.number.keyword for hole in self.holes)
        return self.graph.name, self.base, self.init, self.fills, self.signature, self.forward, keywords


@dataclass
class Outliner:
    """Outlines one program. ``function`` and ``block`` say how the file around it calls functions and blocks."""

    program: Program
    function: Callable[[str | Import], str]
    block: Callable[[Program], tuple[Doc, list[Number]]]
    first_is_apart: bool = False  # whether the first copy of a block is made apart from the others
    holes: list[Hole] = field(default_factory=list)
    is_in_method: bool = False  # whether what is printed stands in a method, and not in the constructor
    step: Step | None = None  # whose results are being printed
    bound: Mapping[Symbol, Symbol] = field(default_factory=dict)  # its inputs, by those of its lowered layer
    known: dict[tuple[Itself, tuple[int, ...]], str] = field(default_factory=dict)  # variables of shared expressions
    constructors: dict[Call, Doc] = field(default_factory=dict)  # which equal layers share
    starts: dict[Fill, Doc] = field(default_factory=dict)
    alike: dict[tuple[Doc, ...], tuple[Doc, ...]] = field(default_factory=dict)  # the starts of a module, once each
    loop: str = ""  # the variable of loops over blocks, once there is one

    def __post_init__(self) -> None:
        steps = with_states_handed_on(with_chains(self.program), self.program.outputs)
        self.sequences = {step.name for step in steps if is_sequence(step)}
        self.steps = with_inlined(steps, self.program.outputs)
        self.variables = variables_of(self.program, self.steps)
        self.taken = set(self.variables.values())
        number = None if self.program.graph.is_root else self._hole
        self.printer = Printer(self._tensor, self._applied, self._variable, self.function, number)

    def outline(self) -> Outline:
        """The program's class."""
        graph = self.program.graph
        own = [step for step in self.program.steps if step.declares]
        penalized = [(step, each) for step in own for each in self.program.penalized(step)]
        constrained = [(step, each) for step in own for each in step.lowered.constrained]
        copies = {step.name: container_of(step.attributes[""]) for step in own if isinstance(step.node, BlockNode)}
        names = graph.output_names or tuple(copies.get(x.source) or x.source for x in self.program.outputs)
        has_any = graph.has_penalties or graph.has_constraints
        is_penalized = has_any if graph.is_root else bool(penalized or constrained)
        return Outline(
            graph=graph,
            base=self.function("Regularized" if is_penalized else "nn.Module"),
            inputs=tuple((x.source, x) for x in self.program.inputs),
            outputs=tuple(zip(names, self.program.outputs, strict=True)),
            init=tuple(self._init(own, penalized, constrained)),
            fills=tuple(self._fills(own)),
            casts=tuple(casts(self.program)) if graph.is_root else (),
            signature=self._signature(),
            forward=tuple(self._in_method(self._forward())),
            holes=tuple(self.holes),
            attributes=frozenset(container_of(name) or name for step in own for name in step.attributes.values()),
        )

    def _in_method(self, statements: Iterator[Statement]) -> Iterator[Statement]:
        self.is_in_method = True
        yield from statements
        self.is_in_method = False

    # -- the constructor ----------------------------------------------------------------------------------------------

    def _init(
        self, own: list[Step], penalized: list[tuple[Step, Penalized]], constrained: list[tuple[Step, Constrained]]
    ) -> Iterator[Statement]:
        paths = {path: constructor for step in own for path, constructor in step.modules.items()}
        for name, copies in grouped(paths, lambda path: container_of(path) or path):
            value = (
                self._constructor(paths[name]) if name in paths else self._container(name, [*map(paths.get, copies)])
            )
            yield Statement(value, f"self.{name} = ")
        for step in own:
            for place in step.lowered.frozen:
                yield Statement(f"self.{step.path(place)}.requires_grad_(False)")
        yield from terms(self.program.graph, penalized, self.printer.constructor)
        yield from unit_terms(self.program, self.printer.document)
        yield from constraints(constrained, self.printer.constructor)

    def _hole(self, number: Number) -> Doc:
        self.holes.append(Hole(number, self.is_in_method))
        return Blank(len(self.holes) - 1)

    def _constructor(self, constructor: Call | Definition, *, is_open: bool = False) -> Doc:
        if isinstance(constructor, Program):
            name, numbers = self.block(constructor)
            if is_open:
                return called(name, [beside(f"{each.name}=", self._hole(Number(None, each.name))) for each in numbers])
            given = [beside(f"{each.name}=", self.printer.argument(each.name, each.value)) for each in numbers]
            return called(name, given)
        assert isinstance(constructor, Call)
        if not self.program.graph.is_root:  # each has holes of its own
            return self.printer.constructor(constructor)
        if constructor not in self.constructors:
            self.constructors[constructor] = self.printer.constructor(constructor)
        return self.constructors[constructor]

    def _container(self, name: str, copies: Sequence[Call | Definition | None]) -> Doc:
        """The container of a block's copies: a sequence where the forward calls it as one, else a list."""
        programs = [*filter(_is_program, copies)]
        is_apart = self.first_is_apart and len(self._runs_of(programs[1:])) < 2
        items = [self._constructor(programs[0]), self._rest(programs)] if is_apart else self._runs(programs)
        is_called = name in self.sequences
        if len(items) == 1 and isinstance(items[0], Brackets) and not is_called:
            return called(self.function("nn.ModuleList"), items)
        items = [beside("*", item) if isinstance(item, Brackets) else item for item in items]
        if is_called:
            return called(self.function("nn.Sequential"), items)
        return called(self.function("nn.ModuleList"), [Brackets("[", tuple(items), "]")])

    def _runs(self, programs: Sequence[Program]) -> list[Doc]:
        """Copies one by one; those that are made alike, or with a number that grows evenly, in a loop."""
        if self.program.graph.is_root and (growing := self._growing(programs)) is not None:
            return [growing]
        runs = self._runs_of(programs)
        made = [self._constructor(run[0]) for run in runs]
        return [one if len(run) == 1 else self._repeated(one, len(run)) for one, run in zip(made, runs, strict=True)]

    def _growing(self, programs: Sequence[Program]) -> Doc | None:
        """A loop over copies in whose arguments one whole number grows evenly, and nothing else differs."""
        made = [self.block(program) for program in programs]
        if len(made) < FEW or len({id(name.key) for name, _ in made if isinstance(name, Blank)}) > 1:
            return None
        columns = [*zip(*([number.value for number in numbers] for _, numbers in made), strict=True)]
        (first, numbers), differing = made[0], [column for column in columns if len({*column}) > 1]
        if len(differing) != 1 or not all(type(value) is int for value in differing[0]):
            return None
        values: list[Any] = [*differing[0]]
        step = values[1] - values[0]
        if step < 1 or values != [*range(values[0], values[-1] + step, step)]:
            return None
        name = next(number.name for number, column in zip(numbers, columns, strict=True) if column == differing[0])
        given = [
            f"{each.name}={name}" if each.name == name else beside(f"{each.name}=", literal(each.value))
            for each in numbers
        ]
        return Brackets(
            "[", (called(first, given), f"for {name} in range({values[0]}, {values[-1] + step}, {step})"), "]", "loop"
        )

    def _runs_of(self, programs: Sequence[Program]) -> list[list[Program]]:
        return [[*run] for _, run in groupby(programs, self._class_and_arguments)]

    def _rest(self, programs: Sequence[Program]) -> Doc:
        """All copies but the first in a loop. Where there are none, it is left open how they would be made."""
        made = self._constructor(programs[-1], is_open=len(programs) == 1)
        return self._repeated(made, len(programs) - 1)

    def _repeated(self, made: Doc, count: int) -> Doc:
        number = called("range", [self.printer.argument("repeat", count)])
        return Brackets("[", (made, beside("for _ in ", number)), "]", "loop")

    def _class_and_arguments(self, program: Program) -> tuple[Doc, list[Value]]:
        """What is equal in copies of a block that are made alike."""
        name, arguments = self.block(program)
        return name, [each.value for each in arguments]

    def _fills(self, own: Sequence[Step]) -> Iterator[Statement]:
        """How parameters start: a loop over the modules whose parameters start alike, or statements for one."""
        known: dict[Lowered, dict[Place, tuple[Doc, ...]]] = {}
        calls: dict[str, tuple[Doc, ...]] = {}  # by module, with a blank where it stands
        for step in own:
            if step.lowered not in known:
                known[step.lowered] = self._starts(step.lowered)
            calls.update({step.path(module): starts for module, starts in known[step.lowered].items()})
        for starts, modules in grouped(calls, lambda module: Itself(calls[module])):
            if len(modules) > 1:
                yield loop_over([f"self.{module}" for module in modules])
                yield from (Statement(filled(start, {MODULE: "layer"}), indent=1) for start in starts.value)
            else:
                yield from (Statement(filled(start, {MODULE: f"self.{modules[0]}"})) for start in starts.value)

    def _starts(self, lowered: Lowered) -> dict[Place, tuple[Doc, ...]]:
        """The calls that fill the parameters of each module of a layer; equal ones are one value."""
        calls: dict[Place, list[Doc]] = {}
        for fill in lowered.fills:
            owner, _, parameter = fill.place.parameter.rpartition(".")
            if fill not in self.starts:
                self.starts[fill] = self._start(fill, parameter)
            calls.setdefault(Place(fill.place.module, owner), []).append(self.starts[fill])
        made = {module: tuple(starts) for module, starts in calls.items()}
        return {module: self.alike.setdefault(starts, starts) for module, starts in made.items()}

    def _start(self, fill: Fill, parameter: str) -> Doc:
        """The call that fills a module's parameter, with a blank where the module stands."""
        filled = beside(Blank(MODULE), f".{parameter}")
        if fill.rows is not None:
            filled = beside(
                filled, Brackets("[", tuple(self.printer.argument("rows", row) for row in fill.rows), "]", "slice")
            )
        return self.printer.call(fill.call.function, filled, fill.call)

    # -- the forward --------------------------------------------------------------------------------------------------

    def _signature(self) -> Statement:
        graph = self.program.graph
        inputs = [f"{self.variables[x]}: Tensor" for x in self.program.inputs]
        returned = "Tensor" if graph.is_single else f"tuple[{', '.join(['Tensor'] * len(graph.outputs))}]"
        if graph.output_names is not None and graph.is_root:
            returned = "dict[str, Tensor]"
        return Statement(beside(called("forward", ["self", *inputs]), f" -> {returned}"), "def ", ":")

    def _forward(self) -> Iterator[Statement]:
        graph = self.program.graph
        *steps, last = self.steps
        for step in steps:
            yield from self._statements(step)
        returned = [self.variables[x] for x in self.program.outputs]
        is_expression = len(last.lowered.results) == 1 and not is_loop(last)
        if graph.is_single and last.outputs == self.program.outputs and is_expression:
            self._enter(last)
            yield from self._shared(last, returned)
            yield Statement(self.printer.document(last.lowered.results[0]), "return ")
            return
        yield from self._statements(last)
        if graph.output_names is not None and graph.is_root:
            pairs = zip(graph.output_names, returned, strict=True)
            items = tuple(beside(literal(name), ": ", variable) for name, variable in pairs)
            yield Statement(Brackets("{", items, "}"), "return ")
        elif graph.is_single or (_fits(f"return {', '.join(returned)}") and len(returned) > 1):
            yield Statement(", ".join(returned), "return ")
        else:
            yield Statement(Brackets("(", tuple(returned), ",)" if len(returned) == 1 else ")"), "return ")

    def _statements(self, step: Step) -> Iterator[Statement]:
        """The statements that compute a step's outputs."""
        if is_loop(step):
            yield from self._loop(step)
            return
        self._enter(step)
        targets = [self.variables.get(x, "_") for x in step.outputs]
        yield from self._shared(step, targets)
        if len(step.lowered.results) == 1:
            value = self.printer.document(step.lowered.results[0])
            if value != targets[0]:  # it is computed already, or an identity
                yield Statement(value, f"{targets[0]} = ")
            return
        for target, result in zip(targets, step.lowered.results, strict=True):
            if target != "_" and self._variable(result) != target:
                yield Statement(self.printer.document(result), f"{target} = ")
            elif target == "_" and self._is_listened_to(step, result):
                yield Statement(self.printer.document(result))

    def _loop(self, step: Step) -> Iterator[Statement]:
        """A loop over the copies of a block, each of which takes what the one before it gives."""
        given = [self.variables[x] for x in step.inputs]
        carried = [self.variables.get(x) or self._new(f"{step.name}_{place}") for place, x in enumerate(step.outputs)]
        if carried != given[: len(carried)]:
            yield Statement(", ".join(given[: len(carried)]), f"{', '.join(carried)} = ")
        self.loop = self.loop or self._new("block")
        yield Statement(f"self.{step.name}", f"for {self.loop} in ", ":")
        assert isinstance(step.node, BlockNode)
        is_tuple = len(carried) == 1 and not step.node.block.is_single
        value = called(self.loop, [*carried, *given[len(carried) :]])
        yield Statement(value, f"({carried[0]},) = " if is_tuple else f"{', '.join(carried)} = ", indent=1)

    def _is_listened_to(self, step: Step, result: Expression) -> bool:
        """Whether a result that nothing takes has a penalty, or is heard."""
        listened = {place.module for each in step.lowered.penalized if each.is_activity for place in each.places}
        listened |= step.lowered.heard
        return any(isinstance(each, Apply) and each.module.suffix in listened for each in walk(result))

    def _enter(self, step: Step) -> None:
        """Makes a step the current one: expressions that are printed from now on are over its tensors."""
        self.step = step
        self.bound = dict(zip(step.lowered.inputs, step.inputs, strict=True))
        self.known = {}

    def _tensor(self, x: Symbol) -> str:
        return self.variables[self.bound[x]]

    def _shared(self, step: Step, targets: list[str]) -> Iterator[Statement]:
        """Statements for what several results need: unpacked, ``sequence, (h, c) = self.lstm(x)``, or as one variable.

        A module that takes a part of another's result, as stacked cells do, gets a statement of its own too.
        """
        if len(step.lowered.results) < 2 and not step.lowered.has_parts:  # as of most layers
            return
        pairs = [
            (target, result)
            for target, result in zip(targets, step.lowered.results, strict=True)
            if target != "_" or self._is_listened_to(step, result)
        ]
        results = [result for _, result in pairs]
        expressions = [each for result in results for each in walk(result)]
        parts = [each for each in expressions if isinstance(each, Part)]
        taken_apart = {Itself(part.whole) for part in parts}
        wholes = {Itself(each): each for each in expressions if isinstance(each, Apply) or Itself(each) in taken_apart}
        wholes = {key: each for key, each in wholes.items() if not isinstance(each, Held)}
        counts = Counter(map(Itself, expressions)) if len(results) > 1 else Counter[Itself]()
        chained = {Itself(each.whole) for part in parts for before in _before(part) for each in (before, part)}
        for key, whole in wholes.items():
            if counts[key] < 2 and key not in chained:
                continue
            name = step.attributes[whole.module.suffix] if isinstance(whole, Apply) else step.name
            own = {part.path: part for part in parts if part.whole is whole}
            variables = {path: self._new(f"{name}_{part.name}") for path, part in own.items()}
            for target, result in pairs:
                if isinstance(result, Part) and result.whole is whole:
                    variables[result.path] = target
            names = _pattern(next(iter(own.values())).structure, (), variables)[1:-1] if own else ""
            value = self.printer.document(whole)
            if own and _fits(f"{names} = {flat(filled(value, self._numbers()))}"):
                yield Statement(value, f"{names} = ")
                self.known.update({(key, path): variable for path, variable in variables.items()})
            else:
                self.known[key, ()] = self._new(f"{name}_output")
                yield Statement(value, f"{self.known[key, ()]} = ")

    def _variable(self, expression: Expression) -> str | None:
        """The variable that already holds the value of an expression."""
        if not self.known:
            return None
        if isinstance(expression, Part):
            return self.known.get((Itself(expression.whole), expression.path))
        return self.known.get((Itself(expression), ()))

    def _new(self, name: str) -> str:
        """A variable's name that no other has, made of another name, or of a module's path."""
        name = name.replace(".", "_")
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def _numbers(self) -> dict[Hashable, Doc]:
        """The numbers of this block in the holes."""
        return {key: hole.number.text() for key, hole in enumerate(self.holes)}

    def _applied(self, applied: Apply) -> str:
        assert self.step is not None
        return module_text(self.step.attributes[applied.module.suffix])


def _fits(statement: str) -> bool:
    """Whether a statement of a method fits on a line."""
    return len(INDENT) * 2 + len(statement) <= WIDTH


def _before(part: Part) -> Iterator[Part]:
    """The parts of other modules' results that are arguments of the module of this part."""
    if isinstance(part.whole, Apply):
        yield from (each for each in part.whole.arguments if isinstance(each, Part))


def _is_program(constructor: Call | Definition | None) -> TypeGuard[Program]:
    return isinstance(constructor, Program)


def _pattern(structure: tuple[object, ...], path: tuple[int, ...], variables: dict[tuple[int, ...], str]) -> str:
    """The target of an assignment that unpacks a structure, with ``_`` for what is not needed."""
    if not any(known[: len(path)] == path for known in variables):
        return "_"
    inside = [
        _pattern(each, (*path, index), variables) if isinstance(each, tuple) else variables.get((*path, index), "_")
        for index, each in enumerate(structure)
    ]
    return f"({', '.join(inside)}{',' * (len(inside) == 1)})"
