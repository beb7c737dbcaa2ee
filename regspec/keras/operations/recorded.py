"""Operations that Keras records as layers, such as ``x * 2`` or ``ops.mean(x, axis=1)``, as layers of a spec.

An operation has arguments by position, by name and in its config; a tensor may stand anywhere among them. They are
brought together under Keras's names. ``Add`` is the class of a layer and of an operation; the module tells which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.values import UnportedError
from regspec.keras.operations.operation import RENAMED, KerasTensor, Operand, Operation
from regspec.keras.operations.rules import RULES, operand_of
from regspec.layers.kinds import OPERATIONS

MODULE = "keras.src.ops"

# The arguments of each class that may be tensors, in order; x alone for those that are not listed.
PAIR = ("x1", "x2")
PAIRS = """
    Add Subtract Multiply Divide TrueDivide DivideNoNan FloorDivide Mod Fmod Power Maximum Minimum Fmax Fmin Arctan2
    Hypot Logaddexp Logaddexp2 Heaviside Ldexp Gcd Lcm Equal NotEqual Greater GreaterEqual Less LessEqual LogicalAnd
    LogicalOr LogicalXor BitwiseAnd BitwiseOr BitwiseXor BitwiseLeftShift BitwiseRightShift LeftShift RightShift
    Matmul Dot Tensordot Inner Outer Vdot Kron Cross Append IsIn
"""
VARIADIC = ("Einsum",)
PARAMETERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(PAIRS.split(), PAIR),
    "Isclose": (*PAIR, "rtol", "atol"),
    "CDist": ("x", "y"),
    "Where": ("condition", "x1", "x2"),
    "Select": ("condlist", "choicelist", "default"),
    "Take": ("x", "indices"),
    "TakeAlongAxis": ("x", "indices"),
    "GetItem": ("x", "key"),
    "Pad": ("x", "constant_values"),
    "Quantile": ("x", "q"),
    "Percentile": ("x", "q"),
    "Nanquantile": ("x", "q"),
    "Nanpercentile": ("x", "q"),
    "Average": ("x", "weights"),
    "FullLike": ("x", "fill_value"),
    "Digitize": ("x", "bins"),
    "SearchSorted": ("sorted_sequence", "values"),
    "LayerNorm": ("x", "gamma", "beta"),
    "RMSNorm": ("x", "scale"),
    "BatchNorm": ("x", "mean", "variance", "offset", "scale"),
    "DotProductAttention": ("query", "key", "value", "bias", "mask", "scale"),
    "Solve": ("a", "b"),
    "Trapezoid": ("y",),
    "SolveTriangular": ("a", "b"),
    **dict.fromkeys(("Concatenate", "Hstack", "Vstack", "Dstack"), ("xs",)),
    "StopGradient": ("variable",),
    **dict.fromkeys(("Conv", "DepthwiseConv", "ConvTranspose"), ("inputs", "kernel")),
    "SeparableConv": ("inputs", "depthwise_kernel", "pointwise_kernel"),
    **dict.fromkeys(("Resize", "RGBToGrayscale", "ExtractPatches", "PadImages", "CropImages"), ("images",)),
    **dict.fromkeys(("MaxPool", "AveragePool", "AdaptiveMaxPool", "AdaptiveAveragePool", "MultiHot"), ("inputs",)),
}
KEYWORDS = {"x": "x1", "y": "x2", "a": "x"}  # other names of arguments, where a class has none of these names


def is_known(name: str) -> bool:
    """Whether there is an operation of this name, ported or not."""
    return name in RULES or name in PARAMETERS or name in RENAMED or name in OPERATIONS


def is_operation(layer: Mapping[str, Any]) -> bool:
    """Whether a layer of a config is an operation: by its module; or by its name, without a word on training."""
    config = layer.get("config")
    if layer["class_name"] == "InputLayer" or not isinstance(config, dict) or "layers" in config:
        return False
    if str(layer.get("module") or "").startswith(MODULE):
        return True
    return "module" not in layer and "trainable" not in config and is_known(layer["class_name"])


def operation_of(
    layer: Mapping[str, Any],
    arguments: list[Any],
    keywords: Mapping[str, Any],
    dialect: Dialect,
    shapes: Mapping[KerasTensor, Any],
) -> Operand:
    """What becomes of an operation on arguments, some of which are tensors of the file.

    Raises:
        UnportedError: for an operation that has no counterpart.
    """
    name = layer["class_name"]
    names = PARAMETERS.get(name, ("x",))
    if len(arguments) > len(names):
        if not is_known(name):
            raise UnportedError(f"no kind ports the operation {name}")
        if name not in VARIADIC:
            raise UnportedError(f"{name} on {len(arguments)} arguments")
        names = (*names, *(f"operand {index}" for index in range(len(names), len(arguments))))
    given = dict(zip(names, arguments, strict=False))
    given |= {key if key in names else KEYWORDS.get(key, key): value for key, value in keywords.items()}
    config = {key: value for key, value in (layer.get("config") or {}).items() if key != "name"}
    # in the order of the class's own parameters, however they were given
    called = {key: given[key] for key in sorted(given, key=lambda key: names.index(key) if key in names else 99)}
    return operand_of(Operation(name, {**called, **config}, dialect, shapes))
