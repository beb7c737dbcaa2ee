"""The parameters of a block's class: the numbers in which the blocks differ that are one class.

The values of a number at one place, one of each block, are a column. A column of equal values is a literal. Any other
is a parameter of the constructor: called as the block's own parameter in the spec where that has the same values,
``dilation``; or made of others, ``dilation * 2``; or else called as torch calls the argument, ``in_channels``.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

from regspec.graph.network import Graph
from regspec.language.fields import RESERVED
from regspec.targets.python.layout import Absent, Doc, beside, flat
from regspec.targets.python.printing import Number, literal

Column: TypeAlias = "tuple[Exact | None, ...]"

MANY = 3  # different values that can't be multiples of others by chance
_TAKEN = frozenset(("self", "super", "range", "int", "layer", "_"))


class Made(NamedTuple):
    """How a column is made of others: a form with a place for each."""

    form: str
    of: tuple[Column, ...]
    is_product: bool = True  # whether another formula in its place needs no brackets
    is_kept: bool = False  # whether methods read it as an attribute


class Exact(NamedTuple):
    """A number, or a tuple of numbers, with its type: 2 is not 2.0, which makes another tensor of whole numbers."""

    value: Any
    types: str

    @classmethod
    def of(cls, value: Any) -> Exact | None:
        """What a value is; None for what is no number."""
        if isinstance(value, (list, tuple)):
            parts = [cls.of(each) for each in value]
            known = [each for each in parts if each is not None]
            types = f"({', '.join(each.types for each in known)})"
            return cls(tuple(each.value for each in known), types) if len(known) == len(parts) else None
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return cls(value, type(value).__name__) if is_number else None


@dataclass(frozen=True, slots=True)
class Hole:
    """A number of a class that is left open, and whether it stands in a method, which has parameters as attributes."""

    number: Number
    is_in_method: bool


@dataclass
class Parameters:
    """The parameters of a class, by the columns that they fill.

    Args:
        holes: those of each block of the class.
        graphs: those blocks, with the values of their own parameters, and what their spec computes from these.
        taken: the names of the class's modules.
        reserved: the names of the file's functions and classes, which no parameter may hide.
    """

    holes: Sequence[Sequence[Hole]]
    graphs: Sequence[Graph]
    taken: Collection[str]
    reserved: Collection[str]
    names: dict[Column, str] = field(default_factory=dict, init=False)  # of the constructor's parameters
    attributes: dict[str, str] = field(default_factory=dict, init=False)  # of what methods read, by its text
    derived: dict[Column, Made] = field(default_factory=dict, init=False)
    columns: list[Column] = field(default_factory=list, init=False)  # for each hole, its values in all blocks
    local: dict[Column, str] = field(default_factory=dict, init=False)  # the names of what is computed at first

    def __post_init__(self) -> None:
        self.own_names = self._own_columns()
        self.computed = self._computed()
        self.columns = [*self._settled()]
        placed = [*zip(self.holes[0], self.columns, strict=True)]
        self.kernels = {column for hole, column in placed if hole.number.name == "kernel_size"}
        self.strides = {column for hole, column in placed if hole.number.name == "stride"}
        self.is_single = len({column for _, column in placed if len({*column}) > 1}) == 1
        for hole, column in placed:
            self._cover(column, hole.number.name)
        for hole, column in placed:
            for text, name in self._read(column) if hole.is_in_method else ():
                self.attributes[text] = self.attributes.get(text) or self._attribute(name)

    def _settled(self) -> Iterator[Column]:
        """For each hole, its values in all blocks; those that are left open are as if they were as another's."""
        found = [tuple(Exact.of(hole.number.value) for hole in holes) for holes in zip(*self.holes, strict=True)]
        known = [*self.own_names, *(column for column in found if None not in column)]
        for column in found:
            if None in column:
                like = (other for other in known if all(a in (None, b) for a, b in zip(column, other, strict=True)))
                first = next((each for each in column if each is not None), Exact(1, "int"))
                column = next(like, tuple(first if each is None else each for each in column))
            yield column

    @property
    def invented(self) -> int:
        """How many parameters are none of the block's own."""
        return len(self.names.keys() - self.own_names.keys())

    def arguments(self, index: int) -> list[Number]:
        """The arguments with which a block is made."""
        return [Number(_value(column[index]), name) for column, name in self.names.items()]

    def documents(self) -> Iterator[Doc]:
        """What stands in each hole."""
        for holes, column in zip(zip(*self.holes, strict=True), self.columns, strict=True):
            first: Number = holes[0].number
            if first.keyword is not None and all(hole.number.is_omitted for hole in holes):
                yield Absent()
                continue
            is_one = len({*column}) == 1
            text = None if is_one else self.text(column, is_in_method=holes[0].is_in_method)
            found = replace(first, value=_value(column[0])).text(text)
            yield found if first.keyword is None else beside(f"{first.keyword}=", found)

    def text(self, column: Column, *, is_in_method: bool = False) -> str:
        """The expression for a column, over parameters; in a method over the attributes that hold them."""
        if len({*column}) == 1:
            return str(literal(_value(column[0])))
        if column in self.names:
            name = self.names[column]
            return f"self.{self.attributes[name]}" if is_in_method else name
        if column in self.local and not is_in_method:
            return self.local[column]
        if column in self.derived:
            formula = self._formula(column)
            if is_in_method and formula in self.attributes:
                return f"self.{self.attributes[formula]}"
            return self._formula(column, is_in_method=is_in_method)
        parts = [self.text(each, is_in_method=is_in_method) for each in _elements(column)]
        return f"({', '.join(parts)}{',' * (len(parts) == 1)})"

    def _formula(self, column: Column, *, is_in_method: bool = False) -> str:
        made = self.derived[column]
        texts = []
        for each in made.of:
            text = self.text(each, is_in_method=is_in_method)
            are_products = made.is_product and (each not in self.derived or self.derived[each].is_product)
            texts.append(text if are_products or _is_name(text) else f"({text})")
        return made.form.format(*texts)

    def locals(self) -> Iterator[tuple[str, str]]:
        """The variables of the constructor, each with what it is computed from, in an order that runs."""
        yield from ((name, self._formula(column)) for column, name in self.local.items())

    def _attribute(self, name: str) -> str:
        """The attribute that holds a parameter for the methods: its name, unless something else has that."""
        while name in self.taken or name in RESERVED or name in self.attributes.values():
            name += "_"
        return name

    def _own_columns(self) -> dict[Column, str]:
        """The columns of the block's own parameters that are numbers, and differ."""
        found: dict[Column, str] = {}
        for name in self.graphs[0].arguments:
            column = tuple(Exact.of(graph.arguments.get(name)) for graph in self.graphs)
            if len({*column}) > 1 and None not in column:
                found.setdefault(column, name)
        return found

    def _computed(self) -> dict[Column, Made]:
        """The columns that the spec computes from other parameters, and how."""
        found: dict[Column, Made] = {}
        for formula in self.graphs[0].formulas:
            column = tuple(Exact.of(graph.formulas.get(formula)) for graph in self.graphs)
            of = tuple(
                tuple(Exact.of(graph.arguments.get(name)) for graph in self.graphs) for name in formula.parameters
            )
            is_known = all(each in self.own_names or len({*each}) == 1 for each in of)
            if is_known and column not in of and None not in (*column, *of) and len({*column}) > 1:
                found.setdefault(column, Made(formula.form, of, formula.is_product))
        return found

    def _cover(self, column: Column, hint: str) -> None:
        """Makes a parameter, or an expression over parameters, for a column that is not constant."""
        if len({*column}) == 1 or column in self.names or column in self.derived:
            return
        if column in self.computed:
            self.derived[column] = self.computed[column]
            for each in self.computed[column].of:
                self._cover(each, hint)
            if column in self.own_names and self.columns.count(column) > 1:
                self.local[column] = self._free(self.own_names[column])
        elif column in self.own_names:
            self.names[column] = self._free(self.own_names[column])
        elif made := self._made(column, hint) or (self._chosen(column) if hint == "padding" else None):
            for each in made.of:
                self._cover(each, hint)
            self.derived[column] = made
        elif (elements := _elements(column)) and all(map(self._is_known, elements)):
            for each in elements:
                self._cover(each, hint)
        else:
            own = re.sub("^(in|out)_", "", hint) if self.is_single else hint
            self.names[column] = self._free(own)

    def _is_known(self, column: Column) -> bool:
        return (
            len({*column}) == 1
            or column in self.own_names
            or column in self.computed
            or column in self.names
            or bool(self._made(column, "padding"))
        )

    def _chosen(self, column: Column) -> Made | None:
        """A padding that is one thing for one stride, and another for the other."""
        for other in self.strides & self.own_names.keys():
            pairs = [*dict.fromkeys(zip(other, column, strict=True))]
            if len(pairs) == len({*other}) == len({*column}) == 2:
                (stride, one), (_, two) = sorted(pairs, key=lambda pair: str(_value(pair[0])))
                first, second, which = (flat(literal(_value(each))) for each in (one, two, stride))
                return Made(f"{first} if {{}} == {which} else {second}", (other,), False, True)
        return None

    def _made(self, column: Column, hint: str) -> Made | None:
        """How a column is made of another: its negative, a multiple of it, a part of it; one less, of copies."""
        for other in (*self.own_names, *self.names):
            pairs = [(_value(one), _value(two)) for one, two in zip(column, other, strict=True)]
            if not all(isinstance(each, (int, float)) for pair in pairs for each in pair):
                continue
            if all(a == -b for a, b in pairs):
                return Made("-{}", (other,))
            if hint == "repeat" and all(a == b - 1 for a, b in pairs):
                return Made("{} - 1", (other,))
            name = self.own_names.get(other) or self.names.get(other)
            if hint == "padding" and other in self.kernels and all(b % 2 == 1 and a == b // 2 for a, b in pairs):
                return Made("{} // 2", (other,))
            is_certain = hint in (name, "rows") or (hint == "padding" and len({*column}) >= MANY)
            if is_certain and (factor := _factor(pairs)) is not None:
                return Made(f"{{}} * {factor}", (other,))
            if is_certain and (factor := _factor([(b, a) for a, b in pairs])) is not None:
                return Made(f"{{}} // {factor}", (other,))
        return None

    def _read(self, column: Column) -> Iterator[tuple[str, str]]:
        """What an expression for a column reads: parameters, or what is chosen by one; and what to call it."""
        if len({*column}) == 1:
            return
        if column in self.names:
            yield self.names[column], self.names[column]
        elif column in self.derived and self.derived[column].is_kept:
            yield self._formula(column), "padding"
        elif column in self.derived:
            for each in self.derived[column].of:
                yield from self._read(each)
        else:
            for each in _elements(column):
                yield from self._read(each)

    def _free(self, hint: str) -> str:
        """A parameter's name that no other has."""
        is_taken = keyword.iskeyword(hint) or hint in _TAKEN or hint in self.reserved
        stem = f"{hint}_" if is_taken else hint
        name, number = stem, 1
        while name in (*self.names.values(), *self.local.values()):
            number += 1
            name = f"{stem}{number}"
        return name


def _is_name(text: str) -> bool:
    """Whether a text is a name or a number, which needs no brackets."""
    return text.replace(".", "").isidentifier() or text.isdecimal()


def _value(exact: Exact | None) -> Any:
    return None if exact is None else exact.value


def _elements(column: Column) -> list[Column]:
    """The columns of the elements of a column of tuples of one length; none of others."""
    tuples = [each.value for each in column if each is not None and isinstance(each.value, tuple)]
    if len(tuples) != len(column) or len({*map(len, tuples)}) != 1:
        return []
    return [tuple(map(Exact.of, elements)) for elements in zip(*tuples, strict=True)]


def _factor(pairs: Sequence[tuple[Any, Any]]) -> int | None:
    """The whole number, 2 or more, by which the first of each pair of whole numbers is the second one times it."""
    if not all(type(each) is int for pair in pairs for each in pair):
        return None
    factors = {a // b if b and a % b == 0 else 0 for a, b in pairs}
    factor: int = factors.pop()
    return factor if not factors and factor > 1 else None
