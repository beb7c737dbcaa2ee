"""TensorFlow's functions, which Keras 2 records as layers, as entries of a spec."""

from __future__ import annotations

import re
from typing import Any

import pytest

from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.values import UnportedError
from regspec.keras.operations.operation import Applied
from regspec.keras.operations.recorded import is_known
from regspec.keras.operations.tensorflow import FUNCTIONS, tf_operation_of
from regspec.keras.operations.tensorflow_images import SPECIAL
from regspec.keras.operations.tensorflow_rules import Parted, ShapeOf, SizeOf, Sizes

DIALECT = Dialect(generation=2)
X, Y = ("x", 0, 0), ("y", 0, 0)
BATCH_SIZE = SizeOf(X, 0)
FLIPPED = Applied("Flip", {"axis": 1}, (X,))
FROM_END = Applied("Flip", {"axis": 1}, (Applied("Cumsum", {"axis": 1}, (FLIPPED,)),))
# What a function becomes; checked against TensorFlow 2.21 when it was written.
BECOMES: list[tuple[str, list[Any], dict[str, Any], Any]] = [
    ("__operators__.add", [X], {"y": Y, "name": None}, Applied("Add", {}, (X, Y))),
    ("math.subtract", [1.0], {"y": X, "name": None}, Applied("Subtract", {"x1": 1.0}, (X,))),
    ("math.multiply", [X], {"y": 2.0}, Applied("Multiply", {"x2": 2.0}, (X,))),
    ("math.truediv", [X], {"y": Y}, Applied("Divide", {}, (X, Y))),
    ("math.atan2", [X], {"x": Y, "name": None}, Applied("Arctan2", {}, (X, Y))),
    ("where", [X], {"x": Y, "y": 0.0}, Applied("Where", {"x2": 0.0}, (X, Y))),
    ("nn.relu", [X], {}, Applied("Activation", {"activation": "relu"}, (X,))),
    (
        "nn.leaky_relu",
        [X],
        {"alpha": 0.1},
        Applied("Activation", {"activation": {"leaky_relu": {"negative_slope": 0.1}}}, (X,)),
    ),
    (
        "math.reduce_mean",
        [X],
        {"axis": [1, 2], "keepdims": True},
        Applied("Mean", {"axis": [1, 2], "keepdims": True}, (X,)),
    ),
    ("concat", [[X, Y]], {"axis": -1}, Applied("Concatenate", {"axis": -1}, (X, Y))),
    ("compat.v1.transpose", [X], {"perm": [0, 2, 1], "conjugate": False}, Applied("Permute", {"dims": [2, 1]}, (X,))),
    (
        "split",
        [X],
        {"num_or_size_splits": [2, 3], "axis": 2},
        Applied("Split", {"indices_or_sections": [2], "axis": 2}, (X,)),
    ),
    (
        "math.cumsum",
        [X],
        {"axis": 1, "exclusive": True, "reverse": True},  # the sum of what follows
        Applied("Subtract", {}, (FROM_END, X)),
    ),
    ("math.l2_normalize", [X], {"axis": -1}, Applied("Normalize", {"epsilon": 1e-6}, (X,))),
    (
        "linalg.matmul",
        [X],
        {"b": Y, "transpose_b": True},
        Applied("Matmul", {}, (X, Applied("Swapaxes", {"axis1": -2, "axis2": -1}, (Y,)))),
    ),
    (
        "linalg.matmul",
        [X],
        {"b": Y, "adjoint_b": True, "adjoint_a": False, "a_is_sparse": False},
        Applied("Matmul", {}, (X, Applied("Swapaxes", {"axis1": -2, "axis2": -1}, (Y,)))),
    ),
    (
        "linalg.matvec",
        [X],
        {"b": Y, "transpose_a": True},
        Applied(
            "Squeeze",
            {"axis": -1},
            (
                Applied(
                    "Matmul",
                    {},
                    (
                        Applied("Swapaxes", {"axis1": -2, "axis2": -1}, (X,)),
                        Applied("ExpandDims", {"axis": -1}, (Y,)),
                    ),
                ),
            ),
        ),
    ),
    ("linalg.diag_part", [X], {"k": 1}, Applied("Diagonal", {"offset": 1, "axis1": -2, "axis2": -1}, (X,))),
    (
        "compat.v1.nn.conv1d",
        [X],
        {"filters": [[[1.0]]], "stride": 2, "padding": "SAME", "use_cudnn_on_gpu": True, "dilations": None},
        Applied(
            "Conv1D",
            {
                "filters": 1,
                "kernel_size": 1,
                "strides": 2,
                "padding": "same",
                "use_bias": False,
                "trainable": False,
            },
            (X,),
            {"kernel": [[[1.0]]]},
        ),
    ),
    ("linalg.matmul", [X], {"b": [[1.0, 2.0]], "transpose_b": True}, Applied("Matmul", {"x2": [[1.0], [2.0]]}, (X,))),
    (
        "__operators__.getitem",
        [X],
        {"slice_spec": [{"start": None, "stop": None, "step": None}, {"class_name": "__ellipsis__"}, None, -1]},
        Applied("GetItem", {"key": [":", "...", None, -1]}, (X,)),
    ),
    ("compat.v1.shape", [X], {"out_type": "int32"}, ShapeOf(X)),
    ("__operators__.getitem", [ShapeOf(X)], {"slice_spec": 0}, BATCH_SIZE),
    ("unstack", [ShapeOf(X)], {"axis": 0}, Parted(X)),
    ("strided_slice", [ShapeOf(X)], {"begin": [1], "end": [2], "shrink_axis_mask": 1}, SizeOf(X, 1)),
    ("stack", [[BATCH_SIZE, 35]], {}, Sizes((BATCH_SIZE, 35))),
    ("reshape", [X], {"shape": [BATCH_SIZE, 35]}, Applied("Reshape", {"target_shape": [35]}, (X,))),
    ("reshape", [X], {"shape": Sizes((BATCH_SIZE, 35))}, Applied("Reshape", {"target_shape": [35]}, (X,))),
    ("reshape", [X], {"shape": [BATCH_SIZE, SizeOf(X, 1), 5]}, Applied("Reshape", {"target_shape": [-1, 5]}, (X,))),
    ("reshape", [X], {"shape": [BATCH_SIZE, -1]}, Applied("Reshape", {"target_shape": [-1]}, (X,))),
    ("reshape", [X], {"shape": [-1, 7, 5]}, Applied("Reshape", {"target_shape": [7, 5]}, (X,))),
    (
        "compat.v1.gather",
        [X],
        {"indices": Y, "axis": 1, "batch_dims": 1, "validate_indices": None},
        Applied("Take", {"axis": 1, "batch_dims": 1}, (X, Y)),
    ),
    ("math.argmax", [X], {"axis": -1}, Applied("Argmax", {"axis": -1, "dtype": "int64"}, (X,))),
    ("identity", [X], {}, X),
    (
        "nn.max_pool2d",
        [X],
        {"ksize": 2, "strides": 2, "padding": "SAME"},
        Applied("MaxPooling2D", {"strides": [2, 2], "padding": "same"}, (X,)),
    ),
]


