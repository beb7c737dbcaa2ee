"""Which Keras wrote a config, and how it is to be read."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from regspec.code.shapes import DataFormat, Precision
from regspec.keras.configs.replacing import Replacements


@dataclass(frozen=True)
class Dialect:
    """What the words of a config mean: by the Keras that wrote it, by the whole model, and as the user wishes."""

    generation: int = 3  # of Keras: 1, 2 or 3
    version: tuple[int, ...] = ()  # of Keras, as far as the file says it
    is_standalone: bool = False  # whether it is Keras 1 or 2, and no part of TensorFlow
    has_arrays: bool = False  # whether the file holds the weights too
    data_format: DataFormat = "channels_last"  # of the model: channels_last, unless all its layers say otherwise
    dtype: Precision = "float32"  # of the model: that of most of its layers
    is_frozen: bool = False  # whether the whole model is, whatever its layers say
    backend: str | None = None  # that trained it, of Keras 1 and 2, as far as that is known
    thawed: Collection[str] | None = None  # of a live model: layers that say they are frozen, and are not
    keeps_quirks: bool = True  # whether behaviour of Keras that is surely not intended is reproduced
    replacements: Replacements = field(default_factory=Replacements)

    @classmethod
    def of(cls, version: str | None, config: Any) -> Dialect:
        """The dialect of a config that a version of Keras wrote; of one without a version, by its words."""
        numbers = tuple(
            int(part) for part in (version or "").split("-")[0].split(".") if re.fullmatch("[0-9]{1,9}", part)
        )
        generation = numbers[0] if numbers[:1] in ((1,), (2,)) else 3
        is_javascript = (version or "").startswith("tfjs")  # whose layers are those of tf.keras 2
        if is_javascript:
            generation = 2
        elif not numbers:
            is_list = isinstance(config, dict) and isinstance(config.get("config"), list)  # before Keras 2.2.3
            newest = 2 if is_list else 3
            generation = next((number for number, words in WORDS.items() if values_under(config, *words)), newest)
        # the Keras in TensorFlow: 2.2.4-tf and the like, and all from 2.4 on
        is_part = (
            is_javascript
            or "-tf" in (version or "")
            or numbers >= (2, 4)
            or (not numbers and bool(values_under(config, "ragged")))
        )
        is_standalone = generation == 1 or (generation == 2 and not is_part)
        return cls(generation, numbers, is_standalone)


# Words that a generation of Keras uses, and none after it.
WORDS = {1: ("W_regularizer", "border_mode", "inner_activation"), 2: ("batch_input_shape",)}


def values_under(value: Any, *keys: str) -> list[Any]:
    """The values of these keys, anywhere in a config."""
    found: list[Any] = []
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            found.extend(each[key] for key in keys if key in each)
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
    return found
