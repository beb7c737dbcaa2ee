"""Operations that are more than the kind of their name: other names and axes, several entries, or none."""

from __future__ import annotations

import math
from typing import Any

from regspec.keras.operation import (
    RULES,
    Entry,
    Operation,
    Source,
    changed,
    entry_of,
    mixing,
    numbers,
    plain,
    rule,
    tensors_in,
)
from regspec.keras.values import UnportedError
from regspec.spec.activations import ACTIVATIONS

__all__ = ["RULES", "entry_of"]  # which needs the rules here

# -- elementwise -------------------------------------------------------------------------------------------------------

ACTIVATION_CLASSES = """
    Relu Relu6 Sigmoid Tanh Silu Softplus Softsign HardSigmoid HardSilu Selu LogSigmoid LeakyRelu Elu Celu Gelu Glu
    TanhShrink HardTanh HardShrink SoftShrink Threshold Sparsemax Squareplus SparsePlus SparseSigmoid
"""


@rule(*ACTIVATION_CLASSES.split())
def _activation(operation: Operation) -> Entry:
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
    return Entry("Activation", {"activation": {member.name: said} if said else member.name}, (x,))


@rule("Softmax")
def _softmax(operation: Operation) -> Entry:
    operation.axis(-1)
    return plain(operation)


@rule("LogSoftmax")
def _log_softmax(operation: Operation) -> Entry:
    axis = operation.axis(-1)
    (x,) = operation.on(operation["x"])
    if isinstance(axis, int):
        return Entry("Activation", {"activation": "log_softmax" if axis == -1 else {"log_softmax": axis}}, (x,))
    return Entry("Subtract", {}, (x, Entry("Logsumexp", {"axis": axis, "keepdims": True}, (x,))))


@rule("Add", "Subtract", "Multiply", "Maximum", "Minimum")
def _merge(operation: Operation) -> Entry:
    ranks = {operation.rank(each) for each in tensors_in([*operation.arguments.values()])} - {None}
    if len(ranks) > 1:
        raise mixing(operation.name, "tensors of different ranks, which it aligns at their last axes,")
    return plain(operation)


@rule("ConvertToTensor", "Array", "Copy")
def _identity(operation: Operation) -> Source:
    (x,) = operation.on(operation["x"])
    return x if operation["dtype"] is None else Entry("Cast", {"dtype": operation["dtype"]}, (x,))


RANGES = {"int8": (-(2**7), 2**7 - 1), "uint8": (0, 2**8 - 1), "int16": (-(2**15), 2**15 - 1)}


@rule("SaturateCast")
def _saturate_cast(operation: Operation) -> Entry:
    if operation["dtype"] not in RANGES:
        return plain(operation, "Cast")
    low, high = RANGES[operation["dtype"]]
    return plain(
        changed(operation, x=Entry("Clip", {"x_min": low, "x_max": high}, operation.on(operation["x"]))), "Cast"
    )


@rule("Select")
def _select(operation: Operation) -> Source:
    """The first choice whose condition holds."""
    conditions, choices = operation["condlist"], operation["choicelist"]
    if not isinstance(conditions, list) or not isinstance(choices, list) or len(conditions) != len(choices):
        raise UnportedError("Select without a choice for each condition")
    chosen: Any = operation["default"] or 0
    for condition, choice in reversed([*zip(conditions, choices, strict=True)]):
        chosen = plain(Operation("Where", {"condition": condition, "x1": choice, "x2": chosen}))
    return operation.on(chosen)[0]


@rule("Nancumsum", "Nancumprod")
def _nan_running(operation: Operation) -> Source:
    number = {"nan": 1.0} if operation.name.endswith("prod") else {}
    filled = Entry("NanToNum", number, operation.on(operation["x"]))
    return _running(changed(operation, operation.name.removeprefix("Nan").capitalize(), x=filled))


# -- along axes --------------------------------------------------------------------------------------------------------


@rule("ZerosLike", "OnesLike", "FullLike", "Cumsum", "Cumprod", "Prod")
def _running(operation: Operation) -> Entry:
    done = plain(changed(operation, dtype=...))
    return done if operation["dtype"] is None else Entry("Cast", {"dtype": operation["dtype"]}, (done,))


