"""The text of a spec whose data have changed: what is as it was stays as it is written, with every comment."""

from __future__ import annotations

from typing import Any

from regspec.text.document import Document, parse
from regspec.text.dumping import dumped
from regspec.views.formatting.printing import formatted, laid_out
from regspec.views.formatting.tree import Collection, Item, Node, Scalar, quoted, read


def changed(document: Document, data: Any) -> str:
    r"""The canonical text of a spec with other data than its document has.

    Where parts of the document are named for aliases, all is written anew: what changes in one place may not in others.

    Example:
        >>> from regspec.text.document import parse
        >>> document = parse("layers:\n  - Dense: {units: 3}  # wide\n  - Flatten\n")
        >>> print(changed(document, {"layers": [{"Dense": {"units": 2}}, "Flatten"]}), end="")
        layers:
          - Dense: 2  # wide
          - Flatten
    """
    file = read(document)
    if file.has_anchors:
        return formatted(parse(dumped(data)))
    file.root.value = _changed(file.root.value, document.data, data)
    return formatted(parse(laid_out(file)))


def _changed(node: Node, before: Any, after: Any) -> Node:
    """A node that says what comes after."""
    if before == after and type(before) is type(after):
        return node
    if isinstance(node, Collection) and isinstance(before, dict) and isinstance(after, dict):
        keys = {item.key.value: item for item in node.items if item.key is not None}
        node.items = [item for key, item in keys.items() if key in after]
        for key, value in after.items():
            if key in keys:
                keys[key].value = _changed(keys[key].value, before[key], value)
            else:
                node.items.append(Item(_new(value), Scalar(quoted(key), key)))
        return node
    if isinstance(node, Collection) and isinstance(before, list) and isinstance(after, list):
        for item, one, other in zip(node.items, before, after, strict=False):
            item.value = _changed(item.value, one, other)
            if isinstance(item.value, Collection) and one != other:  # of a layer that was a name alone
                item.value.is_flow = item.value.is_flow and node.is_flow
        node.items = [*node.items[: len(after)], *(Item(_new(each)) for each in after[len(before) :])]
        return node
    return _new(after)


def _new(value: Any) -> Node:
    """A node of plain data, in flow style."""
    if isinstance(value, dict):
        items = [Item(_new(each), Scalar(quoted(key), key)) for key, each in value.items()]
        return Collection(is_mapping=True, is_flow=True, items=items)
    if isinstance(value, list):
        return Collection(is_mapping=False, is_flow=True, items=[Item(_new(each)) for each in value])
    if isinstance(value, str):
        return Scalar(quoted(value), value)
    text = {None: "null", True: "true", False: "false"}[value] if value is None or type(value) is bool else str(value)
    return Scalar(text, text)
