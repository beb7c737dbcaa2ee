"""Python code as data: constructor calls, and the expressions that a layer becomes.

`lower` of a layer returns an expression over its input tensors; `printing.py` prints it. Nothing here holds text that
is printed as it stands: names come from the tables of this package or are checked identifiers, everything else is a
literal that is printed with `repr`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, TypeAlias

Literal: TypeAlias = "bool | int | float | str | tuple[Value, ...] | list[Value] | dict[str, Value] | None"
Value: TypeAlias = "Literal | Expression | Import"


# The methods of tensors, and of modules, that convert to a floating-point type.
CASTS = {"float16": "half", "bfloat16": "bfloat16", "float32": "float", "float64": "double"}


class Expression:
    """A piece of Python code with a value."""

    __slots__ = ()
    is_atom: ClassVar[bool] = False  # whether nothing in it is replaced

    def parts(self) -> Iterator[Value]:
        """The values that this one is made of."""
        return iter(())

    def method(self, name: str, *arguments: Value, **keywords: Value) -> Method:
        """``self.name(…)``; keywords whose value is `OMIT` are left out."""
        return Method(self, name, arguments, _given(keywords))

    def __getitem__(self, index: Any) -> Index:
        return Index(self, index if isinstance(index, tuple) else (index,))

    def __add__(self, other: Value) -> Binary:
        return Binary("+", self, other)

    def __sub__(self, other: Value) -> Binary:
        return Binary("-", self, other)

    def __mul__(self, other: Value) -> Binary:
        return Binary("*", self, other)

    def __truediv__(self, other: Value) -> Binary:
        return Binary("/", self, other)

    def __neg__(self) -> Unary:
        return Unary("-", self)

    def __invert__(self) -> Unary:
        return Unary("~", self)


@dataclass(frozen=True, slots=True)
class Import:
    """A name to import, ``from module import name``; as a value, what it names."""

    module: str
    name: str


@dataclass(frozen=True, slots=True, eq=True)
class Call(Expression):
    """``function(*arguments, **keywords)``; the function is a name of the printed file, such as ``nn.Linear``."""

    function: str | Import
    arguments: tuple[Value, ...] = ()
    keywords: tuple[tuple[str, Value], ...] = ()
    all_keywords: tuple[tuple[str, Any], ...] = field(default=(), compare=False, repr=False)  # omitted ones too

    def parts(self) -> Iterator[Value]:
        yield from self.arguments
        for _, value in self.keywords:
            yield value


def call(function: str | Import, *arguments: Value, **keywords: Value) -> Call:
    """A call; keywords whose value is `OMIT` are left out."""
    return Call(function, arguments, tuple(_given(keywords).items()), tuple(keywords.items()))


def _given(keywords: dict[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in keywords.items() if not isinstance(value, Omitted)}


@dataclass(frozen=True, slots=True)
class Omitted:
    """Marks a keyword that is not written, because it equals the callee's default."""

    default: Literal = None


OMIT: Any = Omitted()


def unless(default: Literal, value: Literal) -> Any:
    """``value``, or `Omitted` where it equals the callee's default."""
    return Omitted(default) if value == default and type(value) is type(default) else value


