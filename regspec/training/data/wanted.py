"""The outputs of a model that are to learn, for which a source of data gives targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from regspec.code.shapes import Shape, Symbol
from regspec.graph.network import Graph
from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.outputs import OutputSection

Array = NDArray[Any]
Names = tuple[str, ...] | None  # of the classes, where a source has them


@dataclass(frozen=True)
class Columns:
    """The columns of a table, by the names of the inputs and of the outputs whose targets they are."""

    inputs: Mapping[str, Sequence[str]]
    targets: Mapping[str, Sequence[str]]

    def as_dict(self) -> dict[str, Any]:
        """What a run's folder keeps of it."""
        return {
            "inputs": {name: [*own] for name, own in self.inputs.items()},
            "targets": {name: [*own] for name, own in self.targets.items()},
        }


@dataclass(frozen=True)
class Wanted:
    """An output that is to learn, and what is said of it."""

    name: str
    index: int  # of the model's outputs
    x: Symbol
    said: OutputSection

    @property
    def channels(self) -> int:
        """The axis of the output along which classes or labels lie."""
        return self.x.spec_order.index(self.x.rank - 1)

    @property
    def places(self) -> Shape:
        """The axes of the output beside the batch and the classes: none, steps, rows and columns."""
        return tuple(size for axis, size in enumerate(self.x.spec_shape[1:], 1) if axis != self.channels)


def wanted_outputs(graph: Graph, said: Mapping[str, OutputSection], target: str | None = None) -> tuple[Wanted, ...]:
    """The outputs that are to learn, in the model's order: those of which something is said, or else all.

    Args:
        graph: the model's.
        said: what is said of outputs, by their names.
        target: the target of the only one.

    Raises:
        RegspecError: where something is said of an output that the model does not have.
    """
    names = [*dict.fromkeys(graph.output_names or (x.source for x in graph.outputs))]
    if unknown := [name for name in said if name not in names]:
        hint = did_you_mean(unknown[0], names) or f"the outputs are {', '.join(names)}"
        raise RegspecError(Problem(f"the model has no output '{unknown[0]}'", hint))
    sections = {name: said.get(name, OutputSection()) for name in names if name in said or not said}
    if target is not None:
        (first, *others) = sections
        if others or sections[first].target not in (None, target):
            hint = f"say --outputs.{first}.target"
            raise RegspecError(
                Problem(f"--target is for a model with one output, but this has {', '.join(names)}", hint)
            )
        sections[first] = sections[first].model_copy(update={"target": target})
    own = [*(graph.output_names or (x.source for x in graph.outputs))]
    return tuple(
        Wanted(name, own.index(name), graph.outputs[own.index(name)], section) for name, section in sections.items()
    )