@pytest.mark.parametrize(
    ("function", "arguments", "keywords", "wanted"),
    BECOMES,
    ids=[f"{case[0]} {index}" for index, case in enumerate(BECOMES)],
)
def test_functions_of_tensorflow(function: str, arguments: list[Any], keywords: dict[str, Any], wanted: Any) -> None:
    assert tf_operation_of(function, arguments, keywords, DIALECT) == wanted


@pytest.mark.parametrize(
    ("function", "arguments", "keywords", "message"),
    [
        ("math.reduce_mean", [X], {}, "no axis"),
        ("concat", [[X, Y]], {"axis": 0}, "axis 0"),
        ("math.multiply", [X], {"y": SizeOf(X, 1)}, "of a tensor's shape"),
        ("strided_slice", [ShapeOf(X)], {"begin": [1], "end": [3]}, "of a part of a tensor's shape"),
        ("split", [ShapeOf(X)], {"num_or_size_splits": 2}, "ShapeOf"),
        ("reshape", [X], {"shape": [SizeOf(X, 1), -1]}, "does not begin with the batch"),
        ("reshape", [X], {"shape": [-1, SizeOf(X, 2)]}, "-1 for what may be more than the batch"),
        ("reshape", [X], {"shape": Sizes((-1, SizeOf(X, 1), 5))}, "-1 for what may be more than the batch"),
        ("reshape", [X], {"shape": [BATCH_SIZE, SizeOf(X, 1), -1]}, "more than one size to infer"),
        ("reshape", [X], {"shape": [BATCH_SIZE, SizeOf(X, 1), SizeOf(Y, 2)]}, "more than one size to infer"),
        ("einsum", ["bij,bjk->bik"], {}, "did not save"),
        ("__operators__.eq", [X], {}, "did not save"),
        ("nn.dropout", [X], {"rate": 0.5}, "in evaluation too"),
        ("image.resize", [X], {"size": [4, 4], "method": "area"}, "by the method area"),
        ("os.system", ["ls"], {}, "no kind ports the function tf.os.system"),
        ("nn.relu", [X, 1, 2], {}, "on 3 arguments"),
        ("nn.relu", [X], {"alpha": 3}, "alpha"),
        ("image.resize", [X], {"size": [4, 4], "preserve_aspect_ratio": True}, "with preserve_aspect_ratio"),
        ("linalg.diag_part", [X], {"k": [0, 1]}, r"with k = \[0, 1\]"),
        ("linalg.matmul", [X], {"b": Y, "a_is_sparse": True}, "a_is_sparse = True"),
        (
            "compat.v1.nn.embedding_lookup",
            [[[1.0]]],
            {"ids": X, "partition_strategy": "div", "max_norm": 1.0},
            "max_norm",
        ),
    ],
)
def test_functions_that_are_refused(
    function: str, arguments: list[Any], keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnportedError, match=message):
        tf_operation_of(function, arguments, keywords, DIALECT)


@pytest.mark.parametrize("function", [*FUNCTIONS, *SPECIAL])
def test_an_argument_that_a_function_does_not_know_is_refused(function: str) -> None:
    with pytest.raises(UnportedError, match=f"^tf.{re.escape(function)} with nonsense = 1$"):
        tf_operation_of(function, [], {"nonsense": 1}, DIALECT)


def test_the_functions_of_tensorflow_become_what_there_is() -> None:
    """Every function of the tables is an operation of Keras 3 that is known here."""
    for function, text in FUNCTIONS.items():
        assert is_known(text.split()[0]), function
    assert not FUNCTIONS.keys() & SPECIAL.keys()
