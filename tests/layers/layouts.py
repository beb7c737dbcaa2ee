"""Rows of the layer table in specs that say no data_format, which count signals, images and volumes channels first.

How a spec counts axes then is written out here, as `language.md` has it, and asked of no layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from regspec.layers import KINDS

from .row import Row
from .specs import document_of

Order = tuple[int, ...]  # order[i] is the Keras axis that the spec counts as axis i
# By the number of axes, the batch among them: those of signals, images and volumes.
FIRST: dict[int, Order] = {3: (0, 2, 1), 4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}
# The same of sequences of them, by the rank of what stands at each step.
FIRST_IN_STEPS: dict[int, Order] = {1: (0, 1, 3, 2), 2: (0, 1, 4, 2, 3), 3: (0, 1, 5, 2, 3, 4)}
# Kinds that read an input of which nothing is said as a signal, and not as a sequence.
OF_SIGNALS = {
    "Conv1D", "Conv1DTranspose", "DepthwiseConv1D", "SeparableConv1D", "MaxPooling1D", "AveragePooling1D",
    "AdaptiveMaxPooling1D", "AdaptiveAveragePooling1D", "STFTSpectrogram",
}  # fmt: skip
LIKE_THEIR_LAYER = ("SpectralNormalization", "Bidirectional")
MEANINGS = {3: ["channels", "length"], 4: ["channels", "height", "width"], 5: ["channels", "depth", "height", "width"]}


def inner_of(fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The kind and the fields of the layer that a layer wraps."""
    ((kind, inner),) = fields["layer"].items()
    return kind, inner


def order_of(kind: str, fields: dict[str, Any], rank: int) -> Order:
    """How a spec counts the axes of the first input."""
    if kind in LIKE_THEIR_LAYER:
        return order_of(*inner_of(fields), rank)
    if kind == "TimeDistributed":
        return in_steps(order_of(*inner_of(fields), rank - 1))
    if kind.startswith("ConvLSTM"):
        return FIRST_IN_STEPS[rank - 3]
    return tuple(range(rank)) if rank == 2 or (rank == 3 and kind not in OF_SIGNALS) else FIRST[rank]


def in_steps(order: Order) -> Order:
    """The order of axes of many steps, each of which has its own in this order."""
    return (0, 1, *(axis + 1 for axis in order[1:]))


def of_step(order: Order) -> Order:
    """The order of the axes of one step."""
    return (0, *(axis - 1 for axis in order[2:]))


def order_beside(kind: str, fields: dict[str, Any], order: Order, rank: int) -> Order:
    """How a spec counts the axes of another input, or of an output, where the first input's are in ``order``."""
    if kind in LIKE_THEIR_LAYER:
        return order_beside(*inner_of(fields), order, rank)
    if kind == "TimeDistributed":
        return in_steps(order_beside(*inner_of(fields), of_step(order), rank - 1))
    if rank == len(order):
        return order
    is_image = kind.startswith("ConvLSTM") or kind == "STFTSpectrogram"
    return FIRST[rank] if is_image and rank in FIRST else tuple(range(rank))


def orders_of(row: Row) -> list[Order]:
    """How a spec counts the axes of each input."""
    ranks = [len(shape) + 1 for shape in row.shapes]
    first = order_of(row.kind, row.fields, ranks[0])
    beside = [order_beside(row.kind, row.fields, first, rank) for rank in ranks[1:]]
    return [first, *beside]


def counted(kind: str, fields: dict[str, Any], order: Order) -> dict[str, Any]:
    """The fields, with the axes that they name counted in this order."""
    fields = dict(fields)
    for name in KINDS[kind].axis_fields:
        if fields.get(name) is not None:
            fields[name] = _renumbered(fields[name], order)
    if "noise_shape" in fields:
        fields["noise_shape"] = [fields["noise_shape"][axis] for axis in order]
    activation = fields.get("activation")
    if isinstance(activation, dict):
        ((function, said),) = activation.items()
        if function == "sparsemax":
            said = {"axis": said}
        if isinstance(said, dict) and "axis" in said:
            fields["activation"] = {function: {**said, "axis": _renumbered(said["axis"], order)}}
    if "layer" in fields:
        inner, own = inner_of(fields)
        fields["layer"] = {inner: counted(inner, own, of_step(order) if kind == "TimeDistributed" else order)}
    return fields


def _renumbered(axes: Any, order: Order) -> Any:
    if isinstance(axes, int):
        return order.index(axes % len(order))
    return [order.index(axis % len(order)) for axis in axes]


def open_document(row: Row, fields: dict[str, Any]) -> dict[str, Any]:
    """The spec of a row without a data_format, its inputs and the axes that it names counted channels first."""
    orders = orders_of(row)
    document = document_of(row, counted(row.kind, fields, orders[0]))
    del document["data_format"]
    for declared, order in zip(document["inputs"].values(), orders, strict=True):
        sizes = (None, *declared["shape"])
        declared["shape"] = [sizes[axis] for axis in order[1:]]
        if (meanings := meanings_of(order)) is not None:
            declared["axes"] = meanings
    return document


def meanings_of(order: Order) -> Sequence[str] | None:
    """What an input must say of its axes: images may look as if their channels were last, and none tells of steps."""
    if order == FIRST.get(len(order)):
        return MEANINGS[len(order)] if len(order) == 4 else None
    inner = of_step(order) if len(order) > 3 else ()
    return ["steps", *MEANINGS[len(inner)]] if inner and inner == FIRST.get(len(inner)) else None
