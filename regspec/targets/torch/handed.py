"""States that a recurrent layer hands to another as torch has them, (1, batch, units), where nothing else takes them.

``decoder(x, (h, c))``, and not ``decoder(x, (h[0].unsqueeze(0), c[0].unsqueeze(0)))``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from regspec.code.expressions import Apply, Expression, Index, Method, Part, replaced, walk
from regspec.code.shapes import Symbol
from regspec.targets.torch.steps import Step


def with_states_handed_on(steps: Sequence[Step], outputs: Sequence[Symbol]) -> tuple[Step, ...]:
    """The steps, in which a part that is taken out of its first axis, and only put back, stays as it is."""
    found = {
        x: result.of
        for step in steps
        for x, result in zip(step.outputs, step.lowered.results, strict=True)
        if isinstance(result, Index) and result.index == (0,) and isinstance(result.of, Part) and x not in outputs
    }
    handed: dict[Symbol, Expression] = {}
    for x, whole in found.items():
        uses = [_uses(step, x) for step in steps if x in step.inputs]
        if uses and None not in uses:
            handed[x] = whole
    return tuple(_handing_on(step, handed) for step in steps) if handed else tuple(steps)


def _uses(step: Step, x: Symbol) -> list[Method] | None:
    """Where a step puts a tensor back behind a first axis of one; None where it takes it otherwise, too."""
    own = [own for own, given in zip(step.lowered.inputs, step.inputs, strict=True) if given is x]
    expressions = step.lowered.expressions
    back = [
        each
        for each in expressions
        if isinstance(each, Method) and each.of in own and (each.name, each.arguments) == ("unsqueeze", (0,))
    ]
    return back if len(back) == sum(each in own for each in expressions) else None


def _handing_on(step: Step, handed: dict[Symbol, Expression]) -> Step:
    results = tuple(handed.get(x, result) for x, result in zip(step.outputs, step.lowered.results, strict=True))
    by: dict[Expression, Expression] = {}
    for x in handed.keys() & {*step.inputs}:
        by.update({each: each.of for each in _uses(step, x) or () if isinstance(each.of, Expression)})
    for each in [each for result in results for each in walk(result)] if by else ():
        if isinstance(each, (Apply, Part)) and (made := replaced(each, by)) is not each:
            by[each] = made  # one for all results that take it
    return replace(step, lowered=replace(step.lowered, results=replaced(results, by)))
