"""One graph as a class: the statements of its constructor, its initialization and its forward.

The numbers in a block's constructor are left open, as holes, so that blocks that differ in them alone can be one
class with parameters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from regspec.code.expressions import CASTS, Apply, Call, Definition, Expression, Held, Import, Itself, Part, Value, walk
from regspec.code.shapes import Shape, Symbol
from regspec.targets.python.printing import INDENT, WIDTH, Printer, literal
from regspec.targets.torch.lowered import Constrained, Fill, Penalized, Place
from regspec.targets.torch.program import Program
from regspec.targets.torch.steps import Step
from regspec.targets.torch.variables import variables_of

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

MARK = "\0"  # stands around the number of a hole
GAP = "\2"  # stands for the module of a parameter


@dataclass(frozen=True, slots=True)
class Hole:
    """A number, or a tuple of them, that is left open, and what the constructor around it calls it."""

    value: Value
    hint: str


@dataclass(frozen=True, slots=True)
class Outline:
    """A class whose name, and the values of whose holes, are not yet written in."""

    name: str  # the graph's
    base: str
    inputs: tuple[tuple[str, Shape], ...]
    outputs: tuple[tuple[str, Shape], ...]
    init: tuple[str, ...]
    fills: tuple[str, ...]
    casts: tuple[str, ...]  # after the fills, which some types can't do
    signature: str
    forward: tuple[str, ...]
    holes: tuple[Hole, ...]

    @property
    def skeleton(self) -> tuple[object, ...]:
        """What two outlines share that differ in the values of their holes alone."""
        return self.name, self.base, self.init, self.fills, self.signature, self.forward


@dataclass
class Outliner:
    """Prints one graph. ``function`` and ``block`` say how the file around it calls functions and blocks' classes."""

    program: Program
    function: Callable[[str | Import], str]
    block: Callable[[Program], tuple[str, list[Hole]]]
    holes: list[Hole] = field(default_factory=list)
    step: Step | None = None  # whose results are being printed
    bound: dict[Symbol, Symbol] = field(default_factory=dict)  # its inputs by those of what it computes
    known: dict[tuple[Itself, tuple[int, ...]], str] = field(default_factory=dict)  # variables of shared expressions
    texts: dict[Call | Fill, str] = field(default_factory=dict)  # which equal layers share

    def __post_init__(self) -> None:
        self.variables = variables_of(self.program)
        self.taken = set(self.variables.values())
        self.printer = Printer(self._tensor, self._applied, self._variable, self.function)

    def outline(self) -> Outline:
        """The graph's class."""
        graph = self.program.graph
        own = [step for step in self.program.steps if step.declares]
        terms = [(step, each) for step in own for each in step.lowered.penalized]
        constraints = [(step, each) for step in own for each in step.lowered.constrained]
        fills = [(step, fill) for step in own for fill in step.lowered.fills]
        base = self.function("Regularized" if graph.is_root or terms or constraints else "nn.Module")
        names = graph.output_names or tuple(x.source for x in self.program.outputs)
        return Outline(
            graph.name,
            base,
            tuple((x.source, x.shape) for x in self.program.inputs),
            tuple((name, x.shape) for name, x in zip(names, self.program.outputs, strict=True)),
            tuple(self._init(terms, constraints)),
            tuple(self._fills(fills)),
            tuple(_casts(self.program)) if graph.is_root else (),
            self._signature(),
            tuple(self._forward()),
            tuple(self.holes),
        )

    # -- the constructor ----------------------------------------------------------------------------------------------

    def _init(self, terms: list[tuple[Step, Penalized]], constraints: list[tuple[Step, Constrained]]) -> Iterator[str]:
        if not self.program.graph.is_root:
            self.printer.hole = self._hole
        for step in self.program.steps:
            for name, constructor in step.modules.items():
                yield f"self.{name} = {self._constructor(constructor)}"
        for step in self.program.steps:
            if step.declares:
                yield from (f"self.{step.path(place)}.requires_grad_(False)" for place in step.lowered.frozen)
        yield from self._terms(terms)
        for constraint, group in _grouped(constraints, lambda each: each[1].constructor):
            weights = {f"{step.name}.{each.slot}": _paths(step, each.places) for step, each in group}
            yield f"self.add_constraints({self.printer.text(constraint)}, {literal(weights)})"
        self.printer.hole = None

    def _hole(self, value: Value, hint: str) -> str:
        self.holes.append(Hole(value, hint))
        return f"{MARK}{len(self.holes) - 1}{MARK}"

    def _constructor(self, constructor: Call | Definition) -> str:
        if isinstance(constructor, Program):
            name, arguments = self.block(constructor)
            named = ", ".join(f"{each.hint}={self.printer.value(each.value, each.hint)}" for each in arguments)
            return f"{name}({named})"
        assert isinstance(constructor, Call)
        if self.printer.hole is not None:
            return self.printer.text(constructor)
        if constructor not in self.texts:
            self.texts[constructor] = self.printer.text(constructor)
        return self.texts[constructor]

    def _terms(self, terms: list[tuple[Step, Penalized]]) -> Iterator[str]:
        """A statement for the weight terms of each regularizer, and one for its activity terms."""
        graph = self.program.graph
        for regularizer, group in _grouped(terms, lambda each: each[1].constructor):
            paths = {f"{step.name}.{term.slot}": (_paths(step, term.places), term.is_activity) for step, term in group}
            weights = {name: path for name, (path, is_activity) in paths.items() if not is_activity}
            outputs = {name: path for name, (path, is_activity) in paths.items() if is_activity}
            if weights:
                frozen = ", counts_frozen=True" if graph.counts_frozen else ""
                yield f"self.add_weight_terms({self.printer.text(regularizer)}, {literal(weights)}{frozen})"
            if outputs:
                reduction = "" if graph.reduction == "mean" else f', reduction="{graph.reduction}"'
                yield f"self.add_activity_terms({self.printer.text(regularizer)}, {literal(outputs)}{reduction})"

    def _fills(self, fills: list[tuple[Step, Fill]]) -> Iterator[str]:
        """How parameters start: a loop over the modules whose parameters start alike, or statements for one."""
        calls: dict[str, list[str]] = {}  # by module, with a gap where it stands
        for step, fill in fills:
            module, _, parameter = step.path(fill.place).rpartition(".")
            if fill not in self.texts:
                self.texts[fill] = self._fill(fill, parameter)
            calls.setdefault(module, []).append(self.texts[fill])
        for statements, modules in _grouped(calls, lambda module: tuple(calls[module])):
            if len(modules) > 1:
                yield f"for layer in ({', '.join(f'self.{module}' for module in modules)}):"
                yield from (INDENT + statement.replace(GAP, "layer") for statement in statements)
            else:
                yield from (statement.replace(GAP, f"self.{modules[0]}") for statement in statements)

    def _fill(self, fill: Fill, parameter: str) -> str:
        """The call that fills a module's parameter, with a gap where the module stands."""
        arguments = self.printer.arguments(fill.call.arguments, fill.call.keywords)
        rows = "" if fill.rows is None else f"[{fill.rows[0]}:{fill.rows[1]}]"
        target = f"{GAP}.{parameter}{rows}"
        return f"{self.function(fill.call.function)}({target}{', ' if arguments else ''}{arguments})"

    # -- the forward --------------------------------------------------------------------------------------------------

    def _signature(self) -> str:
        graph = self.program.graph
        inputs = ", ".join(f"{self.variables[x]}: Tensor" for x in self.program.inputs)
        returned = "Tensor" if graph.is_single else f"tuple[{', '.join(['Tensor'] * len(graph.outputs))}]"
        if graph.output_names is not None and graph.is_root:
            returned = "dict[str, Tensor]"
        return f"forward(self, {inputs}) -> {returned}"

    def _forward(self) -> Iterator[str]:
        graph = self.program.graph
        *steps, last = self.program.steps
        for step in steps:
            yield from self._statements(step)
        returned = [self.variables[x] for x in self.program.outputs]
        if graph.is_single and last.outputs == self.program.outputs and len(last.lowered.results) == 1:
            self._enter(last)
            yield from self._shared(last, returned)
            yield f"return {self.printer.text(last.lowered.results[0])}"
            return
        yield from self._statements(last)
        if graph.output_names is not None and graph.is_root:
            pairs = zip(graph.output_names, returned, strict=True)
            yield f"return {{{', '.join(f'{literal(name)}: {variable}' for name, variable in pairs)}}}"
        elif graph.is_single or len(returned) > 1:
            text = ", ".join(returned)
            yield f"return {text}" if _fits(f"return {text}") else f"return ({text})"
        else:
            yield f"return ({returned[0]},)"

    def _statements(self, step: Step) -> Iterator[str]:
        """The statements that compute a step's outputs."""
        self._enter(step)
        targets = [self.variables.get(x, "_") for x in step.outputs]
        yield from self._shared(step, targets)
        if len(step.lowered.results) == 1:
            text = self.printer.text(step.lowered.results[0])
            if text != targets[0]:  # it is computed already, or an identity
                yield f"{targets[0]} = {text}"
            return
        for target, result in zip(targets, step.lowered.results, strict=True):
            if target != "_" and self._variable(result) != target:
                yield f"{target} = {self.printer.text(result)}"
            elif target == "_" and self._is_listened_to(step, result):
                yield self.printer.text(result)

    def _is_listened_to(self, step: Step, result: Expression) -> bool:
        """Whether a result that nothing takes has a penalty."""
        listened = {place.module for term in step.lowered.penalized if term.is_activity for place in term.places}
        return any(isinstance(each, Apply) and each.module.suffix in listened for each in walk(result))

    def _enter(self, step: Step) -> None:
        """Turns to a step, over whose tensors the expressions are from now on."""
        self.step = step
        self.bound = dict(zip(step.lowered.inputs, step.inputs, strict=True))
        self.known = {}

    def _tensor(self, x: Symbol) -> str:
        return self.variables[self.bound[x]]

    def _shared(self, step: Step, targets: list[str]) -> Iterator[str]:
        """Statements for what several results need: taken apart, ``sequence, (h, c) = self.lstm(x)``, or as it is.

        So are modules of which each takes a part of what the one before gives: cells that are stacked.
        """
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
        for whole in (each for key, each in wholes.items() if counts[key] > 1 or key in chained):
            name = self._applied(whole) if isinstance(whole, Apply) else step.name
            own = {part.path: part for part in parts if part.whole is whole}
            variables = {path: self._new(f"{name}_{_leaf(part)}") for path, part in own.items()}
            for target, result in pairs:
                if isinstance(result, Part) and result.whole is whole:
                    variables[result.path] = target
            names = _pattern(next(iter(own.values())).structure, (), variables)[1:-1] if own else ""
            text = self.printer.text(whole)
            if own and _fits(f"{names} = {text}"):
                yield f"{names} = {text}"
                self.known.update({(Itself(whole), path): variable for path, variable in variables.items()})
            else:
                self.known[Itself(whole), ()] = self._new(f"{name}_output")
                yield f"{self.known[Itself(whole), ()]} = {text}"

    def _variable(self, expression: Expression) -> str | None:
        """The variable that already holds the value of an expression."""
        if isinstance(expression, Part):
            return self.known.get((Itself(expression.whole), expression.path))
        return self.known.get((Itself(expression), ()))

    def _new(self, name: str) -> str:
        """A variable's name that no other has, made of an attribute's."""
        name = name.removeprefix("self.")
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def _applied(self, applied: Apply) -> str:
        assert self.step is not None
        return f"self.{self.step.attributes[applied.module.suffix]}"


