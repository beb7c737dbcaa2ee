"""TensorFlow's functions, which Keras 2 records as layers (TFOpLambda), as Keras 3's operations.

`FUNCTIONS` says what a function is called in Keras 3, and its parameters in order; `tensorflow:keras` renames one. The
functions whose arguments differ in more than names are in `tensorflow_rules.py` and `tensorflow_images.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.values import UnportedError
from regspec.keras.operations.operation import Operation
from regspec.keras.operations.rules import operand_of
from regspec.keras.operations.tensorflow_images import SPECIAL
from regspec.keras.operations.tensorflow_rules import Result, ShapeOf, SizeOf, Sizes, TensorFlowCall

FUNCTIONS: dict[str, str] = {
    # of two operands
    **dict.fromkeys(("math.add", "__operators__.add"), "Add x:x1 y:x2"),
    "math.subtract": "Subtract x:x1 y:x2",
    "math.multiply": "Multiply x:x1 y:x2",
    **dict.fromkeys(("math.truediv", "math.divide", "divide", "realdiv"), "Divide x:x1 y:x2"),
    "math.divide_no_nan": "DivideNoNan x:x1 y:x2",
    **dict.fromkeys(("math.floordiv", "compat.v1.floor_div", "floor_div"), "FloorDivide x:x1 y:x2"),
    **dict.fromkeys(("math.floormod", "math.mod"), "Mod x:x1 y:x2"),
    "math.pow": "Power x:x1 y:x2",
    "math.maximum": "Maximum x:x1 y:x2",
    "math.minimum": "Minimum x:x1 y:x2",
    "math.atan2": "Arctan2 y:x1 x:x2",
    "math.equal": "Equal x:x1 y:x2",
    "math.not_equal": "NotEqual x:x1 y:x2",
    "math.greater": "Greater x:x1 y:x2",
    "math.greater_equal": "GreaterEqual x:x1 y:x2",
    "math.less": "Less x:x1 y:x2",
    "math.less_equal": "LessEqual x:x1 y:x2",
    "math.logical_and": "LogicalAnd x:x1 y:x2",
    "math.logical_or": "LogicalOr x:x1 y:x2",
    "math.logical_xor": "LogicalXor x:x1 y:x2",
    "bitwise.bitwise_and": "BitwiseAnd x:x1 y:x2",
    "bitwise.bitwise_or": "BitwiseOr x:x1 y:x2",
    "bitwise.bitwise_xor": "BitwiseXor x:x1 y:x2",
    **dict.fromkeys(("where", "where_v2", "compat.v1.where"), "Where condition x:x1 y:x2"),
    # of one number
    "math.abs": "Absolute x",
    "math.acos": "Arccos x",
    "math.acosh": "Arccosh x",
    "math.asin": "Arcsin x",
    "math.asinh": "Arcsinh x",
    "math.atan": "Arctan x",
    "math.atanh": "Arctanh x",
    "math.ceil": "Ceil x",
    "math.cos": "Cos x",
    "math.cosh": "Cosh x",
    "math.erf": "Erf x",
    "math.erfc": "Erfc x",
    "math.erfinv": "Erfinv x",
    "math.exp": "Exp x",
    "math.expm1": "Expm1 x",
    "math.floor": "Floor x",
    "math.is_finite": "Isfinite x",
    "math.is_inf": "Isinf x",
    "math.is_nan": "Isnan x",
    "math.log": "Log x",
    "math.bessel_i0": "I0 x",
    "math.log1p": "Log1p x",
    "math.logical_not": "LogicalNot x",
    "math.negative": "Negative x",
    "math.reciprocal": "Reciprocal x",
    "math.round": "Round x",
    "math.rsqrt": "Rsqrt x",
    "math.sign": "Sign x",
    "math.sin": "Sin x",
    "math.sinh": "Sinh x",
    "math.sqrt": "Sqrt x",
    "math.square": "Square x",
    "math.tan": "Tan x",
    "cast": "Cast x dtype",
    "clip_by_value": "Clip t:x clip_value_min:x_min clip_value_max:x_max",
    "identity": "ConvertToTensor input:x",
    "convert_to_tensor": "ConvertToTensor value:x dtype",
    "stop_gradient": "StopGradient input:x",
    **dict.fromkeys(("ones_like", "ones_like_v2", "compat.v1.ones_like"), "OnesLike input:x dtype"),
    **dict.fromkeys(("zeros_like", "zeros_like_v2", "compat.v1.zeros_like"), "ZerosLike input:x dtype"),
    # activation functions
    "math.sigmoid": "Sigmoid x",
    "math.softplus": "Softplus features:x",
    "math.tanh": "Tanh x",
    "math.log_sigmoid": "LogSigmoid x",
    "nn.elu": "Elu features:x",
    "nn.gelu": "Gelu features:x approximate",
    "nn.leaky_relu": "LeakyRelu features:x alpha:negative_slope",
    "nn.relu": "Relu features:x",
    "nn.relu6": "Relu6 features:x",
    "nn.selu": "Selu features:x",
    "nn.silu": "Silu features:x",
    "nn.softsign": "Softsign features:x",
    "nn.softmax": "Softmax logits:x axis",
    "nn.log_softmax": "LogSoftmax logits:x axis",
    # along axes
    "math.reduce_all": "All input_tensor:x axis keepdims",
    "math.reduce_any": "Any input_tensor:x axis keepdims",
    "math.reduce_euclidean_norm": "Norm input_tensor:x axis keepdims",
    "math.reduce_logsumexp": "Logsumexp input_tensor:x axis keepdims",
    "math.reduce_max": "Max input_tensor:x axis keepdims",
    "math.reduce_mean": "Mean input_tensor:x axis keepdims",
    "math.reduce_min": "Min input_tensor:x axis keepdims",
    "math.reduce_prod": "Prod input_tensor:x axis keepdims",
    "math.reduce_std": "Std input_tensor:x axis keepdims",
    "math.reduce_sum": "Sum input_tensor:x axis keepdims",
    "math.reduce_variance": "Var input_tensor:x axis keepdims",
    "math.top_k": "TopK input:x k sorted",
    # axes and parts
    "expand_dims": "ExpandDims input:x axis",
    **dict.fromkeys(("squeeze", "compat.v1.squeeze"), "Squeeze input:x axis squeeze_dims"),
    **dict.fromkeys(("transpose", "compat.v1.transpose"), "Transpose a:x perm:axes conjugate"),
    "one_hot": "OneHot indices:x depth:num_classes on_value off_value axis dtype",
    "reverse": "Flip tensor:x axis",
    "roll": "Roll input:x shift axis",
    "repeat": "Repeat input:x repeats axis",
    "tile": "Tile input:x multiples:repeats",
    "concat": "Concatenate values:xs axis",
    # products
    "tensordot": "Tensordot a:x1 b:x2 axes",
    "linalg.cross": "Cross a:x1 b:x2",
    "linalg.inv": "Inv input:x adjoint",
    "linalg.det": "Det input:x",
    "linalg.cholesky": "Cholesky input:x",
    # images
    "image.rgb_to_grayscale": "RGBToGrayscale images",
}
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "adjoint": (False,),
    "adjoint_a": (False,),
    "adjoint_b": (False,),
    "a_is_sparse": (False,),
    "b_is_sparse": (False,),
    "output_type": (None,),
    "conjugate": (False,),
    "grad_a": (False,),
    "grad_b": (False,),
    "keepdims": (None,),
    "num": (None,),
    "off_value": (None, 0, 0.0),
    "on_value": (None, 1, 1.0),
    "preserve_aspect_ratio": (False,),
    "squeeze_dims": (None,),
}
# Arguments that change nothing of what is computed here.
MEANINGLESS = frozenset(
    ("name", "dtype_hint", "out_type", "partition_strategy", "stable", "use_cudnn_on_gpu", "validate_indices")
)


def tf_operation_of(
    function: str,
    arguments: list[Any],
    keywords: Mapping[str, Any],
    dialect: Dialect,
) -> Result:
    """What becomes of a function of TensorFlow's on arguments, some of which are tensors of the file.

    A tensor is a tuple, a list may hold tensors, and a slice is Python's or a mapping of its parts. Functions of a
    tensor's shape give a `ShapeOf`, `SizeOf` or `Sizes`.

    Raises:
        UnportedError: for a function that has no counterpart.
    """
    name, parameters = function, dict[str, str]()
    if function in FUNCTIONS:
        name, *pairs = FUNCTIONS[function].split()
        parameters = dict((each.split(":") * 2)[:2] for each in pairs)
    elif function in SPECIAL:
        parameters = {each: each for each in SPECIAL[function][0]}
    else:
        raise UnportedError(f"no kind ports the function tf.{function}")
    if len(arguments) > len(parameters):
        raise UnportedError(f"tf.{function} on {len(arguments)} arguments")
    given = {**dict(zip(parameters, arguments, strict=False)), **keywords}
    said = {
        parameters.get(key, key): value
        for key, value in sorted(given.items(), key=lambda item: [*parameters, item[0]].index(item[0]))
        if key not in MEANINGLESS and not (key in NEUTRAL and value in NEUTRAL[key])
    }
    known = {*parameters.values()}
    if strange := [key for key, value in said.items() if key not in known and value is not None]:
        raise UnportedError(f"tf.{function} with {strange[0]} = {str(said[strange[0]])[:80]}")
    if function in SPECIAL:
        return SPECIAL[function][1](TensorFlowCall(function, said, dialect))
    if any(isinstance(each, (ShapeOf, SizeOf, Sizes)) for each in said.values()):
        raise UnportedError(f"tf.{function} of a tensor's shape")
    return operand_of(Operation(name, said, dialect))
