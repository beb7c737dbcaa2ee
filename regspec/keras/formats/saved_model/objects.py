"""The graphs of objects in a SavedModel: of what was saved, with Keras's words on it, and of the arrays of the bundle.

Both have the same edges, by which layers are found: a model's lead to its layers by number, `layer-0`, a layer's to its
weights and to what else it has, such as `forward_layer` or `cell`. Names of layers are no key, as models inside have
layers of the same names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from regspec.keras.arrays.groups import groups_of, numbered
from regspec.keras.configs.models import is_model, name_of
from regspec.keras.formats.configs import words_in
from regspec.keras.formats.saved_model.protobuf import Message

MAX_NODES = 100_000
MAX_STEPS = 300_000  # along edges, for all layers of a model
MAX_DEPTH = 60  # of objects in a layer
LAYER = re.compile(r"layer-([0-9]{1,9})")
# Edges to what is no weight, or is found by another edge too.
APART = frozenset(
    (
        *("variables", "trainable_variables", "non_trainable_variables", "regularization_losses", "keras_api"),
        *("layers", "metrics", "optimizer", "signatures", "states"),
    )
)
# Edges to layers inside, and the fields in which a config has them, of which the first that is there counts.
FIELDS = {
    "layer": ("layer",),
    "forward_layer": ("layer",),
    "backward_layer": ("backward_layer", "layer"),
    "cell": ("cell",),
    "cells": ("cells",),
}
# Fields of a config with which an object's penalty on its output is said already: a wrapper's is that of its layer; and
# layers that say it in others.
SAID, SAYING = frozenset({"activity_regularizer", "layer"}), frozenset({"ActivityRegularization"})

Item = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """An object: the numbers of others by the edges to them; and Keras's words on it, or the key of its array."""

    edges: Mapping[str, int]
    said: str = ""


class Objects:
    """A graph of objects, each of which is read when it is asked for; the first is the model."""

    def __init__(self, graph: Message, words: Callable[[int, Message], str]) -> None:
        self.messages = [*islice(graph.messages(1), MAX_NODES + 1)]
        if len(self.messages) > MAX_NODES:
            raise ValueError("it has more objects than a model")
        self._words = words
        self._known: dict[int, Node] = {}
        self._steps = 0

    def at(self, number: int) -> Node:
        """An object. Raises `ValueError` where there is none."""
        self._count(1)
        if not 0 <= number < len(self.messages):
            raise ValueError("its graph of objects leads nowhere")
        if number not in self._known:
            message = self.messages[number]
            edges = dict(_edge(each) for each in message.messages(1))
            self._known[number] = Node(edges, self._words(number, message))
        return self._known[number]

    def layers(self, number: int, item: Item) -> list[tuple[Item, int]]:
        """The layers of a model's config, each with its object; of a sequence without its input."""
        own = self.at(number).edges
        self._count(len(own))  # as several models may share an object
        found = {LAYER.fullmatch(edge): target for edge, target in own.items()}
        edges = [target for _, target in sorted((int(match[1]), target) for match, target in found.items() if match)]
        layers = item["config"]["layers"]
        if "input_layers" not in item["config"]:  # whose input is among the layers or among the objects, or in neither
            layers = [layer for layer in layers if layer["class_name"] != "InputLayer"]
            edges = edges[len(edges) > len(layers) :]
        if len(layers) != len(edges):
            raise ValueError(f"'{name_of(item)}' has {len(layers)} layers, but {len(edges)} objects for them")
        return [*zip(layers, edges, strict=True)]

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise ValueError("its graph of objects has no end")


def _edge(message: Message) -> tuple[str, int]:
    """The name of an edge, and the number of the object to which it leads."""
    fields = dict(message.fields())  # at once, as there are many
    name, number = fields.get(2, b""), fields.get(1, 0)
    if isinstance(name, int) or not isinstance(number, int):
        raise ValueError("an edge is damaged")
    return str(name, "utf-8", "replace"), number


# -- arrays ------------------------------------------------------------------------------------------------------------


def stored_in(graph: memoryview) -> Objects:
    """The graph that a bundle has of its arrays' objects, with the keys of their arrays."""
    return Objects(Message(graph), _key)


def _key(_: int, node: Message) -> str:
    """The key of an object's array; nothing for an object without one."""
    return next((each.text(3) for each in node.messages(2) if each.text(1) == "VARIABLE_VALUE"), "")


