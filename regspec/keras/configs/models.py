"""A Keras model as entries of a spec: what the reading of a config gives, and every later stage takes.

Keras records a graph as calls: each layer has nodes, and a node names the tensors that it takes by the layer, the node
and the output that they come from. A spec has layers in order, and `call` for the further ones. A model inside another
is a block.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regspec.keras.configs.dialect import values_under
from regspec.keras.configs.values import Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GRAPHS = ("Functional", "Model")
MODELS = ("Sequential", *GRAPHS)

Fields = dict[str, Any]  # of an entry
Entry = dict[str, Fields]  # of a spec: {kind: fields}


@dataclass(frozen=True, eq=False)
class Model:
    """What becomes of a model: entries of a spec, and where each has its weights in the file."""

    name: str
    inputs: Mapping[str, Fields]
    entries: Sequence[Entry]
    outputs: Any  # a reference, or references in a list or a mapping
    inner: Mapping[str, Model] = field(default_factory=dict)  # models inside, by the names of their entries
    layers: Sequence[tuple[str, Mapping[str, Any]]] = ()  # each layer's name in the spec, and what the file says of it
    names: Mapping[str, str] = field(default_factory=dict)  # of layers here, by those in the file
    parameters: Mapping[str, Any] = field(default_factory=dict)  # of a block, with their defaults
    arrays: Sequence[tuple[str, str, NDArray[np.generic]]] = ()  # that the config itself has: entry, weight, array
    operations: Collection[str] = frozenset()  # the entries that are operations, and no layers
    recorded_masks: Mapping[str, list[str | None]] = field(default_factory=dict)  # with which entries were called

    def items(self) -> Iterator[tuple[str, Fields]]:
        """The kind and the fields of each entry."""
        for entry in self.entries:
            yield from entry.items()


def name_of(layer: Mapping[str, Any]) -> str:
    """The name of a layer in its config."""
    config = layer.get("config")
    return str(layer.get("name") or (config.get("name") if isinstance(config, dict) else None) or layer["class_name"])


def is_model(config: Any) -> bool:
    """Whether a config is that of a model."""
    return isinstance(config, dict) and isinstance(config.get("layers"), list)


def with_configs(item: Mapping[str, Any]) -> Item:
    """A model in a config in which every layer has a config, if only an empty one."""
    config = item.get("config")
    layers = config.get("layers") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not isinstance(layers, list):
        return dict(item)
    return {**item, "config": {**config, "layers": [_with_config(layer) for layer in layers]}}


def _with_config(layer: Any) -> Any:
    if not isinstance(layer, dict):
        return layer
    if layer.get("config") is None:
        return {**layer, "config": {}}
    return with_configs(layer) if layer.get("class_name") in MODELS else layer


def layers_in(config: Any) -> list[Any]:
    """All layers of a config, wherever in it they are."""
    items = [
        item for own in values_under(config, "layers", "layer") for item in (own if isinstance(own, list) else [own])
    ]
    return [
        item
        for item in items
        if isinstance(item, dict) and isinstance(item.get("config"), dict) and isinstance(item.get("class_name"), str)
    ]
