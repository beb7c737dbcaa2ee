"""Further calls of layers and blocks: on which tensors they are possible."""

from __future__ import annotations

from collections.abc import Sequence

from regspec.code import shapes
from regspec.code.shapes import ShapeError, Symbol
from regspec.graph.network import BlockNode, LayerNode
from regspec.layers.layer import Weight


def calls_what_is_made_for_others(first: LayerNode, inputs: Sequence[Symbol]) -> str:
    """What is wrong with a further call of a layer whose weights or modules can't take these inputs."""
    if [x.spec_order for x in inputs] == [x.spec_order for x in first.inputs]:
        made_for = " and ".join(shapes.text(x.spec_shape) for x in first.inputs)
        given = " and ".join(x.described for x in inputs)
    else:
        made_for, given = (" and ".join(map(_described_with_channels, xs)) for xs in (first.inputs, inputs))
    return f"calls '{first.name}', whose modules are made for {made_for}, on {given}"


def check_block_again(first: BlockNode, inputs: Sequence[Symbol]) -> None:
    """Raises `ShapeError` where a further call of a block is on tensors unlike those that its class was made for."""
    if [*map(_likeness, inputs)] != [*map(_likeness, first.inputs)]:
        is_counted_alike = [x.spec_order for x in inputs] == [x.spec_order for x in first.inputs]
        described = _described if is_counted_alike else _described_with_channels
        made_for, given = (" and ".join(map(described, xs)) for xs in (first.inputs, inputs))
        raise ShapeError(f"calls '{first.name}', which is made for {made_for}, on {given}")


def _likeness(x: Symbol) -> tuple[object, ...]:
    """What two tensors have in common that one block can be called on."""
    return x.logical, x.spec_order, x.is_open, x.dtype, x.mask is None


def _described(x: Symbol) -> str:
    """What a tensor is, for a message on what a block can be called on."""
    return x.described if x.mask is None else f"{x.described} and has a mask"


def _described_with_channels(x: Symbol) -> str:
    """The same with the axis that holds the channels or features, where this is the difference."""
    return f"{_described(x)} with its channels or features at axis {x.spec_axis(-1)}"


def shapes_of(weights: Sequence[Weight]) -> list[tuple[str, tuple[int, ...] | None]]:
    """What the weights of a layer must have in common in all its calls."""
    return [(weight.name, weight.shape) for weight in weights]
