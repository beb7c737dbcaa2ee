"""The variables of a printed forward: which holds which tensor."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import chain, count

from regspec.code.expressions import Call, Each, Part
from regspec.code.shapes import Symbol
from regspec.graph.network import BlockNode
from regspec.targets.torch.program import Program
from regspec.targets.torch.repeats import is_loop, is_sequence
from regspec.targets.torch.steps import Step

CHAINS = ("x", "h", "y", "z")  # variables that hold several tensors, one after the other
MANY = 12  # tensors that live beyond the next statement; with more of them, variables are reused
_TAKEN = ("self", "torch", "nn", "F", "_")
_BUILTINS = frozenset(dir(builtins)) - {"input"}  # names for layers, such as sum, but not for variables


def variables_of(program: Program, steps: Sequence[Step]) -> dict[Symbol, str]:
    """The variable of each tensor that is used.

    A tensor that only the next statement takes, as its only input, is called x; any other has its layer's name. In a
    long forward such names would keep nearly all tensors alive until it returns; there, a variable is reused as soon as
    its tensor is no longer needed.
    """
    uses: dict[Symbol, set[int]] = {}
    for index, step in enumerate(steps):
        for place, x in enumerate(step.inputs):
            uses.setdefault(x, set()).add(index)
            if is_loop(step) and place >= len(step.outputs):
                uses[x].add(len(steps))  # each copy takes it: no output may have its name
    for x in program.outputs:
        uses.setdefault(x, set()).add(len(steps))
    variables: dict[Symbol, str] = {}
    taken = {*_TAKEN, *_called(steps)}

    def add(x: Symbol, name: str) -> None:
        variables[x] = _free(name, taken)
        taken.add(variables[x])

    for x in program.inputs:
        add(x, x.source)
    given = dict(variables)
    taken |= _BUILTINS
    chained = []
    for index, step in enumerate(steps):
        names = step.node.block.output_names if isinstance(step.node, BlockNode) else None
        for position, x in enumerate(step.outputs):
            if x not in uses:
                continue
            is_named = len(program.outputs) > 1 and x in program.outputs  # as its layer
            is_alone = index + 1 == len(steps) or _takes_alone(steps[index + 1], x)
            if uses[x] == {index + 1} and not is_named and is_alone and len(step.outputs) == 1:
                chained.append(x)
            elif step.node is None:
                add(x, f"{step.name}_{step.lowered.kind}")
            elif names is not None:
                add(x, f"{step.name}_{names[position]}")
            elif position:
                result = step.lowered.results[position]
                add(x, f"{step.name}_{result.name if isinstance(result, Part) else position}")
            else:
                add(x, step.name)
    if len(variables) - len(given) > MANY:
        return _reused(steps, given, {x: max(indices) for x, indices in uses.items()})
    # an input that only the first statement takes may give its name away
    spent = {variables[x] for x in program.inputs if uses.get(x, set()) <= {0}}
    kept = taken - spent
    free = next(name for name in chain(CHAINS, map("x{}".format, count())) if name not in kept)
    return variables | dict.fromkeys(chained, free)


def _takes_alone(step: Step, x: Symbol) -> bool:
    """Whether a statement takes a tensor alone; a loop over blocks, which beside it takes the same ones each time."""
    is_carried = (is_loop(step) or is_sequence(step)) and len(step.outputs) == 1 and x is step.inputs[0]
    return len({*step.inputs}) == 1 or is_carried


def _called(steps: Iterable[Step]) -> Iterator[str]:
    """The functions that results call by a name alone: no variable may hide them."""
    for lowered in dict.fromkeys(step.lowered for step in steps):
        for each in lowered.expressions:
            if isinstance(each, Each):
                yield "zip"
            if isinstance(each, Call):
                yield each.function if isinstance(each.function, str) else each.function.name


def _free(name: str, taken: Container[str]) -> str:
    """A variable's name that is not taken, made of this one."""
    while name in taken or keyword.iskeyword(name):
        name += "_"
    return name


def _reused(steps: Sequence[Step], given: dict[Symbol, str], last: dict[Symbol, int]) -> dict[Symbol, str]:
    """The variables where each is reused after the last use of its tensor; the first that is free is taken."""
    variables = dict(given)
    inputs = frozenset(given.values())
    fixed = inputs.difference(CHAINS)  # inputs keep their names, except x, h, y and z
    names = (name for name in chain(CHAINS, map("x{}".format, count(1))) if name not in inputs)
    order = {name: place for place, name in enumerate(CHAINS)}
    free = {name for x, name in given.items() if x not in last} - fixed
    for index, step in enumerate(steps):
        spent = {variables[x] for x in step.inputs if last[x] == index} - fixed
        own = [x for x in step.outputs if x in last]
        if len(step.lowered.results) == 1:  # a single statement may replace what it takes
            free |= spent
        for x in own:
            name = min(free, key=order.__getitem__) if free else next(names)
            order.setdefault(name, len(order))
            free.discard(name)
            variables[x] = name
        free |= spent - {variables[x] for x in own}
    return variables
