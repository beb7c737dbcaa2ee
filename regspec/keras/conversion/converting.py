"""What a user may want of a port besides what Keras has: normalizations folded, channels first, blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from regspec.code.axes import Order
from regspec.code.shapes import DataFormat
from regspec.graph.network import Graph
from regspec.keras.conversion import folding, layout, repetition
from regspec.keras.dialect import Dialect
from regspec.keras.models import Model
from regspec.keras.weights import WeightPath
from regspec.text.problems import Problem, RegspecError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Arrays = Mapping[WeightPath, "NDArray[np.generic]"]
Moving = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a port."""

    data_format: DataFormat | None = None
    fold: bool = False
    blocks: bool = False


@dataclass(frozen=True)
class Converted:
    """A model with its arrays, and Keras's axes as they lie in its inputs and outputs, where otherwise than there."""

    model: Model
    arrays: Arrays
    inputs: Mapping[str, Order] = field(default_factory=dict)
    outputs: Mapping[str, Order] = field(default_factory=dict)
    moves: tuple[Moving, ...] = ()  # what moved arrays to where they are, one after the other


def converted(made: Converted, wanted: Wanted, dialect: Dialect, resolve: Callable[[Model], Graph]) -> Converted:
    """The model as it is wanted; ``resolve`` gives the graph of one.

    The dialect has the data format of the result, and notes of what was done.

    Raises:
        RegspecError: where it can't be done.
    """
    if wanted.fold:
        if not dialect.has_arrays:
            raise RegspecError(Problem("has no weights, so that no normalization can be folded", "give its weights"))
        model, arrays = folding.folded(made.model, resolve(made.model), made.arrays, dialect)
        made = replace(made, model=model, arrays=arrays)
    if wanted.data_format not in (None, dialect.data_format):
        if wanted.data_format == "channels_last":
            raise RegspecError(Problem("has channels first already, and is not converted to channels last"))
        relaid = layout.channels_first(made.model, resolve(made.model))
        for note in relaid.notes:
            dialect.note(note)
        dialect.data_format = "channels_first"
        arrays = relaid.moved(made.arrays)
        made = Converted(relaid.model, arrays, relaid.inputs, relaid.outputs, (relaid.moved,))
    if wanted.blocks:
        model, moved, notes = repetition.in_blocks(made.model)
        try:
            resolve(model)
        except RegspecError as error:  # where a block can't have what its layers had, such as a mask made in it
            dialect.note(f"layers that repeat are not written as blocks: {error.problems[0].what}")
            return made
        for note in notes:
            dialect.note(note)
        made = replace(made, model=model, arrays=moved(made.arrays), moves=(*made.moves, moved))
    return made
