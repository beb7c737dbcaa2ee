"""From a Graph to the text of a Python file that defines it: what is printed is what runs.

Only names of this package's tables and checked identifiers are printed as they stand; everything else is a literal.
Blocks that come out equal are one class.
"""

from __future__ import annotations

import keyword
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from regspec import shapes
from regspec.calls import Apply, Call, Definition, Expression, Import, Part, walk
from regspec.graph import Graph
from regspec.imports import Imports
from regspec.nodes import Constrained, Fill, Node, Term
from regspec.printing import INDENT, WIDTH, Printer, lines, literal
from regspec.shapes import Tensor
from regspec.standalone import PACKAGE, definitions

T = TypeVar("T")
K = TypeVar("K")

# What regspec.runtime offers to compiled source; a test compares it with the package.
RUNTIME = frozenset(
    [
        "AdditiveAttention",
        "AlphaDropout",
        "Attention",
        "BatchNorm1d",
        "BatchNorm2d",
        "BatchNorm3d",
        "CategoryEncoding",
        "Discretization",
        "Dropout",
        "EinsumDense",
        "Exponential",
        "GRU",
        "GaussianDropout",
        "GaussianNoise",
        "GroupLasso",
        "GroupNorm",
        "GroupQueryAttention",
        "Hoyer",
        "KLSparsity",
        "L1",
        "L1L2",
        "L2",
        "LSTM",
        "LayerNorm",
        "MaxNorm",
        "MinMaxNorm",
        "MultiHeadAttention",
        "NonNeg",
        "Norm",
        "Normalization",
        "Orthogonal",
        "PReLU",
        "Regularized",
        "Rescaling",
        "Resize",
        "ReversibleEmbedding",
        "SamePadding",
        "SimpleRNN",
        "SparsePlus",
        "SparseSigmoid",
        "Sparsemax",
        "Spectral",
        "SpectralNormalization",
        "Squareplus",
        "Sum",
        "ThresholdedReLU",
        "UnitNorm",
        "eye_",
        "orthogonal_",
        "stft_",
    ]
)

CHAIN = "x"  # the variable of a tensor that only the next statement takes


def print_source(graph: Graph, *, standalone: bool = False) -> str:
    """The text of a file that defines the class of a graph, its blocks' classes before it.

    With ``standalone``, the pieces of the runtime that they use come first, instead of being imported.
    """
    file = _File()
    name = file.define(graph)
    if standalone:
        parts = [*definitions(file.runtime, file.imports), *file.classes]
        summary = f"{name}, compiled by regspec to stand alone: it needs torch only."
    else:
        for each in file.runtime:
            file.imports.name(PACKAGE, each)
        parts, summary = file.classes, f"{name}, compiled by regspec."
    gap = "\n\n\n" if parts[0].startswith(("class ", "def ", "@")) else "\n\n"  # as ruff has it
    return f'"""{summary}"""\n\n{file.imports.text()}{gap}' + "\n\n\n".join(parts) + "\n"


@dataclass
class _File:
    """The classes of a file so far, and the names that they use."""

    classes: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # of classes, by their text
    runtime: set[str] = field(default_factory=set)
    imports: Imports = field(default_factory=Imports)

    def __post_init__(self) -> None:
        self.imports.name("torch", "Tensor")

    def define(self, graph: Graph) -> str:
        """The name of the class of a graph; the class is added unless an equal one is there."""
        head, body = _Class(graph, self).text()
        text = head + body
        if text not in self.names:
            self.names[text] = _class_name(graph.name, set(self.names.values()))
            self.classes.append(f"class {self.names[text]}({head}):\n{body}")
        return self.names[text]

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