def keys_in(objects: Objects, item: Item, number: int = 0, at: str = "") -> Iterator[tuple[str, str]]:
    """The arrays of a model or a layer: the path that each has in a ``.weights.h5`` file, and its key in the bundle."""
    if is_model(item.get("config")):
        groups = groups_of(item["config"], at)
        for layer, target in objects.layers(number, item):
            if name_of(layer) in groups:  # which operations are not
                yield from keys_in(objects, layer, target, f"{groups[name_of(layer)]}/")
    else:
        yield from _Layer(objects).keys(number, item, at, 0)


@dataclass
class _Layer:
    """The arrays of a layer and of what is in it."""

    objects: Objects
    seen: set[int] = field(default_factory=set)

    def keys(self, number: int, item: Any, at: str, depth: int) -> Iterator[tuple[str, str]]:
        """The paths and keys below an object; ``item`` is its config, or a list of those of its parts."""
        self.seen.add(number)
        if depth > MAX_DEPTH:
            raise ValueError("a layer has objects in objects without end")
        names = numbered(each["class_name"] for each in item) if isinstance(item, list) else []
        own: list[str] = []  # keys, as an array may have several names
        for edge, target in self.objects.at(number).edges.items():
            if edge in APART:
                continue
            if key := self.objects.at(target).said:
                if key not in own:
                    yield f"{at}vars/{len(own)}", key
                    own.append(key)
            elif target not in self.seen:
                inner = _inside(item, edge)
                name = names[int(edge)] if isinstance(item, list) and inner else edge.replace("/", "_")
                if isinstance(inner, dict) and is_model(inner.get("config")):
                    yield from keys_in(self.objects, inner, target, f"{at}{name}/")
                else:
                    yield from self.keys(target, inner, f"{at}{name}/", depth + 1)


def _inside(item: Any, edge: str) -> Any:
    """The config of what an edge leads to from an object with this config; None for what has none."""
    if isinstance(item, list):
        return item[int(edge)] if re.fullmatch("[0-9]{1,4}", edge) and int(edge) < len(item) else None
    config = item.get("config") if isinstance(item, dict) else None
    found = (config.get(key) for key in FIELDS.get(edge, ())) if isinstance(config, dict) else ()
    return next((each for each in found if each is not None), None)


# -- what Keras says ---------------------------------------------------------------------------------------------------


def saved_in(graph: Message, words: Message | None) -> Objects:
    """The graph of what was saved, with Keras's words on each object: in a message of their own, or else in it."""
    if words is None:
        return Objects(graph, lambda _, node: node.message(4).text(3))
    said = {each.whole(2): each for each in words.messages(1)}
    return Objects(graph, lambda number, _: said[number].text(5) if number in said else "")


def is_of_keras(objects: Objects) -> bool:
    """Whether the model is one of Keras's."""
    return any(each.message(4).text(1).startswith("_tf_keras_") for each in objects.messages[:1])


def completed(objects: Objects, item: Item, number: int = 0) -> Item:
    """The config of a model or a layer, with what Keras says of its object alone.

    That are penalties on outputs, which not every layer writes in its config, and that a whole model is frozen.
    """
    said, config = words_in(objects.at(number).said), _config(item)
    if is_model(config):
        layers = [completed(objects, layer, target) for layer, target in objects.layers(number, item)]
        given = [layer for layer in config["layers"] if layer["class_name"] == "InputLayer"]
        if "input_layers" not in config:
            layers = [*given, *layers]
        if said.get("trainable") is False:
            layers = [_frozen(each) for each in layers]
        return {**item, "config": {**config, "layers": layers}}
    if not isinstance(config, dict):
        return item
    config = {**config}
    penalty = said.get("activity_regularizer")
    if penalty is not None and not config.keys() & SAID and item["class_name"] not in SAYING:
        config["activity_regularizer"] = penalty
    edges = objects.at(number).edges
    for edge, target in ((edge, edges[edge]) for edge in FIELDS if edge in edges):
        inner = _inside(item, edge)
        if isinstance(inner, dict) and isinstance(inner.get("config"), dict) and FIELDS[edge][0] in config:
            config[FIELDS[edge][0]] = completed(objects, inner, target)
    return {**item, "config": config}


def _frozen(item: Item) -> Item:
    """A layer, or all layers of a model, frozen."""
    config = _config(item)
    if not isinstance(config, dict) or item["class_name"] == "InputLayer":
        return item
    if is_model(config):
        return {**item, "config": {**config, "layers": [_frozen(each) for each in config["layers"]]}}
    return {**item, "config": {**config, "trainable": False}}


def _config(item: Item) -> Any:
    return item.get("config")
