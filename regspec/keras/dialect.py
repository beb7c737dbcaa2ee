"""Which Keras wrote a config, what it meant by it, and what is to be said of that."""

from __future__ import annotations

from dataclasses import dataclass, field

from regspec.shapes import Precision


@dataclass
class Dialect:
    """What a config says by where it stands, and notes on what the port made of it."""

    data_format: str  # of the model: channels_last, unless all its layers say otherwise
    generation: int = 3  # of Keras: 1, 2 or 3
    dtype: Precision = "float32"  # of the model: that of most of its layers
    has_arrays: bool = False  # whether the file holds the weights too
    keeps_quirks: bool = True  # whether what Keras does and nobody can have wanted is done too
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Adds a note, once."""
        if text not in self.notes:
            self.notes.append(text)
