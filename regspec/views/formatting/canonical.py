"""The one form of each thing that has several: what the formatter changes besides layout.

The JSON Schema's references say what a field holds, a layer or a member of a family; `REWRITERS` says how each of
these is written. A new form of the language is a line here, beside its line in the loader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any

from pydantic import BaseModel

from regspec.language.activations import ACTIVATIONS
from regspec.language.constraints import CONSTRAINTS
from regspec.language.fields import REFERENCE, Frozen
from regspec.language.forms import Family
from regspec.language.initializers import INITIALIZERS
from regspec.language.regularizers import REGULARIZERS
from regspec.language.schedules import SCHEDULES
from regspec.layers import Layer, find_kind
from regspec.layers.cells import CELLS
from regspec.layers.kinds import takes_names
from regspec.specs.rules import LayerRule, ModuleRule, RulesFile
from regspec.specs.sections import BlockSection, CallEntry, Input, SpecSections, UseEntry
from regspec.specs.translating import are_names, field_of, kind_of, said_by, selected_kind, wraps
from regspec.views.formatting.brought import (
    is_alias,
    is_null,
    is_serialized,
    layer_of_serialized,
    mapping,
    of_call,
    of_initializer,
    of_serialized,
    of_values,
)
from regspec.views.formatting.tree import Collection, File, Item, Node, Scalar, comments, inside
from regspec.views.schema.models import model_schema

Rewriter = Callable[[Node], Node]


def canonical(file: File) -> File:
    """A file with everything in its canonical form."""
    root = file.root.value
    if not isinstance(root, Collection):
        return file
    root.is_flow = False
    is_movable = not file.has_anchors  # an alias must stand behind what it names
    if root.get("rules") is not None:
        _sorted(root, RulesFile, is_movable)
        _each(root.get("rules"), _rule_for_modules)
        return file
    _sorted(root, SpecSections, is_movable)
    _each(root.get("inputs"), partial(_sorted, model=Input, is_movable=is_movable))
    blocks = _first_parameters(root.get("blocks"))
    _each(root.get("blocks"), partial(_block, is_movable=is_movable, blocks=blocks))
    _layers(root.get("layers"), blocks)
    _each(root.get("regularizers"), _rule)
    return file


def _rule(node: Node) -> Node:
    node = _fields(node, LayerRule)
    _listed(node, "kinds")
    kinds = node.get("kinds") if isinstance(node, Collection) else None
    _each(kinds, lambda each: _kind(each, selected_kind) if isinstance(each, Scalar) else each)
    return node


def _rule_for_modules(node: Node) -> Node:
    node = _fields(node, ModuleRule)
    _listed(node, "types")
    return node


def _listed(node: Node, field: str) -> None:
    """Makes a list of a name that stands alone in a field."""
    item = node.get(field) if isinstance(node, Collection) else None
    if item is not None and isinstance(item.value, Scalar) and not _may_be_any(item.value):
        item.value = Collection(False, True, [Item(item.value)])


def _may_be_any(node: Node) -> bool:
    """Whether a node may stand for a value of any sort."""
    return is_alias(node) or _is_parameter(node) or is_null(node)


def _block(node: Node, is_movable: bool, blocks: Mapping[str, str]) -> Node:
    node = _sorted(node, BlockSection, is_movable)
    if isinstance(node, Collection):
        _layers(node.get("layers"), blocks)
    return node


def _first_parameters(blocks: Item | None) -> dict[str, str]:
    """The first parameter of each block that has some of its own; a file's are not known here."""
    found = {}
    for block in blocks.value.items if blocks is not None and isinstance(blocks.value, Collection) else ():
        parameters = block.value.get("parameters") if isinstance(block.value, Collection) else None
        first = (
            parameters.value.items[:1] if parameters is not None and isinstance(parameters.value, Collection) else []
        )
        for item in first:
            if block.key is not None and item.key is not None and item.key.value != "<<":
                found[block.key.value] = item.key.value
    return found


def _each(item: Item | None, rewrite: Rewriter) -> None:
    """Rewrites the items of an item's collection."""
    if item is not None and isinstance(item.value, Collection):
        for each in item.value.items:
            _rewrite(each, rewrite)


def _rewrite(item: Item, rewrite: Rewriter) -> None:
    """Rewrites an item's value; comments of what goes stay above it in their order, the first beside it where it is."""
    gone = comments(item)
    was_name = isinstance(item.value, Scalar)
    beside = [comment for each in inside(item) for comment in each.beside]
    item.value = rewrite(item.value)
    for comment in comments(item):
        gone.remove(comment)
    is_block = isinstance(item.value, Collection) and not item.value.is_flow  # beside which nothing can stand
    if was_name and isinstance(item.value, Collection) and is_block and item.key is None:
        item.value.items[0].beside, item.beside = item.beside, []  # which is the one line of it
    first = next((comment for comment in gone if comment in beside), None)
    if first is not None and not item.beside and not is_block:
        gone.remove(first)
        item.beside.append(first)
    item.before += gone


