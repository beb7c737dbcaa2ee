"""The text of a tree: block style two deep, flow style where it was written and fits."""

from __future__ import annotations

from collections.abc import Iterator

from regspec.text.document import Document
from regspec.views.formatting.canonical import canonical
from regspec.views.formatting.tree import Collection, File, Item, Node, Scalar, read

WIDTH = 120


def formatted(document: Document) -> str:
    """The text of a spec or of rules in its canonical form, every comment kept. Its faults are found before.

    Example:
        >>> from regspec.text.document import parse
        >>> print(formatted(parse("{name: net, regspec: 1, layers: [{Dense: {units: 3, name: a}}, {Flatten: }]}")))
        regspec: 1
        name: net
        layers: [{Dense: {name: a, units: 3}}, Flatten]
        <BLANKLINE>
    """
    return laid_out(canonical(read(document)))


def laid_out(file: File) -> str:
    """The text of a tree."""
    lines = [*_spaced(file.header), *_lines(file.root.value, 0), *file.root.beside]
    return "\n".join(lines) + "\n"


def _lines(node: Node, indent: int) -> list[str]:
    """A node in block style."""
    if isinstance(node, Scalar) or not node.items:
        return [" " * indent + _inline(node)]
    lines: list[str] = []
    for item in node.items:
        before = _spaced(item.before)
        lines += _at(indent, before[1:] if not lines and before[:1] == [""] else before)
        lines += _item(item, indent)
        lines += _at(indent, _spaced(item.after))
    return lines


def _item(item: Item, indent: int) -> Iterator[str]:
    """An item with its value, and what stands beside it."""
    head = " " * indent + ("-" if item.key is None else _key(item.key))
    value = item.value
    first, *others = item.beside or [""]
    yield from _at(indent, others)
    beside = f"  {first}" if first else ""
    if _fits(value, len(head) + 1):
        yield f"{head} {_inline(value)}{beside}"
        return
    assert isinstance(value, Collection)
    if item.key is not None or value.anchor:
        yield f"{head}{f' &{value.anchor}' * bool(value.anchor)}{beside}"
        yield from _lines(value, indent + 2)
        return
    # the first item of the value stands behind the dash, and what stands above it, above the dash
    begins = value.items[0]
    above = [*begins.before, *begins.beside[1:]]
    begins.before, begins.beside = [], begins.beside[:1]
    yield from _at(indent, [*([first] if first else []), *(line for line in above if line)])
    line, *rest = _lines(value, indent + 2)
    yield f"{head} {line.lstrip()}"
    yield from rest


def _fits(node: Node, column: int) -> bool:
    """Whether a node stands on one line from a column: a scalar always, a flow collection where it has the width."""
    if isinstance(node, Scalar) or not node.items:
        return True
    return _is_plain(node) and column + len(_inline(node)) <= WIDTH


def _is_plain(node: Node) -> bool:
    """Whether all of a node was written in flow style, without comments in it."""
    if isinstance(node, Scalar) or not node.items:
        return True
    return node.is_flow and all(
        not any((*each.before, *each.beside, *each.after)) and _is_plain(each.value) for each in node.items
    )


def _inline(node: Node) -> str:
    """A node in flow style."""
    anchor = f"&{node.anchor} " if node.anchor else ""
    if isinstance(node, Scalar):
        return anchor + node.text
    pairs = [f"{_key(item.key)} {_inline(item.value)}" if item.key else _inline(item.value) for item in node.items]
    start, end = "{}" if node.is_mapping else "[]"
    return f"{anchor}{start}{', '.join(pairs)}{end}"


def _key(key: Scalar) -> str:
    """A key with its colon, which would be part of an alias's name without a space."""
    return f"{_inline(key)}{' ' * key.text.startswith('*')}:"


def _spaced(lines: list[str]) -> list[str]:
    """Lines with one blank line where there were several."""
    return [line for index, line in enumerate(lines) if line or not index or lines[index - 1]]


def _at(indent: int, lines: list[str]) -> list[str]:
    return [" " * indent + line if line else "" for line in lines]