@rule("Norm")
def _norm(operation: Operation) -> Entry:
    order = operation["ord"]
    if isinstance(order, float) and math.isinf(order):
        order = "inf" if order > 0 else "-inf"
    return plain(changed(operation, ord=order))


@rule("Quantile", "Percentile")
def _quantile(operation: Operation) -> Entry:
    q, whole = operation["q"], {"Percentile": 100}.get(operation.name, 1)
    if not isinstance(q, (int, float)):
        raise UnportedError(f"{operation.name} for several shares, which come before the batch")
    if operation.dialect.keeps_quirks and operation["method"] not in (None, "linear"):
        operation.dialect.note(
            f"Keras forgets the method of a recorded {operation.name}, and interpolates; so does this"
        )
        operation = changed(operation, method=...)
    return plain(changed(operation, q=q / whole), "Quantile")


@rule("Average")
def _average(operation: Operation) -> Entry:
    axis, weights = operation.axis(), operation["weights"]
    (x,) = operation.on(operation["x"])
    if weights is None:
        return Entry("Mean", {"axis": axis}, (x,))
    if not isinstance(weights, list) or not all(isinstance(each, (int, float)) for each in weights) or not sum(weights):
        raise UnportedError("Average with weights that are no list of numbers")
    shares = [each / sum(weights) for each in numbers(changed(operation, x=...))["weights"]]
    return plain(Operation("Tensordot", {"x1": x, "x2": shares, "axes": [axis, 0]}))


@rule("LayerNorm")
def _layer_norm(operation: Operation) -> Source:
    if operation["rms_scaling"]:
        raise UnportedError("LayerNorm with rms_scaling")
    fields = {"axis": operation.axis(-1), "epsilon": operation["epsilon"] or 1e-7, "center": False, "scale": False}
    if fields["axis"] in (-1, [-1]):
        del fields["axis"]
    done = Entry("LayerNormalization", fields, operation.on(operation["x"]))
    return _affine(operation, done, operation["gamma"], operation["beta"], "axis" not in fields)


def _affine(operation: Operation, x: Source, scale: Any, offset: Any, is_last: bool) -> Source:
    """``x * scale + offset``, with numbers along the last axis."""
    for kind, value in (("Multiply", scale), ("Add", offset)):
        if value is not None:
            if not is_last or not isinstance(value, list) or [*tensors_in(value)]:
                raise UnportedError(f"{operation.name} with a scale or an offset that is no list along the last axis")
            x = plain(Operation(kind, {"x1": x, "x2": value}))
    return x


@rule("RMSNorm")
def _rms_norm(operation: Operation) -> Source:
    (x,) = operation.on(operation["x"])
    axis = operation.axis(-1)
    mean = Entry("Mean", {"axis": axis, "keepdims": True}, (Entry("Square", {}, (x,)),))
    root = Entry("Rsqrt", {}, (Entry("Add", {"x2": operation["epsilon"] or 1e-7}, (mean,)),))
    return _affine(operation, Entry("Multiply", {}, (x, root)), operation["scale"], None, axis in (-1, [-1]))


@rule("BatchNorm")
def _batch_norm(operation: Operation) -> Source:
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


# -- axes and parts ----------------------------------------------------------------------------------------------------


@rule("Reshape")
def _reshape(operation: Operation) -> Entry:
    shape = operation["newshape"]
    shape = shape if isinstance(shape, list) else [shape]
    if shape[:1] not in ([-1], [None]) or [*tensors_in(shape)]:
        what = "a shape that does not begin with -1, for the batch,"
        raise mixing(operation.name, what)
    return Entry("Reshape", {"target_shape": shape[1:]}, operation.on(operation["x"]))


@rule("Transpose")
def _transpose(operation: Operation) -> Entry:
    order = operation["axes"]
    rank = operation.rank(operation["x"]) or (len(order) if isinstance(order, list) else 0)
    order = [axis % rank for axis in order] if isinstance(order, list) and rank else []
    if order[:1] != [0]:
        raise mixing(operation.name, f"the axes {operation['axes']}")
    return Entry("Permute", {"dims": order[1:]}, operation.on(operation["x"]))


FIXED_AXES = {"Hstack": 1, "Dstack": 2, "Hsplit": 1, "Dsplit": 2}


