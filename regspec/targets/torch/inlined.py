"""Statements put together as a person writes them: what only the next one takes, and takes once, stands in it.

``x = self.relu(self.norm(self.conv(x)))`` and ``return self.head(x.mean(dim=1))``. A statement stays short enough to be
read at a glance, and has one layer of those that hold a matrix, or one block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from regspec.code.expressions import Apply, Each, Expression, Module, replaced, walk
from regspec.code.shapes import Symbol
from regspec.graph.network import BlockNode
from regspec.targets.torch.repeats import is_loop
from regspec.targets.torch.steps import Step

MANY = 4  # operations in a statement


def with_inlined(steps: Sequence[Step], outputs: Sequence[Symbol]) -> tuple[Step, ...]:
    """The steps of a forward, each a statement."""
    read = Counter([*outputs, *(x for step in steps for x in step.inputs)])
    done: list[Step] = []
    heavy = 0  # layers with a matrix, and blocks, in the last statement
    for step in steps:
        own = _is_heavy(step)
        if done and heavy + own < 2 and (merged := _merged(done[-1], step, read)) is not None:
            done[-1] = merged
            heavy += own
        else:
            done.append(step)
            heavy = int(own)
    return tuple(done)


def _is_heavy(step: Step) -> bool:
    return isinstance(step.node, BlockNode) or any(len(each.shape or ()) > 1 for each in step.lowered.weights)


def _merged(first: Step, then: Step, read: Mapping[Symbol, int]) -> Step | None:
    """One step for two, where the first may stand in the second."""
    if len(first.lowered.results) != 1 or is_loop(first) or is_loop(then):
        return None
    (x,) = first.outputs
    if read[x] != 1 or x not in then.inputs:
        return None
    results = replaced(then.lowered.results, dict(zip(then.lowered.inputs, then.inputs, strict=True)))
    found = [each for result in results for each in walk(result)]
    taken = sum(each is x for each in found)
    if taken != 1 or any(isinstance(each, Each) for each in found):
        return None
    renamed = {module: replace(module, suffix=f"{first.name}.{module.suffix}") for module in first.lowered.modules}
    value = replaced(first.lowered.results[0], dict(zip(first.lowered.inputs, first.inputs, strict=True)))
    made = replaced(results, {x: _with_modules(value, renamed)})
    if isinstance(value, Symbol) or sum(_is_operation(each) for result in made for each in walk(result)) > MANY:
        return None
    inputs = tuple(dict.fromkeys([*first.inputs, *(each for each in then.inputs if each is not x)]))
    names = {each.suffix: first.attributes[module.suffix] for module, each in renamed.items()}
    lowered = replace(then.lowered, inputs=inputs, results=made, modules=(*then.lowered.modules, *renamed.values()))
    return replace(then, lowered=lowered, inputs=inputs, attributes={**then.attributes, **names})


def _with_modules(value: Expression, modules: Mapping[Module, Module]) -> Expression:
    """An expression that applies other modules in place of its own."""
    by: dict[Expression, Expression] = {}
    for each in walk(value):
        if isinstance(each, Apply):
            by[each] = replace(
                each,
                module=modules[each.module],
                arguments=replaced(each.arguments, by),
                keywords=replaced(each.keywords, by),
            )
    made: Expression = replaced(value, by)
    return made


def _is_operation(each: Expression) -> bool:
    return not isinstance(each, Symbol)
