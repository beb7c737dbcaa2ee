"""Python code as documents, and their layout in lines of at most 120 characters, as ruff formats them.

A document is a text that stays on its line, a blank that is filled in later, or documents put together: beside each
other, in brackets, as operands, as a chain of method calls. So where a line may break is known from how it was made,
and no text is searched. The idea is Wadler's, A prettier printer (2003); the choices at a break are those of ruff.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

WIDTH = 120
INDENT = "    "
CLOSED = ("index", "slice")  # the roles of brackets that stay closed
SHORT = WIDTH // 4  # brackets that are shorter are left closed where others can be opened

Doc: TypeAlias = "str | Blank | Absent | Beside | Brackets | Infix | Dotted"


@dataclass(frozen=True, slots=True)
class Blank:
    """A document that is not known yet: `filled` puts it in."""

    key: Hashable


@dataclass(frozen=True, slots=True)
class Absent:
    """A document that is left out of the brackets in which it stands."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Documents that follow each other without a space."""

    parts: tuple[Doc, ...]


@dataclass(frozen=True, slots=True)
class Brackets:
    """Documents in brackets, with commas between them."""

    opening: str
    items: tuple[Doc, ...]
    closing: str
    role: str = "display"  # or call, whose items may share a line; index and slice, which stay closed; loop

    @property
    def has_commas(self) -> bool:
        """Whether a comma stands in them, as after the only item of a tuple."""
        return (len(self.items) > 1 or self.closing == ",)") and self.role != "loop"

    def joined(self, items: Sequence[str]) -> str:
        """The text on one line, of the items' texts."""
        if self.role == "slice":  # ruff has spaces around a colon between expressions
            between = ":" if all(item.isalnum() for item in items) else " : "
        else:
            between = " " if self.role == "loop" else ", "
        return f"{self.opening}{between.join(items)}{self.closing}"


@dataclass(frozen=True, slots=True)
class Infix:
    """Operands; all but the first begin with their operator, and all operators bind alike."""

    parts: tuple[Doc, ...]


@dataclass(frozen=True, slots=True)
class Dotted:
    """What methods are called on, and then the calls, ``.name(…)``."""

    parts: tuple[Doc, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement: what stands before its value (``x = ``, ``return ``), the value, and what ends it."""

    value: Doc
    target: str = ""
    end: str = ""
    indent: int = 0  # levels, from the method's own

    def filled(self, documents: Mapping[Hashable, Doc]) -> Statement:
        """The statement with documents in its blanks, by their keys."""
        return replace(self, value=filled(self.value, documents))

    def lines(self, indent: int) -> Iterator[str]:
        """The statement in lines that fit, indented by ``indent`` levels and its own."""
        return _lines(self.target, self.value, indent + self.indent, self.end)


def beside(*parts: Doc) -> Beside:
    """Documents that follow each other."""
    return Beside(parts)


def called(function: Doc, arguments: Sequence[Doc]) -> Beside:
    """``function(arguments)``."""
    return Beside((function, Brackets("(", tuple(arguments), ")", "call")))


def loop_over(modules: Sequence[str]) -> Statement:
    """The head of a loop over modules, which are ``layer`` in it."""
    return Statement(Brackets("(", tuple(modules), ")"), "for layer in ", ":")


def filled(document: Doc, documents: Mapping[Hashable, Doc]) -> Doc:
    """A document with others in its blanks, by their keys; a blank whose key is not among them stays."""
    if isinstance(document, (str, Absent)):
        return document
    if isinstance(document, Blank):
        return documents.get(document.key, document)
    if isinstance(document, Brackets):
        items = [filled(item, documents) for item in document.items]
        return replace(document, items=tuple([item for item in items if not isinstance(item, Absent)]))
    return replace(document, parts=tuple([filled(part, documents) for part in document.parts]))


def flat(document: Doc) -> str:
    """The text of a document on one line."""
    if isinstance(document, str):
        return document
    if isinstance(document, Brackets):
        return document.joined([item if isinstance(item, str) else flat(item) for item in document.items])
    if isinstance(document, (Blank, Absent)):
        raise ValueError(f"no text: {document}")
    parts = [part if isinstance(part, str) else flat(part) for part in document.parts]
    return (" " if isinstance(document, Infix) else "").join(parts)


def _lines(head: str, document: Doc, indent: int, end: str) -> Iterator[str]:
    """The lines of a document after ``head``; ``end`` follows it on its last line."""
    margin = INDENT * indent
    text = head + flat(document)
    if len(margin) + len(text) + len(end) <= WIDTH:
        yield margin + text + end
        return
    if parts := _parts(document):
        yield from _one_below_the_other(head, parts, indent, end)
        return
    pieces = [*_pieces(document)]
    index = _opened(pieces)
    if index is None:
        yield margin + text + end
        return
    brackets = pieces[index]
    assert isinstance(brackets, Brackets)
    yield margin + head + "".join(map(flat, pieces[:index])) + brackets.opening
    yield from _inside(brackets, indent + 1)
    yield margin + brackets.closing.removeprefix(",") + "".join(map(flat, pieces[index + 1 :])) + end


def _one_below_the_other(head: str, parts: Sequence[Doc], indent: int, end: str) -> Iterator[str]:
    """Operands, or calls of methods; in parentheses where they are assigned or returned."""
    margin = INDENT * indent
    if head:
        yield f"{margin}{head}("
        for part in parts:
            yield from _lines("", part, indent + 1, "")
        yield f"{margin}){end}"
        return
    *first, last = [margin + flat(part) for part in parts]
    yield from first
    yield last + end


def _inside(brackets: Brackets, indent: int) -> Iterator[str]:
    """The lines between brackets: one if a call's arguments fit on it, else one or more for each item."""
    if brackets.role == "call":
        body = ", ".join(map(flat, brackets.items))
        if len(INDENT) * indent + len(body) <= WIDTH:
            yield INDENT * indent + body
            return
    comma = "," if brackets.has_commas or (brackets.opening != "(" and brackets.role != "loop") else ""
    for item in brackets.items:
        if isinstance(item, str):  # the names of a thousand layers
            yield f"{INDENT * indent}{item}{comma}"
        else:
            yield from _lines("", item, indent, comma)


def _opened(pieces: Sequence[Doc]) -> int | None:
    """The index of the brackets that are opened: the last ones longer than `SHORT`, or else the last ones."""
    found = [index for index, piece in enumerate(pieces) if isinstance(piece, Brackets) and piece.role not in CLOSED]
    long = [index for index in found if len(flat(pieces[index])) > SHORT + 1]
    return max(long or found, default=None)


def _parts(document: Doc) -> tuple[Doc, ...]:
    """The parts that get lines of their own where a document is too long: operands, or a chain of three or more."""
    if isinstance(document, Infix) or (isinstance(document, Dotted) and len(document.parts) > 2):
        return document.parts
    return ()


def _pieces(document: Doc) -> Iterator[Doc]:
    """The documents that make up a document, side by side."""
    if isinstance(document, (Beside, Dotted)):
        for part in document.parts:
            yield from _pieces(part)
    else:
        yield document
