"""Masks: which steps of a tensor count. They go from layer to layer as the graph is made, as Keras's do at run time.

A layer hands the mask of an input on, or makes one of what it takes: ``tokens != 0``. A mask that is made knows what it
is made of. So a layer that stands in several places makes one in each, and a block's mask can be told outside of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from regspec.code.shapes import ShapeError, Symbol


@dataclass(frozen=True, slots=True, eq=False)
class Mask(Symbol):
    """A mask that a layer makes of its inputs, or of their masks."""

    made_of: tuple[Symbol, ...] = ()


def elsewhere(mask: Symbol, bound: dict[Symbol, Symbol], name: str) -> Symbol:
    """A mask where other tensors stand for those that it is made of: ``bound`` has them, and gets the mask too.

    Raises:
        ShapeError: for a mask of a tensor that has no other.
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
