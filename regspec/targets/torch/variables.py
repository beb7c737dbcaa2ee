"""The variables of a printed forward: which holds which tensor."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Container, Iterable, Iterator
from itertools import chain, count

from regspec.code.expressions import Call, walk
from regspec.code.shapes import Symbol
from regspec.graph.blocks import Graph
from regspec.graph.nodes import Node

CHAINS = ("x", "h", "y", "z")  # variables that hold several tensors, one after the other
MANY = 12  # tensors that others than the next statement take; with more of them, variables are taken again
_TAKEN = ("self", "torch", "nn", "F", "_")
_BUILTINS = frozenset(dir(builtins)) - {"input"}  # which layers are called after, such as sum, but no variable


def variables_of(graph: Graph) -> dict[int, str]:
    """The variable of each tensor that is used, by the tensor's id.

    A tensor that only the next statement takes, and takes alone, is called x; any other by its layer. In a long forward
    that would keep nearly all tensors until it returns, so there a variable is taken again once what it holds is spent.
    """
    nodes = graph.nodes
    uses: dict[int, set[int]] = {}
    for index, node in enumerate(nodes):
        for x in node.inputs:
            uses.setdefault(id(x), set()).add(index)
    for x in graph.outputs:
        uses.setdefault(id(x), set()).add(len(nodes))
    variables: dict[int, str] = {}
    taken = {*_TAKEN, *_called(nodes)}

    def add(x: Symbol, name: str) -> None:
        variables[id(x)] = _free(name, taken)
        taken.add(variables[id(x)])

    for x in graph.inputs:
        add(x, x.source)
    given = dict(variables)
    taken |= _BUILTINS
    chained = []
    for index, node in enumerate(nodes):
        for position, x in enumerate(node.outputs):
            if id(x) not in uses:
                continue
            is_alone = index + 1 == len(nodes) or len({id(each) for each in nodes[index + 1].inputs}) == 1
            if uses[id(x)] == {index + 1} and is_alone and len(node.outputs) == 1:
                chained.append(x)
            elif node.is_adapter:
                add(x, f"{node.name}_{node.plan.kind}")
            elif node.plan.output_names is not None:
                add(x, f"{node.name}_{node.plan.output_names[position]}")
            else:
                add(x, f"{node.name}_{position}" if position else node.name)
    if len(variables) - len(given) > MANY:
        return _taken_again(graph, given, {key: max(indices) for key, indices in uses.items()})
    # an input that only the first statement takes may give its name away
    spent = {variables[id(x)] for x in graph.inputs if uses.get(id(x), set()) <= {0}}
    kept = taken - spent
    free = next(name for name in chain(CHAINS, map("x{}".format, count())) if name not in kept)
    return variables | {id(x): free for x in chained}


def _called(nodes: Iterable[Node]) -> Iterator[str]:
    """The functions that results call by a name alone: no variable may hide them."""
    for node in nodes:
        for each in (each for result in node.plan.results for each in walk(result)):
            if isinstance(each, Call):
                yield each.function if isinstance(each.function, str) else each.function.name


def _free(name: str, taken: Container[str]) -> str:
    """A variable's name that is not taken, made of this one."""
    while name in taken or keyword.iskeyword(name):
        name += "_"
    return name


def _taken_again(graph: Graph, given: dict[int, str], last: dict[int, int]) -> dict[int, str]:
    """The variables where each is taken again after the last use of what it holds; the first that is free is taken."""
    variables = dict(given)
    inputs = frozenset(given.values())
    fixed = inputs.difference(CHAINS)  # inputs keep their names, but for an x
    names = (name for name in chain(CHAINS, map("x{}".format, count(1))) if name not in inputs)
    order = {name: place for place, name in enumerate(CHAINS)}
    free = {name for key, name in given.items() if key not in last} - fixed
    for index, node in enumerate(graph.nodes):
        spent = {variables[id(x)] for x in node.inputs if last[id(x)] == index} - fixed
        own = [x for x in node.outputs if id(x) in last]
        if len(node.plan.results) == 1:  # a single statement may replace what it takes
            free |= spent
        for x in own:
            name = min(free, key=order.__getitem__) if free else next(names)
            order.setdefault(name, len(order))
            free.discard(name)
            variables[id(x)] = name
        free |= spent - {variables[id(x)] for x in own}
    return variables
