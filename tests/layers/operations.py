"""The rows of operations: what Keras records as layers for ``x + 1`` or ``keras.ops.mean(x, axis=1)``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .row import Row, row


def spanned(kind: str, low: float, high: float, shape: tuple[int, ...] = (7, 5), **fields: Any) -> Row:
    """A row whose input lies within a span."""
    return Row(kind, fields, (shape,), span=(low, high))


def mixed(kind: str, dtypes: str, *shapes: tuple[int, ...], **fields: Any) -> Row:
    """A row whose inputs are of several types."""
    return Row(kind, fields, shapes, dtypes=tuple(dtypes.split()))


def _functions() -> list[Row]:
    anywhere = """
        Arcsinh Arctan Cbrt Ceil Cos Cosh Deg2rad Erf Erfc Exp Exp2 Expm1 Floor I0 Rad2deg Reciprocal Sin Sinc Sinh Tan
        Absolute Sign Square Trunc Negative Round Isfinite Isinf Isneginf Isposinf Signbit LogicalNot OnesLike ZerosLike
    """
    integers = "Sin Exp Sqrt Floor Ceil Absolute Sign Square Negative Round Trunc Reciprocal LogicalNot ZerosLike"
    return [
        *(row(kind, (7, 5)) for kind in anywhere.split()),
        *(spanned(kind, 0.1, 4.0) for kind in ("Log", "Log10", "Log1p", "Log2", "Rsqrt", "Sqrt")),
        *(spanned(kind, -0.9, 0.9) for kind in ("Arccos", "Arcsin", "Arctanh", "Erfinv")),
        spanned("Arccosh", 1.1, 4.0),
        *(row(kind, (7, 5), _dtype="int32") for kind in integers.split()),
        *(row(kind, (7, 5), _dtype="bool") for kind in ("Sin", "Square", "LogicalNot")),
        row("Round", (7, 5), decimals=2),
        row("Round", (7, 5), decimals=-1),
        row("Clip", (7, 5), x_min=-0.5, x_max=0.7),
        row("Clip", (7, 5), x_min=1, x_max=3, _dtype="int32"),
        row("Clip", (7, 5), x_min=0.5, x_max=2.5, _dtype="int32"),
        Row("Isnan", {}, ((7, 5),), has_nan=True),
        Row("NanToNum", {"nan": 0.5}, ((7, 5),), has_nan=True),
        row("NanToNum", (7, 5), posinf=2.0, neginf=-3.0),
        row("IsIn", (7, 5), x2=[1, 3], _dtype="int32"),
        row("IsIn", (7, 5), x2=[[0, 2]], invert=True, _dtype="int32"),
        row("BitwiseInvert", (7, 5), _dtype="int32"),
        row("BitwiseAnd", (7, 5), x2=[2], _dtype="int32"),
        row("FullLike", (7, 5), fill_value=2.5),
        row("FullLike", (7, 5), fill_value=2, _dtype="int32"),
        row("StopGradient", (7, 5)),
        *(row("Cast", (7, 5), dtype=dtype) for dtype in ("int32", "bool", "float64", "float16")),
        row("Cast", (7, 5), dtype="float32", _dtype="int32"),
        row("Cast", (7, 5), dtype="float32", _dtype="bool"),
    ]


def _pairs() -> list[Row]:
    two = ((7, 5), (7, 5))
    arithmetic = ("Add", "Subtract", "Multiply", "Maximum", "Minimum", "FloorDivide", "Mod", "Divide")
    comparisons = ("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual")
    rows = [
        *(row(kind, (7, 5), x2=1.5) for kind in arithmetic),
        *(row(kind, (7, 5), x1=1.5) for kind in arithmetic),
        *(row(kind, (7, 5), x2=[0.5, 1.0, -1.5, 2.0, 3.0]) for kind in arithmetic),
        *(row(kind, (7, 5), x2=2, _dtype="int32") for kind in arithmetic),
        *(row(kind, (7, 5), x2=1.5, _dtype="int32") for kind in arithmetic[:-3]),
        *(row(kind, (7, 5), x2=[[1], [2], [3], [4], [5], [6], [7]], _dtype="int32") for kind in arithmetic[:-1]),
        *(row(kind, (7, 5), x2=1, _dtype="bool") for kind in ("Add", "Subtract", "Multiply")),
        *(mixed(kind, "bool float32", *two) for kind in ("Add", "Subtract", "Multiply", "Maximum")),
        *(mixed(kind, "int32 float32", *two) for kind in ("Add", "Divide")),
        *(mixed(kind, "uint8 int8", *two) for kind in ("Add",)),
        *(row(kind, *two) for kind in ("FloorDivide", "Mod", "Divide", "DivideNoNan", "Fmod", "Fmax", "Fmin")),
        row("Divide", (7, 5), (1, 5)),
        row("Subtract", (7, 5), x1=[[1.0, 2.0, 3.0, 4.0, 5.0]]),
        row("Multiply", (7, 1), x2=[1.0, 2.0, 3.0]),
        *(row(kind, *two) for kind in ("Arctan2", "Hypot", "Logaddexp", "Logaddexp2", "Heaviside")),
        mixed("Ldexp", "float32 int32", *two),
        *(row(kind, (7, 5), x2=2.0) for kind in ("Arctan2", "Logaddexp", "Fmod", "Fmax", "Fmin", "DivideNoNan")),
        *(row(kind, (7, 5), x1=2.0) for kind in ("Arctan2", "Logaddexp2", "Fmod", "DivideNoNan")),
        row("Hypot", (7, 5), x2=[2.0]),
        row("DivideNoNan", (7, 5), x2=0),
        row("DivideNoNan", (7, 5), (7, 5), _dtype="int32"),
        row("Power", (7, 5), x2=2),
        row("Power", (7, 5), x1=2.5),
        row("Power", (7, 5), x2=3, _dtype="int32"),
        Row("Power", {"x2": -0.5}, ((7, 5),), span=(0.1, 3.0)),
        Row("Power", {}, two, span=(0.1, 3.0)),
        row("Power", (7, 5), x1=-2, _dtype="int32"),
        *(row(kind, (7, 5), x2=0.2) for kind in comparisons),
        *(row(kind, (7, 5), x1=0.2) for kind in comparisons),
        *(row(kind, *two, _dtype="int32") for kind in comparisons),
        row("Equal", (7, 5), x2=True, _dtype="bool"),
        row("Greater", (7, 5), x2=[0.0, 1.0, 2.0, -1.0, 0.5]),
        row("Isclose", (7, 5), (7, 5), rtol=0.5, atol=0.1),
        row("Isclose", (7, 5), x2=2, atol=1.0),
        *(row(kind, *two, _dtype="bool") for kind in ("LogicalAnd", "LogicalOr", "LogicalXor")),
        *(mixed(kind, "bool int32", *two) for kind in ("LogicalAnd", "LogicalOr", "LogicalXor")),
        row("LogicalAnd", (7, 5), x2=[1, 0, 2, 0, 1], _dtype="int32"),
        *(row(kind, *two, _dtype="int32") for kind in ("BitwiseAnd", "BitwiseOr", "BitwiseXor", "Gcd", "Lcm")),
        *(row(kind, (7, 5), x2=2, _dtype="int32") for kind in ("BitwiseLeftShift", "BitwiseRightShift")),
    ]
    return [
        *(replace(each, high=9, has_gradient=each.kind not in ("FloorDivide", "Heaviside")) for each in rows),
        mixed("Where", "bool float32 float32", *two, (7, 5)),
        mixed("Where", "bool float32", *two, x2=-1.0),
        mixed("Where", "bool float32", *two, x1=0),
        mixed("Where", "int32 float32", *two, x2=[1.0, 2.0, 3.0, 4.0, 5.0]),
        row("Where", (7, 5), x1=1, x2=0, _dtype="bool"),
        row("Where", (7, 5), x1=1.0, x2=0, _dtype="bool"),
        mixed("Where", "bool int32", (7, 5), (7, 5), x2=1.5),
        mixed("Where", "bool float32 float32", (7, 1), (7, 5), (1, 5)),
    ]


def _reductions() -> list[Row]:
    floating = "Sum Mean Max Min Prod Std Var Logsumexp Ptp Median Norm Any All"
    integers = "Sum Mean Max Min Prod Std Var Logsumexp Ptp Median Norm Any All"
    return [
        *(row(kind, (7, 5), axis=1) for kind in floating.split()),
        *(row(kind, (4, 7, 5), axis=[1, 3], keepdims=True) for kind in floating.split()),
        *(row(kind, (4, 7, 5), axis=[-1, 2]) for kind in floating.split()),
        *(row(kind, (7, 5), axis=1, _dtype="int32") for kind in integers.split()),
        *(row(kind, (7, 5), axis=-1, _dtype="bool") for kind in ("Sum", "Mean", "Any", "All", "Prod")),
        row("Sum", (7, 5), axis=1, _dtype="int64"),
        row("Sum", (7, 5), axis=1, _dtype="uint8"),
        row("Max", (7, 5), axis=1, initial=0.5),
        row("Min", (7, 5), axis=2, initial=-0.5),
        row("Max", (7, 5), axis=1, initial=3, _dtype="int32"),
        # Keras's torch backend reverses the axes that remain
        Row("CountNonzero", {"axis": [1, 2]}, ((4, 7, 5),), "int32", has_reference=False),
        Row("CountNonzero", {"axis": 1}, ((7, 5),), has_reference=False),
        *(Row(kind, {"axis": 2}, ((7, 5),), has_nan=True) for kind in ("Nansum", "Nanmean")),
        row("Quantile", (7, 5), axis=1, q=0.3),
        row("Quantile", (4, 7, 5), axis=[1, 3], q=0.3, keepdims=True),
        # Keras's operation forgets its method
        *(
            Row("Quantile", {"axis": 2, "q": 0.3, "method": method}, ((7, 5),), has_reference=False)
            for method in ("lower", "higher", "nearest", "midpoint")
        ),
        Row("Nanquantile", {"axis": 1, "q": 0.7}, ((7, 5),), has_nan=True),
        Row("Nanquantile", {"axis": [1, 3], "q": 0.2, "keepdims": True}, ((4, 7, 5),), has_nan=True),
        row("Norm", (7, 5), axis=2, ord=1),
        row("Norm", (7, 5), axis=2, ord="inf"),
        row("Norm", (7, 5), axis=[1, 2], ord="fro"),
        row("Norm", (7, 5), axis=[2, 1], ord=1, keepdims=True),
        row("Norm", (7, 5), axis=[1, 2], ord="nuc"),
        row("Moments", (7, 5), axes=1),
        row("Moments", (4, 7, 5), axes=[1, 2], keepdims=True),
    ]


def _along() -> list[Row]:
    return [
        *(row(kind, (7, 5), axis=1) for kind in ("Cumsum", "Cumprod", "Sort", "Argsort", "Argmax", "Argmin", "Diff")),
        *(row(kind, (7, 5), axis=-1) for kind in ("Cumsum", "Sort", "Argsort", "Argmax", "Diff", "Trapezoid")),
        *(row(kind, (7, 5), axis=1, _dtype="int32") for kind in ("Cumsum", "Cumprod", "Sort", "Argsort", "Diff")),
        *(row(kind, (7, 5), axis=1, _dtype="bool") for kind in ("Cumsum", "Argmax", "Argsort")),
        *(row(kind, (4, 7, 5), axis=2, keepdims=True) for kind in ("Argmax", "Argmin")),
        Row("Argmax", {"axis": 2, "dtype": "int64"}, ((7, 5),), has_reference=False),
        row("Diff", (7, 5), n=3, axis=1),
        row("TopK", (7, 5), k=2),
        row("TopK", (7, 5), k=5, _dtype="int32"),
        row("Normalize", (7, 5)),
        row("Normalize", (7, 5), axis=1, order=3),
        row("Normalize", (4, 7, 5), axis=[1, 3], epsilon=0.1),
        row("Digitize", (7, 5), bins=[-1.0, 0.0, 0.5]),
        row("Digitize", (7, 5), bins=[0, 2, 3], _dtype="int32"),
        row("SearchSorted", (7, 5), sorted_sequence=[-1.0, 0.0, 0.5]),
        row("SearchSorted", (7, 5), sorted_sequence=[0, 2, 3], side="right", _dtype="int64"),
        row("Trapezoid", (7, 5), axis=1, dx=0.5),
        row("ExtractSequences", (2, 11), sequence_length=4, sequence_stride=3),
    ]


def _rearranged() -> list[Row]:
    return [
        row("ExpandDims", (7, 5), axis=1),
        row("ExpandDims", (7, 5), axis=-1),
        row("ExpandDims", (7, 5), axis=[1, 4], _dtype="int32"),
        row("Squeeze", (1, 7, 1), axis=1),
        row("Squeeze", (1, 7, 1)),
        row("Squeeze", (1, 7, 1), axis=[1, -1]),
        row("Squeeze", (7, 5)),
        row("Swapaxes", (4, 7, 5), axis1=1, axis2=-1),
        row("Moveaxis", (4, 7, 5), source=1, destination=-1),
        row("Moveaxis", (4, 7, 5), source=[1, 2], destination=[3, 1]),
        row("Flip", (7, 5), axis=1),
        row("Flip", (4, 7, 5), axis=[1, 3]),
        row("Roll", (7, 5), shift=2, axis=1),
        row("Roll", (4, 7, 5), shift=[2, -1], axis=[1, 3]),
        row("Rot90", (4, 7, 5), axes=[1, 2]),
        row("Rot90", (4, 7, 5), k=2, axes=[3, 1]),
        row("Repeat", (7, 5), repeats=3, axis=1),
        # which Keras's torch backend can't take
        Row("Repeat", {"repeats": [1, 2, 0, 3, 1], "axis": -1}, ((7, 5),), has_reference=False),
        row("Tile", (7, 5), repeats=[1, 2, 3]),
        row("Tile", (7, 5), repeats=2, _dtype="int32"),
        Row("BroadcastTo", {"shape": [None, 4, 7, 5]}, ((1, 7, 1),), has_reference=False),
        row("Pad", (7, 5), pad_width=[[0, 0], [1, 2], [0, 3]]),
        row("Pad", (7, 5), pad_width=[[0, 0], [1, 2], [0, 0]], constant_values=2.5),
        row("Pad", (7, 5), pad_width=[[0, 0], [3, 2], [0, 1]], mode="reflect"),
        row("Pad", (4, 7, 5), pad_width=[[0, 0], [3, 2], [0, 1], [0, 0]], mode="reflect"),
        row("Pad", (7, 5), pad_width=[[0, 0], [3, 2], [0, 1]], mode="reflect", _dtype="int32"),
        row("Pad", (7, 5), pad_width=[[0, 0], [1, 1], [0, 1]], mode="symmetric"),
        Row("Pad", {"pad_width": [[0, 0], [3, 2], [0, 1]], "mode": "symmetric"}, ((7, 5),), has_reference=False),
        row("Stack", (7, 5), (7, 5), axis=1),
        row("Stack", (7, 5), (7, 5), (7, 5), axis=-1),
        mixed("Stack", "int32 float32", (7, 5), (7, 5), axis=2),
        row("Split", (6, 5), indices_or_sections=3, axis=1),
        row("Split", (7, 5), indices_or_sections=[2, 4], axis=-1),
        row("ArraySplit", (7, 5), indices_or_sections=3, axis=1),
        row("Unstack", (3, 5), axis=1),
        row("Unstack", (7, 2), num=2, axis=-1),
        row("Tril", (7, 5)),
        row("Triu", (7, 5), k=-1),
        row("Diagonal", (4, 7, 5), axis1=1, axis2=2),
        row("Diagonal", (4, 7, 5), offset=-2, axis1=3, axis2=2),
        row("Trace", (4, 7, 5), offset=1, axis1=1, axis2=3),
        row("Trace", (4, 5), axis1=1, axis2=2, _dtype="int32"),
    ]


def _indexed() -> list[Row]:
    keys: list[list[Any]] = [
        [":", "1:", "::2"],
        [":", -1],
        ["...", 0],
        ["...", None],
        [":", None, "2:-1"],
        [":", "-3:", None, 1],
        [":", "...", "1:4:2"],
        [":"],
    ]
    # with a negative step, which Keras's torch backend can't take
    backwards: list[list[Any]] = [
        [":", "::-1"],
        [":", "5:1:-2"],
        ["...", "::-2"],
        [":", "-2::-1", "3:0:-1"],
        [":", ":2:-3", None, 1],
    ]
    return [
        *(row("GetItem", (7, 5), key=key) for key in keys),
        *(Row("GetItem", {"key": key}, ((7, 5),), has_reference=False) for key in backwards),
        row("Take", (7, 5), indices=2, axis=1),
        row("Take", (7, 5), indices=[0, -1, 2, 2], axis=-1),
        row("Take", (7, 5), indices=[[0, 1, 2], [3, 4, 5]], axis=1),
        row("Take", (7, 5), indices=[0, 1, 2, 3, 4, 5, 6, 5, 4], axis=1, _dtype="int32"),
        Row("Take", {"axis": 1, "batch_dims": 1}, ((7, 5), (4,)), dtypes=("float32", "int32"), has_reference=False),
        Row("Take", {"axis": 1, "batch_dims": 1}, ((7,), (4, 2)), dtypes=("float32", "int64"), has_reference=False),
        mixed("TakeAlongAxis", "float32 int32", (7, 5), (4, 5), axis=1),
        mixed("TakeAlongAxis", "float32 int64", (7, 5), (7, 1), axis=-1),
        row("OneHot", (7,), num_classes=5, _dtype="int32"),
        row("OneHot", (7, 2), num_classes=6, axis=1, dtype="int32", _dtype="int64"),
        # Keras's torch backend moves the axes wrongly
        Row("OneHot", {"num_classes": 6, "axis": -2}, ((7, 2),), "int64", has_reference=False),
        row("MultiHot", (7,), num_classes=5, _dtype="int32"),
        row("MultiHot", (7, 2), num_classes=6, dtype="int32", _dtype="int64"),
    ]


def _products() -> list[Row]:
    weights = [[0.5, 1.0], [2.0, -1.0], [0.0, 3.0], [1.5, 1.0], [-2.0, 0.5]]
    return [
        row("Matmul", (7, 5), (5, 6)),
        row("Matmul", (4, 7, 5), (1, 5, 6)),
        row("Matmul", (7, 5), x2=weights),
        row("Matmul", (5,), x2=weights),
        row("Matmul", (7, 5), x2=[1.0, 2.0, 3.0, 4.0, 5.0]),
        row("Matmul", (5, 7), x1=[[1.0, 2.0, 3.0, 4.0, 5.0]]),
        row("Matmul", (5, 7), x1=[1.0, 2.0, 3.0, 4.0, 5.0]),
        row("Matmul", (3, 7, 2), x2=[[[1.0, 2.0], [0.5, -1.0]]] * 3),
        row("Matmul", (7, 5), (5, 6), _dtype="int32"),
        mixed("Matmul", "int32 float32", (7, 5), (5, 6)),
        row("Tensordot", (7, 5), x2=weights, axes=1),
        row("Tensordot", (7, 5), x2=[weights] * 7),
        row("Tensordot", (7, 5), x2=weights, axes=[[2], [0]]),
        row("Tensordot", (5, 2), x2=weights, axes=[[2, 1], [1, 0]]),
        row("Tensordot", (7, 5), x2=weights, axes=0),
        row("Einsum", (7, 5), (6, 5), subscripts="abc,adc->abd"),
        row("Einsum", (7, 5), subscripts="abc->acb"),
        row("Einsum", (7, 5), subscripts="bij,jk->bik", operands=[None, weights]),
        row("Einsum", (7, 5), (5,), subscripts="bij,bj->bi"),
        row("Einsum", (4, 7, 5), (4, 5, 6), subscripts="...ij,...jk->...ik"),
        row("Einsum", (4, 7, 5), subscripts="...i,ij->...j", operands=[None, weights]),
        row("Einsum", (5, 5), subscripts="bii->b"),
        # Keras's torch backend takes the first axis of size 3, be it the batch
        Row("Cross", {}, ((7, 3),) * 2, has_reference=False),
        Row("Cross", {"axis": 1}, ((3, 5),) * 2, has_reference=False),
        row("CDist", (7, 5), (6, 5)),
        row("DotProductAttention", (7, 2, 5), (6, 2, 5), (6, 2, 4)),
        row("DotProductAttention", (7, 4, 5), (7, 2, 5), (7, 2, 5), is_causal=True),
        row("DotProductAttention", (7, 2, 5), (6, 2, 5), (6, 2, 5), (2, 7, 6), scale=0.3),
    ]


def _matrices() -> list[Row]:
    square = (4, 4)
    return [
        *(row(kind, square) for kind in ("Inv", "Det", "Slogdet")),
        row("Inv", (3, 4, 4)),
        # of positive numbers: positive definite
        *(spanned(kind, 0.5, 2.0, (1, 1), **fields) for kind, fields in (
            ("Cholesky", {}), ("Cholesky", {"upper": True}), ("Logdet", {}), ("Eigh", {}),
        )),
        row("Pinv", (4, 3)),
        row("Pinv", (3, 4), rcond=1e-5),
        row("Solve", square, (4, 3)),
        row("SolveTriangular", square, (4, 3), lower=True),
        row("SolveTriangular", square, (4, 3)),
        row("Qr", (4, 3)),
        Row("Qr", {"mode": "complete"}, ((4, 3),), has_gradient=False),
        Row("SVD", {}, ((4, 3),), has_gradient=False),
        row("SVD", (4, 3), full_matrices=False),
        row("SVD", (3, 4), compute_uv=False),
    ]  # fmt: skip


def _images() -> list[Row]:
    return [
        row("DepthToSpace", (3, 4, 12), block_size=2),
        Row("DepthToSpace", {"block_size": 2}, ((12, 3, 4),), data_format="channels_first"),
        row("SpaceToDepth", (4, 6, 3), block_size=2),
        Row("SpaceToDepth", {"block_size": 2}, ((3, 4, 6),), data_format="channels_first"),
        row("ExtractPatches", (6, 8, 3), size=2),
        row("ExtractPatches", (7, 9, 3), size=[3, 2], strides=[2, 3]),
        row("ExtractPatches", (7, 9, 3), size=3, strides=2, padding="same"),
        Row("ExtractPatches", {"size": [3, 2], "strides": 2}, ((3, 7, 9),), data_format="channels_first"),
    ]


def _spectra() -> list[Row]:
    return [
        row("RFFT", (7,)),
        row("RFFT", (3, 8), fft_length=6),
        row("IRFFT", (5,), (5,)),
        row("IRFFT", (3, 5), (3, 5), fft_length=7),
        row("FFT", (3, 5), (3, 5)),
        row("FFT2", (3, 5), (3, 5)),
        row("IFFT2", (2, 3, 5), (2, 3, 5)),
        row("STFT", (23,), sequence_length=6, sequence_stride=3, fft_length=8),
        row("STFT", (23,), sequence_length=8, sequence_stride=5, fft_length=8, window="hamming", center=False),
        row("STFT", (23,), sequence_length=5, sequence_stride=2, fft_length=9, window=None),
    ]


OPERATIONS = [
    *_functions(),
    *_pairs(),
    *_reductions(),
    *_along(),
    *_rearranged(),
    *_indexed(),
    *_products(),
    *_matrices(),
    *_images(),
    *_spectra(),
]