def _sorted(node: Node, model: type[BaseModel], is_movable: bool) -> Node:
    """A mapping with its keys in the order in which a section declares them."""
    if isinstance(node, Collection) and node.is_mapping and is_movable:
        order = [field.alias or name for name, field in model.model_fields.items()]
        node.items.sort(key=lambda item: order.index(item.key.value) if item.key and item.key.value in order else 99)
    return node


# -- layers ------------------------------------------------------------------------------------------------------------


def _layers(item: Item | None, blocks: Mapping[str, str]) -> None:
    """Rewrites the layers of a list."""
    is_flow = item is not None and isinstance(item.value, Collection) and item.value.is_flow
    _each(item, partial(_layer, blocks=blocks, is_flow=is_flow))


def _layer(
    node: Node, *, is_inner: bool = False, is_flow: bool = True, blocks: Mapping[str, str] | None = None
) -> Node:
    """A kind with its fields, its name first; with its first one alone; or alone, where it has none."""
    if isinstance(node, Collection) and is_serialized(node):
        name = node.get("class_name")
        kind = name.value.value if name is not None and isinstance(name.value, Scalar) else ""
        own = find_kind(kind_of(kind)) or CELLS.get(kind)
        node = node if own is None else layer_of_serialized(node, kind, own, is_inner=is_inner)
    if isinstance(node, Scalar):
        if node.anchor or not said_by(node.value):
            return _kind(node)
        node = mapping(node.value, Scalar("null"), is_flow=is_flow)
    if len(node.items) != 1 or node.items[0].key is None:
        return node
    (item,) = node.items
    written = node.items[0].key
    said = {} if written.anchor else said_by(written.value)
    if said and ((_may_be_any(item.value) and not _is_empty(item.value)) or item.value.anchor):
        return node  # which may stand elsewhere, without what the name says
    key = item.key = _kind(written)
    if said:
        _rewrite(item, partial(_with_said, said=said))
    if _is_empty(item.value) and not any((node.anchor, item.value.anchor, key.anchor)):
        return key
    if key.value == "call":
        _rewrite(item, partial(_of_kind, model=CallEntry, order=lambda fields: fields))
    elif (own := find_kind(key.value) or CELLS.get(key.value)) is not None:
        _rewrite(item, partial(_of_kind, model=own))
    else:
        _rewrite(item, partial(_of_block, first=(blocks or {}).get(key.value)))
    return node


def _with_said(node: Node, said: Mapping[str, str]) -> Node:
    """The fields of a kind, and first those that a name of others says."""
    more = of_values(said)
    if isinstance(node, Collection):
        node.items[:0] = more.items
    return node if isinstance(node, Collection) else more


def _kind(name: Scalar, own: Callable[[str], str] = kind_of) -> Scalar:
    """A kind by its own name; what has an anchor may be something else where an alias stands."""
    kind = name.value if is_alias(name) or name.anchor else own(name.value)
    return name if kind == name.value else Scalar(kind, kind)


def _with_name_first(node: Node) -> Node:
    if isinstance(node, Collection) and node.is_mapping:
        node.items.sort(key=lambda each: not _is_name(each))
    return node


def _of_kind(node: Node, model: type[Frozen], order: Rewriter = _with_name_first) -> Node:
    """The fields of a kind, or the main one alone, if it is no mapping and no other is given."""
    main = model.main
    if main is not None and isinstance(node, Collection) and _is_inner(node, model):
        node = mapping(main, node, is_flow=node.is_flow)
    elif _are_names(node) and issubclass(model, Layer) and takes_names(model):
        node = mapping("inputs", node)
    if main is None or _may_be_fields(node, model):
        return order(_fields(node, model))
    if not isinstance(node, Collection) or not node.is_mapping:
        node = node if is_null(node) else mapping(main, node)
    node = order(_fields(node, model))
    if isinstance(node, Collection) and len(node.items) == 1 and not node.anchor:
        (item,) = node.items
        is_main = item.key is not None and item.key.value == main and not item.key.anchor
        is_value = not isinstance(item.value, Collection) or not item.value.is_mapping
        if is_main and is_value and not is_null(item.value) and not _may_be_fields(item.value, model):
            return item.value
    return node


def _is_inner(node: Collection, model: type[Frozen]) -> bool:
    """Whether a mapping behind a kind is the layer that it wraps, and not its fields."""
    keys = [item.key.value for item in node.items if item.key is not None and not is_alias(item.key)]
    return node.is_mapping and len(keys) == len(node.items) > 0 and wraps(model, keys)


def _are_names(node: Node) -> bool:
    """Whether a node behind a kind is a name or a list, which are inputs where its first field is neither."""
    if isinstance(node, Collection):
        return not node.is_mapping
    return node.text not in ("true", "false", "null") and not is_alias(node) and are_names(node.value)


