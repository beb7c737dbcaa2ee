"""Arrays of Keras 1, of layers for cuDNN, and of other ways to keep a kernel, as those that Keras 3 would have written.

Keras 1 keeps each gate of a recurrent layer by itself, and kernels of convolutions as its backend wants them. Theano
flips a kernel before it slides it along, so kernels that were trained with it have to be flipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regspec.keras.arrays.files import ArrayFile
from regspec.keras.arrays.groups import layers_in_groups
from regspec.keras.arrays.sources import Stored, damaged
from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.models import is_model, name_of

Array = NDArray[Any]
Item = dict[str, Any]
Shape = tuple[int, ...]
Making = Callable[..., Any]  # makes an array, of the shape that is wanted and of those in the file


@dataclass(frozen=True)
class Joined:
    """An array that is made of others in a file."""

    parts: tuple[Stored, ...]
    make: Making

    @property
    def name(self) -> str:
        """The name of the first."""
        return str(self.parts[0].name)

    @property
    def shape(self) -> Shape:
        """The shape of the first."""
        return tuple(self.parts[0].shape)


class Renewed(ArrayFile):
    """The arrays of a file, as Keras 3 would have them."""

    def __init__(self, arrays: ArrayFile, config: Item, dialect: Dialect) -> None:
        super().__init__(arrays.source, arrays.path)
        self.version = dialect.version
        self.items = dict(_items(config))  # layers by name
        self.generation = dialect.generation
        layers = [each for each in config["config"]["layers"] if each["class_name"] != "InputLayer"]
        self.renamed = self._renamed([name_of(each) for each in layers])
        self.made: dict[str, dict[str, Making]] = {}  # what is made of arrays, by groups of layers and paths in these
        self.made |= {group: dict(_by_path(each)) for each, group in layers_in_groups(config["config"], self)}
        self.is_turned = dialect.backend == "theano"

    def of_layer(self, name: str) -> list[Any]:
        """The arrays of a layer, in order."""
        found: list[Any] = []
        waiting = super().of_layer(self.renamed.get(name, name))
        if self.generation == 1:  # of two dense layers, one after the other, and not kernels first
            waiting.sort(key=lambda each: bool(CARRY.search(str(each.name))))
        while waiting:
            gates = GATES.get(_gate(waiting[0])) if self.generation == 1 else None
            if gates is None:
                found.append(self._renewed(waiting.pop(0)))
                continue
            own, waiting = waiting[: 3 * len(gates)], waiting[3 * len(gates) :]
            found += [Joined(tuple(own[3 * gate + index] for gate in gates), _side_by_side) for index in range(3)]
        return found

    def below(self, group: str) -> dict[str, Any]:
        """The arrays of a layer that has a group, as Keras 3 would have them."""
        makings = self.made.get(group, {})
        return {
            path: Joined((dataset,), makings[path]) if path in makings else dataset
            for path, dataset in super().below(group).items()
        }

    def _renamed(self, names: list[str]) -> dict[str, str]:
        """The file's names of layers that the config names otherwise, as it does those without a name of their own."""
        with damaged(self.path):
            known = self.source.layers()
        missing = [name for name in names if name not in known]
        others = [name for name in known if name not in names and name not in self.items]
        return dict(zip(missing, others, strict=True)) if len(missing) == len(others) else {}

    def array(self, dataset: Any, shape: Shape) -> Array:
        """The array of a dataset, or of what is made of several, whose shape must be this one."""
        if not isinstance(dataset, Joined):
            return super().array(dataset, shape)
        arrays = [super(Renewed, self).array(each, each.shape) for each in dataset.parts]
        try:
            array: Array | None = dataset.make(shape, *arrays)
        except (ValueError, TypeError, LookupError):  # whatever numpy raises where sizes do not fit
            array = None
        if array is None or array.shape != shape:
            raise self._fault(f"has '{dataset.name}' with the shape {arrays[0].shape}, of which {shape} can't be made")
        self.gained += array.size - sum(each.size for each in arrays)
        return array

    def _renewed(self, dataset: Stored) -> Any:
        """A dataset as it is, or the array that is to be made of it."""
        path = str(dataset.name).removesuffix(":0").split("/")
        item = next((self.items[name] for part in reversed(path) for name in self._names(part)), None)
        if item is None:
            return dataset
        turn = self._turn(item, path[-1], dataset)
        return dataset if turn is None else Joined((dataset,), turn)

    def _names(self, part: str) -> Iterator[str]:
        """The layers that a part of a path may name."""
        part = part.removeprefix("forward_").removeprefix("backward_")
        if part in self.items:
            yield part
        elif self.generation == 1:  # layer_W
            yield from sorted((name for name in self.items if part.startswith(f"{name}_")), key=len)[-1:]

    def _turn(self, item: Item, weight: str, dataset: Stored) -> Making | None:
        """The function that makes Keras 3's array of a weight from the file's; None where they are the same."""
        written = item.get("written_as" if self.generation == 2 else "class_name")
        config = item["config"]
        if self.generation == 1:
            if len(dataset.shape) < 3:  # a bias
                return None
            kernel = KERNELS.get((written, config.get("data_format", "channels_last")))
            if not (self.is_turned and written in TURNED):
                return kernel
            return _turned if kernel is None else _turned_after(kernel)
        if written in CUDNN:
            return CUDNN[written].get(weight)
        if written in LOCAL and weight == "kernel":
            return _local(config)
        if self.is_turned and weight in TURNED.get(written, ()):
            return _turned
        return None


