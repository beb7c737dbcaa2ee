"""Operations that Keras records as layers, such as ``x * 2``, as layers of a spec.

``Add`` is the class of a layer and of an operation; the module tells which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regspec.keras.values import UnportedError

MERGING = {
    "Add": "Add",
    "Subtract": "Subtract",
    "Multiply": "Multiply",
    "Maximum": "Maximum",
    "Minimum": "Minimum",
}
ALONG_AXIS = {"Softmax": -1, "Concatenate": 0}  # by the axis where none is said
ACTIVATIONS = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Silu": "silu",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Exp": "exponential",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "Selu": "selu",
    "LogSigmoid": "log_sigmoid",
}


def is_operation(layer: Mapping[str, Any]) -> bool:
    """Whether an entry of a config is an operation and no layer: by its module, or as only layers can be trained."""
    config = layer.get("config")
    if layer["class_name"] == "InputLayer" or not isinstance(config, dict) or "layers" in config:
        return False
    return str(layer.get("module") or "").startswith("keras.src.ops") or (
        "module" not in layer and config.keys() <= {"name", "axis", "axes"}
    )


def operation_of(layer: Mapping[str, Any], arguments: list[Any]) -> dict[str, dict[str, Any]] | None:
    """``{kind: fields}`` for an operation on arguments, of which None stands for a tensor; None for a layer.

    Raises:
        UnportedError: for an operation that has no counterpart.
    """
    if not is_operation(layer):
        return None
    name = layer["class_name"]
    config = {key: value for key, value in (layer.get("config") or {}).items() if key not in ("name", "dtype")}
    numbers = [each for each in arguments if isinstance(each, (int, float)) and not isinstance(each, bool)]
    if len(arguments) == 2 and len(numbers) == 1:
        return _scaled(name, arguments)
    if name in MERGING and arguments == [None, None]:
        return {MERGING[name]: {}}
    if name in ACTIVATIONS and arguments == [None]:
        return {"Activation": {"activation": ACTIVATIONS[name]}}
    if name == "Negative":
        return {"Rescaling": {"scale": -1.0}}
    if name in ALONG_AXIS:
        return {name: {"axis": config.get("axis", ALONG_AXIS[name])}}
    if name == "Transpose" and (config.get("axes") or [1])[0] == 0:
        return {"Permute": {"dims": config["axes"][1:]}}
    raise UnportedError(f"no kind ports the operation {name}")


def _scaled(name: str, arguments: list[Any]) -> dict[str, dict[str, Any]]:
    """A tensor and a number."""
    is_first = arguments[0] is None
    number = float(arguments[1] if is_first else arguments[0])
    match name, is_first:
        case "Add", _:
            return {"Rescaling": {"scale": 1.0, "offset": number}}
        case "Multiply", _:
            return {"Rescaling": {"scale": number}}
        case "Subtract", True:
            return {"Rescaling": {"scale": 1.0, "offset": -number}}
        case "Subtract", False:
            return {"Rescaling": {"scale": -1.0, "offset": number}}
        case (("TrueDivide" | "Divide"), True) if number:
            return {"Rescaling": {"scale": 1.0 / number}}
    raise UnportedError(f"no kind ports the operation {name} with a number")
