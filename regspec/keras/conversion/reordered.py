"""Tensors of a converted model, whose axes or units follow each other in another order than in Keras."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from regspec.code import axes
from regspec.code.axes import Meaning, Order
from regspec.code.shapes import Symbol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_PARTS = 1000  # of a vector's units; bounds the growth of vectors that are concatenated with themselves


@dataclass(frozen=True, slots=True)
class Units:
    """In which order the units of a vector follow each other: parts, each of axes that were flattened.

    A part is the sizes of the axes as Keras has them, and the order in which they were flattened.
    """

    parts: tuple[tuple[tuple[int, ...], Order], ...]

    @classmethod
    def flattened(cls, x: Symbol) -> Units | None:
        """The units that all axes after the batch give where ``x`` is flattened as it is; None for Keras's order."""
        kept = [axis for axis in range(1, x.rank) if x.logical[axis] != 1]
        order = tuple(kept.index(axis) for axis in x.order if axis in kept)
        if order == axes.identity(len(order)):
            return None
        return cls(((tuple(x.logical[axis] or 0 for axis in kept), order),))

    @classmethod
    def joined(cls, vectors: Sequence[Reordered]) -> Units | None:
        """The units of vectors one after the other, whose sizes are known; None for Keras's order."""
        parts: list[tuple[tuple[int, ...], Order]] = []
        for x in vectors:
            plain = (((x.size(1),), (0,)),)
            parts += x.units.parts if x.units is not None else plain
        return None if all(len(order) == 1 for _, order in parts) else cls(tuple(parts))

    @classmethod
    def shared(cls, xs: Sequence[Reordered]) -> tuple[bool, Units | None]:
        """Whether the units of several tensors follow one order, and which; a single number may stand beside any."""
        known = {x.units for x in xs if x.rank != 2 or x.shape[1] != 1}
        return len(known) < 2, next(iter(known), None)

    def indices(self) -> NDArray[np.intp]:
        """For each unit, its index in Keras's order."""
        import numpy as np

        start, found = 0, []
        for sizes, order in self.parts:
            size = math.prod(sizes)
            found.append(start + np.arange(size).reshape(sizes).transpose(order).reshape(-1))
            start += size
        return np.concatenate(found)


@dataclass(frozen=True, slots=True, eq=False)
class Reordered(Symbol):
    """A tensor of the converted model: ``order`` has Keras's axes in their order here, ``units`` those of a vector."""

    units: Units | None = None  # None where they follow each other as in Keras

    @classmethod
    def as_in_keras(cls, x: Symbol) -> Reordered:
        """A tensor of the graph with its axes and units as in Keras."""
        return cls(x.logical, x.source, x.dtype)

    def permuted(self, order: Order) -> Reordered:
        """The tensor with its axes in another order, in which the converted spec counts them too."""
        shape = axes.permute(self.shape, axes.between(self.order, order))
        return replace(self, shape=shape, order=order, spec_order=order)

    @property
    def meanings(self) -> list[Meaning]:
        """What its axes mean, as a spec names them; none where there is no name for so many."""
        space: tuple[Meaning, ...] = ("depth", "height", "width")
        names: tuple[Meaning, ...] = (*space[-(self.rank - 2) :], "channels")
        if self.rank == 3:
            names = ("steps", "features") if self.has_keras_order else ("length", "channels")
        if self.rank == 6 or (self.rank == 5 and self.order[1] == 1):  # a sequence of images or volumes
            names = ("steps", *space[-(self.rank - 3) :], "channels")
        return [names[axis - 1] for axis in self.order[1:]] if len(names) == self.rank - 1 else []

    @property
    def has_keras_order(self) -> bool:
        """Whether its axes follow each other as in Keras."""
        return self.order == axes.identity(self.rank)

    def axes_field(self, keras_axes: tuple[int, ...], field: str = "axis") -> dict[str, Any]:
        """The field of a layer that names these axes of Keras's, where they have other numbers here."""
        if self.has_keras_order or not keras_axes:
            return {}
        numbers = [self.dimension(axis) for axis in keras_axes]
        return {field: numbers[0] if len(numbers) == 1 else sorted(numbers)}


@dataclass(frozen=True, slots=True)
class Change:
    """What changes in a layer whose inputs are in another order: its fields, and the order that its output has."""

    fields: Mapping[str, Any] = field(default_factory=dict)  # as a spec writes them; None for one that is left out
    order: Order | None = None  # of the output; None for the first input's where the ranks are equal, else for Keras's
    units: Units | None = None  # of the output
    nested: Mapping[str, Change] = field(default_factory=dict)  # in the layers inside, by the fields that hold them
