"""What every penalty that a spec may name says of itself, and what it is told of the tensor that it is of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from regspec.code.expressions import Call
from regspec.language.forms import Named


@dataclass(frozen=True)
class Dimensions:
    """Where, in a tensor of torch, the units of an output lie; or the outputs and inputs of a weight."""

    units: int | None  # None where they lie along several dimensions, or along none
    inputs: int | None = None
    blocks: int = 1  # the first dimension has so many, each with channels of its own along the second: a grouped kernel
    kernels: int = 1  # which lie one below the other along the first dimension
    columns: int | None = None  # of a matrix, where Keras's columns lie, whether they are its outputs or its inputs


class Penalty(Named):
    """One regularizer: a function of a tensor to a scalar."""

    reads_axes: ClassVar[bool] = False  # whether it must see the axes as Keras counts them
    reads_units: ClassVar[bool] = False  # whether it is by units, so that it must know where they lie
    for_weights: ClassVar[bool] = True
    reads_halves: ClassVar[bool] = False  # whether half of the units are one thing, and half another
    averages_batch: ClassVar[bool] = False  # whether it is a mean over the batch by itself
    adds_up: ClassVar[bool] = False  # whether the penalty of kernels in one tensor is the sum of theirs

    @property
    def other_weights(self) -> tuple[str, ...]:
        """The names of the weights that it takes besides: ``decoder.kernel``, or ``kernel`` of its own layer."""
        return ()

    @property
    def is_coupled(self) -> bool:
        """Whether it is of all that vanishes with a unit, in whatever weights that lies."""
        return False

    @property
    def needs_inputs(self) -> bool:
        """Whether it is for weights that have an axis of inputs."""
        return False

    def needs(self, rank: int) -> Literal["inputs", "outputs", "columns"] | None:
        """Which axes of a weight of this rank it must know."""
        return "outputs" if self.reads_units else None

    def lower(self, at: Dimensions) -> Call:
        """The constructor of the runtime's regularizer of what lies so."""
        raise NotImplementedError
