"""One graph as a class: the statements of its constructor, its initialization and its forward.

The numbers in a block's constructor are left open, as holes, so that blocks that differ in them alone can be one
class with parameters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from regspec.code.expressions import CASTS, Apply, Call, Definition, Expression, Held, Import, Part, Value, walk
from regspec.code.shapes import Shape, Symbol
from regspec.graph.blocks import Graph
from regspec.graph.nodes import Node
from regspec.graph.plans import Constrained, Fill, Place, Term
from regspec.targets.python.printing import INDENT, WIDTH, Printer, literal
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

    graph: Graph
    function: Callable[[str | Import], str]
    block: Callable[[Graph], tuple[str, list[Hole]]]
    holes: list[Hole] = field(default_factory=list)
    node: Node | None = None  # whose results are being printed
    bound: dict[int, int] = field(default_factory=dict)  # the ids of its inputs by those of its plan's
    known: dict[tuple[int, tuple[int, ...]], str] = field(default_factory=dict)  # variables of its shared expressions
    texts: dict[int, str] = field(default_factory=dict)  # of calls, by id: equal layers share them

    def __post_init__(self) -> None:
        self.variables = variables_of(self.graph)
        self.taken = set(self.variables.values())
        self.printer = Printer(self._tensor, self._applied, self._variable, self.function)

    def outline(self) -> Outline:
        """The graph's class."""
        graph = self.graph
        own = [node for node in graph.nodes if node.declares]
        terms = [(node, term) for node in own for term in node.plan.terms]
        constraints = [(node, each) for node in own for each in node.plan.constraints]
        fills = [(node, fill) for node in own for fill in node.plan.fills]
        base = self.function("Regularized" if graph.is_root or terms or constraints else "nn.Module")
        names = graph.output_names or tuple(x.source for x in graph.outputs)
        return Outline(
            graph.name,
            base,
            tuple((x.source, x.shape) for x in graph.inputs),
            tuple((name, x.shape) for name, x in zip(names, graph.outputs, strict=True)),
            tuple(self._init(terms, constraints)),
            tuple(self._fills(fills)),
            tuple(_casts(graph)) if graph.is_root else (),
            self._signature(),
            tuple(self._forward()),
            tuple(self.holes),
        )

    # -- the constructor ----------------------------------------------------------------------------------------------

    def _init(self, terms: list[tuple[Node, Term]], constraints: list[tuple[Node, Constrained]]) -> Iterator[str]:
        if not self.graph.is_root:
            self.printer.hole = self._hole
        for node in self.graph.nodes:
            for name, constructor in node.modules.items():
                yield f"self.{name} = {self._constructor(constructor)}"
        for node in self.graph.nodes:
            if node.declares:
                yield from (f"self.{node.path(place)}.requires_grad_(False)" for place in node.plan.frozen)
        yield from self._terms(terms)
        for constraint, group in _grouped(constraints, lambda each: each[1].constructor):
            weights = {f"{node.name}.{each.slot}": _paths(node, each.places) for node, each in group}
            yield f"self.add_constraints({self.printer.text(constraint)}, {literal(weights)})"
        self.printer.hole = None

    def _hole(self, value: Value, hint: str) -> str:
        self.holes.append(Hole(value, hint))
        return f"{MARK}{len(self.holes) - 1}{MARK}"

    def _constructor(self, constructor: Call | Definition) -> str:
        if isinstance(constructor, Graph):
            name, arguments = self.block(constructor)
            named = ", ".join(f"{each.hint}={self.printer.value(each.value, each.hint)}" for each in arguments)
            return f"{name}({named})"
        assert isinstance(constructor, Call)
        if self.printer.hole is not None:
            return self.printer.text(constructor)
        if id(constructor) not in self.texts:
            self.texts[id(constructor)] = self.printer.text(constructor)
        return self.texts[id(constructor)]

    def _terms(self, terms: list[tuple[Node, Term]]) -> Iterator[str]:
        """A statement for the weight terms of each regularizer, and one for its activity terms."""
        for regularizer, group in _grouped(terms, lambda each: each[1].constructor):
            paths = {f"{node.name}.{term.slot}": (_paths(node, term.places), term.is_activity) for node, term in group}
            weights = {name: path for name, (path, is_activity) in paths.items() if not is_activity}
            outputs = {name: path for name, (path, is_activity) in paths.items() if is_activity}
            if weights:
                frozen = ", counts_frozen=True" if self.graph.counts_frozen else ""
                yield f"self.add_weight_terms({self.printer.text(regularizer)}, {literal(weights)}{frozen})"
            if outputs:
                reduction = "" if self.graph.reduction == "mean" else f', reduction="{self.graph.reduction}"'
                yield f"self.add_activity_terms({self.printer.text(regularizer)}, {literal(outputs)}{reduction})"

    def _fills(self, fills: list[tuple[Node, Fill]]) -> Iterator[str]:
        """How parameters start: a loop over the modules whose parameters start alike, or statements for one."""
        calls: dict[str, list[str]] = {}  # by module, with a gap where it stands
        for node, fill in fills:
            module, _, parameter = node.path(fill.place).rpartition(".")
            if id(fill) not in self.texts:
                self.texts[id(fill)] = self._fill(fill, parameter)
            calls.setdefault(module, []).append(self.texts[id(fill)])
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
        inputs = ", ".join(f"{self.variables[id(x)]}: Tensor" for x in self.graph.inputs)
        returned = "Tensor" if self.graph.is_single else f"tuple[{', '.join(['Tensor'] * len(self.graph.outputs))}]"
        if self.graph.output_names is not None and self.graph.is_root:
            returned = "dict[str, Tensor]"
        return f"forward(self, {inputs}) -> {returned}"

    def _forward(self) -> Iterator[str]:
        *nodes, last = self.graph.nodes
        for node in nodes:
            yield from self._statements(node)
        returned = [self.variables[id(x)] for x in self.graph.outputs]
        if self.graph.is_single and last.outputs == self.graph.outputs and len(last.plan.results) == 1:
            self._enter(last)
            yield from self._shared(last, returned)
            yield f"return {self.printer.text(last.plan.results[0])}"
            return
        yield from self._statements(last)
        if self.graph.output_names is not None and self.graph.is_root:
            pairs = zip(self.graph.output_names, returned, strict=True)
            yield f"return {{{', '.join(f'{literal(name)}: {variable}' for name, variable in pairs)}}}"
        elif self.graph.is_single or len(returned) > 1:
            text = ", ".join(returned)
            yield f"return {text}" if _fits(f"return {text}") else f"return ({text})"
        else:
            yield f"return ({returned[0]},)"

    def _statements(self, node: Node) -> Iterator[str]:
        """The statements that compute a node's outputs."""
        self._enter(node)
        targets = [self.variables.get(id(x), "_") for x in node.outputs]
        yield from self._shared(node, targets)
        if len(node.plan.results) == 1:
            text = self.printer.text(node.plan.results[0])
            if text != targets[0]:  # it is computed already, or an identity
                yield f"{targets[0]} = {text}"
            return
        for target, result in zip(targets, node.plan.results, strict=True):
            if target != "_" and self._variable(result) != target:
                yield f"{target} = {self.printer.text(result)}"
            elif target == "_" and self._is_listened_to(node, result):
                yield self.printer.text(result)

    def _is_listened_to(self, node: Node, result: Expression) -> bool:
        """Whether a result that nothing takes has a penalty."""
        listened = {place.module for term in node.plan.terms if term.is_activity for place in term.places}
        return any(isinstance(each, Apply) and each.module.suffix in listened for each in walk(result))

    def _enter(self, node: Node) -> None:
        """Turns to a node, over whose tensors its plan's expressions are from now on."""
        self.node = node
        self.bound = {id(own): id(x) for own, x in zip(node.plan.inputs, node.inputs, strict=True)}
        self.known = {}

    def _tensor(self, x: Symbol) -> str:
        return self.variables[self.bound[id(x)]]

    def _shared(self, node: Node, targets: list[str]) -> Iterator[str]:
        """Statements for what several results need: taken apart, ``sequence, (h, c) = self.lstm(x)``, or as it is.

        So are modules of which each takes a part of what the one before gives: cells that are stacked.
        """
        pairs = [
            (target, result)
            for target, result in zip(targets, node.plan.results, strict=True)
            if target != "_" or self._is_listened_to(node, result)
        ]
        results = [result for _, result in pairs]
        expressions = [each for result in results for each in walk(result)]
        parts = [each for each in expressions if isinstance(each, Part)]
        taken_apart = {id(part.whole) for part in parts}
        wholes = {id(each): each for each in expressions if isinstance(each, Apply) or id(each) in taken_apart}
        wholes = {key: each for key, each in wholes.items() if not isinstance(each, Held)}
        counts = Counter(id(each) for each in expressions) if len(results) > 1 else Counter[int]()
        chained = {id(each.whole) for part in parts for before in _before(part) for each in (before, part)}
        for whole in (each for key, each in wholes.items() if counts[key] > 1 or key in chained):
            name = self._applied(whole) if isinstance(whole, Apply) else node.name
            own = {part.path: part for part in parts if part.whole is whole}
            variables = {path: self._new(f"{name}_{_leaf(part)}") for path, part in own.items()}
            for target, result in pairs:
                if isinstance(result, Part) and result.whole is whole:
                    variables[result.path] = target
            names = _pattern(next(iter(own.values())).structure, (), variables)[1:-1] if own else ""
            text = self.printer.text(whole)
            if own and _fits(f"{names} = {text}"):
                yield f"{names} = {text}"
                self.known.update({(id(whole), path): variable for path, variable in variables.items()})
            else:
                self.known[id(whole), ()] = self._new(f"{name}_output")
                yield f"{self.known[id(whole), ()]} = {text}"

    def _variable(self, expression: Expression) -> str | None:
        """The variable that already holds the value of an expression."""
        if isinstance(expression, Part):
            return self.known.get((id(expression.whole), expression.path))
        return self.known.get((id(expression), ()))

    def _new(self, name: str) -> str:
        """A variable's name that no other has, made of an attribute's."""
        name = name.removeprefix("self.")
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def _applied(self, applied: Apply) -> str:
        assert self.node is not None
        return f"self.{self.node.attributes[applied.module.suffix]}"


