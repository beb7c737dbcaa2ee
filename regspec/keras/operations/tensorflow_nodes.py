"""Nodes of TensorFlow's graphs, which its Keras recorded as layers up to TensorFlow 2.3, as calls of functions.

A node has its inputs in order, of which constants are in the layer's config, and attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regspec.keras.configs.values import Item

NODE_CLASS = "TensorFlowOpLayer"
# The function of an operation, and the function's arguments by the operation's attributes.
FUNCTIONS: dict[str, tuple[str, dict[str, str]]] = {
    **{
        operation: (f"math.{function}", {})
        for operation, function in (
            *(("Abs", "abs"), ("Add", "add"), ("AddV2", "add"), ("Cos", "cos"), ("Div", "truediv"), ("Equal", "equal")),
            *(("Erf", "erf"), ("Exp", "exp"), ("FloorDiv", "floordiv"), ("FloorMod", "floormod"), ("Log", "log")),
            *(("Greater", "greater"), ("GreaterEqual", "greater_equal"), ("Less", "less"), ("Log1p", "log1p")),
            *(("LessEqual", "less_equal"), ("LogicalAnd", "logical_and"), ("LogicalOr", "logical_or")),
            *(("LogicalNot", "logical_not"), ("Maximum", "maximum"), ("Minimum", "minimum"), ("Mul", "multiply")),
            *(("Neg", "negative"), ("NotEqual", "not_equal"), ("Pow", "pow"), ("RealDiv", "truediv")),
            *(("Reciprocal", "reciprocal"), ("Round", "round"), ("Rsqrt", "rsqrt"), ("Sigmoid", "sigmoid")),
            *(("Sign", "sign"), ("Sin", "sin"), ("Softplus", "softplus"), ("Sqrt", "sqrt"), ("Square", "square")),
            *(("SquaredDifference", "squared_difference"), ("Sub", "subtract"), ("Tanh", "tanh")),
        )
    },
    **{
        operation: (f"math.reduce_{operation.lower()}", {"keep_dims": "keepdims"})
        for operation in ("All", "Any", "Max", "Mean", "Min", "Prod", "Sum")
    },
    "BatchMatMul": ("linalg.matmul", {"adj_x": "transpose_a", "adj_y": "transpose_b"}),
    "BatchMatMulV2": ("linalg.matmul", {"adj_x": "transpose_a", "adj_y": "transpose_b"}),
    "BiasAdd": ("nn.bias_add", {}),
    "Cast": ("cast", {"DstT": "dtype"}),
    "ConcatV2": ("concat", {}),
    "Elu": ("nn.elu", {}),
    "ExpandDims": ("expand_dims", {}),
    "GatherV2": ("gather", {}),
    "Identity": ("identity", {}),
    "LeakyRelu": ("nn.leaky_relu", {"alpha": "alpha"}),
    "LogSoftmax": ("nn.log_softmax", {}),
    "MatMul": ("linalg.matmul", {"transpose_a": "transpose_a", "transpose_b": "transpose_b"}),
    "Pack": ("stack", {"axis": "axis"}),
    "Pad": ("pad", {}),
    "Relu": ("nn.relu", {}),
    "Relu6": ("nn.relu6", {}),
    "Reshape": ("reshape", {}),
    "Select": ("where", {}),
    "SelectV2": ("where", {}),
    "Selu": ("nn.selu", {}),
    "Shape": ("shape", {}),
    "Softmax": ("nn.softmax", {}),
    "Softsign": ("nn.softsign", {}),
    "Squeeze": ("squeeze", {"squeeze_dims": "axis"}),
    "StridedSlice": (
        "strided_slice",
        {f"{each}_mask": f"{each}_mask" for each in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")},
    ),
    "Tile": ("tile", {}),
    "Transpose": ("transpose", {}),
    "Unpack": ("unstack", {"axis": "axis"}),
}
# Operations whose inputs are one argument, a list, except this many at the end.
LISTED = {"ConcatV2": 1, "Pack": 0}
INDEXED = frozenset({"GatherV2"})  # whose axis is the third input, which the function has by name
TYPES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_INT32": "int32", "DT_INT64": "int64", "DT_BOOL": "bool"}


def as_function_call(layer: Item) -> Item:
    """A node as the call of a function, as Keras 2 records one later; the node itself where no function is known."""
    config = layer["config"]
    node = config.get("node_def")
    operation = node.get("op") if isinstance(node, dict) else None
    if operation not in FUNCTIONS or not isinstance(node, dict):
        return layer
    function, names = FUNCTIONS[operation]
    said = node.get("attr") or {}
    keywords = {name: attribute_value(said[attribute]) for attribute, name in names.items() if attribute in said}
    nodes = [_call(each, operation, config.get("constants") or {}, keywords) for each in layer["inbound_nodes"]]
    own = {key: config[key] for key in ("name", "trainable") if key in config}
    return {**layer, "class_name": "TFOpLambda", "config": {**own, "function": function}, "inbound_nodes": nodes}


def _call(node: Item, operation: str, constants: Mapping[str, Any], keywords: Item) -> Item:
    """A call in Keras 3's form, with the constants in their places among the tensors."""
    (tensors,) = node["args"]
    waiting = [*tensors] if isinstance(tensors, list) else [tensors]
    count = len(waiting) + len(constants)
    arguments = [constants[str(place)] if str(place) in constants else waiting.pop(0) for place in range(count)]
    if operation in LISTED:
        last = count - LISTED[operation]
        arguments = [arguments[:last], *arguments[last:]]
    if operation in INDEXED:
        keywords = {**keywords, "axis": arguments.pop()}
    return {"args": arguments, "kwargs": keywords}


def attribute_value(attribute: Any) -> Any:
    """The value of an attribute, as a node's text has it."""
    if not isinstance(attribute, dict) or len(attribute) != 1:
        return None
    ((sort, said),) = attribute.items()
    if sort == "list" and isinstance(said, dict):
        return [int(each) for each in said.get("i") or []]
    if sort == "type":
        return TYPES.get(said, said)
    return int(said) if sort == "i" else said
