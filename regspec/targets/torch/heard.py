"""A program whose forwards hand some nodes' outputs on as they compute them, also those that no module gives."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from regspec.code.expressions import Apply, Call, Expression, Module, replaced
from regspec.targets.torch.program import Program, block_of
from regspec.targets.torch.steps import Step, attribute_of

_SUFFIX = "heard"
Attributes = Mapping[str, tuple[str, ...]]  # by nodes, one for each output


@dataclass
class Hearing:
    """Programs in which all blocks of a name call attributes of their classes on the outputs of some of their nodes.

    Their forwards run in instances of the programs' own classes that have such attributes: no module is another. So
    all blocks that may be one class are made alike, and of finished steps, in which a convolution has taken a padding.
    """

    wanted: Mapping[str, Collection[str]]  # nodes, by the names of graphs; no copies, which may be called in a chain
    programs: dict[Program, Program] = field(default_factory=dict)  # what has been made of each
    attributes: dict[Program, Attributes] = field(default_factory=dict)  # of what was made

    def of(self, program: Program) -> Program:
        """What is made of a program, and of the blocks in it."""
        if program not in self.programs:
            taken = {attribute for step in program.steps for attribute in step.attributes.values()}
            steps, attributes = [], {}
            for step in program.steps:
                made = step if (block := block_of(step)) is None else _with_block(step, block, self.of(block))
                if step.node is not None and step.name in self.wanted.get(program.graph.name, ()):
                    suffixes = [f"{_SUFFIX}{index}" for index in range(len(step.outputs))]
                    own = {suffix: attribute_of(step.name, suffix, taken) for suffix in suffixes}
                    taken.update(own.values())
                    attributes[step.name] = tuple(own.values())
                    made = _heard(made, own)
                steps.append(made)
            self.programs[program] = replace(program, steps=tuple(steps))
            self.attributes[self.programs[program]] = attributes
        return self.programs[program]


def _heard(step: Step, attributes: dict[str, str]) -> Step:
    listeners = [Module(Call("nn.Identity"), suffix) for suffix in attributes]
    results = tuple(listener(each) for listener, each in zip(listeners, step.lowered.results, strict=True))
    modules = (*step.lowered.modules, *listeners)
    lowered = replace(step.lowered, results=results, modules=modules, heard=frozenset(attributes))
    return replace(step, lowered=lowered, attributes={**step.attributes, **attributes})


def _with_block(step: Step, block: Program, made: Program) -> Step:
    """A step that applies another program in place of its block's."""
    module = next(each for each in step.lowered.modules if each.constructor is block)
    other = replace(module, constructor=made)
    applied: dict[Expression, Expression] = {
        each: replace(each, module=other)
        for each in step.lowered.expressions
        if isinstance(each, Apply) and each.module is module
    }
    modules = tuple(other if each is module else each for each in step.lowered.modules)
    return replace(
        step, lowered=replace(step.lowered, results=replaced(step.lowered.results, applied), modules=modules)
    )