class Definition:
    """What becomes a class of its own in the printed file: a block."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Module:
    """A submodule of the compiled class: ``self.<layer>_<suffix> = constructor``; called, it gives an expression."""

    constructor: Call | Definition
    suffix: str = ""

    def __call__(self, *arguments: Value, **keywords: Value) -> Apply:
        return Apply(self, arguments, _given(keywords))


@dataclass(frozen=True, slots=True, eq=False)
class Apply(Expression):
    """``self.module(*arguments, **keywords)``."""

    module: Module
    arguments: tuple[Value, ...]
    keywords: dict[str, Value]

    def parts(self) -> Iterator[Value]:
        yield from self.arguments
        yield from self.keywords.values()


@dataclass(frozen=True, slots=True, eq=False)
class Held(Apply):
    """``self.module``: a tensor that the compiled class has as an attribute: a buffer."""


@dataclass(frozen=True, slots=True)
class Listed(Expression):
    """``[item, …]``; unlike a list, it can be compared and hashed with the call that it is an argument of."""

    items: tuple[Value, ...]

    def parts(self) -> Iterator[Value]:
        yield from self.items


@dataclass(frozen=True, slots=True, eq=False)
class Method(Expression):
    """``of.name(*arguments, **keywords)``."""

    of: Value
    name: str
    arguments: tuple[Value, ...]
    keywords: dict[str, Value]

    def parts(self) -> Iterator[Value]:
        yield self.of
        yield from self.arguments
        yield from self.keywords.values()


@dataclass(frozen=True, slots=True, eq=False)
class Unary(Expression):
    """``-operand`` or ``~operand``."""

    operator: str
    operand: Value

    def parts(self) -> Iterator[Value]:
        yield self.operand


@dataclass(frozen=True, slots=True, eq=False)
class Binary(Expression):
    """``left operator right``; the operators are those of `printing.py`: of numbers, of bits, and comparisons."""

    operator: str
    left: Value
    right: Value

    def parts(self) -> Iterator[Value]:
        yield self.left
        yield self.right


@dataclass(frozen=True, slots=True, eq=False)
class Index(Expression):
    """``of[index]``; in the index a `slice` stands for ``start:stop:step`` and ``...`` for itself."""

    of: Value
    index: tuple[Any, ...]

    def parts(self) -> Iterator[Value]:
        yield self.of
        yield from (each for each in self.index if isinstance(each, Expression))


@dataclass(frozen=True, slots=True, eq=False)
class Part(Expression):
    """One of several results of ``whole``: the path to it through nested tuples of the given structure.

    The structure is what the call returns: ``("sequence", ("h", "c"))`` for ``nn.LSTM``.
    """

    whole: Expression
    structure: tuple[Any, ...]
    path: tuple[int, ...]

    @property
    def name(self) -> str:
        """What the structure calls it."""
        name: Any = self.structure
        for index in self.path:
            name = name[index]
        return str(name)

    def parts(self) -> Iterator[Value]:
        yield self.whole


@dataclass(frozen=True, slots=True, eq=False)
class Local(Expression):
    """The variable of a loop in an expression, which is seen only there; whoever makes it chooses the name."""

    name: str


SELF = Local("self")  # the model, or the block, in whose constructor an expression stands


@dataclass(frozen=True, slots=True)
class WeightPath(Expression):
    """The path of a weight from `SELF`, as a text. It has the name that a spec says: ``decoder.kernel``."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Each(Expression):
    """``[body for variable in over]``; of several variables, each is taken from its own, side by side."""

    body: Expression
    variables: tuple[Local, ...]
    over: tuple[Value, ...]

    def parts(self) -> Iterator[Value]:
        yield from self.over
        yield self.body


class Itself:
    """A value as a dict key that is compared by identity: for values that equal others, or are slow to compare."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Itself) and self.value is other.value


def walk(value: Value) -> Iterator[Expression]:
    """Every expression in ``value``, the innermost first: the order in which Python evaluates them."""
    if isinstance(value, Expression):
        for part in value.parts():
            yield from walk(part)
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from walk(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from walk(part)


def replaced(value: Any, by: Mapping[Expression, Value]) -> Any:
    """``value`` with expressions replaced, wherever they stand in it; where none does, the same value."""
    if isinstance(value, (tuple, list)):
        items = [replaced(each, by) for each in value]
        return type(value)(items) if any(map(operator.is_not, items, value)) else value
    if isinstance(value, dict):
        named = {name: replaced(each, by) for name, each in value.items()}
        return named if any(named[name] is not each for name, each in value.items()) else value
    if not isinstance(value, Expression):
        return value
    if not isinstance(value, Call) and value in by:  # a call compares its arguments, which may be lists
        return by[value]
    if value.is_atom:
        return value
    own: Any = type(value)
    parts = [getattr(value, name) for name in _field_names(own)]
    changed = replaced(parts, by)
    return value if changed is parts else own(*changed)


@cache
def _field_names(cls: Any) -> tuple[str, ...]:
    return tuple(each.name for each in fields(cls))
