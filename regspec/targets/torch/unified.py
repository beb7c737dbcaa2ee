"""Blocks of one name as one class, where they come out equal but for numbers.

Two things keep blocks apart that a person would write as one class, and are written otherwise then: padding, which is
a convolution's own where it lies alike on both sides, and else an ``F.pad`` before it; and a chain of copies, of which
the first may be made otherwise than the rest, and which may have no rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from regspec.targets.torch.classes import Outline
from regspec.targets.torch.padding import padded_apart, with_explicit_padding, with_shared_padding
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
    forwards = [program.steps for program in programs]
    found = _with_forwards(programs, forwards, lambda program: outline(program, False))
    if len(found) == 1 or _classes(found) == 1:
        return found
    names = padded_apart(forwards)
    explicit = [with_explicit_padding(steps, names) for steps in forwards]
    other = _with_forwards(programs, explicit, lambda program: outline(program, True))
    return other if _classes(other) < _classes(found) else found


def _with_forwards(
    programs: Sequence[Program], forwards: Sequence[Sequence[Step]], outline: Callable[[Program], Outline]
) -> Outlined:
    """The classes of programs with these steps, of which none adds the zeros that another adds already."""
    shared = with_shared_padding(forwards)
    return [
        (program, outline(program if steps is program.steps else replace(program, steps=tuple(steps))))
        for program, steps in zip(programs, shared, strict=True)
    ]


def _classes(found: Outlined) -> int:
    return len({outline.skeleton for _, outline in found})