def backend_in(arrays: ArrayFile) -> str | None:
    """The backend with which a file was written, if it says so."""
    with damaged(arrays.path):
        found = arrays.source.backends()
    return "theano" if "theano" in found else next(iter(found), None)


def _items(item: Any) -> Iterator[tuple[str, Item]]:
    """All layers of a config by name, wherever in it they are."""
    waiting = [item]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            config = each.get("config")
            if isinstance(config, dict) and "class_name" in each:
                yield str(config.get("name")), each
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


# -- Keras 1 -----------------------------------------------------------------------------------------------------------

# It has a kernel, a recurrent kernel and a bias for each gate. By the first gate: where Keras 3's gates are among them.
GATES = {"i": (0, 2, 1, 3), "z": (0, 1, 2)}


# The weights of a highway's gate.
CARRY = re.compile(r"_[Wb]_carry(_\d+)?(:0)?$")


def _gate(dataset: Stored) -> str:
    """The gate of a dataset that is a gate's kernel: i for ``lstm_1_W_i:0``; an empty text for other datasets."""
    match = re.search(r"_W_([iz])(_\d+)?(:0)?$", str(dataset.name))
    return match[1] if match else ""


def _side_by_side(shape: Shape, *gates: Array) -> Any:
    return np.concatenate(gates, axis=-1)


def _first(shape: Shape, kernel: Array) -> Any:
    """(…, inputs, outputs), of (outputs, inputs, …)."""
    return kernel.transpose(*range(2, kernel.ndim), 1, 0)


def _exchanged(shape: Shape, kernel: Array) -> Any:
    """(…, outputs, inputs), of (…, inputs, outputs)."""
    return kernel.swapaxes(-2, -1)


def _first_exchanged(shape: Shape, kernel: Array) -> Any:
    """(…, outputs, inputs), of (outputs, inputs, …)."""
    return kernel.transpose(*range(2, kernel.ndim), 0, 1)


def _line(shape: Shape, kernel: Array) -> Any:
    """(length, inputs, outputs), of (length, 1, inputs, outputs), or of what Keras 1.1 had."""
    if (kernel.shape[0], *kernel.shape[2:]) != shape:  # (outputs, inputs, length, 1)
        kernel = kernel.transpose(2, 3, 1, 0)
    return kernel[:, 0]


KERNELS: dict[tuple[Any, str], Making] = {
    ("Conv1D", "channels_last"): _line,
    **{(each, "channels_first"): _first for each in ("Conv2D", "Conv3D")},
    ("Conv2DTranspose", "channels_last"): _exchanged,
    ("Conv2DTranspose", "channels_first"): _first_exchanged,
}

# -- kernels that Theano slides along ----------------------------------------------------------------------------------

# By the weights of them that it slides along. Keras turns the kernels of depthwise convolutions by itself.
TURNED: dict[Any, tuple[str, ...]] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose"), ("kernel",)),
    "ConvLSTM2D": ("kernel", "recurrent_kernel"),
}


def _turned(shape: Shape, kernel: Array) -> Any:
    """A kernel that is turned around."""
    return np.flip(kernel, tuple(range(kernel.ndim - 2))).copy()  # torch takes no negative strides


