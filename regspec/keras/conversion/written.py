"""A model that is written anew with channels first: its tensors, its entries, and where its weights go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regspec.code import axes
from regspec.code.axes import Order
from regspec.keras.arrays.matching import WeightPath
from regspec.keras.configs.models import Model
from regspec.keras.conversion.reordered import Change, Reordered, Units
from regspec.keras.reading.reader import identifier
from regspec.layers.families import Spatial
from regspec.layers.following import order_after
from regspec.layers.layer import Layer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Move:
    """How an array of Keras's is moved: along each axis, the units of a vector."""

    units: tuple[Units | None, ...]

    def __call__(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        for axis, units in enumerate(self.units):
            if units is not None:
                array = array.take(units.indices(), axis)
        return array


@dataclass(frozen=True)
class Relaid:
    """A model with channels first: where its weights go, and the order of Keras's axes in its inputs and outputs."""

    model: Model
    moves: Mapping[WeightPath, Move]
    inputs: Mapping[str, Order]  # those that lie otherwise than in Keras
    outputs: Mapping[str, Order]
    notes: tuple[str, ...]
    orders: Mapping[WeightPath, Order]  # of the axes of each layer's first output

    def moved(self, arrays: Mapping[WeightPath, NDArray[np.generic]]) -> dict[WeightPath, NDArray[np.generic]]:
        """Keras's arrays as those of the converted model."""
        return {path: self.moves[path](array) if path in self.moves else array for path, array in arrays.items()}


@dataclass(frozen=True)
class Tensor:
    """A tensor of the converted model, and the layers that flattened it."""

    x: Reordered
    flattened: frozenset[WeightPath] = frozenset()


@dataclass(frozen=True)
class FirstCall:
    """The first call of a layer or a model inside, which further ones must be like."""

    inputs: tuple[Reordered, ...]
    change: Change
    moves: Mapping[str, Move]
    outputs: tuple[Tensor, ...]
    flattened: frozenset[WeightPath]


@dataclass
class Scope:
    """A model, or one inside it, while it is written anew."""

    within: WeightPath  # the models around it
    wanted: Mapping[str, Order]  # the preferred order of each tensor
    names: set[str]  # that are taken
    entries: list[dict[str, Any]] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)  # by reference
    views: dict[tuple[str, Order], str] = field(default_factory=dict)  # by reference and order
    inner: dict[str, Model] = field(default_factory=dict)
    first: dict[str, FirstCall] = field(default_factory=dict)  # by the names of layers
    turns: dict[str, str] = field(default_factory=dict)  # by reference, what has its axes in the meaning of Keras

    def ordered(self, reference: str, order: Order) -> str:
        """The reference to a tensor with its axes in this order; a Permute is added where there is none."""
        tensor = self.tensors[reference]
        if tensor.x.order == order:
            return self.turns.get(reference, reference)
        if (reference, order) not in self.views:
            dims = axes.between(tensor.x.order, order)
            view = tensor.x.permuted(order)
            said = {} if order_after(tensor.x, dims) == order else {"axes": view.meanings}
            given = self.turns.get(reference, reference)
            self.views[reference, order] = self._permuted(f"{reference}_permuted", given, dims, Tensor(view), said)
        return self.views[reference, order]

    # A layer that says channels_first in a model with channels last takes Keras's second axis for the channels. The
    # spec is told so before it, and after it that the last axis is: a Permute that moves nothing says what axes mean.

    def turned(self, layer: Layer, references: list[str]) -> list[str]:
        """References to inputs, in Keras's order, whose axes mean what such a layer takes them for; others as given."""
        if not is_turned(layer):
            return references
        return [self._told(each, channels_first=True) for each in references]

    def tell(self, name: str, outputs: Sequence[Tensor]) -> None:
        """Tells what the axes of the outputs of such a layer, or one that can't be told by itself, mean."""
        for index, tensor in enumerate(outputs):
            if tensor.x.rank > 2:
                reference = f"{name}.{index}"
                told = self._told(reference if index else name, channels_first=False)
                self.turns |= {reference: told} if index else {name: told, reference: told}

    def turned_names(self, outputs: Any) -> Any:
        """The outputs of a model, by what has their axes in the meaning of Keras."""
        if isinstance(outputs, dict):
            return {key: self.turns.get(name, name) for key, name in outputs.items()}
        if isinstance(outputs, str):
            return self.turns.get(outputs, outputs)
        return [self.turns.get(name, name) for name in outputs]

    def _told(self, reference: str, *, channels_first: bool) -> str:
        x = self.tensors[reference].x if reference in self.tensors else None
        rank = 0 if x is None else x.rank
        if x is None or rank < 3:
            return reference
        order = axes.channels_first(rank) if channels_first else axes.identity(rank)
        meanings = Reordered((None,) * rank, "", order=order, spec_order=order).meanings
        name, dims = f"{reference}_{'turned' if channels_first else 'told'}", axes.identity(rank)
        return self._permuted(name, reference, dims, self.tensors[reference], {"axes": meanings})

    def _permuted(self, name: str, reference: str, dims: Order, made: Tensor, said: dict[str, Any]) -> str:
        """The name of a Permute that is added, which makes a tensor of that of a reference."""
        name = identifier(name, self.names)
        self.entries.append({"Permute": {"name": name, "inputs": [reference], "dims": [*dims[1:]], **said}})
        self.tensors[name] = made
        return name


def is_turned(layer: Layer) -> bool:
    """Whether a layer takes Keras's second axis for the channels."""
    return isinstance(layer, Spatial) and layer.data_format == "channels_first"
