"""How a Keras array is laid out in torch: permutations of axes, and patterns such as ``"h w i o -> o i h w"``."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Order = tuple[int, ...]  # order[i] is the Keras axis that is stored at torch's dimension i
# What an axis may mean, in the order in which Keras has them.
Meaning = Literal["steps", "depth", "height", "width", "length", "features", "channels"]
MEANINGS: tuple[Meaning, ...] = get_args(Meaning)


def identity(rank: int) -> Order:
    """The order in which Keras's axis i is torch's dimension i."""
    return tuple(range(rank))


def channels_first(rank: int) -> Order:
    """The order that moves the last axis, Keras's channels, to dimension 1: (0, 3, 1, 2) for images."""
    return with_channels_at(1, rank)


def with_channels_at(place: int, rank: int) -> Order:
    """The order that moves the last axis, Keras's channels, to this dimension, the others as they are."""
    return (0, *range(1, place), rank - 1, *range(place, rank - 1))


def of_meanings(names: Sequence[Meaning]) -> Order:
    """The order of axes that mean this, without the batch: (0, 3, 1, 2) for channels, height, width."""
    ranked = sorted(names, key=MEANINGS.index)
    return (0, *(1 + ranked.index(name) for name in names))


def meanings(order: Order, spec_order: Order) -> tuple[Meaning | None, ...]:
    """What the axes of a tensor mean that a spec counts like this, as they lie in torch; None where nothing tells.

    Behind the channels lie a signal's length, an image's height and width, a volume's depth too; before them steps.
    """
    rank = len(order)
    place = spec_order.index(rank - 1)
    space: tuple[Meaning, ...] = ("depth", "height", "width")
    counted: list[Meaning | None] = [None] * rank
    if place == rank - 1 and rank == 3:
        counted[1] = "steps"
    elif 0 < rank - 1 - place <= len(space):
        counted[place + 1 :] = ("length",) if place == rank - 2 else space[place + 1 - rank :]
        counted[1:place] = ["steps" if place == 2 else None] * (place - 1)
    return tuple(counted[spec_order.index(axis)] for axis in order)


def without(order: Order, gone: Collection[int]) -> Order:
    """The order of the axes that are left where some are gone."""
    kept = [axis for axis in order if axis not in gone]
    return tuple(sorted(kept).index(axis) for axis in kept)


def permute(values: tuple[int | None, ...], order: Order) -> tuple[int | None, ...]:
    """``values`` rearranged: the item at index i is the one of axis ``order[i]``."""
    return tuple(values[axis] for axis in order)


def inverse(order: Order) -> Order:
    """The order that undoes ``order``."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def between(have: Order, want: Order) -> Order:
    """The arguments of ``Tensor.permute`` that bring a tensor from one order to another."""
    return tuple(have.index(axis) for axis in want)


@dataclass(frozen=True, slots=True)
class Pattern:
    """How torch stores a Keras array: ``"h w i o -> o i h w"``; a group is one dimension, ``"i o0 o1 -> (o0 o1) i"``.

    Names that begin with i and o are those of a layer's inputs and outputs.
    """

    keras: tuple[str, ...]
    torch: tuple[tuple[str, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """The pattern of a text; ``"o"`` alone stands for ``"o -> o"``."""
        left, _, right = text.partition("->")
        groups = re.findall(r"\(([^)]*)\)|(\S+)", right or left)
        return cls(tuple(left.split()), tuple(tuple((inside or single).split()) for inside, single in groups))

    def torch_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in torch of an array of this shape in Keras."""
        sizes = dict(zip(self.keras, shape, strict=True)) | {"1": 1}
        return tuple(math.prod(sizes[name] for name in group) for group in self.torch)

    @property
    def permutation(self) -> Order:
        """Keras's axes in the order in which torch stores them."""
        return tuple(self.keras.index(name) for group in self.torch for name in group if name != "1")

    @property
    def last(self) -> int:
        """The dimension in torch that holds Keras's last axis."""
        return self._dimension(self.keras[-1])

    @property
    def outputs(self) -> tuple[int, ...]:
        """The dimensions in torch along which the layer's outputs lie; where no axis is named, of Keras's last."""
        found = self._named("o")
        return found if found or self.inputs or not self.keras else (self.last,)

    @property
    def inputs(self) -> tuple[int, ...]:
        """The dimensions in torch along which the layer's inputs lie; none where no axis is named so."""
        return self._named("i")

    def _named(self, letter: str) -> tuple[int, ...]:
        return tuple(index for index, group in enumerate(self.torch) if any(name[0] == letter for name in group))

    def _dimension(self, name: str) -> int:
        return next(dimension for dimension, group in enumerate(self.torch) if name in group)

    def to_torch(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Keras's array as it lies in torch."""
        permuted: NDArray[np.generic] = array.transpose(self.permutation)
        return permuted.reshape(self.torch_shape(array.shape))

    def to_keras(self, array: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
        """Keras's array, of this shape, of one as it lies in torch."""
        apart: NDArray[np.generic] = array.reshape([shape[axis] for axis in self.permutation])
        return apart.transpose(inverse(self.permutation))
