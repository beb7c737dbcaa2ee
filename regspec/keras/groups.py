"""Where a file has the arrays of each layer: in a group that is named by the layer's class, numbered in order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from regspec.keras.arrays import OLD_CONTAINER, ArrayFile
from regspec.keras.models import name_of
from regspec.keras.operations.recorded import is_operation
from regspec.language.fields import snake_case

# Groups of arrays that are no weights: the states of random generators.
NO_WEIGHTS = re.compile(r"(.*/)?(seed_generator(_\d+)?|_dropout_layer|_random_generator)/.*")
NAMES = {"GroupQueryAttention": "grouped_query_attention"}  # of a class that is exported under another name


def groups_of(config: Mapping[str, Any], at: str, arrays: ArrayFile) -> dict[str, str]:
    """The group of each layer of a model whose own group is ``at``, by the layer's name: ``layers/dense_1``."""
    groups, counts = {}, dict[str, int]()
    for layer in config["layers"]:
        if is_operation(layer):
            continue
        written = layer.get("written_as", layer["class_name"])
        first = f"{at}{arrays.container}/{NAMES.get(written) or snake_case(written)}"
        number = counts.get(first, 0)
        groups[name_of(layer)] = f"{first}_{number}" if number else first
        counts[first] = number + (2 if _counts_twice(groups[name_of(layer)], f"{first}_{number + 1}", arrays) else 1)
    return groups


def _counts_twice(group: str, following: str, arrays: ArrayFile) -> bool:
    """Whether a layer counts twice, as each with weights does in files of tf.keras 2.12 and 2.13, but not of 2.14.

    There the number after its own is free; every other layer has a group, if only an empty one.
    """
    if arrays.container != OLD_CONTAINER or arrays.version[:2] == (2, 14) or arrays.has(following):
        return False
    return not all(map(NO_WEIGHTS.fullmatch, arrays.below(group)))
