"""Operations that need more than the kind of their name: elementwise ones, and those along axes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from regspec.keras.configs.values import UnportedError
from regspec.keras.operations.operation import (
    Applied,
    Operand,
    Operation,
    changed,
    mixing,
    numbers,
    operand_of,
    plain,
    rule,
    tensors_in,
)
from regspec.keras.operations.shape_rules import RULES
from regspec.language.activations import ACTIVATIONS

__all__ = ["RULES", "operand_of"]  # with the rules of both files

# -- elementwise -------------------------------------------------------------------------------------------------------

ACTIVATION_CLASSES = """
    Relu Relu6 Sigmoid Tanh Silu Softplus Softsign HardSigmoid HardSilu Selu LogSigmoid LeakyRelu Elu Celu Gelu Glu
    TanhShrink HardTanh HardShrink SoftShrink Threshold Sparsemax Squareplus SparsePlus SparseSigmoid
"""


@rule(*ACTIVATION_CLASSES.split())
def _activation(operation: Operation) -> Applied:
    member = ACTIVATIONS.get(operation.name)
    assert member is not None
    if "axis" in operation.arguments:
        operation.axis()
    (x,) = operation.on(operation["x"])
    said = {}
    for name, value in numbers(operation).items():
        if value is not None and name not in member.model_fields:
            raise UnportedError(f"{operation.name} with {name} = {str(value)[:80]}")
        if value is not None and value != member.model_fields[name].default:
            said[name] = value
    return Applied("Activation", {"activation": {member.name: said} if said else member.name}, (x,))


@rule("Softmax")
def _softmax(operation: Operation) -> Applied:
    axis = operation.axis(-1)
    (x,) = operation.on(operation["x"])
    return Applied("Softmax", {} if _is_last(axis, operation, x) else {"axis": axis}, (x,))


def _is_last(axis: Any, operation: Operation, x: Operand) -> bool:
    return isinstance(axis, int) and axis in (-1, (operation.rank(x) or 0) - 1)


@rule("LogSoftmax")
def _log_softmax(operation: Operation) -> Applied:
    axis = operation.axis(-1)
    (x,) = operation.on(operation["x"])
    if isinstance(axis, int):
        is_last = _is_last(axis, operation, x)
        return Applied("Activation", {"activation": "log_softmax" if is_last else {"log_softmax": axis}}, (x,))
    return Applied("Subtract", {}, (x, Applied("Logsumexp", {"axis": axis, "keepdims": True}, (x,))))


MERGES = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")  # of which there are layers too, which align otherwise
RANKS = "tensors of different ranks, which it aligns at their last axes,"


@rule(*MERGES)
def _merge(operation: Operation) -> Applied:
    ranks = {operation.rank(each) for each in tensors_in([*operation.arguments.values()])} - {None}
    if len(ranks) > 1:
        raise mixing(operation.name, RANKS)
    return plain(operation)


@rule("ConvertToTensor", "Array", "Copy")
def _identity(operation: Operation) -> Operand:
    (x,) = operation.on(operation["x"])
    return x if operation["dtype"] is None else Applied("Cast", {"dtype": operation["dtype"]}, (x,))


RANGES = {"int8": (-(2**7), 2**7 - 1), "uint8": (0, 2**8 - 1), "int16": (-(2**15), 2**15 - 1)}


@rule("SaturateCast")
def _saturate_cast(operation: Operation) -> Applied:
    if operation["dtype"] not in RANGES:
        return plain(operation, "Cast")
    low, high = RANGES[operation["dtype"]]
    return plain(
        changed(operation, x=Applied("Clip", {"x_min": low, "x_max": high}, operation.on(operation["x"]))), "Cast"
    )


@rule("Select")
def _select(operation: Operation) -> Operand:
    """The first choice whose condition holds."""
    conditions, choices = operation["condlist"], operation["choicelist"]
    if not isinstance(conditions, list) or not isinstance(choices, list) or len(conditions) != len(choices):
        raise UnportedError("Select without a choice for each condition")
    chosen: Any = operation["default"] or 0
    for condition, choice in reversed([*zip(conditions, choices, strict=True)]):
        chosen = plain(Operation("Where", {"condition": condition, "x1": choice, "x2": chosen}))
    return operation.on(chosen)[0]


@rule("Nancumsum", "Nancumprod")
def _nan_running(operation: Operation) -> Operand:
    number = {"nan": 1.0} if operation.name.endswith("prod") else {}
    filled = Applied("NanToNum", number, operation.on(operation["x"]))
    return _running(changed(operation, operation.name.removeprefix("Nan").capitalize(), x=filled))


# -- along axes --------------------------------------------------------------------------------------------------------


@rule("ZerosLike", "OnesLike", "FullLike", "Cumsum", "Cumprod", "Prod")
def _running(operation: Operation) -> Applied:
    done = plain(changed(operation, dtype=...))
    return done if operation["dtype"] is None else Applied("Cast", {"dtype": operation["dtype"]}, (done,))


@rule("Norm")
def _norm(operation: Operation) -> Applied:
    order = operation["ord"]
    if isinstance(order, float) and math.isinf(order):
        order = "inf" if order > 0 else "-inf"
    return plain(changed(operation, ord=order))


SHARED = {
    "Quantile": "Quantile",
    "Percentile": "Quantile",
    "Nanquantile": "Nanquantile",
    "Nanpercentile": "Nanquantile",
}


@rule(*SHARED)
def _quantile(operation: Operation) -> Applied:
    q, whole = operation["q"], 1 if operation.name in SHARED.values() else 100
    if not isinstance(q, (int, float)):
        raise UnportedError(f"{operation.name} for several shares, which come before the batch")
    notes: tuple[str, ...] = ()
    if operation.dialect.keeps_quirks and operation["method"] not in (None, "linear"):
        notes = (f"Keras forgets the method of a recorded {operation.name}, and interpolates; so does this",)
        operation = changed(operation, method=...)
    return replace(plain(changed(operation, q=q / whole), SHARED[operation.name]), notes=notes)


SHARES = {"Nanmax": 1.0, "Nanmin": 0.0, "Nanmedian": 0.5}


@rule(*SHARES)
def _nan_order(operation: Operation) -> Applied:
    return plain(operation, "Nanquantile", q=SHARES[operation.name])


@rule("Nanprod")
def _nan_prod(operation: Operation) -> Operand:
    (x,) = operation.on(operation["x"])
    filled = Applied("Where", {"x1": 1.0}, (Applied("Isnan", {}, (x,)), x))
    return _running(changed(operation, "Prod", x=filled))


@rule("Nanvar", "Nanstd")
def _nan_spread(operation: Operation) -> Applied:
    (x,) = operation.on(operation["x"])
    mean = Applied("Nanmean", {"axis": operation.axis(), "keepdims": True}, (x,))
    squares = Applied("Square", {}, (Applied("Subtract", {}, (x, mean)),))
    variance = plain(changed(operation, x=squares), "Nanmean")
    return Applied("Sqrt", {}, (variance,)) if operation.name.endswith("std") else variance


@rule("Average")
def _average(operation: Operation) -> Applied:
    axis, weights = operation.axis(), operation["weights"]
    (x,) = operation.on(operation["x"])
    if weights is None:
        return Applied("Mean", {"axis": axis}, (x,))
    if not isinstance(weights, list) or not all(isinstance(each, (int, float)) for each in weights) or not sum(weights):
        raise UnportedError("Average with weights that are no list of numbers")
    shares = [each / sum(weights) for each in numbers(changed(operation, x=...))["weights"]]
    return plain(Operation("Tensordot", {"x1": x, "x2": shares, "axes": [axis, 0]}))


@rule("LayerNorm")
def _layer_norm(operation: Operation) -> Operand:
    if operation["rms_scaling"]:
        raise UnportedError("LayerNorm with rms_scaling")
    fields = {"axis": operation.axis(-1), "epsilon": operation["epsilon"] or 1e-7, "center": False, "scale": False}
    if fields["axis"] in (-1, [-1]):
        del fields["axis"]
    done = Applied("LayerNormalization", fields, operation.on(operation["x"]))
    return _affine(operation, done, operation["gamma"], operation["beta"], "axis" not in fields)


def _affine(operation: Operation, x: Operand, scale: Any, offset: Any, is_last: bool) -> Operand:
    """``x * scale + offset``, with numbers along the last axis."""
    for kind, value in (("Multiply", scale), ("Add", offset)):
        if value is not None:
            if not is_last or not isinstance(value, list) or [*tensors_in(value)]:
                raise UnportedError(f"{operation.name} with a scale or an offset that is no list along the last axis")
            x = plain(Operation(kind, {"x1": x, "x2": value}))
    return x


@rule("RMSNorm")
def _rms_norm(operation: Operation) -> Operand:
    (x,) = operation.on(operation["x"])
    axis = operation.axis(-1)
    mean = Applied("Mean", {"axis": axis, "keepdims": True}, (Applied("Square", {}, (x,)),))
    root = Applied("Rsqrt", {}, (Applied("Add", {"x2": operation["epsilon"] or 1e-7}, (mean,)),))
    return _affine(operation, Applied("Multiply", {}, (x, root)), operation["scale"], None, axis in (-1, [-1]))


@rule("BatchNorm")
def _batch_norm(operation: Operation) -> Operand:
    """By numbers alone it is a scale and an offset for each channel."""
    mean, variance = operation["mean"], operation["variance"]
    x, rank = operation.on(operation["x"])[0], operation.rank(operation["x"])
    given = [mean, variance, operation["offset"] or [0.0] * len(mean), operation["scale"] or [1.0] * len(mean)]
    is_flat = all(isinstance(each, list) and len(each) == len(mean) for each in given) and not [*tensors_in(given)]
    if not is_flat or operation["axis"] not in (-1, None if rank is None else rank - 1):
        raise UnportedError("BatchNorm whose mean and variance are no lists of numbers along the last axis")
    factors = [s / math.sqrt(v + (operation["epsilon"] or 1e-3)) for v, s in zip(given[1], given[3], strict=True)]
    offsets = [o - m * f for m, o, f in zip(given[0], given[2], factors, strict=True)]
    return _affine(operation, x, factors, offsets, is_last=True)
