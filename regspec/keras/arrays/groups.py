"""Where a file has the arrays of each layer: in a group that is named by the layer's class, numbered in order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from regspec.keras.arrays.files import OLD_CONTAINER, ArrayFile
from regspec.keras.configs.models import is_model, name_of
from regspec.keras.configs.values import Item
from regspec.keras.operations.recorded import is_operation
from regspec.language.fields import snake_case

# Groups of arrays that are no weights: the states of random generators.
NO_WEIGHTS = re.compile(r"(.*/)?(seed_generator(_\d+)?|_dropout_layer|_random_generator)/.*")
NAMES = {"GroupQueryAttention": "grouped_query_attention"}  # of a class that is exported under another name


def groups_of(config: Mapping[str, Any], at: str, arrays: ArrayFile | None = None) -> dict[str, str]:
    """The group of each layer of a model whose own group is ``at``, by the layer's name: ``layers/dense_1``.

    It is that of a file, or without one as Keras writes it today.
    """
    groups, counts = {}, dict[str, int]()
    container = "layers" if arrays is None else arrays.container
    for layer in config["layers"]:
        if is_operation(layer):
            continue
        first = f"{at}{container}/{_group_of(layer.get('written_as', layer['class_name']))}"
        number = counts.get(first, 0)
        groups[name_of(layer)] = group = _numbered(first, number)
        is_double = arrays is not None and _counts_twice(group, _numbered(first, number + 1), arrays)
        counts[first] = number + (2 if is_double else 1)
    return groups


def layers_in_groups(
    config: Mapping[str, Any], arrays: ArrayFile | None = None, at: str = ""
) -> Iterator[tuple[Item, str]]:
    """Each layer of a model, and of the models in it, with its group: see `groups_of`."""
    groups = groups_of(config, at, arrays)
    for layer in config["layers"]:
        group = groups.get(name_of(layer))
        if group is None:  # an operation
            continue
        if is_model(layer.get("config")):
            yield from layers_in_groups(layer["config"], arrays, own_group(layer, group))
        else:
            yield layer, group


def own_group(model: Mapping[str, Any], group: str) -> str:
    """Where the layers of a model have their groups, which as a layer has this one: ``layers/functional/``.

    It is further in where a file has a wrapper around the model: see `regspec.keras.reading.distributed`.
    """
    return "/".join((group, *([model["held_in"]] if "held_in" in model else []), ""))


def numbered(classes: Iterable[str]) -> list[str]:
    """The groups of objects of these classes in a list, such as one of cells: ``lstm_cell``, ``lstm_cell_1``."""
    names, counts = [], Counter[str]()
    for name in map(_group_of, classes):
        names.append(_numbered(name, counts[name]))
        counts[name] += 1
    return names


def _group_of(class_name: str) -> str:
    return NAMES.get(class_name) or snake_case(class_name)


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def _counts_twice(group: str, following: str, arrays: ArrayFile) -> bool:
    """Whether a layer counts twice, as each with weights does in files of tf.keras 2.12 and 2.13, but not of 2.14.

    There the number after its own is free; every other layer has a group, if only an empty one.
    """
    if arrays.container != OLD_CONTAINER or arrays.version[:2] == (2, 14) or arrays.has(following):
        return False
    return not all(map(NO_WEIGHTS.fullmatch, arrays.below(group)))