@rule("Concatenate", "Append", "Hstack", "Dstack")
def _concatenate(operation: Operation) -> Entry:
    parts = operation["xs"] if "xs" in operation.arguments else [operation["x1"], operation["x2"]]
    if not isinstance(parts, list):
        raise UnportedError(f"{operation.name} of what is no list of tensors")
    axis = FIXED_AXES.get(operation.name) or operation.axis(0)
    return Entry("Concatenate", {"axis": axis}, operation.on(*parts))


@rule("Hsplit", "Dsplit")
def _split(operation: Operation) -> Entry:
    return plain(changed(operation, axis=FIXED_AXES[operation.name]), "Split")


@rule("Fliplr")
def _fliplr(operation: Operation) -> Entry:
    return plain(changed(operation, axis=1), "Flip")


def key_of(key: Any) -> list[Any]:
    """A key of Python's as a spec writes it."""
    return [
        _slice(each) if isinstance(each, slice) else "..." if each is ... else each
        for each in (key if isinstance(key, list) else [key])
    ]


def _slice(part: slice) -> str:
    start, stop, step = ("" if each is None else str(each) for each in (part.start, part.stop, part.step))
    return f"{start}:{stop}" + (f":{step}" if step not in ("", "1") else "")


@rule("GetItem")
def _get_item(operation: Operation) -> Entry:
    if [*tensors_in(operation["key"])]:
        raise UnportedError("GetItem by an index that is a tensor")
    return Entry("GetItem", {"key": key_of(operation["key"])}, operation.on(operation["x"]))


@rule("Take")
def _take(operation: Operation) -> Entry:
    operation.axis()
    operation.on(operation["x"])
    if [*tensors_in(operation["indices"])]:
        raise mixing(operation.name, "indices that are a tensor")
    return plain(operation)


@rule("TakeAlongAxis")
def _take_along_axis(operation: Operation) -> Entry:
    operation.axis()
    operation.on(operation["x"], operation["indices"])
    return plain(operation)


@rule("OneHot", "MultiHot")
def _hot(operation: Operation) -> Entry:
    x = operation["x"] or operation["inputs"]
    return plain(changed(operation, x=x, inputs=...))


@rule("Pad")
def _pad(operation: Operation) -> Entry:
    widths = operation["pad_width"]
    if isinstance(widths, list) and len(widths) == 1 and operation.rank(operation["x"]):
        widths = widths * operation.rank(operation["x"])  # type: ignore[operator]
    return plain(changed(operation, pad_width=widths))


# -- products ----------------------------------------------------------------------------------------------------------


@rule("Dot", "Inner")
def _dot(operation: Operation) -> Entry:
    x, array = operation.on(operation["x1"])[0], operation["x2"]
    if [*tensors_in(array)]:
        raise mixing(operation.name, "two tensors")
    if not isinstance(array, list):
        return plain(operation, "Multiply")
    met = {"Dot": -2}.get(operation.name, -1)  # the axis of the array that is summed over
    is_matrix = isinstance(array[0], list)
    if not is_matrix or (met == -2 and not isinstance(array[0][0], list)):
        return plain(operation, "Matmul")
    return Entry("Tensordot", {"x2": numbers(operation)["x2"], "axes": [-1, met]}, (x,))


@rule("Tensordot")
def _tensordot(operation: Operation) -> Entry:
    operation.on(operation["x1"])
    if [*tensors_in(operation["x2"])]:
        raise mixing(operation.name, "two tensors")
    return plain(operation)


@rule("Einsum")
def _einsum(operation: Operation) -> Entry:
    operands = [value for name, value in operation.arguments.items() if name != "subscripts"]
    inputs = tuple(each for each in operands if isinstance(each, (tuple, Entry)))
    fields: dict[str, Any] = {"subscripts": operation["subscripts"]}
    if len(inputs) < len(operands):
        known = numbers(operation, arrays=operation.arguments)
        fields["operands"] = [
            None if isinstance(value, (tuple, Entry)) else known[name]
            for name, value in operation.arguments.items()
            if name != "subscripts"
        ]
    return Entry("Einsum", fields, inputs)


