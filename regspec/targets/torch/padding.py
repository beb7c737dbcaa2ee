"""Zeros that a window adds itself: a ZeroPadding before a convolution is the convolution's ``padding``.

Two ways were weighed: a tensor that carries the zeros that are still to be added, as it carries its order of axes, and
that every layer but a convolution must be given with them; or, as here, a pass over the steps of a forward, which knows
all that take a tensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from regspec.code.expressions import Apply, Call, Module, Value, replaced, walk
from regspec.code.shapes import Symbol
from regspec.layers.convolution import compact
from regspec.targets.torch.steps import Step

CONVOLUTIONS = {f"nn.Conv{rank}d": rank for rank in (1, 2, 3)}
MAXIMA = {f"nn.MaxPool{rank}d": rank for rank in (1, 2, 3)}  # which pad with numbers below all others
NOT_NEGATIVE = ("nn.ReLU", "nn.ReLU6")  # whose outputs a zero is never above


def with_own_padding(steps: Sequence[Step], outputs: Iterable[Symbol]) -> tuple[Step, ...]:
    """The steps, where equal zeros on both sides that only a convolution or a maximum takes are its own padding."""
    uses = Counter([x for step in steps for x in step.inputs] + [*outputs])
    shared = {step.node.first for step in steps if step.node is not None}
    makers = {x: step for step in steps for x in step.outputs}
    kept: dict[Step, Step] = {}
    for step in steps:
        kept[step] = step
        before = makers.get(step.inputs[0]) if step.inputs else None
        if before is None or uses[step.inputs[0]] > 1 or not step.declares or step.node in shared:
            continue
        source = makers.get(before.inputs[0]) if before.inputs else None
        zeros = _zeros(before)
        padded = None if zeros is None else _padded(step, zeros, source is not None and _is_not_negative(source))
        if padded is not None:
            kept[step] = replace(padded, inputs=(before.inputs[0], *step.inputs[1:]))
            del kept[before]
    return tuple(kept.values())


def _zeros(step: Step) -> tuple[int, ...] | None:
    """How many zeros a step adds on both sides of each of the last axes; None where it does anything else."""
    match step.lowered.results:
        case (Call(function="F.pad", arguments=(Symbol(), tuple(cells)), keywords=()),):
            pairs = [*zip(cells[::2], cells[1::2], strict=True)]
            sizes = tuple(before for before, after in reversed(pairs) if isinstance(before, int) and before == after)
            return sizes if len(sizes) == len(pairs) else None
    return None


def _is_not_negative(step: Step) -> bool:
    match step.lowered.results:
        case (Apply(module=Module(constructor=Call(function=str() as function))),):
            return function in NOT_NEGATIVE
    return False


def _padded(step: Step, zeros: tuple[int, ...], is_not_negative: bool) -> Step | None:
    """The step with so much more padding of its first window; None where its first step is no window that can do it."""
    (x, *_), (result, *others) = step.lowered.inputs, step.lowered.results
    taking = [each for each in walk(result) if any(part is x for part in each.parts())]
    if others or len(taking) != 1 or not isinstance(taking[0], Apply):
        return None
    applied = taking[0]
    constructor = applied.module.constructor
    if not isinstance(constructor, Call) or not isinstance(constructor.function, str):
        return None
    is_maximum = is_not_negative and constructor.function in MAXIMA
    rank = (MAXIMA if is_maximum else CONVOLUTIONS).get(constructor.function)
    if rank != len(zeros):
        return None
    given = dict(constructor.keywords)
    own = _sizes(given.pop("padding", 0), rank)
    cells = tuple(each + more for each, more in zip(own, zeros, strict=True))
    if is_maximum and not _fits(constructor, cells):
        return None
    stride = {"stride": given.pop("stride")} if "stride" in given else {}
    keywords = {**stride, "padding": compact(cells), **given}
    module = Module(Call(constructor.function, constructor.arguments, tuple(keywords.items())), applied.module.suffix)
    made = Apply(module, applied.arguments, applied.keywords)
    modules = tuple(module if each == applied.module else each for each in step.lowered.modules)
    results = (replaced(result, {applied: made}),)
    return replace(step, lowered=replace(step.lowered, results=results, modules=modules))


def _sizes(value: Value, rank: int) -> tuple[int, ...]:
    """A number for each axis, of torch's one number for all or a tuple."""
    sizes = value if isinstance(value, tuple) else (value,) * rank
    return tuple(each for each in sizes if isinstance(each, int))


def _fits(constructor: Call, cells: tuple[int, ...]) -> bool:
    """Whether a pooling may have this padding: at most half its window, and no ceil_mode, which counts otherwise."""
    window = _sizes(constructor.arguments[0], len(cells))
    return "ceil_mode" not in dict(constructor.keywords) and all(
        2 * n <= size for n, size in zip(cells, window, strict=True)
    )
