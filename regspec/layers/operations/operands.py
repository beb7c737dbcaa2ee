"""Operands that are given as numbers, the shapes of several operands together, and the types of results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar

from pydantic import PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import Expression, Held, Listed, Module, Value, call
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import MAX_SIZE, REFERENCE
from regspec.layers.kinds import operation
from regspec.layers.layer import KerasCall, Layer, Weight

MAX_NUMBERS = 10_000  # of one operand; more would be unreadable

L = TypeVar("L", bound=type[Layer])


def made(base: L, name: str, summary: str, **attributes: Any) -> L:
    """A kind derived from ``base`` with other attributes, as if it were defined in the base's module."""
    own = {"__doc__": summary, "__module__": base.__module__, "__qualname__": name}
    metaclass: Any = type(base)
    cls: L = metaclass(name, (base,), {**own, **attributes})
    return operation(cls)


@dataclass(frozen=True, slots=True)
class Array:
    """An operand with too many numbers for a text: a spec has its shape, and the numbers come with the weights."""

    shape: tuple[int, ...]


Numbers: TypeAlias = "bool | int | float | tuple[Numbers, ...] | Array"
_EXPECTED = "a number, or lists of numbers, in lists of equal length"


def _inline(value: Any) -> Any:
    """A number, or nested tuples of numbers that are equally long at each depth. Raises a pydantic error."""
    if isinstance(value, (list, tuple)):
        parts = tuple(_inline(each) for each in value)
        if not parts or len({shape_of(each) for each in parts}) > 1:
            raise PydanticCustomError("form", "must be {expected}", {"expected": _EXPECTED})
        if math.prod(shape_of(parts)) > MAX_NUMBERS:
            raise PydanticCustomError("form", "may have {most} numbers", {"most": f"{MAX_NUMBERS:,}"})
        return parts
    if value in ("inf", "-inf"):
        return float(value)
    if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
        raise PydanticCustomError("form", "must be {expected}", {"expected": _EXPECTED})
    return value


def _operand(value: Any) -> Any:
    """Numbers, or the shape of an array. Raises a pydantic error."""
    if not isinstance(value, dict):
        return _inline(value)
    shape = [*sizes] if isinstance(sizes := value.get("shape"), (list, tuple)) else []
    is_shape = 0 < len(shape) <= 8 and all(isinstance(each, int) and each > 0 for each in shape)
    if value.keys() != {"shape"} or not is_shape or math.prod(shape) > MAX_SIZE:
        what = "must be {expected}, or {{shape: […]}} for an array that is loaded with the weights"
        raise PydanticCustomError("form", what, {"expected": _EXPECTED})
    return Array(tuple(shape))


_FORMS: list[dict[str, Any]] = [
    {"type": "number"},
    {"type": "boolean"},
    {"enum": ["inf", "-inf"]},
    {"type": "array", "minItems": 1},
]
_SHAPE = {
    "type": "object",
    "properties": {
        "shape": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1},
            "minItems": 1,
            "description": "The shape of an array that is loaded with the weights.",
        }
    },
    "additionalProperties": False,
    "required": ["shape"],
}
# JSON Schema definitions of both, shared by all kinds that have such fields.
DEFINITIONS: dict[str, Any] = {
    "numbers": {"description": "A number, or lists of numbers.", "anyOf": _FORMS},
    "operand": {"description": "A number, lists of numbers, or the shape of an array.", "anyOf": [*_FORMS, _SHAPE]},
}
Inline = Annotated[Any, PlainValidator(_inline), WithJsonSchema({REFERENCE: "numbers"})]
Operand = Annotated[Any, PlainValidator(_operand), WithJsonSchema({REFERENCE: "operand"})]


def shape_of(numbers: Numbers) -> tuple[int, ...]:
    """The shape of nested tuples or of an array; () for a number."""
    if isinstance(numbers, Array):
        return numbers.shape
    return (len(numbers), *shape_of(numbers[0])) if isinstance(numbers, tuple) else ()


