"""The outputs of a model that are to learn, for which a source of data gives targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regspec.code.shapes import Shape, Symbol
from regspec.graph.network import Graph
from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.data.columns import Array as Array
from regspec.training.data.columns import Fitted, strangers_told
from regspec.training.options.columns import ColumnSection
from regspec.training.options.outputs import OutputSection

Names = tuple[str, ...] | None  # of the classes, where a source has them


@dataclass(frozen=True)
class Columns:
    """The columns of a table, by the names of the inputs and of the outputs whose targets they are.

    ``said`` is what becomes of columns that are not taken as they are, and ``fitted`` those with what was found in the
    examples that are trained on. Without inputs, it is not yet known which columns these are.
    """

    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    targets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    said: Mapping[str, ColumnSection] = field(default_factory=dict)
    fitted: tuple[Fitted, ...] = ()
    weight: str | None = None  # the column that says how much each example counts
    widths: Mapping[str, int] = field(default_factory=dict)  # how many numbers a column gives, once it is read
    strangers: Mapping[str, int] = field(default_factory=dict)  # in how many rows it has words that were not fitted

    @property
    def unknown_words(self) -> Sequence[str]:
        """A line for each column with words that training did not have."""
        return [*strangers_told(self.fitted, self.strangers)]

    def as_dict(self) -> dict[str, Any]:
        """What a run's folder keeps of it, of which `of_dict` makes it again."""
        return {
            "inputs": {name: [*own] for name, own in self.inputs.items()},
            "targets": {name: [*own] for name, own in self.targets.items()},
            "fitted": [each.as_dict() for each in self.fitted],
            "weight": self.weight,
        }

    @classmethod
    def of_dict(cls, data: Mapping[str, Any]) -> Columns:
        """The columns of what a run's folder keeps."""
        fitted = tuple(map(Fitted.of_dict, data.get("fitted", ())))
        return cls(data["inputs"], data["targets"], fitted=fitted, weight=data.get("weight"))


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


def output_names(graph: Graph) -> list[str]:
    """The names of a model's outputs, in its order; one that stands there twice has its name twice."""
    return [*(graph.output_names or (x.source for x in graph.outputs))]


def wanted_outputs(graph: Graph, said: Mapping[str, OutputSection], target: str | None = None) -> tuple[Wanted, ...]:
    """The outputs that are to learn, in the model's order.

    All learn, unless a target or a loss is said: then those of which something is said. So a metric or a weight alone
    leaves no other output untrained.

    Args:
        graph: the model's.
        said: what is said of outputs, by their names.
        target: the target of the only one.

    Raises:
        RegspecError: where something is said of an output that the model does not have.
    """
    own = output_names(graph)
    names = [*dict.fromkeys(own)]
    if unknown := [name for name in said if name not in names]:
        hint = did_you_mean(unknown[0], names) or f"the outputs are {', '.join(names)}"
        raise RegspecError(Problem(f"the model has no output '{unknown[0]}'", hint))
    is_selected = any(each.target is not None or each.loss is not None for each in said.values())
    sections = {name: said.get(name, OutputSection()) for name in names if name in said or not is_selected}
    if target is not None:
        (first, *others) = sections
        if others or sections[first].target not in (None, target):
            hint = f"say --outputs.{first}.target"
            raise RegspecError(
                Problem(f"--target is for a model with one output, but this has {', '.join(names)}", hint)
            )
        sections[first] = sections[first].model_copy(update={"target": target})
    return tuple(
        Wanted(name, own.index(name), graph.outputs[own.index(name)], section) for name, section in sections.items()
    )
