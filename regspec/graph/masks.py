"""Masks: which steps of a tensor count. They go from layer to layer as the graph is made, as Keras's do at run time.

A layer passes on the mask of an input, or computes one: ``tokens != 0``. A computed mask knows the tensors that it is
computed from. So it can be computed again for another call of the layer, and outside of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from regspec.code.shapes import ShapeError, Symbol, text
from regspec.layers import Layer


@dataclass(frozen=True, slots=True, eq=False)
class Mask(Symbol):
    """A mask that a layer makes of its inputs, or of their masks."""

    made_of: tuple[Symbol, ...] = ()


def _mask_by_name(x: Symbol) -> Symbol:
    """The mask that a spec means by a tensor's name: the tensor itself, if it is true and false, or else its mask."""
    if x.dtype == "bool":
        return x
    if x.mask is None:
        raise ShapeError(
            f"takes a mask of true and false, but '{x.source}' is {x.dtype}, and no mask comes with it",
            f"name an input of 'dtype: bool', or a layer: '- NotEqual: {{name: mask, inputs: {x.source}, x2: 0}}'",
        )
    return x.mask


def masked_by(named: Sequence[Symbol], layer: Layer, inputs: Sequence[Symbol]) -> list[Symbol]:
    """A layer's inputs with the masks that a spec names, each with its own; a merge may have one for all of them.

    Attention with heads may have one instead that says which steps each step sees; as in Keras, it may be of numbers.

    Raises:
        ShapeError: for too many masks, and for a tensor that is no mask, or does not fit.
    """
    if len(named) > len(inputs):
        raise ShapeError(f"takes {len(inputs)} inputs, but {len(named)} masks")
    if named and layer.takes_attention_mask and named[0].rank > 2 and named[0].mask is None:
        if len(named) > 1:
            raise ShapeError(
                f"takes a mask that says which steps each step sees alone, but is given {len(named)} masks",
                "what a mask of (batch, steps) leaves out can be false in it too, and a mask that comes with an input "
                "counts besides",
            )
        return [replace(inputs[0], attention_mask=named[0]), *inputs[1:]]
    masks = [*map(_mask_by_name, named)]
    if masks and layer.takes_attention_mask and len(masks) < len(inputs):
        raise ShapeError(
            f"takes masks of (batch, steps), one for each input, or one of (batch, steps of the query, steps of the "
            f"value), but is given {len(masks)} for {len(inputs)} inputs"
        )
    if layer.merges_masks and len(masks) == 1:
        masks *= len(inputs)
    for x, mask in zip(inputs, masks, strict=False):
        wanted = x.logical[: mask.rank]
        sizes = zip(wanted, mask.logical, strict=False)
        if mask.rank > x.rank or any(None not in pair and pair[0] != pair[1] for pair in sizes):
            raise ShapeError(f"has a mask of {text(mask.logical)}, which does not fit {x.described}")
    absent = [None] * (len(inputs) - len(masks))
    return [replace(x, mask=mask) for x, mask in zip(inputs, [*masks, *absent], strict=True)]


def elsewhere(mask: Symbol, bound: dict[Symbol, Symbol], name: str) -> Symbol:
    """The same mask computed from other tensors: ``bound`` maps the old ones to these, and gets the mask too.

    Raises:
        ShapeError: for a mask of a tensor that ``bound`` does not have.
    """
    if mask in bound:
        return bound[mask]
    if not isinstance(mask, Mask):
        raise ShapeError(
            f"gives a mask of '{mask.source}', which is computed in the block",
            "give the mask as a layer's 'mask', or [] for none, or use the layers without a block",
        )
    made_of = tuple(elsewhere(x, bound, name) for x in mask.made_of)
    bound[mask] = replace(mask, source=name, made_of=made_of)
    return bound[mask]