def flat(numbers: Numbers) -> Iterator[bool | int | float]:
    """The numbers in nested tuples."""
    if isinstance(numbers, tuple):
        for each in numbers:
            yield from flat(each)
    elif not isinstance(numbers, Array):
        yield numbers


def converted(numbers: Numbers, to: type[bool] | type[float]) -> Numbers:
    """The numbers as those of another type; an array has floating-point numbers."""
    if isinstance(numbers, Array):
        return numbers
    return tuple(converted(each, to) for each in numbers) if isinstance(numbers, tuple) else to(numbers)


def dtype_of(numbers: Numbers) -> str:
    """The type that torch gives to an array of these numbers."""
    if isinstance(numbers, Array):
        return "float32"
    if all(isinstance(each, bool) for each in flat(numbers)):
        return "bool"
    return "float32" if any(isinstance(each, float) for each in flat(numbers)) else "int64"


_WIDTHS = ("int8", "int16", "int32", "int64")


def promoted(*operands: str | bool | int | float) -> str:
    """The type of what is computed from tensors of these types and from single numbers, as in Keras and torch."""
    types = [each for each in operands if isinstance(each, str)]
    numbers = [each for each in operands if not isinstance(each, str)]
    result = types[0] if types else "bool"
    for each in types[1:]:
        result = _joined(result, each)
    if any(isinstance(each, float) for each in numbers) and "float" not in result:
        return "float32"
    if result == "bool" and any(not isinstance(each, bool) for each in numbers):
        return "int32"
    return result


def _joined(one: str, other: str) -> str:
    """The smallest type that holds the numbers of two."""
    if one == other or other == "bool":
        return one
    if one == "bool":
        return other
    floats = [each for each in (one, other) if "float" in each]
    if floats:
        return floats[0] if len(floats) == 1 else "float64" if "float64" in floats else "float32"
    signed = [each for each in (one, other) if each != "uint8"]
    return max([*signed, "int16"] if len(signed) == 1 else signed, key=_WIDTHS.index)


_METHODS = {
    "float16": "half",
    "bfloat16": "bfloat16",
    "float32": "float",
    "float64": "double",
    "int8": "char",
    "uint8": "byte",
    "int16": "short",
    "int32": "int",
    "int64": "long",
    "bool": "bool",
}


def cast(x: Expression, have: str, want: str) -> Expression:
    """An expression of one type in another."""
    return x if have == want else x.method(_METHODS[want])


def same_shape(verb: str, *operands: Symbol | Numbers) -> Shape:
    """The broadcast shape of operands, aligned at their last axes, as in Keras. Raises `ShapeError`.

    Tensors must have the same rank: otherwise the batch of one would be aligned with another axis of the other.
    """
    tensors = [each for each in operands if isinstance(each, Symbol)]
    rank = max(each.rank for each in tensors)
    if any(each.rank != rank for each in tensors):
        raise ShapeError(
            f"can't {verb} {_named(tensors)}: aligned at their last axes, the batch of one meets an axis of the other",
            "put an ExpandDims before",
        )
    known: list[Shape] = []
    for each in operands:
        shape: Shape = each.shape if isinstance(each, Symbol) else shape_of(each)
        if not isinstance(each, Symbol):
            if len(shape) > rank or (len(shape) == rank and shape[0] != 1):
                what = f"can't {verb} {_named(tensors)} and numbers of the shape {shape}, which count examples"
                raise ShapeError(what)
            whole = (1,) * (rank - len(shape)) + shape
            shape = axes.permute(whole, axes.between(tensors[0].spec_order, tensors[0].order))
        known.append(shape)
    merged = []
    for sizes in zip(*known, strict=True):
        wanted = {size for size in sizes if size != 1}
        if len(wanted - {None}) > 1:
            more = [f"numbers of the shape {shape_of(each)}" for each in operands if not isinstance(each, Symbol)]
            raise ShapeError(f"can't {verb} {' and '.join([_named(tensors), *more])}")
        merged.append(next(iter(wanted - {None}), None) if wanted else 1)
    return (tensors[0].shape[0], *merged[1:])


