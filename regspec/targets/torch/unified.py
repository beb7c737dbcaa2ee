"""Blocks of one name as one class, where they come out equal but for numbers.

Two things keep blocks apart that a person would write as one class, and are written otherwise then: padding, which is
a convolution's own where it lies alike on both sides, and else an ``F.pad`` before it; and a chain of copies, of which
the first may be made otherwise than the rest, and which may have no rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from regspec.targets.torch.classes import Outline
from regspec.targets.torch.padding import padded_apart, with_explicit_padding
from regspec.targets.torch.program import Program

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
    names = padded_apart([program.steps for program in programs])
    explicit = [replace(program, steps=with_explicit_padding(program.steps, names)) for program in programs]
    other = [(program, outline(each, True)) for program, each in zip(programs, explicit, strict=True)]
    return other if _classes(other) < _classes(found) else found


def _classes(found: Outlined) -> int:
    return len({outline.skeleton for _, outline in found})
