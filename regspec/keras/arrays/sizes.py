"""Sizes of inputs that a config leaves open, and that the file's arrays tell.

A Normalization that was adapted to a stream of examples may stand on an input of which Keras knows no features; its
means say how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from regspec.keras.arrays.files import ArrayFile
from regspec.keras.arrays.groups import groups_of
from regspec.keras.configs.models import Model, name_of

LAST = (None, -1, [-1])  # as an axis is said, or left out


def with_sizes(model: Model, config: Mapping[str, Any], arrays: ArrayFile | None) -> Model:
    """A model whose inputs have as many features as a Normalization on them has means, where they say none."""
    if arrays is None:
        return model
    inputs = dict(model.inputs)
    for name, source in _on_inputs(model):
        *others, features = inputs[source]["shape"]
        if features is None:
            inputs[source] = {**inputs[source], "shape": [*others, _count_of_means(name, model, config, arrays)]}
    return replace(model, inputs=inputs)


def _on_inputs(model: Model) -> Iterator[tuple[str, str]]:
    """The layers that have a mean for each feature of an input, and these inputs."""
    for entry in model.entries:
        fields = entry.get("Normalization", {})
        if fields.get("mean") == "loaded" and fields.get("axis") in LAST and fields["inputs"][0] in model.inputs:
            yield fields["name"], fields["inputs"][0]


def _count_of_means(name: str, model: Model, config: Mapping[str, Any], arrays: ArrayFile) -> int | None:
    """How many means a layer has in the file."""
    layer = name_of(dict(model.layers)[name])
    if arrays.is_legacy:
        found = arrays.of_layer(layer)[:1]
    else:
        found = [*arrays.below(groups_of(config, "", arrays)[layer]).values()][:1]
    return int(found[0].shape[-1]) if found and found[0].shape else None
