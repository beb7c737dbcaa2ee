"""What a network is in Keras, as data: its layers and their calls, of which both its code and its file are written.

An argument is plain data, an `Object`, a `Function`, a `Tensor`, or lists and mappings of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from regspec.code.axes import Order
from regspec.code.shapes import Shape
from regspec.layers.layer import Weight


@dataclass(frozen=True)
class Object:
    """An object of one of the classes of Keras: a layer, a regularizer and the like."""

    module: str  # of Keras: layers, regularizers, …
    name: str  # of the class
    arguments: Mapping[str, Any]
    plain: tuple[str, ...] = field(default=(), compare=False)  # of its first arguments, which need no names in code


@dataclass(frozen=True)
class Function:
    """One of Keras's functions, with arguments that it has beside its first, if any."""

    module: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Operation:
    """One of Keras's operations, which a file has like a layer, and code as a call of its function."""

    module: str  # of Keras's operations: numpy, nn, …
    name: str  # of the class
    function: str
    arguments: Mapping[str, Any]  # of the class, beside what is an argument of the call
    first: str | None = None  # which of these the function takes before its tensors


@dataclass(frozen=True)
class Numbers:
    """An array of numbers, as nested tuples."""

    values: Any
    dtype: str


@dataclass(frozen=True)
class Key:
    """What stands in brackets behind a tensor: whole numbers, slices, None and ``...``."""

    items: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor between calls, with its axes as Keras has them."""

    name: str  # what a person calls it
    shape: Shape
    dtype: str


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a layer, or of a model inside; the first makes it."""

    layer: str  # its name
    made: Object | Operation | Network | None  # None where it is called again
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    outputs: Any  # a tensor, or tensors in tuples, lists or a mapping
    weights: tuple[Stored, ...] = ()  # of a layer that is made
    numbers: Mapping[str, int] = field(default_factory=dict)  # that its file has besides

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that it takes."""
        return [*tensors_in([*self.arguments, dict(self.keywords)])]


@dataclass(frozen=True)
class Stored:
    """A weight of a layer, and where Keras's files have it: the group in that of the layer, and the order of axes."""

    weight: Weight
    path: str  # vars/0
    order: Order


@dataclass(frozen=True, eq=False)
class Network:
    """A model: its calls in the order of execution."""

    name: str  # of its function
    called: str  # of the model
    inputs: tuple[Tensor, ...]
    calls: tuple[Call, ...]
    outputs: Any  # a tensor, or tensors in a list or a mapping
    is_root: bool = True
    left_out: tuple[str, ...] = field(default=())  # what Keras has no counterpart of


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in an argument, in the order in which Keras numbers them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors_in(each)
    elif isinstance(value, dict):
        for key in sorted(value):
            yield from tensors_in(value[key])
