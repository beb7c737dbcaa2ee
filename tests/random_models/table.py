"""Random layers of every kind, for a tensor of a shape.

A maker takes the draws and the shape of the tensor, without the batch, and gives a layer, or None where it has none for
such a shape. Sizes are odd and small; a size may be None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from .draws import Draws, text

Shape = tuple[Any, ...]
Maker = Callable[["Layers", Shape], Any]


@dataclass(frozen=True)
class Entry:
    """A maker, the ranks of the tensors that it takes, without the batch, and how often it is chosen."""

    make: Maker
    ranks: tuple[int, ...]
    weight: float = 1.0
    takes: str = "float"


ENTRIES: list[Entry] = []


def entry(*ranks: int, weight: float = 1.0, takes: str = "float") -> Callable[[Maker], Maker]:
    """Adds a maker to the table; a decorator."""

    def add(make: Maker) -> Maker:
        ENTRIES.append(Entry(make, ranks or (1, 2, 3, 4), weight, takes))
        return make

    return add


class Layers(Draws):
    """Draws layers."""

    data_format = "channels_last"
    is_masked = False  # whether a layer makes a mask
    can_mask = True  # whether one may: not in a model that has others inside, which may not give a mask

    def layer(self, kind: str, *, is_inner: bool = False, **fields: Any) -> Any:
        """A layer of Keras, that knows how it was written."""
        if not is_inner:
            fields |= self.name(kind)
            can_freeze = not kind.startswith(("MultiHead", "GroupQuery", "Spatial", "Discretization"))
            if can_freeze and self.chance(0.08):
                fields["trainable"] = False
        made = getattr(keras.layers, kind)(**fields)
        made.written = f"{kind}({', '.join(f'{name}={text(value)}' for name, value in fields.items())})"
        return made

    def for_shape(self, shape: Shape, dtype: str, tries: int = 20) -> Any:
        """A layer for a tensor of this shape."""
        takes = "float" if "float" in dtype else "int"
        entries = [each for each in ENTRIES if len(shape) in each.ranks and each.takes == takes]
        weights = [each.weight for each in entries]
        for _ in range(tries):
            made = self.pick(entries, weights).make(self, shape)
            if made is not None:
                return made
        return None

    def format(self, rank: int) -> dict[str, str]:
        """The model's data format, or the other one at times; of what moves over one axis always channels_last."""
        if rank == 1 or (self.data_format == "channels_last" and self.chance(0.95)):
            return {} if self.chance(0.8) else {"data_format": "channels_last"}
        return {"data_format": "channels_first"}

    def space(self, shape: Shape, fields: dict[str, str]) -> tuple[Shape, int | None]:
        """The spatial sizes of a tensor, and the number of its channels."""
        if fields.get("data_format") == "channels_first":
            return shape[1:], shape[0]
        return shape[:-1], shape[-1]
