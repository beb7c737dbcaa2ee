"""What is read of a file of Keras, whatever its form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regspec.keras.arrays import ArrayFile


@dataclass(frozen=True)
class Archive:
    """A model's config, the version of Keras that wrote it, and its arrays, where there are any."""

    path: Path
    config: dict[str, Any]
    version: str | None
    arrays: ArrayFile | None
    form: str = ".keras"  # or .h5, or JSON
    date: str | None = None  # of saving
    training: Mapping[str, Any] = field(default_factory=dict)  # what the model was compiled with
    others: tuple[str, ...] = ()  # members that are no part of a model
