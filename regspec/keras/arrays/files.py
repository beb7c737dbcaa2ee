"""The arrays of a file of Keras, each of which is read when its shape is known to be that of a weight.

A file may lie about everything. So all arrays together are no larger than what a file of its size can hold.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regspec.keras.arrays.sources import BFLOAT16, Source, Stored, damaged, joined
from regspec.text.problems import Problem, RegspecError

MAX_WIDTH = 8  # bytes of a number, as torch has them
# Where the layers of a model have their groups, within the model's own. tf.keras 2.12 to 2.14 had a name of its own.
OLD_CONTAINER = "_layer_checkpoint_dependencies"
CONTAINERS = (OLD_CONTAINER, "layers")
MAX_INFLATION = 100  # how many times as large as its compressed form a member, or all arrays of a file, may be


@dataclass(frozen=True)
class Account:
    """What became of a file's arrays: how many became parameters, and what nothing has taken."""

    arrays: int
    numbers: int
    bytes: int
    repeated: tuple[str, ...]  # taken more than once
    unused: tuple[str, ...]
    constant: int  # how many hold one number over and over, as new layers have it
    made: int  # numbers that became parameters, which are others where arrays of an older Keras are put together

    @property
    def is_complete(self) -> bool:
        """Whether each array was taken exactly once."""
        return not self.repeated and not self.unused


class ArrayFile:
    """The arrays of a file, by Keras's paths."""

    def __init__(self, source: Source, path: Path) -> None:
        self.source = source
        self.path = path
        self.version: tuple[int, ...] = ()  # of the Keras that wrote it, where that matters and is known
        self._most = MAX_INFLATION * max(source.nbytes, 2**20)  # bytes of all arrays
        self._bytes = 0  # that were read
        self.gained = 0  # numbers that arrays have more, once they are made of others
        self._taken: list[tuple[Stored, bool]] = []  # and whether it is constant

    @property
    def is_legacy(self) -> bool:
        """Whether the arrays are listed by the names of layers, and not in groups by their places in the model."""
        return self.source.is_legacy

    @property
    def container(self) -> str:
        """The name of the group in which this file has the groups of a model's layers."""
        return next((name for name in CONTAINERS if self.has(name)), CONTAINERS[-1])

    def has(self, group: str) -> bool:
        """Whether there is such a group."""
        with damaged(self.path):
            return self.source.has(group)

    def below(self, group: str) -> dict[str, Stored]:
        """The arrays below a group, by their paths in it; none where there is no such group."""
        with damaged(self.path):
            listed = self.source.below(group)
        found = dict(listed)
        if len(found) < len(listed):
            raise self._fault(f"has several arrays of one path, of those in '{group}'")
        return found

    def of_layer(self, name: str) -> list[Stored]:
        """The arrays of a layer in a legacy file, in order, without the counters that ``adapt()`` leaves."""
        with damaged(self.path):
            return [each for each in self.source.of_layer(name) if each.shape or each.dtype.kind == "f"]

    def array(self, stored: Stored, shape: tuple[int, ...]) -> NDArray[Any]:
        """An array, which must have this shape."""
        if stored.shape != shape:
            raise self._fault(f"has '{stored.name}' with the shape {stored.shape}, where {shape} is wanted")
        array = self._read(stored)
        self._taken.append((stored, _is_constant(array)))
        if array.dtype == BFLOAT16:  # the upper halves of float32
            array = (array.view("<u2").astype("<u4") << 16).view("<f4")
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def account(self, ignored: re.Pattern[str]) -> Account:
        """What was read, and what was not; arrays whose paths match ``ignored`` are no weights."""
        times = Counter(stored.name for stored, _ in self._taken)
        taken = {stored.name: stored for stored, _ in self._taken}
        with damaged(self.path):
            unread = tuple(
                stored.name
                for stored in self._weights()
                if not ignored.fullmatch(stored.name) and not self._is_known(stored, taken)
            )
        return Account(
            arrays=sum(times.values()),
            numbers=sum(stored.size for stored, _ in self._taken),
            bytes=sum(stored.nbytes for stored, _ in self._taken),
            repeated=tuple(name for name, count in times.items() if count > 1),
            unused=unread,
            constant=sum(is_constant for _, is_constant in self._taken),
            made=sum(stored.size for stored, _ in self._taken) + self.gained,
        )

    def check(self) -> None:
        """Raises `RegspecError` where anything in the file leads out of it, or can't be what it says."""
        with damaged(self.path):
            for stored in self.source.all():
                self._check(stored)

    def _weights(self) -> Iterator[Stored]:
        """All that may be weights of layers: not the optimizer's state."""
        if self.is_legacy:
            yield from self.source.of_model()
        for name in () if self.is_legacy else CONTAINERS:
            yield from self.below(name).values()

    def _is_known(self, stored: Stored, taken: Mapping[str, Stored]) -> bool:
        """Whether an array was read, or is no weight, or is a wrapper's copy of one that was."""
        if stored.name in taken or not stored.shape:
            return True
        layer = joined(stored.name).rpartition("vars/")[0]
        alike = [e for name, e in taken.items() if joined(name).startswith(layer) and e.shape == stored.shape]
        self._check(stored)
        if not layer or not alike:
            return False
        own = self._read(stored)
        return any(np.array_equal(each[()], own) for each in alike)

    def _read(self, stored: Stored) -> NDArray[Any]:
        """The numbers of an array. Raises where it has none, or all together are larger than what the file can hold."""
        with damaged(self.path):
            self._check(stored)
            dtype = stored.dtype
            if (dtype.kind not in "fiub" or dtype.itemsize > MAX_WIDTH) and dtype != BFLOAT16:
                raise self._fault(f"has '{stored.name}' of the type {dtype}, where numbers are wanted")
            self._bytes += stored.nbytes
            if self._bytes > self._most:
                raise self._fault(f"says that '{stored.name}' has {stored.nbytes:,} bytes, which it does not hold")
            return self.source.read(stored, self._most)

    def _check(self, stored: Stored) -> None:
        """Raises where an array is kept in another file, or claims more bytes than this file can hold."""
        if self.source.is_elsewhere(stored):
            raise self._fault(f"keeps '{stored.name}' in another file, which is not opened")
        if stored.nbytes > self._most:
            raise self._fault(f"says that '{stored.name}' has {stored.nbytes:,} bytes, which it does not hold")

    def _fault(self, what: str) -> RegspecError:
        return RegspecError(Problem(what, path=str(self.path)))


def _is_constant(array: NDArray[Any]) -> bool:
    """Whether an array holds one number over and over; most do not, as their ends tell."""
    return array.size > 1 and bool(array.flat[0] == array.flat[-1] and (array == array.flat[0]).all())
