"""TensorFlow's functions along axes, products and sums."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

from regspec.keras.operations.operation import Applied, Operand
from regspec.keras.operations.tensorflow_rules import SPECIAL, TensorFlowCall, special, whole

__all__ = ["SPECIAL"]

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
