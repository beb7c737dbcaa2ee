"""The copies of a repeated block: which are called in a chain, as one statement of the forward.

In torch they lie in one container, ``stage``, whose parameters are ``stage.0.conv.weight``. Where each copy takes what
the one before it gives, and nothing else takes that, the forward calls the whole chain: ``x = self.stage(x)``, or a
loop where there are several tensors. Otherwise each copy has a call of its own, ``self.stage[0](x)``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from regspec.code.shapes import Symbol
from regspec.graph.network import BlockNode
from regspec.targets.torch.program import Program
from regspec.targets.torch.steps import Step

LOOP = "loop"  # the kinds of a step that calls all copies of a block, one after the other: a loop over them,
SEQUENCE = "sequence"  # and an nn.Sequential, where each copy takes one tensor, and gives one


def container_of(path: str) -> str | None:
    """The container of a copy, by the copy's path: ``stage`` of ``stage.0``; None where it is no copy."""
    return path.partition(".")[0] if "." in path else None


def module_text(path: str) -> str:
    """How a class calls a module in it, by the module's path: ``self.stage[0].conv`` of ``stage.0.conv``."""
    return "self" + "".join(f"[{name}]" if name.isdecimal() else f".{name}" for name in path.split("."))


def with_chains(program: Program) -> tuple[Step, ...]:
    """The steps of a program's forward, with one step for the copies of a block that are called in a chain."""
    read = Counter([*program.outputs, *(x for step in program.steps for x in {*step.inputs})])
    copies = Counter(map(_container, program.steps))
    joined: list[Step] = []
    for container, group in groupby(program.steps, _container):
        steps = [*group]
        is_whole = container is not None and len(steps) == copies[container] and _is_chain(steps, read)
        joined += [_chain(container, steps)] if container is not None and is_whole else steps
    return tuple(joined)


def is_loop(step: Step) -> bool:
    """Whether a step is a loop over copies."""
    return step.lowered.kind == LOOP


def is_sequence(step: Step) -> bool:
    """Whether a step calls copies as an ``nn.Sequential``; what it takes may be computed in the same statement."""
    return step.lowered.kind == SEQUENCE


def _container(step: Step) -> str | None:
    """The container of the copy that a step calls for the first time."""
    return container_of(step.attributes[""]) if isinstance(step.node, BlockNode) and step.declares else None


def _is_chain(steps: Sequence[Step], read: Mapping[Symbol, int]) -> bool:
    """Whether each copy takes the outputs of the one before it, which nothing else takes, and else the same."""
    count = len(steps[0].outputs)
    return count <= len(steps[0].inputs) and all(
        before.outputs == after.inputs[:count]
        and before.inputs[count:] == after.inputs[count:]
        and all(read[x] == 1 for x in before.outputs)
        for before, after in pairwise(steps)
    )


def _chain(container: str, steps: Sequence[Step]) -> Step:
    first, last = steps[0], steps[-1]
    assert isinstance(last.node, BlockNode)
    is_one = len(first.inputs) == 1 and last.node.block.is_single
    lowered = replace(last.lowered, kind=SEQUENCE if is_one else LOOP)
    return Step(container, lowered, first.inputs, last.outputs, node=last.node, attributes={"": container})
