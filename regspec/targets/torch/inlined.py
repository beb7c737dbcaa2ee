"""Statements put together as a person writes them: what only the next one takes, and takes once, stands in it.

``x = self.relu(self.norm(self.conv(x)))`` and ``torch.cat([self.near(x), self.far(x)], dim=1)``. A statement stays
short enough to be read at a glance. It has one layer of those that hold a matrix, or one block; several where they
stand side by side, each on tensors that have names, or where one takes what the other is joined to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from regspec.code.expressions import Apply, Each, Expression, Method, Module, replaced
from regspec.code.shapes import Symbol
from regspec.graph.network import BlockNode
from regspec.targets.torch.repeats import is_loop, module_text
from regspec.targets.torch.steps import Step

MANY = 4  # operations in a statement
FEW = 3  # operations in a statement where a layer with a matrix takes what another is joined to
WIDE = 100  # characters of a statement that is put together, about


def with_inlined(steps: Sequence[Step], outputs: Sequence[Symbol]) -> tuple[Step, ...]:
    """The steps of a forward, each a statement."""
    read = Counter([*outputs, *(x for step in steps for x in step.inputs)])
    done: list[_Statement] = []
    for step in steps:
        statement = _Statement(step, step.lowered.operations, (step,))
        while done and (merged := _merged(done[-1], statement, read)) is not None:
            done.pop()
            statement = merged
        done.append(statement)
    return tuple(each.step for each in done)


@dataclass(frozen=True, slots=True)
class _Statement:
    """A step, how many operations it has, and the steps of which it is made, in the order of execution."""

    step: Step
    operations: int
    made_of: tuple[Step, ...]


def _is_heavy(step: Step) -> bool:
    return step.lowered.holds_matrix or isinstance(step.node, BlockNode)


def _belong_together(before: _Statement, statement: _Statement) -> bool:
    """Whether the two, if they are short, can be read at a glance as one: of most, this tells that they can't."""
    count = before.operations + statement.operations
    if count > MANY:
        return False
    made_of = (*before.made_of, *statement.made_of)
    heavy = [each for each in made_of if _is_heavy(each)]
    if len(heavy) < 2:
        return True
    if count <= FEW and len(heavy) == 2 and not isinstance(heavy[0].node, BlockNode):
        return any(len(each.inputs) > 1 for each in made_of)
    made = {x for each in made_of for x in each.outputs}
    return all(made.isdisjoint(each.inputs) and each.lowered.operations == 1 for each in heavy)


def _merged(before: _Statement, statement: _Statement, read: Mapping[Symbol, int]) -> _Statement | None:
    """One statement for two, where the first may stand in the second."""
    first, then = before.step, statement.step
    if len(first.lowered.results) != 1 or is_loop(first) or is_loop(then):
        return None
    (x,) = first.outputs
    if read[x] != 1 or x not in then.inputs or not _belong_together(before, statement):
        return None
    found, given = then.lowered.expressions, _given(then)
    taken = [place for place, each in enumerate(found) if isinstance(each, Symbol) and given[each] is x]
    is_renamed = isinstance(first.lowered.results[0], Symbol)
    if is_renamed or len(taken) != 1 or any(isinstance(each, Each) for each in found):
        return None
    (place,) = taken
    if len(statement.made_of) > 1 and any(isinstance(each, Apply) for each in found[:place]):
        return None  # modules run in their order
    others = [*found[:place], *found[place + 1 :]]
    if _width(others, then) + _width(first.lowered.expressions, first) > WIDE:
        return None
    renamed = {module: replace(module, suffix=f"{first.name}.{module.suffix}") for module in first.lowered.modules}
    made = replaced(then.lowered.results, {**given, found[place]: _value(first, renamed)})
    inputs = tuple(dict.fromkeys([*first.inputs, *(each for each in then.inputs if each is not x)]))
    names = {each.suffix: first.attributes[module.suffix] for module, each in renamed.items()}
    lowered = replace(then.lowered, inputs=inputs, results=made, modules=(*then.lowered.modules, *renamed.values()))
    step = replace(then, lowered=lowered, inputs=inputs, attributes={**then.attributes, **names})
    return _Statement(step, before.operations + statement.operations, (*before.made_of, *statement.made_of))


def _given(step: Step) -> dict[Expression, Symbol]:
    """The tensors that a step takes, by those over which its results are."""
    return dict(zip(step.lowered.inputs, step.inputs, strict=True))


def _value(step: Step, modules: Mapping[Module, Module]) -> Expression:
    """What a step computes, over the tensors that it takes, with other modules in place of its own."""
    by: dict[Expression, Expression] = {**_given(step)}
    for each in step.lowered.expressions:
        if isinstance(each, Apply):
            by[each] = replace(
                each,
                module=modules[each.module],
                arguments=replaced(each.arguments, by),
                keywords=replaced(each.keywords, by),
            )
    made: Expression = replaced(step.lowered.results[0], by)
    return made


def _width(found: Sequence[Expression], step: Step) -> int:
    """How many characters expressions take, about: names, literals and what stands between them."""
    given = _given(step)
    names = [_name(given[each] if isinstance(each, Symbol) else each, step) for each in found]
    values = [repr(value) for each in found for value in each.parts() if not isinstance(value, (Expression, list))]
    keywords = [name for each in found if isinstance(each, (Apply, Method)) for name in each.keywords]
    return sum(len(text) + len(", ") for text in (*names, *values, *keywords))


def _name(each: Expression, step: Step) -> str:
    if isinstance(each, Apply):
        return module_text(step.attributes[each.module.suffix])
    return each.source if isinstance(each, Symbol) else str(getattr(each, "function", getattr(each, "name", "")))
