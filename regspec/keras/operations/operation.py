"""An operation of a file as data, and what becomes of it: a kind applied to tensors, or to results of others.

Most operations are the kind of their name, with their arguments as its fields; `RULES` has the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, get_args

from regspec.keras.configs.defaults import is_default
from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.values import UnportedError
from regspec.language.fields import as_written
from regspec.layers.kinds import KINDS
from regspec.layers.operations.operands import MAX_NUMBERS

KerasTensor: TypeAlias = "tuple[str, int, int]"  # a tensor of the file: its layer, the layer's node, the output
Operand: TypeAlias = "KerasTensor | Applied"  # what an operation takes, and what becomes of one


@dataclass(frozen=True)
class Applied:
    """A kind applied to operands: a layer of the spec, which follows the layers of its operands."""

    kind: str
    fields: dict[str, Any]
    inputs: tuple[Operand, ...]
    weights: dict[str, list[Any]] = field(default_factory=dict)  # numbers of the file that are its weights
    notes: tuple[str, ...] = ()  # on what the operation was


@dataclass(frozen=True)
class Operation:
    """An operation of a file: its class, and its arguments by Keras's names, those that may be tensors first."""

    name: str
    arguments: dict[str, Any]
    dialect: Dialect = field(default_factory=Dialect)
    shapes: Mapping[KerasTensor, Any] = field(default_factory=dict)  # of tensors, where the file tells

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)

    def on(self, *inputs: Any) -> tuple[Operand, ...]:
        """These arguments, which must be tensors."""
        for each in inputs:
            if not isinstance(each, (tuple, Applied)):
                raise UnportedError(f"{self.name} of {str(each)[:80]}, where a tensor is wanted")
        return inputs

    def rank(self, tensor: Any) -> int | None:
        """The number of axes of a tensor, where the file tells."""
        shape = self.shapes.get(tensor) if isinstance(tensor, tuple) else None
        return len(shape) if isinstance(shape, (list, tuple)) else None

    def axis(self, default: Any = None) -> Any:
        """The axis that is given; refused where it is None or the batch, because that would mix examples."""
        axis = self.arguments.get("axis", default)
        if axis is None or axis == 0 or (isinstance(axis, list) and 0 in axis):
            raise mixing(self.name, "no axis" if axis is None else f"axis {axis}")
        return axis


def mixing(name: str, how: str) -> UnportedError:
    """The error that an operation computes across the batch."""
    return UnportedError(f"{name} with {how} mixes the examples of a batch, and a layer works on each by itself")


Rule: TypeAlias = Callable[[Operation], Operand]

IGNORED = frozenset(("name", "assume_unique", "flash_attention", "sparse", "ragged", "synchronized"))
RENAMED = {
    "TrueDivide": "Divide",
    **dict.fromkeys(("Abs", "Fabs"), "Absolute"),
    "Amax": "Max",
    "Amin": "Min",
    "BitwiseNot": "BitwiseInvert",
    "LeftShift": "BitwiseLeftShift",
    "RightShift": "BitwiseRightShift",
}
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Adds a rule for classes; a decorator."""

    def add(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return add


def operand_of(operation: Operation) -> Operand:
    """What becomes of an operation. Raises `UnportedError`."""
    if operation.name in RULES:
        return RULES[operation.name](operation)
    return plain(operation)


def plain(operation: Operation, kind: str | None = None, **fields: Any) -> Applied:
    """The kind of the operation's name, or another, with the arguments as inputs and fields, and further fields."""
    kind = kind or RENAMED.get(operation.name, operation.name)
    cls = KINDS.get(kind)
    if cls is None:
        raise UnportedError(f"no kind ports the operation {operation.name}")
    known = {each.alias or name: name for name, each in cls.model_fields.items()}
    inputs: list[Operand] = []
    said: dict[str, Any] = {}
    for name, value in {**operation.arguments, **numbers(operation), **fields}.items():
        if tensors := [*tensors_in(value)]:
            if isinstance(value, list) and len(tensors) < len(value):
                raise UnportedError(f"{operation.name} of tensors and numbers in one list")
            inputs += tensors
        elif value is None or name in IGNORED:
            own = cls.model_fields[known[name]] if name in known else None
            if own is not None and own.default is not None and type(None) in get_args(own.annotation):
                said[name] = None  # which means something of its own
        elif name not in known:
            raise UnportedError(f"{operation.name} with {name} = {str(value)[:80]}")
        elif not is_default(cls, known[name], value):
            said[name] = as_written(cls.model_fields[known[name]], value)
    if "axis" in known and "axis" not in said and cls.model_fields[known["axis"]].is_required():
        raise mixing(operation.name, "no axis")
    return Applied(kind, said, tuple(inputs))


def tensors_in(value: Any) -> Iterator[Operand]:
    """The tensors in an argument."""
    if isinstance(value, (tuple, Applied)):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from tensors_in(each)


@dataclass(frozen=True)
class Stored:
    """An array that is too large to be written in a spec, and goes to its weights."""

    numbers: list[Any]


MAX_WRITTEN = 64  # numbers of an array that are written in the spec
ARRAYS = ("x1", "x2")  # arguments that may be stored


def numbers(operation: Operation, arrays: Collection[str] = ARRAYS) -> dict[str, Any]:
    """The arguments without tensors, as a spec has them. Raises `UnportedError` where it can't have them."""
    plainly = {name: value for name, value in operation.arguments.items() if not [*tensors_in(value)]}
    for name, value in plainly.items():
        single = [*_flat(value)]
        floats = [each for each in single if isinstance(each, float)]
        is_plain = all(math.isfinite(each) for each in floats)
        if name in arrays and isinstance(value, list) and floats and not (is_plain and len(single) <= MAX_WRITTEN):
            plainly[name] = Stored(value)
        elif name in arrays and value in (math.inf, -math.inf):
            plainly[name] = str(value)
        elif not is_plain:
            raise UnportedError(f"{operation.name} with the number {next(x for x in floats if not math.isfinite(x))}")
        elif len(single) > MAX_NUMBERS:
            raise UnportedError(f"{operation.name} with {len(single):,} numbers in its config")
        if strange := [each for each in single if not isinstance(each, _PLAIN)]:
            raise UnportedError(f"{operation.name} of {str(strange[0])[:80]}")
    return plainly


_PLAIN = (bool, int, float, str, slice, type(...), type(None))


def _flat(value: Any) -> Iterator[Any]:
    """What is in nested lists."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting.extend(each)
        else:
            yield each


def changed(operation: Operation, name: str | None = None, **arguments: Any) -> Operation:
    """The operation with other arguments, or another one with them; those that are `...` are left out."""
    merged = {**operation.arguments, **arguments}
    kept = {key: value for key, value in merged.items() if value is not ...}
    return replace(operation, name=name or operation.name, arguments=kept)
