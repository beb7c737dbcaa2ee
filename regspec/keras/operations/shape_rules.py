"""Operations that need more than the kind of their name: axes, parts, products, images; and refused ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from regspec.keras.configs.values import UnportedError
from regspec.keras.operations.operation import (
    RULES,
    Applied,
    Operand,
    Operation,
    changed,
    mixing,
    numbers,
    plain,
    rule,
    tensors_in,
)

__all__ = ["RULES"]

# -- axes and parts ----------------------------------------------------------------------------------------------------


@rule("Reshape")
def _reshape(operation: Operation) -> Applied:
    shape = operation["newshape"]
    shape = shape if isinstance(shape, list) else [shape]
    if shape[:1] not in ([-1], [None]) or [*tensors_in(shape)]:
        what = "a shape that does not begin with -1, for the batch,"
        raise mixing(operation.name, what)
    return Applied("Reshape", {"target_shape": shape[1:]}, operation.on(operation["x"]))


@rule("Transpose")
def _transpose(operation: Operation) -> Applied:
    order = operation["axes"]
    rank = operation.rank(operation["x"]) or (len(order) if isinstance(order, list) else 0)
    order = [axis % rank for axis in order] if isinstance(order, list) and rank else []
    if order[:1] != [0]:
        raise mixing(operation.name, f"the axes {operation['axes']}")
    return Applied("Permute", {"dims": order[1:]}, operation.on(operation["x"]))


FIXED_AXES = {"Hstack": 1, "Dstack": 2, "Hsplit": 1, "Dsplit": 2}


@rule("Cross")
def _cross(operation: Operation) -> Applied:
    rank = operation.rank(operation["x1"])
    axes = [operation.arguments.get(name, -1) for name in ("axisa", "axisb", "axisc")]
    if (axis := operation.arguments.get("axis")) is not None:
        axes = [axis]  # it wins
    if len({axis % rank if rank else axis for axis in axes}) > 1:
        raise UnportedError(f"Cross along the axes {', '.join(map(str, axes))}, which are not one")
    return plain(changed(operation, axis=axes[0], axisa=..., axisb=..., axisc=...))


@rule("Concatenate", "Append", "Hstack", "Dstack")
def _concatenate(operation: Operation) -> Applied:
    parts = operation["xs"] if "xs" in operation.arguments else [operation["x1"], operation["x2"]]
    if not isinstance(parts, list):
        raise UnportedError(f"{operation.name} of what is no list of tensors")
    axis = FIXED_AXES.get(operation.name) or operation.axis(0)
    return Applied("Concatenate", {"axis": axis}, operation.on(*parts))


@rule("Hsplit", "Dsplit")
def _split(operation: Operation) -> Applied:
    return plain(changed(operation, axis=FIXED_AXES[operation.name]), "Split")


@rule("Fliplr")
def _fliplr(operation: Operation) -> Applied:
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
def _get_item(operation: Operation) -> Applied:
    if [*tensors_in(operation["key"])]:
        raise UnportedError("GetItem by an index that is a tensor")
    return Applied("GetItem", {"key": key_of(operation["key"])}, operation.on(operation["x"]))


@rule("Take")
def _take(operation: Operation) -> Applied:
    x, indices, axis = operation["x"], operation["indices"], operation["axis"]
    if isinstance(x, list) and axis == 0:
        return embedding(operation, x, indices)
    operation.axis()
    operation.on(x)
    if [*tensors_in(indices)]:
        raise mixing(operation.name, "indices that are a tensor")
    return plain(operation)


def embedding(operation: Operation, table: list[Any], indices: Any) -> Applied:
    """The rows of a table of numbers: a frozen layer, whose weights these numbers are."""
    rows = [len(row) if isinstance(row, list) else 0 for row in table]
    if not table or min(rows) < 1 or len({*rows}) > 1 or any(isinstance(row[0], list) for row in table):
        raise UnportedError(f"{operation.name} of an array that is no table")
    fields = {"input_dim": len(table), "output_dim": rows[0], "trainable": False}
    return Applied("Embedding", fields, operation.on(indices), {"embeddings": table})


@rule("TakeAlongAxis")
def _take_along_axis(operation: Operation) -> Applied:
    operation.axis()
    operation.on(operation["x"], operation["indices"])
    return plain(operation)


@rule("OneHot", "MultiHot")
def _hot(operation: Operation) -> Applied:
    x = operation["x"] or operation["inputs"]
    return plain(changed(operation, x=x, inputs=...))


@rule("Pad")
def _pad(operation: Operation) -> Applied:
    widths, rank = operation["pad_width"], operation.rank(operation["x"])
    if isinstance(widths, list) and len(widths) == 1 and rank:
        widths = widths * rank
    return plain(changed(operation, pad_width=widths))


# -- products ----------------------------------------------------------------------------------------------------------


@rule("Dot", "Inner")
def _dot(operation: Operation) -> Applied:
    x, array = operation.on(operation["x1"])[0], operation["x2"]
    if [*tensors_in(array)]:
        raise mixing(operation.name, "two tensors")
    if not isinstance(array, list):
        return plain(operation, "Multiply")
    met = {"Dot": -2}.get(operation.name, -1)  # the axis of the array that is summed over
    is_matrix = isinstance(array[0], list)
    if not is_matrix or (met == -2 and not isinstance(array[0][0], list)):
        return plain(operation, "Matmul")
    return Applied("Tensordot", {"x2": numbers(operation)["x2"], "axes": [-1, met]}, (x,))


@rule("Tensordot")
def _tensordot(operation: Operation) -> Applied:
    operation.on(operation["x1"])
    if [*tensors_in(operation["x2"])]:
        raise mixing(operation.name, "two tensors")
    return plain(operation)


@rule("Einsum")
def _einsum(operation: Operation) -> Applied:
    operands = [value for name, value in operation.arguments.items() if name != "subscripts"]
    inputs = tuple(each for each in operands if isinstance(each, (tuple, Applied)))
    fields: dict[str, Any] = {"subscripts": operation["subscripts"]}
    if len(inputs) < len(operands):
        known = numbers(operation, arrays=operation.arguments)
        fields["operands"] = [
            None if isinstance(value, (tuple, Applied)) else known[name]
            for name, value in operation.arguments.items()
            if name != "subscripts"
        ]
    return Applied("Einsum", fields, inputs)


@rule("DotProductAttention")
def _attention(operation: Operation) -> Applied:
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
    return fields if own == "channels_last" else {**fields, "data_format": own}


@rule("DepthToSpace", "SpaceToDepth", "ExtractPatches")
def _blocks(operation: Operation) -> Applied:
    arguments = _data_format(
        operation, {key: value for key, value in operation.arguments.items() if key != "data_format"}
    )
    if operation["dilation_rate"] not in (None, 1, [1, 1]):
        raise UnportedError("ExtractPatches with a dilation_rate")
    return plain(Operation(operation.name, {**arguments, "dilation_rate": None}))


@rule("Resize")
def _resize(operation: Operation) -> Applied:
    size = operation["size"]
    height, width = size if isinstance(size, list) else (size, size)
    arguments = changed(operation, size=..., data_format=...).arguments
    return plain(Operation("Resize", _data_format(operation, arguments)), "Resizing", height=height, width=width)


@rule("MaxPool", "AveragePool", "AdaptiveMaxPool", "AdaptiveAveragePool")
def _pool(operation: Operation) -> Applied:
    size = operation["output_size" if operation.name.startswith("Adaptive") else "pool_size"]
    rank = operation.rank(operation["inputs"])
    spatial = len(size) if isinstance(size, list) else None if rank is None else rank - 2
    if spatial is None:
        raise UnportedError(f"{operation.name} of a tensor whose number of axes is not known")
    arguments = _data_format(operation, changed(operation, data_format=...).arguments)
    return plain(Operation(operation.name, arguments), f"{operation.name}ing{spatial}D")


@rule("RGBToGrayscale")
def _grayscale(operation: Operation) -> Applied:
    shares, is_first = [0.2989, 0.587, 0.114], operation["data_format"] == "channels_first"
    axis = -3 if is_first else -1
    weighted = Applied("Multiply", {"x2": [[[each]] for each in shares] if is_first else shares},
                     operation.on(operation["images"]))  # fmt: skip
    return Applied("Sum", {"axis": axis, "keepdims": True}, (weighted,))


@rule("PadImages", "CropImages")
def _sides(operation: Operation) -> Applied:
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
    return Applied(kind, _data_format(operation, {ending: sides}), operation.on(operation["images"]))


# -- convolutions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Convolution:
    """A convolution by a kernel of numbers, which becomes a frozen layer whose weights these numbers are."""

    kind: str  # for each rank
    kernels: dict[str, str]  # the layer's names of the kernels, by those of the operation
    outputs: int | None = -1  # the axis of the last kernel that has the channels of the output; None where none has
    is_depthwise: bool = False  # whether the last axis of the first kernel is how many channels each one gives


CONVOLUTIONS = {
    "Conv": _Convolution("Conv{}D", {"kernel": "kernel"}),
    "ConvTranspose": _Convolution("Conv{}DTranspose", {"kernel": "kernel"}, outputs=-2),
    "DepthwiseConv": _Convolution("DepthwiseConv{}D", {"kernel": "depthwise"}, outputs=None, is_depthwise=True),
    "SeparableConv": _Convolution(
        "SeparableConv{}D",
        {"depthwise_kernel": "depthwise", "pointwise_kernel": "pointwise"},
        is_depthwise=True,
    ),
}


@rule(*CONVOLUTIONS)
def _convolution(operation: Operation) -> Applied:
    own = CONVOLUTIONS[operation.name]
    kernels = {weight: operation[name] for name, weight in own.kernels.items()}
    shapes = [_shape(operation, kernel) for kernel in kernels.values()]
    first, last = shapes[0], shapes[-1]
    fields: dict[str, Any] = {"kernel_size": first[:-2], "use_bias": False, "trainable": False}
    if own.is_depthwise:
        fields["depth_multiplier"] = first[-1]
    if own.outputs is not None:
        fields["filters"] = last[own.outputs]
    arguments = {key: value for key, value in operation.arguments.items() if key not in (*own.kernels, "data_format")}
    whole = Operation(operation.name, _data_format(operation, arguments))
    return replace(plain(whole, own.kind.format(len(first) - 2), **fields), weights=kernels)


def _shape(operation: Operation, kernel: Any) -> list[int]:
    """The shape of a kernel, which must be numbers."""
    shape: list[int] = []
    each = kernel
    while isinstance(each, list) and each:
        shape.append(len(each))
        each = each[0]
    if not isinstance(each, (int, float)) or len(shape) < 3:
        raise UnportedError(f"{operation.name} by a kernel that is no array of numbers")
    return shape


# -- what can't be ported ----------------------------------------------------------------------------------------------


@rule("Outer", "Vdot", "Ravel", "Flipud", "Vstack", "Vsplit", "Kron", "Diag", "Diagflat", "Nonzero", "Unique")
def _refused(operation: Operation) -> Operand:
    raise mixing(operation.name, "the batch as its first axis")