def _turned_after(make: Making) -> Making:
    """A kernel that is made of another, turned around."""

    def made(shape: Shape, kernel: Array) -> Any:
        return _turned(shape, make(shape, kernel))

    return made


# -- cuDNN -------------------------------------------------------------------------------------------------------------


def _gates(count: int, moved: Callable[[Array], Any]) -> Making:
    """The kernel of so many gates, of which each is moved by itself."""

    def made(shape: Shape, kernel: Array) -> Any:
        return np.hstack([moved(gate) for gate in np.hsplit(kernel, count)])

    return made


def _by_columns(gate: Array) -> Any:
    return gate.T.reshape(gate.shape, order="F")


def _sum(shape: Shape, bias: Array) -> Any:
    """The sum of the bias of the inputs and that of the state."""
    return bias.reshape(2, -1).sum(0)


def _both(shape: Shape, bias: Array) -> Any:
    return bias.reshape(2, -1)


CUDNN: dict[Any, dict[str, Making]] = {
    "CuDNNLSTM": {"kernel": _gates(4, _by_columns), "recurrent_kernel": _gates(4, np.transpose), "bias": _sum},
    "CuDNNGRU": {"kernel": _gates(3, _by_columns), "recurrent_kernel": _gates(3, np.transpose), "bias": _both},
}

# -- locally connected layers ------------------------------------------------------------------------------------------

LOCAL = frozenset({"LocallyConnected1D", "LocallyConnected2D"})


WRAPPER = "TimeDistributed"
SIDES = {"layer": ("layer", "forward_layer", "backward_layer"), "backward_layer": ("backward_layer",)}  # of wrappers


def _by_path(layer: Item, at: str = "") -> Iterator[tuple[str, Making]]:
    """What is made of the arrays of a layer and of those in it, by their paths in its group."""
    written, config = layer.get("written_as"), layer["config"]
    if layer["class_name"] == WRAPPER != written:  # which the file has around the model that the layer is in
        yield from _by_path(config["layer"], at)
        return
    made = _local(config) if written in LOCAL else None
    makings = [made] if made is not None else CUDNN.get(written, {}).values()
    yield from ((f"{at}vars/{number}", making) for number, making in enumerate(makings))
    for field, sides in SIDES.items():
        if isinstance(config.get(field), dict) and not is_model(config[field].get("config")):
            for side in sides:
                yield from _by_path(config[field], f"{at}{side}/")


def _local(config: Item) -> Making | None:
    """How the kernel (places, cells of the window, outputs) is made of that of another implementation."""
    is_first = config.get("data_format") == "channels_first"
    implementation = config.get("implementation")
    made = {2: _dense(config, is_first), 3: _sparse(is_first)}
    return made.get(implementation) if isinstance(implementation, int) else None


def _sparse(is_first: bool) -> Making:
    """From a row of numbers in the order place, output, cell; with channels first, in the order output, place, cell."""

    def made(shape: Shape, row: Array) -> Any:
        places, cells, outputs = shape
        if is_first:
            return row.reshape(outputs, places, cells).transpose(1, 2, 0)
        return row.reshape(places, outputs, cells).transpose(0, 2, 1)

    return made


def _dense(config: Item, is_first: bool) -> Making:
    """From an array of all inputs by all outputs, of which only the numbers within the windows are used."""

    def made(shape: Shape, kernel: Array) -> Any:
        rank = kernel.ndim // 2 - 1
        window, strides = (_sizes(config[key], rank) for key in ("kernel_size", "strides"))
        if is_first:  # as if the channels were last
            kernel = np.moveaxis(kernel, (0, rank + 1), (rank, 2 * rank + 1))
        found = np.empty(shape, kernel.dtype)
        for number, place in enumerate(np.ndindex(*kernel.shape[rank + 1 : 2 * rank + 1])):
            starts = zip(place, strides, window, strict=True)
            cells = kernel[tuple(slice(at * step, at * step + size) for at, step, size in starts)]
            cells = cells[(slice(None),) * rank + (slice(None), *place)]  # (window…, inputs, outputs)
            cells = np.moveaxis(cells, rank, 0) if is_first else cells
            found[number] = cells.reshape(shape[1:])
        return found

    return made


def _sizes(value: Any, rank: int) -> list[int]:
    return [*value] if isinstance(value, list) else [value] * rank
