"""TensorFlow's functions whose arguments differ from those of Keras 3's operations in more than names.

The shape of a tensor is no tensor here: it is a `ShapeOf`, its sizes are `SizeOf`, and whoever reads a file passes them
on in place of tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.values import UnportedError
from regspec.keras.operations.operation import Operand, Operation, mixing
from regspec.keras.operations.rules import operand_of


@dataclass(frozen=True)
class ShapeOf:
    """The shape of a tensor."""

    tensor: Operand


class Parted(ShapeOf):
    """The sizes of a tensor's shape, each an output by itself."""


@dataclass(frozen=True)
class SizeOf:
    """One size of a tensor's shape."""

    tensor: Operand
    axis: int


@dataclass(frozen=True)
class Sizes:
    """A shape that is put together, of numbers and of sizes of a tensor's shape."""

    sizes: tuple[int | SizeOf, ...]


Result: TypeAlias = "Operand | ShapeOf | SizeOf | Sizes"

SPECIAL: dict[str, tuple[tuple[str, ...], Callable[[TensorFlowCall], Result]]] = {}


@dataclass(frozen=True)
class TensorFlowCall:
    """A call of a function, with its arguments by TensorFlow's names."""

    function: str
    arguments: dict[str, Any]
    dialect: Dialect

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)

    def to(self, name: str, **arguments: Any) -> Operand:
        """What becomes of an operation of Keras 3 on arguments."""
        return operand_of(Operation(name, arguments, self.dialect))

    def refused(self, why: str) -> UnportedError:
        """The error that the call can't be ported."""
        return UnportedError(f"tf.{self.function} {why}")


def special(
    names: str, parameters: str
) -> Callable[[Callable[[TensorFlowCall], Result]], Callable[[TensorFlowCall], Result]]:
    """Adds a function of its own for TensorFlow's functions of these names; a decorator."""

    def add(function: Callable[[TensorFlowCall], Result]) -> Callable[[TensorFlowCall], Result]:
        SPECIAL.update(dict.fromkeys(names.split(), (tuple(parameters.split()), function)))
        return function

    return add


# -- shapes, and parts by index ----------------------------------------------------------------------------------------


@special("shape compat.v1.shape", "input name out_type")
def _shape(call: TensorFlowCall) -> Result:
    return ShapeOf(call["input"])


@special("unstack", "value num axis")
def _unstack(call: TensorFlowCall) -> Result:
    if isinstance(call["value"], ShapeOf):
        return Parted(call["value"].tensor)
    return call.to("Unstack", x=call["value"], num=call["num"], axis=call["axis"] or 0)


@special("__operators__.getitem", "tensor slice_spec")
def _get_item(call: TensorFlowCall) -> Result:
    tensor, spec = call["tensor"], call["slice_spec"]
    if isinstance(tensor, (ShapeOf, SizeOf)):
        if isinstance(tensor, ShapeOf) and isinstance(spec, int):
            return SizeOf(tensor.tensor, spec)
        raise call.refused("of a part of a tensor's shape")
    return call.to("GetItem", x=tensor, key=[_index(each) for each in (spec if isinstance(spec, list) else [spec])])


def _index(part: Any) -> Any:
    """An index as Python has it; as Keras 2 writes it, a slice is a mapping of its parts."""
    if isinstance(part, dict):
        if part.get("class_name") == "__ellipsis__":
            return ...
        parts = [part.get(name) for name in ("start", "stop", "step")]
        if not all(each is None or isinstance(each, int) for each in parts):
            raise UnportedError("GetItem by a slice whose ends are tensors")
        return slice(*parts)
    return part


