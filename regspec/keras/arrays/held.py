"""Arrays that are at hand: in memory, or in files that are mapped into it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regspec.keras.arrays.sources import Source


@dataclass(frozen=True)
class Numbers:
    """An array that can be read, of which only what a file says of it is known."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], NDArray[Any]]  # and no view of what is in a file

    @classmethod
    def of(cls, array: NDArray[Any]) -> Numbers:
        """Those of an array."""
        return cls(array.shape, array.dtype, lambda: array)


@dataclass(frozen=True)
class Held:
    """An array by its path, as `Stored` has it."""

    name: str
    numbers: Numbers

    @property
    def shape(self) -> tuple[int, ...]:
        return self.numbers.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.numbers.dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __getitem__(self, which: tuple[()]) -> NDArray[Any]:
        return self.numbers.read()


class InGroups(Source):
    """Arrays by their paths: ``layers/dense/vars/0``."""

    is_legacy = False

    def __init__(self, arrays: Mapping[str, Numbers]) -> None:
        self._held = {path: Held(f"/{path}", arrays[path]) for path in sorted(arrays)}
        self._paths = [*self._held]  # so that those of a group stand together
        self.nbytes = sum(each.nbytes for each in self._held.values())

    def layers(self) -> list[str]:
        return []

    def has(self, group: str) -> bool:
        return any(self._of_group(group))

    def below(self, group: str) -> list[tuple[str, Held]]:
        return [(path[len(group) + 1 :], self._held[path]) for path in self._of_group(group)]

    def of_layer(self, name: str) -> list[Held]:
        return []

    def all(self) -> Iterator[Held]:
        return iter(self._held.values())

    def _of_group(self, group: str) -> Iterator[str]:
        """The paths that begin with that of a group."""
        prefix = f"{group}/"
        for at in range(bisect_left(self._paths, prefix), len(self._paths)):
            if not self._paths[at].startswith(prefix):
                return
            yield self._paths[at]


class InLayers(Source):
    """Arrays by the names of layers, those in models inside included, and by their own, in order."""

    is_legacy = True
    lists_inner = True

    def __init__(self, arrays: Mapping[str, Mapping[str, Numbers]]) -> None:
        self._held = {
            layer: [Held(f"/{layer}/{name}", numbers) for name, numbers in own.items()] for layer, own in arrays.items()
        }
        self.nbytes = sum(each.nbytes for each in self.all())

    def layers(self) -> list[str]:
        return [*self._held]

    def has(self, group: str) -> bool:
        return group in self._held

    def below(self, group: str) -> list[tuple[str, Held]]:
        return []

    def of_layer(self, name: str) -> list[Held]:
        return self._held.get(name, [])

    def all(self) -> Iterator[Held]:
        return chain.from_iterable(self._held.values())