def _fits(statement: str) -> bool:
    """Whether a statement of a method fits on a line."""
    return len(INDENT) * 2 + len(statement) <= WIDTH


def _before(part: Part) -> Iterator[Part]:
    """The parts of other modules' results that the module of this one takes as they are."""
    if isinstance(part.whole, Apply):
        yield from (each for each in part.whole.arguments if isinstance(each, Part))


def _casts(program: Program) -> Iterator[str]:
    """Statements that convert the model, or parts of it, to the types in which they compute."""
    for dtype, found in _grouped(_typed(program, "self"), lambda each: each[1]):
        paths = [path for path, _ in found]
        if dtype == "float32":  # as which they are made
            continue
        if len(paths) > 1:
            yield f"for layer in ({', '.join(paths)}):"
            yield f"{INDENT}layer.{CASTS[dtype]}()"
        else:
            yield f"{paths[0]}.{CASTS[dtype]}()"


def _typed(program: Program, path: str) -> list[tuple[str, str]]:
    """The modules in a graph that hold numbers, with their types; the graph's own path where all have one."""
    found = []
    for step in program.steps:
        for name, constructor in step.modules.items():
            if isinstance(constructor, Program):
                found += _typed(constructor, f"{path}.{name}")
            elif step.lowered.weights or not _is_torch(constructor):  # a module of torch without weights holds none
                resolved = step.lowered.resolved
                dtype = None if resolved is None else resolved.layer.precision
                found.append((f"{path}.{name}", dtype or program.graph.dtype))
    return [(path, found[0][1])] if len({dtype for _, dtype in found}) == 1 else found


