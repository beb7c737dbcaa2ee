"""Where zeros are added: by a window itself, as a convolution's ``padding``, or by an ``F.pad`` before it.

A ZeroPadding before a convolution becomes the convolution's own. Blocks that are one class, of which only some can do
so, have all of it before.

Two ways were weighed: a tensor that carries the zeros that are still to be added, as it carries its order of axes, and
that every layer but a convolution must be given with them; or, as here, a pass over the steps of a forward, which knows
all that take a tensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from regspec.code.expressions import Apply, Call, Module, Value, call, replaced, unless, walk
from regspec.code.shapes import Symbol, compact
from regspec.targets.torch.lowered import Lowered
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
    cells = tuple(each + more for each, more in zip(_own(constructor, rank), zeros, strict=True))
    if is_maximum and not _fits(constructor, cells):
        return None
    module = _with_padding(applied.module, constructor, compact(cells))
    return _with_window(step, applied, replace(applied, module=module))


def padded_apart(forwards: Iterable[Sequence[Step]]) -> frozenset[str]:
    """The layers that pad by an ``F.pad`` before a convolution in some forwards, and in others by the convolution."""
    found: dict[str, set[bool]] = {}
    for step in (step for steps in forwards for step in steps):
        if (applied := _convolution(step)) is not None:
            found.setdefault(_owner(step), set()).add(_pad_before(applied) is not None)
    return frozenset(name for name, ways in found.items() if len(ways) > 1)


def with_explicit_padding(steps: Sequence[Step], names: frozenset[str]) -> tuple[Step, ...]:
    """The steps, with all padding of these layers before their convolutions."""
    return tuple(_explicit(step) if _owner(step) in names else step for step in steps)


def _owner(step: Step) -> str:
    """The layer whose modules a step applies: of a further call the one that it calls."""
    return step.name if step.node is None else (step.node.first or step.node).name


def _explicit(step: Step) -> Step:
    applied = _convolution(step)
    if applied is None:  # a view of what the layer takes, which has its name
        return step
    constructor = applied.module.constructor
    assert isinstance(constructor, Call)
    own = _own(constructor, CONVOLUTIONS[str(constructor.function)])
    before = _pad_before(applied)
    x = applied.arguments[0] if before is None else before.arguments[0]
    given = [0] * 2 * len(own) if before is None else _sizes(before.arguments[1], 0)
    cells = [each for side in reversed(own) for each in (side, side)]
    padded = call("F.pad", x, tuple(a + b for a, b in zip(cells, given, strict=True)))
    return _with_window(step, applied, _with_padding(applied.module, constructor, 0)(padded))


def _convolution(step: Step) -> Apply | None:
    """The first convolution that a step applies, to one tensor; None where it applies none."""
    found = [
        each
        for each in step.lowered.expressions
        if isinstance(each, Apply)
        and isinstance(each.module.constructor, Call)
        and each.module.constructor.function in CONVOLUTIONS
    ]
    return found[0] if found and len(found[0].arguments) == 1 else None


def _pad_before(applied: Apply) -> Call | None:
    """The padding before a convolution."""
    x = applied.arguments[0]
    return x if isinstance(x, Call) and x.function == "F.pad" and not x.keywords else None


def _own(constructor: Call, rank: int) -> tuple[int, ...]:
    """The padding of a window, along each axis."""
    return _sizes(dict(constructor.keywords).get("padding", 0), rank)


def _with_padding(module: Module, constructor: Call, padding: int | tuple[int, ...]) -> Module:
    """The module of a window with another padding."""
    keywords = {**dict(constructor.all_keywords), "padding": unless(0, padding)}
    return replace(module, constructor=call(constructor.function, *constructor.arguments, **keywords))


def _with_window(step: Step, applied: Apply, made: Apply) -> Step:
    """The step with another application of its window, or of what is in its place."""
    modules = tuple(made.module if each == applied.module else each for each in step.lowered.modules)
    results = tuple(replaced(result, {applied: made}) for result in step.lowered.results)
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


def with_shared_padding(forwards: Sequence[Sequence[Step]]) -> list[Sequence[Step]]:
    """Forwards of one class, where zeros that convolutions add alike to a tensor are added once, if they are in all."""
    found = [_padding_together(steps) for steps in forwards]
    names = [[[step.name for step in group] for group in groups] for groups in found]
    if any(each != names[0] for each in names):
        return [*forwards]
    return [_padded_once(steps, groups) for steps, groups in zip(forwards, found, strict=True)]


def _padding_together(steps: Sequence[Step]) -> list[list[Step]]:
    """The steps that pad one tensor alike, two or more each."""
    groups: dict[tuple[Symbol, Value], list[Step]] = {}
    for step in steps:
        if (taken := _padded_input(step)) is not None:
            groups.setdefault(taken, []).append(step)
    return [group for group in groups.values() if len(group) > 1]


def _padded_input(step: Step) -> tuple[Symbol, Value] | None:
    """The tensor that a step's convolution pads, and with how many zeros; None where it pads none."""
    applied = _convolution(step)
    before = None if applied is None else _pad_before(applied)
    if before is None or not isinstance(before.arguments[0], Symbol) or len(step.lowered.inputs) != len(step.inputs):
        return None
    given = dict(zip(step.lowered.inputs, step.inputs, strict=True))
    return given[before.arguments[0]], before.arguments[1]


def _padded_once(steps: Sequence[Step], groups: Sequence[Sequence[Step]]) -> list[Step]:
    firsts = {group[0]: group for group in groups}
    taking: dict[Step, Symbol] = {}
    made: list[Step] = []
    for step in steps:
        if (group := firsts.get(step)) is not None:
            x, cells = _padded_input(step) or (step.inputs[0], ())
            padded = replace(x)
            taking.update(dict.fromkeys(group, padded))
            lowered = Lowered("padded", (x,), (padded,), (call("F.pad", x, cells),))
            made.append(Step(x.source, lowered, (x,), (padded,)))
        made.append(_taking(step, taking[step]) if step in taking else step)
    return made


def _taking(step: Step, padded: Symbol) -> Step:
    """A step whose convolution takes what is padded already."""
    applied = _convolution(step)
    assert applied is not None
    own = replace(padded)
    step = _with_window(step, applied, replace(applied, arguments=(own,)))
    read = {each for each in step.lowered.expressions if isinstance(each, Symbol)}
    pairs = [pair for pair in zip(step.lowered.inputs, step.inputs, strict=True) if pair[0] in read]
    inputs, given = zip(*pairs, (own, padded), strict=True)
    return replace(step, lowered=replace(step.lowered, inputs=inputs), inputs=given)
