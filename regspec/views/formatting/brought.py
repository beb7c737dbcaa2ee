"""What people bring, as mappings of the language: calls, what Keras serializes, and initializers of torch."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from regspec.language.calls import is_call
from regspec.language.forms import Family
from regspec.language.initializers import initializer_of
from regspec.language.serialized import of_layers, says
from regspec.layers.layer import Placement
from regspec.text.document import parse
from regspec.text.problems import RegspecError
from regspec.views.formatting.tree import Collection, Item, Node, Scalar, inside, quoted


def is_serialized(node: Node) -> bool:
    """Whether a node is what Keras serializes, all of it its own: an anchor or an alias in it may be elsewhere's."""
    if not isinstance(node, Collection) or node.get("class_name") is None or node.anchor:
        return False
    parts = [each.value for item in node.items for each in inside(item)]
    return not any(each.anchor or is_alias(each) for each in parts) and node.get("<<") is None


def is_alias(node: Node) -> bool:
    """Whether a node stands for another."""
    return isinstance(node, Scalar) and node.text.startswith("*")


def is_null(node: Node) -> bool:
    """Whether a node is null, and nothing else's name."""
    return isinstance(node, Scalar) and node.text == "null" and not node.anchor


def mapping(name: str, value: Node, *, is_flow: bool = True, anchor: str = "") -> Collection:
    """A mapping of one name."""
    return Collection(True, is_flow, [Item(value, Scalar(name, name))], anchor)


def of_values(values: Mapping[str, Any]) -> Collection:
    """A mapping of plain values."""
    return Collection(True, True, [Item(_node(each), Scalar(name, name)) for name, each in values.items()])


def of_call(node: Scalar, family: Family[Any]) -> Node:
    """What a call says; another scalar as it is."""
    if is_alias(node) or not is_call(node.value):
        return node
    try:
        cls, given = family.read_call(node.value, lambda argument: argument.text)
    except PydanticCustomError:  # of a text that becomes a call by its parameters
        return node
    made = Collection(True, True)
    for field, (value, (start, end)) in given.items():
        if value is not None or cls.model_fields[field].default is not None:
            written = node.value[start:end]
            made.items.append(Item(_node(value, written.rpartition("=")[2].strip()), Scalar(field, field)))
    return mapping(cls.name, made, anchor=node.anchor)


def of_serialized(node: Collection, family: Family[Any]) -> Node:
    """The member that Keras has serialized; what is none as it is."""
    name, config = _name_and_config(node)
    cls = family.serialized_class(name, {item.key.value: item for item in config.items if item.key is not None})
    if cls is None:
        return node
    for item in config.items:
        if cls.main is not None and item.key is not None and item.key.value == cls.main_in_keras:
            item.key = Scalar(cls.main, cls.main)
    _drop(config, cls, of_layers(cls.model_fields))
    return mapping(cls.name, config, is_flow=node.is_flow)


def layer_of_serialized(node: Collection, kind: str, model: type[BaseModel], *, is_inner: bool) -> Node:
    """The layer of a kind that Keras has serialized; an inner one has neither a name nor the type of all numbers."""
    _, config = _name_and_config(node)
    if not is_inner and config.get("name") is None and (beside := node.get("name")) is not None:
        config.items.append(beside)
    for item in config.items:
        if item.key is not None and item.key.value == "dtype" and isinstance(item.value, Collection):
            _, policy = _name_and_config(item.value)
            name = policy.get("name")
            item.value = name.value if name is not None else item.value
    dtype = config.get("dtype")
    is_plain = dtype is not None and isinstance(dtype.value, Scalar) and dtype.value.value == "float32"
    _drop(config, model, {"name", *(["dtype"] if is_plain else [])} if is_inner else ())
    return mapping(kind, config, is_flow=node.is_flow)


def _name_and_config(node: Collection) -> tuple[str, Collection]:
    """The name of what Keras has serialized, and its arguments."""
    item, given = node.get("class_name"), node.get("config")
    name = item.value.value if item is not None and isinstance(item.value, Scalar) else ""
    config = None if given is None else given.value
    if isinstance(config, Collection):
        return name, config
    return (config.value if config is not None and name == "function" else name), Collection(True, True)


def _drop(config: Collection, model: type[BaseModel], others: Container[str]) -> None:
    """Leaves out what Keras writes of every argument: null where that is the default, and what is not used here."""
    known = {**Placement.model_fields, **model.model_fields}

    def is_said(item: Item) -> bool:
        name = "" if item.key is None else item.key.value
        is_off = is_null(item.value) or (isinstance(item.value, Scalar) and item.value.text == "false")
        is_default = name in known and is_null(item.value) and known[name].default is None
        return says(name, known, others, is_off=is_off) and not is_default

    config.items = [item for item in config.items if is_said(item)]


def of_initializer(node: Node) -> Node:
    """The initializer of Keras that one of torch, without arguments, is; another, or one with an anchor, as it is."""
    name = node
    if node.anchor:
        return node
    if isinstance(node, Collection):
        (item, *others) = node.items or [Item(node)]
        is_empty = is_null(item.value) or (isinstance(item.value, Collection) and not item.value.items)
        if others or item.key is None or item.key.anchor or item.value.anchor or not is_empty:
            return node
        name = item.key
    own = initializer_of(name.value) if isinstance(name, Scalar) and not is_alias(name) else None
    if own is None:
        return node
    return _node(own)


def _node(value: Any, written: str = "") -> Node:
    """A value in flow style; a number as it was written, where that is the number."""
    if isinstance(value, dict):
        return Collection(True, True, [Item(_node(each), Scalar(key, key)) for key, each in value.items()])
    if isinstance(value, list):
        return Collection(False, True, [Item(_node(each)) for each in value])
    if isinstance(value, str):
        return Scalar(quoted(value), value)
    text = written if not isinstance(value, bool) and _is_written(value, written) else json.dumps(value)
    return Scalar(text, text)


def _is_written(value: Any, text: str) -> bool:
    try:
        read = parse(f"[{text}]").data
    except RegspecError:
        return False
    return isinstance(read, list) and len(read) == 1 and type(read[0]) is type(value) and bool(read[0] == value)