def _fits(statement: str) -> bool:
    """Whether a statement of a method fits on a line."""
    return len(INDENT) * 2 + len(statement) <= WIDTH


def _before(part: Part) -> Iterator[Part]:
    """The parts of other modules' results that the module of this one takes as they are."""
    if isinstance(part.whole, Apply):
        yield from (each for each in part.whole.arguments if isinstance(each, Part))


def _casts(graph: Graph) -> Iterator[str]:
    """Statements that convert the model, or parts of it, to the types in which they compute."""
    for dtype, found in _grouped(_typed(graph, "self"), lambda each: each[1]):
        paths = [path for path, _ in found]
        if dtype == "float32":  # as which they are made
            continue
        if len(paths) > 1:
            yield f"for layer in ({', '.join(paths)}):"
            yield f"{INDENT}layer.{CASTS[dtype]}()"
        else:
            yield f"{paths[0]}.{CASTS[dtype]}()"


def _typed(graph: Graph, path: str) -> list[tuple[str, str]]:
    """The modules in a graph that hold numbers, with their types; the graph's own path where all have one."""
    found = []
    for node in graph.nodes:
        for name, constructor in node.modules.items():
            if isinstance(constructor, Graph):
                found += _typed(constructor, f"{path}.{name}")
            elif node.plan.weights or not _is_torch(constructor):  # a module of torch without weights holds none
                dtype = node.plan.layer.precision if node.plan.layer is not None else None
                found.append((f"{path}.{name}", dtype or graph.dtype))
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


def _paths(node: Node, places: tuple[Place, ...]) -> str | tuple[str, ...]:
    """The path of a term's place, or the paths of its places."""
    paths = tuple(node.path(place) for place in places)
    return paths[0] if len(paths) == 1 else paths
