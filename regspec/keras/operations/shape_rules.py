"""Operations that are more than the kind of their name: of axes, parts, products and images; and what can't be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from regspec.keras.operations.operation import (
    RULES,
    Entry,
    Operation,
    Source,
    changed,
    mixing,
    numbers,
    plain,
    rule,
    tensors_in,
)
from regspec.keras.values import UnportedError

__all__ = ["RULES"]

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
    x, indices, axis = operation["x"], operation["indices"], operation["axis"]
    if isinstance(x, list) and axis == 0:
        return embedding(operation, x, indices)
    operation.axis()
    operation.on(x)
    if [*tensors_in(indices)]:
        raise mixing(operation.name, "indices that are a tensor")
    return plain(operation)


def embedding(operation: Operation, table: list[Any], indices: Any) -> Entry:
    """The rows of a table of numbers: a frozen layer, whose weights these numbers are."""
    rows = [len(row) if isinstance(row, list) else 0 for row in table]
    if not table or min(rows) < 1 or len({*rows}) > 1 or any(isinstance(row[0], list) for row in table):
        raise UnportedError(f"{operation.name} of an array that is no table")
    fields = {"input_dim": len(table), "output_dim": rows[0], "trainable": False}
    return Entry("Embedding", fields, operation.on(indices), {"embeddings": table})


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


# -- convolutions ------------------------------------------------------------------------------------------------------

# By a kernel of numbers they are frozen layers, whose weights these numbers are: the layers' names of the kernels, and
# which of the last axes of the last kernel has the channels of the output.
CONVOLUTIONS: dict[str, tuple[dict[str, str], int]] = {
    "Conv": ({"kernel": "kernel"}, -1),
    "ConvTranspose": ({"kernel": "kernel"}, -2),
    "DepthwiseConv": ({"kernel": "depthwise"}, -1),
    "SeparableConv": ({"depthwise_kernel": "depthwise", "pointwise_kernel": "pointwise"}, -1),
}
LAYERS = {"ConvTranspose": "Conv{}DTranspose"}


@rule(*CONVOLUTIONS)
def _convolution(operation: Operation) -> Entry:
    names, output = CONVOLUTIONS[operation.name]
    kernels = {own: operation[name] for name, own in names.items()}
    shapes = {own: _shape(operation, kernel) for own, kernel in kernels.items()}
    first, last = next(iter(shapes.values())), [*shapes.values()][-1]
    fields: dict[str, Any] = {"kernel_size": first[:-2], "use_bias": False, "trainable": False}
    if "depthwise" in shapes:
        fields["depth_multiplier"] = first[-1]
    if [*shapes] != ["depthwise"]:
        fields["filters"] = last[output]
    arguments = {key: value for key, value in operation.arguments.items() if key not in (*names, "data_format")}
    kind = LAYERS.get(operation.name, f"{operation.name}{{}}D").format(len(first) - 2)
    entry = plain(Operation(operation.name, _data_format(operation, arguments)), kind, **fields)
    return replace(entry, weights=kernels)


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


# -- what can't be -----------------------------------------------------------------------------------------------------


@rule("Outer", "Vdot", "Ravel", "Flipud", "Vstack", "Vsplit", "Kron", "Diag", "Diagflat", "Nonzero", "Unique")
def _refused(operation: Operation) -> Source:
    raise mixing(operation.name, "the batch as its first axis")
