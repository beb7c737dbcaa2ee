"""Expressions that only the next statement takes, in place: ``self.relu(a + b)``, and not ``x = a + b`` before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from regspec.code.expressions import Each, Expression, replaced, walk
from regspec.code.shapes import Symbol
from regspec.targets.torch.repeats import CHAIN
from regspec.targets.torch.steps import Step

MANY = 4  # operations in a statement that is still read at a glance


def with_inlined(steps: Sequence[Step], outputs: Sequence[Symbol]) -> tuple[Step, ...]:
    """The steps of a forward; those without modules whose result only the next one takes, once, are put into that."""
    read: dict[Symbol, int] = {}
    for x in (*outputs, *(x for step in steps for x in step.inputs)):
        read[x] = read.get(x, 0) + 1
    done: list[Step] = []
    for step in steps:
        if done and (merged := _merged(done[-1], step, read)) is not None:
            done[-1] = merged
        else:
            done.append(step)
    return tuple(done)


def _merged(first: Step, then: Step, read: dict[Symbol, int]) -> Step | None:
    """One step for two, where the first may stand in the second."""
    if first.lowered.modules or len(first.outputs) != 1 or then.lowered.kind == CHAIN:
        return None
    (x,) = first.outputs
    if read.get(x) != 1 or x not in then.inputs:
        return None
    results = replaced(then.lowered.results, dict(zip(then.lowered.inputs, then.inputs, strict=True)))
    found = [each for result in results for each in walk(result)]
    if sum(each is x for each in found) != 1 or any(isinstance(each, Each) for each in found):
        return None
    (value,) = replaced(first.lowered.results, dict(zip(first.lowered.inputs, first.inputs, strict=True)))
    if isinstance(value, Symbol):
        return None
    made = replaced(results, {x: value})
    if sum(_is_operation(each) for result in made for each in walk(result)) > MANY:
        return None
    inputs = tuple(dict.fromkeys([*first.inputs, *(each for each in then.inputs if each is not x)]))
    return replace(then, lowered=replace(then.lowered, inputs=inputs, results=made), inputs=inputs)


def _is_operation(each: Expression) -> bool:
    return not isinstance(each, Symbol)