@special("strided_slice", "input_ begin end strides begin_mask end_mask ellipsis_mask new_axis_mask shrink_axis_mask")
def _strided_slice(call: TensorFlowCall) -> Result:
    begin, end = whole(call, "begin"), whole(call, "end")
    if isinstance(call["input_"], ShapeOf):
        if len(begin) != 1 or call["shrink_axis_mask"] != 1:
            raise call.refused("of a part of a tensor's shape")
        return SizeOf(call["input_"].tensor, begin[0])
    strides = whole(call, "strides") if call["strides"] is not None else [1] * len(begin)
    key: list[Any] = []
    for index, (start, stop, step) in enumerate(zip(begin, end, strides, strict=True)):
        is_of = {name: (call[f"{name}_mask"] or 0) >> index & 1 for name in ("begin", "end", "ellipsis", "new_axis")}
        if is_of["ellipsis"]:
            key.append(...)
        elif is_of["new_axis"]:
            key.append(None)
        elif (call["shrink_axis_mask"] or 0) >> index & 1:
            key.append(start)
        else:
            key.append(slice(None if is_of["begin"] else start, None if is_of["end"] else stop, step))
    return call.to("GetItem", x=call["input_"], key=key)


@special("slice", "input_ begin size")
def _slice(call: TensorFlowCall) -> Operand:
    begin, size = whole(call, "begin"), whole(call, "size")
    key = [slice(start, None if count == -1 else start + count) for start, count in zip(begin, size, strict=True)]
    return call.to("GetItem", x=call["input_"], key=key)


@special("image.crop_to_bounding_box", "image offset_height offset_width target_height target_width")
def _crop(call: TensorFlowCall) -> Operand:
    top, left, height, width = (call[name] for name in [*SPECIAL[call.function][0]][1:])
    return call.to("GetItem", x=call["image"], key=[slice(None), slice(top, top + height), slice(left, left + width)])


def whole(call: TensorFlowCall, name: str) -> list[int]:
    """An argument that is a list of whole numbers. Raises `UnportedError`."""
    value = call[name]
    if not isinstance(value, list) or not all(isinstance(each, int) for each in value):
        raise call.refused(f"with {name} = {str(value)[:80]}")
    return value


@special("stack", "values axis")
def _stack(call: TensorFlowCall) -> Result:
    values = call["values"] if isinstance(call["values"], list) else [call["values"]]
    if any(isinstance(each, SizeOf) for each in values):
        return Sizes(tuple(values))
    return call.to("Stack", x=values, axis=call["axis"] or 0)


@special("reshape", "tensor shape")
def _reshape(call: TensorFlowCall) -> Operand:
    """The batch is -1, or the size that it has; one other size of a tensor's shape is left for torch to infer."""
    shape = [*call["shape"].sizes] if isinstance(call["shape"], Sizes) else call["shape"]
    if not isinstance(shape, list) or not shape:
        raise call.refused(f"to the shape {str(shape)[:80]}")
    first, *rest = shape
    is_batch = isinstance(first, SizeOf) and first.axis == 0
    if isinstance(first, SizeOf) and not is_batch:
        raise mixing("reshape", "a shape that does not begin with the batch")
    if not is_batch and any(isinstance(each, SizeOf) for each in rest):
        # [-1, F] makes (B * T, F) of (B, T, F)
        raise mixing("reshape", "sizes of a tensor, and -1 for what may be more than the batch,")
    sizes = [-1 if isinstance(each, SizeOf) else each for each in rest]
    if sizes.count(-1) > 1:
        raise call.refused("with more than one size to infer")
    return call.to("Reshape", x=call["tensor"], newshape=[-1 if is_batch else first, *sizes])


@special("broadcast_to", "input shape")
def _broadcast_to(call: TensorFlowCall) -> Operand:
    shape = call["shape"]
    if not isinstance(shape, list):
        raise call.refused("to the shape of a tensor")
    is_batch = isinstance(shape[0], SizeOf) and shape[0].axis == 0
    return call.to("BroadcastTo", x=call["input"], shape=[-1 if is_batch else shape[0], *shape[1:]])


@special("ensure_shape", "x shape")
def _ensure_shape(call: TensorFlowCall) -> Operand:
    return call.to("ConvertToTensor", x=call["x"])


# -- what can't be ported ----------------------------------------------------------------------------------------------


@special("einsum __operators__.eq __operators__.ne", "equation")
def _lost(call: TensorFlowCall) -> Result:
    raise call.refused("whose further operands Keras 2 did not save")


@special("nn.dropout", "x rate")
def _dropout(call: TensorFlowCall) -> Result:
    raise call.refused("drops numbers in evaluation too")