class _Class:
    """Prints one graph as a class."""

    def __init__(self, graph: Graph, file: _File) -> None:
        self.graph = graph
        self.file = file
        self.variables = _variables(graph)
        self.node: Node | None = None  # the node whose results are being printed
        self.known: dict[
            tuple[int, tuple[int, ...]], str
        ] = {}  # variables of shared expressions: by id, and path of a part
        self.printer = Printer(lambda tensor: self.variables[id(tensor)], self._applied, self._variable, file.function)

    def text(self) -> tuple[str, str]:
        """The class's base and its body."""
        nodes = self.graph.nodes
        terms = [term for node in nodes for term in node.terms]
        constraints = [each for node in nodes for each in node.constraints]
        fills = [fill for node in nodes for fill in node.fills]
        base = self.file.function("Regularized" if self.graph.is_root or terms or constraints else "nn.Module")
        init = ["super().__init__()"]
        for node in nodes:
            for name, constructor in node.modules.items():
                init.append(f"self.{name} = {self._constructor(constructor)}")
        init.extend(f"self.{path}.requires_grad_(False)" for node in nodes for path in node.frozen)
        init.extend(self._terms(terms))
        init.extend(self._constraints(constraints))
        if fills:
            init.append("self.init_weights()")
        methods = [_method("__init__(self) -> None", "", init)]
        if fills:
            summary = '"""Fills the parameters as the spec\'s initializers say."""'
            methods.append(_method("init_weights(self) -> None", summary, self._fills(fills)))
        methods.append(_method(self._signature(), "", self._forward()))
        return base, f"{self._docstring()}\n\n" + "\n\n".join(methods)

    # -- what it is made of -------------------------------------------------------------------------------------------

    def _constructor(self, constructor: Call | Definition) -> str:
        if isinstance(constructor, Graph):
            return f"{self.file.define(constructor)}()"
        assert isinstance(constructor, Call)
        return self.printer.text(constructor)

    def _terms(self, terms: list[Term]) -> Iterator[str]:
        """A statement for the weight terms of each regularizer, and one for its activity terms."""
        for regularizer, group in _grouped(terms, lambda term: self.printer.text(term.regularizer)):
            weights = {term.name: _one_or_all(term.parameters) for term in group if term.parameters}
            outputs = {term.name: term.output for term in group if term.output}
            if weights:
                yield f"self.add_weight_terms({regularizer}, {literal(weights)})"
            if outputs:
                reduction = "" if self.graph.reduction == "mean" else f', reduction="{self.graph.reduction}"'
                yield f"self.add_activity_terms({regularizer}, {literal(outputs)}{reduction})"

    def _constraints(self, constraints: list[Constrained]) -> Iterator[str]:
        for constraint, group in _grouped(constraints, lambda each: self.printer.text(each.constraint)):
            weights = {each.name: _one_or_all(each.parameters) for each in group}
            yield f"self.add_constraints({constraint}, {literal(weights)})"

    def _fills(self, fills: list[Fill]) -> Iterator[str]:
        """A statement, or a loop, for each way in which parameters start."""
        for (function, arguments), group in _grouped(fills, self._fill):
            targets = [
                f"self.{fill.parameter}" + ("" if fill.rows is None else "[{}:{}]".format(*fill.rows)) for fill in group
            ]
            if len(targets) == 1:
                yield f"{function}({targets[0]}{arguments})"
            else:
                yield f"for parameter in ({', '.join(targets)}):"
                yield f"{INDENT}{function}(parameter{arguments})"

    def _fill(self, fill: Fill) -> tuple[str, str]:
        """The function that fills a parameter, and its arguments after the parameter."""
        arguments = self.printer.arguments(fill.call.arguments, fill.call.keywords)
        return self.file.function(fill.call.function), f", {arguments}" if arguments else ""

    # -- what it computes ---------------------------------------------------------------------------------------------

    def _docstring(self) -> str:
        """What goes in and what comes out, with shapes."""
        inputs = ", ".join(f"{x.source} {shapes.text(x.logical)}" for x in self.graph.inputs)
        names = self.graph.output_names or tuple(x.source for x in self.graph.outputs)
        outputs = ", ".join(
            f"{name} {shapes.text(x.logical)}" for name, x in zip(names, self.graph.outputs, strict=True)
        )
        line = f'{INDENT}"""{inputs} -> {outputs}"""'
        if len(line) <= WIDTH:
            return line
        wrapped = textwrap.wrap(f'"""{inputs} -> {outputs}', WIDTH - 2 * len(INDENT))
        return textwrap.indent("\n".join([*wrapped, '"""']), INDENT)

    def _signature(self) -> str:
        inputs = ", ".join(f"{self.variables[id(x)]}: Tensor" for x in self.graph.inputs)
        count = len(self.graph.outputs)
        returned = "Tensor" if self.graph.is_single else f"tuple[{', '.join(['Tensor'] * count)}]"
        if self.graph.output_names is not None and self.graph.is_root:
            returned = "dict[str, Tensor]"
        return f"forward(self, {inputs}) -> {returned}"

    def _forward(self) -> Iterator[str]:
        *nodes, last = self.graph.nodes
        for node in nodes:
            yield from self._statements(node)
        returned = [self.variables[id(x)] for x in self.graph.outputs]
        if self.graph.is_single and last.outputs == self.graph.outputs and len(last.results) == 1:
            self.node = last
            yield f"return {self.printer.text(last.results[0])}"
            return
        yield from self._statements(last)
        if self.graph.output_names is not None and self.graph.is_root:
            pairs = zip(self.graph.output_names, returned, strict=True)
            yield f"return {{{', '.join(f'{literal(name)}: {variable}' for name, variable in pairs)}}}"
        elif self.graph.is_single or len(returned) > 1:
            yield f"return {', '.join(returned)}"
        else:
            yield f"return ({returned[0]},)"

    def _statements(self, node: Node) -> Iterator[str]:
        """The statements that compute a node's outputs."""
        self.node = node
        targets = [self.variables.get(id(x), "_") for x in node.outputs]
        yield from self._shared(node, targets)
        for target, result in zip(targets, node.results, strict=True):
            if target != "_" and self._variable(result) != target:
                yield f"{target} = {self.printer.text(result)}"

    def _shared(self, node: Node, targets: list[str]) -> Iterator[str]:
        """Statements for what several results need: taken apart, ``sequence, (h, c) = self.lstm(x)``, or as it is."""
        expressions = [each for result in node.results for each in walk(result)]
        applied = [each for each in expressions if isinstance(each, Apply)]
        counts = Counter(id(each) for each in applied)
        for whole in dict.fromkeys(each for each in applied if counts[id(each)] > 1):
            parts = {each.path: each for each in expressions if isinstance(each, Part) and each.whole is whole}
            if not parts:
                self.known[id(whole), ()] = self._new(f"{self._applied(whole)}_output")
                yield f"{self.known[id(whole), ()]} = {self.printer.text(whole)}"
                continue
            variables = {path: self._new(f"{self._applied(whole)}_{_leaf(part)}") for path, part in parts.items()}
            for target, result in zip(targets, node.results, strict=True):
                if isinstance(result, Part) and result.whole is whole:
                    variables[result.path] = target
            pattern = _pattern(next(iter(parts.values())).structure, (), variables)
            yield f"{pattern[1:-1]} = {self.printer.text(whole)}"
            self.known.update({(id(whole), path): variable for path, variable in variables.items()})

    def _variable(self, expression: Expression) -> str | None:
        """The variable that already holds the value of an expression."""
        if isinstance(expression, Part):
            return self.known.get((id(expression.whole), expression.path))
        return self.known.get((id(expression), ()))

    def _new(self, name: str) -> str:
        """A variable's name that no other has, made of an attribute's."""
        name = name.removeprefix("self.")
        while name in self.variables.values() or name in self.known.values():
            name += "_"
        return name

    def _applied(self, applied: Apply) -> str:
        assert self.node is not None
        return f"self.{self.node.attributes[applied.module]}"


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


