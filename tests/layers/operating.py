"""Keras's operations as the reference of the kinds of `regspec.layers.operations`: a row as a call of ``keras.ops``."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras.src.ops import core, image, linalg, math, nn
from keras.src.ops import numpy as numpy_ops

from regspec.layers import KINDS
from regspec.layers.kinds import OPERATIONS

MODULES = (core, math, linalg, nn, image, numpy_ops)
LISTED = ("Stack", "FFT", "FFT2", "IFFT2", "IRFFT")  # which take their tensors in one list


def is_operation(kind: str, fields: dict[str, Any]) -> bool:
    """Whether a row is an operation and no layer of Keras's; a sum with a number is one."""
    return kind in OPERATIONS or bool({"x1", "x2"} & fields.keys())


def operated(kind: str, fields: dict[str, Any], tensors: Sequence[Any], data_format: str) -> Any:
    """What Keras's operation of a kind with a spec's fields gives for tensors, symbolic or not."""
    if "data_format" in KINDS[kind].model_fields:
        fields = {"data_format": data_format, **fields}
    cls = next(getattr(module, kind) for module in MODULES if hasattr(module, kind))
    static = inspect.signature(cls.__init__).parameters
    operation = cls(**{name: _static(name, value) for name, value in fields.items() if name in static})
    if kind in LISTED:
        return operation(list(tensors))
    if kind == "Einsum":
        waiting = iter(tensors)
        given = fields.get("operands") or [None] * len(tensors)
        return operation(*(next(waiting) if each is None else _constant(each) for each in given))
    waiting = iter(tensors)
    arguments = {}
    for name in [*inspect.signature(cls.call).parameters][1:]:
        field = {"x": "x1", "y": "x2"}.get(name, name) if "y" in inspect.signature(cls.call).parameters else name
        if field in fields:
            arguments[name] = _key(fields[field]) if field == "key" else _constant(fields[field])
        elif (tensor := next(waiting, None)) is not None:
            arguments[name] = tensor
    return operation(**arguments)


def _static(name: str, value: Any) -> Any:
    if name == "ord" and isinstance(value, str) and "inf" in value:
        return float(value)
    return _tuple(value)


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


def _constant(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    array = np.array(value)
    return array.astype("float32") if array.dtype == "float64" else array


def _key(items: list[Any]) -> Any:
    return tuple(
        slice(*(int(part) if part else None for part in item.split(":")))
        if isinstance(item, str) and ":" in item
        else ...
        if item == "..."
        else item
        for item in items
    )


class Operated(keras.layers.Layer):
    """An operation as a layer, which may have a penalty on its output."""

    def __init__(self, kind: str, fields: dict[str, Any], data_format: str, **more: Any) -> None:
        super().__init__(**more)
        self.kind = kind
        self.fields = fields
        self.data_format = data_format

    def call(self, inputs: Any) -> Any:
        tensors = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        return operated(self.kind, self.fields, tensors, self.data_format)
