"""Tables of classes by name, of which some are made when they are asked for.

Making all kinds of layers, or all activation functions, takes longer than most work with a few of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TypeVar

C = TypeVar("C")


class Table(MutableMapping[str, C]):
    """Classes by their names, in the order in which they came; ``makers`` make the first ones, each when asked for."""

    def __init__(self, makers: Mapping[str, Callable[[], C]] | None = None) -> None:
        self._makers = dict(makers or {})
        self._made: dict[str, C] = {}
        self._names = dict.fromkeys(self._makers)

    def later(self, name: str, maker: Callable[[], C]) -> None:
        """Puts in what is made when it is asked for."""
        self._makers[name] = maker
        self._made.pop(name, None)
        self._names[name] = None

    def __getitem__(self, name: str) -> C:
        if name not in self._made and name in self._makers:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __setitem__(self, name: str, cls: C) -> None:
        self._made[name] = cls
        self._names[name] = None

    def __delitem__(self, name: str) -> None:
        del self._names[name]
        self._makers.pop(name, None)
        self._made.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
