"""Masks: which steps of a tensor count. They go from layer to layer as the graph is made, as Keras's do at run time.

A layer passes on the mask of an input, or computes one: ``tokens != 0``. A computed mask knows the tensors that it is
computed from. So it can be computed again for another call of the layer, and outside of a block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from regspec.code.shapes import ShapeError, Symbol


@dataclass(frozen=True, slots=True, eq=False)
class Mask(Symbol):
    """A mask that a layer makes of its inputs, or of their masks."""

    made_of: tuple[Symbol, ...] = ()


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
