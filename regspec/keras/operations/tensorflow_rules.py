"""TensorFlow's functions whose arguments differ from those of Keras 3's operations in more than names.

The shape of a tensor is no tensor here: it is a `ShapeOf`, its sizes are `SizeOf`, and whoever reads a file passes them
on in place of tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

from regspec.keras.dialect import Dialect
from regspec.keras.operations.operation import Applied, Operand, Operation, mixing
from regspec.keras.operations.rules import operand_of
from regspec.keras.values import UnportedError


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
        """That the call can't be ported."""
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


# -- along axes --------------------------------------------------------------------------------------------------------


@special("math.argmax", "input axis output_type")
def _argmax(call: TensorFlowCall) -> Operand:
    return call.to("Argmax", x=call["input"], axis=call["axis"] or 0, dtype=call["output_type"] or "int64")


@special("math.argmin", "input axis output_type")
def _argmin(call: TensorFlowCall) -> Operand:
    return call.to("Argmin", x=call["input"], axis=call["axis"] or 0, dtype=call["output_type"] or "int64")


@special("math.count_nonzero", "input axis keepdims dtype")
def _count_nonzero(call: TensorFlowCall) -> Operand:
    counted = call.to("NotEqual", x1=call["input"], x2=0)
    total = call.to("Sum", x=counted, axis=call["axis"], keepdims=call["keepdims"])
    return call.to("Cast", x=total, dtype=call["dtype"] or "int64")


@special("math.cumsum", "x axis exclusive reverse")
def _cumsum(call: TensorFlowCall) -> Operand:
    x, axis = call["x"], call["axis"] or 0
    turned = call.to("Flip", x=x, axis=axis) if call["reverse"] else x
    total = call.to("Cumsum", x=turned, axis=axis)
    total = call.to("Flip", x=total, axis=axis) if call["reverse"] else total
    return call.to("Subtract", x1=total, x2=x) if call["exclusive"] else total


@special("math.cumprod", "x axis exclusive reverse")
def _cumprod(call: TensorFlowCall) -> Operand:
    if call["exclusive"] or call["reverse"]:
        raise call.refused("that is exclusive or in reverse")
    return call.to("Cumprod", x=call["x"], axis=call["axis"] or 0)


@special("sort", "values axis direction")
def _sort(call: TensorFlowCall) -> Operand:
    axis = -1 if call["axis"] is None else call["axis"]
    rising = call.to("Sort", x=call["values"], axis=axis)
    return call.to("Flip", x=rising, axis=axis) if call["direction"] == "DESCENDING" else rising


@special("argsort", "values axis direction stable")
def _argsort(call: TensorFlowCall) -> Operand:
    values = call["values"]
    if call["direction"] == "DESCENDING":
        values = call.to("Negative", x=values)
    return call.to("Argsort", x=values, axis=-1 if call["axis"] is None else call["axis"])


@special("math.l2_normalize nn.l2_normalize", "x axis epsilon name dim")
def _l2_normalize(call: TensorFlowCall) -> Operand:
    axis = call["axis"] if call["axis"] is not None else call["dim"]
    epsilon = math.sqrt(1e-12 if call["epsilon"] is None else call["epsilon"])  # of the sum of squares
    return call.to("Normalize", x=call["x"], axis=axis, epsilon=epsilon)


@special("norm linalg.norm compat.v1.norm", "tensor ord axis keepdims name keep_dims")
def _norm(call: TensorFlowCall) -> Operand:
    order = None if call["ord"] == "euclidean" else call["ord"]
    keeps = bool(call["keepdims"] or call["keep_dims"])
    return call.to("Norm", x=call["tensor"], ord=order, axis=call["axis"], keepdims=keeps)


@special("split", "value num_or_size_splits axis num")
def _split(call: TensorFlowCall) -> Operand:
    parts = call["num_or_size_splits"]
    if isinstance(parts, list):
        sizes = whole(call, "num_or_size_splits")
        if -1 in sizes[:-1]:
            raise call.refused("into parts of which one that is not the last has no size")
        parts = [*accumulate(sizes[:-1])]
    return call.to("Split", x=call["value"], indices_or_sections=parts, axis=call["axis"] or 0)


@special("gather", "params indices validate_indices axis batch_dims")
@special("compat.v1.gather", "params indices validate_indices name axis batch_dims")
def _gather(call: TensorFlowCall) -> Operand:
    x, indices, axis = call["params"], call["indices"], call["axis"]
    if not call["batch_dims"]:
        return call.to("Take", x=x, indices=indices, axis=axis or 0)
    if call["batch_dims"] != 1 or axis not in (1, None):
        raise call.refused(f"with batch_dims = {call['batch_dims']} and axis = {axis}")
    return Applied("Take", {"axis": 1, "batch_dims": 1}, (x, indices))


