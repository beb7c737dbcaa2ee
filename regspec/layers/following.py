"""How a spec counts the axes of an output, by where those of the inputs have gone.

Of a tensor with channels these stay what they are, wherever they go. The last axis of a sequence is its features for
Keras. Where nothing tells which axis of the output has the channels, the answer is None.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.shapes import Symbol


def order_after(x: Symbol, places: Sequence[int | None]) -> Order | None:
    """How a spec counts axes of which each was an axis of ``x`` before, by its number in the spec, or is new: None."""
    rank = len(places)
    if rank < 3:
        return axes.identity(rank)
    has_new = None in places
    features = x.spec_axis(-1)
    if x.is_open or (x.is_plain and has_new):
        return None
    if features not in places:
        return axes.identity(rank) if x.is_plain else None
    if x.is_plain and places.index(features) != rank - 1:  # a sequence that is turned may be meant as a signal
        return None
    kept = [place for place in places if place is not None]
    if not has_new and kept == sorted(kept):
        gone = {axis for place, axis in enumerate(x.spec_order) if place not in kept}
        return axes.without(x.spec_order, gone)
    return axes.with_channels_at(places.index(features), rank)


def order_with_new(x: Symbol, place: int, rank: int) -> Order | None:
    """How a spec counts the axes of an output of this rank, which has a new axis here, of features, and others."""
    if x.is_plain and 2 < rank != place + 1:  # which Keras, too, counts where it stands
        return None
    return axes.with_channels_at(place, rank)


def order_without(x: Symbol, gone: Collection[int]) -> Order | None:
    """How a spec counts the axes of ``x`` that are left without some, which are given as the spec counts them."""
    return order_after(x, [place for place in range(x.rank) if place not in gone])


def order_of_product(xs: Sequence[Symbol], terms: Sequence[Sequence[str]], output: Sequence[str]) -> Order | None:
    """How a spec counts the axes of a sum of products of ``xs``, and of weights, whose axes have these names.

    The channels are where those of an input are; where these are summed, they are the one axis that the weights add.
    """
    rank = len(output)
    if rank < 3:
        return axes.identity(rank)
    told = [(x, term) for x, term in zip(xs, terms, strict=True) if not x.is_open]
    if len(told) < len(xs):  # what nothing tells of is like weights
        channels = {term[x.spec_axis(-1)] for x, term in told}
        found = channels.intersection(output) or {*output}.difference(*(term for _, term in told))
        return axes.with_channels_at(output.index(found.pop()), rank) if told and len(found) == 1 else None
    channels = {term[x.spec_axis(-1)] for x, term in told if not x.is_plain}
    if not channels:
        features = {term[-1] for term in terms}
        is_turned = output[-1] in {*chain(*terms)} - features and not features.isdisjoint(output)
        return None if is_turned else axes.identity(rank)  # a sequence that is turned may be meant as a signal
    new = {*output}.difference(*terms)
    found = channels.intersection(output) or new
    return axes.with_channels_at(output.index(found.pop()), rank) if len(found) == 1 else None
