"""What changes in a layer where the axes of its inputs are counted in another order.

A model whose spec is channels last counts the axes of an image as Keras does: height, width, channels. The same model
with channels first counts them as they lie in torch. Each kind says for itself which order it must have
(`Layer.reads`), and which of its fields are others then (`Layer.recounted`); `keras.layout` goes through a model with
both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.shapes import Symbol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


MAX_PARTS = 1000  # of a vector's units, so that vectors that are joined with themselves have an end


@dataclass(frozen=True, slots=True)
class Units:
    """In which order the units of a vector lie: parts one after the other, each of axes that were flattened.

    A part is the sizes of the axes as Keras counts them, and the order of the axes in which they were flattened.
    """

    parts: tuple[tuple[tuple[int, ...], Order], ...]

    @classmethod
    def flattened(cls, x: Symbol) -> Units | None:
        """The units that all axes after the batch give where ``x`` is flattened as it lies; None for Keras's order."""
        kept = [axis for axis in range(1, x.rank) if x.logical[axis] != 1]
        order = tuple(kept.index(axis) for axis in x.order if axis in kept)
        if order == axes.identity(len(order)):
            return None
        return cls(((tuple(x.logical[axis] or 0 for axis in kept), order),))

    @classmethod
    def joined(cls, vectors: Sequence[Counted]) -> Units | None:
        """The units of vectors that follow each other, whose sizes are known; None for Keras's order."""
        parts: list[tuple[tuple[int, ...], Order]] = []
        for x in vectors:
            plain = (((x.size(1),), (0,)),)
            parts += x.units.parts if x.units is not None else plain
        return None if all(len(order) == 1 for _, order in parts) else cls(tuple(parts))

    def indices(self) -> NDArray[np.intp]:
        """At each place the unit's place in Keras."""
        import numpy as np

        start, found = 0, []
        for sizes, order in self.parts:
            size = math.prod(sizes)
            found.append(start + np.arange(size).reshape(sizes).transpose(order).reshape(-1))
            start += size
        return np.concatenate(found)


@dataclass(frozen=True, slots=True, eq=False)
class Counted(Symbol):
    """A tensor that is counted as it lies: in ``order``, of Keras's axes; and the order of its units, for a vector."""

    units: Units | None = None  # None where they lie as in Keras

    @property
    def is_keras(self) -> bool:
        """Whether its axes are counted as in Keras."""
        return self.order == axes.identity(self.rank)

    def axis(self, axis: int) -> int:
        """Where it counts the axis that Keras counts as ``axis``, written as it is where both count alike."""
        return axis if self.is_keras else self.dimension(axis)


@dataclass(frozen=True, slots=True)
class Recounted:
    """A layer whose inputs are counted in another order: its fields that change, and how its output is counted."""

    fields: Mapping[str, Any] = field(default_factory=dict)  # as a spec writes them; None for one that is left out
    order: Order | None = None  # of the output; None for the first input's where the ranks are equal, else for Keras's
    units: Units | None = None  # of the output
    nested: Mapping[str, Recounted] = field(default_factory=dict)  # of the layers inside, by the fields that hold them


def shared_units(xs: Sequence[Counted]) -> tuple[bool, Units | None]:
    """Whether the units of vectors lie in one order, and in which; a single number may stand beside any."""
    known = {x.units for x in xs if x.rank != 2 or x.shape[1] != 1}
    return len(known) < 2, next(iter(known), None)


def recounted_axes(chosen: tuple[int, ...], x: Counted, field: str = "axis") -> dict[str, Any]:
    """The field that names axes of an input, where these are counted otherwise than by Keras."""
    if x.is_keras or not chosen:
        return {}
    counted = [x.dimension(axis) for axis in chosen]
    return {field: counted[0] if len(counted) == 1 else sorted(counted)}
