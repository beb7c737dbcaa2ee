"""How a spec counts the axes of its inputs, and of tensors that only their use tells apart.

The graph counts every axis as Keras does, channels or features last. A spec counts images, volumes and signals with
their channels first, unless it says ``data_format: channels_last``. What a tensor is, its declaration says (``axes``),
or else the layer that it first goes into.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regspec.code import axes
from regspec.code.axes import Meaning, Order
from regspec.code.shapes import DataFormat, Shape
from regspec.layers import Layer
from regspec.specs.model import BlockUse, Body, LayerCall, LayerUse
from regspec.specs.sections import Input
from regspec.text.problems import Problem

FEW = 4  # as many channels as a picture has


@dataclass(frozen=True, slots=True)
class Reading:
    """An order in which a layer counts the axes of what it takes."""

    order: Order
    is_said: bool  # whether the layer or the spec says a layout


def order_of_input(declared: Input, first: Layer | None, data_format: DataFormat | None) -> Order | None:
    """The order in which a spec counts the axes of an input that first goes into this layer; None for no telling."""
    rank = len(declared.shape) + 1
    if declared.axes is not None:
        return axes.of_meanings(declared.axes)
    if data_format == "channels_last":
        return axes.identity(rank)
    order = Layer.usual_spec_order(rank) if first is None else first.input_spec_order(rank)
    return Layer.usual_spec_order(rank) if order is None and data_format is not None else order


def has_two_readings(declared: Input, first: Layer | None, data_format: DataFormat | None) -> bool:
    """Whether an input is counted with its channels first, but its sizes look like an image with channels last."""
    rank = len(declared.shape) + 1
    order = order_of_input(declared, first, data_format)
    if order is None:
        return True
    if data_format is not None or declared.axes is not None or rank < 4 or (first is not None and first.says_layout):
        return False
    if first is not None and first.takes is not None and len(first.takes) != rank:
        return False  # which is the fault
    *others, last = declared.shape
    looks_last = last is not None and last <= FEW and all(size is None or size > FEW for size in others)
    return looks_last and order == axes.channels_first(rank)


def two_readings(name: str, declared: Input, order: Order | None) -> Problem:
    """The fault of an input that may be read in two ways: as channels first, or last, or in steps."""
    names: tuple[Meaning, ...] = ("depth", "height", "width")
    space = names[-len(declared.shape) + 1 :]
    last: tuple[Meaning, ...] = (*space, "channels")
    if order is None:
        last = ("steps", "length", "features") if len(last) == 3 else ("steps", *space[1:], "channels")
    sizes = ["?" if size is None else str(size) for size in declared.shape]
    one, other = (
        ", ".join(f"{meaning} {size}" for meaning, size in zip(each, sizes, strict=False))
        for each in (("channels", *space), last)
    )
    what = f"the input '{name}' may be ({one}), as torch has it, or ({other}){', as Keras does' * (order is not None)}"
    hint = f"say data_format: channels_first or channels_last for the spec, or axes: [{', '.join(last)}] here"
    return Problem(what, hint)


def reads_itself(sizes: Shape) -> bool:
    """Whether a tensor of these sizes, without the batch, is plainly one with channels first: (256, 7, 7).

    Its sides are equal, and more than the channels of a picture.
    """
    channels, *sides = sizes
    side = sides[0] if len(sides) > 1 else None
    return side is not None and side > FEW and channels != side and len({*sides}) == 1


def readings_by_use(first: Layer | None, data_format: DataFormat | None) -> tuple[Reading, ...]:
    """How tensors that say nothing of their axes are counted where this layer takes them, by rank.

    Where neither the layer nor the spec says a layout, only what reads itself as an image with channels first, and
    goes into a layer for images.
    """
    if first is None or data_format == "channels_last" or not (first.says_layout or first.reads_axes):
        return ()  # a layer that asks for no meaning tells none: what comes after it does
    is_said = first.says_layout or data_format is not None
    orders = [order for rank in (3, 4, 5, 6) if (order := first.input_spec_order(rank)) is not None]
    if not is_said:
        rank = len(first.takes or ())
        orders = [order for order in orders if len(order) == rank and order == axes.channels_first(rank)]
    return tuple(Reading(order, is_said) for order in orders)


def first_uses(body: Body) -> Mapping[str, Layer]:
    """The layers that the inputs and the outputs of entries first go into, by their names."""
    found: dict[str, Layer] = {}
    layers: dict[str, Layer] = {}
    last = body.inputs[-1] if body.inputs else ""
    for entry in body.entries:
        names = getattr(entry, "inputs", None) or (last,)
        last = entry.name
        if isinstance(entry, LayerUse):
            layers[entry.name] = entry.layer
        taken: dict[str, Layer | None] = {}
        if isinstance(entry, BlockUse):
            first = entry.copies[0].body
            inner = first_uses(first)
            taken = {name: inner.get(own) for name, own in zip(names, first.inputs, strict=False)}
        elif isinstance(entry, (LayerUse, LayerCall)):
            layer = entry.layer if isinstance(entry, LayerUse) else layers.get(entry.layer)
            taken = dict.fromkeys(names, layer)
        for name, layer in taken.items():
            if layer is not None:
                found.setdefault(name, layer)
    return found
