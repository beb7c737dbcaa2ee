"""What a port finds out on its way and tells in the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from regspec.keras.configs.replacing import Replacement, Replacements


class Notes:
    """Notes for the user of a port, each once, in the order in which they were found; and the replacements in it."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}
        self._replacements: dict[Replacement, None] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    @property
    def replacements(self) -> tuple[Replacement, ...]:
        """The replacements that stand in for a layer of the model."""
        return tuple(self._replacements)

    def add(self, *texts: str) -> None:
        """Adds notes; one that is there already stays where it is."""
        self._texts.update(dict.fromkeys(texts))

    def replacement(self, item: Mapping[str, Any], replacements: Replacements) -> str | None:
        """The kind of the user's that stands in for a layer, if any, which is remembered."""
        return self._remembered(replacements.find(item))

    def chosen(self, names: Sequence[str], sort: str, replacements: Replacements) -> str | None:
        """The member of a family that stands in for a value of these names, if any, which is remembered."""
        found = replacements.find_value(names, sort)
        if found is not None:
            self.add(f"in the place of '{found.name}' is a function of your own, {found.kind}")
        return self._remembered(found)

    def _remembered(self, found: Replacement | None) -> str | None:
        if found is None:
            return None
        self._replacements[found] = None
        return found.kind