def _variables(graph: Graph) -> dict[int, str]:
    """The variable of each tensor that is used, by the tensor's id.

    A tensor that only the next statement takes, and takes alone, is called `CHAIN`; any other by its layer.
    """
    nodes = graph.nodes
    uses: dict[int, set[int]] = {}
    for index, node in enumerate(nodes):
        for x in node.inputs:
            uses.setdefault(id(x), set()).add(index)
    for x in graph.outputs:
        uses.setdefault(id(x), set()).add(len(nodes))
    variables: dict[int, str] = {}
    taken = {"self", "torch", "nn", "F", "_"}

    def add(x: Tensor, name: str) -> None:
        while name in taken or keyword.iskeyword(name):
            name += "_"
        taken.add(name)
        variables[id(x)] = name

    for x in graph.inputs:
        add(x, x.source)
    chained = []
    for index, node in enumerate(nodes):
        for position, x in enumerate(node.outputs):
            if id(x) not in uses:
                continue
            is_alone = index + 1 == len(nodes) or len({id(each) for each in nodes[index + 1].inputs}) == 1
            if uses[id(x)] == {index + 1} and is_alone and len(node.outputs) == 1:
                chained.append(x)
            elif node.layer is None and not node.attributes:
                add(x, f"{node.name}_permuted")
            else:
                add(x, f"{node.name}_{position}" if position else node.name)
    chain = CHAIN
    while chain in taken:
        chain += "_"
    return variables | {id(x): chain for x in chained}


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> Iterator[tuple[K, list[T]]]:
    """Items by key, in the order in which the keys first appear."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    yield from groups.items()


def _one_or_all(parameters: tuple[str, ...]) -> str | tuple[str, ...]:
    return parameters[0] if len(parameters) == 1 else parameters


def _method(signature: str, summary: str, statements: Iterable[str]) -> str:
    body = [f"{INDENT * 2}{summary}"] if summary else []
    for statement in statements:
        deeper = len(statement) - len(statement.lstrip())
        body.extend(lines(statement.lstrip(), 2 + deeper // len(INDENT)))
    return "\n".join([*lines(f"def {signature}:", 1), *body])


def _class_name(name: str, taken: set[str]) -> str:
    """A class's name made of a spec's or a block's: ``DigitsCnn`` of ``digits_cnn``."""
    camel = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    if camel in RUNTIME or camel in ("Tensor", "F"):
        camel += "Model"
    unique, number = camel, 1
    while unique in taken:
        number += 1
        unique = f"{camel}{number}"
    return unique