@rule("DotProductAttention")
def _attention(operation: Operation) -> Entry:
    if operation["attn_logits_soft_cap"] is not None:
        raise UnportedError("DotProductAttention with attn_logits_soft_cap")
    mask, bias = operation["mask"], operation["bias"]
    if mask is not None:  # as Keras has it, so that a step that sees none sees all alike
        bias = plain(Operation("Where", {"condition": mask, "x1": 0.0, "x2": -2.372671e38}))
    return plain(changed(operation, bias=bias, mask=..., attn_logits_soft_cap=...))


# -- images ------------------------------------------------------------------------------------------------------------


def _data_format(operation: Operation, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with the data format, where it is not the model's."""
    own = operation["data_format"] or "channels_last"
    return fields if own == operation.dialect.data_format else {**fields, "data_format": own}


@rule("DepthToSpace", "SpaceToDepth", "ExtractPatches")
def _blocks(operation: Operation) -> Entry:
    arguments = _data_format(
        operation, {key: value for key, value in operation.arguments.items() if key != "data_format"}
    )
    if operation["dilation_rate"] not in (None, 1, [1, 1]):
        raise UnportedError("ExtractPatches with a dilation_rate")
    return plain(Operation(operation.name, {**arguments, "dilation_rate": None}))


@rule("Resize")
def _resize(operation: Operation) -> Entry:
    size = operation["size"]
    height, width = size if isinstance(size, list) else (size, size)
    arguments = changed(operation, size=..., data_format=...).arguments
    return plain(Operation("Resize", _data_format(operation, arguments)), "Resizing", height=height, width=width)


@rule("MaxPool", "AveragePool", "AdaptiveMaxPool", "AdaptiveAveragePool")
def _pool(operation: Operation) -> Entry:
    size = operation["output_size" if operation.name.startswith("Adaptive") else "pool_size"]
    rank = operation.rank(operation["inputs"])
    spatial = len(size) if isinstance(size, list) else None if rank is None else rank - 2
    if spatial is None:
        raise UnportedError(f"{operation.name} of a tensor whose number of axes is not known")
    arguments = _data_format(operation, changed(operation, data_format=...).arguments)
    return plain(Operation(operation.name, arguments), f"{operation.name}ing{spatial}D")


@rule("RGBToGrayscale")
def _grayscale(operation: Operation) -> Entry:
    shares, is_first = [0.2989, 0.587, 0.114], operation["data_format"] == "channels_first"
    axis = -3 if is_first else -1
    weighted = Entry("Multiply", {"x2": [[[each]] for each in shares] if is_first else shares},
                     operation.on(operation["images"]))  # fmt: skip
    return Entry("Sum", {"axis": axis, "keepdims": True}, (weighted,))


@rule("PadImages", "CropImages")
def _sides(operation: Operation) -> Entry:
    """Cells added or taken off, of which one side may follow from the size that is wanted."""
    is_crop = operation.name.startswith("Crop")
    ending = "cropping" if is_crop else "padding"
    shape = operation.shapes.get(operation["images"]) or [None] * 4
    is_first = operation["data_format"] == "channels_first"
    sides = []
    for size, (before, after, target) in zip(
        shape[2:4] if is_first else shape[1:3], (("top", "bottom", "height"), ("left", "right", "width")), strict=True
    ):
        first, last, wanted = (
            operation[f"{before}_{ending}"],
            operation[f"{after}_{ending}"],
            operation[f"target_{target}"],
        )
        if first is None or last is None:
            if size is None or wanted is None:
                raise UnportedError(f"{operation.name} to a size, of images whose size is not known")
            rest = (size - wanted if is_crop else wanted - size) - (first or 0) - (last or 0)
            first, last = (rest if first is None else first), (rest if last is None else last)
        sides.append([first, last])
    kind = "Cropping2D" if is_crop else "ZeroPadding2D"
    return Entry(kind, _data_format(operation, {ending: sides}), operation.on(operation["images"]))


# -- what can't be -----------------------------------------------------------------------------------------------------


@rule("Outer", "Vdot", "Ravel", "Flipud", "Vstack", "Vsplit", "Kron", "Diag", "Diagflat", "Nonzero", "Unique")
def _refused(operation: Operation) -> Source:
    raise mixing(operation.name, "the batch as its first axis")


@rule("Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose")
def _convolution(operation: Operation) -> Source:
    raise UnportedError(f"{operation.name} by a kernel that is no weight of a layer")