def _may_be_fields(node: Node, model: type[Frozen]) -> bool:
    """Whether a scalar may stand for a mapping, which alone is the fields, and behind the main field its value."""
    return is_alias(node) or (_is_parameter(node) and model.main in _references(model))


def _is_parameter(node: Node) -> bool:
    """Whether a node is one parameter, which may be of any type."""
    return isinstance(node, Scalar) and node.value.startswith("$") and node.value[1:].isidentifier()


def _of_block(node: Node, first: str | None) -> Node:
    """The parameters of a block, which are its author's, by their names."""
    may_be_fields = is_null(node) or is_alias(node) or _is_parameter(node)
    if first is not None and not may_be_fields and not (isinstance(node, Collection) and node.is_mapping):
        node = mapping(first, node)
    return _with_name_first(_fields(node, UseEntry))


def _is_name(item: Item) -> bool:
    """Whether it is a layer's name, and no alias of what stands before it."""
    return item.key is not None and item.key.value == "name" and not is_alias(item.value)


def _fields(node: Node, model: type[BaseModel]) -> Node:
    """A mapping of fields, each by its own name and in its form; one with an anchor may be another kind's, too."""
    if isinstance(node, Collection) and node.is_mapping:
        references = _references(model)
        for item in node.items:
            if item.key is None:
                continue
            others = [each.key.value for each in node.items if each.key is not None]
            name = item.key.value if node.anchor or item.key.anchor else field_of(model, item.key.value, others)
            item.key = item.key if name == item.key.value else Scalar(name, name, item.key.anchor)
            if name.endswith("_initializer"):
                _rewrite(item, of_initializer)
            rewrite = REWRITERS.get(references.get(name, ""))
            if rewrite is not None:
                _rewrite(item, rewrite)
    return node


@cache
def _references(model: type[BaseModel]) -> dict[str, str]:
    """What the fields of a model hold, by the names of definitions in the JSON Schema."""
    properties = model_schema(model).get("properties", {})
    found = {name: next(iter(_marks(schema)), "") for name, schema in properties.items()}
    return {name: mark for name, mark in found.items() if mark}


def _marks(schema: Any) -> Iterable[str]:
    if isinstance(schema, dict):
        if REFERENCE in schema:
            yield schema[REFERENCE]
        for form in (*schema.get("anyOf", ()), schema.get("items")):
            yield from _marks(form)


def _several(node: Node, rewrite: Rewriter) -> Node:
    """One thing, or each of a list."""
    if isinstance(node, Collection) and not node.is_mapping:
        for item in node.items:
            _rewrite(item, rewrite)
        return node
    return rewrite(node)


# -- members of families -----------------------------------------------------------------------------------------------


def _member(node: Node, family: Family[Any]) -> Node:
    """A name alone where it has no arguments; ``{name: value}`` where it has its main one alone."""
    if isinstance(node, Collection) and is_serialized(node):
        node = of_serialized(node, family)
    elif isinstance(node, Scalar):
        node = of_call(node, family)
    if isinstance(node, Scalar):
        return _renamed(node, family)
    names = [item.key.value for item in node.items if item.key is not None]
    if len({family.get(name) or name for name in names}) < len(node.items):
        return node  # no mapping, or one name in two spellings
    for item in node.items:
        assert item.key is not None
        if item.key.value == "schedule" and family is REGULARIZERS:
            _rewrite(item, REWRITERS[SCHEDULES.definition])
            continue
        item.key = _renamed(item.key, family)
        _rewrite(item, partial(_argument, main=getattr(family.get(item.key.value), "main", None)))
    if len(node.items) == 1 and not node.anchor:
        (item,) = node.items
        if item.key is not None and family.get(item.key.value) is not None and _is_empty(item.value):
            return item.key
    return node


def _renamed(name: Scalar, family: Family[Any]) -> Scalar:
    """The member's own name, for an alias or the name of a class."""
    member = family.get(name.value) if name.value and not name.anchor else None
    return name if member is None or name.value in family.members else Scalar(member.name, member.name)


def _argument(node: Node, main: str | None) -> Node:
    """The main argument alone, where no other is given."""
    if isinstance(node, Collection) and len(node.items) == 1 and not node.anchor:
        (item,) = node.items
        is_main = item.key is not None and item.key.value == main and not item.key.anchor
        if is_main and isinstance(item.value, Scalar) and item.value.text != "null":
            return item.value
    return node


def _is_empty(node: Node) -> bool:
    is_nothing = node.text == "null" if isinstance(node, Scalar) else node.is_mapping and not node.items
    return is_nothing and not node.anchor


REWRITERS: dict[str, Rewriter] = {
    "layer": partial(_several, rewrite=partial(_layer, is_inner=True)),
    "cell": partial(_several, rewrite=partial(_layer, is_inner=True)),
    **{
        family.definition: partial(_several, rewrite=partial(_member, family=family))
        for family in (ACTIVATIONS, INITIALIZERS, CONSTRAINTS, REGULARIZERS, SCHEDULES)
    },
}
