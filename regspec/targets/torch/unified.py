"""Blocks of one name as one class, where they come out equal but for numbers.

Two things keep blocks apart that a person would write as one class, and are written otherwise then: padding, which is
a convolution's own where it lies alike on both sides, and else an ``F.pad`` before it; and a chain of copies, of which
the first may be made otherwise than the rest, and which may have no rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from regspec.code.expressions import Apply, Call, Expression, Module, Omitted, call, replaced, walk
from regspec.targets.torch.classes import Outline
from regspec.targets.torch.program import Program
from regspec.targets.torch.steps import Step

Outlined = list[tuple[Program, Outline]]  # programs with their classes
Outlining = Callable[[Program, bool], Outline]  # with the first copy of a block apart from the others, or not


def outlined(programs: Sequence[Program], outline: Outlining) -> Outlined:
    """The classes of programs; those of one name as alike as they can be."""
    groups: dict[str, list[Program]] = {}
    for program in programs:
        groups.setdefault(program.graph.name, []).append(program)
    return [each for group in groups.values() for each in _outlined(group, outline)]


def _outlined(programs: Sequence[Program], outline: Outlining) -> Outlined:
    found = [(program, outline(program, False)) for program in programs]
    if _classes(found) == 1:
        return found
    padded = _padded_apart(programs)
    other = [(program, outline(_with_explicit_padding(program, padded), True)) for program in programs]
    return other if _classes(other) < _classes(found) else found


def _classes(found: Outlined) -> int:
    return len({outline.skeleton for _, outline in found})


# -- padding -----------------------------------------------------------------------------------------------------------


def _padded_apart(programs: Sequence[Program]) -> frozenset[str]:
    """The layers that pad by ``F.pad`` in some programs, and by themselves in others."""
    by_name: dict[str, set[bool]] = {}
    for program in programs:
        for step in program.steps:
            for convolution in _convolutions(step):
                by_name.setdefault(step.name, set()).add(_pad_before(convolution) is not None)
    return frozenset(name for name, found in by_name.items() if len(found) > 1)


def _convolutions(step: Step) -> Iterator[Apply]:
    """The applied convolutions of a step."""
    for each in (each for result in step.lowered.results for each in walk(result)):
        if isinstance(each, Apply) and re.fullmatch(r"nn\.Conv[123]d", _function(each.module)):
            yield each


def _function(module: Module) -> str:
    """The name of the class that a module is made of."""
    return str(module.constructor.function) if isinstance(module.constructor, Call) else ""


def _pad_before(convolution: Apply) -> Call | None:
    """The padding before a convolution."""
    (x,) = convolution.arguments
    return x if isinstance(x, Call) and x.function == "F.pad" and len(x.arguments) == 2 and not x.keywords else None


def _with_explicit_padding(program: Program, names: frozenset[str]) -> Program:
    """The program with all padding of these layers before their convolutions."""
    steps = tuple(_padded(step) if step.name in names else step for step in program.steps)
    return replace(program, steps=steps) if names else program


def _padded(step: Step) -> Step:
    by: dict[Expression, Expression] = {}
    modules: dict[Module, Module] = {}
    for convolution in _convolutions(step):
        constructor = convolution.module.constructor
        assert isinstance(constructor, Call)
        written = dict(constructor.all_keywords)
        own = written.get("padding", 0)
        own = own.default if isinstance(own, Omitted) else own
        dimensions = int(str(constructor.function)[-2])
        sides: Any = own if isinstance(own, tuple) else (own,) * dimensions
        cells = [each for side in reversed(sides) for each in (side, side)]
        before = _pad_before(convolution)
        x = convolution.arguments[0] if before is None else before.arguments[0]
        if before is not None:
            given: Any = before.arguments[1]
            cells = [a + b for a, b in zip(cells, given, strict=True)]
        made = call(constructor.function, *constructor.arguments, **{**written, "padding": Omitted(0)})
        modules[convolution.module] = module = replace(convolution.module, constructor=made)
        by[convolution] = module(call("F.pad", x, tuple(cells)))
    lowered = replace(
        step.lowered,
        results=replaced(step.lowered.results, by),
        modules=tuple(modules.get(each, each) for each in step.lowered.modules),
    )
    return replace(step, lowered=lowered)