def _named(tensors: Sequence[Symbol]) -> str:
    return " and ".join(each.named for each in tensors)


class Operands(Layer):
    """A function of operands: its inputs in this order, except those that a field of the same name gives as numbers."""

    operands: ClassVar[tuple[str, ...]]
    arity: ClassVar[tuple[int, int | None]] = (1, None)  # as many as are no numbers

    @property
    def numbers(self) -> dict[str, Numbers]:
        """The operands that are given as numbers, by name."""
        return {name: value for name in self.operands if (value := getattr(self, name, None)) is not None}

    @property
    def fields_of_call(self) -> frozenset[str]:
        return super().fields_of_call | {*self.operands}

    def keras_call(self, *tensors: object) -> KerasCall:
        said = super().keras_call()[1]
        inputs, numbers = iter(tensors), self.numbers
        both = tuple(numbers[name] if name in numbers else next(inputs) for name in self.operands)
        return both, said

    @model_validator(mode="after")
    def _takes_an_input(self) -> Operands:
        if len(self.numbers) == len(self.operands):
            raise PydanticCustomError("operands", "gives all its operands as numbers, so that it has no input")
        return self

    @property
    def takes_integers(self) -> bool:
        return True

    def checked(self, *xs: Symbol) -> None:
        names = [name for name in self.operands if name not in self.numbers]
        if len(xs) != len(names):
            what = f"takes {len(names)} input{'s' * (len(names) > 1)} ({', '.join(names)}), but is given {len(xs)}"
            raise ShapeError(what)
        self.check_readings(*xs)

    def order(self, x: Symbol) -> Order | None:
        return x.spec_order if any(isinstance(each, Array) for each in self.numbers.values()) else None

    @property
    def reads_axes(self) -> bool:
        return False

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        return tuple(array_weight(self, name, each) for name, each in self.numbers.items() if isinstance(each, Array))

    def named(self, xs: Sequence[Symbol]) -> dict[str, Symbol | Numbers]:
        """All operands by name."""
        inputs, numbers = iter(xs), self.numbers
        return {name: numbers[name] if name in numbers else next(inputs) for name in self.operands}


def dtypes(operands: Iterable[Symbol | Numbers]) -> list[str | bool | int | float]:
    """What `promoted` takes of operands: the types of tensors and arrays, and single numbers as they are."""
    return [
        each.dtype if isinstance(each, Symbol) else dtype_of(each) if isinstance(each, (tuple, Array)) else each
        for each in operands
    ]


def array_weight(layer: Layer, name: str, array: Array) -> Weight:
    """An array as a weight of a layer, which is not trained."""
    names = " ".join("abcdefgh"[: len(array.shape)])
    return layer.weight(name, names, array.shape, parameters=("",), module=name, trainable=False)


def value(name: str, operand: Symbol | Numbers, *, like: Symbol | None = None, held: bool = False) -> Value:
    """An operand in an expression: a tensor, a number, or a buffer for an array; for a number too, if ``held``.

    An array is aligned with the last axes as a spec counts them, and permuted to the order of axes of ``like``, the
    other operand.
    """
    if isinstance(operand, Symbol) or not (held or isinstance(operand, (tuple, Array))):
        return operand
    if isinstance(operand, Array):
        return Held(Module(call("nn.Buffer", call("torch.zeros", *operand.shape)), name), (), {})
    array: Expression = call("torch.tensor", _listed(operand))
    shape = shape_of(operand)
    if like is not None and shape and like.order != like.spec_order:
        whole = (1,) * (like.rank - len(shape)) + shape
        order = axes.between(like.spec_order, like.order)
        moved = axes.permute(whole, order)
        if sum(size != 1 for size in whole) > 1:
            array = array.method("reshape", *whole).method("permute", *order)
        else:
            array = array.method("reshape", *moved)
    return Held(Module(call("nn.Buffer", array, persistent=False), name), (), {})


def _listed(numbers: Numbers) -> Value:
    assert not isinstance(numbers, Array)
    return Listed(tuple(_listed(each) for each in numbers)) if isinstance(numbers, tuple) else numbers
