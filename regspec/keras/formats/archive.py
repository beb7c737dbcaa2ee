"""What is read of a file of Keras, whatever its form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from regspec.keras.arrays.files import ArrayFile
from regspec.keras.formats.configs import mapping_in


@dataclass(frozen=True)
class Archive:
    """A model's config, the version of Keras that wrote it, and its arrays, where there are any."""

    path: Path
    config: dict[str, Any]
    version: str | None
    arrays: ArrayFile | None
    form: str = ".keras"  # or .h5, JSON or SavedModel
    date: str | None = None  # of saving
    training: Mapping[str, Any] = field(default_factory=dict)  # what the model was compiled with
    others: tuple[str, ...] = ()  # members that are no part of a model
    within: str = "$.config"  # where the file has the config's own config, as a JSON path

    def place(self, way: str = "$") -> str:
        """What messages call a place in the config: the file, and the JSON path in it."""
        inside = way.replace("$.config", self.within, 1)
        return str(self.path) if inside == "$" else f"{self.path}: {inside}"

    def place_of(self, name: str) -> str:
        """What messages call the place of a layer, or of one in a model inside: the file alone where it has none."""
        return self.place(self._ways.get(name, "$"))

    @cached_property
    def _ways(self) -> dict[str, str]:
        """The JSON paths of layers by their names: of several of one name, that of the outermost and first."""
        found: dict[str, str] = {}
        waiting: list[tuple[str, Any]] = [("$.config", self.config.get("config"))]
        for way, config in waiting:  # which grows
            if not isinstance(config, list):
                config, way = mapping_in(config).get("layers"), f"{way}.layers"
            for number, layer in enumerate(config if isinstance(config, list) else ()):
                own = mapping_in(layer).get("config")
                for name in (mapping_in(layer).get("name"), mapping_in(own).get("name")):
                    if isinstance(name, str):
                        found.setdefault(name, f"{way}[{number}]")
                waiting.append((f"{way}[{number}].config", own))
        return found