def _is_torch(constructor: Call | Definition) -> bool:
    return (
        isinstance(constructor, Call)
        and isinstance(constructor.function, str)
        and constructor.function.startswith("nn.")
    )


def _leaf(part: Part) -> str:
    """The name of a part in the structure of its whole."""
    leaf: object = part.structure
    for index in part.path:
        assert isinstance(leaf, tuple)
        leaf = leaf[index]
    return str(leaf)


def _pattern(structure: tuple[object, ...], path: tuple[int, ...], variables: dict[tuple[int, ...], str]) -> str:
    """The target that takes a structure apart, ``_`` for what is not needed."""
    if not any(known[: len(path)] == path for known in variables):
        return "_"
    inside = [
        _pattern(each, (*path, index), variables) if isinstance(each, tuple) else variables.get((*path, index), "_")
        for index, each in enumerate(structure)
    ]
    return f"({', '.join(inside)}{',' * (len(inside) == 1)})"


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> Iterator[tuple[K, list[T]]]:
    """Items by key, in the order in which the keys first appear."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    yield from groups.items()


def _paths(step: Step, places: tuple[Place, ...]) -> str | tuple[str, ...]:
    """The path of a term's place, or the paths of its places."""
    paths = tuple(step.path(place) for place in places)
    return paths[0] if len(paths) == 1 else paths
