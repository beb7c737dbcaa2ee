"""A YAML text as a tree that keeps what a reader sees: comments, blank lines, quotes, flow and block style.

ruamel.yaml was weighed: it hangs a comment on the token before it, so that one above a section stays where it is when
the section moves. Here each comment belongs to an item, and goes with it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from regspec.language.arithmetic import tokens_of
from regspec.text.document import LOADER, Document

_SAFE = re.compile(r"[A-Za-z_$][A-Za-z0-9_$./-]*")  # a text that needs no quotes, wherever it stands
_WORDS = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))  # which YAML, or an older one, reads
_LINE = re.compile(r"[^\n\r\x85\u2028\u2029]*(?:\r\n|[\n\r\x85\u2028\u2029]|$)")  # by YAML's breaks
_BLOCK_HEADER = re.compile(r"[|>][^\n#]*(#.*)")


@dataclass
class Scalar:
    """A scalar, or an alias, by its text in a file."""

    text: str
    value: str = ""  # of a text that is no alias
    anchor: str = ""


@dataclass
class Collection:
    """A mapping or a sequence."""

    is_mapping: bool
    is_flow: bool
    items: list[Item] = field(default_factory=list)
    anchor: str = ""

    def get(self, key: str) -> Item | None:
        """The item of a key."""
        return next((item for item in self.items if item.key is not None and item.key.value == key), None)


Node = Scalar | Collection


@dataclass
class Item:
    """An item of a sequence, or a pair of a mapping, with the comments that belong to it."""

    value: Node
    key: Scalar | None = None
    before: list[str] = field(default_factory=list)  # lines above it; an empty one is a blank line
    beside: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)  # lines below all of it, as deep as it stands


@dataclass
class File:
    """A whole text: the lines above its first item, and its root."""

    header: list[str]
    root: Item

    @property
    def has_anchors(self) -> bool:
        """Whether something in it is named for aliases, which must stand behind it."""
        return any(each.anchor for item in inside(self.root) for each in (item.value, item.key) if each is not None)


def inside(item: Item) -> Iterator[Item]:
    """The item, and all items in it, in order."""
    yield item
    if isinstance(item.value, Collection):
        for each in item.value.items:
            yield from inside(each)


def comments(item: Item) -> list[str]:
    """The comments of an item and of all that is in it."""
    lines = (line for each in inside(item) for line in (*each.before, *each.beside, *each.after))
    return [line for line in lines if line]


def quoted(value: str) -> str:
    """A text as YAML writes it: plain where that is safe, in single quotes, or with escapes."""
    if _SAFE.fullmatch(value) and value.casefold() not in _WORDS:
        return value
    if value[:1] in ("$", "(", *"0123456789") and "\n" not in value and tokens_of(value) is not None:
        return value
    if value.isprintable() and "'" not in value:
        return f"'{value}'"
    written: str = yaml.dump(value, default_style='"', allow_unicode=True, width=float("inf"))
    return written.strip()


def read(document: Document) -> File:
    """The tree of a document, whose text is known to be valid."""
    return _Reader(document.text).read()


@dataclass
class _Place:
    """Where an item was written."""

    item: Item
    parent: _Place | None
    start: int
    column: int
    flow_end: int | None = None  # of the flow collection around it


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.events: Iterator[Any] = yaml.parse(text, Loader=LOADER)
        self.places: list[_Place] = []  # in the order in which they begin
        self.flows: list[tuple[int, int]] = []
        self.scalars: list[tuple[int, int]] = []
        self.inner: list[tuple[int, str]] = []  # comments in the headers of block scalars

    def read(self) -> File:
        for event in self.events:
            if isinstance(event, yaml.NodeEvent):
                break
        root = Item(Scalar(""))
        place = _Place(root, None, -1, -1)
        root.value = self._node(event, place)
        return File(self._comments(place), root)

    def _node(self, event: Any, place: _Place, *, is_key: bool = False) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return Scalar(f"*{event.anchor}")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, is_key)
        made = Collection(isinstance(event, yaml.MappingStartEvent), event.flow_style, anchor=event.anchor or "")
        column, first = event.start_mark.column, len(self.places)
        for each in self.events:
            if isinstance(each, yaml.CollectionEndEvent):
                break
            item = Item(Scalar(""))
            own = _Place(item, place, each.start_mark.index, column if not event.flow_style else 10**6)
            self.places.append(own)
            if made.is_mapping:
                key = self._node(each, own, is_key=True)
                assert isinstance(key, Scalar)  # a document has no other keys
                item.key, each = key, next(self.events)
            item.value = self._node(each, own)
            made.items.append(item)
        if event.flow_style:
            end = each.end_mark.index
            self.flows.append((event.start_mark.index, end))
            for inner in self.places[first:]:
                inner.flow_end = inner.flow_end or end
        return made

    def _scalar(self, event: Any, is_key: bool) -> Scalar:
        value, anchor = event.value, event.anchor or ""
        start, end = event.start_mark.index, event.end_mark.index
        self.scalars.append((start, end))
        if event.style in ("|", ">") and (header := _BLOCK_HEADER.search(self.text[start:end].split("\n")[0])):
            self.inner.append((start, header[1].rstrip()))
        if event.style or "\n" in value or "\n" in self.text[start:end]:
            return Scalar(quoted(value), value, anchor)
        if not is_key and value.casefold() in ("null", "~", ""):
            return Scalar("null", value, anchor)
        is_bool = not is_key and value in ("True", "TRUE", "False", "FALSE")
        return Scalar(value.lower() if is_bool else value, value, anchor)

    # -- comments ------------------------------------------------------------------------------------------------------

    def _comments(self, root: _Place) -> list[str]:
        """Gives each comment and blank line to the item that it belongs to; returns those above the first item."""
        header: list[str] = []
        starts = [place.start for place in self.places]
        index = 0
        blanks: list[str] = []
        for line in _LINE.findall(self.text):
            at = self._comment_in(index, line)
            is_blank = not line.strip() and not self._in_scalar(index)
            if is_blank:
                blanks = [""]
            if at is not None:
                text, number = line[at:].rstrip(), bisect_left(starts, index + at)
                if not line[:at].strip():
                    target = self._target(index + at, at, number, root) if number else header
                    target.extend([*blanks, text])
                    blanks = []
                elif number:
                    self._beside(number, index + at).beside.append(text)
                else:
                    header.append(text)
            index += len(line)
            number = bisect_left(starts, index)
            if blanks and not is_blank and number and starts[number - 1] >= index - len(line):
                first = bisect_left(starts, index - len(line))
                (self.places[first].item.before if first else header).extend(blanks)
                blanks = []
            elif not is_blank and at is None:
                blanks = []
        for start, text in self.inner:
            self.places[bisect_left(starts, start) - 1].item.beside.append(text)
        return header

    def _comment_in(self, index: int, line: str) -> int | None:
        """Where in a line, which begins at ``index``, a comment begins."""
        for mark in re.finditer(r"(?<!\S)#", line):
            if not self._in_scalar(index + mark.start()):
                return mark.start()
        return None

    def _in_scalar(self, index: int) -> bool:
        place = bisect_left(self.scalars, (index + 1, 0)) - 1
        return place >= 0 and self.scalars[place][0] <= index < self.scalars[place][1]

    def _beside(self, number: int, index: int) -> Item:
        """The item that a comment at the end of a line belongs to; ``number`` items begin before it."""
        place = self.places[number - 1]
        while place.flow_end is not None and place.flow_end <= index and place.parent is not None:
            place = place.parent
        return place.item

    def _target(self, index: int, column: int, number: int, root: _Place) -> list[str]:
        """Where a comment on a line of its own belongs: above the next item, or below one that stands as deep."""
        following = self.places[number] if number < len(self.places) else None
        around = [end for start, end in self.flows if start < index < end]
        if around:
            if following is not None and following.start < min(around):
                return following.item.before
            return self._beside(number, index + 1).after
        above: _Place = self.places[number - 1]
        while above.parent not in (None, root) and (above.column > column or above.flow_end is not None):
            assert above.parent is not None
            above = above.parent
        if following is None or (column > following.column and not _is_in(following, above)):
            return above.item.after
        return following.item.before


def _is_in(place: _Place, other: _Place) -> bool:
    """Whether a place lies in another."""
    parent = place.parent
    while parent is not None and parent is not other:
        parent = parent.parent
    return parent is other