@special("nn.embedding_lookup", "params ids max_norm")
@special("compat.v1.nn.embedding_lookup", "params ids partition_strategy name validate_indices max_norm")
def _embedding_lookup(call: TensorFlowCall) -> Operand:
    if call["max_norm"] is not None:
        raise call.refused("with max_norm")
    return call.to("Take", x=call["params"], indices=call["ids"], axis=0)


@special("pad", "tensor paddings mode constant_values")
@special("compat.v1.pad", "tensor paddings mode name constant_values")
def _pad(call: TensorFlowCall) -> Operand:
    mode = (call["mode"] or "constant").lower()
    constant = call["constant_values"] if mode == "constant" else None
    return call.to("Pad", x=call["tensor"], constant_values=constant, pad_width=call["paddings"], mode=mode)


# -- products and sums -------------------------------------------------------------------------------------------------


@special("linalg.matmul matmul", "a b transpose_a transpose_b adjoint_a adjoint_b")
def _matmul(call: TensorFlowCall) -> Operand:
    sides = []
    for name in ("a", "b"):
        side = call[name]
        if call[f"transpose_{name}"] or call[f"adjoint_{name}"]:  # which are the same of real numbers
            side = _transposed(call, side)
        sides.append(side)
    return call.to("Matmul", x1=sides[0], x2=sides[1])


def _transposed(call: TensorFlowCall, side: Any) -> Any:
    if isinstance(side, list):
        if not all(isinstance(row, list) for row in side) or any(isinstance(row[0], list) for row in side):
            raise call.refused("of numbers that are no matrix")
        return [[*column] for column in zip(*side, strict=True)]
    return call.to("Swapaxes", x=side, axis1=-2, axis2=-1)


@special("linalg.matvec", "a b transpose_a adjoint_a")
def _matvec(call: TensorFlowCall) -> Operand:
    matrix = _transposed(call, call["a"]) if call["transpose_a"] or call["adjoint_a"] else call["a"]
    product = call.to("Matmul", x1=matrix, x2=call.to("ExpandDims", x=call["b"], axis=-1))
    return call.to("Squeeze", x=product, axis=-1)


@special("math.add_n", "inputs")
def _add_n(call: TensorFlowCall) -> Operand:
    inputs = call["inputs"]
    return Applied("Add", {}, tuple(inputs)) if len(inputs) > 1 else inputs[0]


@special("math.squared_difference", "x y")
def _squared_difference(call: TensorFlowCall) -> Operand:
    return call.to("Square", x=call.to("Subtract", x1=call["x"], x2=call["y"]))


@special("nn.bias_add", "value bias data_format")
def _bias_add(call: TensorFlowCall) -> Operand:
    if (call["data_format"] or "N").startswith("NC") or isinstance(call["bias"], tuple):
        raise call.refused("of channels that lie first, or of a tensor")
    return call.to("Add", x1=call["value"], x2=call["bias"])


@special("nn.crelu", "features axis")
@special("compat.v1.nn.crelu", "features name axis")
def _crelu(call: TensorFlowCall) -> Operand:
    x = call["features"]
    sides = [call.to("Relu", x=each) for each in (x, call.to("Negative", x=x))]
    return call.to("Concatenate", xs=sides, axis=-1 if call["axis"] is None else call["axis"])


@special("linalg.band_part", "input num_lower num_upper")
def _band_part(call: TensorFlowCall) -> Operand:
    x, lower, upper = call["input"], call["num_lower"], call["num_upper"]
    x = x if upper < 0 else call.to("Tril", x=x, k=upper)
    return x if lower < 0 else call.to("Triu", x=x, k=-lower)


@special("linalg.diag_part", "input name k padding_value align")
def _diag_part(call: TensorFlowCall) -> Operand:
    offset = call["k"] or 0
    if not isinstance(offset, int):  # of several diagonals, which are padded and aligned
        raise call.refused(f"with k = {str(offset)[:80]}")
    return call.to("Diagonal", x=call["input"], offset=offset, axis1=-2, axis2=-1)


@special("linalg.trace", "x")
def _trace(call: TensorFlowCall) -> Operand:
    return call.to("Trace", x=call["x"], axis1=-2, axis2=-1)


# -- what can't be -----------------------------------------------------------------------------------------------------


@special("einsum __operators__.eq __operators__.ne", "equation")
def _lost(call: TensorFlowCall) -> Result:
    raise call.refused("whose further operands Keras 2 did not save")


@special("nn.dropout", "x rate")
def _dropout(call: TensorFlowCall) -> Result:
    raise call.refused("drops numbers in evaluation too")
