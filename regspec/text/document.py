"""YAML text to plain data that remembers where each part of it was written.

Scalars follow YAML 1.2's core schema: ``1e-4`` is a float; ``no`` and ``on`` are strings. The key ``<<`` merges the
mappings behind it, as YAML 1.1 has it. What is dangerous or ambiguous in YAML is a problem here: tags, duplicate keys,
deep nesting, and aliases that expand past a bound. Nothing is ever imported or run, and time and memory stay in
proportion to the text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path, PurePath
from typing import Any

import yaml

from regspec.text.problems import Problem, Problems, RegspecError

MAX_BYTES = 16 * 2**20
MAX_DEPTH = 64
MAX_NODES = 1_000_000  # after aliases are expanded
MAX_INTEGER = 2**63 - 1

Given = str | Path | Mapping[str, Any] | Sequence[Any]  # a path, a text of several lines, or plain data
Location = tuple[str | int, ...]  # the keys and indices that lead to a part of a document

# Events come from libyaml where PyYAML was built with it; both parsers are iterative, so depth costs no stack.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+")  # which YAML 1.1 may take for a text
_BRACED = re.compile(r"\$\{\s*(\w+)\s*\}?")  # a parameter as others write it
_CALL_IN_BRACES = re.compile(r"[{\[,:]\s*[A-Za-z_][\w.]*\([^()'\"{}]*,")  # YAML takes its comma for one of its own
IN_BRACES = "in braces a call with a comma stands in quotes"
_FIRST_OF_OTHERS = frozenset(["", *"~nNtTfF+-.0123456789"])  # a plain scalar that begins otherwise is a string


@dataclass(frozen=True, slots=True)
class Part:
    """Characters of a text value: from ``start``, counted from 0, to the one before ``end``."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Document:
    """A parsed text: ``data`` is plain Python; ``problem`` makes a problem that points at a part of it."""

    path: str
    text: str
    data: Any

    def problem(
        self, location: Location, what: str, hint: str | None = None, *, key: bool = False, part: Part | None = None
    ) -> Problem:
        """A problem at ``location``; with ``key``, at the key there and not at its value; with ``part``, in the value.

        Steps that the text does not have are passed over, so that a fault behind a default or a short form is still
        shown at the nearest part that was written.
        """
        node, key_node = self._nodes(location)
        shown = key_node if key and key_node is not None else node
        found = _problem(self.path, self.text, what, hint, shown.start_mark, shown.end_mark)
        if part is None or found.column is None:
            return found
        written = self.text[node.start_mark.index : node.end_mark.index]
        quote = written[:1] if written[:1] in ("'", '"') else ""
        if written != f"{quote}{part.text}{quote}" or "\n" in written:
            return found  # it was written with escapes, or is the value of a parameter
        start = found.column + len(quote) + part.start
        return replace(found, column=start, width=max(1, part.end - part.start))

    def span(self, location: Location) -> tuple[int, int]:
        """Where in the text the value at ``location`` stands: its first character, and the one after its last."""
        node, _ = self._nodes(location)
        last = node
        while isinstance(last, yaml.CollectionNode) and not last.flow_style and last.value:
            item = last.value[-1]  # a block ends with its last item; its own mark is at what follows
            last = item[1] if isinstance(item, tuple) else item
        return node.start_mark.index, last.end_mark.index

    def _nodes(self, location: Location) -> tuple[Any, Any]:
        """The node at ``location``, or the nearest one around it, and the node of the key that leads to it, if any."""
        node, key_node = self._marked, None
        for step in location:
            if isinstance(node, yaml.MappingNode):
                key_node, node = self._pairs(node).get(step, (None, node))
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                key_node, node = None, node.value[step]
            else:
                key_node = None
        return node, key_node

    def _pairs(self, mapping: yaml.MappingNode) -> dict[str | int, tuple[Any, Any]]:
        """A mapping's nodes by key, cached because each problem in a mapping looks them up."""
        if mapping not in self._by_key:
            found: dict[str | int, tuple[Any, Any]] = {}
            for key, value in mapping.value:
                if key.tag == _MERGE_TAG:
                    several = value.value if isinstance(value, yaml.SequenceNode) else [value]
                    for each in reversed(several):  # the first wins
                        found |= self._pairs(each)
            found |= {key.value: (key, value) for key, value in mapping.value}
            self._by_key[mapping] = found
        return self._by_key[mapping]

    @property
    def is_in_braces(self) -> bool:
        """Whether the whole text is a collection in braces or brackets."""
        return bool(self._marked.flow_style)

    @cached_property
    def _by_key(self) -> dict[yaml.MappingNode, dict[str | int, tuple[Any, Any]]]:
        return {}

    @cached_property
    def _marked(self) -> Any:
        """The text parsed again, as YAML's own nodes with their positions.

        Done only when there is a problem to show: keeping a position for every value makes reading five times slower.
        """
        return yaml.compose(self.text, Loader=LOADER)


