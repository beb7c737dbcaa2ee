"""YAML as Keras 1 and 2 wrote it, as plain data. Nothing that a tag names is made.

It is built of the parser's events without recursion, so that size and depth are bounded before anything is expanded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from regspec.keras.formats.configs import MAX_NESTING, MAX_VALUES
from regspec.text.problems import Problem, RegspecError

MAX_YAML = 4 * 2**20  # bytes, several times those of the largest of keras.applications
MAX_NUMBER = 100  # characters; YAML has numbers to the base 60, and in hexadecimal, whose size no digits bound
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PYTHON = "tag:yaml.org,2002:python/"
TEXTS = (f"{PYTHON}str", f"{PYTHON}unicode")
TUPLE = f"{PYTHON}tuple"
WRAPPERS = (f"{PYTHON}object/apply:", f"{PYTHON}object/new:")  # of TensorFlow 2.1, around a list: an axis
PLAIN: Any = yaml.SafeLoader("")  # which resolves and converts scalars, and loads nothing
CONVERTED: dict[str, Any] = {
    "tag:yaml.org,2002:null": PLAIN.construct_yaml_null,
    "tag:yaml.org,2002:bool": PLAIN.construct_yaml_bool,
    "tag:yaml.org,2002:int": PLAIN.construct_yaml_int,
    "tag:yaml.org,2002:float": PLAIN.construct_yaml_float,
}


def yaml_in(path: Path) -> Any:
    """What the YAML of a file says. Raises `RegspecError` where it is broken, too large, or has other tags."""
    if path.stat().st_size > MAX_YAML:
        raise RegspecError(Problem("is larger than any model's config", path=str(path)))
    try:
        return _Building(path).built(iter(LOADER(path.read_bytes()).get_event, None))
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
        what = getattr(error, "problem", None) or str(error)
        raise RegspecError(
            Problem(f"is no YAML: {what}", path=f"{path}:{line}:{column}" if mark else str(path))
        ) from None


@dataclass
class _Part:
    """A list or a mapping while it is read, and what an anchor names: how much is in it, with aliases expanded."""

    value: Any
    tag: str | None = None
    anchor: str | None = None
    key: Any = None  # of a mapping, that waits for its value
    has_key: bool = False
    count: int = 1
    depth: int = 0


@dataclass
class _Building:
    path: Path
    open: list[_Part] = field(default_factory=lambda: [_Part([])])  # the first holds the document
    anchors: dict[str, _Part | None] = field(default_factory=dict)  # None for what is still open

    def built(self, events: Iterator[Any]) -> Any:
        """The data of a document."""
        for event in events:
            if isinstance(event, yaml.ScalarEvent):
                self._close(_Part(self._scalar(event), anchor=event.anchor), event)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._check_tag(event)
                self.open.append(
                    _Part({} if isinstance(event, yaml.MappingStartEvent) else [], event.tag, event.anchor)
                )
                if event.anchor is not None:
                    self.anchors[event.anchor] = None
                if len(self.open) > MAX_NESTING:
                    raise self._fault(event, "has a config of values in values without end")
            elif isinstance(event, yaml.CollectionEndEvent):
                part = self.open.pop()
                if part.tag is not None and part.tag.startswith(WRAPPERS):
                    part.value = self._unwrapped(part, event)
                self._close(part, event)
            elif isinstance(event, yaml.AliasEvent):
                named = self.anchors.get(str(event.anchor))
                if named is None:
                    raise self._fault(event, f"has '*{event.anchor}', which names nothing that stands before it")
                self._close(_Part(named.value, count=named.count, depth=named.depth), event)
        documents = self.open[0].value
        if len(documents) != 1:
            raise RegspecError(Problem(f"has {len(documents)} documents, where one is wanted", path=str(self.path)))
        return documents[0]

    def _close(self, part: _Part, event: Any) -> None:
        """Puts a part that is whole into the one around it."""
        if part.anchor is not None:
            self.anchors[part.anchor] = part
        owner = self.open[-1]
        owner.count += part.count
        owner.depth = max(owner.depth, part.depth + 1)
        if owner.count > MAX_VALUES or len(self.open) + owner.depth > MAX_NESTING:
            raise self._fault(event, "has a config of values in values without end")
        if isinstance(owner.value, list):
            owner.value.append(part.value)
        elif owner.has_key:
            owner.value[owner.key], owner.has_key = part.value, False
        elif isinstance(part.value, (dict, list)):
            raise self._fault(event, "has a key that is no text")
        else:
            owner.key, owner.has_key = part.value if isinstance(part.value, str) else str(part.value), True

    def _scalar(self, event: Any) -> Any:
        if event.tag in TEXTS:
            return event.value
        self._check_tag(event)
        if event.tag is not None:
            return event.value
        tag: str = PLAIN.resolve(yaml.ScalarNode, event.value, event.implicit)
        convert = CONVERTED.get(tag)
        if convert is None:
            return event.value
        if len(event.value) > MAX_NUMBER:
            raise self._fault(event, f"has a number of {len(event.value):,} characters")
        return convert(yaml.ScalarNode(tag, event.value))

    def _check_tag(self, event: Any) -> None:
        """Raises for a tag other than those of tuples and texts, and of a wrapper around a list."""
        tag = event.tag
        if tag in (None, "!"):
            return
        is_list = tag == TUPLE or (tag.startswith(WRAPPERS) and tag.endswith(".ListWrapper"))
        if not (is_list and isinstance(event, yaml.SequenceStartEvent)):
            short = tag.replace("tag:yaml.org,2002:", "!!")
            raise self._fault(event, f"has the tag {short[:200]}, of which nothing is made")

    def _unwrapped(self, part: _Part, event: Any) -> Any:
        """The list in a wrapper: its only argument."""
        if len(part.value) != 1 or not isinstance(part.value[0], list):
            raise self._fault(event, "has a ListWrapper of something else than a list")
        return part.value[0]

    def _fault(self, event: Any, what: str) -> RegspecError:
        mark = event.start_mark
        return RegspecError(
            Problem(what, "in Keras: model.to_json()", f"{self.path}:{mark.line + 1}:{mark.column + 1}")
        )
