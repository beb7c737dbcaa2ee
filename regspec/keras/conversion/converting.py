"""What a user may want of a port besides what Keras has: normalizations folded, channels first, blocks.

Each is imported when it is wanted, because it knows many kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from regspec.code.axes import Order
from regspec.code.shapes import DataFormat
from regspec.graph.network import Graph
from regspec.keras.arrays.matching import Arrays
from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.models import Model
from regspec.text.problems import Problem, RegspecError

Moving = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a port."""

    data_format: DataFormat | None = None
    fold: bool = False
    blocks: bool = False


@dataclass(frozen=True)
class Converted:
    """A model with its arrays, and the orders of axes in its inputs and outputs where these are not Keras's."""

    model: Model
    arrays: Arrays
    data_format: DataFormat = "channels_last"
    inputs: Mapping[str, Order] = field(default_factory=dict)
    outputs: Mapping[str, Order] = field(default_factory=dict)
    moves: tuple[Moving, ...] = ()  # the functions that changed the arrays, in order
    notes: tuple[str, ...] = ()  # on what was done


def converted(
    model: Model, arrays: Arrays, wanted: Wanted, dialect: Dialect, resolve: Callable[[Model, DataFormat], Graph]
) -> Converted:
    """The model as it is wanted; ``resolve`` gives the graph of one in a data format.

    Raises:
        RegspecError: where it can't be done.
    """
    made = Converted(model, arrays)
    if wanted.fold:
        if not dialect.has_arrays:
            raise RegspecError(Problem("has no weights, so that no normalization can be folded", "give its weights"))
        made = _folded(made, resolve(made.model, made.data_format))
    if wanted.data_format not in (None, dialect.data_format):
        if wanted.data_format == "channels_last":
            raise RegspecError(Problem("has channels first already, and is not converted to channels last"))
        made = _with_channels_first(made, resolve)
    if wanted.blocks:
        blocks = _in_blocks(made)
        try:
            resolve(blocks.model, blocks.data_format)
        except RegspecError as error:  # where a block can't have what its layers had, such as a mask made in it
            note = f"layers that repeat are not written as blocks: {error.problems[0].what}"
            return replace(made, notes=(*made.notes, note))
        made = blocks
    return made


def _folded(made: Converted, graph: Graph) -> Converted:
    from regspec.keras.conversion import folding

    model, arrays, notes = folding.folded(made.model, graph, made.arrays)
    return replace(made, model=model, arrays=arrays, notes=(*made.notes, *notes))


def _with_channels_first(made: Converted, resolve: Callable[[Model, DataFormat], Graph]) -> Converted:
    from regspec.keras.conversion import layout

    relaid = layout.channels_first(made.model, resolve(made.model, made.data_format))
    layout.check(relaid, resolve(relaid.model, "channels_first"))
    return replace(
        made,
        model=relaid.model,
        arrays=relaid.moved(made.arrays),
        data_format="channels_first",
        inputs=relaid.inputs,
        outputs=relaid.outputs,
        moves=(*made.moves, relaid.moved),
        notes=(*made.notes, *relaid.notes),
    )


def _in_blocks(made: Converted) -> Converted:
    from regspec.keras.conversion import repetition

    model, moved, notes = repetition.in_blocks(made.model)
    return replace(
        made, model=model, arrays=moved(made.arrays), moves=(*made.moves, moved), notes=(*made.notes, *notes)
    )