def read(path: str | Path) -> Document:
    """The document in a file, which must be UTF-8 and at most 16 MiB. Raises `RegspecError`."""
    path = Path(path)
    try:
        if path.is_dir():
            raise RegspecError(Problem("is a folder, not a file", path=str(path)))
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # a ValueError for a zero byte in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise RegspecError(Problem(f"can't be read: {reason}", path=str(path))) from None
    return decoded(raw, str(path))


def decoded(raw: bytes, path: str) -> Document:
    """The document in the bytes of a file; ``path`` is what messages call it. Raises `RegspecError`."""
    if len(raw) > MAX_BYTES:
        raise RegspecError(Problem(f"is larger than {MAX_BYTES // 2**20} MiB", path=path))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        what = f"is not UTF-8: byte 0x{raw[error.start]:02x} in line {line}"
        raise RegspecError(Problem(what, path=path)) from None
    return parse(text, path)


def document_of(given: Given, name: str) -> Document:
    """The document of a user's input: a path, a YAML text (a string of several lines), or plain data.

    PyYAML reads ``1e-4`` as a string; in plain data it means the number. Plain data is written out as text, so that a
    problem can point at a line of it. ``name`` is what messages call plain data, and a text.

    Raises:
        RegspecError: as `read` and `parse` do; and for data that YAML has no form for.
    """
    if isinstance(given, str) and "\n" in given:
        return parse(given, name)
    if isinstance(given, (str, Path)):
        return read(given)
    try:
        text = json.dumps(_with_numbers(given), indent=2, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RegspecError(Problem(f"is no plain data: {error}", path=name)) from None
    return parse(text, name)


def is_exponent(text: str) -> bool:
    """Whether a plain text is a number here, ``1e-4``, that YAML 1.1 has for a text."""
    return _EXPONENT.fullmatch(text) is not None


def _with_numbers(value: Any) -> Any:
    """Plain data that JSON can write: ``"1e-4"`` and numpy's scalars become numbers, paths and classes strings."""
    if isinstance(value, Mapping):
        return {key: _with_numbers(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_numbers(each) for each in value]
    if isinstance(value, str):
        return float(value) if is_exponent(value) else value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, type):
        return value.__name__
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def parse(text: str, path: str = "<text>") -> Document:
    """The document of a YAML text. Raises `RegspecError` with every problem of its form."""
    try:
        return Document(path, text, _Reader(text, path).read())
    except UnicodeEncodeError as error:
        what = f"the character U+{ord(text[error.start]):04X} may not stand in YAML"
        raise RegspecError(Problem(what, path=path, line=text.count("\n", 0, error.start) + 1)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what, hint = f"not valid YAML: {error.problem or error.context}", None
        if mark is not None and text[mark.index : mark.index + 1] == "\t":
            what, hint = "a tab, which may not indent YAML", "indent with spaces"
        elif mark is not None:
            at = _lines(text)[min(mark.line, len(_lines(text)) - 1)]
            braced = _BRACED.search(at)
            hint = f"a parameter is written ${braced[1]}, without braces" if braced else _hint_at_call(at)
        raise RegspecError(_problem(path, text, what, hint, mark, mark)) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n"), error.position - (before.rfind("\n") + 1)
        code = error.character if isinstance(error.character, int) else ord(error.character)
        what = f"the character U+{code:04X} may not stand in YAML"
        mark = yaml.Mark(path, error.position, line, column, None, 0)
        raise RegspecError(_problem(path, text, what, None, mark, mark)) from None


class _Container:
    """A mapping or sequence that is being read, or what an anchor names."""

    __slots__ = ("anchor", "height", "key", "merged", "size", "value")

    def __init__(self, value: Any, anchor: str | None) -> None:
        self.value = value
        self.anchor = anchor
        self.key: Any = _NO_KEY  # a mapping's key that waits for its value
        self.merged: list[dict[str, Any]] | None = None  # what stands behind a mapping's <<
        self.size = 0  # values in it, aliases expanded
        self.height = 1 if isinstance(value, (dict, list)) else 0  # levels in it

    def merge(self) -> None:
        """Puts in what stands behind <<: before the mapping's own keys, which win, and the first of several too."""
        if self.merged:
            own = dict(self.value)
            self.value.clear()
            for each in self.merged:
                for key, value in each.items():
                    self.value.setdefault(key, value)
            self.value.update(own)


_NO_KEY = object()
_MERGE = object()  # the key <<
_MERGE_TAG = "tag:yaml.org,2002:merge"  # which YAML's own nodes have for it


class _Reader:
    """Builds plain data from the parser's events, without recursion."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        self.problems = Problems()
        self.anchors: dict[str, _Container | None] = {}  # None while the anchored part is still open
        self.resolved: dict[str, Any] = {}  # the values of plain scalars, of which many are alike
        self.open: list[_Container] = []
        self.root: Any = None

    def read(self) -> Any:
        """The data of the text; raises `RegspecError` with every problem."""
        documents = 0
        for event in iter(LOADER(self.text).get_event, None):
            kind = type(event)
            if kind is yaml.ScalarEvent:
                self._put(self._scalar(event), event)
            elif kind is yaml.MappingStartEvent:
                self._start({}, event)
            elif kind is yaml.SequenceStartEvent:
                self._start([], event)
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                closed = self.open.pop()
                closed.merge()
                closed.size += len(closed.value)
                if closed.anchor is not None:
                    self.anchors[closed.anchor] = closed
                self._add(closed, event)
            elif kind is yaml.AliasEvent:
                self._alias(event)
            elif kind is yaml.DocumentStartEvent:
                documents += 1
                if documents == 2:
                    raise RegspecError(self._problem(event, "a file holds one document, and here a second begins"))
        if documents == 0:
            raise RegspecError(Problem("the file is empty", "a spec begins with 'regspec: 1'", path=self.path))
        if self.problems:
            raise RegspecError(self.problems)
        return self.root

    def _start(self, value: Any, event: Any) -> None:
        if len(self.open) == MAX_DEPTH:
            raise RegspecError(self._problem(event, f"nested deeper than {MAX_DEPTH} levels"))
        if event.tag is not None:
            self._refuse_tag(event)
        if event.anchor is not None:
            self._anchor(event)
            self.anchors[event.anchor] = None
        self.open.append(_Container(value, event.anchor))

    def _add(self, part: _Container, event: Any) -> None:
        """Puts a finished container, or what an alias stands for, into the container around it."""
        size = part.size
        if self.open:
            parent = self.open[-1]
            parent.size = size = parent.size + size
            if parent.height <= part.height:
                parent.height = part.height + 1
        if size > MAX_NODES:
            raise RegspecError(self._problem(event, f"more than {MAX_NODES:,} values, with aliases expanded"))
        if len(self.open) + part.height > MAX_DEPTH:
            raise RegspecError(self._problem(event, f"nested deeper than {MAX_DEPTH} levels"))
        self._put(part.value, event)

    def _put(self, value: Any, event: Any) -> None:
        """Puts a finished value into the container around it."""
        if not self.open:
            self.root = value
            return
        parent = self.open[-1]
        if type(parent.value) is list:
            parent.value.append(value)
        elif parent.key is _NO_KEY:
            parent.key = value
            if value is _MERGE:
                if parent.merged is not None:
                    self.problems.append(self._problem(event, "'<<' is given twice", "give it a list: '<<: [*a, *b]'"))
            elif type(value) is not str:
                hint = None if isinstance(value, (dict, list)) else "write it in quotes"
                hint = _hint_at_call(_lines(self.text)[event.start_mark.line]) or hint
                self.problems.append(self._problem(event, "a key must be a text", hint))
            elif value in parent.value:
                self.problems.append(self._problem(event, f"'{value}' is given twice"))
        else:
            if parent.key is _MERGE:
                parent.merged = self._mappings(value, event)
            elif type(parent.key) is str:
                parent.value[parent.key] = value
            parent.key = _NO_KEY

    def _mappings(self, value: Any, event: Any) -> list[dict[str, Any]]:
        """What stands behind <<: a mapping, or a list of them."""
        several = value if isinstance(value, list) else [value]
        if all(isinstance(each, dict) for each in several):
            return several
        self.problems.append(self._problem(event, "'<<' takes a mapping, or a list of mappings", "such as '<<: *name'"))
        return []

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.tag is not None:
            self._refuse_tag(event)
        is_plain = event.implicit[0]
        if is_plain and text == "<<" and event.anchor is None and self._awaits_key:
            return _MERGE
        value = self._value(text, event) if is_plain and text[:1] in _FIRST_OF_OTHERS else text
        if event.anchor is not None:
            self._anchor(event)
            self.anchors[event.anchor] = _Container(value, None)
        return value

    @property
    def _awaits_key(self) -> bool:
        """Whether what comes next is the key of a mapping."""
        return bool(self.open) and type(self.open[-1].value) is dict and self.open[-1].key is _NO_KEY

    def _anchor(self, event: Any) -> None:
        if event.anchor in self.anchors:
            raise RegspecError(self._problem(event, f"the anchor '&{event.anchor}' is given twice"))

    def _value(self, text: str, event: Any) -> Any:
        """The value of a plain scalar; one that stands at several places is resolved once, unless it is a fault."""
        if text not in self.resolved:
            before, value = len(self.problems), self._resolve(text, event)
            if len(self.problems) > before:
                return value
            self.resolved[text] = value
        return self.resolved[text]

    def _resolve(self, text: str, event: Any) -> Any:
        """The value of a plain scalar by YAML 1.2's core schema."""
        if _FLOAT.fullmatch(text):
            if text.lstrip("+-").isdigit():
                return self._integer(text, 10, event)
            value = float(text)
            if not math.isfinite(value):
                self.problems.append(self._problem(event, "the number is too large: it must be finite"))
            return value
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text[0] in "tT"
        if _BASED.fullmatch(text):
            return self._integer(text, 8 if text[1] == "o" else 16, event)
        if _NOT_FINITE.fullmatch(text):
            self.problems.append(self._problem(event, f"numbers must be finite, but this is {text}"))
        return text

    def _integer(self, text: str, base: int, event: Any) -> int:
        number = int(text, base) if len(text) <= 40 else MAX_INTEGER + 1
        if abs(number) > MAX_INTEGER:
            self.problems.append(self._problem(event, "the number is too large: whole numbers go up to 2**63 - 1"))
        return number

    def _alias(self, event: Any) -> None:
        name = event.anchor
        target = self.anchors.get(name)
        if target is not None:
            self._add(target, event)
            return
        is_open = name in self.anchors
        what = f"'*{name}' stands inside what it names" if is_open else f"no anchor '&{name}' stands before this alias"
        self.problems.append(self._problem(event, what))
        self._put(None, event)

    def _refuse_tag(self, event: Any) -> None:
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        self.problems.append(self._problem(event, f"tags such as {tag} have no meaning in a spec", "take the tag out"))

    def _problem(self, event: Any, what: str, hint: str | None = None) -> Problem:
        return _problem(self.path, self.text, what, hint, event.start_mark, event.end_mark)


def _hint_at_call(line: str) -> str | None:
    """The hint at a call whose commas YAML has taken for its own, if the line has one."""
    return IN_BRACES if _CALL_IN_BRACES.search(line) else None


def _problem(path: str, text: str, what: str, hint: str | None, start: Any, end: Any) -> Problem:
    """A problem between two of YAML's marks, which count from 0."""
    lines = _lines(text)
    shown = lines[start.line] if start.line < len(lines) else ""
    width = end.column - start.column if end.line == start.line else len(shown.rstrip()) - start.column
    return Problem(what, hint, path, start.line + 1, start.column + 1, max(1, width), shown)


@lru_cache(maxsize=1)  # a text may have thousands of problems
def _lines(text: str) -> list[str]:
    return text.splitlines()
